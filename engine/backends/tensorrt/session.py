"""TensorRT behind the session protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from ....errors import UserError
from ....kernels.device import Stream
from ...bundle import Bundle
from ...int8_attention import takes_part
from ...lora import changing, merge
from ...open import EngineOptions
from ...profiles import LatentSize
from ...session import Session, Tensor, check_feeds
from ...store import Engine, EngineStore
from .build import REFIT
from .context import Context
from .engines import build_engine, describe, serves
from .int8_attention import FLAG
from .package import Package

log = logging.getLogger(__name__)


class TensorRTSession(Session):
    """A graph on an NVIDIA GPU; its outputs stay there.

    The engine is opened with the first run, when shapes are known, and changed for one that takes
    other shapes when they come. Runs happen in a thread of their own, so that Ctrl-C is heard. On a
    stream that is shared a run returns once it is in the stream, else when it is done.
    """

    def __init__(
        self,
        package: Package,
        bundle: Bundle,
        name: str,
        options: EngineOptions,
        stream: Stream,
        store: EngineStore,
    ) -> None:
        super().__init__(name, bundle.graph(name))
        self._package, self._bundle, self._options = package, bundle, options
        self._stream, self._store = stream, store
        self._worker = ThreadPoolExecutor(1, name, initializer=stream.device.set_current)
        self._context: Context | None = None
        self._changed = bool(changing(name, options.loras)) and bundle.graph(name).lora is not None
        if options.int8_attention and takes_part(bundle, name):
            self.kernels = (FLAG,)

    def _run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._run_into(feeds, {})

    def _run_into(
        self, feeds: Mapping[str, Tensor], into: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        context = self._context_for(check_feeds(self.name, self.inputs, feeds))
        outputs = self._worker.submit(context.run, feeds, into).result()
        if self._options.stream is None:
            self._stream.synchronize()
        return outputs

    @property
    def recordable(self) -> bool:
        """Whether runs like the last one can be recorded, on a stream that is shared."""
        shared = self._options.stream is not None
        return shared and self._context is not None and self._context.recordable

    def close(self) -> None:
        """Give back the device's memory. A second call does nothing."""
        if self._context is not None:
            self._worker.submit(self._context.close).result()
            self._context = None
        self._worker.shutdown()

    def _context_for(self, axes: dict[str, int]) -> Context:
        if self._context is None or not self._context.spec.covers(axes):
            engine, graph = self._engine_for(axes), self._bundle.graph(self.name)
            if self._context is not None:
                self._worker.submit(self._context.close).result()
                self._context = None
            budget = self._options.weight_budget
            weights = self._weights() if self._changed else None
            opened = self._worker.submit(
                Context, engine, graph, self._stream, self._store, budget, weights
            )
            self._context = opened.result()
        return self._context

    def _weights(self) -> dict[str, NDArray[Any]]:
        """Those that LoRAs change, with what they add."""
        return merge(self._bundle, self.name, self._options.loras).weights

    def _engine_for(self, axes: dict[str, int]) -> Engine:
        """The newest engine in the store that takes these shapes, or one for the bundle's default.

        Raises:
            UserError: there is none, and the bundle's default is another size.
        """
        sizes = [LatentSize.default(self._bundle.manifest)]
        asked = {FLAG: self._options.int8_attention, REFIT: self._changed}
        flags, device = [flag for flag in asked if asked[flag]], self._stream.device
        wanted = describe(self._package, self._bundle, self.name, sizes, flags=flags, device=device)
        found = self._store.find(lambda spec: serves(spec, wanted, axes))
        if found is not None:
            return found
        if not wanted.covers(axes):
            lengths = ", ".join(f"{name} {length}" for name, length in sorted(axes.items()))
            raise UserError(
                f"no engine of {self.name} takes {lengths}; build one with: "
                f"mutoscope build {self._bundle.path} --backend {self._package.backend} "
                f"--profile WIDTHxHEIGHTxFRAMES{''.join(f' --{flag}' for flag in wanted.flags)}"
            )
        log.info("building the engine of %s, once", self.name)
        threads = self._options.threads
        return build_engine(self._store, self._bundle, wanted, threads, lambda *_: None)
