// Barriers, votes, shuffles and warp reductions.
#pragma once

#include "interface.h"

// ---- block barriers and fences --------------------------------------------------------------------------

inline void __syncthreads(CUEMU_HERE) { cuemu::cuemu_syncthreads(file, line); }

inline int __syncthreads_count(int predicate, CUEMU_HERE) {
  return cuemu::cuemu_syncthreads_vote(predicate, cuemu::kVoteCount, file, line);
}
inline int __syncthreads_and(int predicate, CUEMU_HERE) {
  return cuemu::cuemu_syncthreads_vote(predicate, cuemu::kVoteAnd, file, line);
}
inline int __syncthreads_or(int predicate, CUEMU_HERE) {
  return cuemu::cuemu_syncthreads_vote(predicate, cuemu::kVoteOr, file, line);
}

// Memory is coherent here; only the race detector needs this.
inline void __threadfence() { cuemu::cuemu_fence(); }
inline void __threadfence_system() { cuemu::cuemu_fence(); }
inline void __threadfence_block() {}

inline void __nanosleep(unsigned) { cuemu::cuemu_yield(); }
inline unsigned __activemask() { return cuemu::cuemu_active_mask(); }

// ---- the collectives' arithmetic, on all lanes at once --------------------------------------------------

namespace cuemu {

inline bool in_mask(u32 mask, int lane) { return mask >> lane & 1; }

enum Shuffle { kShuffleIndex, kShuffleUp, kShuffleDown, kShuffleXor };

template <class T>
struct ShuffleIn {
  T value;
  int operand;
};

// The lane that `lane` reads, by the rules of the PTX ISA: segments of `width`, out of range reads oneself.
inline int shuffle_source(int mode, int lane, int operand, int width) {
  const int segment = lane & ~(width - 1);
  int source = lane;
  switch (mode) {
    case kShuffleIndex:
      return segment + (operand & (width - 1));
    case kShuffleUp:
      source = lane - operand;
      return source < segment ? lane : source;
    case kShuffleDown:
      source = lane + operand;
      return source >= segment + width ? lane : source;
    default:
      source = lane ^ operand;
      return source >= segment + width ? lane : source;
  }
}

template <class T>
void shuffle_combine(Slot* slot, u32 mask, int arg) {
  const int mode = arg & 255, width = arg >> 8;
  for (int lane = 0; lane < 32; ++lane) {
    if (!in_mask(mask, lane)) continue;
    const auto* in = static_cast<const ShuffleIn<T>*>(slot[lane].in);
    const int source = shuffle_source(mode, lane, in->operand, width);
    if (!in_mask(mask, source)) {
      cuemu_fail("shuffle reads a lane that is not in the mask", nullptr, 0);
    }
    *static_cast<T*>(slot[lane].out) = static_cast<const ShuffleIn<T>*>(slot[source].in)->value;
  }
}

template <class T>
T shuffle(u32 mask, T value, int operand, int width, int mode, const char* file, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle moves at most 8 plain bytes");
  if (width < 1 || width > 32 || (width & (width - 1))) {
    cuemu_fail("shuffle width must be a power of two from 1 to 32", file, line);
  }
  ShuffleIn<T> in{value, operand};
  T out;
  cuemu_collective(mask, (const void*)&shuffle_combine<T>, &shuffle_combine<T>, mode | width << 8, &in, &out, file,
                   line);
  return out;
}

enum Reduce { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <class T, int OP>
T reduce_two(T a, T b) {
  if constexpr (OP == kAdd) return a + b;
  if constexpr (OP == kMin) return b < a ? b : a;
  if constexpr (OP == kMax) return b > a ? b : a;
  if constexpr (OP == kAnd) return a & b;
  if constexpr (OP == kOr) return a | b;
  if constexpr (OP == kXor) return a ^ b;
}

template <class T, int OP>
void reduce_combine(Slot* slot, u32 mask, int) {
  T total{};
  bool first = true;
  for (int lane = 0; lane < 32; ++lane) {
    if (!in_mask(mask, lane)) continue;
    const T value = *static_cast<const T*>(slot[lane].in);
    total = first ? value : reduce_two<T, OP>(total, value);
    first = false;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (in_mask(mask, lane)) *static_cast<T*>(slot[lane].out) = total;
  }
}

template <class T, int OP>
T reduce(u32 mask, T value, const char* file, int line) {
  T out;
  cuemu_collective(mask, (const void*)&reduce_combine<T, OP>, &reduce_combine<T, OP>, 0, &value, &out, file, line);
  return out;
}

inline u32 ballot(u32 mask, int predicate, const char* file, int line) {
  const u32 mine = predicate ? 1u << cuemu_lane() : 0u;
  return reduce<u32, kOr>(mask, mine, file, line);
}

template <class T>
void match_combine(Slot* slot, u32 mask, int) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!in_mask(mask, lane)) continue;
    u32 same = 0;
    for (int other = 0; other < 32; ++other) {
      if (in_mask(mask, other) && !memcmp(slot[other].in, slot[lane].in, sizeof(T))) same |= 1u << other;
    }
    *static_cast<u32*>(slot[lane].out) = same;
  }
}

}  // namespace cuemu

// ---- CUDA's names ---------------------------------------------------------------------------------------

inline void __syncwarp(unsigned mask = cuemu::kFullMask, CUEMU_HERE) {
  cuemu::cuemu_collective(mask, nullptr, nullptr, 0, nullptr, nullptr, file, line);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, CUEMU_HERE) {
  return cuemu::shuffle(mask, value, lane, width, cuemu::kShuffleIndex, file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUEMU_HERE) {
  return cuemu::shuffle(mask, value, int(delta), width, cuemu::kShuffleUp, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUEMU_HERE) {
  return cuemu::shuffle(mask, value, int(delta), width, cuemu::kShuffleDown, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, CUEMU_HERE) {
  return cuemu::shuffle(mask, value, lanes, width, cuemu::kShuffleXor, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUEMU_HERE) {
  return cuemu::ballot(mask, predicate, file, line);
}
inline int __any_sync(unsigned mask, int predicate, CUEMU_HERE) {
  return cuemu::ballot(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUEMU_HERE) {
  return cuemu::ballot(mask, !predicate, file, line) == 0;
}

#define CUEMU_REDUCE(name, OP, T)                                     \
  inline T __reduce_##name##_sync(unsigned mask, T value, CUEMU_HERE) { \
    return cuemu::reduce<T, cuemu::OP>(mask, value, file, line);      \
  }
CUEMU_REDUCE(add, kAdd, unsigned)
CUEMU_REDUCE(add, kAdd, int)
CUEMU_REDUCE(min, kMin, unsigned)
CUEMU_REDUCE(min, kMin, int)
CUEMU_REDUCE(max, kMax, unsigned)
CUEMU_REDUCE(max, kMax, int)
CUEMU_REDUCE(and, kAnd, unsigned)
CUEMU_REDUCE(or, kOr, unsigned)
CUEMU_REDUCE(xor, kXor, unsigned)

template <class T>
unsigned __match_any_sync(unsigned mask, T value, CUEMU_HERE) {
  unsigned same;
  cuemu::cuemu_collective(mask, (const void*)&cuemu::match_combine<T>, &cuemu::match_combine<T>, 0, &value, &same,
                          file, line);
  return same;
}
