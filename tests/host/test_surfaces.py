"""What others get to see: no secret anywhere but on the wire, and the caller's own things as the caller left them.

F18 and F19 (hooks, cookies, history, logs, reprs, errors, pickles), F45 to F47, F54, and requests that are not ours.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import logging
import pickle
import traceback
from urllib.parse import quote, quote_plus

import pytest
from host.hands import KEY, TLS, UNFINISHED, chain, fresh_sandbox, secrets_of

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ClientSecretPost,
    ConfigurationError,
    InvalidCredential,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
)
from httpx_tokenflow._entries import Entry
from httpx_tokenflow.testing import Answer, DropAfter, DropBefore, Garbage, Html, Refuse, Slow, Status, Truncated


def _shown(text, *sandboxes):
    """The secrets that can be read in `text`, plain or encoded."""
    text = str(text)
    return [s for s in secrets_of(*sandboxes) if any(form in text for form in (s, quote(s), quote_plus(s)))]


def _recording(hand):
    """Event hooks that write down all that a curious program would."""
    record = []

    def of_request(request):
        record.append((request.method, str(request.url), repr(request), repr(request.headers)))

    def of_response(response):
        record.append((repr(response), repr(response.headers), repr(response.request)))

    return record, {"request": [hand.hook(of_request)], "response": [hand.hook(of_response)]}


@pytest.fixture
def logged():
    """Everything that is logged, at DEBUG, formatted: by the libraries below, by ours, by anybody."""
    lines = []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(f"{record.name} {self.format(record)}")

    root, handler = logging.getLogger(), Lines()
    levels = {logging.getLogger(name): logging.DEBUG for name in ("httpx", "httpx2", "httpcore", "httpcore2")}
    levels |= {root: logging.DEBUG, logging.getLogger("httpx_tokenflow"): logging.DEBUG}
    before = {logger: logger.level for logger in levels}
    root.addHandler(handler)
    for logger, level in levels.items():
        logger.setLevel(level)
    yield lines
    root.removeHandler(handler)
    for logger, level in before.items():
        logger.setLevel(level)


# F18


def test_a_renewal_passes_by_the_hooks_of_the_client(any_hand, home):
    """The client's event hooks see the requests of the program, and nothing of a renewal (F18)."""
    record, hooks = _recording(any_hand)
    client = any_hand.client(base_url=home.url, auth=home.auth(), event_hooks=hooks)
    assert client.get("/api/x").status_code == 200
    assert home.sandbox.token_requests == 1
    assert len(record) == 4  # two requests, two responses
    assert "/token" not in str(record)
    assert _shown(record, home.sandbox) == []


def test_hooks_can_print_the_headers_of_a_request_with_an_api_key(hand, home):
    """httpx masks only Authorization in the repr of headers; a sealed key does not show in it at all (F18, F19)."""
    record, hooks = _recording(hand)
    client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY), event_hooks=hooks)
    assert client.get("/api-key/x").status_code == 200
    assert _shown(record, home.sandbox) == []


def test_hooks_can_print_the_url_of_a_request_with_a_key_in_its_query(hand, home):
    """A hook that logs where requests go does not log the key (F19)."""
    record, hooks = _recording(hand)
    client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY, query="api_key"), event_hooks=hooks)
    assert client.get("/api-key/x").status_code == 200
    assert _shown(record, home.sandbox) == []


@pytest.mark.parametrize("placed", [{}, {"query": "api_key"}, {"header": "Authorization"}], ids=str)
def test_a_hook_may_add_a_header(hand, home, placed):
    """What a request hook adds goes out, beside the credential, wherever that is (F18)."""

    def add(request):
        request.headers["X-Trace"] = "1"

    auth = APIKeyAuth(KEY, **placed)
    client = hand.client(base_url=home.url, auth=auth, event_hooks={"request": [hand.hook(add)]})
    client.get("/api-key/x")
    (seen,) = home.sandbox.seen
    assert seen.headers["x-trace"] == "1"
    assert KEY in str(seen.headers) + seen.query


@pytest.mark.parametrize("placed", [{}, {"query": "api_key"}, {"header": "Authorization"}], ids=str)
def test_a_hook_may_put_other_headers_in_place(hand, home, placed):
    """A request hook that replaces the headers by a copy of its own breaks nothing (F18)."""

    def replace(request):
        request.headers = hand.library.Headers({**request.headers, "X-Trace": "1"})

    auth = APIKeyAuth(KEY, **placed)
    client = hand.client(base_url=home.url, auth=auth, event_hooks={"request": [hand.hook(replace)]})
    response = client.get("/open/x")
    assert response.status_code == 200
    assert home.sandbox.seen[0].headers["x-trace"] == "1"


def test_cookies_of_the_token_endpoint_stay_there(any_hand, home):
    """A cookie that the token endpoint sets is not in the jar of the API's client, nor sent to the API (F18)."""
    sandbox = home.sandbox

    async def app(scope, receive, send):
        async def with_cookie(message):
            if scope["path"] == "/token" and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"set-cookie", b"session=SENTINEL; Path=/")]
            await send(message)

        await sandbox(scope, receive, with_cookie)

    home.put(sandbox, app)
    client = any_hand.client(base_url=home.url, auth=home.auth(), cookies={"own": "1"})
    assert client.get("/api/x").status_code == 200
    sandbox.expire_access_tokens()
    assert client.get("/api/x").status_code == 200
    assert dict(client.raw.cookies) == {"own": "1"}
    assert {seen.headers.get("cookie") for seen in sandbox.seen if seen.path == "/api/x"} == {"own=1"}
    assert "own=1" not in str([seen.headers for seen in sandbox.seen if seen.path == "/token"])


def test_the_history_has_the_401_and_no_token_request(any_hand, home):
    """response.history tells of the 401 that was mended, where a redirect had led, and of no token request (F18)."""
    client = any_hand.client(base_url=home.url, auth=home.auth(), follow_redirects=True)
    response = client.get("/redirect?to=/api/x")
    assert [past.status_code for past in response.history] == [401]
    assert {past.url.path for past in response.history} == {"/api/x"}
    told = [(repr(past), past.text, repr(past.request.headers)) for past in response.history]
    assert _shown(told, home.sandbox) == []


def test_a_renewal_does_not_count_as_a_redirect(hand, home):
    """A client that allows one redirect can follow one and have a 401 mended (F18)."""
    client = hand.client(base_url=home.url, auth=home.auth(), follow_redirects=True, max_redirects=2)
    assert client.get("/redirect?to=/api/x").status_code == 200


# F19


@pytest.mark.parametrize("client_auth", [None, ClientSecretPost()], ids=["basic", "post"])
def test_no_log_record_has_a_secret_in_it(any_hand, home, logged, client_auth):
    """With everything logged at DEBUG, no record of a renewal shows a secret: httpx's, httpcore's, ours (F19)."""
    auth = home.auth()
    if client_auth is not None:
        auth._own.grant._client_auth = client_auth
    client = any_hand.client(base_url=home.url, auth=auth)
    assert client.get("/api/x").status_code == 200
    assert home.sandbox.token_requests == 1
    assert any(line.startswith("httpcore") and "receive_response_headers" in line for line in logged)
    assert _shown(logged, home.sandbox) == []


@pytest.mark.parametrize("name", ["api_key", "api[key]", "$key", "kéy", "api key"])
@pytest.mark.parametrize("key", [KEY, "SENTINEL+/=& key"])
def test_no_log_record_has_a_key_from_the_query_in_it(hand, home, logged, name, key):
    """httpx logs each URL at INFO: the key is masked in it, however name and value are encoded (F19)."""
    home.sandbox.api_keys.add(key)
    client = hand.client(base_url=home.url, auth=APIKeyAuth(key, query=name), follow_redirects=True)
    for path in ("/open/x", "/open/x?a=1", "/redirect?to=/open/x"):
        assert client.get(path).status_code == 200
    assert any("HTTP Request: GET" in line for line in logged)
    assert [line for line in logged if "SENTINEL" in line] == []
    arrived = [seen.query for seen in home.sandbox.seen if quote_plus(key) in seen.query]
    assert len(arrived) >= 4  # the last two by the redirect: at its start, and at its end


def test_a_log_line_of_somebody_else_is_left_alone(hand, home, logged):
    """Masking one parameter leaves everything else in httpx's log lines as it is (F19)."""
    APIKeyAuth(KEY, query="api_key")
    hand.client(base_url=home.url).get("/open/x?a=1&not_api_key=2")
    assert any("/open/x?a=1&not_api_key=2" in line for line in logged)


def _failures():
    """Ways to fail: what the token endpoint does, or the API."""
    return {
        "refused": [Status(400, error="invalid_client")],
        "forbidden by a page": [Html(403)],
        "unavailable": [Status(503)] * 3,
        "not JSON": [Garbage()] * 3,
        "cut short": [Truncated()] * 3,
        "dropped before": [DropBefore()] * 3,
        "dropped after": [DropAfter()] * 3,
        "late": [Slow(30.0)] * 3,
        "no token": [Answer({"expires_in": 1})],
        "a token that no header can carry": [Answer({"access_token": "SENTINEL\r\nX: y", "token_type": "Bearer"})],
        "a token that is not ASCII": [Answer({"access_token": "SENTINEL-\u00e9", "token_type": "Bearer"})],
        "another type": [Answer({"access_token": "SENTINEL", "token_type": "mac"})],
        "redirect": [Status(302)],
    }


def _told(error):
    """All that an error says of itself, to whoever prints it."""
    together = [*chain(error)]
    texts = [f"{one} {one!r} {one.args!r} {vars(one)!r} {getattr(one, '__notes__', '')}" for one in together]
    return "\n".join([*texts, *traceback.format_exception(error)])


@pytest.mark.parametrize("failure", _failures())
@pytest.mark.parametrize("kind", [RefreshToken, ClientCredentials])
def test_no_error_has_a_secret_in_it(hand, home, logged, failure, kind):
    """Whatever goes wrong at the token endpoint, no error, no cause of one and no log line shows a secret (F19)."""
    sandbox = home.sandbox
    sandbox.script(*_failures()[failure])
    auth = home.auth(policy=RenewalPolicy(budget=0.3, attempts=1))
    if kind is ClientCredentials:
        grant = home.grant(ClientCredentials, client_auth=ClientSecretPost())
        auth = TokenAuth(grant, policy=RenewalPolicy(budget=0.3, attempts=1), verify=TLS)
    client = hand.client(base_url=home.url, auth=auth)
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, hand.library.HTTPError), error
    told = _told(error) + "\n".join(logged)
    assert _shown(told, sandbox) == []
    assert "SENTINEL" not in told
    if error.response is not None:
        assert _shown(f"{error.response!r} {error.response.text}", sandbox) == []


@pytest.mark.parametrize("echo", ["refresh_token", "client_secret"])
def test_an_echo_of_what_was_sent_is_taken_out_of_the_error(hand, home, logged, echo):
    """A server that repeats a secret in its error_description does not get it into our error (F19)."""
    auth = home.auth()
    secret = auth._source.seed.token.refresh_token if echo == "refresh_token" else "SENTINEL-secret"
    body = {"error": "invalid_grant", "error_description": f"what is {secret}?", "error_uri": f"https://as/?x={secret}"}
    home.sandbox.script(Status(400, body=body))
    client = hand.client(base_url=home.url, auth=auth)
    (error,) = client.together(1, "GET", "/api/x")
    assert error.error == "invalid_grant"
    assert "what is" in error.error_description
    assert _shown(_told(error) + "\n".join(logged), home.sandbox) == []


@pytest.mark.parametrize(
    "key", ["SENTINEL\n", "SENTINEL\r\nX: y", "SENTINEL-\u00e9", " SENTINEL", "SENTINEL\0", "", None, b"SENTINEL"]
)
def test_a_credential_that_no_header_can_carry_is_refused_without_being_quoted(hand, home, logged, key):
    """An illegal key or token is our error before anything is sent, and the error does not quote it (F17, F19)."""
    for make in (BearerAuth, APIKeyAuth, lambda key: APIKeyAuth(key, query="k")):
        with pytest.raises(InvalidCredential) as refused:
            make(key)
        assert "SENTINEL" not in _told(refused.value)
        client = hand.client(base_url=home.url, auth=make(lambda: key))
        (error,) = client.together(1, "GET", "/open/x")
        assert isinstance(error, InvalidCredential)
        assert "SENTINEL" not in _told(error) + "\n".join(logged)
    assert home.sandbox.seen == []


def test_a_callable_that_fails_is_the_cause_and_no_more(hand, home):
    """What a callable raises is the cause of our error; our own message does not repeat it (F19)."""

    def fail():
        raise RuntimeError("SENTINEL")

    client = hand.client(base_url=home.url, auth=BearerAuth(fail))
    (error,) = client.together(1, "GET", "/api/x")
    assert "SENTINEL" not in f"{error} {error!r}"
    assert any(isinstance(cause, RuntimeError) for cause in chain(error))


def test_errors_of_the_library_show_no_key_from_the_query(hand, home):
    """A timeout or a broken connection names a request whose URL has no key in it any more (F19)."""
    home.sandbox.script(DropBefore(), Slow(30.0), on="api")
    client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY, query="api_key"), timeout=0.2)
    for _ in range(2):
        (error,) = client.together(1, "GET", "/api-key/x")
        assert isinstance(error, hand.library.TransportError)
        assert KEY not in f"{_told(error)} {error.request.url}"


def test_raise_for_status_shows_no_key_from_the_query(hand, home):
    """raise_for_status() quotes the URL: there is no key in it (F19)."""
    home.sandbox.script(Status(500), on="api")
    client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY, query="api_key"))
    response = client.get("/api-key/x?a=1")
    with pytest.raises(hand.library.HTTPStatusError) as raised:
        response.raise_for_status()
    assert KEY not in _told(raised.value)
    assert "/api-key/x?a=1" in str(raised.value)


def test_raise_for_status_in_a_hook_shows_no_key_from_the_query(hand, home):
    """As a response hook raise_for_status() quotes the URL as well: no key in it either (F19, F46)."""
    home.sandbox.script(Status(500), on="api")
    hooks = {"response": [hand.hook(lambda response: response.raise_for_status())]}
    client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY, query="api_key"), event_hooks=hooks)
    (error,) = client.together(1, "GET", "/api-key/x")
    assert isinstance(error, hand.library.HTTPStatusError)
    assert KEY not in _told(error)


def _everything(home):
    """Every object of ours that holds a secret, with one in it."""
    auth = home.auth()
    token = Token("SENTINEL-at", refresh_token="SENTINEL-rt", id_token="SENTINEL-id", extra={"x": "SENTINEL-extra"})
    grant = home.grant()
    return {
        "TokenAuth": auth,
        "BearerAuth": BearerAuth("SENTINEL-at"),
        "APIKeyAuth": APIKeyAuth(KEY),
        "APIKeyAuth in the query": APIKeyAuth(KEY, query="k"),
        "APIKeyAuth with a prefix": APIKeyAuth(KEY, header="Authorization", prefix="Key "),
        "RefreshToken": grant,
        "ClientCredentials": home.grant(ClientCredentials),
        "ClientSecretPost": ClientSecretPost(),
        "RenewalPolicy": RenewalPolicy(),
        "Token": token,
        "Entry": Entry.of_login(token, 0.0),
        "source": auth._source,
        "held": BearerAuth("SENTINEL-at")._source.held,
        "store": auth._source.store,
    }


def test_no_repr_has_a_secret_in_it(hand, home):
    """repr and str of whatever one can hold in hand show no secret, before and after use (F19)."""
    things = _everything(home)
    client = hand.client(base_url=home.url, auth=things["TokenAuth"])
    for _ in range(2):
        for name, thing in things.items():
            text = f"{thing!r} {thing!s} {thing}"
            assert "SENTINEL" not in text, name
            assert _shown(text, home.sandbox) == [], name
        assert client.get("/api/x").status_code == 200
    assert repr(things["TokenAuth"]).startswith("<TokenAuth ")


@pytest.mark.parametrize("name", ["TokenAuth", "BearerAuth", "APIKeyAuth", "Token", "Entry"])
def test_nothing_with_a_secret_is_pickled(home, name):
    """Pickling what holds a secret is refused, in a sentence that says what to do instead (F19)."""
    with pytest.raises(TypeError, match="pickle") as refused:
        pickle.dumps(_everything(home)[name])
    assert "SENTINEL" not in str(refused.value)


@pytest.mark.parametrize("name", ["RefreshToken", "ClientCredentials"])
def test_no_pickle_has_a_client_secret_in_it(home, name):
    """A grant either is not pickled, or its pickle has no secret in it (F19)."""
    try:
        pickled = pickle.dumps(_everything(home)[name])
    except TypeError:
        return
    assert b"SENTINEL" not in pickled


def test_no_asdict_has_a_secret_in_it(home):
    """dataclasses.asdict, which loggers and serialisers use, spells no secret out (F19)."""
    for name, thing in _everything(home).items():
        if name == "held" or not dataclasses.is_dataclass(thing):
            continue
        assert "SENTINEL" not in repr(dataclasses.asdict(thing)), name


def test_copies_show_no_secret_either(home):
    """A Token copies to itself; an auth is not copied, and says why without a secret (F19)."""
    things = _everything(home)
    assert copy.copy(things["Token"]) is things["Token"]
    assert copy.deepcopy(things["Token"]) is things["Token"]
    for name in ("TokenAuth", "BearerAuth", "APIKeyAuth"):
        for duplicate in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError) as refused:
                duplicate(things[name])
            assert "SENTINEL" not in str(refused.value)


# F45


@pytest.mark.parametrize("kind", ["TokenAuth", "BearerAuth", "X-API-Key", "query"])
def test_the_second_request_has_the_new_credential_and_no_other(any_hand, home, kind):
    """Sent again, a request has exactly one credential, the new one, and all that the caller gave it (F45)."""
    sandbox = home.sandbox
    keys = iter(["old", KEY])
    tokens = iter(["old", sandbox.login()["access_token"]])
    path, auth = {
        "TokenAuth": lambda: ("/api/x", home.auth()),
        "BearerAuth": lambda: ("/api/x", BearerAuth(lambda: next(tokens))),
        "X-API-Key": lambda: ("/api-key/x", APIKeyAuth(lambda: next(keys))),
        "query": lambda: ("/api-key/x", APIKeyAuth(lambda: next(keys), query="api_key")),
    }[kind]()
    raw = []

    async def app(scope, receive, send):
        if scope["path"] == path:
            raw.append(scope["headers"])
        await sandbox(scope, receive, send)

    home.put(sandbox, app)
    client = any_hand.client(base_url=home.url, auth=auth, headers={"X-Own": "client"})
    own = [("X-Many", "1"), ("X-Many", "2"), ("Accept", "text/x")]
    response = client.post(path, headers=own, params={"a": "1"}, json={"b": 2}, cookies=None)
    assert response.status_code == 200
    first, second = ([item for item in headers if item[0] not in {b"authorization", b"x-api-key"}] for headers in raw)
    assert first == second
    assert [value for name, value in second if name == b"x-many"] == [b"1", b"2"]
    assert dict(second)[b"x-own"] == b"client"
    credentials = [[item for item in headers if item[0] in {b"authorization", b"x-api-key"}] for headers in raw]
    queries = [seen.query for seen in sandbox.seen if seen.path == path]
    if kind == "query":
        assert credentials == [[], []]
        assert queries == ["a=1&api_key=old", f"a=1&api_key={KEY}"]
    else:
        assert [len(carried) for carried in credentials] == [1, 1]
        assert credentials[0] != credentials[1]
        assert queries == ["a=1", "a=1"]


# F46


def test_a_raise_for_status_hook_hides_the_401(any_hand, home):
    """A response hook that raises runs before we see the 401: the caller gets its error, nothing is renewed (F46).

    That is how httpx works; no auth can mend it. A token that is due is renewed all the same.
    """
    sandbox = home.sandbox
    hooks = {"response": [any_hand.hook(lambda response: response.raise_for_status())]}
    client = any_hand.client(base_url=home.url, auth=home.auth(), event_hooks=hooks)
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, any_hand.library.HTTPStatusError)
    assert (sandbox.token_requests, sandbox.api_requests) == (0, 1)
    assert not client.busy()
    first = sandbox.login()
    due = Token(first["access_token"], refresh_token=first["refresh_token"], expires_at=1.0)
    client.raw.auth = home.auth(token=due)
    assert client.get("/api/x").status_code == 200
    assert sandbox.token_requests == 1


# F47


class _Slowly:
    """A 200 whose body comes chunk by chunk; knows how many have been asked for."""

    def __init__(self, hand):
        self.hand = hand
        self.asked = 0

    def __call__(self, request):
        owner = self

        class Body(self.hand.library.SyncByteStream, self.hand.library.AsyncByteStream):
            def __iter__(self):
                for number in range(3):
                    owner.asked += 1
                    yield b"%d" % number

            async def __aiter__(self):
                for chunk in self:
                    yield chunk

        return self.hand.library.Response(200, stream=Body())


@pytest.mark.parametrize("predicate", [None, lambda response: response.status_code == 403], ids=["no", "by status"])
def test_a_200_is_streamed_as_if_we_were_not_there(any_hand, home, predicate):
    """A good answer reaches the caller unread, also where a predicate has looked at its status (F47, F54)."""
    api = _Slowly(any_hand)
    auth = home.auth(expired=False, should_renew=predicate)
    client = any_hand.client(transport=any_hand.transport(api), auth=auth)
    with client.stream("GET", "https://api.example.com/") as response:
        assert (api.asked, response.is_stream_consumed, response.is_closed) == (0, False, False)
        assert any_hand.read(response) == b"012"


# F54


@pytest.mark.parametrize("status", [403, 400, 419, 440])
def test_a_predicate_says_what_else_means_expired(any_hand, home, status):
    """should_renew= on a status other than 401: one renewal, and the request sent again (F54)."""
    home.sandbox.script(Refuse(None, status=status), on="api")
    auth = home.auth(expired=False, should_renew=lambda response: response.status_code == status)
    client = any_hand.client(base_url=home.url, auth=auth)
    assert client.get("/api/x").status_code == 200
    assert (home.sandbox.token_requests, home.sandbox.api_requests) == (1, 2)


def _token_expired(response):
    return response.headers["content-type"] == "application/json" and response.json().get("error") == "token_expired"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_predicate_may_read_the_body(any_hand, home, streamed):
    """A 200 that says in its body that the token expired is mended; the answer can be read as ever (F54)."""
    home.sandbox.script(Status(200, error="token_expired"), on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False, should_renew=_token_expired))
    if streamed:
        with client.stream("GET", "/api/x") as response:
            assert b"subject" in any_hand.read(response)
    else:
        assert "subject" in client.get("/api/x").json()
    assert (home.sandbox.token_requests, home.sandbox.api_requests) == (1, 2)


def test_a_predicate_that_is_never_content_costs_one_renewal(any_hand, home):
    """If the second answer is no better it is given back, after one renewal (F54, F49)."""
    home.sandbox.script(*[Status(200, error="token_expired")] * 9, on="api")
    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False, should_renew=_token_expired))
    assert client.get("/api/x").json() == {"error": "token_expired"}
    assert (home.sandbox.token_requests, home.sandbox.api_requests) == (1, 2)


@pytest.mark.filterwarnings(UNFINISHED)
@pytest.mark.parametrize("status", [200, 401, 403])
def test_an_answer_that_is_given_back_is_whole(any_hand, home, status):
    """The answer that the caller gets is whole, however large, also if it asked for another renewal (F54, F43)."""
    body = "x" * 200_000
    home.sandbox.script(*[Status(status, body=body)] * 9, on="api")
    auth = home.auth(expired=False, should_renew=lambda response: response.status_code == status)
    client = any_hand.client(base_url=home.url, auth=auth)
    response = client.get("/api/x")
    assert (home.sandbox.token_requests, home.sandbox.api_requests) == (1, 2)
    gc.collect()
    assert (response.status_code, len(response.text)) == (status, len(body))


def test_a_predicate_that_fails_is_the_callers_error(any_hand, home):
    """What a predicate raises reaches the caller as it is, and the connection is free again (F54)."""

    def fail(response):
        raise LookupError("mine")

    client = any_hand.client(base_url=home.url, auth=home.auth(expired=False, should_renew=fail))
    (error,) = client.together(1, "GET", "/api/x")
    assert isinstance(error, LookupError)
    assert not client.busy()


def test_a_predicate_is_not_asked_of_what_is_not_ours(hand, home, away):
    """A predicate that says "expired" of another origin's answer renews nothing (F54, F20)."""
    auth = home.auth(expired=False, should_renew=lambda response: response.status_code == 200)
    client = hand.client(base_url=home.url, auth=auth, follow_redirects=True)
    assert client.get(f"/redirect?to={away.url}/open/x").status_code == 200
    assert home.sandbox.token_requests == 0


# Not ours


@pytest.mark.parametrize("where", ["request", "client"])
@pytest.mark.parametrize(
    ("make", "header"),
    [
        (lambda home: home.auth(), "Authorization"),
        (lambda home: BearerAuth("ours"), "Authorization"),
        (lambda home: APIKeyAuth("ours"), "X-API-Key"),
        (lambda home: APIKeyAuth("ours", header="Authorization"), "Authorization"),
    ],
    ids=["TokenAuth", "BearerAuth", "X-API-Key", "Authorization"],
)
def test_the_callers_own_credential_wins(hand, home, make, header, where):
    """A credential that the caller has put there goes out untouched, and its 401 is the caller's."""
    own = {header: "Own credential"}
    client = hand.client(base_url=home.url, auth=make(home), headers=own if where == "client" else None)
    for _ in range(2):  # also once the fast path is open
        response = client.get("/api-key/x", headers=own if where == "request" else None)
        assert response.status_code == 401
        assert home.sandbox.seen[-1].headers[header.lower()] == "Own credential"
        if where == "request":
            client.get("/open/x")
    assert (home.sandbox.token_requests, home.sandbox.api_requests) == (0, 2)


def test_the_callers_own_parameter_wins(hand, home):
    """A key that the caller has put into the query goes out untouched, and ours stays away."""
    client = hand.client(base_url=home.url, auth=APIKeyAuth(KEY, query="api_key"))
    assert client.get("/api-key/x?api_key=own").status_code == 401
    assert home.sandbox.seen[0].query == "api_key=own"


@pytest.mark.parametrize("make", [BearerAuth, APIKeyAuth], ids=["Authorization", "X-API-Key"])
def test_the_credential_of_a_hook_wins(hand, home, make):
    """If a request hook puts its own credential in the place of ours, the 401 is not ours (F20)."""
    asked = []

    def replace(request):
        for name in {"authorization", "x-api-key"} & set(request.headers):
            request.headers[name] = "Own credential"

    auth = make(lambda: asked.append(1) or "ours")
    client = hand.client(base_url=home.url, auth=auth, event_hooks={"request": [hand.hook(replace)]})
    for number in (1, 2):
        assert client.get("/api-key/x").status_code == 401
        assert home.sandbox.api_requests == number
        assert "Own credential" in home.sandbox.seen[-1].headers.values()
    assert asked == [1]


@pytest.mark.parametrize("kind", ["TokenAuth", "BearerAuth", "APIKeyAuth"])
def test_a_request_can_go_without(hand, home, kind):
    """With {"auth": False} a request goes without our credential, and its 401 is given back."""
    auth = {"TokenAuth": home.auth(), "BearerAuth": BearerAuth("x"), "APIKeyAuth": APIKeyAuth("x")}[kind]
    client = hand.client(base_url=home.url, auth=auth)
    for _ in range(2):
        response = client.get("/api/x", extensions={"tokenflow": {"auth": False}})
        assert response.status_code == 401
        assert not {"authorization", "x-api-key"} & home.sandbox.seen[-1].headers.keys()
        client.get("/open/x")
    assert home.sandbox.token_requests == 0


def test_without_credential_it_may_go_anywhere(hand):
    """{"auth": False} also lifts the bounds of origins=: nothing of ours goes along."""
    client = hand.client(
        transport=hand.transport(lambda request: hand.library.Response(200)),
        auth=BearerAuth("x", origins=["https://api.example.com"]),
    )
    assert client.get("http://other.example/", extensions={"tokenflow": {"auth": False}}).status_code == 200


@pytest.mark.parametrize("options", [{"retries": 3}, {"auth": False, "x": 1}, "off", False, [], 0, {"auth"}])
def test_a_wrong_option_is_an_error(hand, home, options):
    """What we do not know in extensions["tokenflow"] is a ConfigurationError, before anything is sent."""
    client = hand.client(base_url=home.url, auth=BearerAuth("x"))
    client.get("/open/x")
    (error,) = client.together(1, "GET", "/open/x", extensions={"tokenflow": options})
    assert isinstance(error, ConfigurationError)
    assert len(home.sandbox.seen) == 1


def test_auth_of_one_request(hand, home):
    """auth= on a single request does what auth= on the client does."""
    client = hand.client(base_url=home.url)
    assert client.get("/api/x", auth=home.auth()).status_code == 200
    assert client.get("/api/x").status_code == 401
    assert home.sandbox.token_requests == 1


def test_a_password_in_the_url_does_not_win(hand):
    """Credentials in the URL are httpx's Basic only where there is no auth=: ours goes out, theirs do not."""
    seen = []
    transport = hand.transport(
        lambda request: seen.append(request.headers["authorization"]) or hand.library.Response(200)
    )
    client = hand.client(transport=transport, auth=BearerAuth("x"))
    client.get("https://user:pass@api.example.com/")
    assert seen == ["Bearer x"]


def test_fresh_secrets_are_told_apart(home):
    """The search for secrets finds one, plain or encoded: otherwise all of the above would prove nothing."""
    sandbox = fresh_sandbox(clients={"client": "a/b c"})
    assert _shown("x a/b c", sandbox) == _shown("x a/b%20c", sandbox) == _shown("x a%2Fb+c", sandbox) == ["a/b c"]
    assert _shown(sandbox.login()["access_token"], sandbox)
    assert not _shown("a b", sandbox)
