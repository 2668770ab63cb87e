// mma.sync, ldmatrix and cp.async: what a kernel's PTX wrapper calls where `__CUDA_HOST_EMU__` is defined.
//
// Fragment layouts are those of the PTX ISA.  Products are summed in double and rounded once: real tensor cores
// round (and truncate) differently inside, so a kernel must allow for its own accumulation bound, not for this one's.
#pragma once

#include "half.h"
#include "interface.h"

namespace cuemu {

enum Operand { TF32, BF16, F16 };

// Element `part` of one fragment register.  The hardware does not read a TF32 operand's low 13 bits.
inline float operand_value(int type, u32 word, int part) {
  if (type == TF32) return bits<float>(word & 0xffffe000u);
  const u16 element = u16(word >> 16 * part);
  return type == BF16 ? bfloat16_to_float(element) : half_to_float(element);
}

struct MmaIn {
  const u32 *a, *b;
  const float* c;
};

// m16n8kK, row.col, float accumulators.  Lane 4*group + member holds rows group and group+8 of A, column group of B.
template <int TYPE, int K>
void mma_combine(Slot* slot, u32, int) {
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
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, member = lane & 3;
    const float* c = static_cast<const MmaIn*>(slot[lane].in)->c;
    float* d = static_cast<float*>(slot[lane].out);
    for (int i = 0; i < 4; ++i) {
      const int row = group + 8 * (i >> 1), column = 2 * member + (i & 1);
      double sum = c[i];
      for (int k = 0; k < K; ++k) sum += double(A[row][k]) * double(B[k][column]);
      d[i] = float(sum);
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
