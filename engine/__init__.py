"""Bundle → running sessions. Knows nothing of prompts."""

from .bundle import Bundle
from .open import BACKENDS, EngineOptions, open_graph
from .session import Buffer, Session, Tensor

__all__ = ["BACKENDS", "Buffer", "Bundle", "EngineOptions", "Session", "Tensor", "open_graph"]
