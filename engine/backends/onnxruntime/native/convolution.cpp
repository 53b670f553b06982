// A convolution as products of matrices that are never laid out: pixels across the lanes, output
// channels down the registers, sums in fp32 over channels and places of the kernel.
//
// A block of the output is a few frames, rows and columns. What it sees of the input is laid into a
// patch that a core's cache holds, a word an element: a pair of channels in bf16, or one in fp32.
// Words of neighbouring pixels are neighbours, so that a place of the kernel is an offset.

#include "convolution.h"

#include <algorithm>
#include <cstring>

#include "tiles.h"

namespace mutoscope {
namespace {

constexpr int64_t STRIDE = LANES + 4;  // words of a strip: what lies beside it is seen too
constexpr int64_t PATCH = 160 << 10;   // words that stay in a cache beside weights
constexpr int64_t TASKS = 8;           // at least so many, where there is enough to do
constexpr int64_t MOST_ROWS = 16, MOST_STRIPS = 4;

// What takes time beside products, by measurement: reading all weights once for a block, as long as
// this many of its strips; and laying a word of a strip, as its products with this many weights.
constexpr double READING = 0.8;
constexpr double LAYING = 60;

// A block of the output; strips are sixteen columns wide.
struct Block {
  int64_t frames = 1, rows = 1, strips = 1;
  int64_t count() const { return frames * rows * strips; }
};

// Sixteen pixels of the output.
struct Chunk {
  int64_t patch, output;  // where they begin, in the patch and in a channel of the output
  int64_t count;          // how many of them are there
};

// What words are multiplied as.
struct InBf16 {
  static constexpr int64_t CHANNELS = 2;
  INLINE Floats add(Floats sum, uint32_t row, const uint32_t* column) {
    return dot(sum, Words{} + row, load_anywhere(column));
  }
};
struct InFp32 {
  static constexpr int64_t CHANNELS = 1;
  INLINE Floats add(Floats sum, uint32_t row, const uint32_t* column) {
    return multiply_add(sum, (Floats)(Words{} + row), (Floats)load_anywhere(column));
  }
};

template <typename In>
class Work {
 public:
  explicit Work(const Convolution& convolution)
      : c_(convolution), words_(divide_up(c_.channels, In::CHANNELS)) {
    choose();
  }

  void run(const Pool& pool) {
    const auto task = [](void* work, size_t i) { static_cast<const Work*>(work)->convolve(i); };
    pool.run(pool.context, task, tasks(block_), this);
  }

 private:
  int64_t margin() const { return c_.side / 2; }
  int64_t places() const { return c_.depth * c_.side * c_.side; }
  int64_t strips() const { return divide_up(c_.width, LANES); }
  int64_t tasks(const Block& block) const {
    return divide_up(c_.frames, block.frames) * divide_up(c_.height, block.rows) *
           divide_up(strips(), block.strips);
  }
  // Strips of the patch of a block.
  int64_t seen(const Block& block) const {
    return (block.frames + c_.depth - 1) * (block.rows + c_.side - 1) * block.strips;
  }

  // What a block takes, for each strip that it gives.
  double cost(const Block& block) const {
    const double computed = divide_up(block.count(), VECTORS) * VECTORS + READING;
    return (computed + LAYING * seen(block) / (c_.outputs * places())) / block.count();
  }

  void choose() {
    double least = cost(block_);
    Block block;
    for (block.frames = 1; block.frames <= c_.frames; ++block.frames)
      for (block.rows = 1; block.rows <= std::min(c_.height, MOST_ROWS); ++block.rows)
        for (block.strips = 1; block.strips <= std::min(strips(), MOST_STRIPS); ++block.strips) {
          if (seen(block) * words_ * STRIDE > PATCH || tasks(block) < TASKS) continue;
          if (cost(block) < least) least = cost(block), block_ = block;
        }
  }

  void convolve(int64_t i) const {
    const int64_t beside = divide_up(strips(), block_.strips);
    const int64_t down = divide_up(c_.height, block_.rows);
    const int64_t column = i % beside * block_.strips * LANES;
    const int64_t row = i / beside % down * block_.rows;
    const int64_t frame = i / beside / down * block_.frames;
    Block block;  // what there is of it
    block.frames = std::min(block_.frames, c_.frames - frame);
    block.rows = std::min(block_.rows, c_.height - row);
    block.strips = std::min(block_.strips, strips() - column / LANES);
    const auto patch = make_buffer<uint32_t>(seen(block) * words_ * STRIDE);
    uint32_t* to = patch.get();
    for (int64_t f = 0; f < block.frames + c_.depth - 1; ++f)
      for (int64_t r = 0; r < block.rows + c_.side - 1; ++r)
        for (int64_t s = 0; s < block.strips; ++s, to += words_ * STRIDE)
          lay(frame + f, row + r - margin(), column + s * LANES - margin(), to);
    const auto chunks = make_buffer<Chunk>(block.count() + VECTORS);
    Chunk* next = chunks.get();
    for (int64_t f = 0; f < block.frames; ++f)
      for (int64_t r = 0; r < block.rows; ++r)
        for (int64_t s = 0; s < block.strips; ++s) {
          const int64_t x = column + s * LANES;
          *next++ = {place(block, f, r) + s * words_ * STRIDE,
                     (frame + f) * c_.output_frame + (row + r) * c_.width + x,
                     std::min<int64_t>(LANES, c_.width - x)};
        }
    std::fill_n(next, VECTORS, Chunk{0, 0, 0});
    for (int64_t o = 0; o < c_.outputs; o += ROWS)
      for (int64_t j = 0; j < block.count(); j += VECTORS)
        add_up(block, o, patch.get(), chunks.get() + j);
  }

  // Where a frame's row begins in the patch of a block.
  int64_t place(const Block& block, int64_t frame, int64_t row) const {
    return (frame * (block.rows + c_.side - 1) + row) * block.strips * words_ * STRIDE;
  }

  // A row of the input, from a column that may lie before it, as a strip of a patch; or zeros.
  void lay(int64_t frame, int64_t row, int64_t column, uint32_t* to) const {
    if (row < 0 || row >= c_.height) {
      std::memset(to, 0, words_ * STRIDE * sizeof *to);
      return;
    }
    const int64_t width = c_.width / c_.scale, area = c_.height / c_.scale * width;
    const bool is_earlier = frame < c_.before;
    const float* from = is_earlier ? c_.earlier + frame * area
                                   : c_.input + (frame - c_.before) * c_.input_frame;
    const int64_t step = is_earlier ? c_.before * area : c_.input_channel;
    from += row / c_.scale * width;
    const int64_t begin = std::clamp<int64_t>(-column, 0, STRIDE);
    const int64_t end = std::clamp<int64_t>(c_.width - column, begin, STRIDE);
    for (int64_t w = 0; w < words_; ++w, to += STRIDE) {
      const int64_t channel = w * In::CHANNELS;
      const float* low = from + channel * step;
      const float* high = channel + 1 < c_.channels ? low + step : low;  // its weight is zero
      std::fill(to, to + begin, 0);
      if (c_.scale == 1)
        for (int64_t i = begin; i < end; ++i) to[i] = word(low, high, column + i);
      else
        for (int64_t i = begin; i < end; ++i) to[i] = word(low, high, (column + i) / 2);
      std::fill(to + end, to + STRIDE, 0);
    }
  }

  static uint32_t word(const float* low, const float* high, int64_t at) {
    if (In::CHANNELS == 1) return bits(low[at]);
    return bf16(low[at]) | bf16(high[at]) << 16;
  }

  // Eight output channels of three chunks.
  void add_up(const Block& block, int64_t o, const uint32_t* patch, const Chunk* chunks) const {
    const uint32_t* weights = c_.weights + o * places() * words_;
    Tile sums;
    for (int i = 0; i < ROWS; ++i)
      for (int j = 0; j < VECTORS; ++j)
        sums[i][j] = Floats{} + (o + i < c_.outputs ? c_.bias[o + i] : 0.f);
    for (int64_t f = 0; f < c_.depth; ++f)
      for (int64_t r = 0; r < c_.side; ++r)
        for (int64_t x = 0; x < c_.side; ++x) {
          const uint32_t* column[VECTORS];
          for (int j = 0; j < VECTORS; ++j)
            column[j] = patch + chunks[j].patch + place(block, f, r) + x;
          for (int64_t w = 0; w < words_; ++w, weights += ROWS)
            for (int i = 0; i < ROWS; ++i)
              for (int j = 0; j < VECTORS; ++j)
                sums[i][j] = In::add(sums[i][j], weights[i], column[j] + w * STRIDE);
        }
    Tile done;  // a copy, so that the sums stay in registers till now
    std::memcpy(&done, &sums, sizeof done);
    for (int i = 0; i < ROWS && o + i < c_.outputs; ++i)
      for (int j = 0; j < VECTORS; ++j) put(done[i][j], (o + i) * c_.output_channel, chunks[j]);
  }

  void put(Floats sum, int64_t channel, const Chunk& chunk) const {
    const int64_t at = channel + chunk.output, bytes = chunk.count * sizeof(float);
    if (c_.added != nullptr) {
      Floats added{};
      std::memcpy(&added, c_.added + at, bytes);
      sum += added;
    }
    std::memcpy(c_.output + at, &sum, bytes);
  }

  const Convolution& c_;
  const int64_t words_;  // of a pixel
  Block block_;
};

}  // namespace

void convolve(const Convolution& convolution, const Pool& pool) {
  if (convolution.in_bf16)
    Work<InBf16>(convolution).run(pool);
  else
    Work<InFp32>(convolution).run(pool);
}

}  // namespace mutoscope
