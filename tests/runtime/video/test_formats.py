from __future__ import annotations

from pathlib import Path

import pytest
from mutoscope.errors import UserError
from mutoscope.runtime.video.formats import FOLDER, format_of


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("clip.mp4", ".mp4"),
        ("CLIP.MP4", ".mp4"),
        ("a.b/clip.mkv", ".mkv"),
        (Path("clip.webm"), ".webm"),
        ("clip.gif", ".gif"),
        ("clip.png", ".png"),
        ("frames", ""),
        ("frames/", ""),
        ("frames.v2/", ""),
        (Path("frames/"), ""),
    ],
)
def test_suffix_says_format(path: str, suffix: str) -> None:
    assert format_of(path).suffix == suffix


@pytest.mark.parametrize("name", ["clip.avi", "clip.AVI", "clip.v2"])
def test_unknown_suffix_lists_known(name: str) -> None:
    suffix = Path(name).suffix.lower()
    with pytest.raises(UserError) as caught:
        format_of(name)
    assert str(caught.value) == (
        f"{name}: {suffix} is not supported; use .mp4, .mkv, .webm, .gif, .png, "
        "or a folder (a name that ends in /)"
    )


@pytest.mark.parametrize(
    ("path", "codec", "chosen"),
    [
        ("c.mp4", None, "h264"),
        ("c.mkv", None, "h264"),
        ("c.webm", None, "vp9"),
        ("c.gif", None, "gif"),
        ("c.png", None, "png"),
        ("c/", None, "png"),
        ("c.mp4", "hevc", "hevc"),
        ("c.mp4", "h265", "hevc"),
        ("c.webm", "av1", "av1"),
    ],
)
def test_codec_of_format(path: str, codec: str | None, chosen: str) -> None:
    assert format_of(path).codec(codec) == chosen


@pytest.mark.parametrize(
    ("path", "codec", "message"),
    [
        ("c.webm", "h264", ".webm holds vp9 or av1, not h264; h264 goes into .mp4, .mkv"),
        ("c.mp4", "vp9", ".mp4 holds h264 or hevc or av1, not vp9; vp9 goes into .webm"),
        ("c.gif", "h264", ".gif holds gif, not h264; h264 goes into .mp4, .mkv"),
        ("c/", "gif", "a folder of PNG files holds png, not gif; gif goes into .gif"),
        (
            "c.mp4",
            "hevv",
            "unknown codec 'hevv'; did you mean 'hevc'? (known: av1, gif, h264, hevc, png, vp9)",
        ),
    ],
)
def test_wrong_codec_is_refused(path: str, codec: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        format_of(path).codec(codec)
    assert str(caught.value) == message


def test_only_folder_and_png_are_still() -> None:
    names = ["c.mp4", "c.mkv", "c.webm", "c.gif", "c.png", "c"]
    assert [format_of(name).still for name in names] == [False, False, False, False, True, True]
    assert format_of("c") is FOLDER


def test_mp4_keeps_common_tags_where_players_look() -> None:
    mp4 = format_of("c.mp4")
    assert mp4.muxer_options({"title": "", "comment": ""})["movflags"] == "+faststart"
    assert mp4.muxer_options({"seed": ""})["movflags"] == "+faststart+use_metadata_tags"
