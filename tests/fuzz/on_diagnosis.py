"""What the doctor looks at: requests and answers of any shape, documents, tokens; all causes look at each."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from httpx_tokenflow import TokenEndpointUnavailable, TokenRequestError
from httpx_tokenflow.doctor import Exchange, Expected, Facts, Fields, diagnose, explain
from httpx_tokenflow.doctor._explain import reading_of
from httpx_tokenflow.doctor._facts import BODY_LIMIT

from .draws import SECRET, Draws, sure
from .flows import NOW
from .on_doctor import NAMES, URL, WORDS
from .on_doctor import UNITS as TEXTS

_HEADERS = (
    "Authorization", "X-API-Key", "Cookie", "Origin", "WWW-Authenticate", "Date", "Server", "Via", "Location", "Age",
    "Content-Type", "Set-Cookie", "Access-Control-Allow-Origin", "Access-Control-Allow-Headers", "Proxy-Authenticate",
    "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods", "x-amzn-errortype", "CF-Ray", "DPoP-Nonce",
    "grpc-message", "Retry-After", "X-Amz-Date", "Referer", "Upgrade",
)  # fmt: skip
SEEDS = (
    b"\x00\x03\x00\x00\x01\x04\x03\x01",
    b"\x01\x01\x01\x04\x13\x00\x00\x00",
    b"\x01\x00\x05\x07",
)


def check(data: bytes) -> None:
    """Whatever it looks at has a diagnosis, which a terminal can show, and which tells no secret."""
    draws = Draws(data, NAMES, WORDS)
    (_check_explained if draws.byte() & 1 else _check_facts)(draws)


def _fields(draws: Draws, most: int = 4) -> list[tuple[str, str]]:
    return [
        (draws.pick(_HEADERS) if draws.byte() % 8 else draws.text(), draws.text()) for _ in range(draws.number(most))
    ]


def _exchange(draws: Draws, role: str) -> Exchange:
    credential = [("Authorization", f"Bearer {SECRET}")] if draws.byte() & 1 else []
    return Exchange(
        role=role,
        method=draws.pick(("GET", "POST", "HEAD", "OPTIONS", "")),
        url=URL if draws.byte() & 1 else draws.text(),
        sent=Fields([*credential, *_fields(draws)]),
        status=draws.pick((401, 0, 200, 204, 302, 304, 400, 403, 404, 407, 419, 429, 500, 503, 511, 999)),
        received=Fields(_fields(draws)),
        body=draws.maybe(draws.body().decode("utf-8", "replace")[:BODY_LIMIT]),
        failure=draws.maybe(draws.text()),
    )


def _check_facts(draws: Draws) -> None:
    roles = ("hop", "bare", "mended", "again", "preflight", "resource metadata", "keys", "introspection")
    exchanges = [_exchange(draws, "asked"), *(_exchange(draws, draws.pick(roles)) for _ in range(draws.number(2)))]
    document = _loaded(draws)
    facts = Facts(
        exchanges=tuple(exchanges),
        now=draws.pick((NOW, 0.0, 1e18)),
        token_age=draws.maybe(5.0),
        expected=Expected(issuer=draws.maybe(draws.text()), audience=draws.maybe(draws.text())),
        issuer_metadata=document,
        jwks=document,
        introspection=document,
        browser_origin=draws.maybe(draws.text()),
    )
    object.__setattr__(facts, "token", reading_of(facts.credential))
    _tells_no_secret(diagnose(facts), exchanges[0].sent)


def _loaded(draws: Draws) -> Any:
    try:
        found = json.loads(draws.body())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _check_explained(draws: Draws) -> None:
    if draws.byte() % 4 == 0:
        text, code = draws.text(), draws.text()
        _tells_no_secret(explain(TokenRequestError("no", status=400, error=code, error_description=text)), Fields())
        _tells_no_secret(explain(TokenEndpointUnavailable("no", outcome="not sent")), Fields())
        return
    received = [(draws.pick(_HEADERS), draws.line().encode("latin-1")) for _ in range(draws.number(4))]
    status = draws.pick((401, 200, 302, 400, 403, 407, 429, 500, 599))
    response = httpx.Response(
        status, headers=[(name.encode(), value) for name, value in received], content=draws.body()
    )
    response.request = httpx.Request("GET", URL, headers={"Authorization": f"Bearer {SECRET}"})
    _tells_no_secret(explain(response, now=NOW), Fields([("Authorization", SECRET)]))


def _tells_no_secret(diagnosis: Any, sent: Fields) -> None:
    text = json.dumps(diagnosis.to_dict()) + str(diagnosis) + repr(diagnosis)
    if any(SECRET in value and name == "Authorization" for name, value in sent):
        sure(SECRET not in text, "a diagnosis tells what was sent", text)
    sure(all(finding.summary.isprintable() for finding in diagnosis.findings), "a terminal would obey it", text)


def _answered(name: str) -> Any:
    def read(text: str) -> object:
        sent = Fields([("Authorization", f"Bearer {SECRET}")])
        received = Fields([("WWW-Authenticate", "Bearer"), ("Content-Type", "text/html"), (name, text)])
        exchange = Exchange(url=URL, sent=sent, status=302 if name == "Location" else 401, received=received, body=text)
        return str(explain(exchange, now=NOW))

    return read


def _sent(name: str) -> Any:
    def read(text: str) -> object:
        sent = Fields([(name, text)])
        return str(explain(Exchange(url=URL, sent=sent, status=401, received=Fields(), body=text[:200]), now=NOW))

    return read


def _claims(text: str) -> object:
    claims = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return _sent("Authorization")(f"Bearer eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln")


UNITS = TEXTS  # as hostile here
READERS = {
    "a body": _answered("X"),
    "a challenge": _answered("WWW-Authenticate"),
    "a place": _answered("Location"),
    "a cookie": _answered("Set-Cookie"),
    "who answers": _answered("Server"),
    "a credential": _sent("Authorization"),
    "cookies": _sent("Cookie"),
    "a field": _sent("X-Api-Key"),
    "claims": lambda text: _claims(json.dumps({"aud": text, "scope": text, "iss": text})),
}
NESTED = {
    "a body": _answered("X"),
    "a body that tells": lambda text: _answered("X")(f'{{"error":{text},"data":{text}}}'),
    "claims": _claims,
    "a claim": lambda text: _claims(f'{{"x":{text},"aud":{text},"cnf":{text},"scope":{text}}}'),
}
