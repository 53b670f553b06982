"""Kernels at the sizes of Wan's clips: right there, and as fast as memory lets them be."""

from __future__ import annotations

from typing import Any

import pytest
from mutoscope.bench.gpu_kernels import MEMORY_BOUND, Bandwidths
from mutoscope.kernels.cuda_core import open_device

pytestmark = pytest.mark.gpu

LEAST_SHARE = 0.85
"""Of the bandwidth of a copy that moves as many bytes."""
ATTENTION_ERROR = 2**-11
"""Results in float16 of numbers near 1; the tensor cores sum in an order of their own."""


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Any]]:
    with open_device().stream() as stream:
        return Bandwidths(stream).all()


@pytest.mark.parametrize("kernel", ["noise", *MEMORY_BOUND])
def test_its_bits_are_the_statement_s(figures: dict[str, dict[str, Any]], kernel: str) -> None:
    assert figures[kernel]["difference"] == 0


def test_attention_is_near_the_statement(figures: dict[str, dict[str, Any]]) -> None:
    assert figures["int8_attention"]["difference"] <= ATTENTION_ERROR


@pytest.mark.parametrize("kernel", MEMORY_BOUND)
def test_it_waits_for_memory_alone(figures: dict[str, dict[str, Any]], kernel: str) -> None:
    assert figures[kernel]["share_of_copy"] >= LEAST_SHARE, figures[kernel]
