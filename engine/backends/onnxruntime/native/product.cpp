// A product in bf16, sums in fp32: rows of the input lie across the lanes, outputs down the registers.
//
// A task has some outputs, and takes the channels a part at a time: it decodes these weights once
// and multiplies all rows by them.

#include "product.h"

#include <algorithm>
#include <cstring>

#include "tiles.h"

namespace mutoscope {
namespace {

constexpr int64_t LANE_ROWS = VECTORS * LANES;  // of the input in a tile
constexpr int64_t OUTPUTS = 8 * ROWS;           // of a task
constexpr int64_t PART = 512;                   // pairs of channels

using Bytes = uint8_t __attribute__((vector_size(16)));
using Halves = uint16_t __attribute__((vector_size(32)));
using Whole = int32_t __attribute__((vector_size(64)));

template <typename T>
INLINE T take(const uint8_t* from) {
  T x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

class Work {
 public:
  Work(const Product& product, uint32_t* workspace)
      : p_(product),
        pairs_(p_.channels / 2),
        tiles_(divide_up(p_.rows, LANE_ROWS)),
        input_(workspace) {}

  int64_t words() const { return tiles_ * pairs_ * LANE_ROWS; }

  void run(const Pool& pool) {
    const auto lay = [](void* work, size_t i) { static_cast<const Work*>(work)->lay(i); };
    const auto multiply = [](void* work, size_t i) { static_cast<const Work*>(work)->multiply(i); };
    pool.run(pool.context, lay, tiles_ * parts(), this);
    pool.run(pool.context, multiply, divide_up(p_.outputs, OUTPUTS), this);
  }

 private:
  int64_t parts() const { return divide_up(pairs_, PART); }
  uint32_t* place(int64_t tile, int64_t pair) const {
    return input_ + (tile * pairs_ + pair) * LANE_ROWS;
  }

  // A part of a tile's rows → (pairs, LANE_ROWS); what is no row is zeros.
  void lay(int64_t i) const {
    const int64_t tile = i / parts(), first = i % parts() * PART;
    const int64_t rows = std::min(LANE_ROWS, p_.rows - tile * LANE_ROWS);
    uint32_t* to = place(tile, first);
    const int64_t count = std::min(PART, pairs_ - first);
    if (rows < LANE_ROWS) std::memset(to, 0, count * LANE_ROWS * sizeof *to);
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = p_.input + (tile * LANE_ROWS + row) * p_.channels + 2 * first;
      for (int64_t pair = 0; pair < count; ++pair)
        to[pair * LANE_ROWS + row] = bf16(from[2 * pair]) | bf16(from[2 * pair + 1]) << 16;
    }
  }

  void multiply(int64_t i) const {
    const int64_t output = i * OUTPUTS, panels = panels_from(output);
    const auto weights = make_buffer<uint32_t>(panels * PART * ROWS);
    const auto sums = make_buffer<Tile>(tiles_ * panels);
    std::memset(sums.get(), 0, tiles_ * panels * sizeof(Tile));
    for (int64_t first = 0; first < pairs_; first += PART) {
      const int64_t count = std::min(PART, pairs_ - first);
      for (int64_t panel = 0; panel < panels; ++panel)
        decode(output + panel * ROWS, first, count, weights.get() + panel * PART * ROWS);
      for (int64_t tile = 0; tile < tiles_; ++tile)
        for (int64_t panel = 0; panel < panels; ++panel)
          add_products(sums[tile * panels + panel], weights.get() + panel * PART * ROWS,
                       place(tile, first), count);
    }
    for (int64_t tile = 0; tile < tiles_; ++tile)
      for (int64_t panel = 0; panel < panels; ++panel)
        give(tile, output + panel * ROWS, sums[tile * panels + panel]);
  }

  int64_t panels_from(int64_t output) const {
    return divide_up(std::min(OUTPUTS, p_.outputs - output), ROWS);
  }

  // Eight outputs' weights → (pairs, ROWS); what is no output is zeros.
  void decode(int64_t output, int64_t first, int64_t count, uint32_t* to) const {
    const int64_t blocks = p_.channels / Product::BLOCK;
    for (int64_t pair = 0; pair < count; pair += LANES) {
      const int64_t block = (first + pair) / LANES;
      Words rows[ROWS] = {};
      for (int i = 0; i < ROWS && output + i < p_.outputs; ++i)
        rows[i] = decoded((output + i) * blocks + block);
      for (int64_t j = 0; j < LANES; ++j)
        for (int i = 0; i < ROWS; ++i) to[(pair + j) * ROWS + i] = rows[i][j];
    }
  }

  // A block of weights, as pairs.
  Words decoded(int64_t block) const {
    const uint8_t* from = p_.weights + block * 4 * p_.bits;
    if (p_.bits == 16) return take<Words>(from);
    const float scale = p_.scales[block];
    Whole low, high, middle = Whole{} + (1 << (p_.bits - 1));
    if (p_.bits == 8) {
      const Whole both = __builtin_convertvector(take<Halves>(from), Whole);
      low = both & 255, high = both >> 8;
    } else {
      const Whole both = __builtin_convertvector(take<Bytes>(from), Whole);
      low = both & 15, high = both >> 4;
    }
    return pair(__builtin_convertvector(low - middle, Floats) * scale,
                __builtin_convertvector(high - middle, Floats) * scale);
  }

  void give(int64_t tile, int64_t output, const Tile& sums) const {
    const int64_t rows = std::min(LANE_ROWS, p_.rows - tile * LANE_ROWS);
    const int64_t outputs = std::min<int64_t>(ROWS, p_.outputs - output);
    for (int64_t row = 0; row < rows; ++row) {
      float* to = p_.output + (tile * LANE_ROWS + row) * p_.outputs + output;
      for (int64_t i = 0; i < outputs; ++i) to[i] = sums[i][row / LANES][row % LANES];
    }
  }

  const Product& p_;
  const int64_t pairs_, tiles_;
  uint32_t* const input_;
};

}  // namespace

int64_t workspace(const Product& product) { return Work(product, nullptr).words(); }

void multiply(const Product& product, const Pool& pool, uint32_t* workspace) {
  Work(product, workspace).run(pool);
}

}  // namespace mutoscope
