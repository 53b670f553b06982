from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.runtime.video.failures import codec_errors, file_errors, mount_of

PATH = Path("/proc/clip.mp4")
FULL = (
    "the disk at /proc is full, /proc/clip.mp4 was not written; free some space or write elsewhere"
)
TOO_LARGE = (
    "/proc/clip.mp4 would be larger than a file may be here and was not written; "
    "lower the quality or write elsewhere"
)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EFBIG, TOO_LARGE),
        (errno.EIO, "cannot write /proc/clip.mp4: Input/output error"),
        (errno.EROFS, "cannot write /proc/clip.mp4: Read-only file system"),
    ],
)
@pytest.mark.parametrize("native", [False, True])
def test_what_the_system_refuses(code: int, message: str, native: bool) -> None:
    def fail() -> None:
        with file_errors(PATH):
            if native:
                av.error.err_check(-code)
            raise OSError(code, os.strerror(code))

    with pytest.raises(UserError) as caught:
        fail()
    assert str(caught.value) == message
    assert isinstance(caught.value.__cause__, OSError)


def test_ffmpegs_other_errors_are_ours() -> None:
    with pytest.raises(MutoscopeError) as caught, file_errors(PATH):
        av.error.err_check(-errno.EINVAL)
    assert str(caught.value) == "cannot write /proc/clip.mp4: Invalid argument"
    assert not isinstance(caught.value, UserError)


def test_encoders_errors_are_ours_even_if_they_look_like_the_systems() -> None:
    with pytest.raises(MutoscopeError) as caught, codec_errors("libx264"):
        av.error.err_check(-errno.ENOMEM)
    assert str(caught.value) == "libx264 failed: Cannot allocate memory"
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), UserError("x")])
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, file_errors(PATH), codec_errors("libx264"):
        raise error
    assert caught.value is error


def test_mount_point() -> None:
    assert mount_of(Path("/proc/self/clip.mp4")) == Path("/proc")
    assert mount_of(Path("/clip.mp4")) == Path("/")
