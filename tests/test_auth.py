"""The auth objects: the fast path, what is out of the ordinary, and the methods beside the flow."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import httpx2
import pytest

from httpx_tokenflow import (
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    RefreshToken,
    RenewalPolicy,
    State,
    Token,
    TokenAuth,
)
from httpx_tokenflow._auth import CredentialAuth
from httpx_tokenflow._times import Clock
from httpx_tokenflow.stores import MemoryStore
from httpx_tokenflow.testing import Sandbox

URL = "https://as.example/token"
API = "https://api.example.com/api/x"
LIBRARIES = [httpx, httpx2]


def make(sandbox: Sandbox, library: Any = httpx, **options: Any) -> TokenAuth:
    grant = ClientCredentials(URL, client_id="client", client_secret="secret")
    return TokenAuth(grant, client=library.Client(transport=sandbox.transport(library)), **options)


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_fast_path_is_taken(sandbox: Sandbox, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fresh token a request goes out without the flow: no step, no driver, one look at the clock."""
    looks = []
    clock = Clock(monotonic=lambda: looks.append(1) or 0.0)
    auth = make(sandbox, policy=RenewalPolicy(clock=clock))
    with library.Client(transport=sandbox.transport(library), auth=auth) as client:
        assert client.get(API).status_code == 200
        monkeypatch.setattr(CredentialAuth, "_talk", None)
        looks.clear()
        assert client.get(API).status_code == 200
        assert looks == [1]


@pytest.mark.anyio
@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_fast_path_is_taken_on_a_loop(
    sandbox: Sandbox, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for async clients."""
    auth = make(sandbox)
    async with library.AsyncClient(transport=sandbox.transport(library), auth=auth) as client:
        assert (await client.get(API)).status_code == 200
        monkeypatch.setattr(CredentialAuth, "_talk", None)
        assert (await client.get(API)).status_code == 200


def test_the_callers_own_credential_wins(sandbox: Sandbox) -> None:
    """A request with an Authorization of its own goes out untouched, first and later, and its 401 is given back."""
    with httpx.Client(transport=sandbox.transport(), auth=make(sandbox)) as client:
        for _ in range(2):
            assert client.get(API, headers={"AUTHORIZATION": "Bearer mine"}).status_code == 401
            assert client.get(API).status_code == 200
    assert sandbox.token_requests == 1
    assert [seen.headers["authorization"] for seen in sandbox.seen if seen.status == 401] == ["Bearer mine"] * 2


def test_headers_of_another_make_take_the_long_way() -> None:
    """Where headers do not keep their fields as we know it, the flow looks through the public door, each time."""

    class Other(httpx.Headers):
        def __init__(self, headers: Any = None) -> None:
            super().__init__(headers)
            self._list.append((b"X", b"x", b"1"))

    auth = BearerAuth("t")
    for own in ({}, {"Authorization": "Bearer mine"}, {}):
        request = httpx.Request("GET", API)
        request.headers = Other(own)
        flow = auth.sync_auth_flow(request)
        assert next(flow).headers["Authorization"] == own.get("Authorization", "Bearer t")
        flow.close()
    assert Other not in auth._known


def test_without_and_without_retry(sandbox: Sandbox) -> None:
    """extensions={"tokenflow": …} sends one request without the credential, or once; a typing error is told."""
    with httpx.Client(transport=sandbox.transport(), auth=make(sandbox)) as client:
        assert client.get(API).status_code == 200
        assert client.get(API, extensions={"tokenflow": {"auth": False}}).status_code == 401
        sandbox.expire_access_tokens()
        assert client.get(API, extensions={"tokenflow": {"retry": False}}).status_code == 401
        assert client.get(API, extensions={"tokenflow": {"retry": True}}).status_code == 200
        for wrong in ({"retries": 0}, False, "auth"):
            with pytest.raises(ConfigurationError, match="tokenflow"):
                client.get(API, extensions={"tokenflow": wrong})


def test_a_token_for_use_elsewhere(sandbox: Sandbox) -> None:
    """`token()` gives a token that is not due: the same as long as it is fresh."""
    with make(sandbox) as auth:
        token = auth.token()
        assert auth.token() is token
        assert token.expires_at is not None
    assert sandbox.token_requests == 1


@pytest.mark.anyio
async def test_a_token_for_use_elsewhere_on_a_loop(sandbox: Sandbox) -> None:
    """`atoken()` likewise."""
    async with make(sandbox) as auth:
        assert await auth.atoken() is await auth.atoken()
    assert sandbox.token_requests == 1


def test_a_token_from_elsewhere(sandbox: Sandbox) -> None:
    """`set_token()` is a new login: what comes next uses it, renews from it, and so does who shares the store."""
    store = MemoryStore()
    grant = RefreshToken(URL, client_id="client", client_secret="secret", subject="ann")
    client = httpx.Client(transport=sandbox.transport())
    auths = [TokenAuth(grant, client=client, store=store) for _ in range(2)]
    login = sandbox.login("ann")
    auths[0].set_token(Token(login["access_token"], refresh_token=login["refresh_token"]))
    for auth in auths:
        assert auth.token().access_token == login["access_token"]
    sandbox.expire_access_tokens()
    for auth in auths:
        with httpx.Client(transport=sandbox.transport(), auth=auth) as api:
            assert api.get(API).json()["subject"] == "ann"
    assert sandbox.token_requests == 1
    with pytest.raises(ConfigurationError):
        auths[0].set_token("token")


@pytest.mark.parametrize("is_given", [True, False])
def test_a_refresh_token_is_enough(sandbox: Sandbox, is_given: bool) -> None:
    """With a refresh token alone the first request buys the access token; what stands for none is sent nowhere."""
    grant = RefreshToken(URL, client_id="client", client_secret="secret", subject="ann")
    first = Token.for_refresh(sandbox.login("ann")["refresh_token"])
    with httpx.Client(transport=sandbox.transport()) as client:
        expect = lambda credential: "none" not in credential  # noqa: E731 - as a program would write it
        auth = TokenAuth(grant, token=first if is_given else None, client=client, expect=expect)
        if not is_given:
            auth.set_token(first)
        assert auth.status.state == State.MISSING
        with httpx.Client(transport=sandbox.transport(), auth=auth) as api:
            assert api.get(API).json()["subject"] == "ann"
    assert sandbox.token_requests == 1
    assert not [seen for seen in sandbox.seen if "none" in seen.headers.get("authorization", "")]


@pytest.mark.anyio
async def test_a_token_from_elsewhere_on_a_loop(sandbox: Sandbox) -> None:
    """`aset_token()` likewise."""
    auth = make(sandbox)
    await auth.aset_token(Token("mine"))
    assert (await auth.atoken()).access_token == "mine"


@pytest.mark.parametrize("auth", [BearerAuth("SENTINEL"), TokenAuth(RefreshToken(URL, client_id="c"))])
def test_pickling_is_refused_with_advice(auth: Any) -> None:
    """An auth object is not pickled: the error says what to do instead."""
    with pytest.raises(TypeError, match="share a store"):
        pickle.dumps(auth)


def test_it_is_an_auth_of_both_libraries() -> None:
    """isinstance says yes for both, and the object is still what it was (F82)."""
    auth = BearerAuth("t")
    assert isinstance(auth, httpx.Auth)
    assert isinstance(auth, httpx2.Auth)
    assert isinstance(auth, BearerAuth)
    assert type(auth) is BearerAuth
    assert auth.__class__.__name__ == "BearerAuth"
    assert not isinstance(auth, str)
