// Keys and values of attention, prepared for int8_attention.cu: keys without their mean over tokens
// in int8, values in float16, both in tiles.
//
// A softmax does not see what is subtracted from all keys, and the mean takes most of an outlying
// channel with it. Its sum has a fixed order: lanes of tokens, then neighbours in pairs, as in sums.py.
// Reads keys twice and values once, writes what is prepared. The statement is int8_attention.py's,
// bit for bit.
//
// Source: Zhang et al., 2024 (SageAttention, arXiv 2410.02367), section 4.2.

#include "int8_tiles.cuh"

constexpr int CHUNKS = 16;

// partials: (heads, CHUNKS, size), of keys (heads, count, size). A thread adds eight channels.
template <class T>
__device__ void sum_keys(const T* keys, int count, int size, float* partials) {
    __shared__ float sums[THREADS][WIDTH];
    int across = size / WIDTH, rows = THREADS / across;
    int row = threadIdx.x / across, channel = threadIdx.x % across * WIDTH;
    const T* head = keys + static_cast<long long>(blockIdx.y) * count * size;
    float* sum = sums[threadIdx.x];
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) sum[i] = 0.0f;
    for (int token = blockIdx.x * rows + row; token < count; token += CHUNKS * rows) {
        float values[WIDTH];
        load_padded(head + static_cast<long long>(token) * size, channel, size, values);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) sum[i] += values[i];
    }
    for (int reach = 1; reach < rows; reach *= 2) {
        __syncthreads();
        if (row % (2 * reach) != 0) continue;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) sum[i] += sums[threadIdx.x + reach * across][i];
    }
    if (row == 0)
        store_padded(partials + (blockIdx.y * CHUNKS + blockIdx.x) * size, channel, size,
                     sums[threadIdx.x]);
}

// The mean of one channel, of its CHUNKS partial sums.
__device__ inline float mean_of(const float* partials, int size, int count) {
    float sums[CHUNKS];
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) sums[i] = partials[i * size];
#pragma unroll
    for (int reach = 1; reach < CHUNKS; reach *= 2)
#pragma unroll
        for (int i = 0; i < CHUNKS; i += 2 * reach) sums[i] += sums[i + reach];
    return sums[0] / static_cast<float>(count);
}

// A matrix of a tile's keys, by one warp; and the scales of those keys.
template <class T, int SIZE> __device__ void
prepare_keys(const T* keys, int count, const float* mean, Tile<SIZE>& tile, float* scales) {
    using Shape = Tile<SIZE>;
    int matrix = threadIdx.x / WARP, token = thing_of(matrix, quad_of_warp(), TILE);
    float quarter[SIZE / 4];
    load_quarter<T, SIZE>(keys, token, count, quarter);
#pragma unroll
    for (int i = 0; i < SIZE / 4; ++i)
        if (token < count) quarter[i] -= mean[place_in_quad() * (SIZE / 4) + i];
    unsigned words[Shape::WORDS];
    float scale = quantize(quarter, words);
    if (place_in_quad() == 0) scales[token] = scale;
#pragma unroll
    for (int part = 0; part < Shape::WORDS / Shape::EACH; ++part)
#pragma unroll
        for (int i = 0; i < Shape::EACH; ++i)
            tile.keys[matrix][part][lane_of_warp()].at[i] = words[part * Shape::EACH + i];
}

// A matrix of a tile's values, eight channels of all its keys, by one warp.
template <int SIZE>
__device__ void prepare_values(const Half (&values)[TILE][SIZE], int matrix, Tile<SIZE>& tile) {
    int channel = thing_of(matrix, quad_of_warp(), SIZE);
#pragma unroll
    for (int part = 0; part < 2; ++part) {
        Pack<unsigned, 4> words;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int key = place_in_quad() * (TILE / 4) + 2 * (4 * part + i);
            unsigned high = values[key + 1][channel].bits;
            words.at[i] = values[key][channel].bits | high << 16;
        }
        tile.values[matrix][part][lane_of_warp()] = words;
    }
}

// One tile of one head a block. scales: (heads, tiles, TILE); tiles: (heads, tiles).
template <class T, int SIZE> __device__ void prepare(
    const T* keys, const T* values, const float* partials, int count, float* scales,
    Tile<SIZE>* tiles
) {
    __shared__ float mean[SIZE];
    __shared__ Half staged[TILE][SIZE];
    long long index = static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x;
    long long first = static_cast<long long>(blockIdx.y) * count + blockIdx.x * TILE;
    int known = count - static_cast<int>(blockIdx.x) * TILE;
    if (threadIdx.x < SIZE)
        mean[threadIdx.x] =
            mean_of(partials + blockIdx.y * CHUNKS * SIZE + threadIdx.x, SIZE, count);
    for (int at = threadIdx.x * WIDTH; at < TILE * SIZE; at += THREADS * WIDTH) {
        float eight[WIDTH];
        load_padded(values + first * SIZE, at, static_cast<long long>(known) * SIZE, eight);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) staged[at / SIZE][at % SIZE + i] = narrow<Half>(eight[i]);
    }
    __syncthreads();
    prepare_keys<T, SIZE>(keys + first * SIZE, known, mean, tiles[index], scales + index * TILE);
    for (int matrix = threadIdx.x / WARP; matrix < SIZE / 8; matrix += WARPS)
        prepare_values<SIZE>(staged, matrix, tiles[index]);
}

#define SUMS_KERNEL(name, T)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const T* keys, int count, int size, float* partials) {                                    \
        sum_keys(keys, count, size, partials);                                                     \
    }

SUMS_KERNEL(int8_keys_sums_float32, float)
SUMS_KERNEL(int8_keys_sums_float16, Half)
SUMS_KERNEL(int8_keys_sums_bfloat16, Bfloat16)
#undef SUMS_KERNEL

#define KERNEL(name, T, SIZE)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        const T* keys, const T* values, const float* partials, int count, float* scales,           \
        Tile<SIZE>* tiles                                                                          \
    ) {                                                                                            \
        prepare<T, SIZE>(keys, values, partials, count, scales, tiles);                            \
    }

KERNEL(int8_keys_float32_32, float, 32)
KERNEL(int8_keys_float32_64, float, 64)
KERNEL(int8_keys_float32_128, float, 128)
KERNEL(int8_keys_float16_32, Half, 32)
KERNEL(int8_keys_float16_64, Half, 64)
KERNEL(int8_keys_float16_128, Half, 128)
KERNEL(int8_keys_bfloat16_32, Bfloat16, 32)
KERNEL(int8_keys_bfloat16_64, Bfloat16, 64)
KERNEL(int8_keys_bfloat16_128, Bfloat16, 128)
#undef KERNEL
