"""What stands where a credential is to be, and is none: a word for nothing, a template, a function, an example."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ._sent import NOTHING, basic, canonical

if TYPE_CHECKING:
    from ._sent import Sent

__all__ = ["nothing_in"]

_TEMPLATE = re.compile(
    r"\$\{?[A-Za-z_][A-Za-z0-9_.]*\}?|\$\(.{1,80}\)|\$?\{\{.{1,80}\}\}|\{[A-Za-z_][A-Za-z0-9_.]{0,40}\}|<%.{1,80}%>|%[A-Z_]{2,40}%"
    r"|%s|<[a-z]+([ _-][a-z]+){0,4}>|:(token|api_?key)|#\{.{1,80}\}|process\.env\.\w+|os\.(environ|getenv).{1,80}"
    r"|\$env:\w+|secrets\.\w+|import\.meta\.env\.\w+",
    re.IGNORECASE,
)
_REPR = re.compile(
    r"<(function|bound method|coroutine object|property|generator|[\w.]+ object at|class) .{0,200}|promise( \{.*)?"
    r"|(async )?\(?\w*\)? ?=>.{0,200}|function ?\w*\(.{0,200}|\w+\('\*{3,}'\)"
    r"|[A-Za-z]\w*\([a-z]\w*=.*\)",  # a dataclass, such as the Token whose access_token was meant
    re.IGNORECASE,
)
_SAMPLE = re.compile(
    r"(my|your|the|insert|replace|enter|put|add|some)[ _-].{0,40}(token|key|secret|credential|password|jwt).{0,12}"
    r"|(access|api|auth|bearer|jwt|id|secret|user)?[ _-]?(token|key)([ _-]?(here|value|string|goes[ _-]here))?"
    r"|x{3,}|\*{3,}|\.{3}|•{3,}|change[ _-]?me|to[ _-]?do|foo|bar|dummy|placeholder|redacted|\[redacted\]|\[filtered\]",
    re.IGNORECASE,
)
_EXAMPLES = {
    "mF_9.B5f-4.1JqM": "RFC 6750",
    "QWxhZGRpbjpvcGVuIHNlc2FtZQ==": "RFC 7617",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
    "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c": "jwt.io",
}


def nothing_in(sent: Sent) -> tuple[str, bool] | None:
    """What was sent in place of a credential, in words, and whether that can be nothing else; None if one was sent."""
    scheme, _, rest = sent.raw.strip().partition(" ")
    value = (rest if sent.place == "Authorization" and canonical(scheme) and rest else sent.raw).strip().strip("\"'")
    if canonical(scheme) == "Basic" and rest:
        return _nothing_in_basic(rest.strip())
    return _nothing_in_value(value)


def _nothing_in_value(value: str) -> tuple[str, bool] | None:
    is_told = value.lower().startswith(("your", "insert", "replace", "enter"))
    rows = (
        (value.lower() in NOTHING, f"{value!r}, which is what a program writes for a variable that is not set", True),
        (value in _EXAMPLES, f"the example of {_EXAMPLES.get(value)}", True),
        (_TEMPLATE.fullmatch(value), "the name of a variable, between the signs of a template nobody filled in", True),
        (_REPR.fullmatch(value), "a function, an object or a masked secret, written out", True),
        (_SAMPLE.fullmatch(value), "what documents write where the credential is to be", is_told),
    )
    return next(((f"the value is {text}", is_sure) for fits, text, is_sure in rows if fits), None)


def _nothing_in_basic(value: str) -> tuple[str, bool] | None:
    if value in _EXAMPLES:
        return f"the value is the example of {_EXAMPLES[value]}", True
    decoded = basic(value)
    if decoded is None:
        decoded = value if ":" in value or _TEMPLATE.fullmatch(value) or value.lower() in NOTHING else ""
    for part in decoded.split(":", 1):
        if part.lower() in NOTHING or (len(part) > 2 and _TEMPLATE.fullmatch(part)):
            return "user or password is the name of a variable, or what a program writes for one that is not set", True
    return None
