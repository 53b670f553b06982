"""Time blocks of Wan 1.3B's width on a CPU, in float32 and in each quantized format, in turn.

Weights and inputs are random, so the errors say little; the seconds are those of the real model's
blocks. Needs the export extra. Example: python scripts/quantized_block.py 384x224x9
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mutoscope.bench.machine import describe
from mutoscope.bench.peers.wan_checkpoint import write
from mutoscope.bench.wan_layout import TEXT_TOKENS, WAN_1_3B, Size
from mutoscope.engine import Bundle, EngineOptions, Session, open_graph
from mutoscope.export import Options, export_bundle
from mutoscope.quantize.formats import FORMATS
from mutoscope.quantize.quantizer import study
from mutoscope.quantize.trajectory import Call

PATTERN = Path(__file__).parents[1] / "tests" / "data" / "mini-wan"
LAYOUT = replace(WAN_1_3B, layers=2)
REPETITIONS = 7
GRAPH = "denoiser"


def main(size: Size, threads: int) -> None:
    """Export, quantize, time, print a table."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        write(work / "checkpoint", PATTERN, LAYOUT, "cpu")
        export_bundle(work / "checkpoint", work / "bundle", Options(graphs=[GRAPH]))
        bundle, options = Bundle.open(work / "bundle"), EngineOptions(threads)
        feeds = inputs(size)
        sessions = {"float32": stack.enter_context(open_graph(bundle, GRAPH, options=options))}
        wanted = np.asarray(sessions["float32"].run(feeds)["sample"])
        calls = [Call(GRAPH, feeds, wanted)]
        subject = study(bundle, GRAPH, calls, threads, lambda line: None)
        kinds = [kind for kind in subject.sizes if kind.startswith("blocks.")]
        for form in FORMATS:
            choice = dict.fromkeys(kinds, form)
            sessions[form] = stack.enter_context(subject.open(choice))
            if form == "int8":
                plain = replace(subject, factors={})
                sessions["int8, not smoothed"] = stack.enter_context(plain.open(choice))
        times = in_turn(sessions, feeds)
    print(f"{LAYOUT.layers} blocks, {size.tokens} tokens, {threads} threads")  # noqa: T201
    base = statistics.median(times["float32"])
    for name, seconds in times.items():
        middle, spread = statistics.median(seconds), statistics.stdev(seconds)
        print(f"{name}: {middle:.3f} ± {spread:.3f} s, {base / middle:.2f}x")  # noqa: T201
    print(describe())  # noqa: T201


def inputs(size: Size) -> dict[str, Any]:
    """Random ones."""
    rng = np.random.default_rng(0)
    text = (1, TEXT_TOKENS, LAYOUT.text_dim)
    return {
        "hidden_states": rng.standard_normal((1, 16, *size.latent)).astype(np.float32),
        "timestep": np.float32([500]),
        "encoder_hidden_states": rng.standard_normal(text).astype(np.float32),
    }


def in_turn(sessions: dict[str, Session], feeds: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of each run: all of them once, and again, so that a busy minute meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for repetition in range(REPETITIONS + 1):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run(feeds)
            if repetition:
                times[name].append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    width, height, frames = map(int, sys.argv[1].split("x"))
    main(Size(width, height, frames), len(os.sched_getaffinity(0)))
