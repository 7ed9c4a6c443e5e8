"""The server of a scenario: a token endpoint and two APIs that follow a script, in true time.

Rules.

1. A request is processed when it comes, and its answer held while the gate is shut.
2. Plain data here; the library that a request is of makes the response of it.
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt

__all__ = ["API", "OTHER_API", "TOKEN_ENDPOINT", "Hands", "Server", "wire"]

TOKEN_ENDPOINT = "https://as.example/token"
API = "https://api.example/thing"
OTHER_API = "https://other.example/thing"
TAIL = ".s3cr3t"  # what no event, error or log line may show


def wire(name: str) -> str:
    """The secret that a scenario calls `name`."""
    return name + TAIL


class Hands:
    """True time, and the two clocks of the machine, which may err."""

    def __init__(self) -> None:
        self.true = self.wall = 1_750_000_000.0
        self.monotonic = 1_000.0
        self.slept: list[float] = []

    def move(self, seconds: float, *, monotonic: float | None = None) -> None:
        """Let time pass; the monotonic clock may sleep meanwhile."""
        self.true += seconds
        self.wall += seconds
        self.monotonic += seconds if monotonic is None else monotonic

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.move(seconds)

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


@dataclass
class Script:
    """Answers in order, and then for good."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    then: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> Script:
        if isinstance(given, dict):
            return cls(then=given)
        return cls([answer for answer in given for _ in range(answer.get("times", 1))])

    def __next__(self) -> dict[str, Any]:
        return self.answers.pop(0) if self.answers else self.then


@dataclass(frozen=True)
class Reply:
    """An answer; or the name of the error that comes in its place."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    fails: str | None = None


@dataclass
class Family:
    """The refresh tokens of one login: the newest is good, unless an old one was presented."""

    newest: str
    is_revoked: bool = False


class Server:
    """Follows the script; remembers what came."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self.scripts = {"token_endpoint": Script(), "api": Script(), "other_api": Script()}
        self.secrets_known: list[str] | None = None
        self.clock_ahead: float | None = None
        self.carried: list[str | None] = []  # by each request that reached an API
        self.token_requests = 0
        self.presented: Counter[str] = Counter()
        self.secrets: list[str] = []
        self.timeouts: list[list[float]] = []
        self._names: dict[str, str] = {}  # what is on the wire -> its name
        self._ends: dict[str, float] = {}  # credential -> the true time at which it ends
        self._families: dict[str, Family] = {}  # refresh token -> its login
        self._minted = 0
        self._lock = threading.Lock()

    def change(self, given: dict[str, Any]) -> None:
        """Go on like this."""
        for where in self.scripts.keys() & given.keys():
            self.scripts[where] = Script.of(given[where])
        self.secrets_known = given.get("accepts_secrets", self.secrets_known)
        self.clock_ahead = given.get("clock_ahead", self.clock_ahead)

    def admit(self, name: str, lives: float | None = None, refresh: str | None = None, text: str | None = None) -> str:
        """Know the credential `name` from now on; what is on the wire for it."""
        text = text or wire(name)
        self._names[text] = name
        self._ends[name] = math.inf if lives is None else self.hands.true + lives
        if refresh is not None:
            self._families[refresh] = Family(refresh)
        return text

    def revoke(self, names: list[str]) -> None:
        for name in names:
            del self._ends[name]

    def name_of(self, text: str) -> str:
        return self._names.get(text, text.removesuffix(TAIL))

    def answer(self, where: str, request: Any, body: bytes) -> Reply:
        """What is answered to `request`."""
        with self._lock:
            answer = next(self.scripts[where])
            if where == "token_endpoint":
                reply = self._token_answer(answer, request, parse_qs(body.decode()))
            else:
                reply = self._api_answer(answer, request)
            self.hands.move(answer.get("takes", 0.0))
        return reply

    # an API

    def _api_answer(self, answer: dict[str, Any], request: Any) -> Reply:
        carried = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("X-API-Key")
        name = None if carried is None else self.name_of(carried)
        self.carried.append(name)
        good = answer["accepts"] if "accepts" in answer else [one for one in self._ends if self._is_alive(one)]
        status = answer.get("status", 200 if name in good else 401)
        challenge = answer.get("challenge", 'Bearer error="invalid_token"' if status == 401 else None)
        headers = {} if challenge is None else {"WWW-Authenticate": challenge}
        return Reply(status, headers, answer.get("body", ""))

    def _is_alive(self, name: str) -> bool:
        return self.hands.true < self._ends.get(name, -math.inf)

    # the token endpoint

    def _token_answer(self, answer: dict[str, Any], request: Any, form: dict[str, list[str]]) -> Reply:
        self.token_requests += 1
        self.timeouts.append([request.extensions["timeout"][which] for which in ("connect", "read")])
        presented = form.get("refresh_token", [""])[0].removesuffix(TAIL)
        fails = answer.get("fails")
        if presented and fails != "ConnectError":
            self.presented[presented] += 1
        if fails is not None and not answer.get("done"):
            return Reply(fails=fails)
        reply = self._said(answer) or self._refused(request, presented) or self._minted_by(answer, presented)
        return reply if fails is None else Reply(fails=fails)

    def _said(self, answer: dict[str, Any]) -> Reply | None:
        """A reply that has nothing to do with the request."""
        if "status" not in answer and "error" not in answer and "body" not in answer:
            return None
        headers = self._date()
        asked = answer.get("retry_after")
        if isinstance(asked, dict):
            headers["Retry-After"] = formatdate(self._now + asked["date"], usegmt=True)
        elif asked is not None:
            headers["Retry-After"] = str(asked)
        body = json.dumps({"error": answer["error"]}) if "error" in answer else answer.get("body", "{}")
        return Reply(answer.get("status", 400 if "error" in answer else 200), headers, body)

    def _refused(self, request: Any, presented: str) -> Reply | None:
        """What a client without the right secret gets, or without a good refresh token."""
        pair = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        secret = unquote(pair.partition(":")[2]).removesuffix(TAIL)
        self.secrets.append(secret)
        if self.secrets_known is not None and secret not in self.secrets_known:
            return Reply(401, {}, '{"error": "invalid_client"}')
        family = self._families.get(presented)
        if presented and (family is None or family.is_revoked or family.newest != presented):
            if family is not None:
                family.is_revoked = True  # somebody has a copy: nobody is served any more
            return Reply(400, {}, '{"error": "invalid_grant"}')
        return None

    def _minted_by(self, answer: dict[str, Any], presented: str) -> Reply:
        if answer.get("same") and self._minted:
            name = f"T{self._minted}"
            body: dict[str, Any] = {"access_token": wire(name), "expires_in": self._ends[name] - self.hands.true}
        else:
            self._minted += 1
            body = self._new_token(answer, f"T{self._minted}")
        if presented and "refresh_token" not in answer:
            family, newest = self._families[presented], f"R{self._minted}"
            family.newest, self._families[newest] = newest, family
            body["refresh_token"] = wire(newest)
        body |= {"token_type": "Bearer"} | {key: answer[key] for key in ("refresh_in",) if key in answer}
        return Reply(200, self._date(), json.dumps(body))

    def _new_token(self, answer: dict[str, Any], name: str) -> dict[str, Any]:
        expires_in = answer.get("expires_in", 3600)
        text = wire(name)
        if "jwt" in answer:
            text = jwt.encode({"sub": wire(name), "exp": self._now + answer["jwt"]}, "k" * 32)
        self.admit(name, answer.get("lives", _truly(expires_in)), text=text)
        return {"access_token": text} | ({} if expires_in is None else {"expires_in": expires_in})

    @property
    def _now(self) -> float:
        """By the server's own clock."""
        return self.hands.true + (self.clock_ahead or 0.0)

    def _date(self) -> dict[str, str]:
        return {} if self.clock_ahead is None else {"Date": formatdate(self._now, usegmt=True)}


def _truly(expires_in: Any) -> float:
    """How long a token lives whose answer says `expires_in`: an hour, where it says nothing sensible."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError):
        return 3600.0
    return seconds if not isinstance(expires_in, bool) and 0 < seconds < math.inf else 3600.0
