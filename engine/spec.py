"""What an engine is: what it was built from and for, and the record that lies beside it."""

from __future__ import annotations

import hashlib
import platform
from typing import Annotated, Literal

import msgspec

from .bundle import Bundle
from .manifest import FileSpec, Name, Precision

RECIPE = 1
"""Of the way from a graph to an engine; raised when it changes, so that engines are built anew."""

AxisRange = tuple[int, int, int]
Profile = dict[Name, AxisRange]
"""The named axes of a graph: the shortest, the usual and the greatest length of each."""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an engine depends on; two that are equal are one engine.

    Attributes:
        graph: its name in the bundle.
        source: sha256 over the hashes of the graph's file and its weights.
        precision: of the graph.
        backend: `tensorrt` or `tensorrt-rtx`.
        version: of the backend's package.
        targets: compute capabilities, e.g. `sm_89`.
        gpu: name of the GPU it was tuned on; `None` where it was built without one.
        driver: CUDA major version of the driver it was tuned with; `None` likewise.
        system: operating system and processor.
        profile: the shapes it takes.
        flags: builder flags.
        recipe: of this program.
    """

    graph: Name
    source: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    precision: Precision
    backend: Name
    version: Name
    targets: tuple[Name, ...]
    gpu: Name | None = None
    driver: int | None = None
    system: Name
    profile: Profile
    flags: tuple[Name, ...] = ()
    recipe: int = RECIPE

    @property
    def key(self) -> str:
        """The sha256 of all of it, in hex."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def covers(self, axes: dict[str, int]) -> bool:
        """Whether the engine takes inputs whose named axes have these lengths."""
        return covers(self.profile, axes)


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of an engine's `manifest.json`.

    Attributes:
        spec: what it was built from and for.
        bundle: the name of the bundle it belongs to.
        made: when, ISO 8601, UTC.
        seconds: that the build took.
        peak_memory_mb: of the building process, in MB (2^20 bytes).
        layers: how many the engine has, by the precision of their outputs.
        weights_mb: of the engine's weights on the device, as TensorRT counts them (10^6 bytes).
        activations_mb: device memory that a run needs at most, beside inputs and outputs.
        plan: the file `engine.plan`.
        listing: the file `layers.txt`: what TensorRT's inspector says of each layer.
        hmac: of all the rest, by the store's own key.
    """

    schema: Literal[1] = 1
    spec: EngineSpec
    bundle: Name
    made: Name
    seconds: float
    peak_memory_mb: float
    layers: dict[Name, int]
    weights_mb: float
    activations_mb: float
    plan: FileSpec
    listing: FileSpec
    hmac: str = ""


def covers(profile: Profile, axes: dict[str, int]) -> bool:
    """Whether a profile has these lengths in it."""
    return all(low <= axes[name] <= high for name, (low, _, high) in profile.items())


def source_hash(bundle: Bundle, name: str) -> str:
    """The sha256 over the hashes, checked when the bundle was opened, of a graph's files."""
    graph = bundle.graph(name)
    digests = [bundle.manifest.files[file].sha256 for file in (graph.file, *graph.data)]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def system_name() -> str:
    """The operating system and processor that an engine's host code is for."""
    return f"{platform.system()}-{platform.machine()}".lower()
