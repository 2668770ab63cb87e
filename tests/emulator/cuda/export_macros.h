// What a module's shared object shows to Python.  Included after the preprocessor has run over the kernel (build.py).
#pragma once

#define CUEMU_VISIBLE extern "C" __attribute__((visibility("default")))

// BOUND: threads in a block by the kernel's __launch_bounds__, whose other arguments do not matter here.
#define CUEMU_EXPORT(name, BOUND, ...)                                                              \
  CUEMU_VISIBLE void cuemu_run_##name(void** argument) { ::cuemu::Thunk<(name)>::run(argument); }   \
  CUEMU_VISIBLE const char* cuemu_signature_##name() { return ::cuemu::Thunk<(name)>::signature(); } \
  CUEMU_VISIBLE int cuemu_bound_##name() { return int(BOUND); }

// The names of the kernels; and the module's static variables, where its __shared__ variables are.
#define CUEMU_MODULE(NAMES)                                                       \
  extern "C" {                                                                    \
  extern char __bss_start[] __attribute__((visibility("hidden")));                \
  extern char _end[] __attribute__((visibility("hidden")));                       \
  }                                                                               \
  CUEMU_VISIBLE const char* cuemu_kernels() { return NAMES; }                     \
  CUEMU_VISIBLE void cuemu_statics(char** begin, char** end) {                    \
    *begin = __bss_start;                                                         \
    *end = _end;                                                                  \
  }
