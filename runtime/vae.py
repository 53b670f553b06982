"""Latents → frames, a latent frame at a time, and an image → latents.

Memory does not grow with the length of the clip, but for a clip that is decoded in tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Session, Tensor
from ..kernels.frames import from_rgb8
from .arithmetic import A, Arithmetic
from .tiles import Tiling

CACHE_OUT = "new_"


def decode(open_graph: Callable[[str], Session], latent_frames: Iterable[Any]) -> Iterator[Any]:
    """Decode a clip: one frame from the first latent frame, several from each later one.

    The VAE is causal. What its convolutions need of earlier frames is a cache that one run gives
    and the next takes. A device holds two of them: a run reads one and writes over the other.

    Args:
        open_graph: gives the session of `vae_decoder_first` and of `vae_decoder_next`.
        latent_frames: each (1, channels, 1, height, width), in the VAE's own space.

    Yields:
        (1, 3, frames, height, width) in [-1, 1].
    """
    cache: dict[str, Tensor] = {}
    spare: dict[str, Tensor] = {}
    for index, latents in enumerate(latent_frames):
        session = open_graph("vae_decoder_next" if index else "vae_decoder_first")
        outputs = session.run({"latents": latents, **cache}, into=spare)
        yield outputs.pop("frames")
        on_device = {n: tensor for n, tensor in cache.items() if not isinstance(tensor, np.ndarray)}
        spare = {CACHE_OUT + name: tensor for name, tensor in on_device.items()}
        cache = {name.removeprefix(CACHE_OUT): tensor for name, tensor in outputs.items()}


def decode_tiled(
    open_graph: Callable[[str], Session],
    latent_frames: Sequence[Any],
    tiling: Tiling,
    arithmetic: Arithmetic[A],
) -> Iterator[A]:
    """The same a tile at a time, each from its first frame to its last; then frame by frame.

    The caches and all that lives in a run are a tile's. What is held of the clip is its frames, in
    float32. Blending and order are diffusers' `AutoencoderKLWan.tiled_decode`'s, but for tiles of
    one size and weights that add up to 1 in the corners too.
    """
    scale = tiling.scale
    size = [scale * side for side in latent_frames[0].shape[-2:]]
    weights = {span: arithmetic.array(span.weights) for span in (*tiling.rows, *tiling.columns)}
    canvases: list[A] = []
    for row, column in tiling.tiles:
        blend = weights[row], weights[column], scale * row.start, scale * column.start
        tiles = (arithmetic.take_tile(frame, row, column) for frame in latent_frames)
        for index, tile in enumerate(decode(open_graph, tiles)):
            if index == len(canvases):
                canvases.append(arithmetic.zeros((*tile.shape[:-2], *size)))
            arithmetic.add_tile(canvases[index], tile, *blend)
    canvases.reverse()
    while canvases:
        yield canvases.pop()


def encode(
    open_graph: Callable[[str], Session], image: NDArray[np.uint8], latent_frames: int = 1
) -> NDArray[np.float32]:
    """Encode a clip that is an image first, and gray from then on: the mean of the posterior.

    Args:
        open_graph: gives the session of `vae_encoder_first` and of `vae_encoder_next`.
        image: uint8 (height, width, 3), RGB.
        latent_frames: of the clip; the first is the image's.

    Returns:
        float32 (1, channels, latent frames, latent height, latent width), in the VAE's own space.
    """
    cache: dict[str, Tensor] = {}
    frames, latents = from_rgb8(image[None]), []
    for index in range(latent_frames):
        session = open_graph("vae_encoder_next" if index else "vae_encoder_first")
        if index == 1:
            count = int(session.inputs["frames"].shape[2])
            frames = np.zeros((1, 3, count, *image.shape[:2]), np.float32)
        outputs = session.run({"frames": frames, **cache})
        latents.append(np.asarray(outputs.pop("latents")))
        cache = {name.removeprefix(CACHE_OUT): tensor for name, tensor in outputs.items()}
    return np.concatenate(latents, axis=2)
