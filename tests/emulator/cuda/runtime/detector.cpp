// The race detector: remembers who touched each word last, and asks whether a barrier lies in between.
//
// Two accesses of the same bytes, one of them a write and not both atomic (or volatile), by two threads:
//   in one block   are ordered by a __syncthreads(), or, inside a warp, by a full __syncwarp();
//   across blocks  are ordered by release and acquire only: the first block executes __threadfence() and then an
//                  atomic, the second block an atomic on the same address.  (The "last block finishes" pattern.)
// Everything else is reported, whether or not this run's order made it visible.  Also: reads of shared memory that
// the block has not written, and accesses beside a device buffer that its guard pages are too coarse to catch.
#include <unordered_map>

#include "state.h"

namespace cuemu {

u32 block_number;
u32 epoch;
StaticRange statics;
size_t dynamic_shared_bytes;

namespace {

// One remembered access.  Blocks are numbered on from launch to launch, so that traces of earlier launches are known
// by their block, and memory need not be cleared.  pc is relative to the module's statics: half the space, and one module runs at a time.
struct Trace {
  u32 block, epoch, syncwarps;
  int32_t pc;
  uint16_t thread;
  u8 bytes : 4;    // of the four, as bits
  u8 latest : 4;   // those of them since the warp was last synchronised
  u8 relaxed;      // atomic or volatile
};

u32 launch_begins, launch_ends;  // a launch's blocks are numbered launch_begins + 1 to launch_ends

// Per four bytes.  Two writers (the last, and the last by another thread) and two readers of the running epoch (of
// two warps if there are two) are enough to find one partner for any conflict; `foreign` is a reader of another block.
struct Word {
  Trace writer[2];
  Trace reader[2];
  Trace foreign;
  u32 written_by;  // block
  u8 written;      // bytes the block has written
};

constexpr int kPageShift = 12;  // as kPage in memory.cpp
constexpr size_t kWordsInPage = (size_t(1) << kPageShift) / 4;
constexpr size_t kMostPages = 256;  // kept between launches: a page takes 27 times its 4 KiB

// The words of 4 KiB.  Buffers are mapped in whole pages of that size, so a page is of one buffer or of none.
struct Page {
  const Buffer* buffer;
  Word words[kWordsInPage];
};

std::unordered_map<uintptr_t, Page*> pages;  // by address >> kPageShift
struct Recent {
  uintptr_t key;
  Page* page;
} recent_pages[1024];                        // by the key's last bits: most look-ups end here

// What another block had done when it released: all before that epoch, and what that thread did itself.
struct Release {
  u32 epoch;
  uint16_t thread;
};
using Releases = std::unordered_map<u32, Release>;       // by block
std::unordered_map<uintptr_t, Releases> released;        // by the atomic's address
Releases acquired;                                       // by the running block

__attribute__((noinline)) Page* look_up(uintptr_t key) {
  Page*& page = pages[key];
  if (!page) {
    page = static_cast<Page*>(calloc(1, sizeof(Page)));
    page->buffer = buffer_near(key << kPageShift);
  }
  recent_pages[key % 1024] = {key, page};
  return page;
}

inline Page* page_of(uintptr_t address) {
  const uintptr_t key = address >> kPageShift;
  const Recent& recent_page = recent_pages[key % 1024];
  return key == recent_page.key && recent_page.page ? recent_page.page : look_up(key);
}

bool is_shared(uintptr_t address) {
  return (address >= statics.begin && address < statics.end) ||
         address - reinterpret_cast<uintptr_t>(dynamic_shared) < dynamic_shared_bytes;
}

// pc is a return address: one byte earlier is inside the call.
std::string place_before(uintptr_t pc) { return code_place(pc - 1); }

[[noreturn]] void report(const char* kind, bool shared, const void* pc, const Trace* other) {
  std::string message = std::string(kind) + " on " + (shared ? "shared" : "global") + " memory at ";
  message += place_before(reinterpret_cast<uintptr_t>(pc));
  if (other) {
    const u32 block = other->block - launch_begins - 1;
    message += " against thread " + std::to_string(other->thread) + " of block " + std::to_string(block);
    message += " at " + place_before(statics.begin + other->pc);
  }
  note(message, nullptr, 0);
  abandon();
}

bool same_thread(const Trace& a, const Trace& b) { return a.block == b.block && a.thread == b.thread; }

void add_bytes(Trace& now, const Trace& earlier) {
  now.bytes |= earlier.bytes;
  if (now.syncwarps == earlier.syncwarps) now.latest |= earlier.latest;
}

bool ordered_before_now(const Trace& other, bool shared) {
  if (other.block != block_number) {
    if (shared) return true;  // another block's shared memory is another memory
    const auto release = acquired.find(other.block);
    if (release == acquired.end()) return false;
    return other.epoch < release->second.epoch || other.thread == release->second.thread;
  }
  if (other.thread == current->index || other.epoch < epoch) return true;
  return other.thread / 32 == current->index / 32 && other.syncwarps < current->syncwarps;
}

bool races(const Trace& other, const Trace& now, bool shared) {
  if (other.block <= launch_begins || !(other.bytes & now.bytes) || (other.relaxed && now.relaxed)) return false;
  return !ordered_before_now(other, shared);
}

void remember_write(Word& word, Trace now) {
  if (same_thread(word.writer[0], now)) {
    if (word.writer[0].epoch == now.epoch && word.writer[0].relaxed == now.relaxed) add_bytes(now, word.writer[0]);
  } else {
    word.writer[1] = word.writer[0];
  }
  word.writer[0] = now;
  if (word.written_by != now.block) word.written = 0;
  word.written_by = now.block;
  word.written |= now.bytes;
}

void remember_read(Word& word, Trace now) {
  Trace *first = &word.reader[0], *second = &word.reader[1];
  const auto stale = [&](const Trace& t) { return t.block != now.block || t.epoch != now.epoch; };
  const auto mine = [&](const Trace& t) { return !stale(t) && t.thread == now.thread && t.relaxed == now.relaxed; };
  if (first->block && first->block != now.block) word.foreign = *first;
  if (mine(*first) || stale(*first)) {
    if (mine(*first)) add_bytes(now, *first);
    *first = now;
  } else if (mine(*second) || stale(*second) || second->thread / 32 == first->thread / 32) {
    if (mine(*second)) add_bytes(now, *second);
    *second = now;
  }
}

// Nothing new: the thread has done the same since it last waited for others, and what they did since was asked then.
bool repeats(Trace& last, const Trace& now) {
  if (!same_thread(last, now) || last.epoch != now.epoch || last.syncwarps != now.syncwarps ||
      last.relaxed != now.relaxed || (now.bytes & ~last.latest)) {
    return false;
  }
  last.pc = now.pc;
  return true;
}

void watch_word(Word& word, const Trace& now, Access access, bool shared, const void* pc) {
  const bool reads = access == Access::Read || access == Access::VolatileRead || access == Access::Atomic;
  const bool writes = access == Access::Write || access == Access::VolatileWrite || access == Access::Atomic;
  if (repeats(writes ? word.writer[0] : word.reader[0], now)) return;
  if (shared && reads) {
    const u8 written = word.written_by == block_number ? word.written : 0;
    if (now.bytes & ~written) report("use of uninitialised value", shared, pc, nullptr);
  }
  for (const Trace& writer : word.writer) {
    if (races(writer, now, shared)) {
      report(writes ? "race (write after write)" : "race (read after write)", shared, pc, &writer);
    }
  }
  if (writes) {
    for (const Trace* reader : {&word.reader[0], &word.reader[1], &word.foreign}) {
      if (races(*reader, now, shared)) report("race (write after read)", shared, pc, reader);
    }
    remember_write(word, now);
  } else {
    remember_read(word, now);
  }
}

void release_to(uintptr_t address) {
  Releases& to = released[address];
  for (const auto& earlier : acquired) to.insert(earlier);  // what this block has acquired goes with it
  to[block_number] = {epoch, uint16_t(current->index)};
}

}  // namespace

// Between launches.  Pages stay, for the next launch is mostly of the same buffers; but not many.
void detector_reset(u32 n_blocks) {
  launch_begins = launch_ends;
  if (pages.size() > kMostPages || launch_begins + n_blocks < launch_begins) {
    for (auto& page : pages) free(page.second);
    pages.clear();
    for (Recent& recent_page : recent_pages) recent_page = Recent{};
    launch_begins = 0;
  }
  launch_ends = launch_begins + n_blocks;
  for (auto& page : pages) page.second->buffer = buffer_near(page.first << kPageShift);
  released.clear();
}

void detector_new_block(u32 number) {
  block_number = launch_begins + number + 1;
  epoch = 0;
  acquired.clear();
}

void watch(uintptr_t address, size_t bytes, Access access, const void* pc) {
  if (!running || !options.watch) return;
  if (address - reinterpret_cast<uintptr_t>(fiber_stacks()) < fiber_stacks_size()) return;
  const bool shared = is_shared(address);
  Page* page = page_of(address);
  if (!shared) {
    const Buffer* buffer = page->buffer;
    if (!buffer) return;  // constants and parameters
    const uintptr_t begin = reinterpret_cast<uintptr_t>(buffer->data);
    if (address < begin || address + bytes > begin + buffer->bytes) {
      const uintptr_t wrong = address < begin ? address : address + bytes - 1;
      note("access out of bounds at " + place_before(reinterpret_cast<uintptr_t>(pc)) + describe_near(wrong), nullptr, 0);
      abandon();
    }
    if (access == Access::Write) current->fenced = false;
  }
  ++statistics.accesses;
  Trace now;
  now.block = block_number;
  now.epoch = epoch;
  now.syncwarps = current->syncwarps;
  now.pc = int32_t(reinterpret_cast<uintptr_t>(pc) - statics.begin);
  now.thread = uint16_t(current->index);
  now.relaxed = access != Access::Read && access != Access::Write;
  const uintptr_t end = address + bytes;
  while (address < end) {
    const uintptr_t word_begin = address & ~uintptr_t(3);
    const unsigned from = address - word_begin, to = end - word_begin < 4 ? end - word_begin : 4;
    now.bytes = now.latest = (0xf << from) & (0xf >> (4 - to));
    watch_word(page->words[word_begin / 4 % kWordsInPage], now, access, shared, pc);
    address = word_begin + 4;
    if (address < end && address % (1 << kPageShift) == 0) page = page_of(address);
  }
}

extern "C" void cuemu_fence() { current->fenced = true; }

extern "C" void cuemu_atomic(const void* pointer, unsigned size, const void* pc) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (address & (size - 1)) {
    note("misaligned atomic at " + place_before(reinterpret_cast<uintptr_t>(pc)), nullptr, 0);
    abandon();
  }
  if (!options.watch) return;
  watch(address, size, Access::Atomic, pc);
  const auto earlier = released.find(address);
  if (earlier != released.end()) {
    for (const auto& release : earlier->second) {
      if (release.first != block_number) acquired[release.first] = release.second;
    }
  }
  if (current->fenced && !is_shared(address)) release_to(address);
  if (order() == Order::Random && random_number() % 16 == 0) cuemu_yield();
}

}  // namespace cuemu
