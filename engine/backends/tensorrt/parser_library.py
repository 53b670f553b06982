"""Let TensorRT-RTX's parser find its library, which it needs to add a plugin to a network.

The parser opens `libtensorrt_rtx.so`, looking beside itself; the wheel has `libtensorrt_rtx.so.1`
alone, and the process ends (1.7.1.116: std::terminate, "Unable to open library"). So the
parser is opened, before anything else opens it, by a link beside which there is one of that name.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

from ....cache import cache_folder
from ....errors import MissingExtraError, UserError

LIBRARIES = "tensorrt_rtx_libs"
PARSER, LIBRARY = "libtensorrt_onnxparser_rtx.so.1", "libtensorrt_rtx.so"


@cache
def find_library() -> None:
    """Do so; once a process.

    Raises:
        MissingExtraError: TensorRT-RTX is not installed.
        UserError: it is imported already, or links cannot be written.
    """
    spec = importlib.util.find_spec(LIBRARIES)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("tensorrt-rtx", "rtx")
    folder = Path(spec.submodule_search_locations[0])
    if (folder / LIBRARY).exists():
        return
    if LIBRARIES in sys.modules:
        raise UserError(
            "attention in int8 must be asked for before tensorrt_rtx is imported in a process; "
            "build the engine with: mutoscope build --int8-attention"
        )
    links = cache_folder("tensorrt-rtx")
    try:
        links.mkdir(parents=True, exist_ok=True)
        _link(links / PARSER, folder / PARSER)
        _link(links / LIBRARY, folder / f"{LIBRARY}.1")
    except OSError as error:
        raise UserError(f"no place for links; set MUTOSCOPE_CACHE: {error}") from error
    ctypes.CDLL(str(links / PARSER))


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(target)
