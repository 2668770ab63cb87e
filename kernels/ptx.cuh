/* ptx.cuh -- the only inline PTX.
 *
 * CuPy compiles with -ftz=true, under which an ordinary conversion between float and double flushes subnormal floats to
 * zero.  These two keep them: results that promise bits must not lose 1e-40.  The emulator's versions keep them as well
 * where it flushes on purpose.
 */
#pragma once

static __device__ __forceinline__ double float_to_double(float value) {
#ifdef __CUDA_HOST_EMU__
  const int bits = __float_as_int(value);
  if (bits & 0x7f800000) return value;
  const double magnitude = double(bits & 0x7fffffff) * 0x1p-149;
  return bits < 0 ? -magnitude : magnitude;
#else
  double wide;
  asm("cvt.f64.f32 %0, %1;" : "=d"(wide) : "f"(value));
  return wide;
#endif
}

static __device__ __forceinline__ float double_to_float(double value) {
#ifdef __CUDA_HOST_EMU__
  if (!(fabs(value) < 0x1p-126)) return float(value);
  const int bits = int(rint(fabs(value) * 0x1p149));
  return __int_as_float(signbit(value) ? bits | int(0x80000000u) : bits);
#else
  float narrow;
  asm("cvt.rn.f32.f64 %0, %1;" : "=f"(narrow) : "d"(value));
  return narrow;
#endif
}
