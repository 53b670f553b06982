"""Clips as files: written through PyAV, whole or not at all, and read back."""

from .reader import ClipInfo, probe, read_frames, read_metadata
from .thread import EncoderThread
from .writer import CancelledError, ClipWriter, open_writer

__all__ = [
    "CancelledError",
    "ClipInfo",
    "ClipWriter",
    "EncoderThread",
    "open_writer",
    "probe",
    "read_frames",
    "read_metadata",
]
