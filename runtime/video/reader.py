"""Read a clip back: what it is, how it was made, its frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from .failures import reason
from .files import is_frame
from .formats import FOLDER, Format, format_of

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_READ_BYTES = 8 << 30

_MUXER_TAGS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time"}
)
_SPACES = {0: "gbr", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc"}
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020"}
_TRANSFERS = {1: "bt709", 6: "smpte170m", 13: "iec61966-2-1", 16: "smpte2084", 18: "arib-std-b67"}
_RANGES = {1: "tv", 2: "pc"}


@dataclass(frozen=True)
class ClipInfo:
    """What a clip is.

    Attributes:
        path: the file or folder.
        codec: h264, hevc, av1, vp9, gif, png and so on.
        width: in pixels.
        height: in pixels.
        frames: how many there are.
        fps: frames a second, the mean for GIF; `None` for PNG.
        duration: in seconds; `None` for PNG.
        pix_fmt: FFmpeg's name of the pixel layout.
        colour_space: the matrix, as FFmpeg calls it; `None` where the file does not say.
        colour_primaries: likewise.
        colour_transfer: likewise.
        colour_range: "tv" (limited), "pc" (full) or `None`.
        encoder: FFmpeg's encoder, where the file names it.
        metadata: tags by lower-case name, without those that the container makes itself.
    """

    path: Path
    codec: str
    width: int
    height: int
    frames: int
    fps: Fraction | None
    duration: float | None
    pix_fmt: str
    colour_space: str | None
    colour_primaries: str | None
    colour_transfer: str | None
    colour_range: str | None
    encoder: str | None
    metadata: Mapping[str, str]


def probe(path: str | os.PathLike[str]) -> ClipInfo:
    """Say what a clip is; packets are counted, not decoded.

    Raises:
        UserError: there is no clip, or it cannot be read.
    """
    format_ = format_of(path)
    files = _files(Path(path), format_)
    with _opened(files[0], format_) as (container, stream):
        return _describe(Path(path), files, format_, container, stream)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The tags of a clip, by lower-case name; GIF has none.

    Raises:
        UserError: there is no clip, or it cannot be read.
    """
    format_ = format_of(path)
    file = _files(Path(path), format_)[0]
    with _opened(file, format_) as (container, _):
        return _metadata(file, format_, container)


def read_frames(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """The frames of a clip, uint8 (frames, height, width, 3), RGB by the matrix it is tagged with.

    Raises:
        UserError: there is no clip, it cannot be read, or it would take more than 8 GB.
    """
    from .colour import RgbConverter

    convert = RgbConverter()
    frames: list[NDArray[np.uint8]] = []
    for picture in _pictures(Path(path), format_of(path)):
        frame = convert(picture)
        if frames and frame.shape != frames[0].shape:
            raise UserError(f"{path} cannot be read: its frames are not all of one size")
        if (len(frames) + 1) * frame.nbytes > MAX_READ_BYTES:
            raise UserError(
                f"{path} is too long: its frames take more than {MAX_READ_BYTES:,} bytes"
            )
        frames.append(frame)
    if not frames:
        raise UserError(f"{path} cannot be read: it has no frames")
    return np.stack(frames)


def _pictures(path: Path, format_: Format) -> Iterator[av.VideoFrame]:
    for file in _files(path, format_):
        with _opened(file, format_) as (container, stream):
            yield from container.decode(stream)


def _files(path: Path, format_: Format) -> list[Path]:
    if format_ is not FOLDER:
        if not path.is_file():
            raise UserError(f"there is no clip at {path}")
        return [path]
    if not path.is_dir():
        raise UserError(f"there is no clip at {path}")
    files = sorted((p for p in path.iterdir() if is_frame(p.name)), key=lambda p: int(p.stem))
    if not files:
        raise UserError(f"{path} has no frames (0001.png and so on)")
    return files


@contextmanager
def _opened(file: Path, format_: Format) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open by the format that the suffix says: what the content says could lead to other files."""
    import av

    try:
        with av.open(
            str(file.absolute()), format=format_.muxer, metadata_errors="replace"
        ) as container:
            streams = [s for s in container.streams.video if s.codec_context is not None]
            if not streams:
                raise UserError(f"{file} cannot be read: it has no pictures")
            yield container, streams[0]
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{file} cannot be read: {reason(error)}") from error


def _describe(
    path: Path, files: list[Path], format_: Format, container: InputContainer, stream: VideoStream
) -> ClipInfo:
    context = stream.codec_context
    metadata = _metadata(files[0], format_, container)
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    frames, fps, duration = _timing(container, stream)
    if format_.still:
        frames, fps, duration = len(files), None, None
    return ClipInfo(
        path=path,
        codec=context.codec.canonical_name,
        width=context.width,
        height=context.height,
        frames=frames,
        fps=fps,
        duration=duration,
        pix_fmt=context.pix_fmt or "",
        colour_space=_SPACES.get(context.colorspace),
        colour_primaries=_PRIMARIES.get(context.color_primaries),
        colour_transfer=_TRANSFERS.get(context.color_trc),
        colour_range=_RANGES.get(context.color_range),
        encoder=tags.get("encoder"),
        metadata=metadata,
    )


def _timing(
    container: InputContainer, stream: VideoStream
) -> tuple[int, Fraction | None, float | None]:
    frames = sum(packet.size > 0 for packet in container.demux(stream))
    duration = Fraction(container.duration, 1_000_000) if container.duration else None
    fps = stream.average_rate
    if stream.codec_context.name == "gif" and duration:
        fps = frames / duration
    return frames, fps, None if duration is None else float(duration)


def _metadata(file: Path, format_: Format, container: InputContainer) -> dict[str, str]:
    if format_.still:
        from .png import read_text

        with file.open("rb") as stream:
            return read_text(stream)
    tags = {key.lower(): value for key, value in container.metadata.items()}
    return {key: value for key, value in tags.items() if key not in _MUXER_TAGS}
