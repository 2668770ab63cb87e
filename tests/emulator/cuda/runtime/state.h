// The run time's data: fibers, warps, the options of a launch, and what the parts call in each other.
//
// A thread block is a set of fibers on one OS thread.  Blocks run one after another.
#pragma once

#define CUEMU_RUNTIME  // for the shared headers: which side includes them
#include <string>
#include <unordered_map>
#include <vector>

#include "../vocabulary.h"

#include "../interface.h"

#pragma GCC visibility push(default)  // all else is hidden: calls within the run time are direct, or inlined
extern "C" {
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
}
#pragma GCC visibility pop

namespace cuemu {

enum class Order : int { Forward, Reverse, Random };
enum class State : u8 { Ready, AtBarrier, AtCollective, Done };

// Passed from Python (module.py keeps the same fields in the same order).
struct Options {
  int order;              // Order
  u32 seed;
  int watch;              // feed the detector (the kernel must be compiled for it)
  int flush_subnormals;   // as -ftz=true does for float; here for double too
  u32 shared_limit;       // bytes of static and dynamic shared memory that a block may have
  TensorCores tensor_cores;
};

struct AsyncCopy {
  void* to;
  const void* from;
  int bytes, valid, group;
  const void* pc;
};

struct Fiber {
  void* stack_pointer;    // null: has not begun
  uint3 thread;
  int index;              // linear thread index in the block
  State state;
  const char* file;       // where it waits
  int line;
  u32 mask;               // of the collective it waits in
  const void* tag;
  int arg;
  u32 syncwarps;          // full-warp __syncwarp()s passed: orders memory inside the warp
  bool fenced;            // a __threadfence() since its last plain store to global memory
  int copy_group;
  std::vector<AsyncCopy> copies;
};

struct Warp {
  Slot slot[32];
  u32 pending, exited, valid;
};

struct Statistics {
  u64 switches, collectives, barriers, accesses;
};

// ---- shared by all parts --------------------------------------------------------------------------------

extern Options options;
extern Statistics statistics;
extern std::vector<Fiber> fibers;
extern std::vector<Warp> warps;
extern Fiber* current;      // null outside kernels
extern int n_threads;       // of a block
extern bool running;        // a kernel's code is executing
extern u32 block_number;    // of the running block, never zero
extern u32 epoch;           // barriers passed by the running block

inline Order order() { return Order(options.order); }
u32 random_number();

// Keeps the first message only: later ones follow from it.
void note(const std::string& what, const char* file, int line);
std::string describe(const Fiber& fiber);
[[noreturn]] void abandon();                     // leaves the block; the launch reports what was noted
bool error_noted();

// scheduler.cpp
void start_block();
void run_block();                                // returns when every fiber is done or the block was abandoned
char* fiber_stacks();
size_t fiber_stacks_size();
void reserve_stacks();
void thread_main();                              // launch.cpp: the body of every fiber
void thread_done();

// memory.cpp
struct Buffer {
  char* map;               // the whole mapping, guard pages included
  size_t map_bytes;
  char* data;
  size_t bytes;
};
const Buffer* buffer_near(uintptr_t address);    // the buffer whose mapping holds the address, or null
std::string describe_near(uintptr_t address);    // ", 4 bytes past the end of a 400-byte device buffer" or ""
std::string code_place(uintptr_t pc);            // {object+offset}, which Python turns into file:line

#pragma GCC visibility push(default)
extern "C" {
extern unsigned char* dynamic_shared;
void* cuemu_malloc(size_t bytes);
void cuemu_free(void* data);
// launch.cpp, for Python
const char* cuemu_error();
void cuemu_statistics(Statistics* out);
int cuemu_launch(void (*run)(void** argument), void** argument, const unsigned* grid, const unsigned* block,
                 size_t dynamic, const Options* requested, void (*module_statics)(char**, char**));
}
#pragma GCC visibility pop

// detector.cpp
struct StaticRange {
  uintptr_t begin, end;
};
extern StaticRange statics;                      // of the running module
extern size_t dynamic_shared_bytes;
void detector_reset(u32 n_blocks);
void detector_new_block(u32 number);

enum class Access : u8 { Read, Write, VolatileRead, VolatileWrite, Atomic };
void watch(uintptr_t address, size_t bytes, Access access, const void* pc);

}  // namespace cuemu
