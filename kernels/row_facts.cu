/* row_facts.cu -- what is asked of the rows once: upper bounds of their norms, and facts about all values together.
 *
 *   norms[i]  >= |x_i|, float32, rounded up (infinite where float32 ends), at least 2^-120
 *   facts[0]  = max |x_if| if every x_if is a whole number, else +infinity
 *   facts[1]  = max |x_if|; infinity, and above it NaN, where there is one
 *   facts[2]  = 0 if every x_if * w_i * scale[f] is a whole number, else 1     (one limb holds every value: exact_sums.Grid)
 *
 * X (n,d) ROW IN | norms (n) f32 OUT | facts (3) f64 INOUT, 0 before | weights (n) f64 IN or null (w_i = 1) |
 * scale (d) f64 IN or null (facts[2] stays)                                       all C-contiguous
 * A warp owns a row, its lanes the columns; grid-stride over the rows.
 * Launch grid any, block 256.   Traffic: one read of X, 4n written, 8n read of weights; scale from cache.
 * Accuracy: the float64 sum of squares is within gamma(d + 1) of the true one (d < 2^30: below 2^-22 relative), the root
 * and the conversion add 2^-23; the factor 1 + 2^-20 covers them and keeps the bound above |x_i|.  The facts are exact:
 * products are rounded as exact_sums.Grid.for_rows rounds them.
 */
#include "common.cuh"

#define THREADS 256
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)

extern "C" __global__ void __launch_bounds__(THREADS)
row_facts(const ROW* __restrict__ X, long long n, int d, float* __restrict__ norms, double* __restrict__ facts,
          const double* __restrict__ weights, const double* __restrict__ scale) {
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  double most = 0.0, largest = 0.0;
  bool finer = false;                  // a value of this lane needs a second limb: nothing more to find out
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const ROW* __restrict__ x = X + i * d;
    double square = 0.0;
    for (int f = lane; f < d; f += WARP) {
      const double value = widen(x[f]);
      square = fma(value, value, square);
      most = fmax(most, value == rint(value) ? fabs(value) : INFINITE);
      largest = larger_magnitude(largest, value);
      if (scale && !finer) {
        const double scaled = __dmul_rn(weights ? __dmul_rn(value, weights[i]) : value, scale[f]);
        finer = scaled != rint(scaled);
      }
    }
    square = warp_order_sum(square);
    if (lane == 0) norms[i] = double_to_float(fmax(sqrt(square) * (1.0 + 0x1p-20), 0x1p-120));
  }
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) {
    most = fmax(most, __shfl_xor_sync(EVERY_LANE, most, half));
    largest = larger_magnitude(largest, __shfl_xor_sync(EVERY_LANE, largest, half));
  }
  finer = __any_sync(EVERY_LANE, finer);
  if (lane == 0) {
    atomic_max(facts, most);
    atomic_max(facts + 1, largest);
    if (finer) atomic_max(facts + 2, 1.0);
  }
}
