// What translated PTX includes (ptx/writer.py): its types, and what instructions do where C++ has no operator for it.
//
// Definitions are those of the PTX ISA.  Warp collectives take the caller's file and line: those of the PTX.
#pragma once

#include "kernel.h"

namespace ptx {

using cuemu::u8;
using cuemu::u16;
using cuemu::u32;
using cuemu::u64;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using b8 = u8;
using b16 = u16;
using b32 = u32;
using b64 = u64;
using f32 = float;
using f64 = double;
using pred = bool;

using cuemu::Bytes;
using cuemu::bits;

template <class T, int N>
struct alignas(N * sizeof(T)) Vector {
  T at[N];
};

// .ftz: subnormal floats become zeros of the same sign.  Without a branch, as they cost g++ most of its time.
__forceinline__ f32 flush(f32 x) {
  const u32 b = bits<u32>(x);
  return bits<f32>(b & (0x80000000u | (0u - u32((b & 0x7f800000u) != 0))));
}

// ---- memory ---------------------------------------------------------------------------------------------------------

// Addresses in shared memory: what the module declares begins at 0, what the launch adds at kDynamic.
constexpr u32 kDynamic = 1u << 24;

__noinline__ inline u8* shared_byte(u8* declared, size_t declared_bytes, u32 address, size_t bytes, CUEMU_HERE) {
  if (address >= kDynamic) return cuemu::dynamic_shared + (address - kDynamic);
  if (address + bytes > declared_bytes) cuemu::cuemu_fail("address behind the module's shared memory", file, line);
  return declared + address;
}

// ---- whole numbers --------------------------------------------------------------------------------------------------

// A number of bits beyond the width is as the width: all bits are shifted out.
template <class T>
__forceinline__ T shifted_left(T a, u32 n) {
  return n < 8 * sizeof(T) ? T(a << n) : T(0);
}
template <class T>
__forceinline__ T shifted_right(T a, u32 n) {
  constexpr u32 last = 8 * sizeof(T) - 1;
  return T(n <= last ? a >> n : a < 0 ? T(-1) : T(0));
}

// `length` bits of `field`, put into `into` from bit `position` on; both counts are of 0 to 255.
template <class T>
__forceinline__ T with_field(T field, T into, u32 position, u32 length) {
  const T field_bits = T(~shifted_left<T>(T(~T(0)), length & 255));
  const T mask = shifted_left<T>(field_bits, position & 255);
  return T((into & ~mask) | (shifted_left<T>(field, position & 255) & mask));
}

// Division by zero gives no particular value in PTX: no kernel may do it.
template <class T>
__forceinline__ T quotient(T a, T b, CUEMU_HERE) {
  if (b == 0) cuemu::cuemu_fail("division by zero", file, line);
  if (b == T(-1) && T(-1) < 0) return T(0 - typename std::make_unsigned<T>::type(a));
  return a / b;
}
template <class T>
__forceinline__ T remainder(T a, T b, CUEMU_HERE) {
  if (b == 0) cuemu::cuemu_fail("division by zero", file, line);
  return b == T(-1) && T(-1) < 0 ? T(0) : a % b;
}

// ---- floating point -------------------------------------------------------------------------------------------------

// Of a number and NaN the number; of two NaN the canonical one; -0 is less than +0.
template <class T>
__forceinline__ T canonical_nan() {
  if constexpr (sizeof(T) == 4) return bits<T>(0x7fffffffu);
  else return bits<T>(0x7fffffffffffffffull);
}
template <class T>
__noinline__ T least(T a, T b) {
  if (a != a) return b != b ? canonical_nan<T>() : b;
  if (b != b) return a;
  return a == b ? (signbit(a) ? a : b) : a < b ? a : b;
}
template <class T>
__noinline__ T largest(T a, T b) {
  if (a != a) return b != b ? canonical_nan<T>() : b;
  if (b != b) return a;
  return a == b ? (signbit(a) ? b : a) : a > b ? a : b;
}

// ---- comparisons; those of floats that end in u are true where an operand is NaN ----------------------------------------

#define PTX_COMPARISON(name, expression) \
  template <class T>                     \
  __forceinline__ bool name(T a, T b) {  \
    return expression;                   \
  }
PTX_COMPARISON(eq, a == b)
PTX_COMPARISON(ne, a < b || a > b)
PTX_COMPARISON(lt, a < b)
PTX_COMPARISON(le, a <= b)
PTX_COMPARISON(gt, a > b)
PTX_COMPARISON(ge, a >= b)
PTX_COMPARISON(equ, !(a < b || a > b))
PTX_COMPARISON(neu, a != b)
PTX_COMPARISON(ltu, !(a >= b))
PTX_COMPARISON(leu, !(a > b))
PTX_COMPARISON(gtu, !(a <= b))
PTX_COMPARISON(geu, !(a < b))
#undef PTX_COMPARISON

// ---- threads together -----------------------------------------------------------------------------------------------

struct Shuffled {
  u32 first;    // the value
  bool second;  // whether its lane is within the segment; else the value is the lane's own
};

// c has the last lane of a segment in bits 0 to 4 and the bits of a lane that name its segment in bits 8 to 12.
#define PTX_SHUFFLE(name, source, inside)                                                                   \
  inline Shuffled shuffle_##name(u32 a, u32 b, u32 c, u32 lanes, CUEMU_HERE) {                              \
    const int lane = cuemu::cuemu_lane(), operand = int(b & 31), segment = int(c >> 8 & 31);               \
    const int last = (lane & segment) | (int(c & 31) & ~segment), first = lane & segment;                   \
    const int from = source;                                                                                \
    const bool within = inside;                                                                             \
    (void)first;                                                                                            \
    (void)last;                                                                                             \
    return {cuemu::shuffle<u32>(lanes, a, within ? from : lane, 32, cuemu::kShuffleIndex, file, line), within}; \
  }
PTX_SHUFFLE(up, lane - operand, from >= last)
PTX_SHUFFLE(down, lane + operand, from <= last)
PTX_SHUFFLE(bfly, lane ^ operand, from <= last)
PTX_SHUFFLE(idx, first | (operand & ~segment), from <= last)
#undef PTX_SHUFFLE

template <int K>
Vector<f32, 4> mma(const Vector<b32, K / 4>& a, const Vector<b32, K / 8>& b, const Vector<f32, 4>& c, CUEMU_HERE) {
  Vector<f32, 4> sums;
  cuemu::mma<cuemu::F16, K>(sums.at, a.at, b.at, c.at, file, line);
  return sums;
}

template <int M, int K>
Vector<s32, M / 4> byte_mma(const Vector<b32, M * K / 128>& a, const Vector<b32, K / 16>& b, const Vector<s32, M / 4>& c,
                            CUEMU_HERE) {
  Vector<s32, M / 4> sums;
  cuemu::byte_mma<M, K>(sums.at, a.at, b.at, c.at, file, line);
  return sums;
}

}  // namespace ptx

// The memory that the module declares, and how instructions reach it and the launch's.
#define PTX_SHARED(BYTES)                                                               \
  __shared__ __align__(16) unsigned char declared_shared[BYTES];                        \
  template <class T>                                                                    \
  static __forceinline__ T* shared_at(ptx::u32 address, CUEMU_HERE) {                   \
    return reinterpret_cast<T*>(                                                        \
        ptx::shared_byte(declared_shared, sizeof declared_shared, address, sizeof(T), file, line)); \
  }
