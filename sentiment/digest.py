"""The digest of a value, and the scoring version, which is part of every config digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

# Raised whenever labels, scores or files of the same inputs could change between versions.
SCORING_VERSION: Final = 5


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
