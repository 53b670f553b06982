"""Our own operators against ONNX Runtime's, in turn, in a process that has done nothing else.

Measured when this was written: 0.34 to 0.47 of its time for attention, 0.60 to 0.86 for
convolutions in fp32, 0.36 to 0.46 in bf16. What the bounds guard against is a compiler that stores
sums in memory again, which takes 2.5 times as long (docs/lab.md). Products with few bits have no
such test: ONNX Runtime's are only themselves with weights that are constants of a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import operator_speed
import pytest
from mutoscope.engine.backends.onnxruntime import native_operators

pytest.importorskip("onnxruntime", reason="the cpu extra is not installed")
if not native_operators.usable():
    pytest.skip("this CPU has no AVX-512 BF16, or there is no compiler", allow_module_level=True)

pytestmark = pytest.mark.quiet


@pytest.mark.parametrize(
    ("measure", "most"),
    [
        (operator_speed.attention, 0.8),
        (partial(operator_speed.convolutions, bf16=False), 1.3),
        (partial(operator_speed.convolutions, bf16=True), 0.8),
    ],
    ids=["attention", "convolutions in fp32", "convolutions in bf16"],
)
def test_share_of_the_time(measure: Callable[[], operator_speed.Seconds], most: float) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        ours, theirs = apart.submit(measure).result()
    assert ours <= most * theirs
