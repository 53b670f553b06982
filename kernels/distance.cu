// Relative L1 distance of two arrays: sum |current - previous| / sum |previous|, as a step cache
// asks for it. One float stays on the device. The statement is distance.py's, bit for bit.
//
// Both sums are added in the fixed order of sums.cuh: BLOCKS blocks leave one partial sum each, a
// last block adds those and divides. Reads each array once.

#include "sums.cuh"

__host__ __device__ inline float magnitude(float value) { return value < 0.0f ? -value : value; }

// partials: (2, BLOCKS), of the differences and of the previous array.
template <class T>
__device__ void sum_partials(const T* current, const T* previous, long long count, float* partials) {
    float differences[WIDTH] = {}, magnitudes[WIDTH] = {};
    for (long long first = first_element(); first < count; first += LANES) {
        float now[WIDTH], before[WIDTH];
        load_padded(current, first, count, now);
        load_padded(previous, first, count, before);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            differences[i] += magnitude(now[i] - before[i]);
            magnitudes[i] += magnitude(before[i]);
        }
    }
    float difference = block_sum(pairs(differences));
    float total = block_sum(pairs(magnitudes));
    if (threadIdx.x == 0) {
        partials[blockIdx.x] = difference;
        partials[BLOCKS + blockIdx.x] = total;
    }
}

#define KERNEL(name, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const T* current, const T* previous, long long count, float* partials) {                  \
        sum_partials(current, previous, count, partials);                                          \
    }

KERNEL(distance_partials_float32, float)
KERNEL(distance_partials_float16, Half)
KERNEL(distance_partials_bfloat16, Bfloat16)
#undef KERNEL

static_assert(BLOCKS == THREADS, "a thread of the last block takes one partial sum");

extern "C" __global__ void __launch_bounds__(THREADS)
distance_quotient(const float* partials, float* distance) {
    float difference = block_sum(partials[threadIdx.x]);
    float total = block_sum(partials[BLOCKS + threadIdx.x]);
    if (threadIdx.x == 0) *distance = difference / total;
}
