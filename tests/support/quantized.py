"""How tests quantize: clips that take no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutoscope
from mutoscope.quantize import Options

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
REQUEST: dict[str, Any] = {"width": 32, "height": 48, "frames": 5, "steps": 3}
SMALL = Options(request=REQUEST, calibration=1, prompts=1, target_error=0.008, threads=1)
"""So few runs are no measure for other clips: the target is far below the gate."""
