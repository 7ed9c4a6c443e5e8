"""Where a browser comes back to: the callback's URL, the state that was kept, the request that a listener hears."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from httpx_tokenflow import AuthorizationCode, Token, TokenFlowError
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._entries import Minted
from httpx_tokenflow._grants._authorization_code import Login, _is_answer_to, _parse
from httpx_tokenflow._loopback import MAX_REQUEST, Stray, _Connection, _hear

from .draws import SECRET, Draws, sure, told
from .flows import World, answer

ISSUER = "https://as.example"
NAMES = (
    "access_token", "id_token", "token_type", "refresh_token", "expires_in", "error", "version", "state", "verifier",
    "nonce", "redirect_uri", "issuer", "grant", "asked", "iss", "aud", "sub", "exp", "alg", "typ",
)  # fmt: skip
WORDS = (
    "code=", "&", "state=", "iss=", "error=access_denied", "error=", "error_description=", "error_uri=", "?",
    "/callback",
    "https://app.example/callback?", "#", "%00", "%ff", "+", ";", "%", ISSUER, "c",
    quote(ISSUER, safe=""), "login_required",
)  # fmt: skip
SEEDS = (
    b"\x00\x01?code=abc&state=STATE&iss=https%3A%2F%2Fas.example",
    b"\x00\x01?error=access_denied&error_description=no+SENTINEL-8f3a6c1e5b7d&state=STATE",
    b"\x00\x01?code=a&code=b&state=STATE",
    b"\x01GET /callback?code=a&state=b HTTP/1.1\r\nHost: x\r\n\r\n",
    b'\x02\x00{"version":1,"state":"a","verifier":"b","nonce":"","redirect_uri":"x","issuer":null,"grant":"g","asked":null}',
    b'\x03\x01\x01{"alg":"RS256"}\x01{"nonce":"N","aud":"c"}',
    b"\x04\x00\x00GET",
)  # fmt: skip
_GRANT = AuthorizationCode(
    f"{ISSUER}/authorize", f"{ISSUER}/token", client_id="c", client_secret=SECRET, scope="openid",
    redirect_uri="https://app.example/callback", metadata={"issuer": ISSUER}, open_browser=False,
)  # fmt: skip
_STATE = _GRANT.start()[1]
_LOGIN = Login.from_text(_STATE)
_SERVER = World([]).play(_GRANT._server.find(World([]).attempt()))


def check(data: bytes) -> None:
    """A callback ends in a token or in an error of ours; a listener hears a target, nothing, or more to come."""
    draws = Draws(data, NAMES, WORDS)
    kind = draws.number(4)
    (_check_callback, _check_heard, _check_state, _check_id_token, _check_heard_in_pieces)[kind](draws)


def _callback(draws: Draws) -> str:
    kind = draws.byte() % 4
    if kind == 0:
        text = "".join(draws.text() for _ in range(draws.number(12)))
    elif kind == 1:
        text = draws.rest().decode("utf-8", "surrogateescape")
    else:
        pairs = [
            f"{draws.pick(('code', 'state', 'iss', 'error', 'error_description', 'x'))}={draws.text()}"
            for _ in range(4)
        ]
        text = f"/callback?state=STATE&{'&'.join(pairs)}"
    return text.replace("STATE", _LOGIN.state)


def _hidden(callback: str) -> tuple[str, ...]:
    """What nobody may see of it; the client's secret never goes there, so what has it is none of ours."""
    return (_LOGIN.verifier, _LOGIN.state) if SECRET in callback else (_LOGIN.verifier, _LOGIN.state, SECRET)


def _check_callback(draws: Draws) -> None:
    callback = _callback(draws)
    is_answer = _is_answer_to(_LOGIN, callback)
    try:
        shown = _GRANT._judge(_SERVER, _LOGIN, callback)
    except Stray:
        sure(not is_answer, "the answer is taken for a stranger's", callback)
        shown = None
    else:
        sure(is_answer, "a stranger's answer is taken", callback)
    sure(shown is None or not any(one in shown for one in _hidden(callback)), "a page shows a secret", shown)
    _check_finish(callback, _STATE, [answer(draws)])


def _check_finish(callback: str, state: str, answers: list[ServerResponse]) -> None:
    world = World(answers)
    try:
        minted = world.play(_GRANT._finish(callback, state, world.attempt()))
    except TokenFlowError as error:
        text = told(error)
        sure(not any(one in text for one in _hidden(callback)), "an error tells a secret", text)
        return
    sure(isinstance(minted, Minted) and isinstance(minted.token, Token), "it is no token", minted)
    sure(len(world.requests) == 1 and _is_answer_to(_LOGIN, callback), "a code is redeemed that is none", callback)


def _check_state(draws: Draws) -> None:
    """The state comes out of a session or a cookie, which may be anything."""
    kind = draws.byte() % 4
    facts = json.dumps(
        {"version": 1, **dict.fromkeys(("state", "verifier"), "s" * 43), "nonce": "", "redirect_uri": "x"}
    )
    raw = (facts[:-1] + "," + draws.object()[1:]).encode("utf-8", "surrogatepass") if kind == 1 else draws.body()
    state = draws.rest().decode("utf-8", "surrogateescape") if kind == 0 else base64.urlsafe_b64encode(raw).decode()
    try:
        login = Login.from_text(state)
    except TokenFlowError as error:
        sure(SECRET not in told(error), "an error tells a secret", told(error))
    else:
        sure(Login.from_text(login.to_text()) == login, "a login is another", login)
    _check_finish(f"?state={_LOGIN.state}&code=a", state, [])


def _check_id_token(draws: Draws) -> None:
    """The ID token that comes along with a code's token."""
    if draws.byte() & 1:
        head, claims = draws.body(), draws.body().replace(b"NONCE", _LOGIN.nonce.encode())
        id_token = ".".join(base64.urlsafe_b64encode(one).decode().rstrip("=") for one in (head, claims, b"s"))
    else:
        id_token = draws.text()
    body = json.dumps({"access_token": "a", "id_token": id_token}).encode()
    _check_finish(f"?state={_LOGIN.state}&code=a", _STATE, [ServerResponse(200, {}, body)])


class _Socket:
    """Says what it was given, in pieces; then that it is over."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]


def _heard(*pieces: bytes) -> tuple[str, int]:
    """What a listener makes of it, and how much it has read for that."""
    given: Any = _Socket(*pieces)
    connection = _Connection(given, 0.0)
    for _ in range(sum(map(len, pieces)) + 2):
        target = _hear(connection)
        if target is not None:
            sure(
                len(connection.heard) <= MAX_REQUEST + 8192, "more is read than there should be", len(connection.heard)
            )
            return target, len(connection.heard)
    raise AssertionError("a listener never comes to an end")


def _check_heard(draws: Draws) -> None:
    _check_target(_heard(draws.rest())[0])


def _check_heard_in_pieces(draws: Draws) -> None:
    pieces = [draws.bytes(200) + draws.pick((b"", b"\r\n", b"\r\n\r\n", b"\r", b"\n")) for _ in range(draws.number(6))]
    pieces = [one for one in pieces if one]
    target = _heard(b"GET ", *pieces)[0]
    _check_target(target)
    sure(target == _heard(b"GET " + b"".join(pieces))[0], "what is heard depends on how it comes", pieces)


def _check_target(target: str) -> None:
    sure(target in {"", "*"} or target.startswith("/"), "a target is none", target)
    sure(" " not in target and "\r\n" not in target, "a target has a blank", target)
    with suppress(Stray):
        _GRANT._judge(_SERVER, _LOGIN, target)


def _finished(text: str) -> object:
    found: list[object] = []
    for callback in (
        text,
        f"/callback?state={_LOGIN.state}&error={text}",
        f"/callback?code={text}&state={_LOGIN.state}",
    ):
        try:
            found.append(_parse(callback))
            found.append(_GRANT._judge(_SERVER, _LOGIN, callback))
        except (TokenFlowError, Stray) as error:
            found.append(str(error))
    return found


def _state(text: str) -> object:
    found: list[object] = []
    for state in (text, base64.urlsafe_b64encode(text.encode()).decode()):
        try:
            found.append(Login.from_text(state))
        except TokenFlowError as error:
            found.append(str(error))
    return found


def _id_token(text: str) -> None:
    claims = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    for id_token in (text, f"eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln", f"{claims}.{claims}.c2ln"):
        body = json.dumps({"access_token": "a", "id_token": id_token}).encode()
        _check_finish(f"?state={_LOGIN.state}&code=a", _STATE, [ServerResponse(200, {}, body)])


READERS = {
    "a callback": _finished,
    "a state": _state,
    "an ID token": _id_token,
    "a request": lambda text: _heard(text.encode(), b"\r\n\r\n"),
    "a request in pieces": lambda text: _heard(*(text[at : at + 1000].encode() for at in range(0, len(text), 1000))),
}
UNITS = (
    *WORDS,
    "a",
    "a=b&",
    "=",
    "&&",
    "%41",
    "code=a&",
    "[",
    '{"a":',
    '"',
    "\\",
    "ä",
    "9",
    " ",
    "\r\n",
    "\r",
    "A",
    ".",
    "a.",
)
NESTED = {
    "a state": _state,
    "a member of a state": lambda text: _state(f'{{"version":{text},"state":{text}}}'),
    "an ID token": _id_token,
    "a claim": lambda text: _id_token(f'{{"nonce":{text}}}'),
}
