// The functions of math.h in the global namespace, as CUDA has them: sqrt of a double and of a float, and sqrtf.
//
// Each is the compiler's builtin: an instruction, or a call of the C library.  The headers themselves are left out, as
// most of what g++ would parse for a kernel.  An integer argument is ambiguous, and an error.
#pragma once

#define CUEMU_MATH_1(name, T, N, B) inline T name##N(T x) { return __builtin_##name##B(x); }
#define CUEMU_MATH_2(name, T, N, B) inline T name##N(T x, T y) { return __builtin_##name##B(x, y); }

// Of type T; N: the end of the name; B: the end of the builtin's.
#define CUEMU_MATH(T, N, B)                                                                   \
  CUEMU_MATH_1(acos, T, N, B) CUEMU_MATH_1(acosh, T, N, B) CUEMU_MATH_1(asin, T, N, B)        \
  CUEMU_MATH_1(asinh, T, N, B) CUEMU_MATH_1(atan, T, N, B) CUEMU_MATH_1(atanh, T, N, B)       \
  CUEMU_MATH_1(cbrt, T, N, B) CUEMU_MATH_1(ceil, T, N, B) CUEMU_MATH_1(cos, T, N, B)          \
  CUEMU_MATH_1(cosh, T, N, B) CUEMU_MATH_1(erf, T, N, B) CUEMU_MATH_1(erfc, T, N, B)          \
  CUEMU_MATH_1(exp, T, N, B) CUEMU_MATH_1(exp2, T, N, B) CUEMU_MATH_1(expm1, T, N, B)         \
  CUEMU_MATH_1(fabs, T, N, B) CUEMU_MATH_1(floor, T, N, B) CUEMU_MATH_1(lgamma, T, N, B)      \
  CUEMU_MATH_1(log, T, N, B) CUEMU_MATH_1(log10, T, N, B) CUEMU_MATH_1(log1p, T, N, B)        \
  CUEMU_MATH_1(log2, T, N, B) CUEMU_MATH_1(logb, T, N, B) CUEMU_MATH_1(nearbyint, T, N, B)    \
  CUEMU_MATH_1(rint, T, N, B) CUEMU_MATH_1(round, T, N, B) CUEMU_MATH_1(sin, T, N, B)         \
  CUEMU_MATH_1(sinh, T, N, B) CUEMU_MATH_1(sqrt, T, N, B) CUEMU_MATH_1(tan, T, N, B)          \
  CUEMU_MATH_1(tanh, T, N, B) CUEMU_MATH_1(tgamma, T, N, B) CUEMU_MATH_1(trunc, T, N, B)      \
  CUEMU_MATH_2(atan2, T, N, B) CUEMU_MATH_2(copysign, T, N, B) CUEMU_MATH_2(fdim, T, N, B)    \
  CUEMU_MATH_2(fmax, T, N, B) CUEMU_MATH_2(fmin, T, N, B) CUEMU_MATH_2(fmod, T, N, B)         \
  CUEMU_MATH_2(hypot, T, N, B) CUEMU_MATH_2(nextafter, T, N, B) CUEMU_MATH_2(pow, T, N, B)    \
  CUEMU_MATH_2(remainder, T, N, B)                                                            \
  inline T fma##N(T x, T y, T z) { return __builtin_fma##B(x, y, z); }                        \
  inline T frexp##N(T x, int* exponent) { return __builtin_frexp##B(x, exponent); }           \
  inline T ldexp##N(T x, int exponent) { return __builtin_ldexp##B(x, exponent); }            \
  inline T modf##N(T x, T* whole) { return __builtin_modf##B(x, whole); }                     \
  inline T remquo##N(T x, T y, int* quotient) { return __builtin_remquo##B(x, y, quotient); } \
  inline T scalbn##N(T x, int exponent) { return __builtin_scalbn##B(x, exponent); }          \
  inline T scalbln##N(T x, long exponent) { return __builtin_scalbln##B(x, exponent); }       \
  inline int ilogb##N(T x) { return __builtin_ilogb##B(x); }                                  \
  inline long lrint##N(T x) { return __builtin_lrint##B(x); }                                 \
  inline long lround##N(T x) { return __builtin_lround##B(x); }                               \
  inline long long llrint##N(T x) { return __builtin_llrint##B(x); }                          \
  inline long long llround##N(T x) { return __builtin_llround##B(x); }

CUEMU_MATH(double, , )
CUEMU_MATH(float, , f)
CUEMU_MATH(float, f, f)
#undef CUEMU_MATH
#undef CUEMU_MATH_1
#undef CUEMU_MATH_2

#define CUEMU_CLASSIFY(name)                                          \
  inline bool name(double x) { return __builtin_##name(x); }          \
  inline bool name(float x) { return __builtin_##name(x); }
CUEMU_CLASSIFY(isfinite)
CUEMU_CLASSIFY(isinf)
CUEMU_CLASSIFY(isnan)
CUEMU_CLASSIFY(isnormal)
CUEMU_CLASSIFY(signbit)
#undef CUEMU_CLASSIFY

constexpr int abs(int x) { return x < 0 ? -x : x; }
constexpr long abs(long x) { return x < 0 ? -x : x; }
constexpr long long abs(long long x) { return x < 0 ? -x : x; }
inline float abs(float x) { return __builtin_fabsf(x); }
inline double abs(double x) { return __builtin_fabs(x); }

#define HUGE_VAL __builtin_huge_val()
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
