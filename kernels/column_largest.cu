/* column_largest.cu -- the largest magnitude of each feature: what the grid of the exact sums is made from.
 *
 *   largest[f] = max_i |x_if * w_i|                  one rounded product, as in exact/sums.py: weighted_rows
 *
 * Magnitudes are compared as the bits that hold them: infinity is larger than every number and NaN larger than infinity,
 * so neither can hide.
 *
 * X (n,d) ROW IN | weights (n) f64 IN or null (w_i = 1) | largest (d) f64 INOUT, 0 before          all C-contiguous
 * Several problems (blockIdx.z): arrays hold one after another.
 * A block owns `rows_per_block` rows and blockDim.x columns; blockDim.y groups of threads take turns at its rows.
 * Launch grid (ceil(n/rows_per_block), ceil(d/blockDim.x), problems), block (F, THREADS/F).
 * Traffic: one read of X, 8n bytes of weights per column of blocks, one atomic per block and feature.
 * Accuracy: exact.
 * Tests: python -m pytest tests/kernels/test_row_facts.py
 */
#include "common.cuh"

#define THREADS 128

extern "C" __global__ void __launch_bounds__(THREADS)
column_largest(const ROW* __restrict__ X, const double* __restrict__ weights, long long n, int d, int rows_per_block,
               double* __restrict__ largest) {
  const long long problem = problem_index();
  X += problem * n * d;
  if (weights) weights += problem * n;
  largest += problem * d;
  __shared__ double most_of[THREADS];
  const int F = int(blockDim.x), groups = int(blockDim.y), group = int(threadIdx.y);
  const int tid = group * F + int(threadIdx.x);
  const int f = int(blockIdx.y) * F + int(threadIdx.x);
  const long long start = (long long)blockIdx.x * rows_per_block;
  const long long stop = min(n, start + rows_per_block);
  double most = 0.0;
  if (f < d) {
#pragma unroll 4
    for (long long i = start + group; i < stop; i += groups) {
      const double value = widen(X[i * d + f]);
      most = larger_magnitude(most, weights ? __dmul_rn(value, weights[i]) : value);
    }
  }
  most_of[tid] = most;
  __syncthreads();  // every group has its own
  if (group > 0 || f >= d) return;
  for (int g = 1; g < groups; ++g) most = larger_magnitude(most, most_of[g * F + tid]);
  atomic_max(largest + f, most);
}
