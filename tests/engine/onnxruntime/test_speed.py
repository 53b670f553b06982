"""What makes our own operators fast: their sums stay in registers in the innermost loops.

A compiler that stores them in each round takes 2.5 times as long (docs/lab.md). Instructions are
read, not times taken: how long something takes, and beside what, differs from hour to hour.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutoscope.engine.backends.onnxruntime import native_operators

if not native_operators.usable() or shutil.which("objdump") is None:
    pytest.skip("no AVX-512 BF16, no compiler, or no objdump", allow_module_level=True)

SUMS = 24
"""Registers of a tile: each takes a product in a round."""

PRODUCT = re.compile(r"vdpbf16ps|vfmadd\d+ps .*%zmm")
STORE = re.compile(r"vmov\w+ +%zmm\d+,.*\(")
FUNCTION = re.compile(r"[0-9a-f]+ <(.+)>:")
INSTRUCTION = re.compile(r" *([0-9a-f]+):\t(.+)")
JUMP = re.compile(r"j\w+ +([0-9a-f]+) <")


@dataclass(frozen=True)
class Loop:
    """What is repeated, without another loop in it."""

    function: str
    body: list[str]

    def count(self, pattern: re.Pattern[str]) -> int:
        return sum(pattern.match(instruction) is not None for instruction in self.body)


def innermost_loops(library: Path) -> Iterator[Loop]:
    command = ["objdump", "-d", "--no-show-raw-insn", str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    function, places, body = "", list[int](), list[str]()
    for line in listing.splitlines():
        if named := FUNCTION.fullmatch(line):
            function, places, body = named[1], [], []
        elif found := INSTRUCTION.fullmatch(line):
            place, instruction = int(found[1], 16), found[2]
            places.append(place)
            body.append(instruction)
            jump = JUMP.match(instruction)
            if jump and (begin := int(jump[1], 16)) in places:
                start = places.index(begin)
                yield Loop(function, body[start:])
                places, body = places[:start], body[:start]  # what is around it is no innermost one


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> list[Loop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUTOSCOPE_CACHE", str(tmp_path_factory.mktemp("operators")))
        return list(innermost_loops(native_operators.build(native_operators.BF16)))


@pytest.mark.parametrize(
    ("function", "product"),
    [
        ("Work6attend", "vdpbf16ps"),
        ("InBf16EE6add_up", "vdpbf16ps"),
        ("InFp32EE6add_up", "vfmadd"),
        ("Work8multiply", "vdpbf16ps"),
    ],
    ids=["attention", "convolutions in bf16", "convolutions in fp32", "products"],
)
def test_sums_stay_in_registers(loops: list[Loop], function: str, product: str) -> None:
    found = [loop for loop in loops if function in loop.function and loop.count(PRODUCT) >= SUMS]
    assert found
    for loop in found:
        assert any(instruction.startswith(product) for instruction in loop.body)
        assert loop.count(STORE) == 0
