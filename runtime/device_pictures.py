"""Decoded frames on their way out of a GPU: made into pictures there, then fetched or left there.

Each is given when it is done, after the next one was begun: the GPU decodes a latent frame while
the encoder's thread encodes the frames of the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..kernels.device import DeviceArray, Stream
from ..kernels.ops import Ops
from ..kernels.surfaces import Surfaces
from .video.feed import RGB, Feed

AHEAD = 1
"""How many latent frames the GPU is ahead of what is given."""


def pictures(stream: Stream, decoded: Iterable[DeviceArray], feed: Feed) -> Iterator[Any]:
    """The pictures of each latent frame.

    Args:
        stream: that frames are decoded on.
        decoded: (1, 3, frames, height, width) each.
        feed: what to make of them.

    Yields:
        As many pictures as frames: an array on the host, or a list of arrays on the device, where
        one is used again when nothing refers to it.
    """
    ops = Ops(stream)
    with stream.device.stream() as aside:
        begun: deque[Callable[[], Any]] = deque()
        for frames in decoded:
            codes = _convert(ops, frames, feed)
            if feed.surfaces is None:
                aside.wait(stream.record())
                begun.append(aside.fetch(codes))
            else:
                begun.append(_leave(stream, feed.surfaces, codes))
            if len(begun) > AHEAD:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()


def _convert(ops: Ops, frames: DeviceArray, feed: Feed) -> DeviceArray:
    _, _, count, height, width = frames.shape
    codes = ops.stream.empty((count, *feed.shape(height, width)), feed.dtype)
    if feed.layout == RGB.layout:
        ops.to_rgb8(frames, codes)
    else:
        make = {"nv12": ops.to_nv12, "p010le": ops.to_p010}[feed.layout]
        make(frames, codes, dithered=feed.dithered)
    return codes


def _leave(
    stream: Stream, surfaces: Surfaces, codes: DeviceArray
) -> Callable[[], Sequence[DeviceArray]]:
    """Each picture in a surface of its own."""
    count, *shape = codes.shape
    taken = [surfaces.take(shape, codes.dtype) for _ in range(count)]
    for index, surface in enumerate(taken):
        stream.copy(codes.rows(index, index + 1).reshape(surface.shape), surface)
    made = stream.record()

    def finish() -> Sequence[DeviceArray]:
        made.synchronize()
        return taken

    return finish
