"""Quantize: a bundle → a bundle with fewer bits, calibrated and judged on its own clips."""

from .options import Options
from .quality import QualityError
from .quantizer import quantize_bundle

__all__ = ["Options", "QualityError", "quantize_bundle"]
