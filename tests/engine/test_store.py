"""The engine store: what one engine is, what is trusted, and what is left when something fails."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mutoscope.engine import folders
from mutoscope.engine.spec import EngineSpec
from mutoscope.engine.store import Built, EngineStore, read_record
from mutoscope.errors import UserError

PLAN = b"a plan " * 1000


def spec(**changes: Any) -> EngineSpec:
    settings = {
        "graph": "denoiser",
        "source": "a" * 64,
        "precision": "fp16",
        "backend": "tensorrt-rtx",
        "version": "1.7",
        "targets": ("sm_86", "sm_89"),
        "system": "linux-x86_64",
        "profile": {"batch": (1, 2, 2), "latent_width": (4, 8, 12)},
    }
    return EngineSpec(**{**settings, **changes})


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


@pytest.fixture
def build() -> Callable[[], Built]:
    """A build that counts its calls in `.calls`."""

    def build() -> Built:
        build.calls += 1  # type: ignore[attr-defined]
        return Built(PLAN, "Name: a\n", {"fp16": 1}, 1.0, 2.0, 3.0)

    build.calls = 0  # type: ignore[attr-defined]
    return build


@pytest.mark.parametrize(
    "changes",
    [
        {"graph": "vae_decoder_first"},
        {"source": "b" * 64},
        {"precision": "fp32"},
        {"backend": "tensorrt"},
        {"version": "1.8"},
        {"targets": ("sm_86",)},
        {"gpu": "NVIDIA GeForce RTX 4090"},
        {"driver": 13},
        {"system": "linux-aarch64"},
        {"profile": {"batch": (1, 2, 2), "latent_width": (4, 8, 13)}},
        {"flags": ("refit",)},
        {"recipe": 99},
    ],
)
def test_whatever_an_engine_depends_on_makes_another_key(changes: dict[str, Any]) -> None:
    assert spec(**changes).key != spec().key


def test_the_order_of_axes_makes_no_other_key() -> None:
    assert spec(profile={"latent_width": (4, 8, 12), "batch": (1, 2, 2)}).key == spec().key


def test_a_profile_covers_what_lies_between() -> None:
    assert spec().covers({"batch": 1, "latent_width": 12, "tokens": 99})
    assert not spec().covers({"batch": 1, "latent_width": 13})
    assert not spec().covers({"batch": 3, "latent_width": 8})


def test_an_engine_is_built_once(store: EngineStore, build: Any) -> None:
    first, second = store.get(spec(), "mini", build), store.get(spec(), "mini", build)
    assert build.calls == 1
    assert first == second
    with second.plan() as plan:
        assert plan[:] == PLAN
    assert [engine.path for engine in store.engines()] == [first.path]
    store.get(spec(version="1.8"), "mini", build)
    assert build.calls == 2


def test_the_newest_that_will_do_is_found(store: EngineStore, build: Any) -> None:
    store.get(spec(), "mini", build)
    newer = store.get(spec(targets=("sm_89", "sm_120")), "mini", build)
    assert store.find(lambda s: "sm_89" in s.targets) == newer
    assert store.find(lambda s: "sm_75" in s.targets) is None


def test_only_its_owner_reads_the_key(store: EngineStore, build: Any) -> None:
    store.get(spec(), "mini", build)
    assert stat.S_IMODE((store.folder / ".key").stat().st_mode) == 0o600
    (store.folder / ".key").chmod(0o644)
    with pytest.raises(UserError, match=r"\.key can be read by others, so it proves nothing"):
        store.get(spec(), "mini", build)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def forge(path: Path) -> None:
    """Change a plan and its hash in the record; only the signature tells."""
    whole = json.loads((path / "manifest.json").read_text())
    (path / "engine.plan").write_bytes(b"evil" * 10)
    whole["plan"] = {"size": 40, "sha256": hashlib.sha256(b"evil" * 10).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(whole))


def scrawl(path: Path) -> None:
    whole = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**whole, "hmac": "é" * 64}))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a bit flipped": (lambda p: flip(p / "engine.plan"), "engine.plan is damaged: its sha256"),
    "cut": (lambda p: (p / "engine.plan").write_bytes(b""), "7,000 bytes are expected"),
    "lost": (lambda p: (p / "engine.plan").unlink(), "7,000 bytes are expected"),
    "no record": (lambda p: (p / "manifest.json").unlink(), "cannot read "),
    "no JSON": (lambda p: (p / "manifest.json").write_text("{"), "is not an engine's"),
    "forged": (forge, "was not built here: its signature is another's"),
    "signed with no hex": (scrawl, "was not built here: its signature is another's"),
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_what_is_damaged_or_foreign_is_set_aside_and_built_again(
    kind: str, store: EngineStore, build: Any, caplog: pytest.LogCaptureFixture
) -> None:
    damage, told = DAMAGE[kind]
    engine = store.get(spec(), "mini", build)
    damage(engine.path)
    again = store.get(spec(), "mini", build)
    assert build.calls == 2
    assert again.path == engine.path
    assert (again.path / "engine.plan").read_bytes() == PLAN
    (message,) = caplog.messages
    assert told in message
    (aside,) = store.folder.glob(".denoiser-*.aside")
    assert str(aside) in message
    assert [path.name for path in aside.iterdir()] == [engine.path.name]


def test_an_engine_of_another_store_is_foreign(
    store: EngineStore, build: Any, tmp_path: Path
) -> None:
    other = EngineStore(tmp_path / "other").get(spec(), "mini", build)
    mine = store.get(spec(version="2"), "mini", build)
    other.path.rename(store.folder / other.path.name)
    assert store.engines() == [mine]
    assert not store.signed(read_record(store.folder / other.path.name, None))
    store.get(spec(), "mini", build)
    assert build.calls == 3


def test_a_full_disk_leaves_nothing(
    store: EngineStore, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"^no space left for .*; nothing was written, free some"):
        store.get(spec(), "mini", build)
    assert [path.name for path in store.folder.iterdir() if path.name != ".locks"] == []


def test_a_failed_build_leaves_nothing(store: EngineStore) -> None:
    def fail() -> Built:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get(spec(), "mini", fail)
    assert [path.name for path in store.folder.iterdir()] == [".locks"]


def test_what_is_written_is_synced_before_it_has_its_name(
    store: EngineStore, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def sync(folder: Path) -> None:
        seen.append((sorted(path.name for path in folder.iterdir()), store.engines()))

    monkeypatch.setattr(folders, "_sync", sync)
    store.get(spec(), "mini", build)
    assert seen == [(["engine.plan", "layers.txt", "manifest.json"], [])]


def test_no_place_to_write_is_told(tmp_path: Path, build: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot write engines to .*: Not a directory$"):
        EngineStore(tmp_path / "file" / "engines").get(spec(), "mini", build)


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
import msgspec
from mutoscope.engine.spec import EngineSpec
from mutoscope.engine.store import Built, EngineStore

def build():
    print("built", flush=True)
    time.sleep(0.5)
    return Built(b"plan", "", {}, 0.0, 0.0, 0.0)

spec = msgspec.json.decode(sys.argv[2], type=EngineSpec)
EngineStore(Path(sys.argv[1])).get(spec, "mini", build)
"""


def test_of_two_processes_one_builds(store: EngineStore) -> None:
    arguments = [str(store.folder), msgspec.json.encode(spec()).decode()]
    command = [sys.executable, "-P", "-c", BUILD_SLOWLY, *arguments]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(told) == ["", "built\n"]


def test_what_another_process_has_set_aside_is_not_found(
    store: EngineStore, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = store.get(spec(), "wan", build)
    monkeypatch.setattr(store, "engines", lambda: [engine])
    assert store.find(lambda _: True) == engine
    shutil.rmtree(engine.path)
    assert store.find(lambda _: True) is None


def test_prune_keeps_what_it_is_told_to(store: EngineStore, build: Any) -> None:
    kept, old = store.get(spec(), "mini", build), store.get(spec(version="1.6"), "mini", build)
    for name in (".denoiser-1.x.partial", ".denoiser-1.x.aside"):
        (store.folder / name).mkdir()
        (store.folder / name / "engine.plan").write_bytes(b"12345")
    store.save_cache("a.runtime", b"cache")
    (store.folder / ".caches" / ".a.runtime.7.partial").write_bytes(b"ca")
    freed = store.prune(lambda s: s.version == "1.7")
    assert freed > len(PLAN) + 10
    assert not old.path.exists()
    assert store.engines() == [kept]
    assert list(store.folder.glob(".denoiser*")) == []
    assert store.load_cache("a.runtime") == b"cache"
    assert [path.name for path in (store.folder / ".caches").iterdir()] == ["a.runtime"]


def test_a_cache_that_was_changed_is_set_aside(
    store: EngineStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.load_cache("a.runtime") is None
    store.folder.mkdir()
    store.save_cache("a.runtime", b"cache" * 100)
    assert store.load_cache("a.runtime") == b"cache" * 100
    kept = store.folder / ".caches" / "a.runtime"
    flip(kept)
    with caplog.at_level(logging.WARNING, "mutoscope"):
        assert store.load_cache("a.runtime") is None
    told = f"{kept} is damaged, or was not written here; set aside as a.runtime.aside"
    assert caplog.messages == [told]
    assert [path.name for path in kept.parent.iterdir()] == ["a.runtime.aside"]
    assert store.prune(lambda _: True) >= 500
    assert list(kept.parent.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full: Linux")
def test_a_cache_that_a_full_disk_does_not_take_leaves_nothing(
    store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.open

    def full(path: Path, mode: str) -> Any:
        if path.suffix == ".partial":
            path.touch()
            path = Path("/dev/full")
        return plain(path, mode)

    monkeypatch.setattr(Path, "open", full)
    store.save_cache("a.runtime", b"cache")
    assert list((store.folder / ".caches").iterdir()) == []


def test_a_record_from_outside_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"[" * (2 << 20))
    with pytest.raises(UserError, match="is not an engine's"):
        read_record(tmp_path, None)


def test_records_are_read_as_they_were_written(store: EngineStore, build: Any) -> None:
    engine = store.get(spec(), "mini", build)
    record = read_record(engine.path, None)
    assert record == engine.record
    assert record.spec == spec()
    assert (record.layers, record.weights_mb, record.activations_mb) == ({"fp16": 1}, 1.0, 2.0)
    assert record.peak_memory_mb == 3.0
    assert msgspec.structs.replace(record, hmac="") != record
