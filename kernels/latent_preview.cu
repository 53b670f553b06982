// A thumbnail of latents: an affine map from channels to RGB, one pixel a latent pixel.
//
// The statement is frames.py's latent_preview, bit for bit: channels are added in their order, the
// bias last. Reads the latents once; the map stays in the cache.

#include "pixels.cuh"

// latents: (channels, pixels); matrix: (3, channels); to: (pixels, 3).
template <class T>
__device__ void preview(
    const T* latents, const float* matrix, const float* bias, int channels, long long pixels,
    unsigned char* to
) {
    long long first = first_element();
    if (first >= pixels) return;
    float rgb[3][WIDTH] = {};
#pragma unroll 1
    for (int channel = 0; channel < channels; ++channel) {
        float values[WIDTH];
        load_padded(latents + channel * pixels, first, pixels, values);
#pragma unroll
        for (int colour = 0; colour < 3; ++colour)
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                rgb[colour][i] += matrix[colour * channels + channel] * values[i];
    }
#pragma unroll
    for (int colour = 0; colour < 3; ++colour)
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) rgb[colour][i] += bias[colour];
    store_rgb(to, first, pixels, rgb[0], rgb[1], rgb[2]);
}

#define KERNEL(name, T)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        const T* latents, const float* matrix, const float* bias, int channels, long long pixels,  \
        unsigned char* to                                                                          \
    ) {                                                                                            \
        preview(latents, matrix, bias, channels, pixels, to);                                      \
    }

KERNEL(latent_preview_float32, float)
KERNEL(latent_preview_float16, Half)
KERNEL(latent_preview_bfloat16, Bfloat16)
#undef KERNEL
