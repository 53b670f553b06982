"""Pictures of a comparison: time and error of every engine, and how time grows with a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..suite import Figures
from .contest import median

COLOURS = {"mutoscope": "tab:red", "diffusers": "tab:blue", "OpenVINO": "tab:purple"}
SAME = 1e-8
"""Errors are drawn from here on: the axis is logarithmic."""


def draw(results: Figures, folder: Path) -> list[Path]:
    """Draw what there is to draw; returns the files, an SVG and a PNG of each picture."""
    works = [part for part in results.values() if isinstance(part, dict) and _done(part)]
    sizes = results.get("growth", {}).get("sizes", {})
    pictures = {
        **({"engines": _engines(works)} if works else {}),
        **({"growth": _growth(list(sizes.values()))} if sizes else {}),
    }
    return [path for name, figure in pictures.items() for path in _save(figure, folder / name)]


def _engines(works: Sequence[Figures]) -> Figure:
    """A row of two for each piece of work: seconds, and errors."""
    figure = Figure(figsize=(9, 0.6 + 2.1 * len(works)), layout="constrained")
    rows: Any = figure.subplots(len(works), 2, squeeze=False)
    for (times, errors), work in zip(rows, works, strict=True):
        done = _done(work)
        _times(times, done)
        times.set_title(f"{work['what']}: seconds", loc="left", fontsize=9)
        _errors(errors, done)
        errors.set_title("relative error against diffusers fp32", loc="left", fontsize=9)
        for axes in (times, errors):
            axes.set_ylim(len(done) - 0.4, -0.6)
            axes.tick_params(labelsize=8)
    return figure


def _done(work: Figures) -> Figures:
    """The engines that have figures."""
    engines = work.get("engines", {})
    return {name: found for name, found in engines.items() if found["state"] == "done"}


def _times(axes: Axes, done: Figures) -> None:
    """Medians, with a whisker from the shortest time to the longest."""
    middles = [median(found) for found in done.values()]
    seconds = [found["seconds"] for found in done.values()]
    below = [middle - min(times) for middle, times in zip(middles, seconds, strict=True)]
    above = [max(times) - middle for middle, times in zip(middles, seconds, strict=True)]
    axes.barh(list(done), middles, xerr=[below, above], color=_colours(done))


def _errors(axes: Axes, done: Figures) -> None:
    errors = [max(found.get("error", SAME), SAME) for found in done.values()]
    axes.scatter(errors, range(len(done)), color=_colours(done))
    axes.set_xscale("log")
    axes.set_xlim(SAME / 2, 1)
    axes.set_yticks(range(len(done)), [""] * len(done))
    axes.grid(axis="x", alpha=0.3)


def _colours(engines: Figures) -> list[str]:
    return [COLOURS[name.split()[0]] for name in engines]


def _growth(works: Sequence[Figures]) -> Figure:
    """Seconds of a prediction by latent frames at one size, and by pixels at one length."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    shapes = {work["size"]: tuple(map(int, work["size"].split("x"))) for work in works}
    by_frames = _commonest(works, lambda work: shapes[work["size"]][:2])
    by_pixels = _commonest(works, lambda work: shapes[work["size"]][2])
    _lines(left, by_frames, [shapes[work["size"]][2] for work in by_frames], "frames")
    _lines(right, by_pixels, [_pixels(shapes[work["size"]]) for work in by_pixels], "pixels")
    left.set_title(f"denoiser, {works[0]['what'].split(', ')[1]}: seconds", loc="left", fontsize=9)
    return figure


def _pixels(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1]


def _commonest(works: Sequence[Figures], key: Any) -> list[Figures]:
    """The works that share what most of them have."""
    keys = [key(work) for work in works]
    most = max(keys, key=keys.count)
    return [work for work in works if key(work) == most]


def _lines(axes: Axes, works: Sequence[Figures], places: Sequence[int], label: str) -> None:
    for name in works[0]["engines"]:
        points = sorted(
            (place, median(work["engines"][name]))
            for place, work in zip(places, works, strict=True)
            if work["engines"][name]["state"] == "done"
        )
        if points:
            axes.plot(*zip(*points, strict=True), "o-", label=name, color=COLOURS[name.split()[0]])
    axes.set_xlabel(label)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8)


def _save(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_suffix(".svg"), path.with_suffix(".png")]
    FigureCanvasSVG(figure)
    figure.savefig(files[0], metadata={"Date": None})
    figure.savefig(files[1], dpi=110)
    return files
