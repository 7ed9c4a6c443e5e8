"""The language of the scenarios, and how they are read.

A file holds a list of scenarios. Each says what is given, step by step what happens and what comes of it, and what must
hold in the end. Nothing in it depends on the driver, or it says so.

    {"name": …, "rule": what it shows, "given": {…}, "steps": [{…}, …], "expect": {…}}

Rules.

1. Secrets have short names: the server mints T1, T2, … and R1, R2, …; a program brings T0, R0, B1, K1, S1, ….
   On the wire they are longer, so that a leak can be told from chance.
2. Time passes only where a scenario says so, or where the package sleeps. Between two steps everything comes to rest,
   but for what is held.
3. The server lives in true time: an API accepts what was issued, has not been revoked, and has not ended. A `script` is
   a list of answers, after which all is well again; or one answer for good. In an answer, `times` repeats it.
4. Where drivers differ, an expected value is ``{"threads": …, "loops": …}``, and a step says `only` where it is done.
   In a thread whoever finds a token early renews it before sending; on a loop that happens aside.
5. A key that this file does not name is an error.

`given`: `grant` client_credentials (the default), refresh_token, bearer, bearer_callable, api_key; `policy` numbers of
a `RenewalPolicy`; `random` for all jitter (0); `token` that the program brings, `stored` by another process before;
`client_secret`, `keys`, `program` (what the callable returns, the last one for good; "!": it raises); `should_renew`
the status, or a word of the body, by which the API says "expired"; `patience` 0 for a renewal that takes too long for
those who have a good token; `server`.

A token is ``{"name": "T0", "lives": 3600, "refresh": "R0"}``; `lives` null: it does not say.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import RenewalPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["STEPS", "ScenarioError", "load", "verb_of"]

TOKEN_ANSWER = {
    "times": "how often",
    "expires_in": "as in the answer; null: left out; 3600 if it is not named",
    "lives": "seconds that the token lives in truth, where expires_in does not say",
    "refresh_in": "as in the answer",
    "jwt": "the token is a JWT whose exp is so many seconds ahead by the server's clock",
    "same": "true: the token that was issued last, with what it has left",
    "refresh_token": "null: left out, and the one presented stays good",
    "status": "the endpoint says no",
    "error": "its OAuth error code",
    "retry_after": "its Retry-After; a number, or text as it is; {date: seconds} writes a date by the server's clock",
    "body": "the body, as it is",
    "fails": "the request ends in this error of the library: ConnectError was not sent, ReadTimeout is unknown",
    "done": "true: although it fails, the server has done its work",
    "takes": "seconds that the answer takes",
}
API_ANSWER = {
    "times": "how often",
    "accepts": "the names of the only credentials that it accepts",
    "status": "whatever the credential",
    "challenge": "its WWW-Authenticate field; null: none",
    "body": "the body, as it is",
    "takes": "seconds that the answer takes",
}
SERVER = {
    "token_endpoint": "script of TOKEN_ANSWERs",
    "api": "script of API_ANSWERs",
    "other_api": "likewise, of the API at another origin",
    "accepts_secrets": "the client secrets that it knows; any, if it is not named",
    "clock_ahead": "seconds; the server's clock, which its Date field tells",
}
GRANTS = ("client_credentials", "refresh_token", "bearer", "bearer_callable", "api_key")
POLICY = [field.name for field in dataclasses.fields(RenewalPolicy) if field.name not in {"clock", "random"}]
TOKEN = {"name": "its name", "lives": "seconds, or null", "refresh": "name of its refresh token"}
GIVEN = {
    "grant": "how tokens are obtained",
    "policy": "numbers of the RenewalPolicy",
    "random": "0 to 1",
    "patience": "seconds of real time for which whoever has a good token waits; 0 is the only one that makes sense",
    "token": "TOKEN for token=",
    "stored": "TOKEN in the store",
    "client_secret": "a name, or a list of them",
    "keys": "names",
    "program": "names",
    "should_renew": "a status, or a word of the body",
    "server": "SERVER",
}
STEPS = {
    "send": "so many requests, one after the other",
    "at_once": "so many callers at once: all are refused, or wait, before any goes on",
    "start": "so many callers, and do not wait for them",
    "cancel": "numbers of the callers to hang up, from 1",
    "finish": "wait for all callers that were started: so many",
    "hold": "token_endpoint, api or other_api: requests are processed, and their answers held",
    "release": "let out what is held there, and whatever comes",
    "let_out": "let out what is held there, and go on holding what comes",
    "pass": "seconds, on all clocks",
    "suspend": "seconds for which the machine sleeps: its monotonic clock stands still",
    "set_wall_clock": "seconds by which the machine's wall clock is set ahead, or back",
    "server": "SERVER: how it goes on from here",
    "revoke": "names of access tokens",
    "set_token": "TOKEN for .set_token()",
    "another_process_stores": "TOKEN",
    "store_fails": "the verbs in which the store fails from now on: load, save, lease",
    "warm": "what .warm() returns, or the error that it raises",
    "token": "the name of what .token() returns, or the error that it raises",
    "status": "STATUS",
}
REQUEST = {
    "to": "other_api",
    "timeout": "seconds, or null",
    "body": '"once": it cannot be sent twice',
    "option": 'for extensions={"tokenflow": …}',
}
OUTCOME = {
    "gets": "statuses and names of errors: one for all, a list in order, or how many of each",
    "error": "attributes of each error",
}
IN_EACH_STEP = {
    "only": "threads or loops: done there alone",
    "carrying": "credentials that reached the APIs: one for all, a list in order, or how many of each",
    "token_requests": "how many, in this step",
    "waiting": "how many wait when it is over",
}
STATUS = {"state": "…", "expires_in": "…", "last_error": "its name, or null", "waiting": "…"}
EXPECT = {
    "token_requests": "how many in all",
    "api_sends": "how many in all",
    "carried": "as `carrying`, in all",
    "presented": "refresh tokens, how often each",
    "secrets": "client secrets in the order in which they were tried",
    "timeouts": "of each token request: seconds to connect, and to read",
    "leased": "for how many seconds, each time",
    "asked": "how often the program's callable was asked",
    "slept": "the seconds of each sleep between two attempts",
    "waited": "how many requests waited, by their events",
    "events": "all others, in order, but RequestRefused and RefusalExplained: names, or {name: {attribute: value}}",
    "refused": "how many RequestRefused",
    "status": "STATUS",
    "stored": "name of the token in the store, or null",
}
SCENARIO = {
    "name": "what must hold, in a few words",
    "rule": "of the design, or row of failures.md",
    "given": "GIVEN",
    "steps": "STEPS",
    "expect": "EXPECT",
    "xfail": "why it does not hold yet",
}

_OF_STEP = {
    "send": REQUEST | OUTCOME,
    "at_once": REQUEST | OUTCOME,
    "start": REQUEST,
    "finish": OUTCOME,
}


class ScenarioError(Exception):
    """A scenario that cannot be read."""


def load(directories: Iterable[Path]) -> list[dict[str, Any]]:
    """All scenarios of the JSON files in `directories`, checked; each knows its file."""
    scenarios = []
    for directory in directories:
        if not directory.is_dir():
            raise ScenarioError(f"{directory} is not a directory")
        for path in sorted(directory.glob("*.json")):
            scenarios += [_checked(one, path) for one in _read(path)]
    names = [scenario["name"] for scenario in scenarios]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ScenarioError(f"two scenarios have one name: {', '.join(sorted(twice))}")
    return scenarios


def verb_of(step: dict[str, Any]) -> str:
    """What `step` does."""
    return next(key for key in step if key in STEPS)


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ScenarioError(f"{path} is not JSON: {error}") from error
    return found if isinstance(found, list) else [found]


def _checked(scenario: Any, path: Path) -> dict[str, Any]:
    name = scenario.get("name") if isinstance(scenario, dict) else None
    what = f"scenario {name!r} in {path.name}"
    _check(scenario, SCENARIO, what)
    if missing := SCENARIO.keys() - {"xfail"} - scenario.keys():
        raise ScenarioError(f"{what}: {', '.join(sorted(missing))} is missing")
    given = scenario["given"]
    _check(given, GIVEN, f"{what}, given")
    if given.get("grant", GRANTS[0]) not in GRANTS:
        raise ScenarioError(f"{what}, given: unknown grant {given['grant']!r}; known: {', '.join(GRANTS)}")
    _check(given.get("policy", {}), POLICY, f"{what}, given.policy")
    _check_server(given.get("server", {}), f"{what}, given.server")
    for key in ("token", "stored"):
        _check(given.get(key, {}), TOKEN, f"{what}, given.{key}")
    for at, step in enumerate(scenario["steps"], 1):
        _check_step(step, f"{what}, step {at}")
    _check(scenario["expect"], EXPECT, f"{what}, expect")
    _check(scenario["expect"].get("status", {}), STATUS, f"{what}, expect.status")
    return scenario | {"file": path.stem}


def _check_step(step: Any, what: str) -> None:
    verbs = [key for key in step if key in STEPS] if isinstance(step, dict) else []
    if len(verbs) != 1:
        found = ", ".join(map(repr, step)) if isinstance(step, dict) else repr(step)
        raise ScenarioError(f"{what}: a step has one of {', '.join(STEPS)}; this one has {found}")
    (verb,) = verbs
    _check(step, {verb: ""} | _OF_STEP.get(verb, {}) | IN_EACH_STEP, what)
    if verb == "server":
        _check_server(step["server"], f"{what}, server")
    elif verb == "status":
        _check(step["status"], STATUS, f"{what}, status")
    elif verb in {"set_token", "another_process_stores"}:
        _check(step[verb], TOKEN, f"{what}, {verb}")


def _check_server(server: Any, what: str) -> None:
    _check(server, SERVER, what)
    for key, known in (("token_endpoint", TOKEN_ANSWER), ("api", API_ANSWER), ("other_api", API_ANSWER)):
        script = server.get(key, [])
        for answer in script if isinstance(script, list) else [script]:
            _check(answer, known, f"{what}.{key}")


def _check(found: Any, known: Iterable[str], what: str) -> None:
    if not isinstance(found, dict):
        raise ScenarioError(f"{what}: {found!r} is not an object")
    if unknown := found.keys() - set(known):
        raise ScenarioError(f"{what}: unknown key {', '.join(map(repr, sorted(unknown)))}; known: {', '.join(known)}")
