// Attention whose scores are products of int8: softmax(q kᵀ scale + bias) v, 16 queries a warp.
//
// Queries lose their mean and become int8 as they are loaded; all else is what int8_keys.cu left.
// Scores are summed in int32, exactly; the softmax is kept as it goes (a maximum and a sum a row, in
// float, to base 2); its weights are rounded to float16 for the product with the values, which is
// summed in float. The next tile is copied while one is computed. Reads queries once, tiles once
// for every 128 queries, writes the output once.
//
// The statement is int8_attention.py's: scores bit for bit, the rest as near as the order of
// sums in tensor cores and their power of 2 allow.
//
// Source: Zhang et al., 2024 (SageAttention and SageAttention2, arXiv 2410.02367 and 2411.10958);
// Dao, 2023 (FlashAttention-2, arXiv 2307.08691), algorithm 1.

#include "int8_tiles.cuh"

constexpr int MATRICES = TILE / 8;

__host__ __device__ inline float power_of_two(float exponent) {
#ifdef __CUDA_ARCH__
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(exponent));
    return power;
#else
    return exp2f(exponent);
#endif
}

// Sixteen bytes to shared memory, in the background where the device can.
__device__ inline void copy_chunk(Pack<unsigned, 4>* to, const Pack<unsigned, 4>* from) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
#else
    *to = *from;
#endif
}

// This thread's copies are there.
__device__ inline void await_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

template <int SIZE> __device__ void fetch(const Tile<SIZE>* from, Tile<SIZE>& to) {
    using Chunk = Pack<unsigned, 4>;
    auto* source = reinterpret_cast<const Chunk*>(from);
    auto* target = reinterpret_cast<Chunk*>(&to);
    for (int i = threadIdx.x; i < static_cast<int>(sizeof(to) / sizeof(Chunk)); i += THREADS)
        copy_chunk(target + i, source + i);
}

// What a lane holds of its warp's queries: a quarter of two, and what their scores are multiplied by.
template <int SIZE> struct Queries {
    unsigned codes[2][SIZE / 16];
    float factors[2];

    // queries: (count, SIZE), of which the lane's first is `first`; mean: (SIZE,).
    template <class T> __device__
    Queries(const T* queries, int first, int count, const float* mean, float scale) {
        float means[SIZE / 4];
        load<float, SIZE / 4>(mean + place_in_quad() * (SIZE / 4), means);
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            float quarter[SIZE / 4];
            load_quarter<T, SIZE>(queries, first + 8 * row, count, quarter);
#pragma unroll
            for (int i = 0; i < SIZE / 4; ++i) quarter[i] -= means[i];
            factors[row] = quantize(quarter, codes[row]) * scale;
        }
    }

    // scores[m]: with the tile's keys of matrix m; to base 2.
    __device__ void score(
        const Tile<SIZE>& tile, const float* key_scales, const float* biases,
        float (&scores)[MATRICES][4]
    ) const {
        using Shape = Tile<SIZE>;
        float scales[2 * MATRICES], added[2 * MATRICES];
        load<float, 2 * MATRICES>(key_scales + place_in_quad() * (TILE / 4), scales);
        load<float, 2 * MATRICES>(biases + place_in_quad() * (TILE / 4), added);
#pragma unroll
        for (int matrix = 0; matrix < MATRICES; ++matrix) {
            unsigned key[Shape::WORDS];
#pragma unroll
            for (int i = 0; i < Shape::WORDS; ++i)
                key[i] = tile.keys[matrix][i / Shape::EACH][lane_of_warp()].at[i % Shape::EACH];
            int sums[4] = {};
#pragma unroll
            for (int i = 0; i < Shape::WORDS; i += 2)
                multiply_int8(
                    sums, {codes[0][i], codes[1][i], codes[0][i + 1], codes[1][i + 1]},
                    {key[i], key[i + 1]}
                );
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int key = 2 * matrix + i % 2;
                float product = static_cast<float>(sums[i]) * scales[key] * factors[i / 2];
                scores[matrix][i] = product + added[key];
            }
        }
    }
};

// The softmax of two rows as far as it has come, and its product with the values.
template <int SIZE> struct Attended {
    float highest[2], totals[2], sums[SIZE / 8][4];

    __device__ Attended() : highest{minus_infinity(), minus_infinity()}, totals{}, sums{} {}

    __device__ void add(const Tile<SIZE>& tile, const float (&scores)[MATRICES][4]) {
        unsigned weights[MATRICES][2];
#pragma unroll
        for (int row = 0; row < 2; ++row) weigh(row, scores, weights);
#pragma unroll
        for (int matrix = 0; matrix < SIZE / 8; ++matrix) {
            unsigned value[MATRICES];
#pragma unroll
            for (int i = 0; i < MATRICES; ++i)
                value[i] = tile.values[matrix][i / 4][lane_of_warp()].at[i % 4];
#pragma unroll
            for (int i = 0; i < MATRICES; i += 2)
                multiply_halves(
                    sums[matrix],
                    {weights[i][0], weights[i][1], weights[i + 1][0], weights[i + 1][1]},
                    {value[i], value[i + 1]}
                );
        }
    }

    // The tile's weights in one row; what was before shrinks where the maximum grows.
    __device__ void
    weigh(int row, const float (&scores)[MATRICES][4], unsigned (&weights)[MATRICES][2]) {
        float most = highest[row];
#pragma unroll
        for (int i = 0; i < 2 * MATRICES; ++i)
            most = fmaxf(most, scores[i / 2][2 * row + i % 2]);
        most = over_quad(most, [](float a, float b) { return fmaxf(a, b); });
        float base = most == minus_infinity() ? 0.0f : most;
        float shrunk = power_of_two(highest[row] - base);
        highest[row] = most;
        totals[row] *= shrunk;
#pragma unroll
        for (int i = 0; i < SIZE / 4; ++i) sums[i / 2][2 * row + i % 2] *= shrunk;
#pragma unroll
        for (int matrix = 0; matrix < MATRICES; ++matrix) {
            float low = power_of_two(scores[matrix][2 * row] - base);
            float high = power_of_two(scores[matrix][2 * row + 1] - base);
            totals[row] += low + high;
            weights[matrix][row] = pack_halves(low, high);
        }
    }

    template <class T> __device__ void write(T* output, int first, int count) const {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            float total = over_quad(totals[row], [](float a, float b) { return a + b; });
            int query = first + 8 * row;
            T* to = output + static_cast<long long>(query) * SIZE;
#pragma unroll
            for (int part = 0; part < SIZE / 4; part += WIDTH) {
                float eight[WIDTH];
#pragma unroll
                for (int i = 0; i < WIDTH; ++i)
                    eight[i] = sums[(part + i) / 2][2 * row + i % 2] / total;
                if (query < count)
                    store_padded(to, place_in_quad() * (SIZE / 4) + part, SIZE, eight);
            }
        }
    }
};

// queries, output: (heads, query_count, SIZE); tiles: (heads, tile_count); all else as int8_keys.cu
// left it.
template <class T, int SIZE> __device__ void attend(
    const T* queries, const float* query_mean, const Tile<SIZE>* tiles, const float* key_scales,
    const float* biases, int query_count, int tile_count, float scale, T* output
) {
    __shared__ Tile<SIZE> buffers[2];
    long long head = static_cast<long long>(blockIdx.y) * query_count * SIZE;
    int first = (blockIdx.x * WARPS + threadIdx.x / WARP) * 16 + quad_of_warp();
    long long before = static_cast<long long>(blockIdx.y) * tile_count;

    fetch(tiles + before, buffers[0]);
    Queries<SIZE> mine(queries + head, first, query_count, query_mean + blockIdx.y * SIZE, scale);
    Attended<SIZE> attended;
#pragma unroll 1
    for (int i = 0; i < tile_count; ++i) {
        await_copies();
        __syncthreads();
        if (i + 1 < tile_count) fetch(tiles + before + i + 1, buffers[(i + 1) % 2]);
        long long key = (before + i) * TILE;
        float scores[MATRICES][4];
        mine.score(buffers[i % 2], key_scales + key, biases + key, scores);
        attended.add(buffers[i % 2], scores);
    }
    attended.write(output + head, first, query_count);
}

#define KERNEL(name, T, SIZE)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, 1)                                       \
    name(                                                                                          \
        const T* queries, const float* query_mean, const Tile<SIZE>* tiles,                        \
        const float* key_scales, const float* biases, int query_count, int tile_count,             \
        float scale, T* output                                                                     \
    ) {                                                                                            \
        attend<T, SIZE>(                                                                           \
            queries, query_mean, tiles, key_scales, biases, query_count, tile_count, scale, output \
        );                                                                                         \
    }

KERNEL(int8_attention_float32_32, float, 32)
KERNEL(int8_attention_float32_64, float, 64)
KERNEL(int8_attention_float32_128, float, 128)
KERNEL(int8_attention_float16_32, Half, 32)
KERNEL(int8_attention_float16_64, Half, 64)
KERNEL(int8_attention_float16_128, Half, 128)
KERNEL(int8_attention_bfloat16_32, Bfloat16, 32)
KERNEL(int8_attention_bfloat16_64, Bfloat16, 64)
KERNEL(int8_attention_bfloat16_128, Bfloat16, 128)
#undef KERNEL
