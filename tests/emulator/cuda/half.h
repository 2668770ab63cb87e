// Half and bfloat16: storage types and their conversions, rounded to nearest even, bit by bit.
#pragma once

#include "interface.h"

namespace cuemu {

inline float half_to_float(u16 half) {
  const u32 sign = u32(half & 0x8000u) << 16, exponent = half >> 10 & 31u, mantissa = half & 1023u;
  if (exponent == 31) return bits<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = float(mantissa) * 0x1p-24f;  // subnormal, exact in float
  return sign ? -magnitude : magnitude;
}

inline u16 float_to_half(float value) {
  u32 u = bits<u32>(value);
  const u16 sign = u16(u >> 16 & 0x8000u);
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return 0x7fff;                       // NaN, as the hardware writes it
  if (u >= 0x477ff000u) return u16(sign | 0x7c00u);         // 65520 and above round to infinity
  if (u < 0x38800000u) {                                    // below 2^-14: a multiple of 2^-24
    return u16(sign | u16(lrintf(bits<float>(u) * 0x1p24f)));
  }
  u += 0xfffu + (u >> 13 & 1u);
  return u16(sign | (u - 0x38000000u) >> 13);
}

// a - b of the two halves of a word: float32 has more than twice the bits of a half, so its rounding changes nothing.
inline u32 subtract_halves(u32 a, u32 b) {
  const u32 low = float_to_half(half_to_float(u16(a)) - half_to_float(u16(b)));
  return low | u32(float_to_half(half_to_float(u16(a >> 16)) - half_to_float(u16(b >> 16)))) << 16;
}

inline float bfloat16_to_float(u16 value) { return bits<float>(u32(value) << 16); }

inline u16 float_to_bfloat16(float value) {
  const u32 u = bits<u32>(value);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return u16((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

}  // namespace cuemu

struct __half { uint16_t x; };
struct __nv_bfloat16 { uint16_t x; };
struct alignas(4) __half2 { __half x, y; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
using half = __half;
using half2 = __half2;

inline float __half2float(__half v) { return cuemu::half_to_float(v.x); }
inline __half __float2half(float v) { return {cuemu::float_to_half(v)}; }
inline __half __float2half_rn(float v) { return {cuemu::float_to_half(v)}; }
inline float __bfloat162float(__nv_bfloat16 v) { return cuemu::bfloat16_to_float(v.x); }
inline __nv_bfloat16 __float2bfloat16(float v) { return {cuemu::float_to_bfloat16(v)}; }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return {cuemu::float_to_bfloat16(v)}; }
