// Tiles of pictures: taken out of a latent frame, and blended into a canvas of decoded ones.
//
// The statements are tiles.py's, bit for bit for float32; other types are rounded once on the way
// out. What a tile covers is read and written once; of a tile that is added, the canvas too. A row of
// the grid is a plane: a channel, or one of a frame.

#include "elements.cuh"

// Eight neighbours in one row of a tile, and where they lie.
struct Piece {
    int row, first;
    bool inside;

    __device__ Piece(int height, int width) {
        int groups = (width + WIDTH - 1) / WIDTH;
        long long index = first_element() / WIDTH;
        row = static_cast<int>(index / groups);
        first = static_cast<int>(index % groups) * WIDTH;
        inside = index / groups < height;
    }
};

// Where a tile lies in the planes of something larger.
struct Place {
    int rows, columns, row, column;

    __device__ long long of(Piece piece) const {
        long long line = static_cast<long long>(blockIdx.y) * rows + row + piece.row;
        return line * columns + column;
    }
};

// frame: (planes, rows, columns); tile: (planes, height, width).
template <class T>
__device__ void take(const T* frame, Place place, int height, int width, T* tile) {
    Piece piece(height, width);
    if (!piece.inside) return;
    float values[WIDTH];
    load_padded(frame + place.of(piece), piece.first, width, values);
    long long line = static_cast<long long>(blockIdx.y) * height + piece.row;
    store_padded(tile + line * width, piece.first, width, values);
}

// tile: (planes, height, width); down: (height,); across: (width,); canvas: (planes, rows, columns).
template <class T>
__device__ void add(
    const T* tile, const float* down, const float* across, Place place, int height, int width,
    T* canvas
) {
    Piece piece(height, width);
    if (!piece.inside) return;
    T* to = canvas + place.of(piece);
    float values[WIDTH], weights[WIDTH], sum[WIDTH];
    long long line = static_cast<long long>(blockIdx.y) * height + piece.row;
    load_padded(tile + line * width, piece.first, width, values);
    load_padded(across, piece.first, width, weights);
    load_padded(to, piece.first, width, sum);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) sum[i] += values[i] * (down[piece.row] * weights[i]);
    store_padded(to, piece.first, width, sum);
}

#define TAKE_KERNEL(name, T)                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        const T* frame, int rows, int columns, int row, int column, int height, int width, T* tile \
    ) {                                                                                            \
        take(frame, {rows, columns, row, column}, height, width, tile);                            \
    }

#define ADD_KERNEL(name, T)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(                                                                                          \
        const T* tile, const float* down, const float* across, int rows, int columns, int row,     \
        int column, int height, int width, T* canvas                                               \
    ) {                                                                                            \
        add(tile, down, across, {rows, columns, row, column}, height, width, canvas);              \
    }

TAKE_KERNEL(tiles_take_float32, float)
TAKE_KERNEL(tiles_take_float16, Half)
TAKE_KERNEL(tiles_take_bfloat16, Bfloat16)
ADD_KERNEL(tiles_add_float32, float)
ADD_KERNEL(tiles_add_float16, Half)
ADD_KERNEL(tiles_add_bfloat16, Bfloat16)
#undef TAKE_KERNEL
#undef ADD_KERNEL
