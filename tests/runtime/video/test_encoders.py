from __future__ import annotations

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from mutoscope.runtime.video.encoders import ENCODERS, HARDWARE, SOFTWARE
from mutoscope.runtime.video.spec import ClipSpec

LEFT = {"chroma_sample_location": "left"}
BUILT_IN = [name for name in ENCODERS if name in av.codecs_available]


def spec(quality: int, width: int = 96, height: int = 64) -> ClipSpec:
    return ClipSpec.checked(width=width, height=height, fps=12, frames=1, quality=quality)


def test_wheel_has_the_software_encoders() -> None:
    assert {encoder.name for encoder in SOFTWARE} <= set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("quality", [0, 75, 100])
def test_options_are_ffmpegs_and_in_its_range(name: str, quality: int) -> None:
    known = VideoCodecContext.create(name, "w").supported_options
    options = {option.name: option for option in (*known.generic, *known.private)}
    for key, value in ENCODERS[name].options(spec(quality)).items():
        assert key in options
        if key in ENCODERS[name].scale:
            assert options[key].min <= int(value) <= options[key].max


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("libx264", {**LEFT, "preset": "medium", "mbtree": "0", "crf": "20"}),
        ("libx265", {**LEFT, "preset": "medium", "x265-params": "log-level=none", "crf": "22"}),
        ("libsvtav1", {**LEFT, "preset": "8", "crf": "26"}),
        (
            "libvpx-vp9",
            {**LEFT, "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "crf": "26"},
        ),
        ("h264_nvenc", {**LEFT, "rc": "vbr", "b": "0", "cq": "21"}),
        ("av1_nvenc", {**LEFT, "rc": "vbr", "b": "0", "cq": "26"}),
        ("h264_qsv", {**LEFT, "global_quality": "21"}),
        ("h264_amf", {**LEFT, "rc": "cqp", "qp_i": "21", "qp_p": "21", "qp_b": "21"}),
        ("av1_amf", {**LEFT, "rc": "cqp", "qp_i": "98", "qp_p": "98"}),
        ("gif", {}),
    ],
)
def test_options_at_the_default_quality(name: str, options: dict[str, str]) -> None:
    assert ENCODERS[name].options(spec(75)) == options


def test_encoder_without_quality_gets_a_bit_rate() -> None:
    """0.02 bits a pixel, doubled every 20: 96 * 64 * 12 * 0.02 = 1474.56."""
    encoder = ENCODERS["h264_v4l2m2m"]
    assert encoder.options(spec(0)) == {**LEFT, "b": "1475"}
    assert encoder.options(spec(60)) == {**LEFT, "b": str(round(1474.56 * 8))}


def test_hardware_takes_nv12_of_even_size() -> None:
    for encoder in HARDWARE:
        assert encoder.hardware
        assert encoder.pix_fmt == "nv12"
        assert encoder.deep in ("", "p010le")
        assert encoder.size(spec(75, width=97, height=63)) == (98, 64)
    assert ENCODERS["gif"].size(spec(75, width=97, height=63)) == (97, 63)


def test_ten_bits_are_hevcs_and_av1s() -> None:
    deep = {encoder.name: encoder.deep for encoder in ENCODERS.values() if encoder.deep}
    assert deep == {
        **dict.fromkeys(("libx265", "libsvtav1"), "yuv420p10le"),
        **dict.fromkeys(("hevc_nvenc", "hevc_qsv", "hevc_amf"), "p010le"),
        **dict.fromkeys(("av1_nvenc", "av1_qsv", "av1_amf"), "p010le"),
    }
    for name in set(deep) & set(BUILT_IN):
        taken = {layout.name for layout in av.Codec(name, "w").video_formats or ()}
        assert {deep[name], ENCODERS[name].pix_fmt} <= taken
