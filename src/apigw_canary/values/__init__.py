"""What values have in common: checks on the way in, JSON forms, words and numbers in sentences."""

from apigw_canary.values.formatting import (
    clock,
    evidence,
    listed,
    moment,
    sentence,
    share,
    share_of,
    span,
)
from apigw_canary.values.serialization import (
    NO_TEXTS,
    FrozenMapping,
    Renderable,
    Serializable,
    Tone,
    frozen_texts,
)

__all__ = [
    "NO_TEXTS",
    "FrozenMapping",
    "Renderable",
    "Serializable",
    "Tone",
    "clock",
    "evidence",
    "frozen_texts",
    "listed",
    "moment",
    "sentence",
    "share",
    "share_of",
    "span",
]
