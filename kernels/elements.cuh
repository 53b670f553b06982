// What every kernel needs to read and write arrays: three element types, eight elements a thread.
//
// Arrays hold float, Half or Bfloat16; arithmetic is done in float. A thread takes eight
// neighbouring elements, in accesses of 16 bytes where the address allows it and one by one where it
// does not or where the array ends. Multiplications and additions are never fused (the compiler is
// told so), so that a CPU gets the same bits.

#pragma once

constexpr int THREADS = 256;
constexpr int WIDTH = 8;

struct Half { unsigned short bits; };
struct Bfloat16 { unsigned short bits; };

__host__ __device__ inline float widen(float value) { return value; }

__host__ __device__ inline float widen(Half value) {
#ifdef __CUDA_ARCH__
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
#else
    return host_widen(value.bits);
#endif
}

__host__ __device__ inline float widen(Bfloat16 value) {
    return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

// Rounding is to nearest, ties to even; a NaN stays one.
template <class T> __host__ __device__ T narrow(float value);

template <> __host__ __device__ inline float narrow<float>(float value) { return value; }

template <> __host__ __device__ inline Half narrow<Half>(float value) {
#ifdef __CUDA_ARCH__
    Half narrowed;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrowed.bits) : "f"(value));
    return narrowed;
#else
    return {host_narrow(value)};
#endif
}

template <> __host__ __device__ inline Bfloat16 narrow<Bfloat16>(float value) {
    unsigned bits = __float_as_uint(value);
    if (value != value) return {0x7FFF};
    return {static_cast<unsigned short>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

// The elements of one access to memory.
template <class T, int N> struct alignas(N * sizeof(T)) Pack { T at[N]; };

__host__ __device__ inline bool aligned(const void* address, int bytes) {
    return reinterpret_cast<unsigned long long>(address) % bytes == 0;
}

// Eight elements in 16-byte accesses, or one.
template <class T, int N> __host__ __device__ void load(const T* from, float (&to)[N]) {
    constexpr int each = N == 1 ? 1 : 16 / sizeof(T);
#pragma unroll
    for (int part = 0; part < N; part += each) {
        auto pack = *reinterpret_cast<const Pack<T, each>*>(from + part);
#pragma unroll
        for (int i = 0; i < each; ++i) to[part + i] = widen(pack.at[i]);
    }
}

template <class T, int N> __host__ __device__ void store(T* to, const float (&from)[N]) {
    constexpr int each = N == 1 ? 1 : 16 / sizeof(T);
#pragma unroll
    for (int part = 0; part < N; part += each) {
        Pack<T, each> pack;
#pragma unroll
        for (int i = 0; i < each; ++i) pack.at[i] = narrow<T>(from[part + i]);
        *reinterpret_cast<Pack<T, each>*>(to + part) = pack;
    }
}

// Eight elements from the first on, of an array of count; those beyond its end are 0.
template <class T>
__host__ __device__ void load_padded(
    const T* from, long long first, long long count, float (&to)[WIDTH]
) {
    if (first + WIDTH <= count && aligned(from + first, 16)) {
        load(from + first, to);
        return;
    }
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) to[i] = first + i < count ? widen(from[first + i]) : 0.0f;
}

// Eight elements from the first on, of an array of count; nothing beyond its end.
template <class T>
__host__ __device__ void
store_padded(T* to, long long first, long long count, const float (&from)[WIDTH]) {
    if (first + WIDTH <= count && aligned(to + first, 16)) {
        store(to + first, from);
        return;
    }
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
        if (first + i < count) to[first + i] = narrow<T>(from[i]);
}

// The first of this thread's elements, in a grid of one thread for every eight.
__device__ inline long long first_element() {
    return (static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x) * WIDTH;
}
