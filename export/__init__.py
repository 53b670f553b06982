"""Checkpoint → bundle: the only place, with `bench.peers`, that imports PyTorch."""

from .bundle import Options, export_bundle

__all__ = ["Options", "export_bundle"]
