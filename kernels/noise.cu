// Normal noise from a counter: element i depends on the seed, the stream and i, nothing else.
//
// Philox4x32-10 makes the bits, Wichura's AS241 turns each 32 of them into a normal deviate, in
// double. The statement is noise.py's, bit for bit: fused operations are off, and only IEEE
// additions, multiplications, divisions and square roots are used. A thread makes two blocks of four.
//
// Sources: Salmon et al., 2011 (Random123); Wichura, 1988 (AS241, PPND16).

#include "elements.cuh"

struct Words { unsigned at[4]; };

__host__ __device__ inline Words philox(Words counter, unsigned key0, unsigned key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        unsigned long long first = 0xD2511F53ULL * counter.at[0];
        unsigned long long second = 0xCD9E8D57ULL * counter.at[2];
        counter = {{
            static_cast<unsigned>(second >> 32) ^ counter.at[1] ^ key0,
            static_cast<unsigned>(second),
            static_cast<unsigned>(first >> 32) ^ counter.at[3] ^ key1,
            static_cast<unsigned>(first),
        }};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

// Horner's rule, highest power first.
template <int N> __host__ __device__ double polynomial(const double (&coefficients)[N], double x) {
    double value = x * coefficients[0] + coefficients[1];
#pragma unroll
    for (int i = 2; i < N; ++i) value = value * x + coefficients[i];
    return value;
}

__host__ __device__ inline double logarithm(double x) {
    // 2 atanh(s) = 2 s (1 + s²/3 + s⁴/5 + …)
    constexpr double series[] = {
        2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13, 2.0 / 11,
        2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3, 2.0 / 1,
    };
    int exponent;
    double mantissa = frexp(x, &exponent);
    if (mantissa < 0.707106781186547524401) {
        mantissa = 2.0 * mantissa;
        exponent -= 1;
    }
    double ratio = (mantissa - 1.0) / (mantissa + 1.0);
    double value = ratio * polynomial(series, ratio * ratio);
    return value + exponent * 0.693147180559945309417;
}

__host__ __device__ inline double central(double x) {
    constexpr double above[] = {
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
        4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
        1.3314166789178437745e2, 3.3871328727963666080e0,
    };
    constexpr double below[] = {
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
        2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
        4.2313330701600911252e1, 1.0,
    };
    return polynomial(above, x) / polynomial(below, x);
}

__host__ __device__ inline double tail(double x) {
    constexpr double above[] = {
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
        1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
        4.63033784615654529590e0, 1.42343711074968357734e0,
    };
    constexpr double below[] = {
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
        1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
        2.05319162663775882187e0, 1.0,
    };
    return polynomial(above, x) / polynomial(below, x);
}

// The standard normal quantile of (word + 0.5) / 2**32.
__host__ __device__ __noinline__ float deviate(unsigned word) {
    double probability = (word + 0.5) * 0x1p-32;
    double offset = probability - 0.5;
    if (fabs(offset) <= 0.425)
        return static_cast<float>(offset * central(0.180625 - offset * offset));
    double depth = sqrt(-logarithm(probability < 0.5 ? probability : 1.0 - probability));
    return static_cast<float>(copysign(tail(depth - 1.6), offset));
}

// Elements start to start + count of the sequence, at to[0] and on.
template <class T>
__device__ void draw(
    unsigned long long seed, unsigned long long stream, unsigned long long start, long long count,
    T* to
) {
    long long first = first_element() - static_cast<long long>(start % WIDTH);
    if (first >= count) return;
    unsigned long long block = start / WIDTH * 2 + first_element() / 4;
    float values[WIDTH];
#pragma unroll
    for (int half = 0; half < 2; ++half, ++block) {
        Words words = philox(
            {{static_cast<unsigned>(block), static_cast<unsigned>(block >> 32),
              static_cast<unsigned>(stream), static_cast<unsigned>(stream >> 32)}},
            static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32)
        );
#pragma unroll
        for (int i = 0; i < 4; ++i) values[4 * half + i] = deviate(words.at[i]);
    }
    if (first >= 0 && first + WIDTH <= count && aligned(to + first, 16)) {
        store(to + first, values);
        return;
    }
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
        if (first + i >= 0 && first + i < count) to[first + i] = narrow<T>(values[i]);
}

#define KERNEL(name, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        unsigned long long seed, unsigned long long stream, unsigned long long start,              \
        long long count, T* to                                                                     \
    ) {                                                                                            \
        draw(seed, stream, start, count, to);                                                      \
    }

KERNEL(noise_float32, float)
KERNEL(noise_float16, Half)
KERNEL(noise_bfloat16, Bfloat16)
#undef KERNEL
