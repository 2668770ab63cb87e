/* center_facts.cu -- what the screen and the host need to know of the centers.
 *
 *   squares[j] = |c_j|^2 in float64, warp order: equal for equal centers, so that duplicates show without the centers
 *   largest[j] = max_f |c_jf| if all of these are whole numbers, else +infinity
 *   c_sq[j]    = squares[j] rounded to float32;   C_screen = C rounded to float32 (CENTER double only)
 *
 * C (k,d) CENTER IN | C_screen (k,d) f32 OUT or null | c_sq (k) f32 OUT | squares (k) f64 OUT | largest (k) f64 OUT
 *                                                                                 all C-contiguous
 * A warp owns a center, its lanes the columns.
 * Launch grid ceil(k/4), block 128.   Traffic: one read of C, 4 k d written where C_screen is.
 * Accuracy: squares within gamma(d + 1) in float64; c_sq one more rounding, as certificates.score_radius counts.
 */
#include "common.cuh"

#define THREADS 128
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)

extern "C" __global__ void __launch_bounds__(THREADS)
center_facts(const CENTER* __restrict__ C, int k, int d, float* __restrict__ C_screen, float* __restrict__ c_sq,
             double* __restrict__ squares, double* __restrict__ largest) {
  const int lane = lane_index();
  const int j = int(blockIdx.x) * (THREADS / WARP) + int(threadIdx.x) / WARP;
  if (j >= k) return;
  double square = 0.0, most = 0.0;
  for (int f = lane; f < d; f += WARP) {
    const long long at = (long long)j * d + f;
    const double value = widen(C[at]);
    square = __dadd_rn(square, __dmul_rn(value, value));
    most = fmax(most, value == rint(value) ? fabs(value) : INFINITE);
    if (C_screen) C_screen[at] = double_to_float(value);
  }
  square = warp_order_sum(square);
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) most = fmax(most, __shfl_xor_sync(EVERY_LANE, most, half));
  if (lane == 0) {
    squares[j] = square;
    largest[j] = most;
    c_sq[j] = double_to_float(square);
  }
}
