// Tiles of pictures: taken out of a latent frame, and blended into a canvas of decoded ones.
//
// The statements are tiles.py's, bit for bit. What a tile covers is read and written once; of a
// tile that is added, the canvas too. A row of the grid is a plane: a channel, or one of a frame.

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
extern "C" __global__ void __launch_bounds__(THREADS)
tiles_take(
    const float* frame, int rows, int columns, int row, int column, int height, int width,
    float* tile
) {
    Piece piece(height, width);
    if (!piece.inside) return;
    Place place = {rows, columns, row, column};
    float values[WIDTH];
    load_padded(frame + place.of(piece), piece.first, width, values);
    long long line = static_cast<long long>(blockIdx.y) * height + piece.row;
    store_padded(tile + line * width, piece.first, width, values);
}

// tile: (planes, height, width); down: (height,); across: (width,); canvas: (planes, rows, columns).
extern "C" __global__ void __launch_bounds__(THREADS)
tiles_add(
    const float* tile, const float* down, const float* across, int rows, int columns, int row,
    int column, int height, int width, float* canvas
) {
    Piece piece(height, width);
    if (!piece.inside) return;
    Place place = {rows, columns, row, column};
    float *to = canvas + place.of(piece), values[WIDTH], weights[WIDTH], sum[WIDTH];
    long long line = static_cast<long long>(blockIdx.y) * height + piece.row;
    load_padded(tile + line * width, piece.first, width, values);
    load_padded(across, piece.first, width, weights);
    load_padded(to, piece.first, width, sum);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) sum[i] += values[i] * (down[piece.row] * weights[i]);
    store_padded(to, piece.first, width, sum);
}
