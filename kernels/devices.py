"""The GPU that this process works on, by the library that it is built around."""

from __future__ import annotations

import sys

from .device import Device

PYCUDA = "pycuda.driver"


def open_device() -> Device:
    """PyCUDA's, in the thread's own context, where the process has imported it; else cuda-core's.

    Raises:
        MissingExtraError: cuda-core is not installed.
        UserError: there is no GPU, or no driver for it.
    """
    if PYCUDA in sys.modules:
        from .pycuda_device import open_device as open_here

        return open_here()
    from .cuda_core import open_device as open_first

    return open_first()
