// BlockedAttention, an operator for ONNX Runtime.
//
// Inputs: queries, keys and values (batch, tokens, heads·width), and what is added to the scores of
// keys (batch, 1, 1, keys), or nothing. Outputs: (batch, queries, heads·width), and the place in
// which keys and values lie meanwhile: that of an output comes from ONNX Runtime's own memory.
// Attributes: num_heads, and scale where it is not 1 / √width.

#include <array>
#include <cmath>
#include <exception>
#include <stdexcept>
#include <string>

#include "attention.h"
#include "ort.h"

namespace {

using ort::Api;
using ort::KernelContext;
using ort::KernelInfo;
using ort::Operator;
using ort::Status;
using ort::Table;
using ort::Value;

// A status of ONNX Runtime's that is not success, on its way back to it.
struct Failure {
  Status* status;
};

void check(Status* status) {
  if (status != nullptr) throw Failure{status};
}

void demand(bool is_so, const char* what) {
  if (!is_so) throw std::invalid_argument(std::string("BlockedAttention: ") + what);
}

// What `body` throws, as a status.
template <typename Body>
Status* guarded(const Api& api, Body body) {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::invalid_argument& error) {
    return api.fail(ort::INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return api.fail(ort::FAIL, error.what());
  }
}

template <size_t Rank>
using Sizes = std::array<int64_t, Rank>;

class Kernel {
 public:
  Kernel(Api api, const KernelInfo* info) : api_(api) {
    check(api_.attribute(info, "num_heads", &heads_));
    if (Status* missing = api_.attribute(info, "scale", &scale_)) api_.release(missing);
  }

  const Api& api() const { return api_; }

  void compute(KernelContext* context) const {
    const Value *q = input(context, 0), *k = input(context, 1), *v = input(context, 2);
    const Sizes<3> queries = sizes<3>(q), keys = sizes<3>(k);
    const int64_t width = queries[2] / heads_;
    demand(width % 16 == 0 && width * heads_ == queries[2], "heads are not of 16, 32, … channels");
    demand(sizes<3>(v) == keys && keys[0] == queries[0] && keys[2] == queries[2],
           "queries, keys and values do not fit");
    demand(keys[1] > 0, "there are no keys");
    const float* bias = given_bias(context, keys);
    const float scale = std::isnan(scale_) ? 1 / std::sqrt(float(width)) : scale_;
    mutoscope::Attention attention{queries[0], heads_, queries[1], keys[1], width, scale,
                                   data<float>(q), data<float>(k), data<float>(v), bias, nullptr};
    attention.out = data<float>(output(context, 0, queries));
    const Sizes<1> words = {mutoscope::workspace(attention)};
    run(context, attention, data<uint32_t>(output(context, 1, words)));
  }

 private:
  struct Caller {
    const Api& api;
    KernelContext* context;
    Status* status;
  };

  void run(KernelContext* context, const mutoscope::Attention& attention, uint32_t* words) const {
    Caller caller{api_, context, nullptr};
    const auto parallel = [](void* to, void (*task)(void*, size_t), size_t count, void* data) {
      Caller& caller = *static_cast<Caller*>(to);
      if (caller.status != nullptr) return;
      caller.status = caller.api.parallel_for(caller.context, task, count, count, data);
    };
    mutoscope::attend(attention, {&caller, parallel}, words);
    check(caller.status);
  }

  const float* given_bias(const KernelContext* context, const Sizes<3>& keys) const {
    size_t count = 0;
    check(api_.input_count(context, &count));
    const Value* bias = count > 3 ? input(context, 3) : nullptr;
    if (bias == nullptr) return nullptr;
    demand(sizes<4>(bias) == Sizes<4>{keys[0], 1, 1, keys[1]}, "the bias does not fit the keys");
    return data<float>(bias);
  }

  const Value* input(const KernelContext* context, size_t index) const {
    const Value* value = nullptr;
    check(api_.input(context, index, &value));
    return value;
  }

  template <size_t Rank>
  Value* output(KernelContext* context, size_t index, const Sizes<Rank>& sizes) const {
    Value* value = nullptr;
    check(api_.output(context, index, sizes.data(), Rank, &value));
    return value;
  }

  template <size_t Rank>
  Sizes<Rank> sizes(const Value* value) const {
    ort::Shape* shape = nullptr;
    check(api_.shape(value, &shape));
    size_t rank = 0;
    Sizes<Rank> sizes{};
    Status* status = api_.rank(shape, &rank);
    if (status == nullptr && rank == Rank) status = api_.dimensions(shape, sizes.data(), Rank);
    api_.release(shape);
    check(status);
    demand(rank == Rank, "an input has too many axes or too few");
    return sizes;
  }

  template <typename T>
  T* data(const Value* value) const {
    void* found = nullptr;
    check(api_.data(value, &found));
    return static_cast<T*>(found);
  }

  const Api api_;
  int64_t heads_ = 0;
  float scale_ = NAN;
};

Status* create(const Operator*, Table table, const KernelInfo* info, void** kernel) {
  const Api api(table);
  return guarded(api, [&] { *kernel = new Kernel(api, info); });
}

Status* compute(void* kernel, KernelContext* context) {
  const Kernel& own = *static_cast<Kernel*>(kernel);
  return guarded(own.api(), [&] { own.compute(context); });
}

Operator describe() {
  Operator op{};
  op.version = ort::VERSION;
  op.name = [](const Operator*) { return "BlockedAttention"; };
  op.provider = [](const Operator*) { return "CPUExecutionProvider"; };
  op.input_type = [](const Operator*, size_t) { return ort::FLOAT; };
  op.inputs = [](const Operator*) { return size_t{4}; };
  op.output_type = [](const Operator*, size_t i) { return i == 0 ? ort::FLOAT : ort::INT32; };
  op.outputs = [](const Operator*) { return size_t{2}; };
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.input_presence = [](const Operator*, size_t i) { return i < 3 ? ort::REQUIRED : ort::OPTIONAL; };
  op.output_presence = [](const Operator*, size_t) { return ort::REQUIRED; };
  op.input_memory = [](const Operator*, size_t) { return 0; };
  op.create = create;
  op.compute = compute;
  op.first_version = [](const Operator*) { return 1; };
  op.last_version = [](const Operator*) { return 1; };
  return op;
}

ort::Domain* make_domain(const Api& api, const Operator* op) {
  ort::Domain* domain = nullptr;
  Status* status = api.create_domain("mutoscope", &domain);
  if (status == nullptr) status = api.add_operator(domain, op);
  if (status == nullptr) return domain;
  api.release(status);
  return nullptr;
}

}  // namespace

// What ONNX Runtime calls of a library of operators; null where all is well.
extern "C" __attribute__((visibility("default"))) Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::Base* base) {
  const Table table = base->get_table(ort::VERSION);
  if (table == nullptr) return Api(base->get_table(1)).fail(ort::FAIL, "ONNX Runtime is too old");
  const Api api(table);
  static const Operator op = describe();
  static ort::Domain* const domain = make_domain(api, &op);  // sessions keep it, so it stays
  if (domain == nullptr) return api.fail(ort::FAIL, "ONNX Runtime does not take BlockedAttention");
  return api.add_domain(options, domain);
}
