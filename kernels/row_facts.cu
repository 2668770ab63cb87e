/* row_facts.cu -- what is computed of the rows once: how well halves represent them, and facts about all values together.
 *
 *   z = x half_scale + offset, h = z rounded to halves                              (screen.cuh)
 *   norms[i]  >= |z_i| + |z_i - h_i|,   rests[i] >= |z_i - h_i|         float32; both infinite where halves end,
 *               and at least 2^-100: nothing is lost where subnormals are flushed
 *   scales[LARGEST_WHOLE] = max |x_if| if every x_if is a whole number, else +infinity
 *   scales[LARGEST_ANY]   = max |x_if|; infinity, and above it NaN, where there is one
 *   scales[FINER]         = 0 if every x_if * w_i * scale[f] is a whole number, else 1   (one limb is enough: exact/sums.py: Grid)
 *
 * rows IN: rows.cuh | scaling: scales INOUT, those above 0 before, offsets IN: below | norms, rests (n) f32 OUT |
 * weights (n) f64 IN or null (w_i = 1) | scale (d) f64 IN or null (scales[FINER] stays)
 *                                                                                 all C-contiguous
 * Several problems (blockIdx.z): arrays hold one after another.
 * A warp owns a row, its lanes the columns; grid-stride over the rows.
 * Launch grid (any, 1, problems), block 256.
 * Traffic: one read of X, 8n written, 8n read of weights; offsets and scale from cache.
 * Accuracy: in float64 z carries one rounding, 2^-53 |z|, which rests gets on top; sums of squares are within gamma(d + 1)
 * (d < 2^30: below 2^-22 relative), roots and conversions add 2^-23; the factor 1 + 2^-20 covers these and keeps both above.
 * The facts are exact: products are rounded as exact/sums.py: Grid.for_rows rounds them.
 * Tests: python -m pytest tests/kernels/test_row_facts.py tests/kernels/test_row_halves.py
 */
#include "screen.cuh"
#include "rows.cuh"

#define THREADS 256

// How rows become halves.
struct Scaling {
  double* scales;     // (SCALE_WORDS)
  In<float> offsets;  // (16 n_steps)
  int n_steps;
};

extern "C" __global__ void __launch_bounds__(THREADS, 4)
row_facts(const __grid_constant__ Rows rows, const __grid_constant__ Scaling scaling, float* __restrict__ norms,
          float* __restrict__ rests, const double* __restrict__ weights, const double* __restrict__ scale) {
  const long long problem = problem_index(), n = rows.n;
  const int d = rows.d;
  const In<ROW> X = rows.X + problem * n * d;
  norms += problem * n;
  rests += problem * n;
  const In<float> offsets = scaling.offsets + problem * scaling.n_steps * (4 * QUAD);
  double* const scales = scaling.scales + problem * SCALE_WORDS;
  if (weights) weights += problem * n;
  if (scale) scale += problem * d;
  const double half_scale = scales[HALF_SCALE];
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  double most = 0.0, largest = 0.0;
  bool finer = false;                  // a value of this lane needs a second limb: nothing more to find out
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const In<ROW> x = X + i * d;
    double square = 0.0, rest = 0.0;
    for (int f = lane; f < d; f += WARP) {
      const ROW element = x[f];
      const double value = widen(element), z = fma(value, half_scale, double(offsets[f]));
      const double left = z - double(half_to_float(float_to_half(scaled(element, half_scale, offsets[f]))));
      square = fma(z, z, square);
      rest = fma(left, left, rest);
      most = fmax(most, value == rint(value) ? fabs(value) : INFINITE_64);
      largest = larger_magnitude(largest, value);
      if (scale && !finer) {
        const double units = __dmul_rn(weights ? __dmul_rn(value, weights[i]) : value, scale[f]);
        finer = units != rint(units);
      }
    }
    square = warp_order_sum(square);
    rest = warp_order_sum(rest);
    if (lane == 0) {
      const double norm = __dmul_rn(sqrt(square), 1.0 + 0x1p-20);
      // Where z itself overflows, what is left of it is no number.
      const double above = rest < INFINITE_64 ? fma(norm, 0x1p-50, __dmul_rn(sqrt(rest), 1.0 + 0x1p-20)) : INFINITE_64;
      norms[i] = double_to_float(fmax(__dmul_rn(norm + above, 1.0 + 0x1p-20), 0x1p-100));
      rests[i] = double_to_float(fmax(__dmul_rn(above, 1.0 + 0x1p-20), 0x1p-100));
    }
  }
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) {
    most = fmax(most, __shfl_xor_sync(EVERY_LANE, most, half));
    largest = larger_magnitude(largest, __shfl_xor_sync(EVERY_LANE, largest, half));
  }
  finer = __any_sync(EVERY_LANE, finer);
  if (lane == 0) {
    atomic_max(scales + LARGEST_WHOLE, most);
    atomic_max(scales + LARGEST_ANY, largest);
    if (finer) atomic_max(scales + FINER, 1.0);
  }
}
