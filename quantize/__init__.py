"""Quantize: a bundle → a bundle with fewer bits, calibrated and judged on its own clips."""

from .quantizer import Options, quantize_bundle

__all__ = ["Options", "quantize_bundle"]
