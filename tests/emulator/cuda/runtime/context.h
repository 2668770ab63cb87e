// The context switch: callee-saved registers on the stack, then the other stack.
#pragma once

#include "state.h"

extern "C" __attribute__((visibility("hidden"))) void cuemu_switch(void** save_stack_pointer, void* load_stack_pointer);

#if defined(__x86_64__)

asm(R"(
.text
.globl cuemu_switch
.hidden cuemu_switch
.type cuemu_switch,@function
cuemu_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp,(%rdi)
    mov %rsi,%rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size cuemu_switch,.-cuemu_switch
)");

namespace cuemu {
// A stack that, once switched to, "returns" into entry with the alignment of a fresh call.
inline void* new_context(char* stack_top, void (*entry)()) {
  void** p = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack_top) & ~uintptr_t(15));
  *--p = nullptr;
  *--p = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--p = nullptr;
  return p;
}
}  // namespace cuemu

#elif defined(__aarch64__)

asm(R"(
.text
.globl cuemu_switch
.hidden cuemu_switch
.type cuemu_switch,%function
cuemu_switch:
    sub sp,sp,#160
    stp x19,x20,[sp]
    stp x21,x22,[sp,#16]
    stp x23,x24,[sp,#32]
    stp x25,x26,[sp,#48]
    stp x27,x28,[sp,#64]
    stp x29,x30,[sp,#80]
    stp d8,d9,[sp,#96]
    stp d10,d11,[sp,#112]
    stp d12,d13,[sp,#128]
    stp d14,d15,[sp,#144]
    mov x9,sp
    str x9,[x0]
    mov sp,x1
    ldp x19,x20,[sp]
    ldp x21,x22,[sp,#16]
    ldp x23,x24,[sp,#32]
    ldp x25,x26,[sp,#48]
    ldp x27,x28,[sp,#64]
    ldp x29,x30,[sp,#80]
    ldp d8,d9,[sp,#96]
    ldp d10,d11,[sp,#112]
    ldp d12,d13,[sp,#128]
    ldp d14,d15,[sp,#144]
    add sp,sp,#160
    ret
.size cuemu_switch,.-cuemu_switch
)");

namespace cuemu {
inline void* new_context(char* stack_top, void (*entry)()) {
  char* p = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(stack_top) & ~uintptr_t(15)) - 160;
  memset(p, 0, 160);
  memcpy(p + 88, &entry, sizeof entry);  // x30, the return address
  return p;
}
}  // namespace cuemu

#else
#error "the CUDA emulator has a context switch for x86-64 and AArch64 only"
#endif
