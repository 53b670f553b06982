// One call of an operator by ONNX Runtime: its inputs, its outputs, its threads.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort.h"
#include "pool.h"

namespace mutoscope {

// A status of ONNX Runtime's that is not success, on its way back to it.
struct Failure {
  ort::Status* status;
};

inline void check(ort::Status* status) {
  if (status != nullptr) throw Failure{status};
}

inline void demand(bool is_so, const char* what) {
  if (!is_so) throw std::invalid_argument(what);
}

// What `body` throws, as a status.
template <typename Body>
ort::Status* guarded(const ort::Api& api, const char* name, Body body) {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  } catch (const std::invalid_argument& error) {
    return api.fail(ort::INVALID_ARGUMENT, (std::string(name) + ": " + error.what()).c_str());
  } catch (const std::exception& error) {
    return api.fail(ort::FAIL, (std::string(name) + ": " + error.what()).c_str());
  }
}

template <size_t Rank>
using Sizes = std::array<int64_t, Rank>;

template <typename Sizes>
int64_t elements(const Sizes& sizes) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  return count;
}

// What is written for the first time costs a page fault for 2 MB, where the system can, not for 4
// KB, and channels that lie far apart fewer misses of the TLB.
inline void prefer_large_pages(char* begin, int64_t size) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t LARGE = 2 << 20;
  const auto at = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t first = (at + LARGE - 1) / LARGE * LARGE, last = (at + size) / LARGE * LARGE;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

class Call {
 public:
  Call(const ort::Api& api, ort::KernelContext* context) : api_(api), context_(context) {}

  // An input, or null where it was left out.
  const ort::Value* input(size_t index) const {
    size_t count = 0;
    check(api_.input_count(context_, &count));
    const ort::Value* value = nullptr;
    if (index < count) check(api_.input(context_, index, &value));
    return value;
  }

  // An output of 32-bit elements in the host's memory, or null where nobody takes it.
  template <typename Sizes>
  ort::Value* output(size_t index, const Sizes& sizes) const {
    ort::Value* value = output_anywhere(index, sizes);
    if (value != nullptr) prefer_large_pages(data<char>(value), elements(sizes) * 4);
    return value;
  }

  // An output in the memory of whatever runs the operator, or null where nobody takes it.
  template <typename Sizes>
  ort::Value* output_anywhere(size_t index, const Sizes& sizes) const {
    size_t count = 0;
    check(api_.output_count(context_, &count));
    ort::Value* value = nullptr;
    if (index < count) check(api_.output(context_, index, sizes.data(), sizes.size(), &value));
    return value;
  }

  // The `CUstream` that this call's work belongs to, null on a CPU.
  void* stream() const {
    void* stream = nullptr;
    check(api_.stream(context_, &stream));
    return stream;
  }

  size_t rank(const ort::Value* value) const {
    size_t rank = 0;
    with_shape(value, [&](ort::Shape* shape) { return api_.rank(shape, &rank); });
    return rank;
  }

  template <size_t Rank>
  Sizes<Rank> sizes(const ort::Value* value) const {
    demand(rank(value) == Rank, "an input has too many axes or too few");
    Sizes<Rank> sizes{};
    with_shape(value, [&](ort::Shape* shape) {
      return api_.dimensions(shape, sizes.data(), Rank);
    });
    return sizes;
  }

  std::vector<int64_t> all_sizes(const ort::Value* value) const {
    std::vector<int64_t> sizes(rank(value));
    with_shape(value, [&](ort::Shape* shape) {
      return api_.dimensions(shape, sizes.data(), sizes.size());
    });
    return sizes;
  }

  template <typename T>
  T* data(const ort::Value* value) const {
    void* found = nullptr;
    if (value != nullptr) check(api_.data(value, &found));
    return static_cast<T*>(found);
  }

  // Gives ONNX Runtime's own threads to what takes a pool. What a task throws is memory that it
  // could not have; none may leave a thread, and nothing is run after one.
  template <typename Work>
  void in_parallel(Work work) const {
    Caller caller{api_, context_};
    work(Pool{&caller, [](void* to, void (*task)(void*, size_t), size_t count, void* data) {
                static_cast<Caller*>(to)->run(task, count, data);
              }});
    check(caller.status);
    if (caller.has_failed) throw std::bad_alloc();
  }

 private:
  struct Caller {
    const ort::Api& api;
    ort::KernelContext* context;
    ort::Status* status = nullptr;
    std::atomic<bool> has_failed = false;
    void (*task)(void* data, size_t i) = nullptr;
    void* data = nullptr;

    void run(void (*to_do)(void*, size_t), size_t count, void* its_data) {
      if (status != nullptr || has_failed) return;
      task = to_do, data = its_data;
      const auto guarded = [](void* own, size_t i) {
        Caller& caller = *static_cast<Caller*>(own);
        try {
          caller.task(caller.data, i);
        } catch (const std::bad_alloc&) {
          caller.has_failed = true;
        }
      };
      status = api.parallel_for(context, guarded, count, count, this);
    }
  };

  template <typename Body>
  void with_shape(const ort::Value* value, Body body) const {
    ort::Shape* shape = nullptr;
    check(api_.shape(value, &shape));
    ort::Status* status = body(shape);
    api_.release(shape);
    check(status);
  }

  const ort::Api& api_;
  ort::KernelContext* context_;
};

}  // namespace mutoscope
