"""Answers: which are ours to mend, which are not, and how often we try (F49 to F53, RFC 9470)."""

from __future__ import annotations

import logging

import pytest
from host.hands import KEY, TLS, fresh_sandbox, until

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    StepUpRequired,
    TokenAuth,
    TokenRequestError,
)
from httpx_tokenflow.testing import Refuse, Slow, Status


def _numbers(sandbox):
    return sandbox.api_requests, sandbox.token_requests


# F49, F50


def test_a_401_after_a_renewal_is_given_back(any_hand, home):
    """An API that always says 401 gets two requests for one, the token endpoint one, and the caller the 401 (F49)."""
    home.sandbox.script(*[Refuse()] * 9, on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth())
    response = client.get("/api/x")
    assert (response.status_code, response.json()["error"]) == (401, "invalid_token")
    assert [past.status_code for past in response.history] == [401]
    assert _numbers(home.sandbox) == (2, 1)


def test_a_401_that_stands_is_logged(hand, home, caplog):
    """A 401 in spite of a new token leaves a warning: somebody should know (F53)."""
    home.sandbox.script(*[Refuse()] * 9, on="api")
    client = hand.client(base_url=home.url, auth=home.auth())
    with caplog.at_level(logging.WARNING, "httpx_tokenflow"):
        client.get("/api/x")
    assert "answered 401 invalid_token, and it stands" in caplog.text


def test_a_first_token_that_is_refused_is_replaced_once(any_hand, home):
    """Without any token: one is fetched, refused, replaced once, and then the 401 is given back (F49)."""
    home.sandbox.script(*[Refuse()] * 9, on="api")
    client = any_hand.client(base_url=home.url, auth=TokenAuth(home.grant(ClientCredentials), verify=TLS))
    assert client.get("/api/x").status_code == 401
    assert _numbers(home.sandbox) == (2, 2)


def test_a_crowd_that_is_refused_for_good_renews_once(any_hand, home):
    """Twenty requests at an API that always says 401: not a renewal for each (F49)."""
    sandbox = home.put(fresh_sandbox(latency=0.05))
    sandbox.script(*[Refuse()] * 99, on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth())
    answers = client.together(20, "GET", "/api/x")
    assert [getattr(answer, "status_code", answer) for answer in answers] == [401] * 20
    assert sandbox.token_requests <= 3
    assert sandbox.api_requests <= 60


def test_an_api_that_refuses_every_token_does_not_get_a_new_one_each_time(hand, home):
    """Ten requests, one after the other, to an API that refuses whatever it gets: no more than three tokens (F49)."""
    home.sandbox.script(*[Refuse()] * 99, on="api")
    client = hand.client(base_url=home.url, auth=home.auth())
    assert [client.get("/api/x").status_code for _ in range(10)] == [401] * 10
    assert home.sandbox.token_requests <= 3


def test_a_late_401_of_an_old_token_costs_no_renewal(any_hand, home):
    """Two requests with the old token; the second 401 comes when the first has been mended: no renewal (F50)."""
    sandbox = home.sandbox
    client = any_hand.client(base_url=home.url, auth=home.auth())
    sandbox.script(Slow(0.3), on="api")
    late = client.start("GET", "/api/late")
    until(lambda: sandbox.api_requests == 1)
    assert client.get("/api/early").status_code == 200
    assert not late.done()
    assert any_hand.wait(late).status_code == 200
    assert _numbers(sandbox) == (4, 1)
    assert sandbox.api_refused == 2


def test_a_request_that_starts_during_a_renewal_waits_for_it(any_hand, home):
    """While a refused token is being replaced nobody sends it: a request that starts then gets no 401 (F50)."""
    sandbox = home.sandbox
    client = any_hand.client(base_url=home.url, auth=home.auth())
    sandbox.script(Slow(0.3))
    first = client.start("GET", "/api/x")
    until(lambda: sandbox.token_requests == 1)
    second = client.start("GET", "/api/y")
    assert [any_hand.wait(future).status_code for future in (first, second)] == [200, 200]
    assert (sandbox.api_refused, sandbox.token_requests) == (1, 1)


def test_a_static_credential_is_sent_once(hand, home):
    """With nothing to renew with, a 401 is given back at once, unread if it is streamed (F49)."""
    for auth in (BearerAuth("x"), APIKeyAuth("x"), APIKeyAuth("x", query="api_key")):
        home.sandbox.reset_counters()
        client = hand.client(base_url=home.url, auth=auth)
        with client.stream("GET", "/api/x") as response:
            assert response.status_code == 401
            assert not response.is_stream_consumed
        assert _numbers(home.sandbox) == (1, 0)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("placed", [None, {}, {"query": "api_key"}], ids=["bearer", "header", "query"])
def test_a_callable_is_asked_once_more(any_hand, home, placed, is_async):
    """A callable is asked before the first request and after a 401, once, and then the 401 is given back (F49).

    An async one cannot be asked by a sync client: that is a ConfigurationError.
    """
    asked = []

    def ask():
        asked.append(1)
        return f"wrong-{len(asked)}"

    async def aask():
        return ask()

    given = aask if is_async else ask
    auth = BearerAuth(given) if placed is None else APIKeyAuth(given, **placed)
    client = any_hand.client(base_url=home.url, auth=auth)
    (response,) = client.together(1, "GET", "/api-key/x")
    if is_async and not any_hand.is_async:
        assert isinstance(response, ConfigurationError)
        assert "is async" in str(response)
        return
    assert response.status_code == 401
    assert (len(asked), home.sandbox.api_requests) == (2, 2)
    sent = [seen.headers.get("authorization", seen.headers.get("x-api-key", seen.query)) for seen in home.sandbox.seen]
    assert [value[-1] for value in sent] == ["1", "2"]


# F51


def test_a_401_of_the_token_endpoint_is_not_mended(any_hand, home):
    """The token endpoint's own 401 is `invalid_client`: one token request, our error, and the API's 401 on it (F51)."""
    home.sandbox.clients["client"] = "another secret"
    client = any_hand.client(base_url=home.url, auth=home.auth())
    home.sandbox.clients["client"] = "a third one"
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, TokenRequestError)
    assert (error.status, error.error) == (401, "invalid_client")
    assert (error.response.status_code, error.response.json()["error"]) == (401, "invalid_token")
    assert error.response.url.path == "/api/x"
    assert _numbers(home.sandbox) == (1, 1)


def test_a_request_to_the_token_endpoint_itself_is_a_request(hand, home):
    """A program that posts to the token endpoint with its own client gets what the server says (F51)."""
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    response = client.post("/token", data={"grant_type": "client_credentials"})
    assert response.status_code == 401  # our bearer token is no client authentication
    assert home.sandbox.token_requests <= 3


# F52


@pytest.mark.parametrize("status", [401, 403])
def test_insufficient_scope_is_given_back(any_hand, home, status, caplog):
    """Another token of the same scope would not help: the answer is given back untouched, with a warning (F52)."""
    home.sandbox.script(Refuse("insufficient_scope", params={"scope": "read write"}, status=status), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False))
    with (
        caplog.at_level(logging.WARNING, "httpx_tokenflow"),
        client.stream("GET", "/api/x") as response,
    ):
        assert response.status_code == status
        assert not response.is_stream_consumed
        assert any_hand.read(response) == b'{"error": "insufficient_scope"}'
    assert _numbers(home.sandbox) == (1, 0)
    assert [record.levelname for record in caplog.records if record.name == "httpx_tokenflow"] == ["WARNING"]
    assert "insufficient_scope" in caplog.text
    assert "read write" in caplog.text


def test_invalid_request_is_given_back(any_hand, home):
    """A 401 that blames the request and not the token is no reason for another token (F52)."""
    home.sandbox.script(Refuse("invalid_request"), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False))
    assert client.get("/api/x").status_code == 401
    assert _numbers(home.sandbox) == (1, 0)


@pytest.mark.parametrize("error", [None, "invalid_token", "invalid_grant"])
def test_a_403_is_given_back(hand, home, error):
    """A 403 is no 401, whatever else its challenge says (F52)."""
    home.sandbox.script(Refuse(error, status=403), on="api")
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    assert client.get("/api/x").status_code == 403
    assert _numbers(home.sandbox) == (1, 0)


# F53


@pytest.mark.parametrize(
    "fault",
    [
        Status(401),
        Refuse(None),
        Refuse(None, scheme="Basic", params={"realm": "x"}),
        Refuse(None, scheme="Negotiate"),
        Refuse("something_else"),
        Refuse(None, scheme=", ,=\x22"),
    ],
    ids=["bare", "bearer", "basic only", "negotiate only", "unknown error", "garbage"],
)
def test_a_401_is_mended_whatever_its_challenge(any_hand, home, fault):
    """A 401 without a challenge, with an unrelated or an unreadable one, gets one renewal and one more try (F53)."""
    home.sandbox.script(fault, on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False))
    assert client.get("/api/x").status_code == 200
    assert _numbers(home.sandbox) == (2, 1)


def test_a_basic_only_401_that_stands_is_given_back(hand, home):
    """An API that wants Basic gets one more try, and then its 401 reaches the caller (F53)."""
    home.sandbox.script(*[Refuse(None, scheme="Basic")] * 9, on="api")
    client = hand.client(base_url=home.url, auth=home.auth())
    assert client.get("/api/x").status_code == 401
    assert _numbers(home.sandbox) == (2, 1)


@pytest.mark.parametrize("status", [407, 400, 404, 405, 409, 419, 429, 500, 502, 503])
def test_what_is_no_401_is_given_back(hand, home, status):
    """A proxy's 407 and everything else that is no 401 is none of our business (F53)."""
    home.sandbox.script(Refuse(status=status), on="api")
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    with client.stream("GET", "/api/x") as response:
        assert response.status_code == status
        assert not response.is_stream_consumed
    assert _numbers(home.sandbox) == (1, 0)


def _answering(hand, *fields, status=401):
    """An API in memory that refuses its first request with these WWW-Authenticate fields."""
    answers = [hand.library.Response(status, headers=[("WWW-Authenticate", field) for field in fields])]
    return hand.transport(lambda request: answers.pop() if answers else hand.library.Response(200))


@pytest.mark.parametrize(
    ("fields", "mended"),
    [
        (['Basic realm="x"', 'Bearer error="invalid_token"'], True),
        (['Basic realm="x", Bearer error="invalid_token"'], True),
        (['Bearer error="invalid_request"', 'Basic realm="x"'], False),
        (['Basic realm="x"', 'Bearer error="insufficient_scope"'], False),
        (['Basic error="invalid_request"'], True),
        (['bearer ERROR="invalid_request"'], False),
        (['Bearer error="invalid_request", Bearer error="invalid_token"'], True),
    ],
    ids=str,
)
def test_of_several_challenges_the_bearer_s_counts(any_hand, fields, mended):
    """Several challenges, in one field or in several: what ours says decides (F53, F71)."""
    tokens = iter(["old", "new"])
    client = any_hand.client(transport=_answering(any_hand, *fields), auth=BearerAuth(lambda: next(tokens)))
    assert client.get("https://api.example.com/").status_code == (200 if mended else 401)


# RFC 9470


@pytest.mark.parametrize("status", [401, 403])
def test_a_stronger_login_is_asked_for_by_an_error(any_hand, home, status):
    """`insufficient_user_authentication` is StepUpRequired with what the API wants, and no renewal (RFC 9470 §3)."""
    wants = {"acr_values": "urn:gold urn:silver", "max_age": "300", "scope": "pay"}
    home.sandbox.script(Refuse("insufficient_user_authentication", params=wants, status=status), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False))
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, StepUpRequired)
    assert isinstance(error, any_hand.library.HTTPError)
    assert (error.acr_values, error.max_age, error.scope) == ("urn:gold urn:silver", 300, "pay")
    assert error.response.status_code == status
    assert error.response.json() == {"error": "insufficient_user_authentication"}  # it has been read
    assert error.request.url.path == "/api/x"
    assert _numbers(home.sandbox) == (1, 0)
    assert not client.busy()
    assert client.get("/api/x").status_code == 200  # the token is as good as it was for everything else


def test_a_stronger_login_is_asked_for_of_streams_and_uploads_too(any_hand, home):
    """StepUpRequired comes for a streamed request and for a body that cannot be sent again as well (RFC 9470)."""
    home.sandbox.script(*[Refuse("insufficient_user_authentication", params={"max_age": "0"})] * 2, on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False))
    with pytest.raises(StepUpRequired), client.stream("GET", "/api/x"):
        pass
    with pytest.raises(StepUpRequired) as raised:
        client.post("/api/x", content=any_hand.generator([b"x"]))
    assert raised.value.max_age == 0
    assert home.sandbox.token_requests == 0
    assert not client.busy()


@pytest.mark.parametrize("params", [{}, {"max_age": "soon"}, {"max_age": "9" * 99}])
def test_a_stronger_login_that_is_not_described(hand, home, params):
    """What the challenge does not say, or says unreadably, is None (RFC 9470)."""
    home.sandbox.script(Refuse("insufficient_user_authentication", params=params), on="api")
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, StepUpRequired)
    assert (error.acr_values, error.max_age, error.scope) == (None, None, None)


def test_a_key_that_is_refused_is_not_stepped_up(hand, home):
    """A refused API key whose callable has a better one is replaced like a token."""
    keys = iter(["old", KEY])
    client = hand.client(base_url=home.url, auth=APIKeyAuth(lambda: next(keys)))
    assert client.get("/api-key/x").status_code == 200
    assert _numbers(home.sandbox) == (2, 0)
