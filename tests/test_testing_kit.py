"""The test kit: handlers for mocks, the clock, the asserts, and finding secrets where they do not belong."""

import base64
import json
import logging
import logging.config
import re
import ssl
import threading
import warnings
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
import respx
from hypothesis import given, settings
from hypothesis import strategies as st

from httpx_tokenflow import ClientCredentials, RenewalPolicy, TokenAuth
from httpx_tokenflow._attempt import unavailable
from httpx_tokenflow.testing import (
    Answer,
    DropAfter,
    DropBefore,
    LeakWatch,
    ManualClock,
    Sandbox,
    Silent,
    Slow,
    Status,
    Truncated,
    assert_faults_used,
    assert_nothing_leaked,
    assert_token_requests,
)
from httpx_tokenflow.testing._leaks import Finder, secrets_of

SECRET = "Zx81q9TnLk42vB7eRw05"
LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
FORM = {"grant_type": "client_credentials"}


@pytest.fixture
def sandbox():
    return Sandbox(clients={"client": SECRET})


def ask_for_token(client, url="https://login.example.com/oauth2/v2.0/token"):
    return client.post(url, data=FORM, auth=("client", SECRET))


# Handlers


@LIBRARIES
def test_a_handler_stands_for_an_endpoint(sandbox, library):
    """A handler for "token" answers at any path, with the library's own response, and is counted."""
    with library.Client(transport=library.MockTransport(sandbox.handler("token"))) as client:
        answer = ask_for_token(client)
        assert isinstance(answer, library.Response)
        assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer")
        assert client.get("https://login.example.com/token").status_code == 405
        assert ask_for_token(client, "https://login.example.com/api/token").json()["token_type"] == "Bearer"
    assert (sandbox.token_requests, sandbox.api_requests) == (2, 0)
    assert sandbox.seen[0].path == "/oauth2/v2.0/token"


@pytest.mark.parametrize("on", [None, "api"])
def test_a_handler_for_the_api(sandbox, on):
    """A handler for "api" guards any path, and says that path; one for nothing goes by the path."""
    token = sandbox.login("ann")["access_token"]
    with httpx.Client(transport=httpx.MockTransport(sandbox.handler(on))) as client:
        headers = {"Authorization": f"Bearer {token}"}
        answer = client.get("https://api.example.com/orders", headers=headers)
        assert answer.status_code == (404 if on is None else 200)
        assert answer.json()["path"] == "/orders"
        assert client.get("https://api.example.com/api/x", headers=headers).json()["subject"] == "ann"
        assert client.get("https://api.example.com/orders").status_code == (404 if on is None else 401)
    assert sandbox.api_requests == (1 if on is None else 3)


@pytest.mark.parametrize("on", ["login", "refresh", "logout", "jwks", "metadata", "introspect", "revoke"])
def test_a_handler_for_each_endpoint(sandbox, on):
    """Each endpoint can be stood for, at a path of the test's."""
    login = sandbox.login()
    with httpx.Client(transport=httpx.MockTransport(sandbox.handler(on))) as client:
        url = "https://x.example/some/where"
        if on in {"jwks", "metadata"}:
            answer = client.get(url)
        elif on in {"introspect", "revoke"}:
            answer = client.post(url, data={"token": login["access_token"]}, auth=("client", SECRET))
        elif on == "logout":
            answer = client.post(url, json={}, headers={"Authorization": f"Bearer {login['access_token']}"})
        else:
            answer = client.post(url, json={"username": "user", "password": "password", "refreshToken": "rt-x"})
    assert answer.status_code == {"logout": 204, "refresh": 401}.get(on, 200)


@LIBRARIES
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_faults_through_a_handler(sandbox, library, kind):
    """A fault raises the library's own error through a handler, sync or async, and is used up."""
    sandbox.script(DropBefore(), DropAfter(), Truncated(), Silent(), Slow(5), Status(503))
    errors = [library.RemoteProtocolError] * 3 + [library.ReadTimeout] * 2
    url = "https://login.example.com/x"

    def by_thread():
        with library.Client(transport=library.MockTransport(sandbox.handler("token")), timeout=0.01) as client:
            for error in errors:
                with pytest.raises(error):
                    client.post(url, data=FORM)
            return client.post(url, data=FORM).status_code

    async def by_task():
        transport = library.MockTransport(sandbox.ahandler("token"))
        async with library.AsyncClient(transport=transport, timeout=0.01) as client:
            for error in errors:
                with pytest.raises(error):
                    await client.post(url, data=FORM)
            return (await client.post(url, data=FORM)).status_code

    assert (by_thread() if kind == "sync" else anyio.run(by_task)) == 503
    assert sandbox.unused_faults == {}
    assert sandbox.token_requests == 6


def test_an_async_handler_lets_others_run(sandbox):
    """While an async handler is slow, other tasks go on."""
    order = []

    async def slowly():
        async with httpx.AsyncClient(transport=httpx.MockTransport(sandbox.ahandler("token"))) as client:
            await ask_for_token(client)
            order.append("slow")

    async def main():
        sandbox.script(Slow(0.05))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slowly)
            await anyio.sleep(0.01)
            order.append("other")

    anyio.run(main)
    assert order == ["other", "slow"]


def test_a_handler_with_an_async_body(sandbox):
    """An async handler reads a body that comes in pieces."""

    async def body():
        yield b"12"
        yield b"3"

    async def main():
        async with httpx.AsyncClient(transport=httpx.MockTransport(sandbox.ahandler())) as client:
            return (await client.post("https://x.example/open/x", content=body())).json()["received"]

    assert anyio.run(main) == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
@LIBRARIES
def test_a_request_of_a_class_of_its_own(sandbox, library, kind):
    """A subclass of a library's Request is answered with that library's response; anything else is an error."""
    own = type("OwnRequest", (library.Request,), {"__module__": __name__})
    request = own("GET", "https://x.example/open/x")
    answer = sandbox.handler()(request) if kind == "sync" else anyio.run(sandbox.ahandler(), request)
    assert isinstance(answer, library.Response)
    with pytest.raises(TypeError, match="requests of httpx or httpx2, not OwnAnswer"):
        sandbox.handler()(type("OwnAnswer", (), {"__module__": library.__name__})())


def test_a_handler_for_nothing_there(sandbox):
    """An endpoint that does not exist is an error when the handler is made."""
    for make in (sandbox.handler, sandbox.ahandler):
        with pytest.raises(ValueError, match='"token" or "api", not \'tokens\''):
            make("tokens")


# The clock


def test_the_clock_moves_by_hand_only():
    """The clock stands still until it is advanced, and never goes back."""
    clock = ManualClock(100)
    assert (clock(), clock.clock.wall(), clock.clock.monotonic()) == (100, 100, 100)
    clock.advance(2.5)
    assert (clock(), clock.clock.wall(), clock.clock.monotonic()) == (102.5, 102.5, 102.5)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="seconds from 0 on"):
            clock.advance(wrong)
    assert repr(clock) == "<ManualClock at 102.5>"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sleep_moves_the_clock(backend):
    """Who sleeps by the clock moves it and takes no time; an async sleep lets others run."""
    clock = ManualClock(0)
    clock.clock.sleep(3600)

    async def main():
        others = []

        async def other():
            others.append("ran")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            for _ in range(100):
                await clock.clock.asleep(72)
            assert others  # before this task is done with
        return others

    assert anyio.run(main, backend=backend) == ["ran"]
    assert (clock(), clock.slept) == (10800, [3600, *[72] * 100])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sleeps_of_one_moment_run_side_by_side(backend):
    """Tasks that begin to sleep at one moment, or a turn later, move the clock to the end of the longest."""
    clock = ManualClock(100)

    async def sleep(number):
        for _ in range(number % 4):
            await anyio.lowlevel.checkpoint()
        await clock.clock.asleep(0.2 if number else 0.5)

    async def main():
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(sleep, number)
        await clock.clock.asleep(1)

    anyio.run(main, backend=backend)
    assert (clock(), len(clock.slept)) == (101.5, 21)


def test_a_sleep_that_is_over():
    """Who sleeps while the test advances the clock beyond the end of it moves it no further."""
    clock = ManualClock(0)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.clock.asleep, 5)
            await anyio.lowlevel.checkpoint()
            clock.advance(60)

    anyio.run(main)
    assert clock() == 60


def test_threads_move_the_clock():
    """No second is lost when threads sleep by the clock at once."""
    clock = ManualClock(0)
    threads = [threading.Thread(target=lambda: [clock.advance(1) for _ in range(2000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == 16_000


def test_the_clock_rules_an_auth_and_its_server():
    """An hour passes for TokenAuth and for the sandbox at once, and a retry's pause takes no time."""
    clock = ManualClock()
    sandbox = Sandbox(clock=clock, clients={"client": SECRET})
    grant = ClientCredentials("https://sandbox/token", client_id="client", client_secret=SECRET)
    with (
        httpx.Client(transport=sandbox.transport()) as tokens,
        TokenAuth(grant, client=tokens, policy=RenewalPolicy(clock=clock.clock)) as auth,
        httpx.Client(transport=sandbox.transport(), auth=auth) as client,
    ):
        assert client.get("https://sandbox/api/x").status_code == 200
        clock.advance(3601)
        sandbox.script(Status(503), Status(503))
        assert client.get("https://sandbox/api/x").status_code == 200
    assert (sandbox.token_requests, sandbox.api_refused) == (4, 0)
    assert len(clock.slept) == 2


# The asserts


def test_token_requests_are_counted(sandbox):
    """The right number of token requests passes, another fails with a list of those that came, without secrets."""
    assert_token_requests(sandbox, 0)
    sandbox.script(DropBefore(), Status(503))
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        with pytest.raises(httpx.RemoteProtocolError):
            ask_for_token(client, "/token")
        ask_for_token(client, "/token")
        ask_for_token(client, "/token")
    assert_token_requests(sandbox, 3)
    with pytest.raises(AssertionError) as caught:
        assert_token_requests(sandbox)
    lines = str(caught.value).splitlines()
    assert lines[0] == "expected one token request, and 3 came:"
    ends = [
        "client_credentials, answered nothing",
        "client_credentials, answered 503",
        "client_credentials, answered 200",
    ]
    assert [line.partition(": ")[2] for line in lines[1:]] == ends
    assert SECRET not in str(caught.value)


def test_no_token_requests_at_all(sandbox):
    """When none came the sentence says so."""
    with pytest.raises(AssertionError, match=r"\Aexpected 2 token requests, and none came\Z"):
        assert_token_requests(sandbox, 2)


def test_unused_faults(sandbox):
    """A fault that has not happened is told, with its endpoint; all used is fine."""
    assert_faults_used(sandbox)
    sandbox.script(Status(503), Slow(1))
    sandbox.script(DropBefore(), on="jwks")
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        ask_for_token(client, "/token")
    with pytest.raises(AssertionError) as caught:
        assert_faults_used(sandbox)
    assert str(caught.value).splitlines()[1:] == ['  on="jwks": DropBefore()', '  on="token": Slow(seconds=1)']


# Leaks

FORMS = {
    "plain": lambda secret: secret,
    "part": lambda secret: f"{secret[3:15]}…",
    "middle": lambda secret: f"tok={secret[4:16]}",
    "percent": lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 after one": lambda secret: base64.b64encode(b"x" + secret.encode()).decode(),
    "base64 after two": lambda secret: base64.b64encode(b"xy" + secret.encode()).decode(),
    "base64 in the middle": lambda secret: base64.b64encode(f'{{"t": "{secret}"}}'.encode()).decode(),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "json": lambda secret: json.dumps({"t": secret}),
    "repr of bytes": lambda secret: repr(secret.encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_each_form(sandbox, form):
    """A secret is found whole, in part and encoded, and the message shows none of it."""
    text = f"before {FORMS[form](SECRET)} after"
    with pytest.raises(AssertionError) as caught:
        assert_nothing_leaked(sandbox, "nothing here", text)
    message = str(caught.value)
    assert "the secret of client 'client'" in message
    assert "[here]" in message
    finder = Finder(secrets_of(sandbox))
    assert not finder.find(message)


@pytest.mark.parametrize("secret", ["p@ss w/rd+ä=%20\\\"'", "ümläut-gehéimnis", "with\ttab and\nline"])
@pytest.mark.parametrize(
    "form",
    [str, repr, json.dumps, lambda secret: quote(secret, safe=""), lambda secret: base64.b64encode(secret.encode())],
)
def test_an_awkward_secret_is_found(secret, form):
    """A secret with characters that are escaped is found however it was written."""
    with pytest.raises(AssertionError):
        assert_nothing_leaked(Sandbox(clients={"client": secret}), form(secret))


SIGNS = 'vEry/s"c+\\t=&"r<1\\3"4/x'


def small_percents(secret):
    return "".join(part if len(part) == 1 else part.lower() for part in re.findall("%..|.", quote(secret, safe="")))


def all_escaped(secret):
    return "".join(letter if letter.isalnum() else f"\\u{ord(letter):04x}" for letter in secret)


SPELLINGS = {
    "percent, small": small_percents,
    "percent, without the slash": lambda secret: quote(secret, safe="/").lower().replace("very", "vEry"),
    "JSON of PHP": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "JSON of .NET": lambda secret: re.sub(
        r'\\"|[+<&]', lambda found: f"\\u{ord(found[0][-1]):04X}", json.dumps(secret)
    ),
    "JSON, all escaped": all_escaped,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_found_however_others_write_it(spelling):
    """Percent-encoding with small letters and JSON that escapes more than it must hide no secret, nor any part."""
    written = SPELLINGS[spelling](SIGNS)
    assert SIGNS not in written
    (leak,) = Finder({SIGNS: "it"}).find(f"a {written} z")
    assert re.fullmatch(r'it( \([a-z-]+\))?: a "?\[here\]"? z', leak)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40), st.data())
def test_any_part_in_base64_is_found(secret, data):
    """Wherever in a longer base64 text a secret begins, it is found (three bytes of it make four letters)."""
    before = data.draw(st.binary(max_size=5))
    after = data.draw(st.binary(max_size=5))
    encoded = data.draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))(before + secret.encode() + after)
    assert Finder({secret: "it"}).find(encoded.decode())


def test_words_are_no_leak():
    """Names, words, public things and the header of a JWT are no leak, and neither are short secrets."""
    sandbox = Sandbox()
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        client.post("/session/login", json={"username": "user", "password": "password"})
    assert_nothing_leaked(sandbox, "POST /session/login with username and password")
    token = sandbox.mint("ann")
    header = token.partition(".")[0]
    keys = json.dumps(sandbox._keys.jwks())
    assert_nothing_leaked(
        sandbox, f"the client_secret of client is a secret, {header}, {keys}", sandbox, {"a": sandbox.seen}
    )


def secrets_sent(sandbox):
    """Send one secret of each kind, and give them all back."""
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        names = ["assertion", "client_assertion", "code", "code_verifier", "subject_token", "actor_token", "password"]
        sent = {name: f"{name[:4].upper()}-{number}-4fR7tYh2Kq" for number, name in enumerate(names)}
        client.post("/token", data=sent)
        client.post("/session/login", json={"password": "JSON-4fR7tYh2Kq"}, headers={"X-API-Key": "HEAD-4fR7tYh2Kq"})
        client.get("/open/x?api_key=QUERY-4fR7tYh2Kq", headers={"Authorization": "Bearer BEARER-4fR7tYh2Kq"})
        client.get("/open/x", headers={"DPoP": "PROOF-4fR7tYh2Kq"})
        client.post("/token", data=FORM, auth=("other", "BASIC-4fR7tYh2Kq"))
        others = ["JSON", "HEAD", "QUERY", "BEARER", "PROOF", "BASIC"]
        return [*sent.values(), *(f"{name}-4fR7tYh2Kq" for name in others)]


def test_what_was_sent_is_known(sandbox):
    """Every kind of secret that reached the sandbox is looked for, whoever made it."""
    for secret in secrets_sent(sandbox):
        with pytest.raises(AssertionError):
            assert_nothing_leaked(sandbox, f"x {secret} y")


def test_what_others_call_a_code_is_none(sandbox):
    """A voucher's code, a password for something else and a cookie of another server are no secrets of the sandbox."""
    words = {"code": "SUMMER-SALE-2024", "token": "reading-token-7", "password": "correct horse battery"}
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        client.post("/api/vouchers", json=words, headers={"Cookie": "theme=darkmode2; lang=nl"})
        client.get("/open/countries", params=words)
        client.get("/jwks", params=words)
    assert_nothing_leaked(sandbox, *words.values(), "darkmode2")


def test_the_cookies_of_a_session_are_known(sandbox):
    """What the sandbox set as a cookie is looked for."""
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        client.post("/session/login?cookies=both", json={"username": "user", "password": "password"})
        values = list(dict(client.cookies).values())
    assert len(values) == 2
    for value in values:
        with pytest.raises(AssertionError):
            assert_nothing_leaked(sandbox, value)


def test_what_was_sent_elsewhere_by_a_handler_is_known(sandbox):
    """A password that is sent to an endpoint is looked for, wherever a handler has the endpoint."""
    with httpx.Client(transport=httpx.MockTransport(sandbox.handler("login"))) as client:
        client.post("https://x.example/sign-in", json={"username": "x", "password": "HANDLER-4fR7"})
    assert [seen.endpoint for seen in sandbox.seen] == ["login"]
    with pytest.raises(AssertionError):
        assert_nothing_leaked(sandbox, "x HANDLER-4fR7")


def test_what_was_issued_is_known(sandbox):
    """Tokens of every origin, a fault's literal ones too, passwords, API keys and private keys are looked for."""
    sandbox.accounts["ann"], sandbox.api_keys = "ann's password", {"an API key 123"}
    login, minted, foreign = sandbox.login(), sandbox.mint(), sandbox.mint(iss="https://x")
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        sandbox.script(Answer({"access_token": "LITERAL-4fR7tYh2Kq", "id_token": "IDENTITY-4fR7tYh2Kq"}))
        ask_for_token(client, "/token")
        issued = ask_for_token(client, "/token").json()["access_token"]
    sandbox.reset_counters()
    from httpx_tokenflow.testing._keys import _key

    d = json.loads(_key(0).to_json())["d"]
    raw = base64.b64encode(b"xx" + base64.urlsafe_b64decode(d + "==")).decode()
    for secret in [*login.values(), minted, foreign, issued, "ann's password", "an API key 123", d, raw[80:120]]:
        if isinstance(secret, str) and secret != "Bearer":
            with pytest.raises(AssertionError):
                assert_nothing_leaked(sandbox, f"x {secret} y")


def test_a_token_in_anothers_name_is_known(sandbox):
    """A token minted with another issuer is looked for, though it is not this server's."""
    foreign = sandbox.mint(iss="https://x")
    with pytest.raises(AssertionError):
        assert_nothing_leaked(sandbox, foreign)


def test_a_literal_answer_is_known(sandbox):
    """A token that a fault's answer brought is looked for."""
    sandbox.script(Answer({"access_token": "LITERAL-4fR7tYh2Kq", "id_token": "IDENTITY-4fR7tYh2Kq"}))
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client:
        ask_for_token(client, "/token")
    for text in ("LITERAL-4fR7tYh2Kq", "IDENTITY-4fR7tYh2Kq"):
        with pytest.raises(AssertionError):
            assert_nothing_leaked(sandbox, text)


def leaky_error():
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise KeyError("fine") from error
    except KeyError as error:
        return error


class Leaky:
    def __init__(self, **shown):
        self.__dict__ |= shown

    def __repr__(self):
        return f"<Leaky {self.__dict__.get('repr')}>"

    def __str__(self):
        return str(self.__dict__.get("str"))


def attributed():
    error = ValueError("fine")
    error.request = {"body": SECRET}
    return error


def noted():
    error = ValueError("fine")
    error.add_note(f"sent {SECRET}")
    return error


@pytest.mark.parametrize(
    "thing",
    [
        SECRET.encode(),
        bytearray(SECRET.encode()),
        leaky_error(),
        attributed(),
        noted(),
        Leaky(repr=SECRET),
        Leaky(str=SECRET),
        {"a": {"b": SECRET}},
        [Leaky(repr=SECRET)],
        httpx.Headers({"x": SECRET}),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_things_are_looked_at(sandbox, thing):
    """Bytes, an error's cause, attributes and notes, and the repr and the str of anything are looked at."""
    with pytest.raises(AssertionError, match="the secret of client"):
        assert_nothing_leaked(sandbox, thing)


def test_a_message_about_many_leaks_is_short(sandbox):
    """Of many leaks twenty are told, each once."""
    with pytest.raises(AssertionError) as caught:
        assert_nothing_leaked(sandbox, *[f"{number} {SECRET}" for number in range(30)], f"1 {SECRET}")
    assert str(caught.value).splitlines()[-1] == "  and 10 more"
    assert len(str(caught.value).splitlines()) == 22


# Watching


@pytest.fixture
def watching(sandbox):
    watch = LeakWatch(sandbox)
    watch.start()
    yield watch
    watch.stop()


class Untouched:
    """What a watch must leave as it was."""

    METHODS = ("isEnabledFor", "makeRecord", "handle", "callHandlers")

    def __init__(self):
        self.wrapped = [getattr(logging.Logger, name) for name in self.METHODS] + [warnings._showwarnmsg]

    def check(self):
        assert Untouched().wrapped == self.wrapped


@pytest.fixture
def as_it_was():
    """Logging as it was, after a test that configures it."""
    root, strict = logging.root, logging.getLogger("kit.strict")
    before = root.handlers[:], root.level
    loggers = {one: one.disabled for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)}
    yield
    logging.disable(logging.NOTSET)
    for one, is_disabled in loggers.items():
        one.disabled = is_disabled
    strict.setLevel(logging.NOTSET)
    strict.disabled, strict.propagate = False, True
    root.handlers[:] = before[0]
    root.setLevel(before[1])


QUIET = {"version": 1, "handlers": {"no": {"class": "logging.NullHandler"}}, "root": {"handlers": ["no"], "level": 30}}
RECONFIGURED = {
    "nothing": lambda _: None,
    "a level": lambda logger: logger.setLevel(logging.ERROR),
    "the root's level": lambda _: logging.root.setLevel(logging.ERROR),
    "disable": lambda _: logging.disable(logging.CRITICAL),
    "disabled": lambda logger: setattr(logger, "disabled", True),
    "propagate": lambda logger: setattr(logger, "propagate", False),
    "basicConfig": lambda _: logging.basicConfig(force=True, handlers=[logging.NullHandler()]),
    "dictConfig": lambda _: logging.config.dictConfig(QUIET),  # disables existing loggers
}


@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("when", ["before", "within"])
@pytest.mark.parametrize("how", RECONFIGURED)
def test_every_logger_is_heard(sandbox, how, when):
    """A record at DEBUG is heard whatever is configured, before the watch or within; afterwards all is as it was."""
    logger, untouched = logging.getLogger("kit.strict"), Untouched()
    watch = LeakWatch(sandbox)
    if when == "within":
        watch.start()
    RECONFIGURED[how](logger)
    watch.start() if when == "before" else None
    logger.debug("token %s", SECRET)
    watch.stop()
    untouched.check()
    logger.error("token %s", SECRET + "later")
    problem = watch.problem()
    assert problem is not None
    assert "the log of 'kit.strict' at DEBUG" in problem
    assert "ERROR" not in problem
    assert SECRET not in problem


@pytest.mark.usefixtures("as_it_was")
def test_handlers_get_what_they_always_get(sandbox):
    """A watch lets no record reach a handler that its logger's level keeps from it, and loses none."""
    logger, got = logging.getLogger("kit.strict"), []
    logger.setLevel(logging.WARNING)
    handler = logging.Handler()
    handler.emit = lambda record: got.append(record.getMessage())
    logger.addHandler(handler)
    watch = LeakWatch(sandbox)
    watch.start()
    try:
        logger.info("below")
        logger.warning("above")
        logger.handle(logging.makeLogRecord({"name": "kit.strict", "levelno": logging.DEBUG, "msg": "handed over"}))
        logger.log(5, "far below")
    finally:
        watch.stop()
        logger.removeHandler(handler)
    assert got == ["above", "handed over"]


def test_a_logger_class_of_its_own(sandbox):
    """A logger with an isEnabledFor of its class is heard, and its handlers get what they always get."""
    got = []

    class Own(logging.Logger):
        def isEnabledFor(self, level):  # noqa: N802 - logging's name
            return super().isEnabledFor(level)

        def emit(self, record):
            got.append(record.getMessage())

    logger, handler = Own("own", logging.WARNING), logging.Handler()
    handler.emit = logger.emit
    logger.addHandler(handler)
    watch = LeakWatch(sandbox)
    watch.start()
    logger.debug(SECRET)
    logger.warning("fine")
    watch.stop()
    assert got == ["fine"]
    assert "the log of 'own' at DEBUG" in watch.problem()


@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
def test_a_redacting_filter_redacts(sandbox, level):
    """What a logger's own filter takes out, or keeps back, is not heard, whether the record is handed on or not."""
    logger = logging.getLogger("kit.strict")
    logger.setLevel(level)

    def redact(record):
        record.args = ("[redacted]",)
        return record.msg != "kept back"

    logger.addFilter(redact)
    watch = LeakWatch(sandbox)
    watch.start()
    try:
        logger.info("token %s", SECRET)
        logger.info("kept back", extra={"body": SECRET})
    finally:
        watch.stop()
        logger.removeFilter(redact)
    assert watch.problem() is None


@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("what", ["a filter", "a factory", "extra="])
def test_a_record_that_breaks_breaks_nothing(sandbox, what):
    """What raises over a record that is made for the watch alone does not reach the program; over others it does."""
    logger, factory = logging.getLogger("kit.broken"), logging.getLogRecordFactory()
    logger.setLevel(logging.INFO)

    def raising(*_args, **_more):
        raise LookupError("no context here")

    if what == "a filter":
        logger.addFilter(raising)
    extra = {"message": "mine"} if what == "extra=" else None
    watch = LeakWatch(sandbox)
    watch.start()
    try:
        if what == "a factory":
            logging.setLogRecordFactory(raising)
        logger.debug("not asked for", extra=extra)
        with pytest.raises(LookupError):  # KeyError is one
            logger.info("asked for", extra=extra)
    finally:
        logging.setLogRecordFactory(factory)
        watch.stop()
        logger.removeFilter(raising)
    assert watch.problem() is None


def test_watches_of_one_time(sandbox):
    """Two watches hear the same, and each stops by itself; one that has not begun may be stopped."""
    untouched, one, two = Untouched(), LeakWatch(sandbox), LeakWatch(sandbox)
    one.stop()
    one.start()
    two.start()
    logging.getLogger("kit").debug(SECRET)
    one.stop()
    logging.getLogger("kit").error(SECRET)
    two.stop()
    untouched.check()
    assert "ERROR" not in one.problem()
    assert "ERROR" in two.problem()


def test_a_wrapper_around_the_watch(sandbox, monkeypatch):
    """Who wraps a method of logging within a watch keeps the wrapper, and the watch hears nothing after its end."""
    watch = LeakWatch(sandbox)
    with monkeypatch.context() as patch:
        patch.setattr(logging.Logger, "handle", logging.Logger.handle)  # so that it is put back in any case
        watch.start()
        inner = logging.Logger.handle
        logging.Logger.handle = lambda self, record: inner(self, record)  # noqa: PLW0108 - a wrapper
        logging.getLogger("kit").debug("x")
        watch.stop()
        logging.getLogger("kit").error(SECRET)
    assert watch.problem() is None


def test_a_record_counts_with_all_that_it_has(watching):
    """A record's traceback and its extra members are heard."""
    logger = logging.getLogger("kit")
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("fine")
    assert "ERROR" in watching.problem()
    logger.debug("fine", extra={"body": SECRET})
    assert "DEBUG" in watching.problem()
    logger.debug("fine")
    assert watching.problem() is None


def test_a_broken_record_breaks_nothing(watching, capsys):
    """A record that cannot be formatted is reported as logging reports it, and no error."""
    watching._handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    assert watching.problem() is None
    assert "Logging error" in capsys.readouterr().err


def test_loggers_can_be_passed_over(watching):
    """A logger that is ignored, with those below it, may say what it likes; one with a similar name may not."""
    watching.ignore("hpack")
    for name in ("hpack", "hpack.table"):
        logging.getLogger(name).debug(SECRET)
    assert watching.problem() is None
    logging.getLogger("hpackish").debug(SECRET)
    assert watching.problem() is not None


def test_warnings_are_heard(sandbox):
    """A warning is heard, also one that somebody records, and goes where it would have gone."""
    with warnings.catch_warnings(record=True) as gone:
        warnings.simplefilter("always")
        watch = LeakWatch(sandbox)
        watch.start()
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            warnings.warn(f"recorded {SECRET}", UserWarning, stacklevel=1)
        warnings.warn(f"old {SECRET}", UserWarning, stacklevel=1)
        watch.stop()
        warnings.warn(f"later {SECRET}", UserWarning, stacklevel=1)
    assert watch.problem().splitlines()[1:] == [
        f"  a UserWarning: the secret of client 'client': {word} [here]" for word in ("recorded", "old")
    ]
    assert (len(gone), len(recorded)) == (2, 1)


def test_a_watch_checks_when_asked(watching):
    """A check looks at what it is given and at what was heard, and what was told once is not told again."""
    logging.getLogger("kit").debug("x %s", SECRET)
    with pytest.raises(AssertionError, match="the log of 'kit'"):
        watching.check()
    watching.check("fine")
    with pytest.raises(AssertionError, match="text: "):
        watching.check(SECRET)


def test_a_watch_knows_more(watching):
    """Secrets of the test's own and of another sandbox are looked for; one too short is an error."""
    other = Sandbox(clients={"x": "other-4fR7tYh2Kq"})
    watching.check("mine-4fR7tYh2Kq", "other-4fR7tYh2Kq")
    watching.add("mine-4fR7tYh2Kq")
    watching.watch(other)
    for text in ("mine-4fR7tYh2Kq", "other-4fR7tYh2Kq"):
        with pytest.raises(AssertionError):
            watching.check(text)
    with pytest.raises(ValueError, match="8 characters at least"):
        watching.add("short")
    assert SECRET not in repr(watching)


# With our own auth: what all of it is for


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_our_own_auth_leaks_nothing(kind):
    """Fetching, a 401 and failing leave no secret in the log at DEBUG, the errors or the reprs."""
    sandbox = Sandbox(clients={"client": SECRET})
    watch = LeakWatch(sandbox)
    watch.start()
    grant = ClientCredentials("https://login.example.com/t", client_id="client", client_secret=SECRET)
    with respx.mock() as router:
        router.post("https://login.example.com/t").mock(side_effect=sandbox.handler("token"))
        router.get("https://api.example.com/x").mock(side_effect=sandbox.handler("api"))

        def by_thread():
            with TokenAuth(grant) as auth, httpx.Client(auth=auth) as client:
                one = client.get("https://api.example.com/x")
                sandbox.revoke_access_tokens()
                return [one, client.get("https://api.example.com/x"), auth]

        async def by_task():
            async with TokenAuth(grant) as auth, httpx.AsyncClient(auth=auth) as client:
                one = await client.get("https://api.example.com/x")
                sandbox.revoke_access_tokens()
                return [one, await client.get("https://api.example.com/x"), auth]

        one, two, auth = by_thread() if kind == "sync" else anyio.run(by_task)
    assert (one.status_code, two.status_code) == (200, 200)
    assert_token_requests(sandbox, 2)
    watch.stop()
    watch.check(one, two, auth, one.request.headers)


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ReadTimeout])
def test_causes_that_go_in_a_circle_end(kind):
    """An error whose cause has the error as its own cause, as respx raises them, is judged all the same."""
    error, between = kind("x"), ValueError("between")
    error.__cause__, between.__cause__ = between, error
    judged = unavailable(error)
    assert judged.outcome == ("not sent" if kind is httpx.ConnectError else "unknown")
    between.__cause__ = ssl.SSLError("x")
    assert ("certificate" in str(unavailable(error))) is (kind is httpx.ConnectError)
