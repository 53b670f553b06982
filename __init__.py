"""Mutoscope: text-to-video on your own machine, without PyTorch at run time."""

__version__ = "0.1.0"
