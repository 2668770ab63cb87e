/* unit_rows.cu -- every row scaled to unit length.
 *
 *   largest[i] = max_f |x_if|                       infinity, and above it NaN, where there is one
 *   y_f        = x_if / 2^e, e = floor(log2 largest[i]) + 1
 *   unit[i,f]  = y_f / sqrt(sum_f y_f^2)            float64, warp order, one division, rounded to CENTER at the end
 *
 * X (n,d) ROW IN | unit (n,d) CENTER OUT, rows of zeros as they are; no numbers where largest[i] is none |
 * largest (n) f64 OUT                                                             all C-contiguous
 * A warp owns a row, its lanes the columns; grid-stride over the rows.
 * Launch grid any, block 256.   Traffic: X three times (mostly from cache after the first), unit once, 8n bytes.
 * Accuracy: exact/unit_rows.py operation by operation: the same bits.  The power of two keeps squares from over- and
 * underflowing and rounds nothing that can be seen: what it loses is 2^-1022 of the largest.
 * Tests: python -m pytest tests/exact/test_unit_rows.py
 */
#include "common.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS, 4)
unit_rows(const ROW* __restrict__ X, long long n, int d, CENTER* __restrict__ unit, double* __restrict__ largest) {
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const ROW* __restrict__ x = X + i * d;
    double most = 0.0;
    for (int f = lane; f < d; f += WARP) most = larger_magnitude(most, widen(x[f]));
#pragma unroll
    for (int half = WARP / 2; half > 0; half /= 2)
      most = larger_magnitude(most, __shfl_xor_sync(EVERY_LANE, most, half));
    const int down = most > 0.0 && most < INFINITE_64 ? -(ilogb(most) + 1) : 0;
    double square = 0.0;
    for (int f = lane; f < d; f += WARP) {
      const double value = scalbn(widen(x[f]), down);
      square = __dadd_rn(square, __dmul_rn(value, value));
    }
    const double sum = __shfl_sync(EVERY_LANE, warp_order_sum(square), 0);
    const double length = sum > 0.0 ? __dsqrt_rn(sum) : 1.0;
    for (int f = lane; f < d; f += WARP) narrow(__ddiv_rn(scalbn(widen(x[f]), down), length), unit + i * d + f);
    if (lane == 0) largest[i] = most;
  }
}
