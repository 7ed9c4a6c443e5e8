"""Grants and client authentication: what goes on the wire, and what makes two tokens different."""

from __future__ import annotations

import base64
import itertools
import json
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from httpx_tokenflow import (
    ClientCredentials,
    ClientSecretBasic,
    ClientSecretPost,
    ConfigurationError,
    InvalidCredential,
    ReauthenticationRequired,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._challenges import Challenge
from httpx_tokenflow._client_auth import Client, NoClientAuth
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._steps import Call, Fetch, ServerRequest
from httpx_tokenflow._times import SYSTEM_CLOCK
from httpx_tokenflow._token_auth import fingerprint
from httpx_tokenflow.stores import MemoryStore

URL = "https://auth.example.com/token"
GOOD = ServerResponse(200, {}, b'{"access_token": "a"}')
WRONG_CLIENT = ServerResponse(400, {}, b'{"error": "invalid_client"}')


def client(**options: Any) -> ClientCredentials:
    return ClientCredentials(**{"token_endpoint": URL, "client_id": "c", "client_secret": "s", **options})


def attempt(entry: Entry | None = None) -> Attempt:
    return Attempt(entry, SYSTEM_CLOCK.monotonic() + 1.0, SYSTEM_CLOCK)


def sign(method: Any, client_id: str, secret: str) -> ServerRequest:
    who = Client(client_id, secret, None, URL, 0.0, 1.0)
    try:
        next(method.sign(ServerRequest(URL), who))
    except StopIteration as end:
        return end.value


def ask(grant: Any, entry: Entry | None = None) -> ServerRequest:
    step = next(grant.obtain(attempt(entry)))
    assert isinstance(step, Fetch)
    return step.request


def basic(request: ServerRequest) -> str:
    return base64.b64decode(dict(request.headers)["Authorization"].removeprefix("Basic ")).decode()


def test_basic_form_urlencodes_first() -> None:
    """RFC 6749 §2.3.1: id and secret are form-urlencoded, then base64ed; the vector of AppAuth (F70)."""
    request = sign(ClientSecretBasic(), "1PpG/Q 1", "p%/x")
    assert dict(request.headers)["Authorization"].startswith("Basic MVBwRyUyRlErMTp")
    assert basic(request) == "1PpG%2FQ+1:p%25%2Fx"


def test_basic_raw_on_request() -> None:
    """For servers that read them raw, they are sent raw (F70)."""
    assert basic(sign(ClientSecretBasic(raw=True), "a+b", "c/d")) == "a+b:c/d"


def test_post_and_none() -> None:
    """In the body, id and secret; or only who it is."""
    assert sign(ClientSecretPost(), "a", "b").form == (("client_id", "a"), ("client_secret", "b"))
    assert sign(NoClientAuth(), "a", "").form == (("client_id", "a"),)


def test_a_client_credentials_request() -> None:
    """One client authentication, no empty and no repeated parameter, in the order a person would write them."""
    request = ask(
        client(scope=["a", "b"], audience="api", resource=["https://r1", "https://r2"], extra={"x": "y", "z": ""})
    )
    assert request.form == (
        ("grant_type", "client_credentials"),
        ("scope", "a b"),
        ("audience", "api"),
        ("resource", "https://r1"),
        ("resource", "https://r2"),
        ("x", "y"),
    )
    assert basic(request) == "c:s"
    assert "SENTINEL" not in repr(ask(client(client_secret="SENTINEL", client_auth=ClientSecretPost())))


def test_a_refresh_token_request() -> None:
    """A public client says who it is, and presents its refresh token."""
    request = ask(RefreshToken(URL, client_id="c"), Entry(Token("a", refresh_token="r"), 0, 1))
    assert dict(request.form) == {"grant_type": "refresh_token", "refresh_token": "r", "client_id": "c"}
    assert request.headers == ()


def test_without_a_refresh_token_somebody_has_to_log_in() -> None:
    """There is nothing to present: the error says where a first token comes from."""
    for entry in (None, Entry(Token("a"), 0, 1)):
        with pytest.raises(ReauthenticationRequired, match="token="):
            ask(RefreshToken(URL, client_id="c"), entry)


def test_a_secret_from_a_callable() -> None:
    """A callable is called at each attempt, what it returns is checked, and what it raises is the cause."""
    flow = client(client_secret=lambda: "s").obtain(attempt(None))
    step = next(flow)
    assert isinstance(step, Call)
    assert basic(flow.send(step.function()).request) == "c:s"
    for answer, kind in (("bad\n", InvalidCredential), (None, InvalidCredential)):
        flow = client(client_secret=lambda: "s").obtain(attempt(None))
        next(flow)
        with pytest.raises(kind):
            flow.send(answer)
    flow = client(client_secret=lambda: "s").obtain(attempt(None))
    next(flow)
    with pytest.raises(TokenEndpointUnavailable, match="LookupError") as caught:
        flow.throw(LookupError("SENTINEL"))
    assert "SENTINEL" not in str(caught.value)


def test_the_answer_is_read_for_the_grant() -> None:
    """client_credentials does not take a refresh token over; refresh_token keeps the one presented (F05)."""
    entry = Entry(Token("old", refresh_token="r"), 0, 1)
    for grant, kept in ((client(), None), (RefreshToken(URL, client_id="c"), "r")):
        flow = grant.obtain(attempt(entry))
        next(flow)
        with pytest.raises(StopIteration) as end:
            flow.send(ServerResponse(200, {}, b'{"access_token": "new"}'))
        assert end.value.value.token.refresh_token == kept


DIFFERENT = {
    "endpoint": {"token_endpoint": "https://other.example.com/token"},
    "client_id": {"client_id": "d"},
    "secret": {"client_secret": "t"},
    "callable": {"client_secret": lambda: "s"},
    "method": {"client_auth": ClientSecretPost()},
    "raw": {"client_auth": ClientSecretBasic(raw=True)},
    "scope": {"scope": "x"},
    "scopes": {"scope": "x y"},
    "audience": {"audience": "x"},
    "resource": {"resource": "https://r"},
    "resources": {"resource": ["https://r", "https://s"]},
    "extra": {"extra": {"tenant": "x"}},
    "other extra": {"extra": {"tenan": "tx"}},
    "type": {"token_type": "Bearer"},
}


def test_everything_on_the_wire_makes_a_difference() -> None:
    """Two grants that differ in one wire field never share a token (F10, F11, F12)."""
    prints = {name: fingerprint(client(**options), None) for name, options in DIFFERENT.items()}
    prints["plain"] = fingerprint(client(), None)
    prints["refresh"] = fingerprint(RefreshToken(URL, client_id="c", client_secret="s"), None)
    for one, other in itertools.combinations(prints, 2):
        assert prints[one] != prints[other], (one, other)


def test_what_makes_no_difference() -> None:
    """The same said in another way is the same token."""
    assert fingerprint(client(scope="a b"), None) == fingerprint(client(scope=["a", "b"]), None)
    assert fingerprint(client(resource="https://r"), None) == fingerprint(client(resource=["https://r"]), None)


def test_whose_session_it_is() -> None:
    """A session is the person's: by subject=, or by the refresh token it began with; the secret does not count."""

    def of(token: str | None = None, **options: Any) -> str:
        first = Token("a", refresh_token=token) if token else None
        return fingerprint(RefreshToken(URL, **{"client_id": "c", **options}), first)

    assert of("r1") != of("r2") != of()
    assert of("r1", subject="ann") == of("r2", subject="ann") != of("r1", subject="bob")
    assert of("r1", client_secret="s") == of("r1", client_secret="t")


@pytest.mark.parametrize(
    "options",
    [
        {"token_endpoint": None},
        {"token_endpoint": "http://auth.example.com/token"},
        {"client_id": ""},
        {"client_id": None},
        {"client_secret": None},
        {"client_secret": None, "client_auth": ClientSecretPost()},
        {"client_auth": NoClientAuth()},
        {"extra": {"grant_type": "password"}},
        {"extra": {"scope": "a"}},
        {"token_type": "mac"},
    ],
)
def test_contradictions_are_refused_at_once(options: dict[str, Any]) -> None:
    """Missing and contradictory arguments are errors at construction."""
    with pytest.raises(ConfigurationError):
        client(**options)


@pytest.mark.parametrize("secret", ["", "s\n", "é"])
def test_secrets_that_cannot_be_are_refused_at_once(secret: str) -> None:
    """A secret with a newline from a file is refused before anybody sends it, and not quoted."""
    with pytest.raises(InvalidCredential) as caught:
        client(client_secret=secret)
    assert not secret or repr(secret) not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"grant": None},
        {"grant": ClientCredentials},
        {"grant": "client_credentials"},
        {"token": "a token"},
        {"store": object()},
        {"policy": 60},
        {"should_renew": 403},
        {"client": "client"},
        {"origins": "https://api.example.com"},
    ],
)
def test_a_token_auth_says_what_it_needs(options: dict[str, Any]) -> None:
    """Whatever is of the wrong kind is refused when the object is made."""
    with pytest.raises(ConfigurationError):
        TokenAuth(**{"grant": client(), **options})


@pytest.mark.parametrize(
    "numbers",
    [{"budget": 0}, {"attempts": 0}, {"attempts": 1.5}, {"attempts": True}, {"due_window": -1}, {"due_window": "60"},
     {"default_lifetime": float("nan")}, {"connect_timeout": float("inf")}],
)  # fmt: skip
def test_a_policy_has_numbers_that_can_be(numbers: dict[str, Any]) -> None:
    """A number out of range is refused by name."""
    with pytest.raises(ConfigurationError, match=next(iter(numbers))):
        RenewalPolicy(**numbers)


def test_reprs_show_who_and_where_and_no_secret() -> None:
    """A grant and an auth say client and server."""
    grant = client(client_secret="SENTINEL", client_id="orders")
    auth = TokenAuth(grant, store=MemoryStore())
    assert repr(grant) == "<ClientCredentials orders@auth.example.com>"
    assert repr(auth) == "<TokenAuth <TokenSource orders@auth.example.com empty>>"


def tried(grant: Any, *answers: ServerResponse) -> tuple[list[str], Any]:
    """The secrets that one attempt presents, answered like this, and what it brings or raises."""
    flow = grant.obtain(attempt(Entry(Token("old", refresh_token="r"), 0, 1)))
    secrets, step = [], next(flow)
    for answer in answers:
        secrets.append(basic(step.request).partition(":")[2])
        try:
            step = flow.send(answer)
        except StopIteration as end:
            return secrets, end.value
        except TokenFlowError as error:
            return secrets, error
    raise AssertionError("it goes on")


@pytest.mark.parametrize("kind", [ClientCredentials, RefreshToken])
def test_secrets_in_the_order_to_try(kind: Any) -> None:
    """After `invalid_client` the next is tried, in the same attempt; the one that works is the first from then on."""
    grant = kind(URL, client_id="c", client_secret=["new", "old"])
    secrets, minted = tried(grant, WRONG_CLIENT, GOOD)
    assert (secrets, minted.fell_back) == (["new", "old"], "client_secret")
    secrets, minted = tried(grant, GOOD)
    assert (secrets, minted.fell_back) == (["old"], None)
    assert tried(grant, WRONG_CLIENT, GOOD)[0] == ["old", "new"]


def test_each_secret_is_tried_once() -> None:
    """If none works, the error is the last one's, and the order stays as it was."""
    grant = client(client_secret=("a", "b", "a", "c"))
    secrets, error = tried(grant, WRONG_CLIENT, WRONG_CLIENT, WRONG_CLIENT)
    assert (secrets, error.error) == (["a", "b", "c"], "invalid_client")
    assert tried(grant, GOOD)[0] == ["a"]


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (ServerResponse(401, {}, b"no"), 2),
        (ServerResponse(401, {}, b'{"error": "unauthorized_client"}'), 2),
        (ServerResponse(401, {}, b'{"error": "invalid_grant"}'), 1),
        (ServerResponse(400, {}, b'{"error": "invalid_scope"}'), 1),
        (ServerResponse(503, {}, b""), 1),
    ],
)
def test_which_answers_are_about_the_secret(answer: ServerResponse, tries: int) -> None:
    """`invalid_client`, and a 401 that does not say otherwise (RFC 6749 §5.2): nothing else spends another secret."""
    assert len(tried(client(client_secret=["a", "b"]), answer, answer)[0]) == tries


def test_a_callable_is_asked_again_for_a_secret_that_was_refused() -> None:
    """If it returns another one by now, that one is tried, once; if not, the refusal stands."""
    for answers, expected in ((["a", "b"], ["c:a", "c:b"]), (["a", "a"], ["c:a"])):
        flow = client(client_secret=lambda: "").obtain(attempt(None))
        seen, step, left = [], next(flow), iter(answers)
        with suppress(TokenRequestError, StopIteration):
            while True:
                if isinstance(step, Call):
                    step = flow.send(next(left))
                else:
                    seen.append(basic(step.request))
                    step = flow.send(WRONG_CLIENT if len(seen) == 1 else GOOD)
        assert seen == expected


def test_a_sequence_is_checked_early() -> None:
    """An empty one, or one with something in it that cannot be sent, is refused at construction; none is quoted."""
    with pytest.raises(ConfigurationError, match="empty sequence"):
        client(client_secret=[])
    with pytest.raises(InvalidCredential, match=r"client_secret\[1\]") as caught:
        client(client_secret=["fine", "SENTINEL\n"])
    assert "SENTINEL" not in str(caught.value)
    with pytest.raises(InvalidCredential, match="must be a string"):
        client(client_secret=5)


def test_a_sequence_of_secrets_does_not_make_another_token() -> None:
    """A secret that is rotated must not part the tokens of those who have the old list from those who have the new."""
    assert fingerprint(client(client_secret=["a"]), None) == fingerprint(client(client_secret=["b", "a"]), None)


def revoked(*answers: ServerResponse) -> tuple[list[str], Any]:
    """What is revoked, in order, when the server answers like this; and what comes of it."""
    grant = client(metadata={"revocation_endpoint": "https://auth.example.com/revoke"})
    flow, hints = grant.revoke(attempt(Entry(Token("at", refresh_token="rt"), 0, 1))), []
    step = next(flow)
    for answer in answers:
        hints.append(dict(step.request.form)["token_type_hint"])
        try:
            step = flow.send(answer)
        except StopIteration as end:
            return hints, end.value
        except TokenFlowError as error:
            return hints, error
    raise AssertionError(step)


YES, NOT_NOW = ServerResponse(200, {}, b""), ServerResponse(503, {}, b"")
NO_SUCH = ServerResponse(400, {}, b'{"error": "unsupported_token_type"}')


def test_the_refresh_token_first_and_the_access_token_in_any_case() -> None:
    """What counts is the session; an access token that cannot be revoked ends by itself (RFC 7009 §2.1, §2.2.1)."""
    both = ["refresh_token", "access_token"]
    assert revoked(YES, YES) == (both, True)
    assert revoked(YES, NO_SUCH) == (both, True)
    hints, error = revoked(NOT_NOW, YES)
    assert hints == both
    assert isinstance(error, TokenEndpointUnavailable)


def test_a_server_that_echoes_what_it_got() -> None:
    """Neither the header with the secret nor its encoded form gets into an error (F19)."""
    grant = client(client_secret="s3cr3t/+value")
    flow = grant.obtain(attempt())
    request = next(flow).request
    echo = f"bad {dict(request.headers)['Authorization']}"
    with pytest.raises(TokenRequestError) as caught:
        flow.send(ServerResponse(400, {}, json.dumps({"error": "x", "error_description": echo}).encode()))
    assert dict(request.headers)["Authorization"].partition(" ")[2] not in str(caught.value)


def test_whose_token_it_is_without_a_refresh_token() -> None:
    """Two people without refresh tokens are two people (F14); a subject makes one of them."""
    grant, other = RefreshToken(URL, client_id="c"), RefreshToken(URL, client_id="c", subject="ann")
    assert fingerprint(grant, Token("alice")) != fingerprint(grant, Token("bob"))
    assert fingerprint(other, Token("one")) == fingerprint(other, Token("two"))


@pytest.mark.parametrize(("kind", "word"), [("DPoP", "dpop="), ("mac", "bearer"), ("N_A", "bearer")])
def test_a_token_is_not_shown_as_what_it_is_not(kind: str, word: str) -> None:
    """One that is bound to a key, or of a type that we do not know, is not sent as a bearer token (RFC 6749 §7.1)."""
    with pytest.raises(ConfigurationError, match=word):
        TokenAuth(RefreshToken(URL, client_id="c"), token=Token("bound", token_type=kind))


@pytest.mark.parametrize("when", ["2026-01-01", float("nan"), 10**400, True])
def test_an_expiry_that_is_no_time(when: Any) -> None:
    """It is refused when the token is made, not when it is used first."""
    with pytest.raises(ConfigurationError, match="expires_at"):
        Token("a", expires_at=when)


def test_claims_go_along_once() -> None:
    """What an API wants claimed goes to the token endpoint as JSON, instead of the program's own claims (§3.2)."""
    wanted = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'
    encoded = base64.b64encode(wanted.encode()).decode()
    challenge = Challenge("Bearer", {"error": "insufficient_claims", "claims": encoded})
    flow = client(extra={"claims": "{}"}).obtain(replace(attempt(), challenge=challenge))
    assert [value for name, value in next(flow).request.form if name == "claims"] == [wanted]
    other = replace(attempt(), challenge=replace(challenge, params={"error": "invalid_token", "claims": encoded}))
    assert "claims" not in dict(next(client().obtain(other)).request.form)


def test_secrets_whose_order_changes_meanwhile() -> None:
    """Who looks for the next secret while another thread promotes one misses none, and finds none twice."""
    grant = ClientCredentials(URL, client_id="c", client_secret=[f"secret-{number}" for number in range(5)])
    over, missed = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            for at in range(5):
                tried = [f"secret-{number}" for number in range(5) if number != at]
                if next(iter(_returned(grant._next_secret(tried, 1.0)))) != f"secret-{at}":
                    missed.append(at)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=look) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for number in range(2_000):
            grant._keep(None, f"secret-{number % 5}", fell_back=True)
    finally:
        over.set()
        for thread in threads:
            thread.join(10)
        sys.setswitchinterval(interval)
    assert missed == []
    assert sorted(grant._secret) == [f"secret-{number}" for number in range(5)]


def _returned(flow: Any) -> list[Any]:
    try:
        next(flow)
    except StopIteration as end:
        return [end.value]
    raise AssertionError("it asks for something")
