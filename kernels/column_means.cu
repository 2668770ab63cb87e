/* column_means.cu -- where a sample of the rows lies: the mean of every column, and how far values stray from it.
 *
 *   means[f]   = mean of x_if over the n_sample rows i = floor(s n / n_sample), s = 0 .. n_sample - 1
 *   spread     = max over f of the largest |x_if - means[f]| among them
 *
 * X (n,d) ROW IN | means (d) f64 OUT | spread (1) f64 INOUT, 0 before             all C-contiguous
 * Several problems (blockIdx.z): arrays hold one after another.
 * A block owns 32 columns; 32 groups of threads take turns at the rows and are added in a fixed order.
 * Launch grid (ceil(d/32), 1, problems), block (32, 32), shared 8.25 KiB (static).
 * Traffic: the sampled rows twice (mostly from cache).
 * Accuracy: some rounding; screens measure what they make of these numbers (row_facts.cu).
 * Tests: python -m pytest tests/kernels/test_row_halves.py
 */
#include "common.cuh"

#define COLUMNS 32
#define GROUPS 32

extern "C" __global__ void __launch_bounds__(COLUMNS * GROUPS)
column_means(const ROW* __restrict__ X, long long n, int d, int n_sample, double* __restrict__ means,
             double* __restrict__ spread) {
  const long long problem = problem_index();
  X += problem * n * d;
  means += problem * d;
  spread += problem;
  __shared__ double part[GROUPS][COLUMNS + 1];
  const int column = int(threadIdx.x), group = int(threadIdx.y), f = int(blockIdx.x) * COLUMNS + column;
  const int own = min(f, d - 1);
  double sum = 0.0;
  for (int s = group; s < n_sample; s += GROUPS) sum += widen(X[s * n / n_sample * d + own]);
  part[group][column] = sum;
  __syncthreads();  // all parts are there
  sum = 0.0;
  for (int g = 0; g < GROUPS; ++g) sum += part[g][column];
  const double mean = __ddiv_rn(sum, double(n_sample));
  if (group == 0 && f < d) means[f] = mean;
  double most = 0.0;
  for (int s = group; s < n_sample; s += GROUPS) most = fmax(most, fabs(__dsub_rn(widen(X[s * n / n_sample * d + own]), mean)));
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) most = fmax(most, __shfl_xor_sync(EVERY_LANE, most, half));
  if (column == 0) atomic_max(spread, most);
}
