"""`issuer=` against a real server: found, wrong, moved, away and back; and by the API's own word (RFC 9728)."""

from __future__ import annotations

import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from host.hands import FOUR, Hand, until
from integration import byhand

from httpx_tokenflow import (
    ClientCredentials,
    Clock,
    ConfigurationError,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenRequestError,
)
from httpx_tokenflow.stores import MemoryStore

OPENID = "/.well-known/openid-configuration"
KINDS = {"client credentials": ClientCredentials, "refresh token": RefreshToken}


@pytest.fixture
def one_hand():
    """One client, where it makes no difference which."""
    with ExitStack() as stack:
        yield Hand(*FOUR["httpx2-async"], stack)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


class Later:
    """A clock that can be put forward."""

    def __init__(self):
        self.by = 0.0
        self.clock = Clock(lambda: time.monotonic() + self.by, lambda: time.time() + self.by)
        self.policy = RenewalPolicy(clock=self.clock)


class Away(httpx.HTTPTransport):
    """The network, on which metadata cannot be had while `why` says so."""

    def __init__(self, rig):
        super().__init__(verify=rig.trust)
        self.why = None

    def handle_request(self, request):
        if "/.well-known/" not in str(request.url) or self.why is None:
            return super().handle_request(request)
        if isinstance(self.why, Exception):
            raise self.why
        return self.why


@pytest.fixture
def make(rig, http, alice):
    """Makes an auth of a kind; alice's session goes on in a refresh token's, whose access token the API refuses."""
    with ExitStack() as stack:

        def make(kind, issuer=rig.issuer, *, good=False, extra=None, **options):
            client = rig.clients["basic"]
            grant = kind(issuer=issuer, client_id=client.id, client_secret=client.secret)
            if kind is RefreshToken:
                given = byhand.log_in(http, rig, alice)
                ends = time.time() + given["expires_in"]
                token = Token(
                    given["access_token"], refresh_token=given["refresh_token"], expires_at=ends, extra=extra or {}
                )
                options = {"token": token} | options
                if not good:
                    rig.expire()
            else:
                byhand.client_credentials(http, rig)
            options = options if "client" in options else {"verify": rig.trust} | options
            return stack.enter_context(TokenAuth(grant, **options))

        yield make


@pytest.fixture
def open_client(rig):
    def open_client(hand, auth):
        rig_options = {"base_url": rig.api, "auth": auth, "verify": rig.trust, "timeout": 30.0}
        return hand.client(**rig_options)

    return open_client


def _before(rig):
    """The counters as they are now: what the test's own login did does not count."""
    counters = rig.counters()
    return counters["token_requests"], counters["requests"].get(OPENID, 0)


def _since(rig, before):
    """Token requests and reads of the metadata since."""
    return tuple(now - then for now, then in zip(_before(rig), before, strict=True))


def _marks(store):
    """How often refresh tokens have been presented in vain, as the store has it."""
    return [entry.presented for entry in store._entries.values()]


# Found


def test_an_issuer_is_all_it_takes(hand, rig, make, open_client, kind):
    """The metadata are read once, whatever happens after; each expiry costs one token request."""
    auth = make(kind)
    before = _before(rig)
    client = open_client(hand, auth)
    for _ in range(3):
        assert {answer.status_code for answer in client.together(8, "GET", "/x")} == {200}
        rig.expire()
    assert _since(rig, before) == (3, 1)
    counters = rig.counters()
    assert (counters["reused"], counters["revoked_families"]) == (0, 0)


def test_siblings_know_what_the_first_has_read(one_hand, rig, make, open_client):
    """`.using()` shares the server: one read for three tokens."""
    auth = make(ClientCredentials)
    before = _before(rig)
    for path, one in (("/x", auth), ("/orders/1", auth.using(resource=rig.orders)), ("/x", auth.using(scope="read"))):
        assert open_client(one_hand, one).get(path).status_code == 200
    assert _since(rig, before) == (3, 1)


# Wrong


def test_metadata_of_another_issuer(hand, rig, make, open_client, kind):
    """Nothing is sent and nothing is marked; when they are right again, everything goes on."""
    store = MemoryStore()
    auth = make(kind, store=store)
    before = _before(rig)
    client = open_client(hand, auth)
    rig.metadata(issuer="https://other.example")
    with pytest.raises(ConfigurationError, match="to the letter"):
        client.get("/x")
    assert _since(rig, before)[0] == 0
    assert set(_marks(store)) <= {0}
    rig.metadata()
    assert hand.call(hand.either(auth, "warm"))
    assert client.get("/x").status_code == 200


@pytest.mark.parametrize(
    "spelling",
    [
        lambda rig: f"{rig.issuer}/",
        lambda rig: rig.issuer.replace("https", "HTTPS"),
        lambda rig: rig.issuer.replace("127.0.0.1", "localhost"),
        lambda rig: rig.plain,
    ],
    ids=["slash", "capitals", "another name", "plain http"],
)
def test_an_issuer_in_another_spelling(one_hand, rig, make, open_client, kind, spelling):
    """The same server under another name, or without TLS, is another issuer: nothing is presented to it."""
    store = MemoryStore()
    auth = make(kind, spelling(rig), store=store)
    before = _before(rig)
    with pytest.raises(ConfigurationError, match="to the letter") as caught:
        open_client(one_hand, auth).get("/x")
    assert rig.issuer in str(caught.value)
    assert _since(rig, before)[0] == 0
    assert set(_marks(store)) <= {0}


@pytest.mark.parametrize(
    "endpoint", ["http://auth.example/token", lambda rig: f"{rig.plain}/token", "https://u:p@auth.example/", None, 5]
)
def test_an_endpoint_to_which_nothing_is_sent(one_hand, rig, make, open_client, kind, endpoint):
    """Metadata that name plain http, even on this machine, or no URL at all."""
    auth = make(kind)
    before = _before(rig)
    rig.metadata(token_endpoint=endpoint(rig) if callable(endpoint) else endpoint)
    with pytest.raises(ConfigurationError, match="token_endpoint"):
        open_client(one_hand, auth).get("/x")
    assert _since(rig, before)[0] == 0


# Moved


@pytest.mark.parametrize("status", [308, 404, 410])
def test_an_endpoint_that_moves_mid_run(hand, rig, make, open_client, kind, status):
    """The renewal that finds it gone finds the new place, too: the request never knows."""
    later = Later()
    auth = make(kind, policy=later.policy)
    client = open_client(hand, auth)
    assert client.get("/x").status_code == 200
    later.by = 61.0
    rig.expire()
    before = _before(rig)
    rig.metadata(token_endpoint=f"{rig.mtls}/token")
    rig.answer_next(status, {"error": "not here"}, headers={"location": f"{rig.mtls}/token"})
    assert client.get("/x").status_code == 200
    assert _since(rig, before) == (2, 1)
    assert rig.counters()["revoked_families"] == 0


def test_an_endpoint_that_is_gone_for_good(hand, rig, make, open_client, kind):
    """The metadata know no other: the answer stands, the refresh token is as good as before."""
    later, store = Later(), MemoryStore()
    auth = make(kind, policy=later.policy, store=store)
    client = open_client(hand, auth)
    assert client.get("/x").status_code == 200
    later.by = 61.0
    rig.expire()
    before = _before(rig)
    rig.answer_next(404, {})
    with pytest.raises(TokenRequestError):
        client.get("/x")
    assert _since(rig, before) == (1, 1)
    assert _marks(store) == [0]
    assert hand.call(hand.either(auth, "warm"))
    assert client.get("/x").status_code == 200


def test_a_host_that_is_gone(hand, rig, make, open_client, kind):
    """Where nobody listens any more: the metadata are asked again a minute later, and the session goes on."""
    later, store = Later(), MemoryStore()
    rig.metadata(token_endpoint="https://127.0.0.1:1/token")
    auth = make(kind, policy=later.policy, store=store)
    client = open_client(hand, auth)
    before = _before(rig)
    with pytest.raises(TokenEndpointUnavailable) as caught:
        client.get("/x")
    assert caught.value.outcome == "not sent"
    assert _since(rig, before) == (0, 1)
    assert set(_marks(store)) <= {0}
    rig.metadata()
    later.by = 61.0
    assert hand.call(hand.either(auth, "warm"))
    assert client.get("/x").status_code == 200
    assert _since(rig, before) == (1, 2)


# Away, and back


@pytest.mark.parametrize(
    "why",
    [
        httpx.ConnectError("no"),
        httpx.ReadTimeout("late"),
        httpx.Response(503),
        httpx.Response(200, content=b"x" * (1 << 21)),
    ],
    ids=["unreachable", "late", "503", "endless"],
)
def test_metadata_that_are_away_and_back(hand, rig, make, open_client, kind, why):
    """An outage of the metadata presents nothing; a token that is there serves on; then all is well."""
    away, store = Away(rig), MemoryStore()
    with httpx.Client(transport=away) as tokens:
        auth = make(kind, client=tokens, store=store, policy=RenewalPolicy(attempts=1))
        client = open_client(hand, auth)
        before = _before(rig)
        away.why = why
        with pytest.raises(TokenEndpointUnavailable) as caught:
            client.get("/x")
        assert caught.value.outcome == "not sent"
        assert _since(rig, before)[0] == 0
        assert set(_marks(store)) <= {0}
        away.why = None
        assert hand.call(hand.either(auth, "warm"))
        assert client.get("/x").status_code == 200
        assert rig.counters()["revoked_families"] == 0


def test_an_outage_after_a_day(hand, rig, make, open_client, kind):
    """What was read a day ago serves on while it cannot be read again."""
    away, later = Away(rig), Later()
    with httpx.Client(transport=away) as tokens:
        auth = make(kind, client=tokens, policy=later.policy)
        client = open_client(hand, auth)
        assert client.get("/x").status_code == 200
        later.by = 86_401.0
        away.why = httpx.ConnectError("no")
        assert client.get("/x").status_code == 200


# By the API's own word (RFC 9728)


ELSEWHERE = "https://login.example.org"


def test_the_api_says_whom_to_ask(hand, rig, make, open_client):
    """The first request goes out without a credential, its 401 says where to go, and from then on all is as usual."""
    auth = make(ClientCredentials, [ELSEWHERE, rig.issuer])
    before, api = _before(rig), rig.counters()["api_requests"]
    client = open_client(hand, auth)
    assert [client.get("/x").status_code for _ in range(3)] == [200] * 3
    counters = rig.counters()
    assert counters["api_requests"] - api == 4
    assert counters["api"]["401"] == 1
    assert _since(rig, before) == (1, 1)
    rig.expire()
    assert {answer.status_code for answer in client.together(8, "GET", "/x")} == {200}
    assert _since(rig, before) == (2, 1)


def test_the_very_first_goes_out_bare(hand, rig, make):
    """No credential is on it, whatever is known: a hook has seen all that was sent."""
    auth, seen = make(ClientCredentials, [rig.issuer, ELSEWHERE]), []
    hook = hand.hook(lambda request: seen.append("authorization" in request.headers))
    client = hand.client(base_url=rig.api, auth=auth, verify=rig.trust, event_hooks={"request": [hook]})
    assert client.get("/x").status_code == 200
    assert seen[0] is False


def test_a_resource_with_a_path(one_hand, rig, make, open_client):
    """Each resource has metadata of its own, in a place of its own."""
    auth = make(ClientCredentials, [rig.issuer, ELSEWHERE]).using(resource=rig.orders)
    assert open_client(one_hand, auth).get("/orders/1").json()["token"]["aud"] == rig.orders


LIES = {
    "another resource": {"resource": "https://other.example"},
    "another path": lambda rig: {"resource": f"{rig.api}/orders"},
    "no resource": {"resource": None},
    "an issuer that is not allowed": {"authorization_servers": ["https://evil.example"]},
    "an issuer in another spelling": lambda rig: {"authorization_servers": [f"{rig.issuer}/", rig.issuer.upper()]},
    "nobody": {"authorization_servers": []},
    "no list": {"authorization_servers": "https://evil.example"},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_api_that_lies(hand, rig, make, open_client, lie):
    """About itself, or about whom it trusts: nobody is asked for a token, or for metadata, and nothing is kept."""
    store = MemoryStore()
    auth = make(ClientCredentials, [rig.issuer, ELSEWHERE], store=store)
    before = _before(rig)
    rig.resource_metadata(**(LIES[lie](rig) if callable(LIES[lie]) else LIES[lie]))
    with pytest.raises(ConfigurationError):
        open_client(hand, auth).get("/x")
    assert _since(rig, before) == (0, 0)
    assert not store._entries


@pytest.mark.parametrize("origin", ["evil.example", "127.0.0.1:1", "[::1]:1"])
def test_metadata_at_another_origin(hand, rig, make, open_client, origin):
    """An API whose 401 points elsewhere (this one believes the Host field) is not followed (RFC 9728 §7.7)."""
    auth = make(ClientCredentials, [rig.issuer, ELSEWHERE])
    before = _before(rig)
    with pytest.raises(ConfigurationError, match="another origin"):
        open_client(hand, auth).get("/x", headers={"Host": origin})
    assert _since(rig, before) == (0, 0)


def test_a_session_among_several_issuers(hand, rig, make, open_client):
    """A refresh token that somebody brought goes to the issuer that it says, and to no other."""
    store = MemoryStore()
    auth = make(RefreshToken, [ELSEWHERE, rig.issuer], extra={"issuer": rig.issuer}, store=store)
    client = open_client(hand, auth)
    for _ in range(3):
        assert client.get("/x").status_code == 200
        rig.expire()
    assert [entry.issuer for entry in store._entries.values()] == [rig.issuer]
    # An API that has changed its mind does not get the refresh token sent elsewhere.
    rig.resource_metadata(authorization_servers=[ELSEWHERE])
    assert client.get("/x").status_code == 200
    assert rig.counters()["revoked_families"] == 0


def test_a_session_of_nobody_knows_whom(one_hand, rig, make, open_client):
    """An API that names the right one, or a wrong one, is not believed: the refresh token goes nowhere."""
    auth = make(RefreshToken, [ELSEWHERE, rig.issuer])
    client, before = open_client(one_hand, auth), _before(rig)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="name the one issuer="):
            client.get("/x")
    assert not auth.revoke()
    assert _since(rig, before) == (0, 0)


def test_a_session_that_nobody_was_asked_about(one_hand, rig, make, open_client, caplog):
    """It says itself who issued it: when its access token ends, nobody has to be asked, and nothing goes out bare."""
    later = Later()
    extra = {"issuer": rig.issuer}
    auth = make(RefreshToken, [ELSEWHERE, rig.issuer], good=True, extra=extra, policy=later.policy)
    client = open_client(one_hand, auth)
    assert client.get("/x").status_code == 200
    for later.by in (3000.0, 3590.0, 3601.0):
        assert client.get("/x").status_code == 200
    assert "401" not in rig.counters()["api"]
    assert "renewal failed" not in caplog.text  # nobody tries in vain to renew what nobody can
    assert rig.counters()["revoked_families"] == 0


def test_the_first_body_cannot_be_sent_twice(hand, rig, make, open_client):
    """Its 401 is given back, and has told who issues tokens: the next request has one."""
    auth = make(ClientCredentials, [ELSEWHERE, rig.issuer])
    client = open_client(hand, auth)
    assert client.post("/x", content=hand.generator([b"once"])).status_code == 401
    until(lambda: auth.status.expires_in is not None)
    before = rig.counters()["api_requests"]
    assert client.get("/x").status_code == 200
    assert rig.counters()["api_requests"] == before + 1


def test_one_issuer_needs_no_word(one_hand, rig, make, open_client):
    """With `issuer=` decided the API's metadata are not read, and may say what they like."""
    rig.resource_metadata(authorization_servers=["https://evil.example"])
    auth = make(ClientCredentials)
    client = open_client(one_hand, auth)
    assert client.get("/x").status_code == 200
    rig.expire()
    assert client.get("/x").status_code == 200
    assert urlsplit(rig.issuer).netloc == auth._own.grant._server.host
