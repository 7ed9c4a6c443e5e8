"""Logins through clients, threads and event loops: one for all, whatever happens to who waits; and in two halves."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import httpx
import jwt
import pytest
from logins import ISSUER, Issuer

from httpx_tokenflow import (
    ConfigurationError,
    DPoP,
    ReauthenticationRequired,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenRequestError,
)
from httpx_tokenflow._grants import DeviceCode
from httpx_tokenflow._logins import AuthorizationCode
from httpx_tokenflow._times import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

API = "https://api.example.com/thing"
PAGE = "https://app.example.com/callback"
LIMIT = 20.0  # seconds; only against hanging
CROWD = 20
DRIVERS = ["threads", "asyncio", "trio"]
LOOPS = ["asyncio", "trio"]


class Browser:
    """A person with a browser: goes where the program says, when `ready`, and comes back to the loopback address."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.urls: list[str] = []
        self.pages: list[httpx.Response] = []
        self.ready = threading.Event()
        self.ready.set()
        self.errand: Callable[[str], str] = issuer.log_in
        self._threads: list[threading.Thread] = []

    def open(self, url: str) -> None:
        self.urls.append(url)
        self._threads.append(threading.Thread(target=self._visit, args=(url,), daemon=True))
        self._threads[-1].start()

    def _visit(self, url: str) -> None:
        if self.ready.wait(LIMIT):
            with contextlib.suppress(httpx.TransportError):  # nobody listens any more
                self.pages.append(httpx.get(self.errand(url), timeout=LIMIT, trust_env=False))

    def where(self) -> tuple[str, int]:
        """Where the program listens."""
        until(lambda: self.urls)
        parts = urlsplit(self.issuer.asked(self.urls[-1])["redirect_uri"])
        return parts.hostname or "", parts.port or 0

    def is_awaited(self) -> bool:
        try:
            httpx.get("http://{}:{}/favicon.ico".format(*self.where()), timeout=LIMIT, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    def leave(self) -> None:
        self.ready.set()
        for thread in self._threads:
            thread.join(LIMIT)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def browser(issuer: Issuer) -> Iterator[Browser]:
    browser = Browser(issuer)
    yield browser
    browser.leave()


@pytest.fixture
def by_code(issuer: Issuer, browser: Browser) -> TokenAuth:
    grant = AuthorizationCode(issuer=ISSUER, client_id="c", scope="openid", open_browser=browser.open)
    return TokenAuth(grant, client=httpx.Client(transport=issuer.transport()))


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a person with a device was told."""
    monkeypatch.setattr("httpx_tokenflow._grants._device_code.LEAST_INTERVAL", 0.05)
    return []


@pytest.fixture
def by_device(issuer: Issuer, prompts: list[Any]) -> TokenAuth:
    issuer.device["interval"] = 0
    grant = DeviceCode(issuer=ISSUER, client_id="c", on_prompt=prompts.append)
    return TokenAuth(grant, client=httpx.Client(transport=issuer.transport()))


@pytest.fixture(params=["code", "device"])
def auth(request: pytest.FixtureRequest) -> TokenAuth:
    return request.getfixturevalue(f"by_{request.param}")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for does not come"
        time.sleep(0.005)


def at_once(driver: str, issuer: Issuer, auth: TokenAuth, number: int = 1) -> list[Any]:
    """What so many requests at once get: statuses and exceptions."""
    if driver == "threads":
        with httpx.Client(transport=issuer.transport(), auth=auth) as client, ThreadPoolExecutor(number) as pool:
            futures = [pool.submit(client.get, API) for _ in range(number)]
            return [future.exception(LIMIT) or future.result().status_code for future in futures]

    async def main() -> list[Any]:
        found: list[Any] = []

        async def one(client: httpx.AsyncClient) -> None:
            try:
                found.append((await client.get(API)).status_code)
            except Exception as error:  # noqa: BLE001 - it is what the test looks at
                found.append(error)

        with anyio.fail_after(LIMIT):
            client = httpx.AsyncClient(transport=issuer.transport(), auth=auth)
            async with client, anyio.create_task_group() as tasks:
                for _ in range(number):
                    tasks.start_soon(one, client)
        return found

    return anyio.run(main, backend=driver)


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_login_for_everybody(driver: str, issuer: Issuer, auth: TokenAuth, browser: Browser, prompts: Any) -> None:
    """Twenty requests without a token: one person is asked once, one token request is sent, all are served."""
    assert at_once(driver, issuer, auth, CROWD) == [200] * CROWD
    assert len(browser.urls) + len(prompts) == 1
    assert len(issuer.forms("/token")) == 1
    browser.leave()
    assert [page.status_code for page in browser.pages] == [200] * len(browser.urls)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_session_goes_on_by_itself(
    driver: str, issuer: Issuer, auth: TokenAuth, browser: Browser, prompts: Any
) -> None:
    """A token that is refused is renewed without anybody; a session that is over is opened anew, once."""
    assert at_once(driver, issuer, auth) == [200]
    issuer.good.clear()
    assert at_once(driver, issuer, auth, CROWD) == [200] * CROWD
    assert len(browser.urls) + len(prompts) == 1
    assert issuer.grants()["refresh_token"] == 1
    issuer.good.clear()
    issuer.refresh_tokens.clear()
    assert at_once(driver, issuer, auth, CROWD) == [200] * CROWD
    assert len(browser.urls) + len(prompts) == 2
    assert issuer.grants()["refresh_token"] == 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_who_has_said_no_is_not_asked_again(driver: str, issuer: Issuer, by_code: TokenAuth, browser: Browser) -> None:
    """Everybody gets the same answer, and so do those who come later, until the program says `warm`."""
    browser.errand = partial(issuer.log_in, error="access_denied", code=None)
    for _ in range(2):
        errors = at_once(driver, issuer, by_code, CROWD)
        assert all(isinstance(error, ReauthenticationRequired) for error in errors), errors
    assert {error.error for error in errors} <= {"access_denied", None}
    assert len(browser.urls) == 1
    browser.leave()
    assert "access_denied" in browser.pages[0].text
    browser.errand = issuer.log_in
    assert by_code.warm()
    assert at_once(driver, issuer, by_code) == [200]
    assert len(browser.urls) == 2


@pytest.mark.parametrize("driver", LOOPS)
def test_who_gives_up_waiting_does_not_end_the_login(
    driver: str, issuer: Issuer, by_code: TokenAuth, browser: Browser
) -> None:
    """A task that waits is cancelled: the login goes on, and serves whoever comes next."""
    browser.ready.clear()

    async def main() -> int:
        async with httpx.AsyncClient(transport=issuer.transport(), auth=by_code) as client:
            with anyio.move_on_after(0.3) as scope:
                await client.get(API)
            assert scope.cancelled_caught
            assert len(browser.urls) == 1
            browser.ready.set()
            with anyio.fail_after(LIMIT):
                return (await client.get(API)).status_code

    assert anyio.run(main, backend=driver) == 200
    assert len(browser.urls) == 1
    until(lambda: not browser.is_awaited())


@pytest.mark.parametrize("driver", LOOPS)
def test_a_program_that_ends_listens_no_more(
    driver: str, issuer: Issuer, by_code: TokenAuth, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop ends while somebody has yet to log in: it ends, and the port is free soon after."""
    monkeypatch.setattr("httpx_tokenflow._drivers.CLOSING_PATIENCE", 0.3)
    browser.ready.clear()

    async def main() -> None:
        async with httpx.AsyncClient(transport=issuer.transport(), auth=by_code) as client:
            with anyio.move_on_after(0.3):
                await client.get(API)
            assert await anyio.to_thread.run_sync(browser.is_awaited)

    began = time.monotonic()
    anyio.run(main, backend=driver)
    assert time.monotonic() - began < LIMIT
    until(lambda: not browser.is_awaited())
    assert not any(thread.name == "httpx_tokenflow" for thread in threading.enumerate() if not thread.daemon)


def test_control_c(issuer: Issuer, by_code: TokenAuth, browser: Browser) -> None:
    """A thread that waits for a person can be interrupted: nobody listens any more, and the next request asks anew."""
    if threading.current_thread() is not threading.main_thread():  # pragma: no cover - as the runner has it
        pytest.skip("only the main thread is interrupted")
    browser.ready.clear()

    def interrupt() -> None:
        until(browser.is_awaited)
        os.kill(os.getpid(), signal.SIGINT)

    hand = threading.Thread(target=interrupt, daemon=True)
    hand.start()
    with httpx.Client(transport=issuer.transport(), auth=by_code) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get(API)
        hand.join(LIMIT)
        assert not browser.is_awaited()
        browser.ready.set()
        assert client.get(API).status_code == 200
    assert len(browser.urls) == 2


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_tears_a_login_leaves_nothing(driver: str, issuer: Issuer, browser: Browser) -> None:
    """The program is interrupted while it opens the browser: nobody listens any more, whoever keeps the exception."""

    class Torn(BaseException):
        pass

    def interrupted(url: str) -> None:
        browser.urls.append(url)
        raise Torn

    grant = AuthorizationCode(issuer=ISSUER, client_id="c", open_browser=interrupted)
    auth = TokenAuth(grant, client=httpx.Client(transport=issuer.transport()))
    ask = auth.token if driver == "threads" else partial(anyio.run, auth.atoken, backend=driver)
    with pytest.raises((Torn, TokenEndpointUnavailable)) as caught:
        ask()
    until(lambda: not browser.is_awaited())
    assert caught.value.__traceback__ is not None  # held until here, with all frames


def test_the_answer_to_another_login_waits_for_ours(issuer: Issuer, by_code: TokenAuth, browser: Browser) -> None:
    """Whoever calls the loopback address with another state is sent away; the login goes on."""

    def errand(url: str) -> str:
        stray = httpx.get(issuer.log_in(url, state="x", code="STRAY"), timeout=LIMIT, trust_env=False)
        assert stray.status_code == 400
        assert "STRAY" not in stray.text
        return issuer.log_in(url)

    browser.errand = errand
    assert at_once("threads", issuer, by_code) == [200]
    assert [form["code"] for form in issuer.forms("/token")] != ["STRAY"]


@pytest.mark.parametrize("driver", LOOPS)
def test_callables_may_be_async(driver: str, issuer: Issuer, browser: Browser, prompts: list[Any]) -> None:
    """`open_browser` and `on_prompt` may be coroutine functions; from a sync client that is an error that says so."""
    issuer.device["interval"] = 0

    async def open_browser(url: str) -> None:
        await anyio.sleep(0.001)
        browser.open(url)

    async def on_prompt(prompt: Any) -> None:
        await anyio.sleep(0.001)
        prompts.append(prompt)

    for grant in (
        AuthorizationCode(issuer=ISSUER, client_id="c", open_browser=open_browser),
        DeviceCode(issuer=ISSUER, client_id="c", on_prompt=on_prompt),
    ):
        with httpx.Client(transport=issuer.transport()) as client:
            error = at_once("threads", issuer, TokenAuth(grant, client=client))[0]
            assert isinstance(error, ConfigurationError)
            assert "is async" in str(error)
            assert at_once(driver, issuer, TokenAuth(grant, client=client)) == [200]
    assert (len(browser.urls), len(prompts)) == (1, 1)


def test_a_token_is_as_old_as_its_own_request(issuer: Issuer, browser: Browser) -> None:
    """A person who takes longer than a token lives gets the whole of it: its age counts from the exchange."""
    now = [0.0]
    clock = Clock(monotonic=lambda: now[0], wall=lambda: now[0])

    def slowly(url: str) -> None:
        now[0] += 200.0
        browser.open(url)

    issuer.lifetime = 60
    grant = AuthorizationCode(issuer=ISSUER, client_id="c", open_browser=slowly)
    with httpx.Client(transport=issuer.transport()) as client:
        auth = TokenAuth(grant, client=client, policy=RenewalPolicy(clock=clock))
        assert auth.warm()
        assert auth.status.state == "fresh"
        assert auth.status.expires_in == 60.0


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_browser_that_is_waited_for(driver: str, issuer: Issuer) -> None:
    """A browser in the terminal: `open_browser` returns when it is closed again, long after it has come back to us."""
    pages = []

    def visit(url: str) -> bool:
        pages.append(httpx.get(issuer.log_in(url), timeout=LIMIT, trust_env=False).status_code)
        return True

    grant = AuthorizationCode(issuer=ISSUER, client_id="c", open_browser=visit)
    with httpx.Client(transport=issuer.transport()) as client:
        assert at_once(driver, issuer, TokenAuth(grant, client=client)) == [200]
    assert pages == [200]


# In two halves


class Halves:
    """start() and finish(), or their async twins."""

    def __init__(self, driver: str, issuer: Issuer) -> None:
        self.driver = driver
        self.transport = issuer.transport()

    def start(self, grant: AuthorizationCode, **options: Any) -> tuple[str, str]:
        return self._call(grant.start, grant.astart, **options)

    def finish(self, grant: AuthorizationCode, url: Any, state: str, **options: Any) -> Token:
        return self._call(grant.finish, grant.afinish, url, state, **options)

    def _call(self, sync: Any, twin: Any, *args: Any, **options: Any) -> Any:
        if self.driver == "threads":
            with httpx.Client(transport=self.transport) as client:
                return sync(*args, **{"client": client} | options)

        async def main() -> Any:
            async with httpx.AsyncClient(transport=self.transport) as client:
                return await twin(*args, **{"client": client} | options)

        return anyio.run(main, backend=self.driver)


@pytest.fixture(params=DRIVERS)
def halves(request: pytest.FixtureRequest, issuer: Issuer) -> Halves:
    return Halves(request.param, issuer)


@pytest.fixture
def web() -> AuthorizationCode:
    return AuthorizationCode(issuer=ISSUER, client_id="c", scope="openid a", redirect_uri=PAGE)


def test_the_two_halves(halves: Halves, issuer: Issuer, web: AuthorizationCode) -> None:
    """A URL to send the person to, and a token for where they come back; it serves requests, and is refreshed."""
    url, state = halves.start(web, authorization_extra={"login_hint": "ann"})
    asked = issuer.asked(url)
    assert (asked["redirect_uri"], asked["scope"], asked["login_hint"]) == (PAGE, "openid a", "ann")
    assert asked["nonce"]
    token = halves.finish(web, httpx.URL(issuer.log_in(url)), state)
    assert token.access_token in issuer.good
    assert token.id_token
    assert issuer.forms("/token")[0]["redirect_uri"] == PAGE
    auth = TokenAuth(web, token=token, client=httpx.Client(transport=issuer.transport()))
    assert at_once(halves.driver, issuer, auth) == [200]
    issuer.good.clear()
    assert at_once(halves.driver, issuer, auth) == [200]
    issuer.good.clear()
    issuer.refresh_tokens.clear()
    assert isinstance(at_once(halves.driver, issuer, auth)[0], ReauthenticationRequired)


def test_any_server_of_the_program_can_finish(halves: Halves, issuer: Issuer, web: AuthorizationCode) -> None:
    """All that is needed is in the state: another process with the same grant ends what this one began."""
    url, state = halves.start(web)
    other = AuthorizationCode(issuer=ISSUER, client_id="c", scope="openid a", redirect_uri=PAGE)
    assert halves.finish(other, issuer.log_in(url), state).access_token
    url, state = halves.start(web)
    behind_a_proxy = issuer.log_in(url).replace("https://app.example.com", "http://10.0.0.1:8000")
    assert halves.finish(other, behind_a_proxy, state).access_token


def test_what_the_state_is(web: AuthorizationCode, issuer: Issuer) -> None:
    """A string that goes into a cookie, with a version in it; the URL says of it no more than it must."""
    with httpx.Client(transport=issuer.transport()) as client:
        url, state = web.start(client=client)
        assert state.isascii()
        assert not set(state) & set("=+/;, ")
        assert len(state) < 1000
        facts = json.loads(base64.urlsafe_b64decode(state + "=="))
        assert facts["version"] == 1
        assert facts["verifier"] not in url
        for broken in (
            "", "x", state[:-9], None, 5, "[]",
            base64.urlsafe_b64encode(json.dumps({**facts, "version": 2}).encode()).decode(),
            base64.urlsafe_b64encode(json.dumps({**facts, "more": 1}).encode()).decode(),
            *(
                base64.urlsafe_b64encode(json.dumps({**facts, **wrong}).encode()).decode()
                for wrong in (
                    {"state": 5}, {"state": ""}, {"state": "x" * 42}, {"state": ["x"] * 43}, {"verifier": None},
                    {"verifier": ""}, {"nonce": 5}, {"nonce": None}, {"redirect_uri": 5}, {"grant": None},
                    {"issuer": 5}, {"issuer": False}, {"asked": 5}, {"asked": []},
                )
            ),
            base64.urlsafe_b64encode(b"5").decode(), base64.urlsafe_b64encode(b"[" * 9999).decode(),
        ):  # fmt: skip
            with pytest.raises(ConfigurationError, match="not what start"):
                web.finish(issuer.log_in(url), broken, client=client)
    assert issuer.forms("/token") == []


def test_nothing_is_sent_for_the_answer_to_another_login(
    halves: Halves, issuer: Issuer, web: AuthorizationCode
) -> None:
    """Another state, or none: not even the metadata is read. Another issuer, an error, no code: no token request."""
    url, state = halves.start(web)
    fresh = AuthorizationCode(issuer=ISSUER, client_id="c", redirect_uri=PAGE)
    before = len(issuer.seen)
    for answer in (issuer.log_in(halves.start(web)[0]), f"{PAGE}?code=c", PAGE, "https://[", "", f"{PAGE}?state="):
        began = len(issuer.seen)
        with pytest.raises(TokenRequestError, match="state is not that of this login"):
            halves.finish(fresh, answer, state)
        assert len(issuer.seen) == began
    assert len(issuer.seen) == before
    with pytest.raises(ConfigurationError, match="9207"):
        halves.finish(web, issuer.log_in(url, iss="https://evil.example"), state)
    with pytest.raises(ReauthenticationRequired) as caught:
        halves.finish(web, issuer.log_in(url, error="access_denied"), state)
    assert caught.value.error == "access_denied"
    assert issuer.forms("/token") == []
    assert halves.finish(web, issuer.log_in(url), state)


def test_a_callback_serves_once(halves: Halves, issuer: Issuer, web: AuthorizationCode) -> None:
    """A reload of the page: the server refuses the code, and that is said."""
    url, state = halves.start(web)
    callback = issuer.log_in(url)
    halves.finish(web, callback, state)
    with pytest.raises(ReauthenticationRequired) as caught:
        halves.finish(web, callback, state)
    assert caught.value.error == "invalid_grant"
    assert "SENTINEL" not in str(caught.value)


def test_a_login_is_finished_where_it_was_begun(issuer: Issuer, web: AuthorizationCode) -> None:
    """The state of another client, or for another server, sends nothing anywhere."""
    with httpx.Client(transport=issuer.transport()) as client:
        url, state = web.start(client=client)
        for other in (
            AuthorizationCode(issuer=ISSUER, client_id="d", redirect_uri=PAGE),
            AuthorizationCode(issuer="https://other.example.com", client_id="c", redirect_uri=PAGE),
            AuthorizationCode(f"{ISSUER}/authorize", f"{ISSUER}/token", client_id="c", redirect_uri=PAGE),
        ):
            with pytest.raises(ConfigurationError, match="another client, or at another server"):
                other.finish(issuer.log_in(url), state, client=client)
    assert issuer.forms("/token") == []


def test_several_issuers(issuer: Issuer) -> None:
    """With several issuers somebody has to say which; from then on it is that one, in another process as well."""
    several = {"issuer": [ISSUER, "https://other.example.com"], "client_id": "c", "redirect_uri": PAGE}
    grant, other = AuthorizationCode(**several), AuthorizationCode(**several)
    with httpx.Client(transport=issuer.transport()) as client:
        with pytest.raises(ConfigurationError, match="nobody has said"):
            grant.start(client=client)
        grant._server._chosen = ISSUER  # as an API's 401 would have led to
        url, state = grant.start(client=client)
        token = other.finish(issuer.log_in(url), state, client=client)
    assert token.extra["issuer"] == ISSUER
    fresh = AuthorizationCode(**several)
    for known in (True, False):
        given = token if known else Token.from_dict({**token.to_dict(), "extra": {}})
        auth = TokenAuth(fresh, token=given, client=httpx.Client(transport=issuer.transport()))
        issuer.good.clear()
        before = len(issuer.forms("/token"))
        if known:
            assert at_once("threads", issuer, auth) == [200]
        else:
            assert isinstance(at_once("threads", issuer, auth)[0], ConfigurationError)
        assert len(issuer.forms("/token")) == before + known


def test_what_start_needs(issuer: Issuer, web: AuthorizationCode) -> None:
    """A page at a port that is known, an authorization endpoint, and a key that the other half knows as well."""
    with httpx.Client(transport=issuer.transport()) as client:
        for uri in ("http://127.0.0.1:0/callback", "http://[::1]:0", "http://localhost:0/"):
            with pytest.raises(ConfigurationError, match="port"):
                AuthorizationCode(issuer=ISSUER, client_id="c", redirect_uri=uri).start(client=client)
        with pytest.raises(ConfigurationError, match=r"DPoP\(key\)"):
            web.start(client=client, dpop=DPoP())
        with pytest.raises(ConfigurationError, match="sends itself"):
            web.start(client=client, authorization_extra={"state": "x"})
        assert issuer.seen == []
        url, _ = AuthorizationCode(issuer=ISSUER, client_id="c", redirect_uri="http://127.0.0.1:8123/cb").start(
            client=client
        )
        assert issuer.asked(url)["redirect_uri"] == "http://127.0.0.1:8123/cb"
        del issuer.facts["authorization_endpoint"]
        lacking = AuthorizationCode(issuer=ISSUER, client_id="c", redirect_uri=PAGE)
        with pytest.raises(ConfigurationError, match="authorization_endpoint"):
            lacking.start(client=client)


def test_halves_with_a_key(halves: Halves, issuer: Issuer, web: AuthorizationCode) -> None:
    """RFC 9449 §10: the request names the key, and the exchange is by it."""
    key = DPoP(_pem())
    url, state = halves.start(web, dpop=key)
    assert issuer.asked(url)["dpop_jkt"] == key.thumbprint
    with pytest.raises(ConfigurationError, match="bearer token although"):  # this server knows no DPoP
        halves.finish(web, issuer.log_in(url), state, dpop=key)
    proof = issuer.seen[-1][2]
    proof = next(value for name, value in proof.items() if name.lower() == "dpop")
    assert jwt.get_unverified_header(proof)["typ"] == "dpop+jwt"


def _pem() -> str:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_halves_out_of_reach(halves: Halves, issuer: Issuer, web: AuthorizationCode) -> None:
    """What a transport raises is an error of ours, in either half; a lost answer is not asked for again."""
    issuer.fail("/.well-known/openid-configuration", httpx.ConnectError("x"))
    with pytest.raises(TokenEndpointUnavailable):
        halves.start(web)
    par = AuthorizationCode(issuer=ISSUER, client_id="c", redirect_uri=PAGE, par=True)
    issuer.fail("/par", httpx.ReadTimeout("x"))
    with pytest.raises(TokenEndpointUnavailable):
        halves.start(par)
    url, state = halves.start(web)
    issuer.fail("/token", httpx.ReadTimeout("x"))
    with pytest.raises(TokenEndpointUnavailable) as caught:
        halves.finish(web, issuer.log_in(url), state)
    assert caught.value.outcome == "unknown"
    assert len(issuer.forms("/token")) == 1
