// Kernels as operators of ONNX Runtime's, in the domain "mutoscope".
//
// A kernel is a class that has NAME, PROVIDER (what runs it), the types INPUTS and OUTPUTS and how
// many of them are needed; it is made of `(Api, KernelInfo)` and does `compute(Call)`.
#pragma once

#include "call.h"
#include "ort.h"

namespace mutoscope {

// A kernel, and the interface that it fails by.
template <typename Kernel>
struct Created {
  Created(ort::Api api, const ort::KernelInfo* info) : api(api), kernel(api, info) {}
  const ort::Api api;
  const Kernel kernel;
};

template <typename Kernel>
ort::Status* create(const ort::Operator*, ort::Table table, const ort::KernelInfo* info,
                    void** kernel) {
  const ort::Api api(table);
  return guarded(api, Kernel::NAME, [&] { *kernel = new Created<Kernel>(api, info); });
}

template <typename Kernel>
ort::Status* compute(void* kernel, ort::KernelContext* context) {
  const auto& own = *static_cast<Created<Kernel>*>(kernel);
  return guarded(own.api, Kernel::NAME, [&] { own.kernel.compute(Call(own.api, context)); });
}

template <typename Kernel>
ort::Operator describe() {
  using ort::Operator;
  Operator op{};
  op.version = ort::VERSION;
  op.name = [](const Operator*) { return Kernel::NAME; };
  op.provider = [](const Operator*) { return Kernel::PROVIDER; };
  op.input_type = [](const Operator*, size_t i) { return Kernel::INPUTS[i]; };
  op.inputs = [](const Operator*) { return Kernel::INPUTS.size(); };
  op.output_type = [](const Operator*, size_t i) { return Kernel::OUTPUTS[i]; };
  op.outputs = [](const Operator*) { return Kernel::OUTPUTS.size(); };
  op.destroy = [](void* kernel) { delete static_cast<Created<Kernel>*>(kernel); };
  op.input_presence = [](const Operator*, size_t i) {
    return i < Kernel::NEEDED_INPUTS ? ort::REQUIRED : ort::OPTIONAL;
  };
  op.output_presence = [](const Operator*, size_t i) {
    return i < Kernel::NEEDED_OUTPUTS ? ort::REQUIRED : ort::OPTIONAL;
  };
  op.input_memory = [](const Operator*, size_t) { return 0; };
  op.create = create<Kernel>;
  op.compute = compute<Kernel>;
  op.first_version = [](const Operator*) { return 1; };
  op.last_version = [](const Operator*) { return 1; };
  return op;
}

template <typename... Kernels>
ort::Domain* make_domain(const ort::Api& api) {
  static const ort::Operator all[] = {describe<Kernels>()...};
  ort::Domain* domain = nullptr;
  ort::Status* status = api.create_domain("mutoscope", &domain);
  for (const ort::Operator& op : all)
    if (status == nullptr) status = api.add_operator(domain, &op);
  if (status == nullptr) return domain;
  api.release(status);
  return nullptr;
}

// Kernels of one name must differ in their types.
template <typename... Kernels>
ort::Status* register_operators(ort::SessionOptions* options, const ort::Base* base) {
  const ort::Table table = base->get_table(ort::VERSION);
  if (table == nullptr)
    return ort::Api(base->get_table(1)).fail(ort::FAIL, "ONNX Runtime is too old");
  const ort::Api api(table);
  static ort::Domain* const domain = make_domain<Kernels...>(api);  // sessions keep it, so it stays
  if (domain == nullptr) return api.fail(ort::FAIL, "ONNX Runtime does not take our operators");
  return api.add_domain(options, domain);
}

}  // namespace mutoscope
