"""Which key is to blame, and whose file: words for what stops or worries a start."""

from __future__ import annotations

import os
from collections.abc import Iterable


def name_key(text: str, places: Iterable[tuple[str, str]]) -> str:
    """`text` with the key of `places` in front whose value it begins with; "" if there is none."""
    for dotted, value in places:
        if value and text.startswith(f"{value}: "):
            return f"{dotted}: {text}"
    return ""


def tell_use(path: str, error: OSError) -> str:
    """Why a file or directory, `path` or what the error names, cannot be used."""
    path = str(error.filename or path)
    reason = f"cannot use {path}: {error.strerror or error}"
    return f"{reason}{tell_owner(path)}" if isinstance(error, PermissionError) else reason


def tell_owner(path: str) -> str:
    """Whose `path`, or the directory it would be in, is, for the end of a sentence; ours: ""."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    owner, ours = os.stat(path).st_uid, os.geteuid()
    return "" if owner == ours else f" ({path} belongs to uid {owner}, we are uid {ours})"
