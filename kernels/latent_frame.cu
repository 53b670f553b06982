// One frame of a clip's latents: taken out as the VAE wants it, or the first one put in its place.
//
// The statements are latents.py's, bit for bit for float32; other types are rounded once on the way
// out. Both read and write the frame once, nothing else. A row of blocks takes a channel.

#include "elements.cuh"

// latents: (channels, frames, pixels); mean, deviation: (channels,); to: (channels, pixels).
template <class T>
__device__ void take(
    const T* latents, const float* mean, const float* deviation, int frames, int index,
    long long pixels, T* to
) {
    long long channel = blockIdx.y, first = first_element();
    if (first >= pixels) return;
    float values[WIDTH];
    load_padded(latents + (channel * frames + index) * pixels, first, pixels, values);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) values[i] = values[i] * deviation[channel] + mean[channel];
    store_padded(to + channel * pixels, first, pixels, values);
}

// frame: (channels, pixels); latents: (channels, frames, pixels).
template <class T>
__device__ void hold(const T* frame, int frames, long long pixels, T* latents) {
    long long channel = blockIdx.y, first = first_element();
    if (first >= pixels) return;
    float values[WIDTH];
    load_padded(frame + channel * pixels, first, pixels, values);
    store_padded(latents + channel * frames * pixels, first, pixels, values);
}

#define TAKE_KERNEL(name, T)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        const T* latents, const float* mean, const float* deviation, int frames, int index,        \
        long long pixels, T* to                                                                    \
    ) {                                                                                            \
        take(latents, mean, deviation, frames, index, pixels, to);                                 \
    }

#define HOLD_KERNEL(name, T)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const T* frame, int frames, long long pixels, T* latents) {                               \
        hold(frame, frames, pixels, latents);                                                      \
    }

TAKE_KERNEL(latent_frame_take_float32, float)
TAKE_KERNEL(latent_frame_take_float16, Half)
TAKE_KERNEL(latent_frame_take_bfloat16, Bfloat16)
HOLD_KERNEL(latent_frame_hold_float32, float)
HOLD_KERNEL(latent_frame_hold_float16, Half)
HOLD_KERNEL(latent_frame_hold_bfloat16, Bfloat16)
#undef TAKE_KERNEL
#undef HOLD_KERNEL
