"""The authorization server and the API of a soak: strict, full of faults, and it remembers what is needed to judge.

Rules.

1. A client of client credentials is told by its id; whoever has a session presents a refresh token, which is good once.
   Presented again, it ends its family, unless the family has a grace period (`Client.grace`), the answer to the first
   time was lost, and its successor was not presented yet: then there is another pair.
2. A fault is decided for each token request. What a session can lose by is kept from it, as a strict server loses it
   by right: no answer of a session without grace is lost after the server has made it, and no session is left without
   an answer twice in a row (a client may try once more, and once only). Nor once while its store has trouble: a note
   there that a refresh token is about to be presented, and then was not, may stand, and counts as an answer lost.
3. A request is processed when it arrives; a slow answer is made at once, and sent late.
4. The API names a reason for each refusal, and keeps for each request (field ``X-Soak: process/auth/number``) the last.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import jwt
from asgi import received
from soak.judge import Accepted, Minted, Span, World

ABORT = "httpx_tokenflow.abort"  # what the server of `serve` lends to close a connection with
LOSES = frozenset({"garbage", "lost"})  # the server has made an answer
LEAVES = frozenset({"hang", "drop"}) | LOSES  # the client cannot know
NOTED = 15.0  # seconds for which a note in vain is reckoned with (rule 2)


@dataclass(frozen=True)
class Client:
    """Who may ask for tokens.

    Args:
        auth: the auth object's name, under which its faults are told.
        lifetime: of its access tokens, in seconds.
        is_session: it presents refresh tokens.
        grace: seconds for which a refresh token whose answer was lost may be presented again.
        dpop: its tokens are bound to a key.
        processes: how many share it.
    """

    auth: str
    lifetime: float
    is_session: bool = False
    grace: float = 0.0
    dpop: bool = False
    processes: int = 1


@dataclass
class Family:
    """A session."""

    alive: bool = True
    is_shaky: bool = False  # the client was left without an answer


@dataclass
class Refresh:
    """A refresh token."""

    client: str
    family: Family
    presented: float | None = None
    was_lost: bool = False
    successors: list[Refresh] = field(default_factory=list)


@dataclass
class Access:
    """An access token."""

    client: str
    ends: float
    family: Family | None
    thumbprint: str | None
    revoked: float | None = None
    accepted: list[Accepted] = field(default_factory=list)
    seen_by: set[str] = field(default_factory=set)
    refused_to: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Trouble:
    """What happens to token requests of one auth, or of all, until `until`."""

    kind: str
    auth: str | None
    until: float
    seconds: float


class Authority:
    """Any thread may look at it and change it."""

    def __init__(self, clients: dict[str, Client], seed: int) -> None:
        self.clients, self.world = clients, World()
        self.asked: list[tuple[float, str]] = []
        self.minted: list[Minted] = []
        self.families_revoked = self.reused = self.lost = 0
        self.faults: defaultdict[str, int] = defaultdict(int)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._access: dict[str, Access] = {}
        self._refresh: dict[str, Refresh] = {}
        self._newest: dict[str, Access] = {}  # by client
        self._troubles: list[Trouble] = []
        self._proofs: set[str] = set()

    # What the fault machine does

    def trouble(self, kind: str, auth: str | None, seconds: float, delay: float) -> None:
        """Token requests of `auth`, or of all, fail for so many seconds; `delay` is how slow or how deaf it is."""
        with self._lock:
            self._troubles.append(Trouble(kind, auth, time.monotonic() + seconds, delay))

    def calm_down(self) -> None:
        """No more trouble."""
        with self._lock:
            self._troubles.clear()

    def revoke(self, auth: str | None) -> None:
        """All access tokens of `auth`, or of everybody, are refused from now on."""
        now = time.monotonic()
        with self._lock:
            for access in self._access.values():
                if auth in (None, self.clients[access.client].auth) and access.revoked is None and access.ends > now:
                    access.revoked = now
                    for known in access.accepted:
                        known.until = min(known.until, now)
            self.world.spans.append(Span("access tokens revoked", "revoked", now, now))

    def login(self, client: str) -> dict[str, Any]:
        """What a login brings."""
        with self._lock:
            return self._issue(client, Family(), None, None)

    def prune(self) -> None:
        """Forget what ended long ago."""
        before = time.monotonic() - 60.0
        with self._lock:
            self._access = {token: access for token, access in self._access.items() if access.ends > before}
            self._proofs.clear()

    # ASGI

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await received(scope, receive, send)
        if body is None:
            return
        headers = {name.lower().decode(): value.decode() for name, value in scope["headers"]}
        if scope["path"] == "/token":
            await self._token(scope, send, headers, dict(parse_qsl(body.decode())))
            return
        if scope["path"] == "/probe":
            await _answer(send, 200, b"{}", [])
            return
        status, reason = self._api(scope, headers)
        draw = self._random.random()
        await asyncio.sleep(0.3 * draw if draw > 0.97 else 0.02 * draw)
        challenge = [] if status == 200 else [("www-authenticate", f'{reason[0]} error="invalid_token"')]
        await _answer(send, status, json.dumps({"received": len(body)}).encode(), challenge)

    async def _token(self, scope: Any, send: Any, headers: dict[str, str], form: dict[str, str]) -> None:
        name = _client_id(headers, form)
        client, now = self.clients[name], time.monotonic()
        with self._lock:
            self.asked.append((now, name))
            refresh = self._refresh.get(form.get("refresh_token", ""))
            trouble = self._trouble_of(client, refresh, now)
            kind = "" if trouble is None else trouble.kind
            if trouble is not None:
                span = Span(kind, f"token {client.auth}", now, now + trouble.seconds)
                self.world.spans.append(span)
                self.faults[f"token: {kind}"] += 1
                if refresh is not None and kind in LEAVES:
                    refresh.family.is_shaky = True
            processed = kind in {"", "slow"} or kind in LOSES
            status, answer = self._grant(name, form, headers, refresh, kind) if processed else (503, {})
        if trouble is not None and kind in {"slow", "hang"}:
            await asyncio.sleep(trouble.seconds)
        if kind in {"hang", "drop", "lost"}:
            scope["extensions"][ABORT]()
            return
        more: list[tuple[str, str]] = []
        if kind in {"503 later", "429 later"}:
            status, more = int(kind[:3]), [("retry-after", "1")]
        elif kind.isdigit():
            status = int(kind)
        content = json.dumps(answer).encode() if kind != "garbage" else b"\xff{not json"
        await _answer(send, status, content, more)

    def _trouble_of(self, client: Client, refresh: Refresh | None, now: float) -> Trouble | None:
        """What happens to a token request that has come now (rule 2)."""
        self._troubles = [one for one in self._troubles if one.until > now]
        for one in self._troubles:
            if one.auth not in (None, client.auth):
                continue
            kind = one.kind
            if refresh is not None and (self._is_doubted(refresh, now) or (kind in LOSES and not client.grace)):
                kind = "503" if kind in LEAVES else kind
            return Trouble(kind, one.auth, one.until, one.seconds if kind in {"slow", "hang"} else 0.0)
        return None

    def _is_doubted(self, refresh: Refresh, now: float) -> bool:
        """Whether one answer of the session is lost, or counts as such."""
        auth, spans = self.clients[refresh.client].auth, self.world.spans
        in_store = auth in self.world.stored and any(one.target == "store" and one.end > now - NOTED for one in spans)
        return refresh.family.is_shaky or in_store

    def _grant(
        self, name: str, form: dict[str, str], headers: dict[str, str], refresh: Refresh | None, kind: str
    ) -> tuple[int, dict[str, Any]]:
        client, now = self.clients[name], time.monotonic()
        if form["grant_type"] == "client_credentials":
            self.lost += kind in LOSES
            return 200, self._issue(name, None, _thumbprint(headers.get("dpop")) if client.dpop else None, None)
        if refresh is None or refresh.client != name:
            return 400, {"error": "invalid_grant"}
        family = refresh.family
        if refresh.presented is not None and not self._may_again(refresh, client, now):
            self.families_revoked += family.alive
            family.alive = False
        if not family.alive:
            return 400, {"error": "invalid_grant"}
        refresh.presented = now if refresh.presented is None else refresh.presented
        refresh.was_lost, family.is_shaky = kind in LOSES, kind in LOSES
        self.lost += kind in LOSES
        return 200, self._issue(name, family, None, refresh)

    def _may_again(self, refresh: Refresh, client: Client, now: float) -> bool:
        if not refresh.was_lost:
            self.reused += 1
        in_time = refresh.presented is not None and now - refresh.presented < client.grace
        return in_time and all(one.presented is None for one in refresh.successors)

    def _issue(
        self, name: str, family: Family | None, thumbprint: str | None, presented: Refresh | None
    ) -> dict[str, Any]:
        client, now, number = self.clients[name], time.monotonic(), next(self._numbers)
        token = f"access-{name}-{number}-{self._random.getrandbits(64):x}"
        before = self._newest.get(name)
        self._newest[name] = self._access[token] = Access(name, now + client.lifetime, family, thumbprint)
        self.minted.append(Minted(name, now, client.lifetime, bool(before and before.refused_to)))
        kind = "DPoP" if client.dpop else "Bearer"
        answer: dict[str, Any] = {"access_token": token, "token_type": kind, "expires_in": client.lifetime}
        if family is not None:
            refresh = f"refresh-{name}-{number}-{self._random.getrandbits(64):x}"
            self._refresh[refresh] = Refresh(name, family)
            if presented is not None:
                presented.successors.append(self._refresh[refresh])
            answer["refresh_token"] = refresh
        return answer

    def _api(self, scope: Any, headers: dict[str, str]) -> tuple[int, tuple[str, str]]:
        process, auth, number = headers["x-soak"].split("/")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        now = time.monotonic()
        with self._lock:
            reason = self._reason(self._access.get(token), scheme, headers, scope, token, now)
            access = self._access.get(token)
            if reason == "" and access is not None:
                if process not in access.seen_by:
                    access.seen_by.add(process)
                    access.accepted.append(Accepted(now, access.ends))
                    self.world.accepted[process, auth].append(access.accepted[-1])
                return 200, ("", "")
            self.world.refused[process, auth, int(number)] = reason
            self.world.carried[process, auth, int(number)].add(token)
            if access is not None and process not in access.refused_to:
                access.refused_to.add(process)
                self.world.refusals[process, auth].append(now)
            self.faults[f"401: {reason}"] += 1
        return 401, (scheme or "Bearer", reason)

    def _reason(
        self, access: Access | None, scheme: str, headers: dict[str, str], scope: Any, token: str, now: float
    ) -> str:
        """Why the API refuses; "" if it does not."""
        if access is None:
            return "unknown token"
        if access.revoked is not None:
            return "revoked"
        if now >= access.ends:
            return "ended"
        if access.family is not None and not access.family.alive:
            return "its family was revoked"
        if access.thumbprint is not None:
            return self._wrong_proof(access, scheme, headers.get("dpop", ""), scope, token)
        return "" if scheme == "Bearer" else "wrong scheme"

    def _wrong_proof(self, access: Access, scheme: str, proof: str, scope: Any, token: str) -> str:
        """RFC 9449 §4.3."""
        try:
            key = jwt.PyJWK.from_dict(jwt.get_unverified_header(proof)["jwk"]).key
            claims = jwt.decode(proof, key, algorithms=["ES256"], options={"verify_iat": False})
        except (jwt.PyJWTError, KeyError):
            return "no proof"
        ath = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        if scheme != "DPoP" or claims.get("ath") != ath or _thumbprint(proof) != access.thumbprint:
            return "a proof of something else"
        if claims.get("htm") != scope["method"] or not claims.get("htu", "").endswith(scope["path"]):
            return "a proof for something else"
        if claims["jti"] in self._proofs:
            return "a proof twice"
        self._proofs.add(claims["jti"])
        return ""


def _thumbprint(proof: str | None) -> str | None:
    return None if proof is None else json.dumps(jwt.get_unverified_header(proof)["jwk"], sort_keys=True)


def _client_id(headers: dict[str, str], form: dict[str, str]) -> str:
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        return base64.b64decode(credential).decode().partition(":")[0]
    return form["client_id"]


async def _answer(send: Any, status: int, body: bytes, more: list[tuple[str, str]]) -> None:
    fields = [("content-type", "application/json"), ("content-length", str(len(body))), *more]
    headers = [(name.encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
