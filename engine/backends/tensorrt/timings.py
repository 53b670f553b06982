"""What TensorRT timed as it chose kernels for a GPU, kept for the next build there.

Source: `ITimingCache` of TensorRT. TensorRT-RTX builds ahead of time and times nothing.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from ...spec import EngineSpec
from ...store import EngineStore

log = logging.getLogger(__name__)


class Timings:
    """Those of one version of TensorRT on one GPU, in the store of the engines."""

    def __init__(self, store: EngineStore, spec: EngineSpec) -> None:
        """Open nothing yet; the spec's engine is the one to build."""
        place = f"{spec.gpu} {spec.driver} {spec.system}".encode()
        parts = (spec.backend, spec.version, *spec.targets, hashlib.sha256(place).hexdigest()[:16])
        self._store, self._name = store, f"{'-'.join(parts)}.timings"

    def lend(self, config: Any) -> None:
        """Let a build begin with what was timed before; what it times is added."""
        kept = self._store.load_cache(self._name)
        if kept is not None and not _set(config, kept):
            log.warning("TensorRT does not take %s; it times anew", self._name)
            kept = None
        if kept is None:
            _set(config, b"")

    def keep(self, config: Any) -> None:
        """Keep what the build added."""
        cache = config.get_timing_cache()
        if cache is not None:
            self._store.save_cache(self._name, bytes(cache.serialize()))


def _set(config: Any, data: bytes) -> bool:
    """Whether TensorRT takes it: not of another version, or of a GPU with other properties."""
    cache = config.create_timing_cache(data)
    return cache is not None and bool(config.set_timing_cache(cache, ignore_mismatch=False))
