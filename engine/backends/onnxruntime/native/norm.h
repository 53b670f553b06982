// RMS norm over channels, then SiLU.
#pragma once

#include <cstdint>

#include "pool.h"

namespace mutoscope {

struct Norm {
  int64_t clips, channels, pixels;
  float least;           // a norm that is smaller counts as this
  const float* input;    // (clips, channels, pixels)
  const float* weights;  // (channels)
  float* output;
};

void normalize(const Norm& norm, const Pool& pool);

}  // namespace mutoscope
