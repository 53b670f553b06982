"""The encoders: which there are, and how the one scale of quality maps to each one's own.

Quality, 0 to 100, is linear in an encoder's quantiser; the tables have the two ends. At the default
of 75 that is libx264 crf 20, libx265 crf 22, libsvtav1 and libvpx-vp9 crf 26, NVENC cq 21 (AV1 26),
QSV global_quality 21, AMF qp 21 (AV1 98) and, for V4L2, which knows no quality, 0.27 bits a pixel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from .spec import ClipSpec

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

BT709 = 1
LIMITED_RANGE = 1


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders.

    Attributes:
        name: FFmpeg's name.
        codec: what it writes.
        pix_fmt: the pixel layout it takes, for 8 bits.
        fixed: the options that are always set.
        scale: the options that set the quality.
        ends: their value at quality 0 and at quality 100.
        hardware: whether it needs a device, and may therefore fail to open.
        reads_gpu_memory: whether it takes pictures that lie in an NVIDIA GPU's memory.
        deep: the pixel layout for 10 bits; "" where there is none.
        least_side: of the pictures it is given, in pixels.
    """

    name: str
    codec: str
    pix_fmt: str
    fixed: Mapping[str, str]
    scale: tuple[str, ...] = ()
    ends: tuple[int, int] = (0, 0)
    hardware: bool = False
    reads_gpu_memory: bool = False
    deep: str = ""
    least_side: int = 1

    @property
    def subsampled(self) -> bool:
        """Whether it stores colour at half the resolution (4:2:0), so that sides must be even."""
        return self.pix_fmt in {"yuv420p", "nv12"}

    def layout(self, spec: ClipSpec) -> str:
        """The pixel layout of its pictures, at the clip's depth."""
        return self.deep if spec.depth == 10 else self.pix_fmt

    def size(self, spec: ClipSpec) -> tuple[int, int]:
        """Width and height of the pictures it is given."""
        return spec.even_size if self.subsampled else (spec.width, spec.height)

    def options(self, spec: ClipSpec) -> dict[str, str]:
        """FFmpeg's options for the encoder."""
        worst, best = self.ends
        value = round(worst + (best - worst) * spec.quality / 100)
        if self.scale == ("b",):
            value = _bit_rate(spec)
        siting = {"chroma_sample_location": "left"} if self.subsampled else {}
        return {**self.fixed, **siting, **dict.fromkeys(self.scale, str(value))}

    def context(self, spec: ClipSpec) -> VideoCodecContext:
        """FFmpeg's context of its own for the clip, to be opened by the first frame.

        Raises:
            av.codec.codec.UnknownCodecError: FFmpeg was built without the encoder.
        """
        from av.codec import Codec

        context = Codec(self.name, "w").create("video")
        self.configure(context, spec)
        return context

    def configure(self, context: VideoCodecContext, spec: ClipSpec) -> None:
        """Set up FFmpeg's context, not open yet: the same frames will give the same bytes."""
        from av.codec.context import Flags

        _quiet()
        context.width, context.height = self.size(spec)
        context.pix_fmt = self.layout(spec)
        context.framerate = spec.rate
        context.time_base = 1 / spec.rate
        context.options = self.options(spec)
        context.flags |= Flags.bitexact
        if self.subsampled:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED_RANGE


def _bit_rate(spec: ClipSpec) -> int:
    """Bits a second: 0.02 a pixel at quality 0, doubled every 20."""
    width, height = spec.even_size
    return round(width * height * spec.rate * 0.02 * 2 ** (spec.quality / 20))


def _quiet() -> None:
    """Keep SVT-AV1 from printing its settings; the environment is its only switch."""
    os.environ.setdefault("SVT_LOG", "0")


def _software(
    name: str,
    codec: str,
    ends: tuple[int, int],
    fixed: dict[str, str],
    deep: str = "",
    least_side: int = 1,
) -> Encoder:
    options = MappingProxyType(fixed)
    return Encoder(
        name, codec, "yuv420p", options, ("crf",), ends, deep=deep, least_side=least_side
    )


def _picture(name: str, pix_fmt: str, fixed: dict[str, str]) -> Encoder:
    return Encoder(name, name, pix_fmt, MappingProxyType(fixed))


def _hardware(name: str, scale: str, ends: tuple[int, int], fixed: dict[str, str]) -> Encoder:
    codec, _, maker = name.partition("_")
    options, scales = MappingProxyType(fixed), tuple(scale.split())
    deep = "" if codec == "h264" or maker == "v4l2m2m" else "p010le"
    return Encoder(name, codec, "nv12", options, scales, ends, True, maker == "nvenc", deep)


# libx264's macroblock tree reads memory it has not written where the CPU has AVX-512, so the same
# frames would give other bytes from run to run. libx265 prints its settings unless told not to; its
# assembly writes beyond its own buffers in small frames (48x48 in 10 bits, 40x24 in 8), and `asm=0`
# counts for the first encoder of a process alone.
SOFTWARE = (
    _software("libx264", "h264", (50, 10), {"preset": "medium", "mbtree": "0"}),
    _software(
        "libx265",
        "hevc",
        (51, 12),
        {"preset": "medium", "x265-params": "log-level=none"},
        "yuv420p10le",
        least_side=64,
    ),
    _software("libsvtav1", "av1", (63, 13), {"preset": "8"}, "yuv420p10le"),
    _software(
        "libvpx-vp9",
        "vp9",
        (63, 13),
        {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    _picture("gif", "pal8", {}),
    _picture("png", "rgb24", {"pred": "mixed"}),
)
HARDWARE = (
    _hardware("h264_nvenc", "cq", (51, 11), {"rc": "vbr", "b": "0"}),
    _hardware("h264_qsv", "global_quality", (51, 11), {}),
    _hardware("h264_amf", "qp_i qp_p qp_b", (51, 11), {"rc": "cqp"}),
    _hardware("h264_v4l2m2m", "b", (0, 0), {}),
    _hardware("hevc_nvenc", "cq", (51, 11), {"rc": "vbr", "b": "0"}),
    _hardware("hevc_qsv", "global_quality", (51, 11), {}),
    _hardware("hevc_amf", "qp_i qp_p", (51, 11), {"rc": "cqp"}),
    _hardware("hevc_v4l2m2m", "b", (0, 0), {}),
    _hardware("av1_nvenc", "cq", (63, 13), {"rc": "vbr", "b": "0"}),
    _hardware("av1_qsv", "global_quality", (51, 11), {}),
    _hardware("av1_amf", "qp_i qp_p", (255, 45), {"rc": "cqp"}),
)
ENCODERS = {encoder.name: encoder for encoder in (*SOFTWARE, *HARDWARE)}
