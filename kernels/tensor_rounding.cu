/* tensor_rounding.cu -- sums of products of halves as the tensor cores of this device add them.
 *
 *   sums[i] = starts[i] + sum_f A[i, f] B[i, f]     one tensor product, f < 16; i < n, a multiple of 8
 *
 * A, B (n,16) IEEE halves as u16 IN | starts (n) f32 IN | sums (n) f32 OUT                         all C-contiguous
 * A warp takes eight sums: row g of its 16 x 16 factor and column g of the other are those of sum g.
 * Launch grid n/8, block 32.   Traffic: 72 n bytes.
 * Accuracy: what is asked for (gpukmeans/backends/cuda/device/tensor_rounding.py).
 * Tests: python -m pytest tests/laws/test_on_a_gpu.py
 */
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(WARP)
tensor_rounding(const unsigned short* __restrict__ A, const unsigned short* __restrict__ B,
                const float* __restrict__ starts, float* __restrict__ sums) {
  const int g = lane_index() / 4, t = lane_index() % 4, i = int(blockIdx.x) * 8 + g;
  const unsigned* const a = reinterpret_cast<const unsigned*>(A + i * 16);
  const unsigned* const b = reinterpret_cast<const unsigned*>(B + i * 16);
  const unsigned row_g[2] = {a[t], a[t + 4]}, row_g8[2] = {0, 0}, column[2] = {b[t], b[t + 4]};
  const float start = starts[i];
  float sum[4] = {2 * t == g ? start : 0.0f, 2 * t + 1 == g ? start : 0.0f, 0.0f, 0.0f};
  tensor_product(sum, row_g, row_g8, column);
  if (t == g / 2) sums[i] = g % 2 ? sum[1] : sum[0];
}
