/* row_facts.cu -- what is asked of the rows once: upper bounds of their norms, and whether they are whole numbers.
 *
 *   norms[i]  >= |x_i|, float32, rounded up (infinite where float32 ends), at least 2^-120
 *   largest   = max |x_if| if every x_if is a whole number, else +infinity
 *
 * X (n,d) ROW IN | norms (n) f32 OUT | largest (1) f64 INOUT, 0 before             all C-contiguous
 * A warp owns a row, its lanes the columns; grid-stride over the rows.
 * Launch grid any, block 256.   Traffic: one read of X, 4n written.
 * Accuracy: the float64 sum of squares is within gamma(d + 1) of the true one (d < 2^30: below 2^-22 relative), the root
 * and the conversion add 2^-23; the factor 1 + 2^-20 covers them and keeps the bound above |x_i|.
 */
#include "common.cuh"

#define THREADS 256
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)

extern "C" __global__ void __launch_bounds__(THREADS)
row_facts(const ROW* __restrict__ X, long long n, int d, float* __restrict__ norms, double* __restrict__ largest) {
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  double most = 0.0;
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const ROW* __restrict__ x = X + i * d;
    double square = 0.0;
    for (int f = lane; f < d; f += WARP) {
      const double value = widen(x[f]);
      square = fma(value, value, square);
      most = fmax(most, value == rint(value) ? fabs(value) : INFINITE);
    }
    square = warp_order_sum(square);
    if (lane == 0) norms[i] = double_to_float(fmax(sqrt(square) * (1.0 + 0x1p-20), 0x1p-120));
  }
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) most = fmax(most, __shfl_xor_sync(EVERY_LANE, most, half));
  if (lane == 0) atomic_max(largest, most);
}
