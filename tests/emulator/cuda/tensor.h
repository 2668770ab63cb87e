// mma.sync, ldmatrix and cp.async: what a kernel's PTX wrapper calls where `__CUDA_HOST_EMU__` is defined.
//
// Fragment layouts are those of the PTX ISA.  Sums have the bits of the launch's tensor cores (module.py: TENSOR_CORES).
#pragma once

#include "half.h"
#include "interface.h"

namespace cuemu {

// What is not watched here reads the lanes' own registers only.
#define CUEMU_UNWATCHED __attribute__((no_sanitize("thread", "undefined")))

enum Operand { TF32, BF16, F16 };

// Element `part` of one fragment register.  The hardware does not read a TF32 operand's low 13 bits.
CUEMU_UNWATCHED inline float operand_value(int type, u32 word, int part) {
  if (type == TF32) return bits<float>(word & 0xffffe000u);
  const u16 element = u16(word >> 16 * part);
  return type == BF16 ? bfloat16_to_float(element) : half_to_float(element);
}

// Exponents are those of the operands: a product of mantissas that reaches 2 does not raise its exponent.
constexpr int kNoExponent = -10000, kLowestExponent = -133;

CUEMU_UNWATCHED inline int exponent_of(double value) { return value == 0.0 ? kNoExponent : ilogb(value); }

CUEMU_UNWATCHED inline double cut_to_float(double value) {
  const float near = float(value);
  return fabs(double(near)) > fabs(value) ? nextafterf(near, 0.0f) : near;
}

// sum + a.b as tensor cores add (F. A. Khattak and M. Mikaitis, "Accurate Models of NVIDIA Tensor Cores", 2025): so many
// products at once; each addend is cut, not rounded, to 23 + guard bits below the largest exponent; their exact sum is
// cut to float.  Infinities and NaN go the way of real arithmetic.
template <int TYPE, int K>
CUEMU_UNWATCHED float tensor_sum(float start, const float* a, const int* a_exponent, const float (*b)[8], const int (*b_exponent)[8],
                 int column) {
  const TensorCores cores = cuemu_tensor_cores();
  const int block = TYPE == TF32 ? cores.products / 2 : cores.products, bits = 23 + cores.guard_bits;
  double product[K], plain = start, sum = start;
  for (int k = 0; k < K; ++k) plain += product[k] = double(a[k]) * double(b[k][column]);
  if (!isfinite(plain)) return float(plain);
  for (int first = 0; first < K; first += block) {
    const int end = first + block < K ? first + block : K;
    int largest = exponent_of(sum) > kLowestExponent ? exponent_of(sum) : kLowestExponent;
    for (int k = first; k < end; ++k) {
      const int exponent = a_exponent[k] + b_exponent[k][column];
      if (exponent > largest) largest = exponent;
    }
    const double scale = ldexp(1.0, bits - largest);
    int64_t units = int64_t(sum * scale);
    for (int k = first; k < end; ++k) units += int64_t(product[k] * scale);
    sum = cut_to_float(double(units) * ldexp(1.0, largest - bits));
  }
  return float(sum);
}

struct MmaIn {
  const u32 *a, *b;
  const float* c;
};

// m16n8kK, row.col, float accumulators.  Lane 4*group + member holds rows group and group+8 of A, column group of B.
template <int TYPE, int K>
CUEMU_UNWATCHED void mma_combine(Slot* slot, u32, int) {
  constexpr int packed = TYPE == TF32 ? 1 : 2;   // elements in a register
  constexpr int step = 4 * packed;               // k's covered by one register across a group
  float A[16][K], B[K][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, member = lane & 3;
    const auto* in = static_cast<const MmaIn*>(slot[lane].in);
    for (int block = 0; block < K / step; ++block) {
      for (int part = 0; part < packed; ++part) {
        const int k = block * step + member * packed + part;
        A[group][k] = operand_value(TYPE, in->a[2 * block], part);
        A[group + 8][k] = operand_value(TYPE, in->a[2 * block + 1], part);
        B[k][group] = operand_value(TYPE, in->b[block], part);
      }
    }
  }
  int a_exponent[16][K], b_exponent[K][8];
  for (int k = 0; k < K; ++k) {
    for (int row = 0; row < 16; ++row) a_exponent[row][k] = exponent_of(A[row][k]);
    for (int column = 0; column < 8; ++column) b_exponent[k][column] = exponent_of(B[k][column]);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, member = lane & 3;
    const float* c = static_cast<const MmaIn*>(slot[lane].in)->c;
    float* d = static_cast<float*>(slot[lane].out);
    for (int i = 0; i < 4; ++i) {
      const int row = group + 8 * (i >> 1), column = 2 * member + (i & 1);
      d[i] = tensor_sum<TYPE, K>(c[i], A[row], a_exponent[row], B, b_exponent, column);
    }
  }
}

// a: the registers as PTX orders them (4 for tf32 k8 and 16-bit k16, 2 for 16-bit k8); b: half as many.
template <int TYPE, int K>
void mma(float (&d)[4], const u32* a, const u32* b, const float (&c)[4], CUEMU_HERE) {
  MmaIn in{a, b, c};
  float out[4];
  cuemu_collective(kFullMask, (const void*)&mma_combine<TYPE, K>, &mma_combine<TYPE, K>, kAligned, &in, out, file,
                   line);
  for (int i = 0; i < 4; ++i) d[i] = out[i];
}

// ---- whole numbers: products are exact, sums wrap ---------------------------------------------------------------------

struct ByteMmaIn {
  const u32 *a, *b;
  const int* c;
};

// mMn8kK, row.col, A of s8, B of u8, sums of s32.  A register has four neighbours along k of row group, or group + 8 (every
// second one where M is 16), or of column group; the registers of 16 along k follow one another.
template <int M, int K>
CUEMU_UNWATCHED void byte_mma_combine(Slot* slot, u32, int) {
  constexpr int halves = M / 8;
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, member = lane & 3;
    const int* c = static_cast<const ByteMmaIn*>(slot[lane].in)->c;
    int* d = static_cast<int*>(slot[lane].out);
    for (int i = 0; i < 2 * halves; ++i) {
      const int half = i >> 1, column = 2 * member + (i & 1);
      u32 sum = u32(c[i]);
      for (int block = 0; block < K / 16; ++block) {
        for (int along = 0; along < 4; ++along) {
          const u32 a = static_cast<const ByteMmaIn*>(slot[4 * group + along].in)->a[block * halves + half];
          const u32 b = static_cast<const ByteMmaIn*>(slot[4 * column + along].in)->b[block];
          for (int shift = 0; shift < 32; shift += 8)
            sum += u32(int(static_cast<signed char>(a >> shift)) * int(static_cast<unsigned char>(b >> shift)));
        }
      }
      d[i] = int(sum);
    }
  }
}

template <int M, int K>
void byte_mma(int* d, const u32* a, const u32* b, const int* c, CUEMU_HERE) {
  ByteMmaIn in{a, b, c};
  int out[M / 4];
  cuemu_collective(kFullMask, (const void*)&byte_mma_combine<M, K>, &byte_mma_combine<M, K>, kAligned, &in, out, file, line);
  for (int i = 0; i < M / 4; ++i) d[i] = out[i];
}

// ldmatrix .xN .b16 [.trans]: lane 8*i+r gives the address of row r (16 bytes) of matrix i.
template <int N, bool TRANSPOSED>
void ldmatrix_combine(Slot* slot, u32, int) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < N; ++matrix) {
      u32 word = 0;
      for (int part = 0; part < 2; ++part) {
        const int along = 2 * (lane & 3) + part, across = lane >> 2;
        const int row = TRANSPOSED ? along : across, column = TRANSPOSED ? across : along;
        const auto* address = *static_cast<const unsigned char* const*>(slot[8 * matrix + row].in);
        u16 element;
        memcpy(&element, address + 2 * column, 2);
        word |= u32(element) << 16 * part;
      }
      static_cast<u32*>(slot[lane].out)[matrix] = word;
    }
  }
}

template <int N, bool TRANSPOSED>
void ldmatrix(u32* d, const void* row, CUEMU_HERE) {
  if (cuemu_lane() < 8 * N) {
    if (reinterpret_cast<uintptr_t>(row) & 15) cuemu_fail("ldmatrix: row address is not 16-byte aligned", file, line);
    u64 seen[2];
    memcpy(seen, row, 16);  // a read of the whole row by this lane, for the detector
    asm volatile("" : : "m"(seen));
  }
  u32 out[N];
  cuemu_collective(kFullMask, (const void*)&ldmatrix_combine<N, TRANSPOSED>, &ldmatrix_combine<N, TRANSPOSED>,
                   kAligned, &row, out, file, line);
  for (int i = 0; i < N; ++i) d[i] = out[i];
}

// Copies `valid` bytes to shared memory and zeroes the rest up to `bytes` (4, 8 or 16), as late as the waits allow.
inline void cp_async(void* shared, const void* global, int bytes, int valid, CUEMU_HERE) {
  cuemu_cp_async(shared, global, bytes, valid, file, line);
}
inline void cp_async_commit() { cuemu_cp_async_commit(); }
inline void cp_async_wait(int groups_left_in_flight) { cuemu_cp_async_wait(groups_left_in_flight); }

}  // namespace cuemu
