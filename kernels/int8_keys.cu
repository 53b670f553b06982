// What int8_attention.cu works on: keys in int8 and values in float16, in tiles, and each key's bias.
//
// A softmax does not see what is subtracted from all keys, and their mean over tokens takes most of
// an outlying channel with it. Queries lose theirs too; what it would have added to a key's scores
// is that key's bias, where the caller's own is added, and where keys beyond the last get -inf.
// Sums over tokens have a fixed order: lanes of tokens, then neighbours in pairs, as in sums.py.
// Reads queries once, keys twice, values once; writes what is prepared. The statement is
// int8_attention.py's, bit for bit.
//
// Source: Zhang et al., 2024 (SageAttention, arXiv 2410.02367, section 4.2, of the keys;
// SageAttention2, arXiv 2411.10958, section 3.1, of the queries).

#include "int8_tiles.cuh"

constexpr int CHUNKS = 16;

// partials: (heads, CHUNKS, size), of tokens (heads, count, size). A thread adds eight channels.
template <class T>
__device__ void sum_tokens(const T* tokens, int count, int size, float* partials) {
    __shared__ float sums[THREADS][WIDTH];
    int across = size / WIDTH, rows = THREADS / across;
    int row = threadIdx.x / across, channel = threadIdx.x % across * WIDTH;
    const T* head = tokens + static_cast<long long>(blockIdx.y) * count * size;
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

// What belongs to a tile's keys beside their codes.
struct Beside {
    const float *mean, *query_mean;  // (SIZE,)
    const float* bias;               // of each key; or none
    float scale;                     // of scores to base 2
    float *scales, *biases;          // (TILE,), to be written
};

// A matrix of a tile's keys, by one warp.
template <class T, int SIZE> __device__ void
prepare_keys(const T* keys, int count, const Beside& beside, Tile<SIZE>& tile) {
    using Shape = Tile<SIZE>;
    int matrix = threadIdx.x / WARP, token = thing_of(matrix, quad_of_warp(), TILE);
    int channel = place_in_quad() * (SIZE / 4);
    float quarter[SIZE / 4], shared = 0.0f;
    load_quarter<T, SIZE>(keys, token, count, quarter);
#pragma unroll
    for (int i = 0; i < SIZE / 4; ++i) {
        if (token < count) quarter[i] -= beside.mean[channel + i];
        shared += quarter[i] * beside.query_mean[channel + i];
    }
    shared = over_quad(shared, [](float a, float b) { return a + b; });
    unsigned words[Shape::WORDS];
    float scale = quantize(quarter, words);
    if (place_in_quad() == 0) {
        float bias = token < count && beside.bias ? beside.bias[token] * LOG2_E : 0.0f;
        beside.scales[token] = scale;
        beside.biases[token] = token < count ? shared * beside.scale + bias : minus_infinity();
    }
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

// Queries and keys, their partial sums, and how many there are.
struct Sums {
    const float *keys, *queries;
    int key_count, query_count;
};

// One tile of one head a block. bias: (batch, keys) or none; query_mean: (heads, SIZE); scales and
// biases: (heads, tiles, TILE); tiles: (heads, tiles).
template <class T, int SIZE> __device__ void prepare(
    const T* keys, const T* values, const Sums& sums, const float* bias, int heads, float scale,
    float* query_mean, float* scales, float* biases, Tile<SIZE>* tiles
) {
    __shared__ float means[2][SIZE];
    __shared__ Half staged[TILE][SIZE];
    static_assert(2 * SIZE <= THREADS, "a thread takes one mean");
    long long index = static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x;
    int begin = blockIdx.x * TILE, known = sums.key_count - begin;
    long long first = static_cast<long long>(blockIdx.y) * sums.key_count + begin;
    if (threadIdx.x < 2 * SIZE) {
        bool of_queries = threadIdx.x >= SIZE;
        int channel = threadIdx.x % SIZE;
        const float* partials = of_queries ? sums.queries : sums.keys;
        int count = of_queries ? sums.query_count : sums.key_count;
        float mean = mean_of(partials + blockIdx.y * CHUNKS * SIZE + channel, SIZE, count);
        means[of_queries][channel] = mean;
        if (of_queries && blockIdx.x == 0) query_mean[blockIdx.y * SIZE + channel] = mean;
    }
    for (int at = threadIdx.x * WIDTH; at < TILE * SIZE; at += THREADS * WIDTH) {
        float eight[WIDTH];
        load_padded(values + first * SIZE, at, static_cast<long long>(known) * SIZE, eight);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) staged[at / SIZE][at % SIZE + i] = narrow<Half>(eight[i]);
    }
    __syncthreads();
    long long row = static_cast<long long>(blockIdx.y / heads) * sums.key_count + begin;
    Beside beside = {
        means[0], means[1], bias ? bias + row : nullptr, scale,
        scales + index * TILE, biases + index * TILE,
    };
    prepare_keys<T, SIZE>(keys + first * SIZE, known, beside, tiles[index]);
    for (int matrix = threadIdx.x / WARP; matrix < SIZE / 8; matrix += WARPS)
        prepare_values<SIZE>(staged, matrix, tiles[index]);
}

#define SUMS_KERNEL(name, T)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const T* tokens, int count, int size, float* partials) {                                  \
        sum_tokens(tokens, count, size, partials);                                                 \
    }

SUMS_KERNEL(int8_keys_sums_float32, float)
SUMS_KERNEL(int8_keys_sums_float16, Half)
SUMS_KERNEL(int8_keys_sums_bfloat16, Bfloat16)
#undef SUMS_KERNEL

#define KERNEL(name, T, SIZE)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        const T* keys, const T* values, const float* key_sums, const float* query_sums,            \
        int key_count, int query_count, const float* bias, int heads, float scale,                 \
        float* query_mean, float* scales, float* biases, Tile<SIZE>* tiles                         \
    ) {                                                                                            \
        Sums sums = {key_sums, query_sums, key_count, query_count};                                \
        prepare<T, SIZE>(                                                                          \
            keys, values, sums, bias, heads, scale, query_mean, scales, biases, tiles              \
        );                                                                                         \
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
