// What the variants of guidance weigh an item's two predictions with. The statement is
// guidance_weights.py's, bit for bit.
//
// `guidance_products_…` leaves partial sums of products in the fixed order of sums.cuh, and reads
// each prediction once; a block an item makes the two weights of them, which `guided_step` takes.
//
// Source: Fan et al., 2025 (arXiv 2503.18886); Sadat et al., 2024 (arXiv 2410.02416).

#include "sums.cuh"

constexpr int PRODUCTS = 5;
enum Product { CONDITIONAL, UNCONDITIONAL, BOTH, DIFFERENCE, ALONG };

// partials: (items, PRODUCTS, BLOCKS): c * c, u * u, c * u, d * d and d * c, where d is c - u.
template <class V>
__device__ void
sum_products(const V* conditional, const V* unconditional, long long count, float* partials) {
    long long item = blockIdx.y * count;
    float products[PRODUCTS][WIDTH] = {};
    for (long long first = first_element(); first < count; first += LANES) {
        float with[WIDTH], without[WIDTH];
        load_padded(conditional + item, first, count, with);
        load_padded(unconditional + item, first, count, without);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            float difference = with[i] - without[i];
            products[CONDITIONAL][i] += with[i] * with[i];
            products[UNCONDITIONAL][i] += without[i] * without[i];
            products[BOTH][i] += with[i] * without[i];
            products[DIFFERENCE][i] += difference * difference;
            products[ALONG][i] += difference * with[i];
        }
    }
#pragma unroll
    for (int product = 0; product < PRODUCTS; ++product) {
        float sum = block_sum(pairs(products[product]));
        if (threadIdx.x == 0)
            partials[(blockIdx.y * PRODUCTS + product) * BLOCKS + blockIdx.x] = sum;
    }
}

#define KERNEL(name, V)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                       \
    name(const V* conditional, const V* unconditional, long long count, float* partials) {         \
        sum_products(conditional, unconditional, count, partials);                                 \
    }

KERNEL(guidance_products_float32, float)
KERNEL(guidance_products_float16, Half)
KERNEL(guidance_products_bfloat16, Bfloat16)
#undef KERNEL

static_assert(BLOCKS == THREADS, "a thread of the last block takes one partial sum");

// One of this block's item; all threads call it.
__device__ inline float product_of_item(const float* partials, Product product) {
    return block_sum(partials[(blockIdx.x * PRODUCTS + product) * BLOCKS + threadIdx.x]);
}

// weights: (items, 2).
extern "C" __global__ void __launch_bounds__(THREADS)
zero_star_weights(const float* partials, float scale, float* weights) {
    float square = product_of_item(partials, UNCONDITIONAL);
    float nearest = product_of_item(partials, BOTH) / (square + 1e-8f);
    if (threadIdx.x != 0) return;
    weights[2 * blockIdx.x] = scale;
    weights[2 * blockIdx.x + 1] = nearest * (1.0f - scale);
}

extern "C" __global__ void __launch_bounds__(THREADS)
projected_weights(
    const float* partials, float scale, float eta, float norm_threshold, float* weights
) {
    float norm = sqrtf(product_of_item(partials, DIFFERENCE));
    float kept = 0.0f < norm_threshold && norm_threshold < norm ? norm_threshold / norm : 1.0f;
    float square = product_of_item(partials, CONDITIONAL);
    float parallel =
        kept * (product_of_item(partials, ALONG) / (square > 1e-24f ? square : 1e-24f));
    if (threadIdx.x != 0) return;
    weights[2 * blockIdx.x] = scale * (kept + (eta - 1.0f) * parallel);
    weights[2 * blockIdx.x + 1] = 1.0f - scale * kept;
}
