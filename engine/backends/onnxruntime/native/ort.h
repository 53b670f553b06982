// What a custom operator needs of ONNX Runtime's C interface, whose headers its wheels do not bring.
//
// Source: include/onnxruntime/core/session/onnxruntime_c_api.h. Functions have places in a table,
// which only grows; those here are as in version 17 of the interface (ONNX Runtime 1.17).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t VERSION = 17;

struct Status;
struct SessionOptions;
struct Domain;
struct Value;
struct Shape;
struct KernelInfo;
struct KernelContext;

enum Code { FAIL = 1, INVALID_ARGUMENT = 2 };
enum Type { FLOAT = 1, UINT8 = 2, INT32 = 6, FLOAT16 = 10, BFLOAT16 = 16 };
enum Presence { REQUIRED = 0, OPTIONAL = 1 };

constexpr const char *CPU = "CPUExecutionProvider", *CUDA = "CUDAExecutionProvider";

using Table = const void* const*;

struct Base {  // OrtApiBase
  Table (*get_table)(uint32_t version);
  const char* (*get_version)();
};

struct Operator {  // OrtCustomOp
  uint32_t version;
  void* (*create_v1)(const Operator*, Table, const KernelInfo*);
  const char* (*name)(const Operator*);
  const char* (*provider)(const Operator*);
  Type (*input_type)(const Operator*, size_t);
  size_t (*inputs)(const Operator*);
  Type (*output_type)(const Operator*, size_t);
  size_t (*outputs)(const Operator*);
  void (*compute_v1)(void*, KernelContext*);
  void (*destroy)(void*);
  Presence (*input_presence)(const Operator*, size_t);
  Presence (*output_presence)(const Operator*, size_t);
  int (*input_memory)(const Operator*, size_t);
  int (*variadic_inputs)(const Operator*);
  int (*variadic_inputs_alike)(const Operator*);
  int (*variadic_outputs)(const Operator*);
  int (*variadic_outputs_alike)(const Operator*);
  Status* (*create)(const Operator*, Table, const KernelInfo*, void** kernel);
  Status* (*compute)(void* kernel, KernelContext*);
  Status* (*infer_shapes)(const Operator*, void*);
  int (*first_version)(const Operator*);
  int (*last_version)(const Operator*);
};

// The functions, by their places in the table.
struct Api {
  explicit Api(Table table) : table_(table) {}

  Status* fail(Code code, const char* message) const {
    return at<Status*(int, const char*)>(0)(code, message);
  }
  Status* create_domain(const char* name, Domain** out) const {
    return at<Status*(const char*, Domain**)>(26)(name, out);
  }
  Status* add_operator(Domain* domain, const Operator* op) const {
    return at<Status*(Domain*, const Operator*)>(27)(domain, op);
  }
  Status* add_domain(SessionOptions* options, Domain* domain) const {
    return at<Status*(SessionOptions*, Domain*)>(28)(options, domain);
  }
  Status* data(const Value* value, void** out) const {
    return at<Status*(const Value*, void**)>(51)(value, out);
  }
  Status* rank(const Shape* shape, size_t* out) const {
    return at<Status*(const Shape*, size_t*)>(61)(shape, out);
  }
  Status* dimensions(const Shape* shape, int64_t* out, size_t rank) const {
    return at<Status*(const Shape*, int64_t*, size_t)>(62)(shape, out, rank);
  }
  Status* shape(const Value* value, Shape** out) const {
    return at<Status*(const Value*, Shape**)>(65)(value, out);
  }
  Status* attribute(const KernelInfo* info, const char* name, float* out) const {
    return at<Status*(const KernelInfo*, const char*, float*)>(85)(info, name, out);
  }
  Status* attribute(const KernelInfo* info, const char* name, int64_t* out) const {
    return at<Status*(const KernelInfo*, const char*, int64_t*)>(86)(info, name, out);
  }
  Status* input_count(const KernelContext* context, size_t* out) const {
    return at<Status*(const KernelContext*, size_t*)>(88)(context, out);
  }
  Status* output_count(const KernelContext* context, size_t* out) const {
    return at<Status*(const KernelContext*, size_t*)>(89)(context, out);
  }
  Status* input(const KernelContext* context, size_t index, const Value** out) const {
    return at<Status*(const KernelContext*, size_t, const Value**)>(90)(context, index, out);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* shape, size_t rank,
                 Value** out) const {
    using F = Status*(KernelContext*, size_t, const int64_t*, size_t, Value**);
    return at<F>(91)(context, index, shape, rank, out);
  }
  void release(Status* status) const { at<void(Status*)>(93)(status); }
  void release(Shape* shape) const { at<void(Shape*)>(99)(shape); }
  // The `CUstream` that the kernel's work belongs to, null on a CPU.
  Status* stream(const KernelContext* context, void** out) const {
    return at<Status*(const KernelContext*, void**)>(193)(context, out);
  }
  Status* parallel_for(const KernelContext* context, void (*task)(void*, size_t), size_t count,
                       size_t batches, void* data) const {
    using F = Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*);
    return at<F>(274)(context, task, count, batches, data);
  }

 private:
  template <typename F>
  F* at(int place) const {
    return reinterpret_cast<F*>(const_cast<void*>(table_[place]));
  }
  Table table_;
};

}  // namespace ort
