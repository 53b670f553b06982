// Sums in an order that depends on nothing but the length: the same bits on every device.
//
// Lane l of LANES adds the terms l, l + LANES, l + 2 LANES, …; then neighbours are added in pairs
// until one sum is left: first the eight lanes of a thread, then a block's threads, then the blocks
// in a kernel of their own. sums.py says the same in NumPy.

#pragma once
#include "elements.cuh"

constexpr int BLOCKS = 256;
constexpr long long LANES = static_cast<long long>(BLOCKS) * THREADS * WIDTH;

// One sum of a thread's eight lanes.
__host__ __device__ inline float pairs(const float (&lanes)[WIDTH]) {
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// One sum of a block's threads; all of them call it, and all get it.
__device__ inline float block_sum(float value) {
    __shared__ float sums[THREADS];
    int thread = threadIdx.x;
    __syncthreads();
    sums[thread] = value;
    for (int reach = 1; reach < THREADS; reach *= 2) {
        __syncthreads();
        if (thread % (2 * reach) == 0) sums[thread] += sums[thread + reach];
    }
    __syncthreads();
    return sums[0];
}
