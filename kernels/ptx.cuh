/* ptx.cuh -- the only inline PTX.
 *
 * CuPy compiles with -ftz=true, under which an ordinary conversion between float and double flushes subnormal floats to
 * zero.  These two keep them: results that promise bits must not lose 1e-40.
 */
#pragma once

static __device__ __forceinline__ double float_to_double(float value) {
#ifdef __CUDA_HOST_EMU__
  return value;
#else
  double wide;
  asm("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(value));
  return wide;
#endif
}

static __device__ __forceinline__ float double_to_float(double value) {
#ifdef __CUDA_HOST_EMU__
  return float(value);
#else
  float narrow;
  asm("cvt.rn.f32.f64 %0, %1;" : "=f"(narrow) : "d"(value));
  return narrow;
#endif
}
