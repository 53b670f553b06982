"""What kinds of file a clip can be written to, told by the suffix."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError, unknown

_ALIASES = {"h265": "hevc"}
_ITUNES_TAGS = frozenset(
    {"title", "artist", "album", "comment", "copyright", "date", "description", "genre", "synopsis"}
)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: ".mp4" and the like; "" is a folder of PNG files.
        muxer: FFmpeg's name, for writing and for reading.
        codecs: what it may hold, the default first.
    """

    suffix: str
    muxer: str
    codecs: tuple[str, ...]

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.suffix or "a folder of PNG files"

    @property
    def still(self) -> bool:
        """Whether it holds pictures without a rate: one PNG, or a folder of them."""
        return self.codecs == ("png",)

    @property
    def fixed(self) -> bool:
        """Whether there is one codec and nothing to choose: PNG and GIF."""
        return len(self.codecs) == 1

    def codec(self, name: str | None) -> str:
        """The codec of that name, or the default.

        Raises:
            UserError: an unknown codec, or one that this kind of file does not hold.
        """
        if name is None:
            return self.codecs[0]
        name = _ALIASES.get(name, name)
        if name not in CODECS:
            raise UserError(unknown("codec", name, CODECS))
        if name not in self.codecs:
            others = ", ".join(f.label for f in FORMATS if name in f.codecs)
            raise UserError(
                f"{self.label} holds {' or '.join(self.codecs)}, not {name}; "
                f"{name} goes into {others}"
            )
        return name

    def muxer_options(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """FFmpeg's options for the file: no dates or random ids in it, and playable while it loads.

        MP4 has places for some tags only; with any other, all go where few players look.
        """
        options = {"fflags": "+bitexact"}
        if self.muxer == "mp4":
            custom = not metadata.keys() <= _ITUNES_TAGS
            options["movflags"] = "+faststart" + ("+use_metadata_tags" if custom else "")
        if self.muxer == "gif":
            options["loop"] = "0"
        return options


FOLDER = Format("", "png_pipe", ("png",))
FORMATS = (
    Format(".mp4", "mp4", ("h264", "hevc", "av1")),
    Format(".mkv", "matroska", ("h264", "hevc", "av1")),
    Format(".webm", "webm", ("vp9", "av1")),
    Format(".gif", "gif", ("gif",)),
    Format(".png", "png_pipe", ("png",)),
    FOLDER,
)
CODECS = tuple(dict.fromkeys(codec for format_ in FORMATS for codec in format_.codecs))


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format that the path asks for: by its suffix, or a folder without one or with a last "/".

    Raises:
        UserError: a suffix that is not known.
    """
    text = os.fspath(path)
    suffix = "" if text.endswith("/") else Path(text).suffix.lower()
    for format_ in FORMATS:
        if format_.suffix == suffix:
            return format_
    known = ", ".join(f.suffix for f in FORMATS if f.suffix)
    raise UserError(
        f"{text}: {suffix} is not supported; use {known}, or a folder (a name that ends in /)"
    )
