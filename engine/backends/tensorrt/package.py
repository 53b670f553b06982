"""The two packages that share TensorRT's Python API, and what both need: a logger."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import Any

from ....errors import MissingExtraError, UserError, unknown

LISTING = "Layers:\n"
SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Package:
    """TensorRT, or TensorRT for RTX.

    Attributes:
        backend: as the user says.
        module: what is imported.
        extra: of ours, that installs it.
        ahead_of_time: whether it builds without a GPU, for compute capabilities that are named; the
            other tunes engines on the GPU that will run them.
    """

    backend: str
    module: str
    extra: str
    ahead_of_time: bool

    def load(self) -> Any:
        """The imported module.

        Raises:
            MissingExtraError: it is not installed.
        """
        try:
            return importlib.import_module(self.module)
        except ImportError:
            raise MissingExtraError(self.backend, self.extra) from None

    def version(self) -> str:
        """The version of the installed package; engines are of exactly one."""
        return str(self.load().__version__)

    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities it builds for ahead of time, e.g. `sm_89`."""
        members = self.load().ComputeCapability.__members__
        return tuple(f"sm_{name[2:]}" for name in members if name.startswith("SM"))

    def check_targets(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """The targets, sorted and each once.

        Raises:
            UserError: one is not built for; lists those that are.
        """
        known = self.capabilities()
        for target in targets:
            if target not in known:
                raise UserError(unknown("compute capability", target, known))
        return tuple(sorted(set(targets), key=known.index))


TENSORRT = Package("tensorrt", "tensorrt", "tensorrt", ahead_of_time=False)
TENSORRT_RTX = Package("tensorrt-rtx", "tensorrt_rtx", "rtx", ahead_of_time=True)
PACKAGES = {package.backend: package for package in (TENSORRT, TENSORRT_RTX)}


@dataclass
class Log:
    """What TensorRT said.

    Attributes:
        errors: its errors, one line each.
        messages: of a build: sizes.
        listing: of a build: every layer, as the engine inspector prints it.
    """

    errors: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    listing: str = ""

    def logger(self, trt: Any) -> Any:
        """The `ILogger` that writes here."""
        log, severe = self, (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in severe:
                    log.errors.append(SPACE.sub(" ", message).strip())
                elif message.startswith(LISTING):
                    log.listing = message.removeprefix(LISTING)
                elif severity == trt.ILogger.INFO:
                    log.messages.append(message)

        return Logger()

    @property
    def reason(self) -> str:
        """The last error, cut to a readable length."""
        return self.errors[-1][:500] if self.errors else "no reason given"
