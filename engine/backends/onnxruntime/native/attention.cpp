// Attention in blocks, after FlashAttention-2 (Dao 2023): products in bf16, sums and softmax in fp32.
//
// Queries lie across the lanes, keys and channels down the registers: maxima and sums of softmax are
// then lane by lane, and what the first product leaves in registers is what the second one takes.
// A tile is 8 keys, or 8 channels of the values, by 48 queries: 24 registers of sums.
//
// Scores are in powers of two, above a maximum that is followed only when one exceeds it by SLACK
// (as in FlashAttention-4); weights up to 2^SLACK are as exact as those up to 1.

#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "tiles.h"

namespace mutoscope {
namespace {

constexpr int QUERIES = VECTORS * LANES;
constexpr int BLOCK = 128;  // keys whose weights are computed before their values are summed up
constexpr float SLACK = 8;
constexpr float LOWEST = -1e4;  // of the maxima, lest scores lose their precision beside one
constexpr float LOG2_E = 1.44269504f;

// What is kept of a block of queries.
struct State {
  explicit State(int64_t width)
      : queries(make_buffer<uint32_t>(width / 2 * QUERIES)),
        weights(make_buffer<uint32_t>(BLOCK / 2 * QUERIES)),
        sums(make_buffer<float>(width * QUERIES)) {
    std::fill_n(sums.get(), width * QUERIES, 0.f);
  }
  std::unique_ptr<uint32_t[], Free> queries;  // (width / 2, QUERIES) pairs of channels
  std::unique_ptr<uint32_t[], Free> weights;  // (BLOCK / 2, QUERIES) pairs of keys
  std::unique_ptr<float[], Free> sums;        // (width, QUERIES), of values by their weights
  Floats top[VECTORS] = {};                   // what scores are above
  Floats total[VECTORS] = {};                 // of the weights
};

class Work {
 public:
  Work(const Attention& attention, uint32_t* workspace)
      : a_(attention),
        blocks_(divide_up(a_.keys, BLOCK)),
        query_blocks_(divide_up(a_.queries, QUERIES)),
        head_(blocks_ * BLOCK * a_.width / 2),
        keys_(workspace),
        values_(keys_ + a_.batch * a_.heads * head_),
        bias_(reinterpret_cast<float*>(values_ + a_.batch * a_.heads * head_)) {}

  int64_t words() const { return a_.batch * (2 * a_.heads * head_ + blocks_ * BLOCK); }

  void run(const Pool& pool) {
    lay_bias();
    const auto lay = [](void* work, size_t i) { static_cast<Work*>(work)->lay_block(i); };
    const auto attend = [](void* work, size_t i) { static_cast<Work*>(work)->attend(i); };
    pool.run(pool.context, lay, a_.batch * a_.heads * blocks_, this);
    pool.run(pool.context, attend, a_.batch * a_.heads * query_blocks_, this);
  }

 private:
  int64_t token() const { return a_.heads * a_.width; }

  // Where a head's channels of a token lie, of so many tokens.
  int64_t place(int64_t head, int64_t tokens, int64_t index) const {
    return (head / a_.heads * tokens + index) * token() + head % a_.heads * a_.width;
  }

  // Keys that fill up the last block weigh nothing.
  void lay_bias() {
    for (int64_t b = 0; b < a_.batch; ++b)
      for (int64_t key = 0; key < blocks_ * BLOCK; ++key) {
        const float given = a_.bias && key < a_.keys ? a_.bias[b * a_.keys + key] : 0.f;
        bias_[b * blocks_ * BLOCK + key] = key < a_.keys ? given * LOG2_E : -INFINITY;
      }
  }

  void lay_block(int64_t i) {
    const int64_t head = i / blocks_, first = i % blocks_ * BLOCK;
    const int64_t count = std::min<int64_t>(BLOCK, a_.keys - first);
    const int64_t from = place(head, a_.keys, first), to = head * head_ + first * a_.width / 2;
    lay_keys(a_.k + from, count, keys_ + to);
    lay_values(a_.v + from, count, values_ + to);
  }

  // → (BLOCK / ROWS, width / 2, ROWS) pairs of channels.
  void lay_keys(const float* from, int64_t count, uint32_t* to) const {
    for (int64_t key = 0; key < BLOCK; ++key) {
      uint32_t* column = to + key / ROWS * (a_.width / 2) * ROWS + key % ROWS;
      for (int64_t c = 0; c < a_.width / 2; ++c) {
        const float* x = from + key * token() + 2 * c;
        column[c * ROWS] = key < count ? bf16(x[0]) | bf16(x[1]) << 16 : 0;
      }
    }
  }

  // → (width / ROWS, BLOCK / 2, ROWS) pairs of keys.
  void lay_values(const float* from, int64_t count, uint32_t* to) const {
    for (int64_t key = 0; key < BLOCK; key += 2)
      for (int64_t c = 0; c < a_.width; ++c) {
        const float* x = from + key * token() + c;
        const uint32_t low = key < count ? bf16(x[0]) : 0;
        const uint32_t high = key + 1 < count ? bf16(x[token()]) : 0;
        to[c / ROWS * ROWS * BLOCK / 2 + key / 2 * ROWS + c % ROWS] = low | high << 16;
      }
  }

  void attend(int64_t i) const {
    const int64_t head = i / query_blocks_, first = i % query_blocks_ * QUERIES;
    const int64_t count = std::min<int64_t>(QUERIES, a_.queries - first);
    State state(a_.width);
    take(a_.q + place(head, a_.queries, first), count, state.queries.get());
    for (int64_t block = 0; block < blocks_; ++block) add_block(state, head, block);
    give(state, count, a_.out + place(head, a_.queries, first));
  }

  void take(const float* from, int64_t count, uint32_t* to) const {
    const float factor = a_.scale * LOG2_E;
    for (int64_t lane = 0; lane < QUERIES; ++lane)
      for (int64_t c = 0; c < a_.width / 2; ++c) {
        const float* x = from + lane * token() + 2 * c;
        const bool is_there = lane < count;
        to[c * QUERIES + lane] =
            is_there ? bf16(x[0] * factor) | bf16(x[1] * factor) << 16 : 0;
      }
  }

  void add_block(State& state, int64_t head, int64_t block) const {
    const int64_t start = head * head_ + block * BLOCK * a_.width / 2;
    const float* bias = bias_ + (head / a_.heads * blocks_ + block) * BLOCK;
    const int64_t tiles = divide_up(std::min<int64_t>(BLOCK, a_.keys - block * BLOCK), ROWS);
    int64_t summed = 0;  // pairs of keys
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const bool is_first = block == 0 && tile == 0;
      Tile scores;
      score(state, keys_ + start + tile * ROWS * a_.width / 2, bias + tile * ROWS, scores);
      if (is_first || exceeds(scores)) {
        add_values(state, values_ + start, summed, tile * ROWS / 2);
        summed = tile * ROWS / 2;
        raise(state, scores, is_first);
      }
      weigh(state, scores, state.weights.get() + tile * ROWS / 2 * QUERIES);
    }
    add_values(state, values_ + start, summed, tiles * ROWS / 2);
  }

  void score(const State& state, const uint32_t* keys, const float* bias, Tile& scores) const {
    for (int i = 0; i < ROWS; ++i)
      for (int j = 0; j < VECTORS; ++j) scores[i][j] = bias[i] - state.top[j];
    add_products(scores, keys, state.queries.get(), a_.width / 2);
  }

  static bool exceeds(const Tile& scores) {
    Floats top = scores[0][0];
    for (int i = 0; i < ROWS; ++i)
      for (int j = 0; j < VECTORS; ++j) top = larger(top, scores[i][j]);
    return any_above(top, SLACK);
  }

  // Follow the maximum. What was summed up till then weighs less.
  __attribute__((noinline)) void raise(State& state, Tile& scores, bool is_first) const {
    for (int j = 0; j < VECTORS; ++j) {
      Floats rise = Floats{} + (is_first ? LOWEST : 0.f);
      for (int i = 0; i < ROWS; ++i) rise = larger(rise, scores[i][j]);
      for (int i = 0; i < ROWS; ++i) scores[i][j] -= rise;
      state.top[j] += rise;
      if (is_first) continue;
      const Floats factor = power_of_two(-rise);
      state.total[j] *= factor;
      for (int64_t c = 0; c < a_.width; ++c) {
        float* sum = state.sums.get() + c * QUERIES + j * LANES;
        store(sum, load(sum) * factor);
      }
    }
  }

  static void weigh(State& state, const Tile& scores, uint32_t* to) {
    for (int i = 0; i < ROWS; i += 2)
      for (int j = 0; j < VECTORS; ++j) {
        const Floats low = power_of_two(scores[i][j]), high = power_of_two(scores[i + 1][j]);
        state.total[j] += low + high;
        store(to + i / 2 * QUERIES + j * LANES, pair(low, high));
      }
  }

  // Add the values of a block's keys, from one pair to another, by their weights.
  void add_values(State& state, const uint32_t* values, int64_t from, int64_t to) const {
    for (int64_t c = 0; c < a_.width; c += ROWS) {
      float* place = state.sums.get() + c * QUERIES;
      Tile sums;
      for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < VECTORS; ++j) sums[i][j] = load(place + i * QUERIES + j * LANES);
      add_products(sums, values + c * BLOCK / 2 + from * ROWS, state.weights.get() + from * QUERIES,
               to - from);
      for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < VECTORS; ++j) store(place + i * QUERIES + j * LANES, sums[i][j]);
    }
  }

  void give(State& state, int64_t count, float* to) const {
    for (int j = 0; j < VECTORS; ++j) {
      const Floats share = 1.f / state.total[j];
      for (int64_t c = 0; c < a_.width; ++c) {
        float* sum = state.sums.get() + c * QUERIES + j * LANES;
        store(sum, load(sum) * share);
      }
    }
    for (int64_t lane = 0; lane < count; ++lane)
      for (int64_t c = 0; c < a_.width; ++c)
        to[lane * token() + c] = state.sums[c * QUERIES + lane];
  }

  const Attention& a_;
  const int64_t blocks_, query_blocks_;
  const int64_t head_;  // words of a head's keys, and of its values
  uint32_t *const keys_, *const values_;
  float* const bias_;  // (batch, blocks · BLOCK)
};

}  // namespace

int64_t workspace(const Attention& attention) { return Work(attention, nullptr).words(); }

void attend(const Attention& attention, const Pool& pool, uint32_t* workspace) {
  Work(attention, workspace).run(pool);
}

}  // namespace mutoscope
