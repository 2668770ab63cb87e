/* finish.cu -- the centers from the exact sums, and how far they moved.
 *
 *   weights[j]      = value of the weight limbs                             (exact_sums.Grid.value)
 *   C[j, f]         = value of the sum limbs / weights[j], rounded to CENTER (exact_sums.cluster_means; NaN where 0 / 0)
 *   shift_square[j] = sum_f (C[j, f] - previous[j, f])^2 in float64, warp order   (exact_sums.center_shift_square)
 *
 * sums (n_limbs,k,d) i64 IN | weight_sums (n_weight_limbs,k) i64 IN | scale (d) f64 IN | previous (k,d) CENTER IN |
 * C (k,d) CENTER OUT | weights (k) f64 OUT | shift_square (k) f64 OUT             all C-contiguous
 * A warp owns a center, its lanes the columns.  limb_unit = 2^-bits of the grid, weight_unit that of the weights.
 * Launch grid ceil(k/4), block 128.   Traffic: 8 k d n_limbs read, k d centers read and written.
 * Accuracy: the same operations as NumPy's, one by one, for the same bits; the one fused multiply-add is an
 * error-free product's error, which NumPy finds by splitting.
 */
#include "common.cuh"

#define THREADS 128

extern "C" __global__ void __launch_bounds__(THREADS)
finish(const long long* __restrict__ sums, const long long* __restrict__ weight_sums, const double* __restrict__ scale,
       int n_limbs, double limb_unit, int n_weight_limbs, double weight_scale, double weight_unit, int k, int d,
       const CENTER* __restrict__ previous, CENTER* __restrict__ C, double* __restrict__ weights,
       double* __restrict__ shift_square) {
  const int lane = lane_index();
  const int j = int(blockIdx.x) * (THREADS / WARP) + int(threadIdx.x) / WARP;
  if (j >= k) return;
  const bool two_weights = n_weight_limbs == 2, two = n_limbs == 2;
  const double weight = __dmul_rn(
      scaled_value(weight_sums[j], two_weights ? weight_sums[k + j] : 0, two_weights, weight_unit),
      __ddiv_rn(1.0, weight_scale));
  const long long plane = (long long)k * d;
  double shift = 0.0;
  for (int f = lane; f < d; f += WARP) {
    const long long at = (long long)j * d + f;
    const double high = double(sums[at]), low = low_part(sums[at], two ? sums[plane + at] : 0, two, limb_unit);
    // A quotient and its correction: high - quotient * weight is exact in the two terms of the fused product.
    double quotient = __ddiv_rn(high, weight);
    const double product = __dmul_rn(quotient, weight), error = __fma_rn(quotient, weight, -product);
    quotient = __dadd_rn(quotient, __ddiv_rn(__dadd_rn(__dsub_rn(__dsub_rn(high, product), error), low), weight));
    CENTER center;
    narrow(__dmul_rn(quotient, __ddiv_rn(1.0, scale[f])), &center);
    shift = __dadd_rn(shift, square_difference(widen(center), widen(previous[at])));
    C[at] = center;
  }
  shift = warp_order_sum(shift);
  if (lane == 0) {
    weights[j] = weight;
    shift_square[j] = shift;
  }
}
