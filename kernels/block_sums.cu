/* block_sums.cu -- sums of terms, block of rows by block of rows.
 *
 *   sums[t, b] = sum of weights[i] * terms[t, i] over the rows i of block b, BLOCK_ROWS of them (fewer at the end)
 *
 * terms (n_terms,n) f64 IN | weights (n) f64 IN or null (1) | sums (n_terms,n_blocks) f64 OUT      all C-contiguous
 * A block owns one (t, b): each thread adds every THREADS-th row, then threads are added in halves: a fixed order.
 * Launch grid (n_blocks, n_terms), block 256, shared 2 KiB (static).   Traffic: 8 n n_terms read (and the weights).
 * Accuracy: gamma(BLOCK_ROWS) relative, in any order: a rounded product and fewer than BLOCK_ROWS additions of
 * non-negative numbers.
 */
#include "common.cuh"

#define THREADS 256
static_assert(BLOCK_ROWS % THREADS == 0, "a block of rows must be the same work for every thread");

extern "C" __global__ void __launch_bounds__(THREADS)
block_sums(const double* __restrict__ terms, const double* __restrict__ weights, long long n, int n_blocks,
           double* __restrict__ sums) {
  __shared__ double part[THREADS];
  const int tid = int(threadIdx.x);
  const long long start = (long long)blockIdx.x * BLOCK_ROWS, stop = min(n, start + BLOCK_ROWS);
  const double* __restrict__ own = terms + (long long)blockIdx.y * n;
  double sum = 0.0;
  for (long long i = start + tid; i < stop; i += THREADS) sum += weights ? __dmul_rn(own[i], weights[i]) : own[i];
  part[tid] = sum;
#pragma unroll
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (tid < half) part[tid] += part[tid + half];
  }
  if (tid == 0) sums[(long long)blockIdx.y * n_blocks + blockIdx.x] = part[0];
}
