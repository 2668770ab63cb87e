// The calls between the kernel side and the run time.  Everything here is extern "C": the two sides are separate
// shared objects.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace cuemu {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;

// The caller's file and line, as default arguments: error messages name the kernel's line, not this folder's.
#define CUEMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

constexpr u32 kFullMask = 0xffffffffu;

// One lane's operands in a warp collective.
struct Slot {
  const void* in;
  void* out;
};

// Computes every lane's result at once, when the last lane of the mask has arrived.
using Combine = void (*)(Slot* lane, u32 mask, int arg);

// How a collective treats lanes that the block does not have, and whether all lanes must come from one line.
constexpr int kAligned = 1 << 30;  // added to arg: .aligned PTX (mma, ldmatrix) needs the whole warp at one line

// How this launch's tensor cores add: products at once (half as many of tf32), and bits kept below float's last.
struct TensorCores {
  int products, guard_bits;
};

enum Vote { kVoteCount, kVoteAnd, kVoteOr };

#pragma GCC visibility push(default)
extern "C" {
#ifndef CUEMU_RUNTIME
extern unsigned char* const dynamic_shared;
#endif
// Stops the launch with a message.
void cuemu_fail(const char* what, const char* file, int line);
void cuemu_syncthreads(const char* file, int line);
int cuemu_syncthreads_vote(int predicate, int vote, const char* file, int line);
// Waits until all lanes of mask have called with the same tag and arg; combine may be null (a bare barrier).
void cuemu_collective(u32 mask, const void* tag, Combine combine, int arg, const void* in, void* out,
                      const char* file, int line);
void cuemu_yield();
int cuemu_lane();
TensorCores cuemu_tensor_cores();
u32 cuemu_active_mask();
// Detector bookkeeping: an atomic access; a memory fence.
void cuemu_atomic(const void* address, unsigned size, const void* pc);
void cuemu_fence();
void cuemu_cp_async(void* shared, const void* global, int bytes, int valid_bytes, const char* file, int line);
void cuemu_cp_async_commit();
void cuemu_cp_async_wait(int groups_left_in_flight);
}
#pragma GCC visibility pop

}  // namespace cuemu
