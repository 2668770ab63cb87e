// Answers to the compiler's own instrumentation, in the place of its sanitizer libraries.
//
// -fsanitize=thread calls __tsan_read4(address) and the like before every access: they feed the detector.
// -fsanitize=bounds-strict,alignment,... calls __ubsan_handle_*: each knows the source line.
#include "state.h"

using cuemu::Access;
using cuemu::watch;

#define CUEMU_PC __builtin_return_address(0)
#define CUEMU_WATCH(function, SIZE, ACCESS) \
  void function(void* p) { watch(reinterpret_cast<uintptr_t>(p), SIZE, Access::ACCESS, CUEMU_PC); }
#define CUEMU_WATCH_SIZE(SIZE)                                           \
  CUEMU_WATCH(__tsan_read##SIZE, SIZE, Read)                             \
  CUEMU_WATCH(__tsan_write##SIZE, SIZE, Write)                           \
  CUEMU_WATCH(__tsan_unaligned_read##SIZE, SIZE, Read)                   \
  CUEMU_WATCH(__tsan_unaligned_write##SIZE, SIZE, Write)                 \
  CUEMU_WATCH(__tsan_volatile_read##SIZE, SIZE, VolatileRead)            \
  CUEMU_WATCH(__tsan_volatile_write##SIZE, SIZE, VolatileWrite)          \
  CUEMU_WATCH(__tsan_unaligned_volatile_read##SIZE, SIZE, VolatileRead)  \
  CUEMU_WATCH(__tsan_unaligned_volatile_write##SIZE, SIZE, VolatileWrite)

#pragma GCC visibility push(default)
extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

CUEMU_WATCH_SIZE(1)
CUEMU_WATCH_SIZE(2)
CUEMU_WATCH_SIZE(4)
CUEMU_WATCH_SIZE(8)
CUEMU_WATCH_SIZE(16)

void __tsan_read_range(void* p, unsigned long bytes) {
  watch(reinterpret_cast<uintptr_t>(p), bytes, Access::Read, CUEMU_PC);
}
void __tsan_write_range(void* p, unsigned long bytes) {
  watch(reinterpret_cast<uintptr_t>(p), bytes, Access::Write, CUEMU_PC);
}
void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  watch(reinterpret_cast<uintptr_t>(from), bytes, Access::Read, CUEMU_PC);
  watch(reinterpret_cast<uintptr_t>(to), bytes, Access::Write, CUEMU_PC);
  return memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, unsigned long bytes) {
  watch(reinterpret_cast<uintptr_t>(to), bytes, Access::Write, CUEMU_PC);
  return memset(to, value, bytes);
}

// ---- undefined behaviour: the first member of every data block is the source location ---------------------

struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
struct UndefinedData {
  SourceLocation location;
};
struct TypeMismatchData {
  SourceLocation location;
  const void* type;
  unsigned char log_alignment;
  unsigned char check_kind;
};

static void undefined(const UndefinedData* data, const char* what) {
  cuemu::cuemu_fail(what, data->location.file, int(data->location.line));
}

// Two names for one handler: the plain one is called where the compiler would go on afterwards.
#define CUEMU_UNDEFINED(name, what)                                                                    \
  void __ubsan_handle_##name(UndefinedData* data, void*, void*) { undefined(data, what); }             \
  void __ubsan_handle_##name##_abort(UndefinedData* data, void*, void*) { undefined(data, what); }

CUEMU_UNDEFINED(out_of_bounds, "array index out of bounds")
CUEMU_UNDEFINED(shift_out_of_bounds, "shift by a negative amount or by the width of the type or more")
CUEMU_UNDEFINED(divrem_overflow, "integer division by zero, or its quotient overflows")
CUEMU_UNDEFINED(add_overflow, "signed integer overflow in an addition")
CUEMU_UNDEFINED(sub_overflow, "signed integer overflow in a subtraction")
CUEMU_UNDEFINED(mul_overflow, "signed integer overflow in a multiplication")
CUEMU_UNDEFINED(negate_overflow, "signed integer overflow in a negation")
CUEMU_UNDEFINED(float_cast_overflow, "floating-point value does not fit the integer type it is converted to")

void __ubsan_handle_type_mismatch_v1(TypeMismatchData* data, void* pointer) {
  const unsigned alignment = 1u << data->log_alignment;
  if (reinterpret_cast<uintptr_t>(pointer) & (alignment - 1)) {
    const std::string what = "misaligned address: this access needs " + std::to_string(alignment) + " bytes' alignment";
    cuemu::cuemu_fail(what.c_str(), data->location.file, int(data->location.line));
  }
}
void __ubsan_handle_type_mismatch_v1_abort(TypeMismatchData* data, void* pointer) {
  __ubsan_handle_type_mismatch_v1(data, pointer);
}

}  // extern "C"
#pragma GCC visibility pop
