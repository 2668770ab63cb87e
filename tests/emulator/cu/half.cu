/* half.cu -- conversions of half and bfloat16, which on a GPU need toolkit headers.
 *
 * bits (65536) u16 IN: every half | x (n) f32 IN | as_float (2, 65536) f32 OUT | narrowed (2, n) u16 OUT
 */
extern "C" __global__ void half_conversions(const unsigned short* bits, const float* x, int n, float* as_float,
                                            unsigned short* narrowed) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < 65536) {
    __half h;
    h.x = bits[i];
    __nv_bfloat16 b;
    b.x = bits[i];
    as_float[i] = __half2float(h);
    as_float[65536 + i] = __bfloat162float(b);
  }
  if (i < n) {
    narrowed[i] = __float2half_rn(x[i]).x;
    narrowed[n + i] = __float2bfloat16_rn(x[i]).x;
  }
}
