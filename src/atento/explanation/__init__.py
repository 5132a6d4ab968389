"""From a text or arrays to the record of its attention: all layers, and the head to look at."""

from atento.explanation.explain import explain, explanation_of
from atento.explanation.telling import Telling, how_telling

__all__ = ["Telling", "explain", "explanation_of", "how_telling"]
