// Atomics and cached loads.
//
// One OS thread runs every fiber and switches only at barriers and collectives, so a plain read-modify-write is
// atomic.  cuemu_atomic informs the race detector, and lets a random order switch threads there.
#pragma once

#include "interface.h"

// The detector gets the access from cuemu_atomic; instrumenting the body as well would report it as a plain one.
#define CUEMU_UNWATCHED __attribute__((noinline, no_sanitize_thread, no_sanitize("undefined")))

namespace cuemu {
template <class T>
struct Same {
  using type = T;  // keeps the operand out of deduction: atomicAdd(&unsigned_counter, 1) must compile
};

template <class T>
constexpr bool atomic_type = (std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8)) ||
                             std::is_floating_point<T>::value;

// Wraps as the hardware does; signed overflow would be undefined here.
template <class T>
T wrapping_add(T a, T b) {
  if constexpr (std::is_integral<T>::value) {
    using U = typename std::make_unsigned<T>::type;
    return T(U(a) + U(b));
  } else {
    return a + b;
  }
}
}  // namespace cuemu

// CUDA's signed 64-bit atomics are Min and Max alone: elsewhere `long long*` must be cast to `unsigned long long*`.
#define CUEMU_ATOMIC(name, ALLOWED, expression)                                                        \
  template <class T>                                                                                   \
  CUEMU_UNWATCHED T name(T* address, typename cuemu::Same<T>::type value) {                            \
    static_assert(cuemu::atomic_type<T> && (ALLOWED), #name ": CUDA has no overload for this type");   \
    cuemu::cuemu_atomic(address, sizeof(T), __builtin_return_address(0));                              \
    const T old = *address;                                                                            \
    *address = (expression);                                                                           \
    return old;                                                                                        \
  }

#define CUEMU_NOT_SIGNED_64 (!(std::is_integral<T>::value && std::is_signed<T>::value && sizeof(T) == 8))
#define CUEMU_INTEGER (std::is_integral<T>::value)
#define CUEMU_32_BIT_INTEGER (std::is_integral<T>::value && sizeof(T) == 4)
#define CUEMU_UNSIGNED_32 (std::is_unsigned<T>::value && sizeof(T) == 4)

CUEMU_ATOMIC(atomicAdd, CUEMU_NOT_SIGNED_64, cuemu::wrapping_add(old, T(value)))
CUEMU_ATOMIC(atomicSub, CUEMU_32_BIT_INTEGER, cuemu::wrapping_add(old, cuemu::wrapping_add(T(~value), T(1))))
CUEMU_ATOMIC(atomicExch, CUEMU_NOT_SIGNED_64 && sizeof(T) <= 8 && !(std::is_same<T, double>::value), value)
CUEMU_ATOMIC(atomicMin, CUEMU_INTEGER, value < old ? value : old)
CUEMU_ATOMIC(atomicMax, CUEMU_INTEGER, value > old ? value : old)
CUEMU_ATOMIC(atomicAnd, CUEMU_INTEGER && CUEMU_NOT_SIGNED_64, old & value)
CUEMU_ATOMIC(atomicOr, CUEMU_INTEGER && CUEMU_NOT_SIGNED_64, old | value)
CUEMU_ATOMIC(atomicXor, CUEMU_INTEGER && CUEMU_NOT_SIGNED_64, old ^ value)
CUEMU_ATOMIC(atomicInc, CUEMU_UNSIGNED_32, old >= value ? T(0) : T(old + 1))
CUEMU_ATOMIC(atomicDec, CUEMU_UNSIGNED_32, (old == 0 || old > value) ? value : T(old - 1))

template <class T>
CUEMU_UNWATCHED T atomicCAS(T* address, typename cuemu::Same<T>::type expected, typename cuemu::Same<T>::type value) {
  static_assert(CUEMU_INTEGER && CUEMU_NOT_SIGNED_64, "atomicCAS: CUDA has no overload for this type");
  cuemu::cuemu_atomic(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

// Inlined, so that the detector records the load or store at the kernel's own line.
#define CUEMU_LOAD(name)           \
  template <class T>               \
  __forceinline__ T name(const T* address) { return *address; }
CUEMU_LOAD(__ldg)
CUEMU_LOAD(__ldca)
CUEMU_LOAD(__ldcg)
CUEMU_LOAD(__ldcs)
CUEMU_LOAD(__ldlu)

#define CUEMU_STORE(name)          \
  template <class T>               \
  __forceinline__ void name(T* address, typename cuemu::Same<T>::type value) { *address = value; }
CUEMU_STORE(__stwb)
CUEMU_STORE(__stcg)
CUEMU_STORE(__stcs)
CUEMU_STORE(__stwt)
