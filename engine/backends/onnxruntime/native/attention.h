// Attention over heads that lie side by side: softmax(q·kᵀ·scale + bias)·v, in blocks.
#pragma once

#include <cstdint>

#include "pool.h"

namespace mutoscope {

struct Attention {
  int64_t batch, heads, queries, keys;
  int64_t width;  // of a head, a multiple of 16
  float scale;
  const float* q;     // (batch, queries, heads·width)
  const float* k;     // (batch, keys, heads·width)
  const float* v;     // (batch, keys, heads·width)
  const float* bias;  // (batch, keys), or null
  float* out;         // (batch, queries, heads·width)
};

// How many words `attend` needs to lay keys and values in.
int64_t workspace(const Attention& attention);

void attend(const Attention& attention, const Pool& pool, uint32_t* workspace);

}  // namespace mutoscope
