"""What builds time is kept for the next one; on a fake of the builder's API."""

from __future__ import annotations

import enum
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_checks import check_timings
from mutoscope.engine import Bundle
from mutoscope.engine.backends.tensorrt import build as builds
from mutoscope.engine.backends.tensorrt import engines
from mutoscope.engine.backends.tensorrt.engines import build_engine, describe
from mutoscope.engine.backends.tensorrt.package import PACKAGES
from mutoscope.engine.profiles import LatentSize
from mutoscope.engine.store import EngineStore
from mutoscope.errors import MutoscopeError
from mutoscope.kernels.device import Device

SIZES = [LatentSize(1, 2, 2), LatentSize(2, 4, 4), LatentSize(3, 8, 6)]
Build = Callable[..., list[str]]


class Config(SimpleNamespace):
    """A builder's settings: what was timed is text, to which each build adds a letter."""

    cache: Any = None

    def create_timing_cache(self, data: bytes) -> Any:
        self.calls.append(f"create {data.decode()!r}")
        return SimpleNamespace(data=data, serialize=lambda: bytearray(self.cache.data))

    def set_timing_cache(self, cache: Any, *, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        taken = cache.data != self.refused
        self.cache = cache if taken else self.cache
        return taken

    def get_timing_cache(self) -> Any:
        return self.cache

    def add_optimization_profile(self, profile: Any) -> None: ...

    def set_compute_capability(self, capability: Any, index: int) -> None: ...


class Builder(SimpleNamespace):
    def create_network(self, flags: int) -> Any:
        return SimpleNamespace(num_layers=0)

    def create_builder_config(self) -> Config:
        return Config(calls=self.calls, refused=self.refused)

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *shapes: None)

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        if self.fails:
            return None
        if config.cache is not None:
            config.cache.data += b"x"
        return b"plan"


@pytest.fixture
def build(
    recorder: Any, one_graph: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> Build:
    """Build the engine of a size; gives the timing caches that were made."""
    trt: Any = sys.modules["tensorrt_rtx"]
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.ProfilingVerbosity = SimpleNamespace(DETAILED=2)
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {"STRONGLY_TYPED": 1})
    trt.OnnxParser = lambda *_: SimpleNamespace(parse=lambda model, path: True)
    monkeypatch.setattr(builds, "parsable", lambda *_, **__: b"model")
    monkeypatch.setattr(engines, "build_apart", builds.build)  # the fakes are in this process
    bundle, device = one_graph(), recorder.stream.device

    def build(
        size: LatentSize,
        backend: str = "tensorrt",
        *,
        refused: bytes | None = None,
        fails: bool = False,
        on: Device = device,
    ) -> list[str]:
        calls: list[str] = []
        trt.Builder = lambda logger: Builder(calls=calls, refused=refused, fails=fails)
        spec = describe(PACKAGES[backend], bundle, "denoiser", [size], device=on)
        build_engine(EngineStore(), bundle, spec, None, lambda *_: None)
        return calls

    return build


def kept() -> list[Path]:
    return sorted((EngineStore().folder / ".caches").glob("*"))


def test_a_build_begins_with_what_was_timed_before(build: Build) -> None:
    assert build(SIZES[0]) == ["create ''"]
    assert build(SIZES[1]) == ["create 'x'"]
    assert build(SIZES[1]) == []  # from the store
    assert build(SIZES[2]) == ["create 'xx'"]
    (path,) = kept()
    assert path.name.startswith("tensorrt-1.7-sm_89-")
    assert path.read_bytes().endswith(b"xxx")


def test_two_builds_as_a_gpu_is_asked_for(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    check_timings(build, caplog)


def test_it_is_of_one_version_and_one_gpu(build: Build, recorder: Any) -> None:
    build(SIZES[0])
    other = SimpleNamespace(**{**vars(recorder.stream.device), "name": "another"})
    assert build(SIZES[0], on=other) == ["create ''"]
    sys.modules["tensorrt"].__version__ = "1.8"  # type: ignore[attr-defined]
    assert build(SIZES[0]) == ["create ''"]
    assert len(kept()) == 3


@pytest.mark.parametrize("change", [b"", b"0" * 64 + b"x", b"\xff" * 65])
def test_what_was_changed_is_set_aside_and_timed_anew(
    build: Build, change: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    build(SIZES[0])
    (path,) = kept()
    path.write_bytes(change)
    with caplog.at_level(logging.INFO, "mutoscope"):
        assert build(SIZES[1]) == ["create ''"]
    (told,) = caplog.messages
    assert told.startswith(f"{path} is damaged, or was not written here; set aside as ")
    assert [p.name for p in kept()] == [path.name, f"{path.name}.aside"]
    assert build(SIZES[2]) == ["create 'x'"]


def test_what_tensorrt_refuses_is_timed_anew(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    build(SIZES[0])
    (path,) = kept()
    with caplog.at_level(logging.INFO, "mutoscope"):
        assert build(SIZES[1], refused=b"x") == ["create 'x'", "create ''"]
    assert caplog.messages == [f"TensorRT does not take {path.name}; it times anew"]
    assert build(SIZES[2]) == ["create 'x'"]


def test_a_build_that_fails_keeps_nothing(build: Build) -> None:
    with pytest.raises(MutoscopeError, match="could not build it"):
        build(SIZES[0], fails=True)
    assert kept() == []


def test_what_is_built_ahead_of_time_times_nothing(build: Build) -> None:
    assert build(SIZES[0], "tensorrt-rtx") == []
    assert kept() == []
