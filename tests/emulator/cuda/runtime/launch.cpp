// A launch: every block of the grid in turn, faults turned into messages.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>

#include "state.h"

extern "C" {
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
}

namespace cuemu {

Options options;
Statistics statistics;
int n_threads;
bool running;
extern "C" {
unsigned char* dynamic_shared;
}

namespace {

using Run = void (*)(void** argument);

constexpr size_t kStaticOverhead = 512;  // what else lies among a module's static variables, at most

Run kernel;
void** kernel_argument;
std::string message;
u64 random_state;

sigjmp_buf fault_return;
int fault_signal;
uintptr_t fault_address, fault_pc;

void on_fault(int signal_number, siginfo_t* info, void* context) {
  if (!running) {  // not ours: let the default action have it
    signal(signal_number, SIG_DFL);
    return;
  }
  fault_signal = signal_number;
  fault_address = reinterpret_cast<uintptr_t>(info->si_addr);
  const auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  fault_pc = uintptr_t(machine.gregs[REG_RIP]);
#else
  fault_pc = uintptr_t(machine.pc);
#endif
  siglongjmp(fault_return, 1);
}

// Puts our handlers in place for the time of a launch, on a stack of their own.
class FaultHandlers {
 public:
  FaultHandlers() {
    stack_t ours{};
    ours.ss_sp = stack_;
    ours.ss_size = sizeof stack_;
    sigaltstack(&ours, &old_stack_);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &old_[i]);
  }
  ~FaultHandlers() {
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &old_[i], nullptr);
    sigaltstack(&old_stack_, nullptr);
  }

 private:
  static constexpr int kSignals[3] = {SIGSEGV, SIGBUS, SIGILL};
  struct sigaction old_[3];
  stack_t old_stack_;
  static char stack_[65536];
};
char FaultHandlers::stack_[65536];

// Flush-to-zero for the time of a launch.  The mode holds for double as well, where the GPU keeps subnormals.
class Subnormals {
 public:
  explicit Subnormals(bool flush) : before_(get()) {
#if defined(__x86_64__)
    if (flush) set(before_ | 0x8040u);  // FTZ and DAZ
#else
    if (flush) set(before_ | 1ull << 24);
#endif
  }
  ~Subnormals() { set(before_); }

 private:
#if defined(__x86_64__)
  using Register = unsigned;
  static Register get() { return __builtin_ia32_stmxcsr(); }
  static void set(Register value) { __builtin_ia32_ldmxcsr(value); }
#else
  using Register = u64;
  static Register get() {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(Register value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#endif
  Register before_;
};

void note_fault() {
  const char* kind = fault_signal == SIGILL ? "illegal instruction at " : "memory fault at ";
  note(kind + code_place(fault_pc) + describe_near(fault_address), nullptr, 0);
}

void run_one_block(u64 number, const unsigned* grid) {
  blockIdx = uint3{unsigned(number % grid[0]), unsigned(number / grid[0] % grid[1]), unsigned(number / grid[0] / grid[1])};
  detector_new_block(u32(number));
  memset(dynamic_shared, 0xff, dynamic_shared_bytes);
  memset(reinterpret_cast<void*>(statics.begin), 0xff, statics.end - statics.begin);
  start_block();
  if (sigsetjmp(fault_return, 1) == 0) {
    run_block();
  } else {
    running = false;
    note_fault();
    current = nullptr;
  }
}

std::vector<u64> block_order(u64 n_blocks) {
  std::vector<u64> numbers(n_blocks);
  for (u64 i = 0; i < n_blocks; ++i) numbers[i] = order() == Order::Reverse ? n_blocks - 1 - i : i;
  if (order() == Order::Random) {
    for (u64 i = n_blocks; i > 1; --i) std::swap(numbers[i - 1], numbers[random_number() % i]);
  }
  return numbers;
}

const char* launch_error(const unsigned* grid, const unsigned* block, size_t dynamic) {
  const u64 threads = u64(block[0]) * block[1] * block[2];
  if (threads < 1 || threads > 1024) return "a block must have 1 to 1024 threads";
  if (block[2] > 64) return "a block's z must be at most 64";
  if (!grid[0] || !grid[1] || !grid[2]) return "every grid dimension must be at least 1";
  if (grid[0] > 2147483647u || grid[1] > 65535 || grid[2] > 65535) return "the grid is at most 2147483647 x 65535 x 65535";
  if (u64(grid[0]) * grid[1] * grid[2] > 1000000) return "the emulator runs at most a million blocks";
  const size_t declared = statics.end - statics.begin;  // a few bytes of it are not the kernel's
  if (dynamic + (declared > kStaticOverhead ? declared - kStaticOverhead : 0) > options.shared_limit) {
    return "more static and dynamic shared memory than a block gets";
  }
  return nullptr;
}

}  // namespace

u32 random_number() {  // xorshift64
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return u32(random_state >> 16);
}

bool error_noted() { return !message.empty(); }

std::string describe(const Fiber& fiber) {
  char text[128];
  snprintf(text, sizeof text, "block (%u,%u,%u) thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z, fiber.thread.x,
           fiber.thread.y, fiber.thread.z);
  return text;
}

void note(const std::string& what, const char* file, int line) {
  if (error_noted()) return;
  if (file) {
    const char* slash = strrchr(file, '/');
    message = std::string(slash ? slash + 1 : file) + ":" + std::to_string(line) + ": ";
  }
  message += what;
  if (current) message += " [" + describe(*current) + "]";
}

void thread_main() {
  kernel(kernel_argument);
  thread_done();
}

extern "C" TensorCores cuemu_tensor_cores() { return options.tensor_cores; }
extern "C" const char* cuemu_error() { return message.c_str(); }
extern "C" void cuemu_statistics(Statistics* out) { *out = statistics; }

// Returns 0, or 1 with a message in cuemu_error().
extern "C" int cuemu_launch(Run run, void** argument, const unsigned* grid, const unsigned* block, size_t dynamic,
                            const Options* requested, void (*module_statics)(char**, char**)) {
  options = *requested;
  statistics = Statistics{};
  message.clear();
  current = nullptr;
  char *begin, *end;
  module_statics(&begin, &end);
  statics = {reinterpret_cast<uintptr_t>(begin), reinterpret_cast<uintptr_t>(end)};
  if (const char* error = launch_error(grid, block, dynamic)) {
    message = error;
    return 1;
  }
  kernel = run;
  kernel_argument = argument;
  gridDim = dim3(grid[0], grid[1], grid[2]);
  blockDim = dim3(block[0], block[1], block[2]);
  n_threads = int(block[0] * block[1] * block[2]);
  random_state = 0x9E3779B97F4A7C15ull * (u64(options.seed) + 1);
  dynamic_shared_bytes = dynamic;
  dynamic_shared = static_cast<unsigned char*>(cuemu_malloc(dynamic));
  reserve_stacks();
  const u64 n_blocks = u64(grid[0]) * grid[1] * grid[2];
  detector_reset(u32(n_blocks));
  {
    const FaultHandlers handlers;
    const Subnormals subnormals(options.flush_subnormals);
    for (const u64 number : block_order(n_blocks)) {
      run_one_block(number, grid);
      if (error_noted()) break;
    }
  }
  cuemu_free(dynamic_shared);
  dynamic_shared = nullptr;
  return error_noted();
}

}  // namespace cuemu
