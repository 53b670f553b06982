// What all operators compute in: tiles of 8 rows by 48 columns, 24 registers of sums.
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

// tile += rows·columns, which are pairs: (pairs, ROWS) and (pairs, VECTORS · LANES).
INLINE void add_products(Tile& tile, const uint32_t* rows, const uint32_t* columns, int64_t pairs) {
  Tile sums;  // of its own, taken one by one, so that it stays in registers
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < VECTORS; ++j) sums[i][j] = tile[i][j];
  for (int64_t p = 0; p < pairs; ++p, rows += ROWS, columns += VECTORS * LANES) {
    const Words column[VECTORS] = {load(columns), load(columns + LANES), load(columns + 2 * LANES)};
    for (int i = 0; i < ROWS; ++i) {
      const Words row = Words{} + rows[i];
      for (int j = 0; j < VECTORS; ++j) sums[i][j] = dot(sums[i][j], row, column[j]);
    }
  }
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j < VECTORS; ++j) tile[i][j] = sums[i][j];
}

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
