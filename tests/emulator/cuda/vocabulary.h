// Qualifiers, vector types and built-in variables.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#ifndef CUEMU_RUNTIME
#include "mathematics.h"
#endif

#define __global__ CUEMU_GLOBAL                    // a mark by which build.py finds the kernels, and removes
#define __device__
#define __host__
#define __constant__ static
// One block runs at a time, on one OS thread: a static variable is shared by exactly the threads of the block.
// `extern __shared__ T name[];` becomes a pointer in build.py: the run time owns the bytes, between guard pages.
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...) CUEMU_BOUNDS(__VA_ARGS__)  // the same
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

// Alignments are CUDA's: 16 bytes at most, and none for the 3-vectors beyond the element's own.
#define CUEMU_VECTORS(T, N, ALIGN2, ALIGN4)                                                  \
  struct N##1 { T x; };                                                                      \
  struct alignas(ALIGN2) N##2 { T x, y; };                                                   \
  struct N##3 { T x, y, z; };                                                                \
  struct alignas(ALIGN4) N##4 { T x, y, z, w; };                                             \
  inline N##1 make_##N##1(T x) { return {x}; }                                               \
  inline N##2 make_##N##2(T x, T y) { return {x, y}; }                                       \
  inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }                               \
  inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }

CUEMU_VECTORS(signed char, char, 2, 4)
CUEMU_VECTORS(unsigned char, uchar, 2, 4)
CUEMU_VECTORS(short, short, 4, 8)
CUEMU_VECTORS(unsigned short, ushort, 4, 8)
CUEMU_VECTORS(int, int, 8, 16)
CUEMU_VECTORS(unsigned, uint, 8, 16)
CUEMU_VECTORS(long long, longlong, 16, 16)
CUEMU_VECTORS(unsigned long long, ulonglong, 16, 16)
CUEMU_VECTORS(float, float, 8, 16)
CUEMU_VECTORS(double, double, 16, 16)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

constexpr int warpSize = 32;

#ifndef CUEMU_RUNTIME
// Defined (and changed at every switch) by the run time.  `const` is the truth for any one thread, and lets the
// compiler keep a copy: copies are in registers or on the fiber's own stack.
extern "C" {
extern const uint3 threadIdx, blockIdx;
extern const dim3 blockDim, gridDim;
}
#endif
