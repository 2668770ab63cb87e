// Directed rounding: the operation runs under the processor's own rounding mode, so results are exact.
#pragma once

#include <fenv.h>

namespace cuemu {

// Reads or writes v through memory, in program order with the mode changes: stops constant folding and motion.
template <class T>
inline void pin(T& v) {
  asm volatile("" : "+m"(v) : : "memory");
}

template <int MODE, class T, class Operation>
__noinline__ inline T rounded(T a, T b, T c, Operation operation) {
  const int before = fegetround();
  fesetround(MODE);
  pin(a);
  pin(b);
  pin(c);
  T result = operation(a, b, c);
  pin(result);
  fesetround(before);
  return result;
}

}  // namespace cuemu

#define CUEMU_ROUNDED_3(name, T, MODE, expression)                                                  \
  inline T name(T a, T b, T c) {                                                                    \
    return cuemu::rounded<MODE>(a, b, c, [](T a, T b, T c) { return expression; });                 \
  }
#define CUEMU_ROUNDED_2(name, T, MODE, expression)                                                  \
  inline T name(T a, T b) {                                                                         \
    return cuemu::rounded<MODE>(a, b, T(0), [](T a, T b, T) { return expression; });                \
  }
#define CUEMU_ROUNDED_1(name, T, MODE, expression)                                                  \
  inline T name(T a) {                                                                              \
    return cuemu::rounded<MODE>(a, T(0), T(0), [](T a, T, T) { return expression; });               \
  }
#define CUEMU_ROUNDED(suffix, MODE)                                \
  CUEMU_ROUNDED_2(__fadd_##suffix, float, MODE, a + b)             \
  CUEMU_ROUNDED_2(__fsub_##suffix, float, MODE, a - b)             \
  CUEMU_ROUNDED_2(__fmul_##suffix, float, MODE, a * b)             \
  CUEMU_ROUNDED_2(__fdiv_##suffix, float, MODE, a / b)             \
  CUEMU_ROUNDED_1(__fsqrt_##suffix, float, MODE, sqrtf(a))         \
  CUEMU_ROUNDED_3(__fmaf_##suffix, float, MODE, fmaf(a, b, c))     \
  CUEMU_ROUNDED_2(__dadd_##suffix, double, MODE, a + b)            \
  CUEMU_ROUNDED_2(__dsub_##suffix, double, MODE, a - b)            \
  CUEMU_ROUNDED_2(__dmul_##suffix, double, MODE, a * b)            \
  CUEMU_ROUNDED_2(__ddiv_##suffix, double, MODE, a / b)            \
  CUEMU_ROUNDED_1(__dsqrt_##suffix, double, MODE, sqrt(a))         \
  CUEMU_ROUNDED_3(__fma_##suffix, double, MODE, fma(a, b, c))

CUEMU_ROUNDED(ru, FE_UPWARD)
CUEMU_ROUNDED(rd, FE_DOWNWARD)
CUEMU_ROUNDED(rz, FE_TOWARDZERO)

#define CUEMU_NARROWED(suffix, MODE)                                                           \
  inline float __double2float_##suffix(double v) {                                             \
    return float(cuemu::rounded<MODE>(v, 0.0, 0.0, [](double a, double, double) {              \
      float narrow = float(a);                                                                 \
      cuemu::pin(narrow);                                                                      \
      return double(narrow);                                                                   \
    }));                                                                                       \
  }
CUEMU_NARROWED(ru, FE_UPWARD)
CUEMU_NARROWED(rd, FE_DOWNWARD)
CUEMU_NARROWED(rz, FE_TOWARDZERO)
