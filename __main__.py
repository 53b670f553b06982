"""`python -m mutoscope`, and the command `mutoscope`."""

import os

from .interruption import leave_when_interrupted


def main() -> None:
    """Import the command line and run it.

    NumPy multiplies on one thread: several wait for each other in loops of `sched_yield`, after
    which some kernels let others run first for minutes (docs/lab.md).
    """
    leave_when_interrupted()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
