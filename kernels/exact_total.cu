/* exact_total.cu -- the sum of non-negative numbers that no order changes.
 *
 *   total[l] += sum_i limb_l(terms[i])               limbs as in exact/sums.py: Grid.limbs, of one column
 *
 * terms (n) f64 IN | largest (1) f64 IN, of the terms | total (2) i64 INOUT, 0 before; on Grid.for_largest(largest, n)
 * Several runs (blockIdx.y) of several problems (blockIdx.z): arrays hold one run after another.
 * Grid-stride; a warp adds its lanes' sums before one atomic per limb.
 * Launch grid (any, runs, problems), block 256.   Traffic: 8n read.
 * Accuracy: exact on the grid, hence exact/sums.py: exact_total's bits.
 * Tests: python -m pytest tests/kernels/test_sums.py
 */
#include "common.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
exact_total(const double* __restrict__ terms, const double* __restrict__ largest, long long n, int bits,
            long long* __restrict__ total) {
  const long long run = run_index();
  terms += run * n;
  total += run * 2;
  const double scale = scale_for(largest[run], bits), limb_size = ldexp(1.0, bits);
  long long sum0 = 0, sum1 = 0;
  for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * THREADS) {
    const double scaled = __dmul_rn(terms[i], scale);
    sum0 += first_limb(scaled);
    sum1 += second_limb(scaled, limb_size);
  }
  __syncwarp();
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) {
    sum0 += __shfl_xor_sync(EVERY_LANE, sum0, half);
    sum1 += __shfl_xor_sync(EVERY_LANE, sum1, half);
  }
  if (lane_index() == 0) {
    atomic_add(total, sum0);
    atomic_add(total + 1, sum1);
  }
}
