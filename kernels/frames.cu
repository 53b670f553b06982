// Decoded frames, planar values in [-1, 1], as pictures: RGB8, NV12 or P010.
//
// NV12 and P010 are BT.709, limited range, 4:2:0 with chroma sited left, as H.264 players take it;
// odd sides get their last row or column twice. The chroma filter is swscale's bicubic (a = -0.6)
// at half rate: 5 taps across, centred on a pixel, and 8 down, centred between two. The statements
// are frames.py's to_rgb8 and yuv.py, bit for bit. A row of the grid is a frame.

#include "pixels.cuh"

// Where a frame's three planes lie, in elements; the plane itself has no gaps.
template <class T> struct Planes {
    const T* at;
    long long channel, frame;

    __device__ const T* plane(int colour) const {
        return at + colour * channel + blockIdx.y * frame;
    }
};

template <class T> __device__ void rgb8(Planes<T> frames, long long pixels, unsigned char* to) {
    long long first = first_element();
    if (first >= pixels) return;
    float rgb[3][WIDTH];
#pragma unroll
    for (int colour = 0; colour < 3; ++colour) load_padded(frames.plane(colour), first, pixels, rgb[colour]);
    store_rgb(to + 3 * blockIdx.y * pixels, first, pixels, rgb[0], rgb[1], rgb[2]);
}

__host__ __device__ inline float luma(float red, float green, float blue) {
    return 0.2126f * red + 0.7152f * green + 0.0722f * blue;
}

// Rank of a pixel in the 8x8 Bayer pattern, 0…63.
__host__ __device__ inline int bayer(int x, int y) {
    int both = x ^ y;
    return (both & 1) << 5 | (y & 1) << 4 | (both & 2) << 2 | (y & 2) << 1 | (both & 4) >> 1 |
           (y & 4) >> 2;
}

// What rounds a code down: a half, or the pattern's threshold.
__host__ __device__ inline float threshold(bool dithered, int x, int y) {
    return dithered ? (bayer(x & 7, y & 7) + 0.5f) / 64.0f : 0.5f;
}

// A code of 8 bits, or of 10 in the upper bits of 16, from its value on the scale of 8 bits.
template <class Code> __host__ __device__ Code code(float value, float rounding) {
    constexpr bool deep = sizeof(Code) == 2;
    float level = floorf((deep ? 4.0f * value : value) + rounding);
    float peak = deep ? 1023.0f : 255.0f;
    int clipped = static_cast<int>(level < 0.0f ? 0.0f : level < peak ? level : peak);
    return static_cast<Code>(deep ? clipped << 6 : clipped);
}

__host__ __device__ inline int even(int length) { return length + length % 2; }
__host__ __device__ inline int within(int index, int length) {
    return index < 0 ? 0 : index < length ? index : length - 1;
}

// Codes of a whole picture of 4:2:0.
__host__ __device__ inline long long picture(int width, int height) {
    return static_cast<long long>(even(width)) * even(height) / 2 * 3;
}

// Eight pixels of one row a thread.
template <class T, class Code>
__device__ void luma_codes(Planes<T> frames, int width, int height, bool dithered, Code* to) {
    int columns = even(width), groups = (columns + WIDTH - 1) / WIDTH;
    long long index = first_element() / WIDTH;
    int row = static_cast<int>(index / groups), first = static_cast<int>(index % groups) * WIDTH;
    if (row >= even(height)) return;
    float rgb[3][WIDTH];
#pragma unroll
    for (int colour = 0; colour < 3; ++colour) {
        long long start = static_cast<long long>(within(row, height)) * width;
        load_padded(frames.plane(colour) + start, first, width, rgb[colour]);
#pragma unroll
        for (int i = 1; i < WIDTH; ++i)
            if (first + i == width) rgb[colour][i] = rgb[colour][i - 1];
    }
    Code codes[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        float value = luma(inside(rgb[0][i]), inside(rgb[1][i]), inside(rgb[2][i]));
        codes[i] = code<Code>(109.5f * value + 125.5f, threshold(dithered, first + i, row));
    }
    long long start = blockIdx.y * picture(width, height) + static_cast<long long>(row) * columns;
    store_codes(to + start, first, columns, codes);
}

constexpr int REACH = 3, PAIRS = WIDTH / 2;
constexpr int TAPS = REACH + WIDTH + REACH - 1;
__constant__ const float DOWN[] = {
    -0.0140625f, -0.0421875f, 0.1203125f, 0.4359375f, 0.4359375f, 0.1203125f, -0.0421875f,
    -0.0140625f,
};

// Eight pixels of a row from the first on, and those beside them that the filter reaches.
template <class T>
__device__ void load_taps(const T* row, int first, int width, float (&to)[TAPS]) {
    float middle[WIDTH];
    bool whole = first + WIDTH <= width && aligned(row + first, 16);
    if (whole) load(row + first, middle);
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
        bool beside = i < REACH || i >= REACH + WIDTH;
        if (beside || !whole) to[i] = widen(row[within(first - REACH + i, width)]);
        else to[i] = middle[i - REACH];
        to[i] = inside(to[i]);
    }
}

// Adds a row's part of four filtered colour differences, on the scale of 8 bits but for an offset.
__device__ inline void add_line(
    float weight, const float (&colour)[TAPS], const float (&light)[TAPS], float (&sum)[PAIRS]
) {
    constexpr float across[] = {-0.0375f, 0.2875f, 0.5f, 0.2875f, -0.0375f};
    constexpr int reach[] = {-3, -1, 0, 1, 3};
#pragma unroll
    for (int pair = 0; pair < PAIRS; ++pair) {
        float line = 0.0f;
#pragma unroll
        for (int j = 0; j < 5; ++j) {
            int tap = REACH + 2 * pair + reach[j];
            line += across[j] * (colour[tap] - light[tap]);
        }
        sum[pair] += weight * line;
    }
}

// Four pairs of chroma codes of one row a thread, behind the luma.
template <class T, class Code>
__device__ void chroma_codes(Planes<T> frames, int width, int height, bool dithered, Code* to) {
    int columns = even(width), groups = (columns + WIDTH - 1) / WIDTH;
    long long index = first_element() / WIDTH;
    int row = static_cast<int>(index / groups), first = static_cast<int>(index % groups) * WIDTH;
    if (row >= even(height) / 2) return;
    float blue[PAIRS] = {}, red[PAIRS] = {};
#pragma unroll 1
    for (int i = 0; i < 8; ++i) {
        long long start = static_cast<long long>(within(2 * row - 3 + i, height)) * width;
        float rgb[3][TAPS], light[TAPS];
#pragma unroll
        for (int colour = 0; colour < 3; ++colour)
            load_taps(frames.plane(colour) + start, first, width, rgb[colour]);
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap)
            light[tap] = luma(rgb[0][tap], rgb[1][tap], rgb[2][tap]);
        add_line(DOWN[i], rgb[2], light, blue);
        add_line(DOWN[i], rgb[0], light, red);
    }
    Code codes[WIDTH];
#pragma unroll
    for (int pair = 0; pair < PAIRS; ++pair) {
        float rounding = threshold(dithered, first / 2 + pair, row);
        codes[2 * pair] = code<Code>(56.0f / 0.9278f * blue[pair] + 128.0f, rounding);
        codes[2 * pair + 1] = code<Code>(56.0f / 0.7874f * red[pair] + 128.0f, rounding);
    }
    long long start = blockIdx.y * picture(width, height);
    start += static_cast<long long>(even(height) + row) * columns;
    store_codes(to + start, first, columns, codes);
}

#define RGB_KERNEL(name, T)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const T* frames, long long channel, long long frame, long long pixels,                    \
         unsigned char* to) {                                                                      \
        rgb8<T>({frames, channel, frame}, pixels, to);                                             \
    }

#define YUV_KERNEL(name, part, T, Code)                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const T* frames, long long channel, long long frame, int width, int height,               \
         int dithered, Code* to) {                                                                 \
        part<T, Code>({frames, channel, frame}, width, height, dithered, to);                      \
    }

RGB_KERNEL(frames_rgb8_float32, float)
RGB_KERNEL(frames_rgb8_float16, Half)
RGB_KERNEL(frames_rgb8_bfloat16, Bfloat16)
YUV_KERNEL(frames_nv12_luma_float32, luma_codes, float, unsigned char)
YUV_KERNEL(frames_nv12_luma_float16, luma_codes, Half, unsigned char)
YUV_KERNEL(frames_nv12_luma_bfloat16, luma_codes, Bfloat16, unsigned char)
YUV_KERNEL(frames_nv12_chroma_float32, chroma_codes, float, unsigned char)
YUV_KERNEL(frames_nv12_chroma_float16, chroma_codes, Half, unsigned char)
YUV_KERNEL(frames_nv12_chroma_bfloat16, chroma_codes, Bfloat16, unsigned char)
YUV_KERNEL(frames_p010_luma_float32, luma_codes, float, unsigned short)
YUV_KERNEL(frames_p010_luma_float16, luma_codes, Half, unsigned short)
YUV_KERNEL(frames_p010_luma_bfloat16, luma_codes, Bfloat16, unsigned short)
YUV_KERNEL(frames_p010_chroma_float32, chroma_codes, float, unsigned short)
YUV_KERNEL(frames_p010_chroma_float16, chroma_codes, Half, unsigned short)
YUV_KERNEL(frames_p010_chroma_bfloat16, chroma_codes, Bfloat16, unsigned short)
#undef RGB_KERNEL
#undef YUV_KERNEL
