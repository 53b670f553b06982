"""What the GPU path is to reach, and whether it has, by the results of a suite's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from operator import ge, getitem, le
from typing import Any

from .gpu_engines import GPU_BACKENDS
from .gpu_setting import BACKENDS

Figures = Mapping[str, Any]
Target = dict[str, Any]

SIZES = ("small", "large")
TIMES = {"diffusers-eager": 2.0, "diffusers-compiled": 1.5}
"""How many times as fast as each a prediction of the denoiser is to be, at no greater error."""
EXACT = "fp32"
"""What the reference of errors is computed in, where they are to be judged."""
GAPS = 0.01
"""Of a step, at most; what is measured has the kernels between engines in it."""
OUTSIDE = 0.02
"""Of a whole clip, at most."""


class NotMeasuredError(Exception):
    """What a target wants is not in the results, and why."""


def with_targets(results: Figures) -> dict[str, Any]:
    """The results, with what `targets` says."""
    return {**results, "targets": targets(results)}


def targets(results: Figures) -> list[Target]:
    """For each backend of GPUs, of tiny sizes the CPU's too: `part`, `target`, `measured`.

    Then `reached`; where a figure is missing, that is `None`, and `measured` says why. Of what is
    to be at no greater error also `error` and `peer_error`.
    """
    backends = BACKENDS if results["small"] else GPU_BACKENDS
    return [found for b in backends for size in SIZES for found in _of(results, b, size)]


def _of(results: Figures, backend: str, size: str) -> Iterator[Target]:
    denoiser, clip = f"{backend}-wan-{size}", f"{backend}-wan-clip-{size}"
    for peer, times in TIMES.items():
        yield _target(
            denoiser,
            f"at least {times}x {peer} at no greater error",
            partial(_beside, results, denoiser, peer),
            partial(le, times),
        )

    def gaps() -> Figures:
        figures = _done(results, clip)
        return _share(figures["rest_of_step_ms"] / figures["step_ms"])

    yield _target(clip, f"gaps at most {GAPS:.0%} of a step", gaps, partial(ge, GAPS))

    def outside(*within: str) -> Figures:
        figures = reduce(getitem, within, _done(results, clip))
        return _share(figures["outside_stages_share"])

    for name, within in (("", ()), (" to a file", ("file",))):
        yield _target(
            clip,
            f"at most {OUTSIDE:.0%} of a clip{name} outside of text, denoiser and VAE",
            partial(outside, *within),
            partial(ge, OUTSIDE),
        )


def _target(
    part: str, target: str, measure: Callable[[], Figures], reached: Callable[[float], bool]
) -> Target:
    about = {"part": part, "target": target}
    try:
        figures = measure()
    except NotMeasuredError as why:
        return {**about, "measured": f"not measured: {why}", "reached": None}
    equal = figures.get("error", 0) <= figures.get("peer_error", 0)
    return {**about, **figures, "reached": reached(figures["measured"]) and equal}


def _share(share: float) -> Figures:
    return {"measured": round(share, 4)}


def _beside(results: Figures, denoiser: str, peer: str) -> Figures:
    """The peer's time over ours, and both errors: of its precisions the fastest and the worst.

    Raises:
        NotMeasuredError: one is missing, or not from what is exact.
    """
    ours = _done(results, denoiser)
    usual = _done(results, peer)[ours["size"]]
    theirs = [usual, *([usual["fp16"]] if "fp16" in usual else [])]
    for name, figures in ((denoiser, ours), (peer, usual)):
        if isinstance(figures["error"], str):
            raise NotMeasuredError(f"the error of {name}: {figures['error']}")
        if figures["reference"] != EXACT:
            raise NotMeasuredError(f"the error of {name} is from {figures['reference']}")
    return {
        "measured": round(1e3 * min(f["seconds"] for f in theirs) / ours["run_ms"], 4),
        "error": ours["error"],
        "peer_error": max(f["error"] for f in theirs),
    }


def _done(results: Figures, name: str) -> Figures:
    """A part's figures.

    Raises:
        NotMeasuredError: it has not run, or not to its end.
    """
    part: Figures = results.get(name, {})
    if not part:
        raise NotMeasuredError(f"{name} has not run")
    if part["state"] != "done":
        raise NotMeasuredError(f"{name} {part['state']}: {part['reason']}")
    return part
