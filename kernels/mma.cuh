// Products of small matrices by a warp's tensor cores, and which lane holds what of them.
//
// sum (16 x 8) += a (16 x depth) b (depth x 8). Lanes come in quads: quad q of eight and place p of
// four in it. A register holds EACH neighbours in depth: 4 of int8, 2 of float16. Of `a` a lane
// holds rows q and q + 8, of `b` column q, each at the depths p * EACH on and 4 * EACH further; of
// `sum`, rows q and q + 8, columns 2 p and 2 p + 1. Turing's instructions are shorter, and take the
// same registers in turn. The scalar statement says all this once more, for a CPU.
//
// Source: NVIDIA, PTX ISA 8.5, sections 9.7.13.4.7 to 9.7.13.4.10 (mma).

#pragma once
#include "elements.cuh"

constexpr int WARP = 32;

__device__ inline int lane_of_warp() { return threadIdx.x % WARP; }
__device__ inline int quad_of_warp() { return lane_of_warp() / 4; }
__device__ inline int place_in_quad() { return lane_of_warp() % 4; }

#ifndef __CUDA_ARCH__
struct Fragments { unsigned a[4], b[2]; };

template <int EACH, class Sum, class Take>
void multiply_scalars(
    Sum (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2], Take take
) {
    const Fragments* lanes = host_lanes(Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    for (int i = 0; i < 4; ++i) {
        int row = quad_of_warp() + i / 2 * 8, column = 2 * place_in_quad() + i % 2;
        for (int depth = 0; depth < 8 * EACH; ++depth) {
            int place = depth / EACH % 4, half = depth / EACH / 4;
            unsigned left = lanes[row % 8 * 4 + place].a[row / 8 + 2 * half];
            unsigned right = lanes[column * 4 + place].b[half];
            sum[i] += take(left, depth % EACH) * take(right, depth % EACH);
        }
    }
}
#endif

// Of int8, 32 deep.
__device__ inline void
multiply_int8(int (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if !defined(__CUDA_ARCH__)
    multiply_scalars<4>(sum, a, b, [](unsigned word, int i) {
        return static_cast<int>(static_cast<signed char>(word >> 8 * i & 0xFF));
    });
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        int row = part % 2, half = part / 2;
        asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
            : "+r"(sum[2 * row]), "+r"(sum[2 * row + 1])
            : "r"(a[row + 2 * half]), "r"(b[half]));
    }
#endif
}

// Of float16, 16 deep, summed in float; in which order is the hardware's own.
__device__ inline void
multiply_halves(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if !defined(__CUDA_ARCH__)
    multiply_scalars<2>(sum, a, b, [](unsigned word, int i) {
        return host_widen(static_cast<unsigned short>(word >> 16 * i & 0xFFFF));
    });
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int half = 0; half < 2; ++half)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
            "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

// Two values as float16 in one register.
__device__ inline unsigned pack_halves(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#else
    return narrow<Half>(low).bits | static_cast<unsigned>(narrow<Half>(high).bits) << 16;
#endif
}

// What `join` makes of a value of each of a quad's lanes; all of them get it.
template <class Join> __device__ float over_quad(float value, Join join) {
    value = join(value, __shfl_xor_sync(0xFFFFFFFFu, value, 1));
    return join(value, __shfl_xor_sync(0xFFFFFFFFu, value, 2));
}
