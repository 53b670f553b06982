"""Engines on disk: each built once, verified before it is used.

A folder an engine, named after its graph and the hash of all that it depends on, with
`engine.plan`, `layers.txt` and a signed `manifest.json`. Locks are `flock`s, which Linux and macOS
have, on local file systems.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..cache import cache_folder
from ..errors import UserError
from .folders import PARTIAL, whole_folder, write_whole
from .manifest import FileSpec
from .signing import own_key, sign, signed
from .spec import EngineRecord, EngineSpec

log = logging.getLogger(__name__)

MANIFEST, PLAN, LISTING = "manifest.json", "engine.plan", "layers.txt"
KEY, LOCKS, CACHES = ".key", ".locks", ".caches"
ASIDE = ".aside"
MAX_MANIFEST_BYTES = 1 << 20
SIGNATURE_CHARACTERS = 64


class EngineError(UserError):
    """An engine that is damaged, or that this store did not write."""


@dataclass(frozen=True)
class Built:
    """What a build gives.

    Attributes:
        plan: the serialised engine.
        listing: what TensorRT's inspector says of the layers.
        layers: how many, by the precision of their outputs.
        weights_mb: of the weights on the device.
        activations_mb: of the working memory on the device.
        peak_memory_mb: that the building process held, in MB (2^20 bytes).
    """

    plan: bytes | memoryview
    listing: str
    layers: dict[str, int]
    weights_mb: float
    activations_mb: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Engine:
    """A verified engine: its folder and its record."""

    path: Path
    record: EngineRecord

    def plan(self) -> mmap.mmap:
        """The serialised engine, mapped into memory."""
        with (self.path / PLAN).open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


class EngineStore:
    """The engines of one folder; by default the user's cache.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder("engines")

    def get(self, spec: EngineSpec, bundle: str, build: Callable[[], Built]) -> Engine:
        """The engine of that description, built if it is not there or damaged.

        Of several processes that want the same one, one builds it and the others wait.

        Raises:
            UserError: the folder cannot be written, or the disk is full; nothing is left then.
        """
        target = self.folder / f"{spec.graph}-{spec.key[:16]}"
        with self._locked(target.name):
            found = self._usable(target) if target.exists() else None
            return found or self._build(target, spec, bundle, build)

    def find(self, wanted: Callable[[EngineSpec], bool]) -> Engine | None:
        """The newest engine that will do; damaged ones are set aside on the way."""
        candidates = [e for e in self.engines() if wanted(e.record.spec)]
        usable = (self._found(engine.path) for engine in candidates)
        return next((engine for engine in usable if engine), None)

    def engines(self) -> list[Engine]:
        """Every engine with an authentic record, newest first."""
        found = []
        for path in self.folder.glob(f"[!.]*/{MANIFEST}"):
            with contextlib.suppress(EngineError):
                found.append(Engine(path.parent, read_record(path.parent, self._key())))
        return sorted(found, key=lambda engine: engine.record.made, reverse=True)

    def prune(self, keep: Callable[[EngineSpec], bool]) -> int:
        """Remove the half-written, what was set aside, and engines not to keep; bytes freed."""
        kept = {engine.path for engine in self.engines() if keep(engine.record.spec)}
        freed = 0
        for path in self.folder.glob("*"):
            if not path.is_dir() or path in kept or path.name in (LOCKS, CACHES):
                continue
            name = path.name.removeprefix(".")
            with self._locked(name.rsplit(".", 2)[0]):
                freed += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                shutil.rmtree(path, ignore_errors=True)
        for path in (self.folder / CACHES).glob("*"):
            if path.suffix not in (ASIDE, PARTIAL):
                continue
            freed += path.stat().st_size
            path.unlink()
        return freed

    def signed(self, record: EngineRecord) -> bool:
        """Whether this store wrote a record."""
        key = self.folder / KEY
        return key.is_file() and signed(own_key(key), _content(record), record.hmac)

    def load_cache(self, name: str) -> bytes | None:
        """What `save_cache` kept under that name; what is damaged or another's is set aside."""
        path = self.folder / CACHES / name
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        signature, data = raw[:SIGNATURE_CHARACTERS], raw[SIGNATURE_CHARACTERS:]
        if signed(self._key(), data, signature.decode("ascii", "replace")):
            return data
        aside = path.with_name(name + ASIDE)
        log.warning("%s is damaged, or was not written here; set aside as %s", path, aside.name)
        with contextlib.suppress(OSError):
            path.replace(aside)
        return None

    def save_cache(self, name: str, data: bytes) -> None:
        """Keep what makes the next start quicker; a failure to write is no failure of the run."""
        folder = self.folder / CACHES
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, sign(self._key(), data).encode() + data, sync=False)
        except OSError as error:
            log.info("cache %s not kept: %s", name, error)

    def _build(
        self, target: Path, spec: EngineSpec, bundle: str, build: Callable[[], Built]
    ) -> Engine:
        began = time.perf_counter()
        built = build()
        seconds = time.perf_counter() - began
        with whole_folder(target) as folder:
            record = EngineRecord(
                spec=spec,
                bundle=bundle,
                made=datetime.now(UTC).isoformat(),
                seconds=round(seconds, 3),
                peak_memory_mb=built.peak_memory_mb,
                layers=built.layers,
                weights_mb=built.weights_mb,
                activations_mb=built.activations_mb,
                plan=_write(folder / PLAN, built.plan),
                listing=_write(folder / LISTING, built.listing.encode()),
            )
            record = msgspec.structs.replace(record, hmac=sign(self._key(), _content(record)))
            _write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(record), indent=1))
        return Engine(target, record)

    def _found(self, path: Path) -> Engine | None:
        """As `_usable`, unless another process has set it aside by now."""
        with self._locked(path.name):
            return self._usable(path) if path.exists() else None

    def _usable(self, path: Path) -> Engine | None:
        """The engine of a folder, every byte checked; one that fails is set aside."""
        try:
            record = read_record(path, self._key())
            check_files(path, record)
        except EngineError as error:
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=ASIDE, dir=self.folder))
            path.rename(aside / path.name)
            log.warning("%s; set aside in %s", error, aside)
            return None
        return Engine(path, record)

    def _key(self) -> bytes:
        return own_key(self.folder / KEY)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.folder / LOCKS
        try:
            locks.mkdir(parents=True, exist_ok=True)
            lock = (locks / name).open("w")
        except OSError as error:
            raise UserError(f"cannot write engines to {self.folder}: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process builds %s: waiting for it", name)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_record(path: Path, key: bytes | None) -> EngineRecord:
    """The record of an engine's folder.

    Args:
        path: the folder.
        key: that must have signed it; `None` takes any.

    Raises:
        EngineError: there is none, or it is damaged or of another store.
    """
    try:
        with (path / MANIFEST).open("rb") as stream:
            record = msgspec.json.decode(stream.read(MAX_MANIFEST_BYTES), type=EngineRecord)
    except OSError as error:
        raise EngineError(f"cannot read {path / MANIFEST}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{path / MANIFEST} is not an engine's: {error}") from None
    if key is not None and not signed(key, _content(record), record.hmac):
        raise EngineError(f"{path} was not built here: its signature is another's")
    return record


def check_files(path: Path, record: EngineRecord) -> None:
    """Compare an engine's files with its record.

    Raises:
        EngineError: one is missing, of another length, or changed.
    """
    for name, spec in ((PLAN, record.plan), (LISTING, record.listing)):
        file = path / name
        if not file.is_file() or file.stat().st_size != spec.size:
            raise EngineError(f"{file} is damaged: {spec.size:,} bytes are expected")
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != spec.sha256:
                raise EngineError(f"{file} is damaged: its sha256 differs")


def _content(record: EngineRecord) -> bytes:
    """What is signed."""
    return msgspec.json.encode(msgspec.structs.replace(record, hmac=""), order="sorted")


def _write(path: Path, data: bytes | memoryview) -> FileSpec:
    path.write_bytes(data)
    return FileSpec(size=len(data), sha256=hashlib.sha256(data).hexdigest())
