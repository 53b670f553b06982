// Convolution over frames, rows and columns: causal in time, padded with zeros in space.
#pragma once

#include <cstdint>

#include "pool.h"

namespace mutoscope {

struct Convolution {
  bool in_bf16;                    // what weights are laid in, and what is multiplied
  int64_t frames, height, width;   // of the output
  int64_t channels, outputs;
  int64_t depth, side;             // of the kernel: frames; rows and columns, an odd number
  int64_t scale;                   // each row and column of the input stands for one or for two
  int64_t before;                  // how many frames go before those of the input
  const float* earlier;            // these, (channels, before, ...)
  const float* input;              // (channels, frames, ...), or (frames, channels, ...)
  int64_t input_channel, input_frame, output_channel, output_frame;  // steps from one to the next
  const uint32_t* weights;         // (outputs / 8, depth, side, side, words, 8)
  const float* bias;               // (outputs)
  const float* added;              // to the output, which it lies like; or null
  float* output;
};

void convolve(const Convolution& convolution, const Pool& pool);

}  // namespace mutoscope
