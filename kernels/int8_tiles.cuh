// Tokens in int8, and tiles of keys and values in the order in which a warp's lanes want them.
//
// Each token has a scale of its own: its largest magnitude becomes 127. A quad of lanes shares a
// token, each lane a quarter of its channels. A tile holds TILE keys in int8 and their values in
// float16, so that a lane reads all it multiplies in accesses of 16 bytes, next to its neighbours'.

#pragma once
#include "mma.cuh"

constexpr int TILE = 64;
constexpr float LOG2_E = 1.44269504f;
constexpr int WARPS = THREADS / WARP;

static_assert(TILE / 8 == WARPS, "a warp prepares one matrix of a tile's keys");

template <int SIZE> struct Tile {
    static constexpr int WORDS = SIZE / 16;  // a lane's quarter of a key
    static constexpr int EACH = WORDS < 4 ? WORDS : 4;

    Pack<unsigned, EACH> keys[TILE / 8][WORDS / EACH][WARP];
    Pack<unsigned, 4> values[SIZE / 8][2][WARP];
};

// Which of `count` things a column of a matrix of eight columns stands for. The two columns of a
// matrix whose sums are at one place of a quad come next to those of the following matrix there:
// over all matrices, a lane has a quarter of all things, side by side.
__host__ __device__ inline int thing_of(int matrix, int column, int count) {
    return column / 2 * (count / 4) + 2 * matrix + column % 2;
}

__host__ __device__ inline float minus_infinity() { return __uint_as_float(0xFF800000u); }

// The larger of two magnitudes; NaN where there is one.
__host__ __device__ inline float larger(float a, float b) { return a >= b || a != a ? a : b; }

// The nearest code, ties to even; NaN becomes 0.
__host__ __device__ inline int code_of(float value, float inverse) {
    float scaled = rintf(value * inverse);
    if (scaled != scaled) return 0;
    if (scaled > 127.0f) return 127;
    return scaled < -127.0f ? -127 : static_cast<int>(scaled);
}

// A lane's quarter of a token as codes; returns what they are to be multiplied by.
template <int N> __device__ float quantize(const float (&quarter)[N], unsigned (&codes)[N / 4]) {
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i) largest = larger(largest, fabsf(quarter[i]));
    largest = over_quad(largest, larger);
    float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
#pragma unroll
    for (int word = 0; word < N / 4; ++word) {
        codes[word] = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            unsigned code = static_cast<unsigned>(code_of(quarter[4 * word + i], inverse));
            codes[word] |= (code & 0xFF) << 8 * i;
        }
    }
    return largest / 127.0f;
}

// A lane's quarter of one of `count` tokens; zeros beyond the last.
template <class T, int SIZE> __device__ void
load_quarter(const T* tokens, int token, int count, float (&to)[SIZE / 4]) {
    const T* from = tokens + static_cast<long long>(token) * SIZE;
#pragma unroll
    for (int part = 0; part < SIZE / 4; part += WIDTH) {
        float eight[WIDTH] = {};
        if (token < count) load_padded(from, place_in_quad() * (SIZE / 4) + part, SIZE, eight);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) to[part + i] = eight[i];
    }
}
