// Attention with scores in int8 on an NVIDIA GPU, as an operator for ONNX Runtime.
//
// The kernels are kernels/int8_keys.cu and kernels/int8_attention.cu, launched as
// kernels/attention_ops.py does. Their machine code, for one architecture, lies in this library.

#include <algorithm>
#include <climits>
#include <cmath>
#include <iterator>
#include <string>

#include "call.h"
#include "driver.h"
#include "operators.h"
#include "ort.h"

#ifndef RUN_BY
#define RUN_BY ort::CUDA
#endif

// A file that lies where the compiler runs.
#define EMBED(name)                                                                          \
  asm(".pushsection .rodata\n.balign 64\n" #name ": .incbin \"" #name ".cubin\"\n.popsection"); \
  extern "C" __attribute__((visibility("hidden"))) const char name[];

EMBED(int8_keys)
EMBED(int8_attention)

namespace {

using mutoscope::Call;
using mutoscope::check;
using mutoscope::demand;
using mutoscope::Sizes;
using ort::Api;
using ort::KernelInfo;
using ort::Value;

constexpr int64_t HEAD_SIZES[] = {32, 64, 128};
constexpr int64_t MAX_HEADS = 65535;  // of the grid's second axis
constexpr int64_t CHUNKS = 16, QUERIES = 128, TILE = 64;
constexpr double LOG2_E = 1.44269504f;

int64_t quotient(int64_t all, int64_t each) { return (all + each - 1) / each; }

// The kernels for one type of element.
struct Kernels {
  struct OfSize {
    cuda::Kernel *prepare, *attend;
  };

  const cuda::Driver driver;
  cuda::Kernel* sums;
  OfSize of_size[std::size(HEAD_SIZES)];

  explicit Kernels(const std::string& type) {
    auto *keys = driver.load(int8_keys), *attention = driver.load(int8_attention);
    sums = driver.kernel(keys, "int8_keys_sums_" + type);
    for (size_t i = 0; i < std::size(HEAD_SIZES); ++i) {
      const std::string kind = type + "_" + std::to_string(HEAD_SIZES[i]);
      of_size[i] = {driver.kernel(keys, "int8_keys_" + kind),
                    driver.kernel(attention, "int8_attention_" + kind)};
    }
  }
};

// What attention works in, one part after the other; each is a multiple of 16 bytes.
class Workspace {
 public:
  explicit Workspace(void* begin = nullptr) : begin_(reinterpret_cast<uintptr_t>(begin)) {}

  template <typename T = float>
  T* take(int64_t count) {
    auto* part = reinterpret_cast<T*>(begin_ + bytes_);
    bytes_ += count * sizeof(T);
    return part;
  }

  int64_t bytes() const { return bytes_; }

 private:
  uintptr_t begin_;
  int64_t bytes_ = 0;
};

struct Parts {
  float *key_sums, *query_sums, *query_mean, *scales, *biases;
  char* tiles;

  Parts(Workspace& workspace, int64_t heads, int64_t tile_count, int64_t size) {
    key_sums = workspace.take(heads * CHUNKS * size);
    query_sums = workspace.take(heads * CHUNKS * size);
    query_mean = workspace.take(heads * size);
    scales = workspace.take(heads * tile_count * TILE);
    biases = workspace.take(heads * tile_count * TILE);
    tiles = workspace.take<char>(heads * tile_count * TILE * size * 3);
  }
};

// Inputs: queries, keys and values (batch, heads, tokens, size). Outputs: of the queries' shape, and
// the place in which prepared keys and values lie meanwhile: that of an output comes from ONNX
// Runtime's own memory.
// Attributes: scale; 0 for 1 / √size.
template <ort::Type TYPE>
class Int8Attention {
 public:
  static constexpr const char* NAME = "Int8Attention";
  static constexpr const char* PROVIDER = RUN_BY;
  static constexpr std::array<ort::Type, 3> INPUTS = {TYPE, TYPE, TYPE};
  static constexpr std::array<ort::Type, 2> OUTPUTS = {TYPE, ort::UINT8};
  static constexpr size_t NEEDED_INPUTS = 3, NEEDED_OUTPUTS = 2;

  Int8Attention(const Api& api, const KernelInfo* info) : kernels_(loaded()) {
    check(api.attribute(info, "scale", &scale_));
  }

  void compute(const Call& call) const {
    const Value *q = call.input(0), *k = call.input(1), *v = call.input(2);
    const auto queries = call.sizes<4>(q), keys = call.sizes<4>(k);
    const auto [batch, heads, length, size] = queries;
    const auto* known = std::find(std::begin(HEAD_SIZES), std::end(HEAD_SIZES), size);
    demand(known != std::end(HEAD_SIZES), "heads are not of 32, 64 or 128 channels");
    demand(keys == Sizes<4>{batch, heads, keys[2], size}, "queries and keys do not fit");
    demand(call.sizes<4>(v) == keys, "keys and values do not fit");
    demand(batch * heads > 0 && batch * heads <= MAX_HEADS, "there are no heads, or too many");
    demand(std::min(length, keys[2]) > 0, "there are no queries, or no keys");
    demand(std::max(length, keys[2]) <= INT_MAX, "there are too many tokens");
    const auto& kernel = kernels_.of_size[known - std::begin(HEAD_SIZES)];
    const int64_t all = batch * heads, tiles = quotient(keys[2], TILE);
    Workspace measured;
    Parts(measured, all, tiles, size);
    void* output = call.data<void>(call.output_anywhere(0, queries));
    Workspace workspace(call.data<void>(call.output_anywhere(1, Sizes<1>{measured.bytes()})));
    const Parts parts(workspace, all, tiles, size);
    demand(reinterpret_cast<uintptr_t>(parts.key_sums) % 16 == 0, "the workspace is not aligned");
    const void *from = call.data<void>(q), *of_keys = call.data<void>(k);
    const float scale = log2_scale(size), *no_bias = nullptr;
    const int query_count = length, key_count = keys[2], channels = size;
    const int head_count = heads, tile_count = tiles;
    const auto launch = [&, stream = call.stream()](cuda::Kernel* which, unsigned columns,
                                                    auto... arguments) {
      kernels_.driver.launch(which, columns, all, stream, arguments...);
    };
    launch(kernels_.sums, CHUNKS, of_keys, key_count, channels, parts.key_sums);
    launch(kernels_.sums, CHUNKS, from, query_count, channels, parts.query_sums);
    launch(kernel.prepare, tiles, of_keys, call.data<void>(v), parts.key_sums, parts.query_sums,
           key_count, query_count, no_bias, head_count, scale, parts.query_mean, parts.scales,
           parts.biases, parts.tiles);
    launch(kernel.attend, quotient(length, QUERIES), from, parts.query_mean, parts.tiles,
           parts.scales, parts.biases, query_count, tile_count, scale, output);
  }

 private:
  // Those of all sessions.
  static const Kernels& loaded() {
    static const Kernels kernels(TYPE == ort::FLOAT     ? "float32"
                                 : TYPE == ort::FLOAT16 ? "float16"
                                                        : "bfloat16");
    return kernels;
  }

  // What a product of query and key is multiplied by, so that 2 to its power is the weight.
  float log2_scale(int64_t size) const {
    return float(LOG2_E * (scale_ == 0 ? std::pow(double(size), -0.5) : double(scale_)));
  }

  const Kernels& kernels_;
  float scale_ = 0;
};

}  // namespace

// What ONNX Runtime calls of a library of operators; null where all is well.
extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::Base* base) {
  return mutoscope::register_operators<Int8Attention<ort::FLOAT>, Int8Attention<ort::FLOAT16>,
                                       Int8Attention<ort::BFLOAT16>>(options, base);
}
