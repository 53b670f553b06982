// Classifier-free guidance and one scheduler step, in one pass over the latents.
//
// velocity = unconditional + scale * (conditional - unconditional), or of both predictions what
// guidance_weights.cu has left for each; rescaled where asked for. Then every output is a weighted
// sum of latents, velocity and history. The statement is guided_step.py's, bit for bit for
// float32; other types are rounded once on the way out. Each input is read once and each output
// written once, so an output may be an input's array: a history rotates in place.
//
// Rescaled guidance needs the spreads of the whole prediction first: `guidance_moments_…` leaves
// partial sums in the fixed order of sums.cuh, `guidance_factor` makes one factor an item of them.
//
// Source: Ho and Salimans, 2022; Lin et al., 2023 (arXiv 2305.08891), section 3.4.

#include "sums.cuh"

constexpr int HISTORY = 3;
constexpr int OUTPUTS = 4;
constexpr int MOMENTS = 4;

// How one item's predictions become one: by their weights where there are any, else by the scale.
struct Guidance {
    float scale;
    const float* weights;  // (2,)

    __host__ __device__ float operator()(float conditional, float unconditional) const {
        if (weights) return weights[0] * conditional + weights[1] * unconditional;
        return unconditional + scale * (conditional - unconditional);
    }
};

__host__ __device__ inline float variance(float sum, float squares, float count) {
    float spread = (squares - sum * sum / count) / count;
    return spread < 0.0f ? 0.0f : spread;
}

// What rescaled guidance multiplies with; 1 where the guided prediction has no spread.
__host__ __device__ inline float
rescale_factor(float conditional, float guided, float rescale) {
    float ratio = guided > 0.0f ? sqrtf(conditional / guided) : 1.0f;
    return rescale * ratio + (1.0f - rescale);
}

// What one step reads and writes; the arrays of one item.
template <class V, class L> struct Step {
    const V *conditional, *unconditional;
    Guidance guide;
    const float* factor;
    const L* latents;
    const L* history[HISTORY];
    int known;
    const float* coefficients;  // (wanted, 2 + known)
    L* outputs[OUTPUTS];
    int wanted;

    __host__ __device__ bool aligned_at(long long first) const {
        bool all = aligned(conditional + first, 16) && aligned(latents + first, 16);
        if (unconditional) all = all && aligned(unconditional + first, 16);
#pragma unroll
        for (int i = 0; i < HISTORY; ++i) all = all && (i >= known || aligned(history[i] + first, 16));
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) all = all && (i >= wanted || aligned(outputs[i] + first, 16));
        return all;
    }

    template <int N> __host__ __device__ void velocity(long long first, float (&to)[N]) const {
        load(conditional + first, to);
        float without[N];
        if (unconditional) load(unconditional + first, without);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            if (unconditional) to[i] = guide(to[i], without[i]);
            if (factor) to[i] = to[i] * *factor;
        }
    }

    template <int N> __host__ __device__ void run(long long first) const {
        float in[2 + HISTORY][N];
        load(latents + first, in[0]);
        velocity(first, in[1]);
#pragma unroll
        for (int i = 0; i < HISTORY; ++i)
            if (i < known) load(history[i] + first, in[2 + i]);
#pragma unroll
        for (int row = 0; row < OUTPUTS; ++row) {
            if (row >= wanted) break;
            const float* weight = coefficients + row * (2 + known);
            float sum[N];
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] = weight[0] * in[0][i] + weight[1] * in[1][i];
#pragma unroll
            for (int past = 0; past < HISTORY; ++past) {
                if (past >= known) break;
#pragma unroll
                for (int i = 0; i < N; ++i) sum[i] = sum[i] + weight[2 + past] * in[2 + past][i];
            }
            store(outputs[row] + first, sum);
        }
    }
};

// Eight elements at once where all arrays are aligned, one by one elsewhere and at the end.
template <class V, class L> __device__ void run(const Step<V, L>& step, long long count) {
    long long first = first_element();
    if (first + WIDTH <= count && step.aligned_at(first)) {
        step.template run<WIDTH>(first);
        return;
    }
#pragma unroll 1
    for (long long i = first; i < first + WIDTH && i < count; ++i) step.template run<1>(i);
}

template <class T> __device__ T* of_item(T* array, long long count) {
    return array ? array + blockIdx.y * count : array;
}

#define KERNEL(name, V, L)                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                       \
    name(                                                                                          \
        const V* conditional, const V* unconditional, float scale, const float* weights,           \
        const float* factors, const L* latents, const L* past0, const L* past1,                    \
        const L* past2, int known, const float* coefficients, L* out0, L* out1, L* out2,           \
        L* out3, int wanted, long long count                                                       \
    ) {                                                                                            \
        Step<V, L> step = {                                                                        \
            of_item(conditional, count), of_item(unconditional, count),                            \
            {scale, of_item(weights, 2)}, of_item(factors, 1), of_item(latents, count),            \
            {of_item(past0, count), of_item(past1, count), of_item(past2, count)}, known,          \
            coefficients, {of_item(out0, count), of_item(out1, count),                             \
            of_item(out2, count), of_item(out3, count)}, wanted,                                   \
        };                                                                                         \
        run(step, count);                                                                          \
    }

KERNEL(guided_step_float32_float32, float, float)
KERNEL(guided_step_float16_float32, Half, float)
KERNEL(guided_step_bfloat16_float32, Bfloat16, float)
KERNEL(guided_step_float16_float16, Half, Half)
KERNEL(guided_step_bfloat16_bfloat16, Bfloat16, Bfloat16)
#undef KERNEL

// partials: (items, MOMENTS, BLOCKS): sums and squares of the conditional and the guided prediction.
template <class V>
__device__ void sum_moments(
    const V* conditional, const V* unconditional, const Guidance& guide, long long count,
    float* partials
) {
    long long item = blockIdx.y * count;
    float moments[MOMENTS][WIDTH] = {};
    for (long long first = first_element(); first < count; first += LANES) {
        float with[WIDTH], without[WIDTH];
        load_padded(conditional + item, first, count, with);
        load_padded(unconditional + item, first, count, without);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            float guided = guide(with[i], without[i]);
            moments[0][i] += with[i];
            moments[1][i] += with[i] * with[i];
            moments[2][i] += guided;
            moments[3][i] += guided * guided;
        }
    }
#pragma unroll
    for (int moment = 0; moment < MOMENTS; ++moment) {
        float sum = block_sum(pairs(moments[moment]));
        if (threadIdx.x == 0)
            partials[(blockIdx.y * MOMENTS + moment) * BLOCKS + blockIdx.x] = sum;
    }
}

#define KERNEL(name, V)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                       \
    name(                                                                                          \
        const V* conditional, const V* unconditional, float scale, const float* weights,           \
        long long count, float* partials                                                           \
    ) {                                                                                            \
        Guidance guide = {scale, of_item(weights, 2)};                                             \
        sum_moments(conditional, unconditional, guide, count, partials);                           \
    }

KERNEL(guidance_moments_float32, float)
KERNEL(guidance_moments_float16, Half)
KERNEL(guidance_moments_bfloat16, Bfloat16)
#undef KERNEL

// One block an item.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
guidance_factor(const float* partials, float rescale, long long count, float* factors) {
    float sums[MOMENTS];
#pragma unroll
    for (int moment = 0; moment < MOMENTS; ++moment)
        sums[moment] =
            block_sum(partials[(blockIdx.x * MOMENTS + moment) * BLOCKS + threadIdx.x]);
    if (threadIdx.x != 0) return;
    float length = static_cast<float>(count);
    float conditional = variance(sums[0], sums[1], length);
    float guided = variance(sums[2], sums[3], length);
    factors[blockIdx.x] = rescale_factor(conditional, guided, rescale);
}
