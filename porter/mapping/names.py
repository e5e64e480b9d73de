"""Names of tensors and the patterns of maps: all that the rest of porter needs of them, in one place."""

from __future__ import annotations

from porter.mapping.captures import Scope, capture_types
from porter.mapping.expressions import evaluate
from porter.mapping.name_index import NameIndex
from porter.mapping.name_matcher import NameMatcher

__all__ = ["NameIndex", "NameMatcher", "Scope", "capture_types", "evaluate"]
