// What both operators compute in: tiles of 8 rows by 48 columns, 24 registers of sums.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "lanes.h"

namespace mutoscope {

constexpr int ROWS = 8;
constexpr int VECTORS = 3;

using Tile = Floats[ROWS][VECTORS];

inline int64_t divide_up(int64_t n, int64_t size) { return (n + size - 1) / size; }

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Memory for so many elements, at the beginning of a line of the cache.
template <typename T>
std::unique_ptr<T[], Free> make_buffer(int64_t count) {
  void* memory = std::aligned_alloc(64, divide_up(count * sizeof(T), 64) * 64);
  if (memory == nullptr) throw std::bad_alloc();
  return std::unique_ptr<T[], Free>(static_cast<T*>(memory));
}

}  // namespace mutoscope
