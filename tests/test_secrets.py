"""No secret where it does not belong: logs, reprs, exceptions, hooks, history (F18, F19)."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import httpx
import httpx2
import pytest

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ClientSecretPost,
    ConfigurationError,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenFlowError,
)
from httpx_tokenflow.testing import Answer, DropAfter, Garbage, Html, Sandbox, Status, serve

S = "SENTINEL"
FAST = RenewalPolicy(attempts=1, budget=2.0)


def login(sandbox: Sandbox) -> Token:
    answer = sandbox.login("ann")
    return Token(answer["access_token"], refresh_token=answer["refresh_token"], expires_at=1.0)


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(clients={"client": f"{S}-secret"})


def secrets(sandbox: Sandbox) -> list[str]:
    """Every credential that went over the wire in this test, as it was and as it was encoded."""
    found = {f"{S}-secret"}
    for seen in sandbox.seen:
        for value in (seen.headers.get("authorization", ""), seen.headers.get("x-api-key", "")):
            found |= {part for part in value.split() if len(part) > 8}
        found |= {part.split(b"=")[1].decode() for part in seen.body.split(b"&") if part.startswith(b"refresh_token=")}
    return sorted(found)


@pytest.mark.sampled
@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        Status(400, error="invalid_grant"),
        Status(401, error="invalid_client"),
        Status(503),
        Html(),
        Garbage(),
        DropAfter(),
        Answer({"access_token": f"{S}\n"}),
        Answer({"error": "invalid_request", "error_description": f"no {S}-secret rt- at-"}, status=400),
        Answer({"access_token": f"{S}-at", "token_type": "mac"}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["client", "refresh"])
def test_no_way_to_fail_shows_a_secret(
    sandbox: Sandbox, library: Any, fault: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the token endpoint does, neither the log at DEBUG nor the traceback has a secret of ours."""
    caplog.set_level(logging.DEBUG)
    with serve(sandbox) as base:
        options: dict[str, Any] = {"client_id": "client", "client_secret": f"{S}-secret"}
        if kind == "client":
            auth = TokenAuth(ClientCredentials(f"{base}/token", client_auth=ClientSecretPost(), **options), policy=FAST)
        else:
            auth = TokenAuth(RefreshToken(f"{base}/token", **options), policy=FAST, token=login(sandbox))
        if fault is not None:
            sandbox.script(fault)
        text = ""
        with library.Client(base_url=base, auth=auth) as client:
            try:
                text += repr(client.get("/api/x").request.headers)
            except TokenFlowError as error:
                text += "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
        text += repr(auth) + repr(auth._own.grant) + repr(auth._source.held) + caplog.text
    shown = [secret for secret in secrets(sandbox) if secret in text]
    assert not shown
    assert S not in text


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_the_callers_client_sees_nothing_of_a_renewal(sandbox: Sandbox, library: Any) -> None:
    """Hooks, cookies, history and log of the client that makes the request know only the request (F18)."""
    seen: list[str] = []
    hooks = {
        "request": [lambda request: seen.append(request.url.path)],
        "response": [lambda response: seen.append(str(response.status_code))],
    }
    with serve(sandbox) as base:
        grant = ClientCredentials(f"{base}/token", client_id="client", client_secret=f"{S}-secret")
        with library.Client(base_url=base, auth=TokenAuth(grant), event_hooks=hooks) as client:
            client.get("/api/x")
            sandbox.expire_access_tokens()
            response = client.get("/api/x")
            assert dict(client.cookies) == {}
    assert seen == ["/api/x", "200", "/api/x", "401", "/api/x", "200"]
    assert [past.status_code for past in response.history] == [401]
    assert all("/token" not in str(past.url) for past in response.history)
    assert sandbox.token_requests == 2


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    "auth",
    [BearerAuth(f"{S}1"), APIKeyAuth(f"{S}2"), APIKeyAuth(f"{S}3", query="api_key")],
    ids=["bearer", "key", "query"],
)
def test_a_request_that_is_over_shows_no_key(library: Any, auth: Any, caplog: pytest.LogCaptureFixture) -> None:
    """After the answer, and after a failure, neither request, response, history nor error shows the key."""
    caplog.set_level(logging.DEBUG)

    def api(request: Any) -> Any:
        if request.url.path == "/broken":
            raise library.ConnectError("refused", request=request)
        return library.Response(401 if request.url.path == "/refused" else 200)

    shown = []
    with library.Client(transport=library.MockTransport(api), auth=auth, base_url="https://a.example") as client:
        response = client.get("/fine")
        shown += [repr(response), repr(response.request), repr(response.request.headers), str(response.url)]
        with pytest.raises(library.HTTPStatusError) as refused:
            client.get("/refused").raise_for_status()
        with pytest.raises(library.ConnectError) as broken:
            client.get("/broken")
    for caught in (refused, broken):
        shown += [
            "".join(traceback.format_exception(caught.value)),
            repr(caught.value.request),
            repr(caught.value.request.headers),
        ]
    assert S not in "".join(shown) + caplog.text + repr(auth)


WORDS = {
    "the secret sent": f"{S}-secret",
    "the next secret": f"{S}-other",
    "the access token": f"{S}-at",
    "the refresh token": f"{S}-rt",
    "the ID token": f"{S}-id",
    "a new token": f"{S}-new",
}


@pytest.mark.parametrize("kind", [ClientCredentials, RefreshToken], ids=["client", "refresh"])
@pytest.mark.parametrize("said", WORDS.values(), ids=WORDS.keys())
def test_no_words_of_a_server_show_a_secret(kind: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server that knows a secret of ours, or tells a new token, may name it where it likes: nobody is told."""
    caplog.set_level(logging.DEBUG)
    heard: list[Any] = []
    new = {"data": [{"new_token": f"{S}-new"}], "token": f"{S}-new"}
    answers = [
        httpx.Response(400, json={"error": "invalid_request", "error_description": f"see {said}!"} | new),
        httpx.Response(400, json={"error": said, "error_uri": f"https://as.example/{said}"} | new),
        httpx.Response(200, json={"access_token": f"{S}-new", "token_type": f"mac {said}"}),
    ]
    if said != f"{S}-new":
        answers += [httpx.Response(status, content=b"-", headers={"Content-Type": said}) for status in (200, 400)]
    for answer in answers:
        grant = kind("https://as.example/token", client_id="client", client_secret=[f"{S}-secret", f"{S}-other"])
        token = Token(f"{S}-at", refresh_token=f"{S}-rt", id_token=f"{S}-id", expires_at=1.0)
        client = httpx.Client(transport=httpx.MockTransport(lambda _, answer=answer: answer))
        auth = TokenAuth(grant, token=token, client=client, policy=FAST, on_event=heard.append)
        with pytest.raises(TokenFlowError) as caught:
            auth.token()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(vars(caught.value))
        assert S not in shown
    assert heard
    assert S not in caplog.text + "".join(f"{event} {event!r}" for event in heard)


def test_what_everybody_may_read_is_told() -> None:
    """A code of an RFC, a type of token and a URL are not hidden for being called a token of some kind."""
    kind = "something-else"
    body = {"access_token": "new", "token_type": kind, "issued_token_type": kind, "token_endpoint": kind}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    grant = ClientCredentials("https://as.example/token", client_id="client", client_secret="secret")
    with pytest.raises(ConfigurationError, match="of type 'something-else'"):
        TokenAuth(grant, client=httpx.Client(transport=transport)).token()
