"""Redirects: a credential stays within its origin, and a redirect is no reason to renew (F15, F16, F20)."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from host.hands import KEY, fresh_sandbox, secrets_of

from httpx_tokenflow import APIKeyAuth, BearerAuth, ClientCredentials, ConfigurationError, TokenAuth
from httpx_tokenflow._metadata import Server
from httpx_tokenflow.testing import serve

STATUSES = (301, 302, 303, 307, 308)

# How a credential is put on a request: the path that wants it, and an auth that has it.
CREDENTIALS = {
    "TokenAuth": ("/api/x", lambda home: home.auth(expired=False)),
    "BearerAuth": ("/api/x", lambda home: BearerAuth(_token(home))),
    "Authorization": ("/api/x", lambda home: APIKeyAuth(_token(home), header="Authorization", prefix="Bearer ")),
    "X-API-Key": ("/api-key/x", lambda home: APIKeyAuth(KEY)),
    "query": ("/api-key/x", lambda home: APIKeyAuth(KEY, query="api_key")),
}


def _token(home):
    return home.sandbox.login()["access_token"]


@pytest.fixture(params=CREDENTIALS)
def credential(request):
    return CREDENTIALS[request.param]


def _hop(to, status):
    return f"/redirect?{urlencode({'to': to, 'status': status})}"


def _elsewhere(url):
    """The same server by another name: another origin, all the same."""
    return url.replace("127.0.0.1", "localhost")


def _leaks(home, *receivers):
    """What the receivers saw of the secrets of `home`."""
    found = []
    for sandbox in receivers:
        for seen in sandbox.seen:
            text = " ".join((seen.path, seen.query, repr(seen.headers), repr(seen.body)))
            found += [secret for secret in secrets_of(home.sandbox) if secret in text or quote(secret) in text]
    return found


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_within_the_origin_the_credential_arrives(hand, home, credential, status, method):
    """A redirect within the origin ends with a 200, whatever the credential and the status (F15)."""
    path, make = credential
    client = hand.client(base_url=home.url, auth=make(home), follow_redirects=True)
    response = client.request(method, _hop(path, status))
    assert response.status_code == 200
    assert response.url.path == path
    assert home.sandbox.token_requests == 0


@pytest.mark.parametrize("status", [302, 307])
def test_through_several_hops_within_the_origin_the_credential_arrives(hand, home, credential, status):
    """Three redirects in a row, all within the origin, end with a 200 (F15)."""
    path, make = credential
    client = hand.client(base_url=home.url, auth=make(home), follow_redirects=True)
    response = client.get(_hop(_hop(_hop(path, status), 302), status))
    assert response.status_code == 200


@pytest.mark.parametrize("status", STATUSES)
def test_another_port_never_sees_the_credential(hand, home, away, credential, status):
    """The port is part of the origin: what listens on another one sees no credential (F15)."""
    client = hand.client(base_url=home.url, auth=credential[1](home), follow_redirects=True)
    response = client.get(_hop(f"{away.url}/open/x", status))
    assert response.status_code == 200
    assert [seen.path for seen in away.sandbox.seen] == ["/open/x"]
    assert _leaks(home, away.sandbox) == []
    assert home.sandbox.token_requests == 0


@pytest.mark.parametrize("status", STATUSES)
def test_another_name_never_sees_the_credential(hand, home, credential, status):
    """The name is part of the origin: the same server by another name gets no credential (F15)."""
    path, make = credential
    client = hand.client(base_url=home.url, auth=make(home), follow_redirects=True)
    response = client.get(_hop(f"{_elsewhere(home.url)}{path}", status))
    assert response.status_code == 401
    (arrived,) = [seen for seen in home.sandbox.seen if seen.headers["host"].startswith("localhost")]
    text = repr(arrived.headers) + arrived.query
    assert [secret for secret in secrets_of(home.sandbox) if secret in text] == []


@pytest.mark.parametrize("status", STATUSES)
def test_after_a_hop_within_the_origin_another_origin_never_sees_the_credential(hand, home, away, credential, status):
    """First a redirect within the origin, then one that leaves it: the other origin sees no credential (F15)."""
    client = hand.client(base_url=home.url, auth=credential[1](home), follow_redirects=True)
    response = client.get(_hop(_hop(f"{away.url}/open/x", status), status))
    assert response.status_code == 200
    assert {seen.path for seen in away.sandbox.seen} == {"/open/x"}
    assert _leaks(home, away.sandbox) == []


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_may_be_redirected_away_but_no_credential(hand, home, away, credential, status):
    """307 and 308 send the caller's body to another origin, as the caller's client wants; nothing of ours (F15)."""
    client = hand.client(base_url=home.url, auth=credential[1](home), follow_redirects=True)
    response = client.post(_hop(f"{away.url}/open/x", status), content=b"body")
    assert response.json()["received"] == 4
    assert _leaks(home, away.sandbox) == []


def test_there_and_back_again_the_credential_stays_at_home(hand, home, away, credential):
    """A redirect to another origin and back: the other sees nothing, and nothing is renewed for it (F15, F20)."""
    path, make = credential
    client = hand.client(base_url=home.url, auth=make(home), follow_redirects=True)
    response = client.get(_hop(f"{away.url}{_hop(home.url + path, 302)}", 302))
    assert response.status_code == 401
    assert _leaks(home, away.sandbox) == []
    assert (home.sandbox.token_requests, home.sandbox.api_requests) == (0, 1)


def test_what_is_left_on_the_response_has_no_sealed_credential(hand, home, away):
    """In the history and on the requests that were answered there is no API key any more (F15, F19)."""
    for options in ({}, {"query": "api_key"}):
        client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY, **options), follow_redirects=True)
        for to in ("/api-key/x", f"{away.url}/open/x"):
            response = client.get(_hop(to, 302))
            for past in [*response.history, response]:
                assert "SENTINEL" not in f"{past.url} {past.request.url} {past.request.headers.raw} {past.headers}"


def test_a_key_of_its_own_header_is_renewed_across_a_redirect(hand, home):
    """A refused key is asked for again also where a redirect within the origin led to the 401 (F15)."""
    keys = iter(["old", KEY])
    client = hand.client(base_url=home.url, auth=APIKeyAuth(lambda: next(keys)), follow_redirects=True)
    assert client.get(_hop("/api-key/x", 302)).status_code == 200


@pytest.mark.parametrize("origins", [None, "pinned"])
def test_pinned_or_not_a_redirect_is_followed_without_the_credential(hand, home, away, origins):
    """origins= decides where a credential may go, not where a redirect may: that is followed, without it (F15)."""
    auth = home.auth(expired=False, origins=[home.url] if origins else None)
    client = hand.client(base_url=home.url, auth=auth, follow_redirects=True)
    assert client.get(_hop(f"{away.url}/open/x", 302)).status_code == 200
    assert _leaks(home, away.sandbox) == []


def test_a_redirect_that_is_not_followed_is_given_back(hand, home):
    """Without follow_redirects the caller gets the redirect, and can follow it by hand (F15)."""
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    response = client.get(_hop("/api/x", 302))
    assert response.status_code == 302
    assert client.send(response.next_request).status_code == 200
    sealed = hand.client(base_url=home.url, auth=APIKeyAuth(KEY))
    response = sealed.get(_hop("/api-key/x", 302))
    assert (response.status_code, sealed.send(response.next_request).status_code) == (302, 200)


# F20


def test_a_401_of_a_third_party_is_not_ours(hand, home, away, credential):
    """A 401 by another origin, after a redirect, is given back: nothing is renewed, nothing sent again (F20)."""
    path, make = credential
    client = hand.client(base_url=home.url, auth=make(home), follow_redirects=True)
    response = client.get(_hop(f"{away.url}{path}", 302))
    assert response.status_code == 401
    assert response.url.port == int(away.url.rpartition(":")[2])
    assert home.sandbox.token_requests == 0
    assert [seen.path for seen in home.sandbox.seen] == ["/redirect"]
    assert len(away.sandbox.seen) == 1


@pytest.mark.parametrize("make", [BearerAuth, APIKeyAuth, lambda ask: APIKeyAuth(ask, query="api_key")])
@pytest.mark.parametrize("back", [False, True], ids=["there", "and back"])
def test_a_callable_is_not_asked_for_somebody_elses_401(hand, home, away, make, back):
    """A 401 to a request that went without the credential is no reason to ask for another one (F20)."""
    asked = []
    client = hand.client(base_url=home.url, auth=make(lambda: asked.append(1) or "x"), follow_redirects=True)
    to = f"{away.url}{_hop(home.url + '/api/x', 302)}" if back else f"{away.url}/api/x"
    assert client.get(_hop(to, 302)).status_code == 401
    assert asked == [1]


def test_a_401_within_the_origin_after_a_redirect_is_ours(hand, home):
    """A 401 that a redirect within the origin led to is mended like any other (F20)."""
    client = hand.client(base_url=home.url, auth=home.auth(), follow_redirects=True)
    assert client.get(_hop("/api/x", 302)).status_code == 200
    assert home.sandbox.token_requests == 1


def test_a_post_that_was_taken_is_not_sent_again_for_the_401_of_what_followed(hand, home):
    """A POST answered by 303 was processed: if the GET that follows it gets a 401, the POST is not repeated (F44)."""
    client = hand.client(base_url=home.url, auth=home.auth(), follow_redirects=True)
    response = client.post(_hop("/api/x", 303), content=b"order")
    assert response.status_code in {200, 401}
    assert [seen.body for seen in home.sandbox.seen if seen.method == "POST" and seen.path == "/redirect"] == [b"order"]


# F16


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("grant", ["client credentials", "refresh token"])
@pytest.mark.parametrize("given", [False, True], ids=["our client", "client="])
def test_a_redirect_of_the_token_endpoint_is_not_followed(hand, home, away, status, grant, given):
    """Exactly one token request, to the configured URL, and a ConfigurationError (F16).

    Also where the client of the API, or the one given for the token endpoint, follows redirects.
    """
    endpoint = f"{home.url}{_hop(f'{away.url}/token', status)}"
    options = {"client": hand.client(follow_redirects=True).raw} if given else {}
    if grant == "client credentials":
        auth = TokenAuth(home.grant(ClientCredentials, token_endpoint=endpoint), **options)
    else:
        auth = home.auth(**options)
        auth._own.grant._server = Server(issuer=None, endpoints={"token_endpoint": endpoint})
    client = hand.client(base_url=home.url, auth=auth, follow_redirects=True)
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, ConfigurationError)
    assert str(status) in str(error)
    assert [seen.path for seen in home.sandbox.seen if seen.path != "/api/x"] == ["/redirect"]
    assert away.sandbox.seen == []


# IPv6


def test_ipv6_loopback_is_another_origin(hand, home):
    """A redirect from 127.0.0.1 to ::1 leaves the origin, though not the machine (F15)."""
    six = fresh_sandbox()
    with serve(six, host="::1") as url:
        for make in (lambda: home.auth(expired=False), lambda: APIKeyAuth(KEY)):
            client = hand.client(base_url=home.url, auth=make(), follow_redirects=True)
            assert client.get(_hop(f"{url}/open/x", 307)).status_code == 200
        assert len(six.seen) == 2
        assert _leaks(home, six) == []
