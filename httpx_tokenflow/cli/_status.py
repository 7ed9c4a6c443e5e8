"""``tokenflow status``: who is logged in, and for how long; by what is in the store, without asking any server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from httpx_tokenflow import TokenFlowError

from ._claims import name_in
from ._commands import PROFILE, ConfigFile
from ._plainly import in_words, lasting, plain, plainly
from ._profiles import load_profile, profile_names

if TYPE_CHECKING:
    from httpx_tokenflow._entries import Entry

    from ._profiles import Profile

__all__ = ["status"]

_WIDTH = 7  # characters of what a line is about


def status(
    profile: Annotated[str | None, PROFILE] = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: a list of profiles.")] = False,
) -> None:
    """Show who is logged in, for how long, and whether that renews itself. Asks no server.

    All profiles, or the one that --profile names. Of a token a hash and its length are shown.

    In JSON, logged_in is null where nobody has to log in: the client gets tokens in its own name.

    The exit status is 1 if a profile could not be looked at.

    $ tokenflow status

    $ tokenflow status --profile work --json
    """
    with plainly():
        names = [profile] if profile is not None else profile_names(config)
        found = [_look(name, config) for name in names]
        if as_json:
            print(json.dumps([one.facts for one in found], indent=2))  # noqa: T201 - what is asked for
        elif found:
            print("\n".join(line for one in found for line in one.lines()))  # noqa: T201 - likewise
        else:
            load_profile("default", config)  # which says where it looked, and how to make one
    raise typer.Exit(1 if any("error" in one.facts for one in found) else 0)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of a profile."""

    facts: dict[str, Any]

    def lines(self) -> list[str]:
        """The same for people."""
        facts = self.facts
        if "error" in facts:
            return [plain(f"{facts['profile']}: cannot be looked at: {facts['error']}")]
        who = f" as {facts['who']}" if facts.get("who") else ""
        shown = {"server": facts["server"], "grant": facts["grant"], "store": facts["store"]}
        if token := facts.get("token"):
            shown["token"] = f"{_left(facts['expires_in'])} (sha256 {token['hash']}, {token['length']} characters)"
            shown["renewal"] = facts["renewal"]
            shown["scope"] = facts["scope"] or "the server did not say"
        about = (f"  {name:<{_WIDTH}} {plain(value)}" for name, value in shown.items())
        return [plain(f"{facts['profile']}: {facts['state']}{who}"), *about]


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "the server did not say how long it lives"
    return f"{lasting(seconds)} left" if seconds > 0 else "ended"


def _look(name: str, config: Path | None) -> _Found:
    try:
        profile = load_profile(name, config)
        return _Found(_facts(profile, profile.stored()))
    except TokenFlowError as error:
        return _Found({"profile": name, "error": in_words(error)})


def _facts(profile: Profile, entry: Entry | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "profile": profile.name,
        "state": "no token yet" if profile.is_for_client else "not logged in",
        "server": profile.server,
        "grant": profile.kind,
        "store": profile.store_kind,
        "logged_in": None if profile.is_for_client else False,
    }
    if entry is None:
        return facts
    left = None if entry.lifetime is None else max(0.0, entry.lifetime - entry.age(time.time()))
    renewal = _renewal(profile, entry)
    renews = not renewal.startswith("none")
    is_alive = renews or left is None or left > 0
    if profile.is_for_client:
        facts["state"] = "has a token" if left is None or left > 0 else "its token has ended"
    else:
        facts["state"] = "logged in" if is_alive else "the session has ended"
    return facts | {
        "logged_in": None if profile.is_for_client else is_alive,
        "who": name_in(entry.token.id_token),
        "expires_in": None if left is None else round(left),
        "renews": renews,
        "renewal": renewal,
        "scope": entry.token.scope,
        "token": {"hash": entry.wire_stamp, "length": len(entry.token.access_token)},
    }


def _renewal(profile: Profile, entry: Entry) -> str:
    if profile.is_for_client:
        return "whenever it is due, in the client's own name"
    if entry.token.refresh_token is None:
        return "none: the server gave no refresh token"
    if entry.is_spent:
        why = "the server refused the refresh token" if entry.is_refused else "two answers of the server were lost"
        return f"none: {why}; run {profile.how_to_log_in}"
    if entry.presented:
        return "by a refresh token, which is sent, or was without an answer: once more, and then somebody has to log in"
    return "by a refresh token"
