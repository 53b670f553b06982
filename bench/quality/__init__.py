"""Quality: what a clip loses by another precision, scheduler or number of steps.

`compare` makes the same clips in several ways and returns typed records; `Gate` holds them to
bounds:

    report = compare([Setting("int8")], reference=Setting("fp32", options={"steps": 30}))
    assert not Gate(min_psnr=25, max_adherence_loss=3).misses(report)
"""

from .compare import Comparison, compare
from .record import ClipQuality, Gate, Quality, Report
from .setting import Setting, Task
from .similarity import Similarity, similarity

__all__ = [
    "ClipQuality",
    "Comparison",
    "Gate",
    "Quality",
    "Report",
    "Setting",
    "Similarity",
    "Task",
    "compare",
    "similarity",
]
