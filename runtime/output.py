"""Where a clip goes: frames → encoder thread → file, with the record of its making beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from . import checks
from .record import Record
from .video import ClipWriter, EncoderThread, open_writer
from .video.failures import file_errors
from .video.files import SIDE_FILE, OutputFile
from .video.formats import FOLDER
from .video.spec import NO_DITHER


@dataclass(frozen=True)
class Output:
    """A file to write.

    Attributes:
        path: its suffix says the container: .mp4, .mkv, .webm, .gif, .png; a name without one, or
            with a "/" at its end, is a folder of PNGs.
        codec: `h264`, `hevc`, `av1` or `vp9`; by default the container's usual one.
        encoder: `auto` takes hardware where it works, `software` never; or FFmpeg's name of one.
        quality: 0 to 100, higher is better; 75 by default.
        depth: bits of a channel: 8, or 10 with hevc and av1.
        dither: `bayer` rounds colours by an ordered pattern, which hides the steps of smooth
            gradients in video; `none` to the nearest.
        overwrite: whether an existing file may be replaced.
        metadata: whether prompt and settings go into the file, and the record into a .json beside,
            `clip.mp4.json`; an old one goes with the clip that is replaced.
    """

    path: str | os.PathLike[str]
    codec: str | None = None
    encoder: str = "auto"
    quality: int | None = None
    depth: int = 8
    dither: str = NO_DITHER
    overwrite: bool = False
    metadata: bool = True


class Destination:
    """An output that was checked against a clip: what cannot be written is refused by now.

    Attributes:
        writer: of the frames.
    """

    def __init__(self, output: Output, record: Record) -> None:
        settings = record.settings
        self.writer: ClipWriter = open_writer(
            output.path,
            width=settings["width"],
            height=settings["height"],
            frames=settings["frames"],
            fps=settings["fps"],
            codec=output.codec,
            encoder=output.encoder,
            quality=_quality(output.quality),
            depth=output.depth,
            dither=output.dither,
            overwrite=output.overwrite,
            metadata=_tags(record) if output.metadata else {},
        )
        self._record = record
        self._metadata = output.metadata
        self._side: OutputFile | None = None
        if self.writer.format is not FOLDER and (output.metadata or output.overwrite):
            path = self.writer.path.with_name(f"{self.writer.path.name}.json")
            self._side = OutputFile(path, overwrite=output.overwrite)

    def write(self, pieces: Iterable[Iterable[Any]]) -> Path:
        """Encode frames, some at a time, each as the writer's feed says.

        Raises:
            UserError: the disk is full, or the system refuses in another way.
        """
        with ExitStack() as stack:
            encoder = EncoderThread(self.writer)
            stack.callback(encoder.stop)  # an interruption may come before its exit is registered
            stack.enter_context(encoder)
            for piece in pieces:
                for frame in piece:
                    encoder.put(frame)
            with self._record.stage("encode"):
                stack.close()
        self._record.output = {
            "path": str(self.writer.path),
            "codec": self.writer.encoder.codec,
            "encoder": self.writer.encoder.name,
            "dither": self.writer.spec.dither,
            "frames": self.writer.feed.label,
            "encoder_seconds": round(self.writer.seconds, 6),
        }
        self._record.finish()
        if self._metadata:
            inside = self.writer.path / SIDE_FILE
            write_json(self._side or OutputFile(inside, overwrite=True), self._record.as_dict())
        elif self._side is not None:
            self._side.remove()
        return self.writer.path


def destination(
    output: Output | str | os.PathLike[str] | None, record: Record
) -> Destination | None:
    """The checked output of a clip; a path alone is an output with the defaults.

    Raises:
        UserError: it cannot be written.
    """
    if output is None:
        return None
    return Destination(output if isinstance(output, Output) else Output(output), record)


def write_json(file: OutputFile, value: dict[str, Any]) -> None:
    """Write an object to a file, whole or not at all.

    Raises:
        UserError: the name was taken meanwhile, or the system refuses.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    try:
        with file_errors(file.path):
            file.begin().write_bytes(text.encode("utf-8", "replace"))
        file.commit()
    finally:
        file.discard()


def check_preview(path: Path, output: Output) -> None:
    """Refuse early a preview that could not be written, or would get in the way.

    Raises:
        UserError: no .png, a name that is taken or the output's own, or no such folder.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: a preview is a .png")
    clip = Path(output.path).absolute()
    if clip in (path.absolute(), path.absolute().parent):
        raise UserError(f"{path} is where the clip goes; choose another name for the preview")
    open_writer(path, width=1, height=1, frames=1, fps=1, overwrite=output.overwrite)


def write_image(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write or replace a PNG: uint8 (height, width, 3).

    Raises:
        UserError: it cannot be written.
    """
    height, width, _ = picture.shape
    with open_writer(path, width=width, height=height, frames=1, fps=1, overwrite=True) as writer:
        writer.write(picture)


def _quality(value: int | None) -> int | None:
    return None if value is None else checks.integer("quality", value, 0, 100)


def _tags(record: Record) -> dict[str, str]:
    comment = json.dumps(record.provenance(), ensure_ascii=False)
    return {"title": record.settings["prompt"], "comment": comment}
