"""Secrets from where they live, and the refusal of those that belong elsewhere.

Rules.

1. A secret is looked up each time that it is asked for, and kept nowhere: whoever rotates it need tell nobody.
2. What cannot be had is an error that names the place, never the content: not in its text, nor in its cause.
3. What is expected of a credential is checked before it is sent. The claims of a token are read without verifying
   them: that finds mistakes, a test key in production or a token of another environment; it proves nothing.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from ._errors import ConfigurationError, InvalidCredential

__all__ = ["EnvSecret", "Expect", "FileSecret", "expectation"]

MAX_SIZE = 65_536  # bytes of a file with a secret in it

Expect = str | Mapping[str, Any] | Callable[[str], Any]
"""What is expected of a credential: how it begins, the claims that it makes, or a predicate."""


class EnvSecret:
    """A secret in an environment variable, for wherever a callable is taken: ``client_secret=EnvSecret("SECRET")``.

    The variable is looked up each time, and used as it is.

    Args:
        name: of the variable.

    Raises:
        ConfigurationError: `name` cannot be one; or, when it is asked for, the variable is not set, or is empty.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        if not _is_text(name) or "=" in name or "\0" in name:
            raise ConfigurationError("EnvSecret needs the name of an environment variable")
        self._name = name

    def __repr__(self) -> str:
        return f"EnvSecret({self._name!r})"

    def __call__(self) -> str:
        value = os.environ.get(self._name)
        if not value:
            state = "empty" if value == "" else "not set"
            raise ConfigurationError(f"the environment variable {self._name} is {state}: it should hold a secret")
        return value


class FileSecret:
    """A secret in a file, for wherever a callable is taken: ``BearerAuth(FileSecret("/run/secrets/token"))``.

    For mounted secrets of Kubernetes and Docker, which are exchanged while the program runs: the file is read each
    time, without the white space around it (a newline at the end is usual).

    Args:
        path: of the file, which is UTF-8 and has 64 KiB at most. A relative one counts from the directory that is
            current now.
        max_age: seconds for which `BearerAuth` and `APIKeyAuth` go on without looking at the file; they look aside,
            while requests go on, and when a server answers 401. Default 60.

    Raises:
        ConfigurationError: an argument cannot be; or, when it is asked for, the file cannot be read, is empty, too
            large, or no text.
    """

    __slots__ = ("_path", "max_age")

    def __init__(self, path: str | PurePath, *, max_age: float = 60.0) -> None:
        if not _is_text(path) and not isinstance(path, PurePath):
            raise ConfigurationError("FileSecret needs the path of a file, a string or a Path")
        self._path = Path(path).absolute()  # and not resolved: Kubernetes exchanges a link
        if not is_seconds(max_age):
            raise ConfigurationError("FileSecret: max_age must be a number of seconds, more than 0")
        self.max_age: float = max_age

    def __repr__(self) -> str:
        return f"FileSecret({str(self._path)!r})"

    def __call__(self) -> str:
        try:
            # Never a pipe or a device: to read one could take for ever.
            is_file = self._path.is_file()
            content = _read(self._path) if is_file else b""
        except OSError as error:
            raise ConfigurationError(f"the file {self._path} cannot be read: {error.strerror}") from error
        if not is_file:
            raise ConfigurationError(f"there is no regular file {self._path}: it should hold a secret")
        if len(content) > MAX_SIZE:
            raise ConfigurationError(f"the file {self._path} has more than {MAX_SIZE} bytes: is it a secret?")
        secret = _text(content)
        if secret is None:
            raise ConfigurationError(f"the file {self._path} is not UTF-8: is it a secret?")
        if not secret:
            raise ConfigurationError(f"the file {self._path} is empty: it should hold a secret")
        return secret


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_SIZE + 1)


def _text(content: bytes) -> str | None:
    """`content` without the white space, and the byte order mark, around it; None if it is no text."""
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:  # which has the content in it: it ends here
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def is_seconds(value: object) -> TypeGuard[float]:
    """Whether it is a number of seconds, more than 0 and less than for ever."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def expectation(expect: Expect | None) -> Callable[[str], None]:
    """A check of credentials by what is expected of them (rule 3).

    Args:
        expect: a string that the credential must begin with, such as ``"sk_live_"``; or claims that it must make, such
            as ``{"iss": "https://prod.example.com"}``, which only a JWT can: a list names alternatives, and where the
            token has a list (`aud`) one of them is enough; or a predicate. None: anything will do.

    Returns:
        The check: it raises `InvalidCredential`, which says what was expected and does not quote the credential.

    Raises:
        ConfigurationError: `expect` is none of these, or empty.
    """
    if expect is None:
        return lambda _credential: None
    if isinstance(expect, str) and expect:
        return _beginning(expect)
    if isinstance(expect, Mapping) and expect:
        return _claiming(dict(expect))
    if callable(expect):
        return _satisfying(expect)
    raise ConfigurationError("expect= must be a prefix, a mapping of claims, or a predicate; and not empty")


def _beginning(prefix: str) -> Callable[[str], None]:
    def check(credential: str) -> None:
        if not credential.startswith(prefix):
            raise _refused(f"begins with {prefix!r}")

    return check


def _claiming(expected: Mapping[str, Any]) -> Callable[[str], None]:
    shown = ", ".join(f"{name} = {value!r}" for name, value in expected.items())

    def check(credential: str) -> None:
        claims = _claims(credential)
        if claims is None:
            raise _refused(f"is a JWT with {shown}; this one is opaque")
        wrong = [name for name, value in expected.items() if name not in claims or not _agree(value, claims[name])]
        if wrong:
            raise _refused(f"claims {shown}; this one differs in {', '.join(map(str, wrong))}")

    return check


def _satisfying(predicate: Callable[[str], Any]) -> Callable[[str], None]:
    def check(credential: str) -> None:
        raised = None
        try:
            verdict = predicate(credential)
        except Exception as error:  # noqa: BLE001 - it may quote the credential: it ends here
            raised = type(error).__name__
        if raised is not None:
            raise InvalidCredential(f"the predicate given as expect= raised {raised}: nothing was sent")
        if hasattr(verdict, "__await__"):  # which would always be true
            getattr(verdict, "close", lambda: None)()
            raise ConfigurationError("the predicate given as expect= is async: it must be a plain function")
        if not verdict:
            raise _refused("satisfies the predicate given as expect=")

    return check


def _refused(wanted: str) -> InvalidCredential:
    return InvalidCredential(f"a credential is expected that {wanted}: nothing was sent; check where it is read from")


def _claims(token: str) -> Mapping[str, Any] | None:
    """What a JWT claims, unverified; None if it is none."""
    import jwt

    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False, "verify_exp": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None
    return claims


def _agree(expected: Any, claimed: Any) -> bool:
    alternatives = expected if isinstance(expected, list | tuple | set | frozenset) else (expected,)
    claims = claimed if isinstance(claimed, list) else (claimed,)
    pairs = itertools.product(alternatives, claims)
    return any(isinstance(one, bool) == isinstance(other, bool) and one == other for one, other in pairs)
