// A norm over channels, where those of a pixel lie far apart: some hundred pixels at a time, all
// channels of which a core's cache holds from the first reading to the second.

#include "norm.h"

#include <algorithm>
#include <cmath>

#include "tiles.h"

namespace mutoscope {
namespace {

constexpr int64_t CACHED = 64 << 10;  // floats
constexpr int64_t MOST = 1024;        // pixels at a time: their sums are on the stack
constexpr int64_t LEAST = 64;

struct Work {
  const Norm& n;
  const int64_t size;  // pixels at a time

  explicit Work(const Norm& norm)
      : n(norm), size(std::clamp(CACHED / n.channels / LANES * LANES, LEAST, MOST)) {}

  int64_t tiles() const { return divide_up(n.pixels, size); }

  void normalize(int64_t i) const {
    const int64_t first = i % tiles() * size, count = std::min(size, n.pixels - first);
    const int64_t begin = i / tiles() * n.channels * n.pixels + first;
    float scales[MOST] = {};
    for (int64_t c = 0; c < n.channels; ++c) {
      const float* from = n.input + begin + c * n.pixels;
      for (int64_t p = 0; p < count; ++p) scales[p] += from[p] * from[p];
    }
    for (int64_t p = 0; p < count; ++p) scales[p] = 1 / std::max(std::sqrt(scales[p]), n.least);
    for (int64_t c = 0; c < n.channels; ++c) {
      const float* from = n.input + begin + c * n.pixels;
      float* to = n.output + begin + c * n.pixels;
      int64_t p = 0;
      for (; p + LANES <= count; p += LANES) {
        Floats x, scale;
        std::memcpy(&x, from + p, sizeof x);
        std::memcpy(&scale, scales + p, sizeof scale);
        x = silu(x * scale * n.weights[c]);
        std::memcpy(to + p, &x, sizeof x);
      }
      for (; p < count; ++p) {
        const Floats x = silu(Floats{} + from[p] * scales[p] * n.weights[c]);
        to[p] = x[0];
      }
    }
  }
};

}  // namespace

void normalize(const Norm& norm, const Pool& pool) {
  const Work work(norm);
  const auto task = [](void* data, size_t i) { static_cast<const Work*>(data)->normalize(i); };
  pool.run(pool.context, task, norm.clips * work.tiles(), const_cast<Work*>(&work));
}

}  // namespace mutoscope
