"""httpx and httpx2: one object for both, whichever is there, and whatever either thinks of the other (F82 to F86)."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import ExitStack

import httpx
import httpx2
import pytest
import respx
from host.hands import FOUR, KEY, SIX, TLS, Crowd, Hand, fresh_sandbox

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow.testing import DropBefore, Silent, Status


@pytest.fixture
def everybody():
    """All clients at once, the async ones each on an event loop of its own."""
    with ExitStack() as stack:
        yield [Hand(*kind, stack) for kind in SIX.values()]


def run(script):
    """Run `script` in a fresh interpreter, with warnings as errors there as well."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# F82


def test_one_object_serves_all_clients(everybody, home):
    """The very same object, one client after the other: every one gets a 200, and there is one renewal (F82)."""
    auth = home.auth()
    for hand in everybody:
        assert hand.client(base_url=home.url, auth=auth).get("/api/x").status_code == 200
    assert (home.sandbox.token_requests, home.sandbox.api_refused) == (1, 1)


def test_one_object_serves_all_clients_at_once(everybody, home):
    """The very same object, on six clients, four event loops and two threads at once: one renewal (F82, F31)."""
    sandbox = home.put(fresh_sandbox(latency=0.05))
    home.app = Crowd(sandbox, len(everybody))
    auth = home.auth()
    clients = [hand.client(base_url=home.url, auth=auth) for hand in everybody]
    sent = [client.start("GET", "/api/x") for client in clients]
    answers = [hand.wait(future) for hand, future in zip(everybody, sent, strict=True)]
    assert [answer.status_code for answer in answers] == [200] * len(everybody)
    assert (sandbox.token_requests, sandbox.api_refused) == (1, len(everybody))


@pytest.mark.parametrize(
    "make",
    [lambda home: home.auth(), lambda home: BearerAuth("x"), lambda home: APIKeyAuth("x")],
    ids=["TokenAuth", "BearerAuth", "APIKeyAuth"],
)
def test_it_is_an_auth_of_both(home, make):
    """isinstance says yes to both Auth classes, in either order, and still to our own (F82)."""
    for order in ((httpx.Auth, httpx2.Auth), (httpx2.Auth, httpx.Auth)):
        auth = make(home)
        own = type(auth)
        assert all(isinstance(auth, base) for base in order)
        assert isinstance(auth, own)
        assert type(auth).__name__ == own.__name__
        assert issubclass(type(auth), (httpx.Auth, httpx2.Auth))
        assert type(auth).__doc__ == own.__doc__


def test_a_subclass_is_an_auth_of_both(hand, home):
    """A program's own subclass works on all clients as well, and stays what it is (F82)."""

    class Mine(BearerAuth):
        def __init__(self, token):
            super().__init__(token)
            self.mine = True

    auth = Mine(home.sandbox.login()["access_token"])
    assert hand.client(base_url=home.url, auth=auth).get("/api/x").status_code == 200
    assert auth.mine
    assert isinstance(auth, Mine)


def test_httpx2_may_come_later():
    """An object made before httpx2 was imported is one of its auths as soon as it is (F82)."""
    out = run("""
        import sys, httpx
        from httpx_tokenflow import APIKeyAuth, BearerAuth, TokenFlowError, ConfigurationError
        auth, key = BearerAuth("x"), APIKeyAuth("k")
        def echo(module):
            return module.MockTransport(lambda request: module.Response(200, text=str(sorted(
                value for name, value in request.headers.items() if name in {"authorization", "x-api-key"}))))
        with httpx.Client(transport=echo(httpx), auth=auth) as client:
            print(client.get("https://a.example/").text)
        assert "httpx2" not in sys.modules, "importing httpx2 is up to the program"
        assert not isinstance(ConfigurationError("x"), OSError)
        import httpx2
        assert isinstance(auth, httpx2.Auth) and isinstance(auth, httpx.Auth) and isinstance(auth, BearerAuth)
        for module in (httpx, httpx2):
            for one in (auth, key):
                with module.Client(transport=echo(module), auth=one) as client:
                    print(client.get("https://a.example/").text)
            for base in (httpx.HTTPError, httpx2.HTTPError):
                try:
                    raise ConfigurationError("x")
                except base:
                    print("caught")
        """)
    assert out.splitlines() == ["['Bearer x']", *(["['Bearer x']", "['k']", "caught", "caught"] * 2)]


# F83


def test_the_two_may_be_one():
    """After httpx2.alias_httpx() the two bases are one and the same: everything works all the same (F83)."""
    out = run("""
        import httpx2
        httpx2.alias_httpx()
        import httpx
        assert httpx is httpx2
        from httpx_tokenflow import APIKeyAuth, BearerAuth, ConfigurationError, TokenAuth, ClientCredentials
        from httpx_tokenflow import TokenEndpointUnavailable
        from httpx_tokenflow.testing import Sandbox
        sandbox = Sandbox()
        with httpx2.Client(transport=sandbox.transport()) as tokens:
            grant = ClientCredentials("https://sandbox/token", client_id="client", client_secret="secret")
            for auth, path in ((TokenAuth(grant, client=tokens), "/api/x"), (APIKeyAuth("key"), "/api-key/x")):
                assert isinstance(auth, httpx.Auth)
                with httpx2.Client(transport=sandbox.transport(), base_url="https://sandbox", auth=auth) as client:
                    print(client.get(path).status_code)
        for kind in (ConfigurationError("x"), TokenEndpointUnavailable("x", outcome="unknown")):
            assert isinstance(kind, httpx.HTTPError)
        import asyncio
        async def main():
            async with httpx.AsyncClient(transport=sandbox.transport(), auth=APIKeyAuth("key")) as client:
                print((await client.get("https://sandbox/api-key/x")).status_code)
        asyncio.run(main())
        """)
    assert out.splitlines() == ["200"] * 3


def test_httpx2_may_be_missing():
    """Without httpx2 everything works on httpx, and nobody has tried to import it (F83)."""
    out = run("""
        import sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {"httpx2", "httpcore2"}:
                    raise ImportError(f"{name} is not installed")
        sys.meta_path.insert(0, Blocked())
        import asyncio, httpx
        from httpx_tokenflow import APIKeyAuth, BearerAuth, ClientCredentials, ConfigurationError, TokenAuth
        from httpx_tokenflow import TokenEndpointUnavailable
        from httpx_tokenflow.testing import Sandbox, Status
        sandbox = Sandbox()
        sandbox.script(Status(503), Status(503), Status(503))
        grant = ClientCredentials("https://sandbox/token", client_id="client", client_secret="secret")
        with httpx.Client(transport=sandbox.transport()) as tokens:
            auth = TokenAuth(grant, client=tokens)
            with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox", auth=auth) as client:
                try:
                    client.get("/api/x")
                except httpx.TransportError as error:
                    print(type(error).__name__)
        with httpx.Client(transport=sandbox.transport()) as tokens:
            auth = TokenAuth(grant, client=tokens)
            assert isinstance(auth, httpx.Auth) and isinstance(auth, TokenAuth)
            with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox", auth=auth) as client:
                print(client.get("/api/x").status_code)
            async def main():
                async with httpx.AsyncClient(transport=sandbox.transport(), auth=auth) as client:
                    print((await client.get("https://sandbox/api/x")).status_code)
            asyncio.run(main())
        try:
            BearerAuth("x", origins=())
        except httpx.HTTPError as error:
            print(type(error).__name__)
        assert "httpx2" not in sys.modules
        """)
    assert out.splitlines() == ["TokenEndpointUnavailable", "200", "200", "ConfigurationError"]


# F84


def test_a_client_of_neither_library_is_refused(home):
    """client= takes clients of the two libraries; anything else is a ConfigurationError at once (F84)."""
    for wrong in (object(), "client", httpx.Client, httpx.Timeout(1.0)):
        with pytest.raises(ConfigurationError):
            TokenAuth(home.grant(), client=wrong)


# F85


@pytest.mark.parametrize("kind", FOUR)
def test_respx_sees_the_api_and_the_token_endpoint(kind):
    """respx intercepts both requests, through httpcore for httpx and through httpcore2 for httpx2 (F85)."""
    with ExitStack() as stack:
        hand = Hand(*FOUR[kind], stack)
        mock = stack.enter_context(respx.mock(using="httpcore" if hand.library is httpx else "httpcore2"))
        answers = [httpx.Response(401), httpx.Response(200, text="good")]
        api = mock.get("https://api.example.com/x").mock(side_effect=answers)
        tokens = mock.post("https://auth.example.com/token")
        tokens.mock(return_value=httpx.Response(200, json={"access_token": "new", "expires_in": 60}))
        grant = ClientCredentials("https://auth.example.com/token", client_id="client", client_secret="SENTINEL-secret")
        auth = TokenAuth(grant, token=Token("old"), verify=TLS)
        client = hand.client(auth=auth)
        assert client.get("https://api.example.com/x").text == "good"
        carried = [call.request.headers["authorization"] for call in api.calls]
    assert carried == ["Bearer old", "Bearer new"]
    assert tokens.call_count == 1


# F86


def _other(library):
    return httpx2 if library is httpx else httpx


def test_the_token_request_goes_through_the_library_of_the_request(any_hand, home):
    """Whoever leads: the token request is sent by the library that sends their request (F84, F86)."""
    client = any_hand.client(base_url=home.url, auth=home.auth())
    assert client.get("/api/x").status_code == 200
    agents = {seen.path: seen.headers["user-agent"].partition("/")[0] for seen in home.sandbox.seen}
    assert agents == dict.fromkeys(("/api/x", "/token"), f"python-{any_hand.library.__name__}")


@pytest.mark.parametrize("kind", FOUR)
def test_a_client_of_the_other_library_may_fetch_the_tokens(hand, home, kind):
    """client= may be of the other library, and sync for async requests; async for sync ones it may not (F84)."""
    library, backend = FOUR[kind]
    with ExitStack() as stack:
        given = Hand(library, None if backend is None else "asyncio", stack).client(headers={"X-Given": "1"}).raw
        if backend is not None and hand.is_async:
            given = library.AsyncClient(headers={"X-Given": "1"}, verify=TLS)  # on the loop of the request
        client = hand.client(base_url=home.url, auth=home.auth(client=given))
        (answer,) = client.together(1, "GET", "/api/x")
        if backend is not None and not hand.is_async:
            assert isinstance(answer, ConfigurationError)
            assert "client=" in str(answer)
            assert home.sandbox.token_requests == 0
            return
        assert answer.status_code == 200
        (sent,) = [seen for seen in home.sandbox.seen if seen.path == "/token"]
        assert sent.headers["x-given"] == "1"
        assert sent.headers["user-agent"].startswith(f"python-{library.__name__}/")
        if backend is not None:
            hand.call(given.aclose)


def test_a_client_that_was_given_is_not_closed(hand, home):
    """Closing the auth leaves the client that it was given open (F81)."""
    given = hand.client().raw
    auth = home.auth(client=given)
    client = hand.client(base_url=home.url, auth=auth)
    assert client.get("/api/x").status_code == 200
    hand.call(hand.either(auth, "close"))
    assert not given.is_closed
    home.sandbox.expire_access_tokens()
    assert client.get("/api/x").status_code == 200


def test_a_client_that_was_given_keeps_its_own_settings(hand, home):
    """Its headers go along; its auth, its redirects and its timeout are not used (F81)."""
    given = hand.client(auth=("user", "SENTINEL-password"), headers={"X-Given": "1"}, timeout=0.0001).raw
    client = hand.client(base_url=home.url, auth=home.auth(client=given))
    assert client.get("/api/x").status_code == 200
    (sent,) = [seen for seen in home.sandbox.seen if seen.path == "/token"]
    assert sent.headers["x-given"] == "1"
    assert sent.headers["authorization"].startswith("Basic Y2xpZW50O")  # client:…, not user:…


@pytest.mark.parametrize("name", ["HTTPError", "TransportError"])
def test_an_outage_is_caught_as_an_error_of_either_library(any_hand, home, name):
    """TokenEndpointUnavailable is an HTTPError and a TransportError, of the library at hand and of the other (F86)."""
    for fault in (DropBefore(), Silent(), Status(503)):
        home.sandbox.script(fault)
        auth = home.auth(policy=RenewalPolicy(budget=0.3, attempts=1))
        client = any_hand.client(base_url=home.url, auth=auth)
        for library in (any_hand.library, _other(any_hand.library)):
            with pytest.raises(getattr(library, name)) as caught:  # the second answers from the pause after the first
                client.get("/api/x")
            assert isinstance(caught.value, TokenEndpointUnavailable)
            assert isinstance(caught.value, TokenFlowError)
            assert caught.value.request.url.path == "/api/x"
            assert caught.value.response.status_code == 401


def test_a_refusal_is_an_error_of_either_library_and_no_outage(hand, home):
    """What is not transient is an HTTPError, and no TransportError: retry layers leave it alone (F86)."""
    home.sandbox.script(Status(400, error="invalid_client"))
    client = hand.client(base_url=home.url, auth=home.auth())
    for library in (hand.library, _other(hand.library)):
        with pytest.raises(library.HTTPError) as caught:
            client.get("/api/x")
        assert isinstance(caught.value, TokenRequestError)
        assert not isinstance(caught.value, (httpx.TransportError, httpx2.TransportError))


def test_errors_of_the_api_are_the_librarys_own(any_hand, home):
    """What goes wrong at the API is the library's error, untouched, and no reason to renew (F86)."""
    home.sandbox.script(DropBefore(), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth())
    with pytest.raises(any_hand.library.RemoteProtocolError):
        client.get("/api/x")
    assert home.sandbox.token_requests == 0
    assert client.get("/api/x").status_code == 200


def test_the_in_memory_transports_of_both_libraries(any_hand):
    """In memory as on the wire: a 401 is mended through the transport of each library (F84)."""
    sandbox = fresh_sandbox()
    tokens = any_hand.client(transport=sandbox.transport(any_hand.library)).raw
    grant = ClientCredentials("https://sandbox/token", client_id="client", client_secret="SENTINEL-secret")
    auth = TokenAuth(grant, token=Token("old"), client=tokens)
    client = any_hand.client(transport=sandbox.transport(any_hand.library), base_url="https://sandbox", auth=auth)
    assert client.get("/api/x").status_code == 200
    assert client.get("/api-key/x", auth=APIKeyAuth(KEY)).status_code == 200
    assert sandbox.token_requests == 1
