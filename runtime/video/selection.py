"""Which encoder writes a clip: one by name, or the first that really works here."""

from __future__ import annotations

import logging

from ...errors import UserError, unknown
from .encoders import ENCODERS, HARDWARE, SOFTWARE, Encoder
from .failures import reason
from .formats import Format
from .scheduling import scheduled_as_before
from .spec import ClipSpec

log = logging.getLogger(__name__)


def choose(format_: Format, codec: str | None, name: str, spec: ClipSpec) -> Encoder:
    """The encoder for a file: "auto", "software", or one by name.

    "auto" takes the first hardware encoder that encodes a frame of this size, else software.

    Raises:
        UserError: an unknown encoder or codec, one that the file cannot hold or FFmpeg was built
            without, one of fewer bits or larger frames, or hardware that does not work here.
    """
    import av

    if name == "auto":
        encoder = _automatic(format_.codec(codec), spec)
    elif name == "software":
        encoder = _software(format_.codec(codec))
    else:
        encoder = _named(format_, codec, name, spec)
    if not encoder.layout(spec):
        raise UserError(
            f"{encoder.codec} is written with 8 bits; use --depth 8, or --codec hevc or av1 for 10"
        )
    width, height = encoder.size(spec)
    if min(width, height) < encoder.least_side:
        raise UserError(
            f"{encoder.name} cannot encode frames of {width}x{height}: their sides are at least "
            f"{encoder.least_side} pixels; choose --codec h264 or av1, or a larger --size"
        )
    if encoder.name not in av.codecs_available:
        raise UserError(f"this FFmpeg lacks {encoder.name}; pip install av brings one that has it")
    return encoder


def announcement(encoder: Encoder) -> str | None:
    """What to tell of an encoder that was chosen automatically; `None` where there is no choice."""
    if not _hardware(encoder.codec):
        return None
    if encoder.hardware:
        return f"encoding {encoder.codec} in hardware with {encoder.name}"
    return (
        f"encoding {encoder.codec} in software with {encoder.name}: no hardware encoder works here"
    )


def failure(encoder: Encoder, spec: ClipSpec) -> str | None:
    """Open the encoder and encode one frame of the clip's size: why it fails, or `None`."""
    import av
    from av.codec.codec import UnknownCodecError

    try:
        context = encoder.context(spec)
        frame = av.VideoFrame(context.width, context.height, encoder.layout(spec))
        with scheduled_as_before():
            packets = [*context.encode(frame), *context.encode(None)]
    except UnknownCodecError:
        return "this FFmpeg lacks it"
    except av.FFmpegError as error:
        return reason(error)
    return None if packets else "it gave no picture"


def _named(format_: Format, codec: str | None, name: str, spec: ClipSpec) -> Encoder:
    if name not in ENCODERS:
        raise UserError(unknown("encoder", name, ["auto", "software", *ENCODERS]))
    encoder = ENCODERS[name]
    if codec is not None and format_.codec(codec) != encoder.codec:
        raise UserError(f"{name} encodes {encoder.codec}, not {codec}; leave out one of the two")
    format_.codec(encoder.codec)
    hardware = encoder.hardware and encoder.layout(spec)
    if hardware and (problem := failure(encoder, spec)):
        raise UserError(f"{name} does not work here ({problem}); use --encoder auto")
    return encoder


def _automatic(codec: str, spec: ClipSpec) -> Encoder:
    for encoder in filter(lambda one: one.layout(spec), _hardware(codec)):
        problem = failure(encoder, spec)
        if problem is None:
            return encoder
        log.debug("%s does not work here: %s", encoder.name, problem)
    return _software(codec)


def _hardware(codec: str) -> list[Encoder]:
    return [encoder for encoder in HARDWARE if encoder.codec == codec]


def _software(codec: str) -> Encoder:
    return next(encoder for encoder in SOFTWARE if encoder.codec == codec)
