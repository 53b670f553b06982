// Threads that are somebody else's.
#pragma once

#include <cstddef>

namespace mutoscope {

// Runs task(data, i) for each i below count, on as many threads as it has.
struct Pool {
  void* context;
  void (*run)(void* context, void (*task)(void* data, size_t i), size_t count, void* data);
};

}  // namespace mutoscope
