/* column_facts.cu -- what is computed of each feature once: its largest magnitude and, about the first row, its sums.
 *
 *   largest[f] = max_i |x_if * w_i|                  one rounded product, as in exact/sums.py: weighted_rows
 *   sums[f]    = sum_i (x_if - x_0f),   squares[f] = sum_i (x_if - x_0f)^2          (certificates/scatter.py)
 *
 * Magnitudes are compared as the bits that hold them: infinity is larger than every number and NaN larger than infinity,
 * so neither can hide.  The largest make the grid of the exact sums, the sums bound how far rows scatter.
 *
 * X (n,d) ROW IN | weights (n) f64 IN or null (w_i = 1) | columns (3,d) f64 INOUT, 0 before: largest, sums, squares
 *                                                                                 all C-contiguous
 * Several problems (blockIdx.z): arrays hold one after another.
 * A block owns `rows_per_block` rows and blockDim.x columns; blockDim.y groups of threads take turns at its rows.
 * Launch grid (ceil(n/rows_per_block), ceil(d/blockDim.x), problems), block (F, THREADS/F), shared 3 KiB (static).
 * Traffic: one read of X, 8n bytes of weights per column of blocks, three atomics per block and feature.
 * Accuracy: largest exact; sums and squares within gamma(n + 3), in an order that differs from launch to launch.
 * Tests: python -m pytest tests/kernels/test_row_facts.py
 */
#include "common.cuh"

#define THREADS 128

extern "C" __global__ void __launch_bounds__(THREADS)
column_facts(const ROW* __restrict__ X, const double* __restrict__ weights, long long n, int d, int rows_per_block,
             double* __restrict__ columns) {
  const long long problem = problem_index();
  X += problem * n * d;
  if (weights) weights += problem * n;
  columns += problem * 3 * d;
  __shared__ double most_of[THREADS], sum_of[THREADS], square_of[THREADS];
  const int F = int(blockDim.x), groups = int(blockDim.y), group = int(threadIdx.y);
  const int tid = group * F + int(threadIdx.x);
  const int f = int(blockIdx.y) * F + int(threadIdx.x);
  const long long start = (long long)blockIdx.x * rows_per_block;
  const long long stop = min(n, start + rows_per_block);
  double most = 0.0, sum = 0.0, square = 0.0;
  if (f < d) {
    const double first = widen(X[f]);
#pragma unroll 4
    for (long long i = start + group; i < stop; i += groups) {
      const double value = widen(X[i * d + f]), away = __dsub_rn(value, first);
      most = larger_magnitude(most, weights ? __dmul_rn(value, weights[i]) : value);
      sum = __dadd_rn(sum, away);
      square = __fma_rn(away, away, square);
    }
  }
  most_of[tid] = most;
  sum_of[tid] = sum;
  square_of[tid] = square;
  __syncthreads();  // every group has its own
  if (group > 0 || f >= d) return;
  for (int g = 1; g < groups; ++g) {
    most = larger_magnitude(most, most_of[g * F + tid]);
    sum = __dadd_rn(sum, sum_of[g * F + tid]);
    square = __dadd_rn(square, square_of[g * F + tid]);
  }
  atomic_max(columns + f, most);
  atomicAdd(columns + d + f, sum);
  atomicAdd(columns + 2 * (long long)d + f, square);
}
