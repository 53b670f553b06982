"""Bundle → running sessions. Knows nothing of prompts."""

from .bundle import Bundle
from .open import BACKENDS, EngineOptions, open_graph
from .session import Session, Tensor
from .sessions import Sessions
from .spec import EngineSpec
from .store import EngineStore

__all__ = [
    "BACKENDS",
    "Bundle",
    "EngineOptions",
    "EngineSpec",
    "EngineStore",
    "Session",
    "Sessions",
    "Tensor",
    "open_graph",
]
