"""Our own operators for ONNX Runtime: libraries that are compiled for this machine at first use.

Those of the CPU need AVX-512 BF16 and the system's C++ compiler. Where there is no such thing, or
anything fails, ONNX Runtime's own operators do the same in fp32. That of a GPU is `int8_attention`.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ....cache import cache_folder
from ...signing import own_key, sign, signed
from .session import package

DOMAIN = "mutoscope"
FOLDER = Path(__file__).parent / "native"
SOURCES = ("attention.cpp", "convolution.cpp", "custom_op.cpp", "norm.cpp", "product.cpp")
COMPILER = "c++"
OPTIONS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-w")
BF16 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mfma")
INSTRUCTIONS = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16", "fma"}
"""The same, as Linux has them in /proc/cpuinfo."""

PATIENCE = 120
"""Seconds for the compiler, which takes 2 or 3."""

KEY = ".key"

_log = logging.getLogger(__name__)


@cache
def own_operators() -> Path | None:
    """The library, compiled unless it lies in the cache; `None` where this machine cannot have it.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    if not usable():
        return None
    settings = package().SessionOptions()
    try:
        path = build(BF16)
        settings.register_custom_ops_library(str(path))
    except Exception as error:
        # onnxruntime's exceptions share no base class but Exception
        _log.info("without our own operators: %s", error)
        return None
    return path


def own_kernels(*models: Any) -> tuple[str, ...]:
    """Which of our own operators some graphs have, by name."""
    nodes = (node for model in models for node in model.graph.node)
    return tuple(sorted({node.op_type for node in nodes if node.domain == DOMAIN}))


def usable() -> bool:
    """Whether this machine has the instructions, and a compiler; nothing is compiled."""
    return _instructions() >= INSTRUCTIONS and shutil.which(COMPILER) is not None


def build(
    flags: Sequence[str],
    sources: Sequence[str] = SOURCES,
    embedded: Mapping[str, bytes] | None = None,
) -> Path:
    """A library, from the cache if this user's own build is there.

    Args:
        flags: for the compiler.
        sources: what it is made of.
        embedded: files that the sources take in as they are, by name.

    Raises:
        OSError: no place for it, or no compiler.
        subprocess.SubprocessError: it does not compile.
        UserError: the key in the cache can be read by others.
    """
    folder = cache_folder("operators")
    folder.mkdir(parents=True, exist_ok=True)
    secret = own_key(folder / KEY)
    embedded = embedded or {}
    name = _name(flags, sources, embedded)
    for path in folder.glob(f"{name}.*.so"):
        if signed(secret, path.read_bytes(), path.name.split(".")[1]):
            return path
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made = Path(place) / "made.so"
        for file, content in embedded.items():
            (made.parent / file).write_bytes(content)
        _compile(flags, sources, made)
        return made.replace(folder / f"{name}.{sign(secret, made.read_bytes())}.so")


def _compile(flags: Sequence[str], sources: Sequence[str], to: Path) -> None:
    paths = [str(FOLDER / source) for source in sources]
    subprocess.run(
        [shutil.which(COMPILER) or COMPILER, *OPTIONS, *flags, "-o", str(to), *paths],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
        cwd=to.parent,
    )


def _name(flags: Sequence[str], sources: Sequence[str], embedded: Mapping[str, bytes]) -> str:
    """A hash of all that it is made of."""
    digest = hashlib.sha256(" ".join((*OPTIONS, *flags, *sources)).encode())
    for path in sorted(FOLDER.iterdir()):
        digest.update(path.read_bytes())
    for content in embedded.values():
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]


def _instructions() -> set[str]:
    """Those of the CPU; none where nobody tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return set(next(flags, []))
