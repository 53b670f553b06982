// One frame of a clip's latents: taken out as the VAE wants it, or the first one put in its place.
//
// The statements are latents.py's, bit for bit. Both read and write the frame once, nothing else. A
// row of blocks takes a channel.

#include "elements.cuh"

// latents: (channels, frames, pixels); mean, deviation: (channels,); to: (channels, pixels).
extern "C" __global__ void __launch_bounds__(THREADS)
latent_frame_take(
    const float* latents, const float* mean, const float* deviation, int frames, int index,
    long long pixels, float* to
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
extern "C" __global__ void __launch_bounds__(THREADS)
latent_frame_hold(const float* frame, int frames, long long pixels, float* latents) {
    long long channel = blockIdx.y, first = first_element();
    if (first >= pixels) return;
    float values[WIDTH];
    load_padded(frame + channel * pixels, first, pixels, values);
    store_padded(latents + channel * frames * pixels, first, pixels, values);
}
