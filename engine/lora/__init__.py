"""LoRAs: low-rank changes to the denoiser's weights, added when an engine is opened.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". A file's keys may be
those of diffusers, of the model's own authors, or of kohya's trainers.
"""

from .file import SUFFIX, own_loras
from .lora import Lora, Scale, open_loras
from .merge import Merged, changing, check_loras, memory, merge

__all__ = [
    "SUFFIX",
    "Lora",
    "Merged",
    "Scale",
    "changing",
    "check_loras",
    "memory",
    "merge",
    "open_loras",
    "own_loras",
]
