/* ptx.cuh -- the only inline PTX: conversions, tensor cores, asynchronous copies.
 *
 * CuPy compiles with -ftz=true, under which an ordinary conversion between float and double flushes subnormal floats to
 * zero.  The two below keep them: results that promise bits must not lose 1e-40.  The emulator's versions keep them as
 * well where it flushes on purpose.
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

// ---- half precision: an IEEE half (binary16) is its 16 bits; subnormal halves are kept in both directions ----------

static __device__ __forceinline__ float half_to_float(unsigned short bits) {
#ifdef __CUDA_HOST_EMU__
  return cuemu::half_to_float(bits);
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#endif
}

static __device__ __forceinline__ unsigned short float_to_half(float value) {
#ifdef __CUDA_HOST_EMU__
  return cuemu::float_to_half(value);
#else
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#endif
}

// Two halves in a register, `low` in the low bits: the order of neighbours in memory.
static __device__ __forceinline__ unsigned float_to_half2(float low, float high) {
#if !defined(__CUDA_HOST_EMU__) && __CUDA_ARCH__ >= 800
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return unsigned(float_to_half(low)) | unsigned(float_to_half(high)) << 16;
#endif
}

// a - b of both halves of a register, each rounded once.
static __device__ __forceinline__ unsigned subtract_half2(unsigned a, unsigned b) {
#ifdef __CUDA_HOST_EMU__
  return cuemu::subtract_halves(a, b);
#else
  unsigned difference;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(difference) : "r"(a), "r"(b));
  return difference;
#endif
}

// ---- tensor cores -------------------------------------------------------------------------------------------------

/* sum += A B of one warp: A is 16 x 16 halves, B 16 x 8, sums 16 x 8 floats (mma.sync, row.col).  Lane l = 4 g + t holds
 *
 *   row_g   = A[g, 2t], A[g, 2t+1]       and A[g, 2t+8], A[g, 2t+9]           two registers
 *   row_g8  = the same of row g + 8
 *   column  = B[2t, g], B[2t+1, g]       and B[2t+8, g], B[2t+9, g]
 *   sum     = sums[g, 2t], [g, 2t+1], [g+8, 2t], [g+8, 2t+1]
 *
 * A and B may permute the 16 products alike: lane t can take any four columns, if all lanes with that t do.
 * Accuracy: certificates/halves.py: TENSOR_UNIT. */
static __device__ __forceinline__ void tensor_product(float (&sum)[4], const unsigned (&row_g)[2],
                                                      const unsigned (&row_g8)[2], const unsigned (&column)[2]) {
#if defined(__CUDA_HOST_EMU__)
  const unsigned a[4] = {row_g[0], row_g8[0], row_g[1], row_g8[1]};
  cuemu::mma<cuemu::F16, 16>(sum, a, column, sum);
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(row_g[0]), "r"(row_g8[0]), "r"(row_g[1]), "r"(row_g8[1]), "r"(column[0]), "r"(column[1]));
#else
#pragma unroll
  for (int half = 0; half < 2; ++half)
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(row_g[half]), "r"(row_g8[half]), "r"(column[half]));
#endif
}

/* The same in whole numbers, which wrap: A is 16 x 32 signed bytes, B 32 x 8 unsigned ones.  Lane l = 4 g + t holds, four
 * neighbours in a register,
 *
 *   a       = A[g, 4t ...], A[g+8, 4t ...], A[g, 4t+16 ...], A[g+8, 4t+16 ...]
 *   b0, b1  = B[4t ..., g], B[4t+16 ..., g]
 *   sum     as above */
static __device__ __forceinline__ void byte_product(int (&sum)[4], const uint4& a, unsigned b0, unsigned b1) {
#if defined(__CUDA_HOST_EMU__)
  const unsigned rows[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b0, b1};
  cuemu::byte_mma<16, 32>(sum, rows, columns, sum);
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
  const unsigned rows[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b0, b1};
#pragma unroll
  for (int part = 0; part < 4; ++part)
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.u8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+r"(sum[part % 2 * 2]), "+r"(sum[part % 2 * 2 + 1])
        : "r"(rows[part]), "r"(columns[part / 2]));
#endif
}

// ---- copies -------------------------------------------------------------------------------------------------------

// 16 bytes that are read once: they do not drive what is read often out of the first-level cache.
static __device__ __forceinline__ uint4 load_once(const uint4* address) {
#ifdef __CUDA_HOST_EMU__
  return *address;
#else
  uint4 value;
  asm("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
#endif
}

// Prefetch the line of 128 bytes around an address into the second-level cache, without waiting.
static __device__ __forceinline__ void expect_line(const void* address) {
#ifndef __CUDA_HOST_EMU__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// ---- asynchronous copies from global to shared memory, 16 bytes each (before sm_80 they wait) ------------------------

static __device__ __forceinline__ void copy_16_bytes(void* shared, const void* global) {
#if defined(__CUDA_HOST_EMU__)
  cuemu::cp_async(shared, global, 16, 16);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(shared))), "l"(global)
               : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}

static __device__ __forceinline__ void close_copies() {  // those since the last call are one group
#if defined(__CUDA_HOST_EMU__)
  cuemu::cp_async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int IN_FLIGHT>
static __device__ __forceinline__ void await_copies() {  // all groups of this thread but the last IN_FLIGHT have landed
#if defined(__CUDA_HOST_EMU__)
  cuemu::cp_async_wait(IN_FLIGHT);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(IN_FLIGHT) : "memory");
#endif
}
