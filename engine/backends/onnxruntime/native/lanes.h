// Sixteen numbers at a time: AVX-512 BF16 where the compiler may use it, else any machine's own.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

namespace mutoscope {

constexpr int LANES = 16;

using Floats = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));  // each a pair of bf16, the first one low

INLINE Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
INLINE Words load(const uint32_t* from) { return *reinterpret_cast<const Words*>(from); }
INLINE Words load_anywhere(const uint32_t* from) {
  Words x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
INLINE void store(float* to, Floats x) { *reinterpret_cast<Floats*>(to) = x; }
INLINE void store(uint32_t* to, Words x) { *reinterpret_cast<Words*>(to) = x; }

#ifdef __AVX512BF16__

// sum + the products of the first bf16 of each pair + those of the second.
INLINE Floats dot(Floats sum, Words a, Words b) {
  return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
INLINE Floats multiply_add(Floats sum, Floats a, Floats b) {
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
}
INLINE Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE bool any_above(Floats x, float bound) {
  return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
}

#else

INLINE Floats dot(Floats sum, Words a, Words b) {
  const Words high = Words{} + 0xffff0000u;
  sum += (Floats)(a & high) * (Floats)(b & high);
  return sum + (Floats)(a << 16) * (Floats)(b << 16);
}
INLINE Floats multiply_add(Floats sum, Floats a, Floats b) { return sum + a * b; }
INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
INLINE bool any_above(Floats x, float bound) {
  for (int i = 0; i < LANES; ++i)
    if (x[i] > bound) return true;
  return false;
}

#endif

INLINE uint32_t bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Rounded to nearest, ties away from zero.
INLINE uint32_t bf16(float x) { return (bits(x) + 0x8000u) >> 16; }

// Two rows of fp32 → pairs of bf16, rounded to nearest, ties away from zero.
INLINE Words pair(Floats low, Floats high) {
  const Words half = Words{} + 0x8000u;
  return (((Words)low + half) >> 16) | (((Words)high + half) & 0xffff0000u);
}

// 2^x, 7.5e-5 off at most, where bf16 is 4e-3; below -126 as if x were that.
// A polynomial for what is left of x beside an integer (Remez), which then goes into the exponent.
INLINE Floats power_of_two(Floats x) {
  const float to_integer = 12582912.f;  // 1.5·2^23: a float that large has no fraction
  x = larger(x, Floats{} - 126.f);
  const Floats shifted = x + to_integer;
  const Floats f = x - (shifted - to_integer);
  Floats y = f * 0.05517167f + 0.24261112f;
  y = y * f + 0.69326099f;
  y = y * f + 0.99992807f;
  return (Floats)((Words)y + ((Words)shifted << 23));
}

// x / (1 + e^-x), 3e-7 of it off at most; beyond ±87 e^-x as if x were that.
// e^-x is 2^n · e^f with the whole n that leaves the smallest f, by its Taylor polynomial.
INLINE Floats silu(Floats x) {
  const float to_integer = 12582912.f;
  const Floats y = larger(-larger(x, Floats{} - 87.f), Floats{} - 87.f);
  const Floats shifted = multiply_add(Floats{} + to_integer, y, Floats{} + 1.44269504f);
  const Floats n = shifted - to_integer;
  Floats f = multiply_add(y, n, Floats{} - 0.693359375f);  // ln 2 in two parts: the product is exact
  f = multiply_add(f, n, Floats{} + 2.12194440e-4f);
  Floats e = Floats{} + 1.f / 720;
  for (const float term : {1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f})
    e = multiply_add(Floats{} + term, e, f);
  e = (Floats)((Words)e + ((Words)shifted << 23));
  return x / (1.f + e);
}

}  // namespace mutoscope
