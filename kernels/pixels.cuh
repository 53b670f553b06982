// Values of pixels: what pictures share.

#pragma once
#include "elements.cuh"

// A value within [-1, 1]; NaN becomes -1, which is black.
__host__ __device__ inline float inside(float value) {
    if (!(value > -1.0f)) return -1.0f;
    return value < 1.0f ? value : 1.0f;
}

// From [-1, 1] to 0…255, half up.
__host__ __device__ inline unsigned char code8(float value) {
    float scaled = inside(value) * 127.5f + 128.0f;
    return static_cast<unsigned char>(scaled < 255.0f ? scaled : 255.0f);
}

// Codes of a row, from the first on, in one access where the address allows it.
template <class T, int N>
__host__ __device__ void store_codes(T* to, long long first, long long count, const T (&codes)[N]) {
    if (first + N <= count && aligned(to + first, N * sizeof(T))) {
        Pack<T, N> pack;
#pragma unroll
        for (int i = 0; i < N; ++i) pack.at[i] = codes[i];
        *reinterpret_cast<Pack<T, N>*>(to + first) = pack;
        return;
    }
#pragma unroll
    for (int i = 0; i < N; ++i)
        if (first + i < count) to[first + i] = codes[i];
}

// Eight neighbouring pixels of three planes as RGB triples; `count` pixels in all.
__host__ __device__ inline void store_rgb(
    unsigned char* to, long long first, long long count,
    const float (&red)[WIDTH], const float (&green)[WIDTH], const float (&blue)[WIDTH]
) {
    unsigned char codes[3 * WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        codes[3 * i] = code8(red[i]);
        codes[3 * i + 1] = code8(green[i]);
        codes[3 * i + 2] = code8(blue[i]);
    }
#pragma unroll
    for (int part = 0; part < 3; ++part) {
        unsigned char eight[WIDTH];
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) eight[i] = codes[WIDTH * part + i];
        store_codes(to, 3 * first + WIDTH * part, 3 * count, eight);
    }
}
