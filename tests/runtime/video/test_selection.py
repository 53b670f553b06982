from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from mutoscope.errors import UserError
from mutoscope.runtime.video import selection
from mutoscope.runtime.video.encoders import ENCODERS, Encoder
from mutoscope.runtime.video.formats import format_of
from mutoscope.runtime.video.selection import announcement, choose, failure
from mutoscope.runtime.video.spec import ClipSpec

MP4, WEBM, GIF = (format_of(f"c.{suffix}") for suffix in ("mp4", "webm", "gif"))


def spec(**changes: Any) -> ClipSpec:
    return ClipSpec.checked(**{"width": 96, "height": 64, "fps": 12, "frames": 9, **changes})


def only(monkeypatch: pytest.MonkeyPatch, *working: str) -> None:
    def failing(encoder: Encoder, _: ClipSpec) -> str | None:
        return None if encoder.name in working else "no device"

    monkeypatch.setattr(selection, "failure", failing)


def test_auto_falls_back_and_keeps_the_reasons(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    only(monkeypatch)
    with caplog.at_level(logging.DEBUG, "mutoscope"):
        chosen = choose(MP4, None, "auto", spec())
    assert announcement(chosen) == (
        "encoding h264 in software with libx264: no hardware encoder works here"
    )
    assert caplog.messages == [
        f"{name} does not work here: no device"
        for name in ("h264_nvenc", "h264_qsv", "h264_amf", "h264_v4l2m2m")
    ]


@pytest.mark.parametrize(
    ("codec", "working", "chosen"),
    [
        ("h264", {"h264_qsv", "h264_amf"}, "h264_qsv"),
        ("h264", {"hevc_nvenc"}, "libx264"),
        ("hevc", {"hevc_v4l2m2m"}, "hevc_v4l2m2m"),
        ("av1", {"av1_amf"}, "av1_amf"),
        ("av1", set(), "libsvtav1"),
    ],
)
def test_auto_takes_the_first_that_works(
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
    working: set[str],
    chosen: str,
) -> None:
    only(monkeypatch, *working)
    encoder = choose(MP4, codec, "auto", spec())
    assert encoder.name == chosen
    if encoder.hardware:
        assert announcement(encoder) == f"encoding {codec} in hardware with {chosen}"


def test_software_tries_no_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "h264_nvenc")
    assert choose(MP4, None, "software", spec()).name == "libx264"


def test_no_word_where_there_is_no_choice() -> None:
    assert announcement(choose(WEBM, None, "auto", spec())) is None


def test_failure_opens_and_encodes() -> None:
    """A real encoder works at a size it takes, and says why not at another."""
    assert failure(ENCODERS["libx265"], spec()) is None
    assert failure(ENCODERS["libx265"], spec(width=2, height=2)) == "Invalid argument"
    assert failure(Encoder("h264_none", "h264", "nv12", {}), spec()) == "this FFmpeg lacks it"


def test_hardware_chosen_here_really_encodes() -> None:
    for codec in ("h264", "hevc", "av1"):
        assert failure(choose(MP4, codec, "auto", spec()), spec()) is None


def test_named_encoder_brings_its_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "hevc_nvenc")
    assert choose(MP4, None, "libx265", spec()).name == "libx265"
    assert choose(MP4, "av1", "libsvtav1", spec()).name == "libsvtav1"
    assert choose(MP4, None, "hevc_nvenc", spec()).name == "hevc_nvenc"


@pytest.mark.parametrize(
    ("format_", "codec", "name", "message"),
    [
        (MP4, "h264", "libx265", "libx265 encodes hevc, not h264; leave out one of the two"),
        (WEBM, None, "libx264", ".webm holds vp9 or av1, not h264; h264 goes into .mp4, .mkv"),
        (
            format_of("c.gif"),
            None,
            "libx264",
            ".gif holds gif, not h264; h264 goes into .mp4, .mkv",
        ),
        (
            MP4,
            None,
            "h264_nvenc",
            "h264_nvenc does not work here (no device); use --encoder auto",
        ),
    ],
)
def test_named_encoder_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, format_: Any, codec: str | None, name: str, message: str
) -> None:
    only(monkeypatch)
    with pytest.raises(UserError) as caught:
        choose(format_, codec, name, spec())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("format_", "codec", "name"),
    [(MP4, None, "auto"), (WEBM, None, "auto"), (MP4, None, "h264_nvenc"), (GIF, None, "software")],
)
def test_ten_bits_are_not_for_every_codec(format_: Any, codec: str | None, name: str) -> None:
    with pytest.raises(UserError, match=r"is written with 8 bits; use --depth 8, or --codec hevc"):
        choose(format_, codec, name, spec(depth=10))


@pytest.mark.parametrize("name", ["auto", "software", "libx265"])
def test_small_frames_are_not_for_libx265(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    with pytest.raises(UserError) as caught:
        choose(MP4, "hevc", name, spec(height=61))
    assert str(caught.value) == (
        "libx265 cannot encode frames of 96x62: their sides are at least 64 pixels; "
        "choose --codec h264 or av1, or a larger --size"
    )
    assert choose(MP4, "hevc", name, spec(height=63)).name == "libx265"  # stored as 64
    only(monkeypatch, "hevc_nvenc")
    assert choose(MP4, "hevc", "auto", spec(height=61)).name == "hevc_nvenc"


def test_ten_bits_are_tried_and_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def failing(encoder: Encoder, spec: ClipSpec) -> str | None:
        tried.append(f"{encoder.name} {encoder.layout(spec)}")
        return "no device"

    monkeypatch.setattr(selection, "failure", failing)
    assert choose(MP4, "hevc", "auto", spec(depth=10)).name == "libx265"
    assert tried == ["hevc_nvenc p010le", "hevc_qsv p010le", "hevc_amf p010le"]
    assert failure(ENCODERS["libsvtav1"], spec(depth=10)) is None


def test_ffmpeg_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    monkeypatch.setattr(av, "codecs_available", frozenset({"libx264"}))
    with pytest.raises(UserError) as caught:
        choose(MP4, "hevc", "auto", spec())
    assert str(caught.value) == ("this FFmpeg lacks libx265; pip install av brings one that has it")


def test_unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        choose(MP4, None, "h264_nvec", spec())
    assert str(caught.value).startswith(
        "unknown encoder 'h264_nvec'; did you mean 'h264_nvenc'? (known: auto, av1_amf, "
    )


def test_trying_and_encoding_print_nothing(tmp_path: Path) -> None:
    """Drivers and encoders write to the file descriptors, past `sys.stderr`."""
    code = """
import sys
import numpy as np
from mutoscope.runtime.video import open_writer
for name, codec in [("a.mp4", "h264"), ("b.mp4", "hevc"), ("c.mp4", "av1"), ("d.webm", "vp9")]:
    path = sys.argv[1] + "/" + name
    with open_writer(path, width=96, height=64, fps=8, frames=2, codec=codec) as writer:
        for _ in range(2):
            writer.write(np.zeros((64, 96, 3), np.uint8))
"""
    command = [sys.executable, "-P", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(tmp_path.iterdir())) == 4
