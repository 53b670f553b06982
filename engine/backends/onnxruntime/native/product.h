// A product with a matrix of 4 or 8 bits, which are decoded as they are needed, or of bf16.
#pragma once

#include <cstdint>

#include "pool.h"

namespace mutoscope {

struct Product {
  static constexpr int64_t BLOCK = 32;  // weights of an output that share a scale

  int64_t rows, channels, outputs;  // channels fill up whole blocks
  int64_t bits;                     // of a weight: (stored - 2^(bits - 1)) · scale; of 16 bf16
  const float* input;               // (rows, channels)
  const uint8_t* weights;           // (outputs, blocks, 4·bits bytes), of 4 bits the first one low
  const float* scales;              // (outputs, blocks); of 16 bits none
  float* output;                    // (rows, outputs)
};

// How many words `multiply` needs to lay the input in.
int64_t workspace(const Product& product);

void multiply(const Product& product, const Pool& pool, uint32_t* workspace);

}  // namespace mutoscope
