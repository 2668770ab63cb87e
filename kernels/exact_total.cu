/* exact_total.cu -- the sum of non-negative numbers that no order changes.
 *
 *   total[l] += sum_i limb_l(terms[i])               limbs as in exact_sums.Grid.limbs, of one column
 *
 * terms (n) f64 IN | total (2) i64 INOUT, 0 before.   scale and limb_size = 2^bits are those of Grid.for_largest(max, n).
 * Grid-stride; a warp adds its lanes' sums before one atomic per limb.
 * Launch grid any, block 256.   Traffic: 8n read.   Accuracy: exact on the grid, hence exact_sums.exact_total's bits.
 */
#include "common.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
exact_total(const double* __restrict__ terms, long long n, double scale, double limb_size, long long* __restrict__ total) {
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
