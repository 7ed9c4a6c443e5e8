"""What a message may quote of what somebody gave: some give the secret itself where its name is to be."""

from __future__ import annotations

import re

__all__ = ["is_name", "is_random"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9._~+/=-]{16,}")


def is_name(text: str) -> bool:
    """Whether it is a name, and so may be quoted."""
    return _NAME.fullmatch(text) is not None and not is_random(text)


def is_random(text: str) -> bool:
    """Such as keys are: one long word of letters and digits."""
    return _RANDOM.fullmatch(text.strip()) is not None
