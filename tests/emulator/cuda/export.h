// How the launcher reaches a kernel: a thunk that unpacks void*[] and a description of the parameters.
// export_macros.h makes them visible; build.py appends its macros to the source.
#pragma once

#include "interface.h"

namespace cuemu {

// One parameter in three characters: P(ointer) or V(alue); the element's kind as NumPy names it (f i u b, or v for
// "anything": void and vector types); its size in bytes as a letter from 'a' (0).
template <class T>
struct Describe {
  using Value = std::remove_cv_t<std::remove_pointer_t<T>>;
  static constexpr bool plain = std::is_arithmetic<Value>::value;
  static_assert(plain || std::is_pointer<T>::value, "a kernel parameter must be a pointer or a plain number");
  static constexpr char role = std::is_pointer<T>::value ? 'P' : 'V';
  static constexpr char kind = !plain                                   ? 'v'
                               : std::is_same<Value, bool>::value       ? 'b'
                               : std::is_floating_point<Value>::value   ? 'f'
                               : std::is_signed<Value>::value           ? 'i'
                                                                        : 'u';
  static constexpr char size() {
    if constexpr (plain) return char('a' + sizeof(Value));
    else return 'a';
  }
};

template <size_t... I>
struct Indices {};

template <size_t N, size_t... I>
struct Count : Count<N - 1, N - 1, I...> {};

template <size_t... I>
struct Count<0, I...> {
  using Below = Indices<I...>;  // 0 to N - 1
};

template <auto KERNEL>
struct Thunk;

template <class... A, void (*KERNEL)(A...)>
struct Thunk<KERNEL> {
  template <size_t... I>
  static void call(void** argument, Indices<I...>) {
    KERNEL(*static_cast<std::remove_cv_t<A>*>(argument[I])...);
  }
  static void run(void** argument) { call(argument, typename Count<sizeof...(A)>::Below{}); }

  static const char* signature() {
    static char text[3 * sizeof...(A) + 1];  // filled at every call: a launch in between overwrites all statics
    char* at = text;
    ((*at++ = Describe<A>::role, *at++ = Describe<A>::kind, *at++ = Describe<A>::size()), ...);
    *at = 0;
    return text;
  }
};

}  // namespace cuemu
