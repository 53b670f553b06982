// The CPU's operators for ONNX Runtime, in the domain "mutoscope".

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention.h"
#include "call.h"
#include "convolution.h"
#include "norm.h"
#include "operators.h"
#include "ort.h"
#include "product.h"

namespace {

using mutoscope::Call;
using mutoscope::check;
using mutoscope::demand;
using mutoscope::elements;
using mutoscope::Sizes;
using ort::Api;
using ort::KernelInfo;
using ort::Status;
using ort::Value;

// Attention over heads that lie side by side.
//
// Inputs: queries, keys and values (batch, tokens, heads·width), and what is added to the scores of
// keys (batch, 1, 1, keys), or nothing. Outputs: (batch, queries, heads·width), and the place in
// which keys and values lie meanwhile: that of an output comes from ONNX Runtime's own memory.
// Attributes: num_heads, and scale where it is not 1 / √width.
class Attention {
 public:
  static constexpr const char* NAME = "BlockedAttention";
  static constexpr const char* PROVIDER = ort::CPU;
  static constexpr std::array<ort::Type, 4> INPUTS = {ort::FLOAT, ort::FLOAT, ort::FLOAT,
                                                      ort::FLOAT};
  static constexpr std::array<ort::Type, 2> OUTPUTS = {ort::FLOAT, ort::INT32};
  static constexpr size_t NEEDED_INPUTS = 3, NEEDED_OUTPUTS = 2;

  Attention(const Api& api, const KernelInfo* info) {
    check(api.attribute(info, "num_heads", &heads_));
    if (Status* missing = api.attribute(info, "scale", &scale_)) api.release(missing);
  }

  void compute(const Call& call) const {
    const Value *q = call.input(0), *k = call.input(1), *v = call.input(2), *bias = call.input(3);
    const auto queries = call.sizes<3>(q), keys = call.sizes<3>(k);
    const int64_t width = queries[2] / heads_;
    demand(width % 16 == 0 && width * heads_ == queries[2], "heads are not of 16, 32, … channels");
    demand(call.sizes<3>(v) == keys && keys[0] == queries[0] && keys[2] == queries[2],
           "queries, keys and values do not fit");
    demand(keys[1] > 0, "there are no keys");
    demand(bias == nullptr || call.sizes<4>(bias) == Sizes<4>{keys[0], 1, 1, keys[1]},
           "the bias does not fit the keys");
    const float scale = std::isnan(scale_) ? 1 / std::sqrt(float(width)) : scale_;
    mutoscope::Attention attention{queries[0], heads_, queries[1], keys[1], width, scale,
                                   call.data<float>(q), call.data<float>(k), call.data<float>(v),
                                   call.data<float>(bias), nullptr};
    attention.out = call.data<float>(call.output(0, queries));
    const Sizes<1> words = {mutoscope::workspace(attention)};
    auto* workspace = call.data<uint32_t>(call.output(1, words));
    call.in_parallel([&](const mutoscope::Pool& pool) { attend(attention, pool, workspace); });
  }

 private:
  int64_t heads_ = 0;
  float scale_ = NAN;
};

// Convolution of clips or of pictures by odd kernels, padded with zeros in rows and columns.
//
// Inputs: (clips, channels, frames, height, width) or (frames, channels, height, width); weights as
// 32-bit words (outputs / 8, depth, side, side, words, 8), a word two channels in bf16 or one in
// fp32; a bias (outputs); frames that go before those of a clip, or nothing; and what is added to
// the result, or nothing. Outputs: the result, and the last frames of those that went in, for the
// next call.
// Attributes: bf16; scale, 2 where each row and column of the input stands for two; kept, how many
// frames the second output has.
class Convolution {
 public:
  static constexpr const char* NAME = "BlockedConvolution";
  static constexpr const char* PROVIDER = ort::CPU;
  static constexpr std::array<ort::Type, 5> INPUTS = {ort::FLOAT, ort::INT32, ort::FLOAT,
                                                      ort::FLOAT, ort::FLOAT};
  static constexpr std::array<ort::Type, 2> OUTPUTS = {ort::FLOAT, ort::FLOAT};
  static constexpr size_t NEEDED_INPUTS = 3, NEEDED_OUTPUTS = 1;

  Convolution(const Api& api, const KernelInfo* info) {
    check(api.attribute(info, "bf16", &in_bf16_));
    check(api.attribute(info, "scale", &scale_));
    check(api.attribute(info, "kept", &kept_));
  }

  void compute(const Call& call) const {
    const Value *input = call.input(0), *weights = call.input(1), *bias = call.input(2);
    const bool is_clip = call.rank(input) == 5;
    const auto given = is_clip ? call.sizes<5>(input) : as_clip(call.sizes<4>(input));
    const auto kernel = call.sizes<6>(weights);
    mutoscope::Convolution c{};
    c.in_bf16 = in_bf16_ != 0;
    c.channels = given[1], c.outputs = call.sizes<1>(bias)[0];
    c.depth = kernel[1], c.side = kernel[2], c.scale = scale_;
    c.height = scale_ * given[3], c.width = scale_ * given[4];
    c.before = frames_before(call, given);
    c.frames = given[2] + c.before - c.depth + 1;
    demand(kernel[3] == c.side && c.side % 2 == 1 && c.side <= 5, "the kernel is no odd square");
    demand(kernel[0] == (c.outputs + 7) / 8 && kernel[5] == 8, "weights and bias do not fit");
    demand(kernel[4] == (c.in_bf16 ? (c.channels + 1) / 2 : c.channels),
           "weights and channels do not fit");
    demand(scale_ == 1 || scale_ == 2, "the scale is neither 1 nor 2");
    demand(c.frames > 0, "there are not frames enough for the kernel");
    c.weights = call.data<uint32_t>(weights), c.bias = call.data<float>(bias);
    step(given[3] * given[4], given[2], c.channels, is_clip, c.input_channel, c.input_frame);
    step(c.height * c.width, c.frames, c.outputs, is_clip, c.output_channel, c.output_frame);
    const Sizes<5> all = {given[0], given[1], kept_, given[3], given[4]};
    const auto* from = call.data<float>(input);
    const auto* earlier = call.data<float>(call.input(3));
    const Sizes<5> clips = {given[0], c.outputs, c.frames, c.height, c.width};
    const Sizes<4> pictures = {c.frames, c.outputs, c.height, c.width};
    const Value* added = call.input(4);
    demand(added == nullptr || (is_clip ? call.sizes<5>(added) == clips
                                        : call.sizes<4>(added) == pictures),
           "what is added is of another size");
    const auto* more = call.data<float>(added);
    auto* to = call.data<float>(is_clip ? call.output(0, clips) : call.output(0, pictures));
    auto* last = call.data<float>(call.output(1, all));
    demand(last == nullptr || kept_ <= c.before + given[2], "there are not frames enough to keep");
    const int64_t area = given[3] * given[4] * given[1];  // of a frame, with its channels
    for (int64_t clip = 0; clip < given[0]; ++clip) {
      c.input = from + clip * given[2] * area, c.earlier = earlier + clip * c.before * area;
      const int64_t made = clip * c.frames * c.outputs * c.height * c.width;
      c.output = to + made, c.added = more == nullptr ? nullptr : more + made;
      call.in_parallel([&](const mutoscope::Pool& pool) { convolve(c, pool); });
      if (last != nullptr) keep(c, given, last + clip * kept_ * area);
    }
  }

 private:
  static Sizes<5> as_clip(const Sizes<4>& pictures) {
    return {1, pictures[1], pictures[0], pictures[2], pictures[3]};
  }

  // Elements from one channel, and from one frame, to the next.
  static void step(int64_t area, int64_t frames, int64_t channels, bool is_clip, int64_t& channel,
                   int64_t& frame) {
    channel = is_clip ? frames * area : area;
    frame = is_clip ? area : channels * area;
  }

  static int64_t frames_before(const Call& call, const Sizes<5>& given) {
    const Value* earlier = call.input(3);
    if (earlier == nullptr) return 0;
    const auto sizes = call.sizes<5>(earlier);
    demand(call.rank(call.input(0)) == 5 &&
               sizes == Sizes<5>{given[0], given[1], sizes[2], given[3], given[4]},
           "earlier frames are of another size");
    return sizes[2];
  }

  // The last frames of a clip.
  void keep(const mutoscope::Convolution& c, const Sizes<5>& given, float* to) const {
    const int64_t area = given[3] * given[4];
    for (int64_t channel = 0; channel < given[1]; ++channel)
      for (int64_t i = c.before + given[2] - kept_; i < c.before + given[2]; ++i, to += area) {
        const float* from = i < c.before ? c.earlier + (channel * c.before + i) * area
                                         : c.input + (channel * given[2] + i - c.before) * area;
        std::memcpy(to, from, area * sizeof *to);
      }
  }

  int64_t in_bf16_ = 0, scale_ = 1, kept_ = 0;
};

// SiLU of an RMS norm over channels.
//
// Inputs: (clips, channels, …), a weight for each channel, and what a norm is at least. Outputs: the
// pixels, each divided by the norm of its channels and multiplied by their weights, then SiLU of it.
class Norm {
 public:
  static constexpr const char* NAME = "RmsNormSilu";
  static constexpr const char* PROVIDER = ort::CPU;
  static constexpr std::array<ort::Type, 3> INPUTS = {ort::FLOAT, ort::FLOAT, ort::FLOAT};
  static constexpr std::array<ort::Type, 1> OUTPUTS = {ort::FLOAT};
  static constexpr size_t NEEDED_INPUTS = 3, NEEDED_OUTPUTS = 1;

  Norm(const Api&, const KernelInfo*) {}

  void compute(const Call& call) const {
    const Value *input = call.input(0), *weights = call.input(1), *least = call.input(2);
    const auto sizes = call.all_sizes(input);
    demand(sizes.size() >= 2, "the input has no channels");
    demand(elements(call.all_sizes(weights)) == sizes[1], "weights and channels do not fit");
    demand(elements(call.all_sizes(least)) == 1, "the least norm is not one number");
    const int64_t pixels = sizes[0] * sizes[1] == 0 ? 0 : elements(sizes) / sizes[0] / sizes[1];
    const mutoscope::Norm norm{sizes[0], sizes[1], pixels, *call.data<float>(least),
                               call.data<float>(input), call.data<float>(weights),
                               call.data<float>(call.output(0, sizes))};
    call.in_parallel([&](const mutoscope::Pool& pool) { normalize(norm, pool); });
  }
};

// A product in bf16 with a matrix of 4 or 8 bits, as ONNX Runtime's MatMulNBits has it, or of bf16.
//
// Inputs: (…, K), the weights (N, K / 32, bytes) and, but for bf16, their scales (N, K / 32).
// Outputs: (…, N), and the place in which the input lies meanwhile.
// Attributes: K, N, bits; block_size, which is 32.
class Product {
 public:
  static constexpr const char* NAME = "BlockedMatMulNBits";
  static constexpr const char* PROVIDER = ort::CPU;
  static constexpr std::array<ort::Type, 3> INPUTS = {ort::FLOAT, ort::UINT8, ort::FLOAT};
  static constexpr std::array<ort::Type, 2> OUTPUTS = {ort::FLOAT, ort::INT32};
  static constexpr size_t NEEDED_INPUTS = 2, NEEDED_OUTPUTS = 2;

  Product(const Api& api, const KernelInfo* info) {
    int64_t block = 0;
    check(api.attribute(info, "K", &channels_));
    check(api.attribute(info, "N", &outputs_));
    check(api.attribute(info, "bits", &bits_));
    check(api.attribute(info, "block_size", &block));
    demand(bits_ == 4 || bits_ == 8 || bits_ == 16, "weights are of 4, 8 or 16 bits");
    demand(block == mutoscope::Product::BLOCK && channels_ % block == 0, "blocks are of 32 weights");
  }

  void compute(const Call& call) const {
    const Value *input = call.input(0), *weights = call.input(1), *scales = call.input(2);
    auto sizes = call.all_sizes(input);
    const int64_t blocks = channels_ / mutoscope::Product::BLOCK;
    demand(!sizes.empty() && sizes.back() == channels_, "the input is of another width");
    demand(call.sizes<3>(weights) == Sizes<3>{outputs_, blocks, 4 * bits_},
           "the weights are not what K, N and bits say");
    demand(bits_ == 16 || (scales && elements(call.all_sizes(scales)) == outputs_ * blocks),
           "scales and weights do not fit");
    const int64_t rows = elements(sizes) / channels_;
    sizes.back() = outputs_;
    const mutoscope::Product product{rows, channels_, outputs_, bits_, call.data<float>(input),
                                     call.data<uint8_t>(weights), call.data<float>(scales),
                                     call.data<float>(call.output(0, sizes))};
    const Sizes<1> words = {mutoscope::workspace(product)};
    auto* workspace = call.data<uint32_t>(call.output(1, words));
    call.in_parallel([&](const mutoscope::Pool& pool) { multiply(product, pool, workspace); });
  }

 private:
  int64_t channels_ = 0, outputs_ = 0, bits_ = 0;
};

}  // namespace

// What ONNX Runtime calls of a library of operators; null where all is well.
extern "C" __attribute__((visibility("default"))) Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::Base* base) {
  return mutoscope::register_operators<Attention, Convolution, Norm, Product>(options, base);
}
