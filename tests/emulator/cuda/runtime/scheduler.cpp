// Fibers: who runs next, barriers, warp collectives and asynchronous copies.
//
// A fiber runs until it waits.  The order in which waiting fibers go on is forward, reverse, or random by a seed:
// a kernel whose result depends on it is wrong.
#include <sys/mman.h>

#include <algorithm>

#include "context.h"
#include "state.h"

namespace cuemu {

std::vector<Fiber> fibers;
std::vector<Warp> warps;
Fiber* current;

namespace {

// Not a power of two: the tops of the stacks, which all fibers touch, would share a few sets of every cache.
constexpr size_t kStackBytes = (128 << 10) + 4096 + 5 * 64;

std::vector<int> ready;   // indices of fibers that may go on, in order from `next`
size_t next;
int n_live;               // fibers of the block that have not returned
void* main_stack_pointer;
char* stacks;
size_t stack_count;
size_t stacks_in_use;     // by fibers of the block

struct Barrier {
  int arrived;
  const char* file;
  int line;
} barrier;

int votes[3];             // being collected, by Vote
int vote_results[3];      // of the last barrier

void wake(int index) { ready.push_back(index); }

void fiber_main();

void become(Fiber* fiber) {
  current = fiber;
  threadIdx = fiber->thread;
}

void enter(Fiber* to) {
  Fiber* from = current;
  if (!to->stack_pointer) to->stack_pointer = new_context(stacks + ++stacks_in_use * kStackBytes, fiber_main);
  become(to);
  ++statistics.switches;
  cuemu_switch(from ? &from->stack_pointer : &main_stack_pointer, to->stack_pointer);
}

void note_deadlock() {
  std::string message = "no thread can go on:";
  int shown = 0;
  for (const Fiber& fiber : fibers) {
    if (fiber.state == State::Done) continue;
    if (++shown > 4) {
      message += " and more;";
      break;
    }
    message += " " + describe(fiber);
    message += fiber.state == State::AtBarrier ? " waits at the barrier of line " : " waits in the collective of line ";
    message += std::to_string(fiber.line) + ";";
  }
  current = nullptr;
  note(message, nullptr, 0);
}

// The fiber whose turn it is.
Fiber* take_next() {
  if (next == ready.size()) {
    if (n_live) note_deadlock();
    abandon();
  }
  if (order() == Order::Random) {
    std::swap(ready[next], ready[next + random_number() % (ready.size() - next)]);
  }
  const int index = ready[next++];
  if (next > 4096 && next * 2 > ready.size()) {
    ready.erase(ready.begin(), ready.begin() + next);
    next = 0;
  }
  fibers[index].state = State::Ready;
  return &fibers[index];
}

// Leaves the current fiber for the next one; it comes back here once it is woken and its turn comes.
void wait() {
  Fiber* const to = take_next();
  if (to != current) enter(to);
}

void release_barrier() {
  ++statistics.barriers;
  ++epoch;
  for (int vote = 0; vote < 3; ++vote) {
    vote_results[vote] = votes[vote];
    votes[vote] = vote == kVoteAnd;
  }
  barrier = Barrier{};
  for (int i = 0; i < n_threads; ++i) {
    const int index = order() == Order::Reverse ? n_threads - 1 - i : i;
    if (fibers[index].state == State::AtBarrier) wake(index);
  }
}

// A thread that has not begun gets the stack of one that is done: threads that never wait need no switch.
void fiber_main() {
  for (;;) {
    thread_main();
    current->state = State::Done;
    --n_live;
    if (barrier.arrived && barrier.arrived >= n_live) release_barrier();  // barriers do not wait for exited threads
    Fiber* const to = take_next();
    if (to->stack_pointer) enter(to);
    become(to);
  }
}

}  // namespace

char* fiber_stacks() { return stacks; }
size_t fiber_stacks_size() { return stack_count * kStackBytes; }

// Stacks stay for the next launch: a page is only touched once a fiber gets that deep.
void reserve_stacks() {
  if (stack_count >= size_t(n_threads)) return;
  if (stacks) munmap(stacks, stack_count * kStackBytes);
  stack_count = n_threads;
  stacks = static_cast<char*>(mmap(nullptr, stack_count * kStackBytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

void start_block() {
  fibers.resize(n_threads);
  warps.assign((n_threads + 31) / 32, Warp{});
  ready.clear();
  next = 0;
  stacks_in_use = 0;
  n_live = n_threads;
  barrier = Barrier{};
  votes[kVoteCount] = votes[kVoteOr] = 0;
  votes[kVoteAnd] = 1;
  const unsigned width = blockDim.x, height = blockDim.y;
  for (int i = 0; i < n_threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber = Fiber{};
    fiber.index = i;
    fiber.thread = uint3{i % width, i / width % height, i / width / height};
    warps[i / 32].valid |= 1u << i % 32;
    wake(order() == Order::Reverse ? n_threads - 1 - i : i);
  }
}

void run_block() {
  current = nullptr;
  running = true;
  wait();
  running = false;
  current = nullptr;
}

void abandon() {
  running = false;
  void* unused;
  cuemu_switch(&unused, main_stack_pointer);
  __builtin_unreachable();
}

// Called on a fiber whose kernel function has returned.
void thread_done() {
  Warp& warp = warps[current->index / 32];
  const u32 lane_bit = 1u << current->index % 32;
  warp.exited |= lane_bit;
  if (!current->copies.empty()) {
    cuemu_fail("thread exits with cp.async copies it never waited for", nullptr, 0);
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (!(warp.pending >> lane & 1)) continue;
    const Fiber& waiting = fibers[(current->index & ~31) + lane];
    if (waiting.mask & lane_bit) {
      cuemu_fail("thread exits while a warp collective waits for it", waiting.file, waiting.line);
    }
  }
}

// ---- what kernels call ----------------------------------------------------------------------------------

extern "C" void cuemu_fail(const char* what, const char* file, int line) {
  note(what, file, line);
  abandon();
}

extern "C" void cuemu_syncthreads(const char* file, int line) {
  if (barrier.arrived && barrier.line != line) {
    const std::string other = std::to_string(barrier.line);
    cuemu_fail(("divergent barrier: other threads of the block wait at line " + other).c_str(), file, line);
  }
  current->state = State::AtBarrier;
  current->file = barrier.file = file;
  current->line = barrier.line = line;
  if (++barrier.arrived >= n_live) release_barrier();
  wait();
}

extern "C" int cuemu_syncthreads_vote(int predicate, int vote, const char* file, int line) {
  const int mine = predicate != 0;
  if (vote == kVoteCount) votes[vote] += mine;
  if (vote == kVoteAnd) votes[vote] &= mine;
  if (vote == kVoteOr) votes[vote] |= mine;
  cuemu_syncthreads(file, line);
  return vote_results[vote];
}

extern "C" void cuemu_yield() {
  wake(current->index);
  wait();
}

extern "C" int cuemu_lane() { return current->index & 31; }

extern "C" u32 cuemu_active_mask() {
  const Warp& warp = warps[current->index / 32];
  return warp.valid & ~warp.exited;
}

namespace {

// All lanes of the mask are here: compute, and let them go.
void complete_collective(int base, u32 mask, Combine combine) {
  Warp& warp = warps[base / 32];
  ++statistics.collectives;
  if (combine) combine(warp.slot, mask, current->arg & ~kAligned);
  warp.pending &= ~mask;
  const bool orders_memory = !combine && mask == (warp.valid & ~warp.exited);
  for (int i = 0; i < 32; ++i) {
    const int lane = order() == Order::Reverse ? 31 - i : i;
    if (!(mask >> lane & 1)) continue;
    Fiber& fiber = fibers[base + lane];
    if (orders_memory) ++fiber.syncwarps;
    if (&fiber != current) wake(fiber.index);
  }
  current->state = State::Ready;
  if (order() == Order::Random && random_number() % 2) cuemu_yield();
}

}  // namespace

extern "C" void cuemu_collective(u32 mask, const void* tag, Combine combine, int arg, const void* in, void* out,
                                 const char* file, int line) {
  const int lane = current->index & 31, base = current->index & ~31;
  Warp& warp = warps[base / 32];
  if (!(mask >> lane & 1)) cuemu_fail("warp collective: the calling lane is not in its own mask", file, line);
  if (mask & warp.exited) cuemu_fail("warp collective: the mask names a lane that has exited", file, line);
  if (mask & ~warp.valid) cuemu_fail("warp collective: the mask names lanes that the block does not have", file, line);
  current->mask = mask;
  current->tag = tag;
  current->arg = arg;
  current->file = file;
  current->line = line;
  current->state = State::AtCollective;
  warp.slot[lane] = {in, out};
  warp.pending |= 1u << lane;
  if ((warp.pending & mask) != mask) return wait();
  for (int other = 0; other < 32; ++other) {
    if (!(mask >> other & 1)) continue;
    const Fiber& fiber = fibers[base + other];
    if (fiber.mask != mask || fiber.tag != tag || fiber.arg != arg) {
      cuemu_fail("warp collective: the lanes of the mask disagree on the operation or the mask", file, line);
    }
    if ((arg & kAligned) && fiber.line != line) {
      cuemu_fail(".aligned warp instruction met at different lines", file, line);
    }
  }
  complete_collective(base, mask, combine);
}

// cp.async lands as late as the program allows, at the wait; until then the destination is NaN.
extern "C" void cuemu_cp_async(void* shared, const void* global, int bytes, int valid, const char* file, int line) {
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global)) & (bytes - 1)) {
    cuemu_fail("cp.async: misaligned address", file, line);
  }
  memset(shared, 0xff, bytes);
  const void* pc = __builtin_return_address(0);
  watch(reinterpret_cast<uintptr_t>(shared), bytes, Access::Write, pc);
  current->copies.push_back({shared, global, bytes, valid, current->copy_group, pc});
}

extern "C" void cuemu_cp_async_commit() { ++current->copy_group; }

extern "C" void cuemu_cp_async_wait(int groups_left_in_flight) {
  std::vector<AsyncCopy>& copies = current->copies;
  size_t landed = 0;
  for (; landed < copies.size(); ++landed) {
    const AsyncCopy& copy = copies[landed];
    if (copy.group >= current->copy_group - groups_left_in_flight) break;
    memcpy(copy.to, copy.from, copy.valid);
    memset(static_cast<char*>(copy.to) + copy.valid, 0, copy.bytes - copy.valid);
    watch(reinterpret_cast<uintptr_t>(copy.to), copy.bytes, Access::Write, copy.pc);
    if (copy.valid) watch(reinterpret_cast<uintptr_t>(copy.from), copy.valid, Access::Read, copy.pc);
  }
  copies.erase(copies.begin(), copies.begin() + landed);
}

}  // namespace cuemu
