"""Where all lies that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept; the environment variable MUTOSCOPE_CACHE moves them all.

    Args:
        kind: `digests`, `engines`, `kernels`, `operators` or `prompts`.
    """
    root = os.environ.get("MUTOSCOPE_CACHE") or platformdirs.user_cache_dir("mutoscope")
    return Path(root) / kind
