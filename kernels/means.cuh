/* means.cuh -- the weight of a cluster and the mean of one of its columns, from the limbs of their exact sums.
 *
 *   weight = value of the weight limbs                                     (exact/sums.py: Grid.value)
 *   mean   = value of the sum limbs / weight                               (exact/sums.py: cluster_means; NaN where 0 / 0)
 *
 * Accuracy: by the same operations as NumPy's, one by one, for the same bits; the one fused multiply-add among them is an
 * error-free product's error, which NumPy finds by splitting.
 */
#pragma once
#include "sums.cuh"

// How limbs become means.
struct Means {
  In<double> unit;     // (d) 1 / scale of the grid
  double limb_unit;    // of the second limb, in units of the first
  double weight_unit;  // the same of the weights
  int n_limbs;
};

static __device__ __forceinline__ double cluster_weight(In<long long> weight_sums, int j, int k, bool two,
                                                        double weight_unit, double weight_scale) {
  return __dmul_rn(scaled_value(weight_sums[j], two ? weight_sums[k + j] : 0, two, weight_unit), __ddiv_rn(1.0, weight_scale));
}

// In units of the first limb: times 1 / scale of the column it is the mean.  `at`: of the cluster's column among the first
// limbs; the second ones lie `plane` behind.
static __device__ __forceinline__ double scaled_mean(In<long long> sums, long long at, long long plane, bool two,
                                                     double limb_unit, double weight) {
  const double high = double(sums[at]), low = low_part(sums[at], two ? sums[plane + at] : 0, two, limb_unit);
  // A quotient and its correction: high - quotient * weight is exact in the two terms of the fused product.
  double quotient = __ddiv_rn(high, weight);
  const double product = __dmul_rn(quotient, weight), error = __fma_rn(quotient, weight, -product);
  quotient = __dadd_rn(quotient, __ddiv_rn(__dadd_rn(__dsub_rn(__dsub_rn(high, product), error), low), weight));
  return quotient;
}
