// How the launcher reaches a kernel: a thunk that unpacks void*[] and a description of the parameters.
// export_macros.h makes them visible; build.py appends its macros to the source.
#pragma once

#include "interface.h"

namespace cuemu {

// A pointer or a number in three characters: P(ointer) or V(alue); the element's kind as NumPy names it (f i u b, or v for
// "anything": void and vector types); its size in bytes as a letter from 'a' (0).
template <class T>
struct Describe {
  using Value = std::remove_cv_t<std::remove_pointer_t<T>>;
  static constexpr bool plain = std::is_arithmetic<Value>::value;
  static_assert(plain || std::is_pointer<T>::value, "a parameter, or a field of one, must be a pointer or a plain number");
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
  static void write(char*& at) {
    *at++ = role;
    *at++ = kind;
    *at++ = size();
  }
};

// A parameter of which only the size is known, as in PTX: B8;
template <size_t N>
struct alignas(8) Bytes {
  u8 at[N];
};
template <class T>
constexpr size_t size_of_bytes = 0;
template <size_t N>
constexpr size_t size_of_bytes<Bytes<N>> = N;

template <size_t... I>
struct Indices {};

template <size_t N, size_t... I>
struct Count : Count<N - 1, N - 1, I...> {};

template <size_t... I>
struct Count<0, I...> {
  using Below = Indices<I...>;  // 0 to N - 1
};

// ---- structs: how many fields they have, of which types, and where the compiler has put them -------------------------

struct Any {
  template <class T>
  operator T() const;
};
template <class T, size_t... I>
constexpr auto takes(Indices<I...>) -> decltype(T{(void(I), Any{})...}, true) {
  return true;
}
template <class T>
constexpr bool takes(...) {
  return false;
}
constexpr size_t kMostFields = 12;
template <class T, size_t N = kMostFields + 1>
constexpr size_t count_fields() {
  if constexpr (N == 0 || takes<T>(typename Count<N>::Below{})) return N;
  else return count_fields<T, N - 1>();
}

// A field may be a struct of one field, which wraps a pointer.
template <class T>
auto unwrapped(const T& field) {
  if constexpr (std::is_class<T>::value) {
    const auto& [only] = field;
    return only;
  } else {
    return field;
  }
}

// A struct is written as S, its size, and its fields in braces, each with its offset: S40{0Pf4,8Vi4,}.
inline void write_number(char*& at, size_t number) {
  if (number > 9) write_number(at, number / 10);
  *at++ = char('0' + number % 10);
}
template <class T, class... F>
void write_fields(char*& at, const T& whole, const F&... field) {
  *at++ = 'S';
  write_number(at, sizeof(T));
  *at++ = '{';
  ((write_number(at, size_t(reinterpret_cast<const char*>(&field) - reinterpret_cast<const char*>(&whole))),
    Describe<decltype(unwrapped(field))>::write(at), *at++ = ','),
   ...);
  *at++ = '}';
}
#define CUEMU_FIELDS(N, ...)                 \
  else if constexpr (count == N) {           \
    const auto& [__VA_ARGS__] = whole;       \
    write_fields(at, whole, __VA_ARGS__);    \
  }
template <class T>
void write_parameter(char*& at) {
  if constexpr (size_of_bytes<T> != 0) {
    *at++ = 'B';
    write_number(at, size_of_bytes<T>);
    *at++ = ';';
  } else if constexpr (std::is_class<T>::value) {
    constexpr size_t count = count_fields<T>();
    static_assert(0 < count && count <= kMostFields, "a struct parameter must be an aggregate of 1 to 12 fields");
    alignas(T) static char bytes[sizeof(T)];
    const T& whole = *reinterpret_cast<const T*>(bytes);  // only its addresses matter
    if constexpr (count == 0) {
    }
    CUEMU_FIELDS(1, a)
    CUEMU_FIELDS(2, a, b)
    CUEMU_FIELDS(3, a, b, c)
    CUEMU_FIELDS(4, a, b, c, d)
    CUEMU_FIELDS(5, a, b, c, d, e)
    CUEMU_FIELDS(6, a, b, c, d, e, f)
    CUEMU_FIELDS(7, a, b, c, d, e, f, g)
    CUEMU_FIELDS(8, a, b, c, d, e, f, g, h)
    CUEMU_FIELDS(9, a, b, c, d, e, f, g, h, i)
    CUEMU_FIELDS(10, a, b, c, d, e, f, g, h, i, j)
    CUEMU_FIELDS(11, a, b, c, d, e, f, g, h, i, j, k)
    CUEMU_FIELDS(12, a, b, c, d, e, f, g, h, i, j, k, l)
  } else {
    Describe<T>::write(at);
  }
}

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
    // Filled at every call: a launch in between overwrites all statics.  A field takes 9 characters at most.
    static char text[(9 * kMostFields + 8) * sizeof...(A) + 1];
    char* at = text;
    (write_parameter<std::remove_cv_t<A>>(at), ...);
    *at = 0;
    return text;
  }
};

}  // namespace cuemu
