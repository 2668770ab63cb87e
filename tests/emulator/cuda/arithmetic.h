// Arithmetic intrinsics: rounding to nearest, conversions, bit fiddling.
//
// Kernels are always compiled with -ffp-contract=off, so a * b + c rounds twice and fma happens where it is written.
#pragma once

#include "interface.h"

// ---- min, max -------------------------------------------------------------------------------------------

#define CUEMU_MIN_MAX(T)                               \
  inline T min(T a, T b) { return b < a ? b : a; }     \
  inline T max(T a, T b) { return a < b ? b : a; }
CUEMU_MIN_MAX(int)
CUEMU_MIN_MAX(unsigned)
CUEMU_MIN_MAX(long)
CUEMU_MIN_MAX(unsigned long)
CUEMU_MIN_MAX(long long)
CUEMU_MIN_MAX(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// ---- reinterpretation -----------------------------------------------------------------------------------

namespace cuemu {
template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the sizes differ");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace cuemu

inline float __int_as_float(int v) { return cuemu::bits<float>(v); }
inline int __float_as_int(float v) { return cuemu::bits<int>(v); }
inline float __uint_as_float(unsigned v) { return cuemu::bits<float>(v); }
inline unsigned __float_as_uint(float v) { return cuemu::bits<unsigned>(v); }
inline double __longlong_as_double(long long v) { return cuemu::bits<double>(v); }
inline long long __double_as_longlong(double v) { return cuemu::bits<long long>(v); }
inline int __double2hiint(double v) { return int(__double_as_longlong(v) >> 32); }
inline int __double2loint(double v) { return int(__double_as_longlong(v)); }
inline double __hiloint2double(int hi, int lo) {
  return __longlong_as_double((long long)((unsigned long long)(unsigned)hi << 32 | (unsigned)lo));
}

// ---- conversions: saturating, as the cvt instruction does -------------------------------------------------

namespace cuemu {
// NaN: zero in PTX, unless the source is a double or the result has 64 bits: then the top bit alone.
template <class To, class From>
inline To saturate(From rounded) {
  constexpr bool is_signed = To(-1) < To(0);
  constexpr int digits = 8 * sizeof(To) - is_signed;
  constexpr To most = To(~0ull >> (64 - digits)), least = is_signed ? -most - 1 : 0;
  const double v = double(rounded);
  if (v != v) {
    const bool wide = sizeof(From) == 8 || sizeof(To) == 8;
    return !wide ? To(0) : is_signed ? least : To(most / 2 + 1);
  }
  const double above = ldexp(1.0, digits);  // most + 1, exact in double
  if (v >= above) return most;
  if (v <= double(least)) return least;
  return To(v);
}
}  // namespace cuemu

#define CUEMU_TO_INTEGER(From, name, To)                                                       \
  inline To __##name##_rn(From v) { return cuemu::saturate<To>(From(rint(v))); }             \
  inline To __##name##_rz(From v) { return cuemu::saturate<To>(From(trunc(v))); }            \
  inline To __##name##_rd(From v) { return cuemu::saturate<To>(From(floor(v))); }            \
  inline To __##name##_ru(From v) { return cuemu::saturate<To>(From(ceil(v))); }
CUEMU_TO_INTEGER(float, float2int, int)
CUEMU_TO_INTEGER(float, float2uint, unsigned)
CUEMU_TO_INTEGER(float, float2ll, long long)
CUEMU_TO_INTEGER(float, float2ull, unsigned long long)
CUEMU_TO_INTEGER(double, double2int, int)
CUEMU_TO_INTEGER(double, double2uint, unsigned)
CUEMU_TO_INTEGER(double, double2ll, long long)
CUEMU_TO_INTEGER(double, double2ull, unsigned long long)

inline float __int2float_rn(int v) { return float(v); }
inline float __uint2float_rn(unsigned v) { return float(v); }
inline float __ll2float_rn(long long v) { return float(v); }
inline float __ull2float_rn(unsigned long long v) { return float(v); }
inline double __int2double_rn(int v) { return double(v); }
inline double __uint2double_rn(unsigned v) { return double(v); }
inline double __ll2double_rn(long long v) { return double(v); }
inline double __ull2double_rn(unsigned long long v) { return double(v); }
inline float __double2float_rn(double v) { return float(v); }

// ---- floating point, rounded to nearest -----------------------------------------------------------------

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }

// ---- integers -------------------------------------------------------------------------------------------

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }

inline unsigned __brev(unsigned v) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (v >> bit & 1u) << (31 - bit);
  return reversed;
}

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }

inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
  return unsigned(((unsigned long long)hi << 32 | lo) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
  return unsigned(((unsigned long long)hi << 32 | lo) >> (shift & 31));
}

// Each nibble of the selector picks one of the eight bytes of b:a; its high bit replicates that byte's sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long pool = (unsigned long long)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned nibble = selector >> 4 * i & 15u;
    unsigned byte = unsigned(pool >> 8 * (nibble & 7u)) & 255u;
    if (nibble & 8u) byte = byte & 128u ? 255u : 0u;
    result |= byte << 8 * i;
  }
  return result;
}

inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
  return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 4; ++i) c += (a >> 8 * i & 255u) * (b >> 8 * i & 255u);
  return c;
}

// ---- the rest -------------------------------------------------------------------------------------------

inline void __trap(CUEMU_HERE) { cuemu::cuemu_fail("__trap()", file, line); }

#undef assert
#define assert(e) ((e) ? (void)0 : ::cuemu::cuemu_fail("assert(" #e ") failed", __FILE__, __LINE__))
