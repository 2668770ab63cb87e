// Device buffers between guard pages, and words for addresses in messages.
#include <dlfcn.h>
#include <sys/mman.h>

#include <map>

#include "state.h"

namespace cuemu {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 16;  // the widest access a kernel may make; the end of a buffer is this near its guard

std::map<uintptr_t, Buffer> buffers;  // by the start of the mapping
const Buffer* recent[2];

bool holds(const Buffer* buffer, uintptr_t address) {
  return buffer && address - reinterpret_cast<uintptr_t>(buffer->map) < buffer->map_bytes;
}

}  // namespace

// Pages are filled with 0xff: NaN as floating point, -1 as an integer, so that what was never written shows.
extern "C" void* cuemu_malloc(size_t bytes) {
  const size_t pages = bytes ? (bytes + kPage - 1) / kPage * kPage : kPage;
  const size_t map_bytes = pages + 2 * kPage;
  void* map = mmap(nullptr, map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  char* body = static_cast<char*>(map) + kPage;
  if (mprotect(body, pages, PROT_READ | PROT_WRITE)) {
    munmap(map, map_bytes);
    return nullptr;
  }
  memset(body, 0xff, pages);
  char* data = body + ((pages - bytes) & ~(kAlignment - 1));
  buffers[reinterpret_cast<uintptr_t>(map)] = Buffer{static_cast<char*>(map), map_bytes, data, bytes};
  return data;
}

extern "C" void cuemu_free(void* data) {
  const Buffer* buffer = buffer_near(reinterpret_cast<uintptr_t>(data));
  if (!buffer) return;
  recent[0] = recent[1] = nullptr;
  munmap(buffer->map, buffer->map_bytes);
  buffers.erase(reinterpret_cast<uintptr_t>(buffer->map));
}

const Buffer* buffer_near(uintptr_t address) {
  if (holds(recent[0], address)) return recent[0];
  if (holds(recent[1], address)) {
    std::swap(recent[0], recent[1]);
    return recent[0];
  }
  auto after = buffers.upper_bound(address);
  if (after == buffers.begin()) return nullptr;
  const Buffer* candidate = &std::prev(after)->second;
  if (!holds(candidate, address)) return nullptr;
  recent[1] = recent[0];
  recent[0] = candidate;
  return candidate;
}

std::string describe_near(uintptr_t address) {
  const Buffer* buffer = buffer_near(address);
  if (!buffer) return "";
  const uintptr_t begin = reinterpret_cast<uintptr_t>(buffer->data), end = begin + buffer->bytes;
  const bool before = address < begin;
  const std::string kind = buffer->data == reinterpret_cast<char*>(dynamic_shared) ? "dynamic shared" : "device";
  return ", " + std::to_string(before ? begin - address : address - end) +
         (before ? " bytes before a " : " bytes past the end of a ") + std::to_string(buffer->bytes) + "-byte " + kind +
         " buffer";
}

std::string code_place(uintptr_t pc) {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(pc), &info)) return "an unknown place";
  char text[1024];
  const unsigned long offset = pc - reinterpret_cast<uintptr_t>(info.dli_fbase);
  snprintf(text, sizeof text, "{%s+%#lx}", info.dli_fname, offset);
  return text;
}

}  // namespace cuemu
