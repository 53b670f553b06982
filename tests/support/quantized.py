"""How tests quantize: clips that take no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mutoscope
from mutoscope.quantize import Options

EMBEDDED = Path(mutoscope.__file__).parent / "models" / "mini-wan"
REQUEST: dict[str, Any] = {"width": 32, "height": 48, "frames": 5, "steps": 3}
SMALL = Options(request=REQUEST, calibration=1, threads=1)
