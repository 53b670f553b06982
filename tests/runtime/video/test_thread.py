from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from mutoscope.errors import MutoscopeError, UserError
from mutoscope.runtime.video import ClipWriter, EncoderThread, read_frames
from mutoscope.runtime.video.failures import mount_of
from mutoscope.runtime.video.thread import QUEUE_FRAMES
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
Writer = Callable[..., ClipWriter]
WriteClip = Callable[..., Path]
NAMES = pytest.mark.parametrize("name", ["c.mp4", "c.webm", "c.gif", "c/"])


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "mutoscope-encoder"]


def names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def encode(writer: ClipWriter, frames: Clip) -> None:
    with EncoderThread(writer) as encoder:
        for frame in frames:
            encoder.put(frame)


@NAMES
def test_same_bytes_as_without(
    tmp_path: Path, clip: Clip, writer: Writer, write_clip: WriteClip, name: str
) -> None:
    write_clip(f"{tmp_path}/plain-{name}", clip)
    encode(writer(f"{tmp_path}/{name}", clip), clip)
    assert np.array_equal(
        read_frames(f"{tmp_path}/{name}"), read_frames(f"{tmp_path}/plain-{name}")
    )
    assert threads() == []


def test_queue_is_bounded(
    tmp_path: Path, clip: Clip, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the encoder stands still, so many frames and one in its hands are taken, no more."""
    opened = writer(tmp_path / "c/", np.repeat(clip[:1], 100, axis=0))
    go = threading.Event()
    write = opened.write

    def wait_and_write(frame: Clip) -> None:
        go.wait()
        write(frame)

    monkeypatch.setattr(opened, "write", wait_and_write)
    put: list[int] = []
    with EncoderThread(opened) as encoder:

        def produce() -> None:
            for _ in range(100):
                encoder.put(clip[0])
                put.append(1)

        producer = threading.Thread(target=produce)
        producer.start()
        while len(put) < QUEUE_FRAMES + 1:
            time.sleep(0.01)
        time.sleep(0.15)
        put_while_waiting = len(put)
        go.set()
        producer.join()
    assert put_while_waiting == QUEUE_FRAMES + 1
    assert len(put) == len(list((tmp_path / "c").iterdir())) == 100


class FullDisk:
    """An output on the device that is always full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discarded = False

    def begin(self) -> Path:
        return Path("/dev/full")

    def commit(self) -> None:
        raise AssertionError("a clip that was not written was committed")

    def discard(self) -> None:
        self.discarded = True


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.webm", "c.gif", "c.png"])
def test_full_device(tmp_path: Path, clip: Clip, writer: Writer, name: str) -> None:
    """Every sink notices, at the latest as it closes; nothing is committed."""
    clip = clip[:1] if name == "c.png" else clip
    opened = writer(tmp_path / name, clip)
    output = FullDisk(tmp_path / name)
    opened._output = output
    with pytest.raises(UserError) as caught:
        encode(opened, clip)
    assert str(caught.value) == (
        f"the disk at {mount_of(tmp_path / name)} is full, {tmp_path / name} was not written; "
        "free some space or write elsewhere"
    )
    assert output.discarded


@NAMES
def test_file_size_limit(tmp_path: Path, name: str) -> None:
    code = """
import resource, sys
import numpy as np
from mutoscope.errors import UserError
from mutoscope.runtime.video import EncoderThread, open_writer
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
noise = np.random.default_rng(0).integers(0, 256, (20, 96, 128, 3), np.uint8)
settings = dict(width=128, height=96, fps=12, frames=20, encoder="software")
try:
    with EncoderThread(open_writer(sys.argv[1], **settings)) as encoder:
        for frame in noise:
            encoder.put(frame)
except UserError as error:
    print(error)
"""
    command = [sys.executable, "-P", "-c", code, f"{tmp_path}/{name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == (
        f"{tmp_path / name} would be larger than a file may be here and was not written; "
        "lower the quality or write elsewhere\n"
    )
    assert names(tmp_path) == []


def test_failure_reaches_the_next_put(tmp_path: Path, clip: Clip, writer: Writer) -> None:
    put: list[int] = []

    def produce() -> None:
        with EncoderThread(writer(tmp_path / "c/", clip)) as encoder:
            encoder.put(np.zeros((1, 1, 3), np.uint8))
            while len(put) < 1000:
                encoder.put(clip[0])
                put.append(1)
                time.sleep(0.001)

    with pytest.raises(MutoscopeError) as caught:
        produce()
    assert str(caught.value) == "a frame is uint8 (64, 96, 3), this one is uint8 (1, 1, 3)"
    assert len(put) < 1000
    assert names(tmp_path) == []
    assert threads() == []


def test_failure_reaches_the_end(tmp_path: Path, clip: Clip, writer: Writer) -> None:
    path = tmp_path / "c.mp4"
    with pytest.raises(MutoscopeError) as caught, EncoderThread(writer(path, clip)) as encoder:
        encoder.put(clip[0])
    assert str(caught.value) == f"1 frames written to {path}, 9 announced"
    assert names(tmp_path) == []


def test_failure_to_open_leaves_nothing(tmp_path: Path, clip: Clip, writer: Writer) -> None:
    def produce() -> None:
        with EncoderThread(writer(tmp_path / "c.mp4", clip[:, :2, :2], codec="av1")) as encoder:
            while True:
                encoder.put(clip[0, :2, :2])

    with pytest.raises(UserError, match="libsvtav1 cannot encode frames of 2x2"):
        produce()
    assert names(tmp_path) == []
    assert threads() == []


def test_an_interruption_while_opening_leaves_nothing(
    tmp_path: Path, clip: Clip, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, interrupted = threading.Event(), threading.Event()

    def slow(self: ClipWriter) -> None:
        assert names(tmp_path)
        opening.set()
        assert interrupted.wait(20)

    cancel = ClipWriter.cancel

    def interrupt(self: ClipWriter) -> None:
        cancel(self)
        interrupted.set()

    def produce() -> None:
        with EncoderThread(writer(tmp_path / "c.mp4", clip)):
            assert opening.wait(20)
            raise KeyboardInterrupt

    monkeypatch.setattr(ClipWriter, "_log_padding", slow)
    monkeypatch.setattr(ClipWriter, "cancel", interrupt)
    with pytest.raises(KeyboardInterrupt):
        produce()
    assert names(tmp_path) == []
    assert threads() == []


@NAMES
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_exception_leaves_nothing(
    tmp_path: Path, clip: Clip, writer: Writer, name: str, error: type[BaseException]
) -> None:
    def produce() -> None:
        with EncoderThread(writer(f"{tmp_path}/{name}", clip)) as encoder:
            encoder.put(clip[0])
            raise error

    with pytest.raises(error):
        produce()
    assert names(tmp_path) == []
    assert threads() == []


@pytest.mark.parametrize(
    ("name", "frames"), [("c.mp4", 1 << 30), ("c.webm", 1 << 30), ("c.gif", 1 << 30), ("c.gif", 31)]
)
def test_ctrl_c_ends_within_a_second(tmp_path: Path, name: str, frames: int) -> None:
    """While frames come, and while the file is being finished, which for a GIF takes longest."""
    code = """
import sys
import numpy as np
from mutoscope.runtime.video import EncoderThread, open_writer
frames = int(sys.argv[2])
noise = np.random.default_rng(0).integers(0, 256, (8, 240, 416, 3), np.uint8)
settings = dict(width=416, height=240, fps=12, frames=frames, encoder="software")
with EncoderThread(open_writer(sys.argv[1], **settings)) as encoder:
    for step in range(frames):
        encoder.put(noise[step % 8])
        if step == 30:
            print("going", flush=True)
"""
    command = [sys.executable, "-P", "-c", code, f"{tmp_path}/{name}", str(frames)]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as job:
        try:
            assert job.stdout is not None
            assert job.stdout.readline() == "going\n"
            assert len(names(tmp_path)) == 1
            job.send_signal(signal.SIGINT)
            start = time.monotonic()
            _, errors = job.communicate(timeout=20)
            assert time.monotonic() - start < 1
        finally:
            job.kill()
    assert errors.endswith("KeyboardInterrupt\n")
    assert names(tmp_path) == []
