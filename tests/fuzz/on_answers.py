"""What authorization servers answer: to every grant, to a login that is no OAuth, and about tokens."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import (
    AuthorizationCode,
    ClientCredentials,
    DeviceCode,
    JWTBearer,
    RefreshToken,
    SessionLogin,
    StoreError,
    Token,
    TokenExchange,
    TokenFlowError,
)
from httpx_tokenflow._answers import (
    MIN_TOKEN,
    ServerResponse,
    read_nothing,
    read_refusal,
    read_token_response,
    tokens_in,
)
from httpx_tokenflow._entries import Entry, Minted
from httpx_tokenflow._times import MAX_RETRY_AFTER, parse_date, parse_retry_after
from httpx_tokenflow._tokens import MAX_LIFETIME
from httpx_tokenflow.fastapi._claims import Wanted
from httpx_tokenflow.fastapi._introspection import IntrospectionVerifier
from httpx_tokenflow.fastapi._refusals import InvalidToken
from httpx_tokenflow.stores._codec import Codec

from .draws import SECRET, Draws, below, sure, told
from .flows import NOW, World, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx_tokenflow._grants._device_code import DevicePrompt

URL = "https://as.example/token"
MINTED = "SENTINEL-minted-1c9d"  # a token in an answer: no error may tell it
NAMES = (
    "access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token", "error", "error_description",
    "error_uri", "refresh_in", "device_code", "user_code", "verification_uri", "verification_url", "interval",
    "verification_uri_complete", "request_uri", "data", "tokens", "result", "accessToken", "token", "jwt", "refresh",
    "refreshToken", "expiresAt", "exp", "message", "detail", "errors", "success", "code", "active", "aud", "sub", "cnf",
    "issued_token_type", "scp",
)  # fmt: skip
WORDS = (
    MINTED, SECRET, "Bearer", "invalid_grant", "invalid_client", "slow_down", "authorization_pending", "server_error",
    "https://as.example/go", "WDJB-MJHT", "a b", "a,b", "600", "12.5", "login_required", "refresh=abc; Max-Age=9",
    "refresh=; expires=Thu, 01 Jan 1970 00:00:00 GMT", "max-age=1e999", "access=abc", "120",
)  # fmt: skip
SEEDS = (
    b"\x00\x00\x00\x09\x01\x02\x01\x01",
    b"\x00" * 9 + b'{"access_token":"SENTINEL-minted-1c9d","token_type":"mac","expires_in":"3600","scope":["a","b"]}',
    (
        b"\x01\x00\x00\x00\x00\x00\x00\x07\x00"
        b'{"error":"invalid_request","error_description":"SENTINEL-8f3a6c1e5b7d","token":"SENTINEL-minted-1c9d"}'
    ),
    (
        b"\x08\x00\x00\x00\x00\x00\x00\x00\x00"
        b'{"device_code":"d","user_code":"WDJB","verification_uri":"https://as.example/go","expires_in":600,"interval":5}'
    ),
    (
        b"\x09\x00\x00\x00\x00\x00\x00\x00\x00"
        b'{"data":{"accessToken":"SENTINEL-minted-1c9d","refreshToken":"r","expiresAt":"2027-11-21T17:00:00Z"}}'
    ),
    (b"\x0b\x00\x00\x00\x00\x00\x00\x00\x00" b'{"active":true,"scope":"a b","exp":1900000000,"aud":["a"],"sub":"x"}'),
)  # fmt: skip

_CLIENT: dict[str, Any] = {"client_id": "c", "client_secret": SECRET}
_BESIDES = {"metadata": {"introspection_endpoint": "https://as.example/introspect"}, "subject": "ann"}
_PROMPTED: list[DevicePrompt] = []
_GRANTS: tuple[Any, ...] = (
    ClientCredentials(URL, **_CLIENT),
    RefreshToken(URL, **_CLIENT, subject="ann"),
    TokenExchange(URL, **_CLIENT, subject_token="SENTINEL-8f3a6c1e5b7d-subject"),
    JWTBearer(URL, **_CLIENT, key=lambda _: b"s" * 256, iss="i", sub="s", aud="a", alg="RS256"),
    AuthorizationCode("https://as.example/authorize", URL, **_CLIENT, **_BESIDES, scope="openid"),
    DeviceCode("https://as.example/device", URL, **_CLIENT, subject="ann", on_prompt=_PROMPTED.append),
    SessionLogin(
        "https://api.example/login", credentials={"user": "ann", "password": SECRET}, subject="ann",
        refresh_url="https://api.example/refresh", logout_url="https://api.example/logout",
    ),
    SessionLogin(
        "https://api.example/login", credentials={"user": "ann", "password": SECRET}, subject="ann",
        refresh_url="https://api.example/refresh",
        fields={"access_token": "cookie:access", "refresh_token": "cookie:refresh", "expires_at": "exp"},
    ),
    SessionLogin(
        "https://api.example/login", credentials={"user": "ann", "password": SECRET}, subject="ann",
        refresh_url="https://api.example/refresh",
        fields={"access_token": "data.0.token", "expires_in_ms": ["data.1.exp", "exp"]},
    ),
)  # fmt: skip
_HELD = Entry(Token("old-access", refresh_token=SECRET, scope="a b"), NOW, 60.0)
_CODEC = Codec()


def check(data: bytes) -> None:
    """An answer ends in a token that can be used and kept, or in one error of ours that tells no secret."""
    draws = Draws(data, NAMES, WORDS)
    kind = draws.number(11)
    if kind == 0:
        _check_times(draws)
    elif kind == 1:
        _check_refusal(draws)
    elif kind == 2:
        _check_response(draws)
    elif kind == 11:
        _check_introspected(draws)
    else:
        _check_grant(_GRANTS[kind - 3] if kind < 11 else _GRANTS[8], draws)


def _check_times(draws: Draws) -> None:
    text = draws.maybe(draws.line())
    date, pause = parse_date(text), parse_retry_after(text, now=NOW)
    sure(date is None or math.isfinite(date), "a date is none", text)
    sure(pause is None or 0 <= pause <= MAX_RETRY_AFTER, "a pause is none", text)


def _check_refusal(draws: Draws) -> None:
    response = answer(draws)
    _tells_no_secret(read_refusal(response, NOW, (SECRET,)), (response,))
    try:
        read_nothing(response, NOW, (SECRET,))
    except TokenFlowError as error:
        _tells_no_secret(error, (response,))


def _check_response(draws: Draws) -> None:
    options = {"token_type": draws.maybe("Bearer"), "previous": draws.maybe(_HELD.token), "is_bound": draws.byte() & 1}
    response = answer(draws)
    try:
        minted = read_token_response(response, now=NOW, secrets=(SECRET,), **options)
    except TokenFlowError as error:
        _tells_no_secret(error, (response,))
    else:
        _is_usable(minted)


def _check_grant(grant: Any, draws: Draws) -> None:
    presented = _HELD if draws.byte() & 1 else None
    answers = [answer(draws) for _ in range(draws.number(2) + 1)]
    world = World(answers)
    is_login = isinstance(grant, AuthorizationCode)  # a login of that kind has a target of its own
    world_attempt = world.attempt(presented=_HELD if is_login else presented, may_log_in=not is_login)
    flow: Callable[[Any], Any] = grant.revoke if draws.byte() % 8 == 7 and hasattr(grant, "revoke") else grant.obtain
    del _PROMPTED[:]
    try:
        minted = world.play(flow(world_attempt))
    except TokenFlowError as error:
        _tells_no_secret(error, answers)
    else:
        sure(isinstance(minted, Minted | bool), "a flow ends in something else", minted)
        if isinstance(minted, Minted):
            _is_usable(minted)
    for prompt in _PROMPTED:
        sure(str(prompt).isprintable(), "a person is shown what a terminal obeys", str(prompt))


def _check_introspected(draws: Draws) -> None:
    """What `IntrospectionVerifier` makes of an answer; without the loop that it runs on."""
    try:
        said = World([answer(draws)]).play(_GRANTS[4].introspect(World([]).attempt(), SECRET))
    except TokenFlowError as error:
        _tells_no_secret(error, ())
        return
    wanted = Wanted(None, frozenset({"a"}) if draws.byte() & 1 else frozenset(), frozenset(), 30.0, bound_is_fine=False)
    verifier = IntrospectionVerifier.__new__(IntrospectionVerifier)
    verifier._wanted = wanted
    try:
        caller = verifier._caller(said, SECRET, NOW)
    except InvalidToken:
        return
    sure(SECRET not in repr(caller), "a caller's repr shows the token", caller)
    json.dumps(caller.claims, ensure_ascii=False).encode()


def _is_usable(minted: Minted) -> None:
    token = minted.token
    sure(token.access_token.isascii() and token.access_token.isprintable(), "a token cannot go into a header", token)
    sure(minted.lifetime is None or -1e400 < minted.lifetime <= MAX_LIFETIME, "a lifetime is none", minted.lifetime)
    sure(token.expires_at is None or math.isfinite(token.expires_at), "an end is none", token.expires_at)
    texts = (token.refresh_token, token.scope, token.id_token)
    sure(all(isinstance(one, str | None) for one in texts), "a member is no text", texts)
    sure(MINTED not in repr(minted).replace(repr(token.scope), ""), "a repr shows a token", repr(minted))
    entry = Entry(token, NOW, minted.lifetime, refresh_in=minted.refresh_in, skew=minted.skew)
    kept = entry.kept_for(NOW)
    sure(kept is None or kept >= 0, "an entry is kept for less than nothing", kept)
    try:
        raw = _CODEC.encode("f", entry)
    except StoreError:
        return
    sure(_CODEC.decode("f", raw).fence == entry.fence, "an entry is another when it comes back", raw)


def _tells_no_secret(error: BaseException, responses: Any) -> None:
    text = told(error)
    sure(SECRET not in text, "an error tells what we have sent", text)
    for response in responses:
        try:
            body = json.loads(response.body)
        except (ValueError, RecursionError):
            continue
        if MINTED in tokens_in(body) and len(responses) == 1:
            sure(MINTED not in text, "an error tells a token of the answer", text)


def _token_answer(text: str) -> object:
    """A reader of bodies, for those that grow and those that are deep."""
    results: list[object] = []
    for response in (ServerResponse(200, {}, text.encode()), ServerResponse(400, {}, text.encode())):
        try:
            minted = read_token_response(response, now=NOW, secrets=(SECRET,))
            results.append(minted)
            entry = Entry(minted.token, NOW, minted.lifetime)
            results.append(below(partial(_CODEC.encode, "f", entry)))
        except TokenFlowError as error:
            results.append(str(error))
    return results


def _of_grant(grant: Any, name: str) -> Callable[[str], object]:
    def read(text: str) -> object:
        headers = {"date": text[:200], "retry-after": text, "content-type": text}
        response = ServerResponse(200, headers, json.dumps({name: text, "token": "x" * MIN_TOKEN}).encode(), (text,))
        try:
            return World([response] * 2).play(grant.obtain(World([]).attempt(presented=_HELD)))
        except TokenFlowError as error:
            return str(error)

    return read


def _many_tokens(text: str) -> object:
    """Every piece of `text` a token of the answer, and all of it what the server says."""
    pieces = [text[at : at + 12] for at in range(0, len(text), 12)]
    tokens = {f"token{at}": f"{at:09}{piece}"[:12] for at, piece in enumerate(pieces)}
    return _token_answer(json.dumps({"error": "x", "error_description": text, **tokens}))


READERS = {
    "a body": _token_answer,
    "a body of many tokens": _many_tokens,
    "error_description": lambda text: _token_answer(json.dumps({"error": text, "error_description": text})),
    "scope": lambda text: _token_answer(json.dumps({"access_token": "a", "scope": text, "expires_in": text})),
    "a date": lambda text: (parse_date(text), parse_retry_after(text, now=NOW)),
    "a session's answer": _of_grant(_GRANTS[6], "expiresAt"),
    "a session's cookies": _of_grant(_GRANTS[7], "exp"),
    "a device's answer": _of_grant(_GRANTS[5], "verification_uri"),
}
UNITS = (
    *WORDS, "a", " ", ",", ";", "=", "9", "[", '{"a":', '{"access_token":"a","x":', '"', "\\", "\\u0000",
    '"token":"aaaaaaaa",',
    "%41", "a=b;", "x=y; ", ":", "-", "+00:00", "\x00", "ä", "Thu, ", "GMT ", "(", "0:",
)  # fmt: skip
NESTED = {
    "a body": _token_answer,
    "a member": lambda text: _token_answer(f'{{"access_token":"a","x":{text}}}'),
    "an error": lambda text: _token_answer(f'{{"error":{text},"error_description":{text}}}'),
    "a session's answer": lambda text: _session(f'{{"data":{{"token":"a"}},"x":{text}}}'),
    "what was introspected": lambda text: _check_introspected(_Said(f'{{"active":true,"x":{text}}}')),
}


def _session(text: str) -> object:
    try:
        return World([ServerResponse(200, {}, text.encode())]).play(_GRANTS[6].obtain(World([]).attempt()))
    except TokenFlowError as error:
        return str(error)


class _Said(Draws):
    """Draws one body, and a status of 200."""

    def __init__(self, text: str) -> None:
        super().__init__(b"")
        self._text = text

    def body(self) -> bytes:
        return self._text.encode()
