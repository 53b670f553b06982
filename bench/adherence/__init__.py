"""Adherence: does a clip show what its prompt says? Read off the frames by plain image processing.

`prompts` gives prompts and the scenes they ask for, `score` compares a clip with a scene,
`aggregate` sums up many scores. It needs NumPy only.
"""

from .prompts import prompts
from .reading import Reading, Sighting, measure
from .scene import Object, Scene, describe, held_out
from .score import Adherence, Score, Tally, aggregate, score
from .vocabulary import FULL, PLAIN, Vocabulary, vocabulary_of

__all__ = [
    "FULL",
    "PLAIN",
    "Adherence",
    "Object",
    "Reading",
    "Scene",
    "Score",
    "Sighting",
    "Tally",
    "Vocabulary",
    "aggregate",
    "describe",
    "held_out",
    "measure",
    "prompts",
    "score",
    "vocabulary_of",
]
