"""What a test wants to know of a sandbox, each as one function that fails with a sentence and shows no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ._leaks import Finder, secrets_of, texts_of

if TYPE_CHECKING:
    from ._record import Seen
    from ._sandbox import Sandbox

_SHOWN = 20  # requests
_PREFIXES = "urn:ietf:params:oauth:grant-type:"


def assert_token_requests(sandbox: Sandbox, expected: int = 1) -> None:
    """Fail unless so many token requests reached the sandbox, with a list of those that did.

    Args:
        sandbox: the server.
        expected: how many; 1 unless told.

    Raises:
        AssertionError: there were more or fewer.
    """
    __tracebackhide__ = True
    count = sandbox.token_requests
    if count == expected:
        return
    asked = [seen for seen in sandbox.seen if seen.method == "POST" and _grant_type(seen) is not None][-_SHOWN:]
    lines = [f"expected {_requests(expected)}, and {count or 'none'} came" + (":" if asked else "")]
    start = asked[0].at if asked else 0.0
    lines += [f"  after {seen.at - start:.3f} s: {_grant_type(seen)}, answered {_status(seen)}" for seen in asked]
    raise AssertionError("\n".join(lines))


def assert_faults_used(sandbox: Sandbox) -> None:
    """Fail if a fault was scripted that has not happened.

    Raises:
        AssertionError: there is one.
    """
    __tracebackhide__ = True
    unused = sandbox.unused_faults
    if unused:
        lines = [f'  on="{on}": {", ".join(map(repr, faults))}' for on, faults in unused.items()]
        raise AssertionError("\n".join(["scripted faults have not happened, for too few requests came:", *lines]))


def assert_nothing_leaked(sandbox: Sandbox, *things: Any) -> None:
    """Fail if a secret of the sandbox's can be read in one of these things, whole, in part or encoded.

    Args:
        sandbox: the server, which knows what it issued and what it was sent.
        *things: texts and bytes as they are; exceptions with their traceback, their causes and their attributes; of
            anything else its repr and its str.

    Raises:
        AssertionError: there is one. It says what was where, not the secret.
    """
    __tracebackhide__ = True
    finder = Finder(secrets_of(sandbox))
    leaks = [f"{where}: {leak}" for thing in things for where, text in texts_of(thing) for leak in finder.find(text)]
    if leaks:
        raise AssertionError(told(leaks))


def told(leaks: list[str]) -> str:
    """Tell of leaks, each once."""
    different = list(dict.fromkeys(leaks))
    more = [f"  and {len(different) - _SHOWN} more"] if len(different) > _SHOWN else []
    return "\n".join(["a secret can be read where it does not belong:", *map("  {}".format, different[:_SHOWN]), *more])


def _grant_type(seen: Seen) -> str | None:
    return dict(parse_qsl(seen.body.decode("utf-8", "replace"))).get("grant_type", "").removeprefix(_PREFIXES) or None


def _status(seen: Seen) -> str:
    return "nothing" if seen.status is None else str(seen.status)


def _requests(count: int) -> str:
    return {0: "no token request", 1: "one token request"}.get(count, f"{count} token requests")
