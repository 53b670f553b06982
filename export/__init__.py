"""Checkpoint → bundle: the only place, with `bench.peers`, that imports PyTorch."""

from .exporter import Options, export_bundle

__all__ = ["Options", "export_bundle"]
