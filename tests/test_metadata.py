"""Discovery, step by step and without I/O: which documents count, for how long, and what a failure may cost."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from httpx_tokenflow import (
    ClientCredentials,
    Clock,
    ConfigurationError,
    RefreshToken,
    Token,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._challenges import Challenge
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._logins import AuthorizationCode
from httpx_tokenflow._metadata import LEAST_AGE, MAX_AGE, READ_TIMEOUT, Metadata, Server
from httpx_tokenflow._steps import Fetch

if TYPE_CHECKING:
    from collections.abc import Generator

ISSUER = "https://auth.example.com"
OTHER = "https://login.example.org/tenant"
OPENID = f"{ISSUER}/.well-known/openid-configuration"
OAUTH = f"{ISSUER}/.well-known/oauth-authorization-server"
API = "https://api.example.com/orders/1"
PLACE = "https://api.example.com/.well-known/oauth-protected-resource"
GONE = ServerResponse(404, {}, b"")
TOKEN = ServerResponse(200, {}, b'{"access_token": "new", "expires_in": 3600}')


class ConnectError(Exception):
    """Named like httpx's: the request was not sent."""


class ReadTimeout(Exception):  # noqa: N818 - httpx's name
    """Named like httpx's: it left, and no answer came."""


def document(status: int = 200, **facts: Any) -> ServerResponse:
    """A metadata document."""
    return ServerResponse(status, {}, json.dumps(facts).encode())


def about(issuer: str = ISSUER, **facts: Any) -> ServerResponse:
    """The metadata of `issuer`."""
    return document(**{"issuer": issuer, "token_endpoint": f"{issuer}/token"} | facts)


def trusts(*issuers: str, resource: str = "https://api.example.com") -> ServerResponse:
    """The metadata of an API (RFC 9728 §2)."""
    return document(resource=resource, authorization_servers=list(issuers))


class Web:
    """What is where: an answer, an exception, or several in turn; the last one stays. What is nowhere answers 404."""

    def __init__(self, **places: Any) -> None:
        self.places: dict[str, Any] = dict(places)
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.sent: list[Any] = []
        self.now = 1000.0
        self.takes = 0.0  # seconds that each answer takes
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: 1.7e9 + self.now)

    def attempt(
        self, presented: Entry | None = None, resource_metadata: str | None = None, *, seconds: float = 30.0
    ) -> Attempt:
        params = {} if resource_metadata is None else {"resource_metadata": resource_metadata}
        challenge = None if resource_metadata is None else Challenge("Bearer", params)
        return Attempt(presented, self.now + seconds, self.clock, challenge=challenge, url=API)

    def play(self, flow: Generator[Any, Any, Any]) -> Any:
        """Perform `flow` to its end."""
        try:
            step = next(flow)
            while True:
                assert isinstance(step, Fetch), step
                self.asked.append(step.request.url)
                self.sent.append(step.request)
                self.timeouts.append(step.timeout)
                self.now += self.takes
                answer = self.places.get(step.request.url, GONE)
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
        except StopIteration as end:
            return end.value

    def find(self, server: Server, *args: Any, **options: Any) -> Metadata:
        return self.play(server.find(self.attempt(*args, **options)))

    def fails(self, flow: Generator[Any, Any, Any], kind: type[TokenFlowError]) -> Any:
        """The error in which `flow` ends; it never claims to have spent anything."""
        with pytest.raises(kind) as caught:
            self.play(flow)
        assert not caught.value.may_have_spent
        return caught.value


def server(issuer: Any = ISSUER) -> Server:
    return Server(issuer=issuer, endpoints={"token_endpoint": None})


# Where metadata are, and whose


@pytest.mark.parametrize(
    ("issuer", "places"),
    [
        (ISSUER, [OPENID, OAUTH]),
        (f"{ISSUER}/", [OPENID, OAUTH]),
        (
            f"{ISSUER}/tenant/a",
            [
                f"{ISSUER}/tenant/a/.well-known/openid-configuration",
                f"{ISSUER}/.well-known/oauth-authorization-server/tenant/a",
                f"{ISSUER}/.well-known/openid-configuration/tenant/a",
            ],
        ),
        (
            f"{ISSUER}/a/",
            [
                f"{ISSUER}/a/.well-known/openid-configuration",
                f"{ISSUER}/.well-known/oauth-authorization-server/a",
                f"{ISSUER}/.well-known/openid-configuration/a",
            ],
        ),
    ],
)
def test_where_metadata_are_looked_for(issuer: str, places: list[str]) -> None:
    """OpenID appends, RFC 8414 inserts, and one slash at the end is nobody's (§3.1); each place serves."""
    web = Web()
    error = web.fails(server(issuer).find(web.attempt()), ConfigurationError)
    assert web.asked == places
    assert issuer in str(error)
    assert "404" in str(error)
    for place in places:
        web = Web(**{place: about(issuer)})
        assert web.find(server(issuer)).endpoint("token_endpoint") == f"{issuer}/token"
        assert web.asked[-1] == place


def test_reading_presents_nothing() -> None:
    """A GET without a form, a body or a header."""
    web = Web(**{OAUTH: about()})
    web.find(server(), Entry(Token("SENTINEL", refresh_token="SENTINEL"), 0, 1))
    assert {(one.method, one.form, one.headers, one.json) for one in web.sent} == {("GET", (), (), None)}


@pytest.mark.parametrize(
    "theirs",
    [
        f"{ISSUER}/",
        "https://AUTH.example.com",
        "HTTPS://auth.example.com",
        f"{ISSUER}:443",
        f"{ISSUER}.evil.example",
        "https://evil.example",
        f" {ISSUER}",
        "",
        None,
        5,
        [ISSUER],
    ],
)
def test_metadata_of_another_issuer_are_not_used(theirs: Any) -> None:
    """The same to the letter, or nothing of it is used (RFC 8414 §3.3): no slash, no case, no port is forgiven."""
    web = Web(**{OPENID: document(issuer=theirs, token_endpoint=f"{ISSUER}/token"), OAUTH: about()})
    error = web.fails(server().find(web.attempt()), ConfigurationError)
    assert "to the letter" in str(error)
    assert web.asked == [OPENID]


@pytest.mark.parametrize(
    ("asked", "theirs", "advice"),
    [
        (ISSUER, f"{ISSUER}/", f"; write issuer='{ISSUER}/'"),
        (f"{ISSUER}/", ISSUER, f"; write issuer='{ISSUER}'"),
        (f"{ISSUER}/common", f"{ISSUER}/{{tenantid}}/v2.0", "name your tenant's own issuer=, or the endpoints"),
        (ISSUER, "https://evil.example/", "(RFC 8414 §3.3)"),
        (ISSUER, None, "(RFC 8414 §3.3)"),
    ],
)
def test_mishaps_with_an_issuer_say_how_to_write_it(asked: str, theirs: Any, advice: str) -> None:
    """A slash too many or too few, and Entra's document for all tenants; nobody else's name is recommended."""
    web = Web(**{f"{asked.rstrip('/')}/.well-known/openid-configuration": document(issuer=theirs)})
    assert str(web.fails(server(asked).find(web.attempt()), ConfigurationError)).endswith(advice)


def test_a_slash_that_the_program_writes_counts_as_well() -> None:
    """The other way round: `issuer=` with a slash is another than the server's without."""
    web = Web(**{OPENID: about()})
    web.fails(server(f"{ISSUER}/").find(web.attempt()), ConfigurationError)


@pytest.mark.parametrize(
    "garbage",
    [
        ServerResponse(200, {}, b"<html>welcome</html>"),
        ServerResponse(200, {}, b"\xff\xfe\xfd"),
        ServerResponse(200, {}, b"[" * 100_000),
        ServerResponse(200, {}, b'["a"]'),
        ServerResponse(200, {}, b"null"),
        ServerResponse(200, {}, b""),
        ServerResponse(200, {}, b"1" * 10_000),
        ServerResponse(301, {"location": OAUTH}, b""),
        ServerResponse(302, {"location": "https://evil.example/"}, json.dumps({"issuer": ISSUER}).encode()),
        ServerResponse(204, {}, b""),
        ServerResponse(401, {}, b"{}"),
        ServerResponse(403, {}, b""),
    ],
)
def test_what_is_no_document_is_passed_over(garbage: ServerResponse) -> None:
    """Garbage, a redirect (which nobody follows), a refusal: the next place is asked; if there is none, it is told."""
    web = Web(**{OPENID: garbage, OAUTH: about()})
    assert web.find(server()).issuer == ISSUER
    assert web.asked == [OPENID, OAUTH]
    web = Web(**{OPENID: garbage, OAUTH: garbage})
    error = web.fails(server().find(web.attempt()), ConfigurationError)
    assert f"{garbage.status} at {OPENID}" in str(error)
    assert web.asked == [OPENID, OAUTH]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_not_now(status: int) -> None:
    """A server that cannot answer now says when; nothing else is asked, and nothing was presented."""
    answer = ServerResponse(status, {"retry-after": "7"}, b"")
    web = Web(**{OPENID: answer, OAUTH: about()})
    error = web.fails(server().find(web.attempt()), TokenEndpointUnavailable)
    assert (error.outcome, error.retry_after, error.status, error.retryable) == ("not sent", 7.0, status, True)
    assert web.asked == [OPENID]


def test_retry_after_as_a_date_is_reckoned_by_the_server_s_clock() -> None:
    """Its own `Date` is what it counts from."""
    headers = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:28:20 GMT"}
    web = Web(**{OPENID: ServerResponse(503, headers, b"")})
    assert web.fails(server().find(web.attempt()), TokenEndpointUnavailable).retry_after == 20.0


@pytest.mark.parametrize("failure", [ConnectError(), ReadTimeout(), TimeoutError(), OSError(), KeyError("x")])
def test_whatever_breaks_on_the_way_was_not_sent(failure: Exception) -> None:
    """A read presents nothing, however it ends."""
    web = Web(**{OPENID: failure})
    error = web.fails(server().find(web.attempt()), TokenEndpointUnavailable)
    assert error.outcome == "not sent"
    assert error.__cause__ is failure


def test_a_document_without_end_was_not_sent() -> None:
    """For a token request too large an answer is a lost one; here nothing is lost, and nobody asks again at once."""
    web = Web(**{OPENID: TokenEndpointUnavailable("too large", outcome="unknown", retryable=False)})
    error = web.fails(server().find(web.attempt()), TokenEndpointUnavailable)
    assert (error.outcome, error.retryable) == ("not sent", False)


def test_an_error_of_ours_passes_as_it_is() -> None:
    """What the driver finds wrong with the program is not taken for an outage."""
    wrong = ConfigurationError("client= is an async client")
    web = Web(**{OPENID: wrong})
    assert web.fails(server().find(web.attempt()), ConfigurationError) is wrong


def test_a_read_that_hangs_leaves_time_for_the_token() -> None:
    """Ten seconds, and never more than half of what is left."""
    for seconds, expected in ((30.0, READ_TIMEOUT), (8.0, 4.0), (0.0, 0.0)):
        web = Web(**{OPENID: about()})
        web.find(server(), seconds=seconds)
        assert web.timeouts == [expected]
    web = Web()
    web.takes = READ_TIMEOUT
    web.fails(server(f"{ISSUER}/a").find(web.attempt(seconds=36.0)), ConfigurationError)
    assert web.timeouts == [10.0, 10.0, 8.0]


# What they say


def test_endpoints() -> None:
    """By name; an alias for mutual TLS where one is asked for and there is one (RFC 8705 §5)."""
    aliases = {"token_endpoint": "https://mtls.example.com/token"}
    facts = {
        "token_endpoint": f"{ISSUER}/token",
        "revocation_endpoint": f"{ISSUER}/r",
        "mtls_endpoint_aliases": aliases,
    }
    found = Metadata(ISSUER, facts)
    assert found.endpoint("token_endpoint") == f"{ISSUER}/token"
    assert found.endpoint("token_endpoint", mtls=True) == "https://mtls.example.com/token"
    assert found.endpoint("revocation_endpoint", mtls=True) == f"{ISSUER}/r"
    assert Metadata(ISSUER, facts | {"mtls_endpoint_aliases": "x"}).endpoint("token_endpoint", mtls=True)
    assert found.has("revocation_endpoint")
    assert not found.has("introspection_endpoint")


BAD_ENDPOINTS = [
    "http://auth.example.com/token",
    "http://127.0.0.1:8080/token",
    "http://localhost/token",
    "ftp://auth.example.com/token",
    "//auth.example.com/token",
    "/token",
    "token",
    "https://user:pass@auth.example.com/token",
    "https://user@auth.example.com/token",
    "https://auth.example.com/token#fragment",
    "https://auth.example.com:99999/token",
    "https://auth.example.com:0/token",
    "https://auth.example.com:port/token",
    "https://auth.example.com/to\nken",
    "https://auth.example.com/to ken",
    "https://auth.example\t.com/token",
    "https://[::1/token",
    "https://",
    "javascript:alert(1)",
    5,
    ["https://auth.example.com/token"],
    {"url": "x"},
]


@pytest.mark.parametrize("url", BAD_ENDPOINTS)
@pytest.mark.parametrize("mtls", [False, True])
def test_endpoints_to_which_nothing_is_sent(url: Any, mtls: bool) -> None:
    """Plain http (even to loopback: that is this machine, not the issuer's), a user, a fragment, no URL at all."""
    facts = {"token_endpoint": url}
    if mtls:
        facts = {"token_endpoint": f"{ISSUER}/token", "mtls_endpoint_aliases": facts}
    web = Web(**{OPENID: document(issuer=ISSUER, **facts)})
    found = web.find(server())
    with pytest.raises(ConfigurationError) as caught:
        found.endpoint("token_endpoint", mtls=mtls)
    assert ISSUER in str(caught.value)
    assert "token_endpoint" in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("url", [None, "", [], 0])
def test_endpoints_that_are_not_there(url: Any) -> None:
    """Nothing is named: the error says who does not name what."""
    with pytest.raises(ConfigurationError, match="names no revocation_endpoint"):
        Metadata(ISSUER, {"revocation_endpoint": url}).endpoint("revocation_endpoint")
    with pytest.raises(ConfigurationError, match="metadata="):
        Metadata(None, {"token_endpoint": "https://a"}).endpoint("revocation_endpoint")


def test_an_issuer_on_loopback_may_be_plain() -> None:
    """On a developer's machine an issuer over http names endpoints over http, and over https as well."""
    issuer = "http://127.0.0.1:9000"
    found = Metadata(issuer, {"token_endpoint": f"{issuer}/token", "revocation_endpoint": "https://auth.example.com/r"})
    assert found.endpoint("token_endpoint") == f"{issuer}/token"
    assert found.endpoint("revocation_endpoint") == "https://auth.example.com/r"


def test_words_and_truths() -> None:
    """Members of the wrong type count as absent."""
    found = Metadata(ISSUER, {"a": ["x", 5, None], "b": "x", "c": True, "d": "true", "e": 1})
    assert (found.names("a"), found.names("b"), found.names("z")) == (("x",), (), ())
    assert (found.says("c"), found.says("d"), found.says("e"), found.says("z")) == (True, False, False, False)


# For how long


def test_they_are_read_once_and_again_after_a_day() -> None:
    """The cache has an end, and by the monotonic clock."""
    web, one = Web(**{OPENID: about()}), server()
    for _ in range(3):
        web.find(one)
    web.now += MAX_AGE - 1
    web.find(one)
    assert len(web.asked) == 1
    web.places[OPENID] = about(token_endpoint=f"{ISSUER}/new")
    web.now += 1
    assert web.find(one).endpoint("token_endpoint") == f"{ISSUER}/new"
    web.now += MAX_AGE - 1
    web.find(one)
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    "failure",
    [ConnectError(), ReadTimeout(), ServerResponse(503, {}, b""), GONE, ServerResponse(200, {}, b"<html>"),
     about("https://evil.example", token_endpoint="https://evil.example/token")],
)  # fmt: skip
def test_a_failure_to_read_them_again_costs_nothing(failure: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What was good serves on, with a warning; what is wrong now is not used; a minute later it is tried again."""
    web, one = Web(**{OPENID: about()}), server()
    web.find(one)
    web.now += MAX_AGE
    web.places[OPENID] = failure
    before = len(web.asked)
    assert web.find(one).endpoint("token_endpoint") == f"{ISSUER}/token"
    tries = len(web.asked) - before
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert ISSUER in caplog.text
    web.find(one)
    assert len(web.asked) == before + tries
    web.now += LEAST_AGE
    web.places[OPENID] = about(token_endpoint=f"{ISSUER}/new")
    assert web.find(one).endpoint("token_endpoint") == f"{ISSUER}/new"
    web.now += MAX_AGE - 1
    before = len(web.asked)
    web.find(one)
    assert len(web.asked) == before


def test_a_failure_the_first_time_is_not_remembered() -> None:
    """Unavailable, then back: the next attempt finds it."""
    web, one = Web(**{OPENID: [ServerResponse(503, {}, b""), about()]}), server()
    web.fails(one.find(web.attempt()), TokenEndpointUnavailable)
    assert web.find(one).issuer == ISSUER


# An endpoint that moves


def credentials(**options: Any) -> ClientCredentials:
    return ClientCredentials(**{"issuer": ISSUER, "client_id": "c", "client_secret": "s"} | options)


def session(entry: Entry | None = None) -> Entry:
    return entry or Entry(Token("old", refresh_token="rt"), 0.0, 1.0)


KINDS = {
    "client credentials": (credentials, None),
    "refresh token": (lambda: RefreshToken(issuer=ISSUER, client_id="c", client_secret="s"), session()),
}


def _settled(grant: Any, presented: Entry | None) -> Web:
    """A web in which the grant has got a token, more than a minute ago."""
    web = Web(**{OPENID: about(), f"{ISSUER}/token": TOKEN})
    web.play(grant.obtain(web.attempt(presented)))
    web.now += LEAST_AGE
    web.asked.clear()
    web.sent.clear()
    return web


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 307, 308, 404, 405, 410])
def test_an_endpoint_that_moved_is_found_in_the_same_attempt(kind: str, status: int) -> None:
    """Where it was there is nothing, or a redirect; the metadata know more: one read, and one more request."""
    make, presented = KINDS[kind]
    grant = make()
    web = _settled(grant, presented)
    web.places[f"{ISSUER}/token"] = ServerResponse(status, {"location": "https://evil.example"}, b"")
    web.places[OPENID] = about(token_endpoint=f"{ISSUER}/v2/token")
    web.places[f"{ISSUER}/v2/token"] = TOKEN
    assert web.play(grant.obtain(web.attempt(presented))).token.access_token == "new"
    assert web.asked == [f"{ISSUER}/token", OPENID, f"{ISSUER}/v2/token"]
    assert web.sent[0].form == web.sent[2].form


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 404, 405, 410])
def test_an_endpoint_that_is_gone_and_nowhere_else(kind: str, status: int) -> None:
    """If the metadata say what they said, the answer stands: one read, at most once a minute."""
    make, presented = KINDS[kind]
    grant = make()
    web = _settled(grant, presented)
    web.places[f"{ISSUER}/token"] = ServerResponse(status, {}, b"")
    wanted = ConfigurationError if status == 301 else TokenRequestError
    web.fails(grant.obtain(web.attempt(presented)), wanted)
    assert web.asked == [f"{ISSUER}/token", OPENID]
    for _ in range(5):
        web.now += 1
        web.fails(grant.obtain(web.attempt(presented)), wanted)
    assert Counter(web.asked) == {f"{ISSUER}/token": 6, OPENID: 1}
    web.now += LEAST_AGE
    web.fails(grant.obtain(web.attempt(presented)), wanted)
    assert Counter(web.asked)[OPENID] == 2


def test_an_endpoint_that_moves_to_and_fro_is_not_followed_for_ever() -> None:
    """Metadata that name another place each time are read once; the second answer stands."""
    grant = credentials()
    web = _settled(grant, None)
    del web.places[f"{ISSUER}/token"]
    web.places[OPENID] = [about(token_endpoint=f"{ISSUER}/t{number}") for number in range(9)]
    web.fails(grant.obtain(web.attempt()), TokenRequestError)
    assert web.asked == [f"{ISSUER}/token", OPENID, f"{ISSUER}/t0"]


@pytest.mark.parametrize("failure", [ServerResponse(503, {}, b""), ConnectError(), about("https://evil.example"), GONE])
def test_an_endpoint_that_is_gone_while_nobody_knows_more(failure: Any) -> None:
    """The metadata cannot be read, or are somebody else's: what the endpoint said stands."""
    grant = credentials()
    web = _settled(grant, None)
    del web.places[f"{ISSUER}/token"]
    web.places[OPENID] = failure
    assert web.fails(grant.obtain(web.attempt()), TokenRequestError).status == 404


def test_an_endpoint_that_moved_to_plain_http_gets_nothing() -> None:
    """The new place is looked at like the first."""
    make, presented = KINDS["refresh token"]
    grant = make()
    web = _settled(grant, presented)
    del web.places[f"{ISSUER}/token"]
    web.places[OPENID] = about(token_endpoint="http://auth.example.com/token")
    web.fails(grant.obtain(web.attempt(presented)), ConfigurationError)
    assert web.asked == [f"{ISSUER}/token", OPENID]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_at_home(kind: str) -> None:
    """A connection that fails makes one ask again where it is, before the next attempt; not more than once a minute."""
    make, presented = KINDS[kind]
    grant = make()
    web = _settled(grant, presented)
    web.places[f"{ISSUER}/token"] = ConnectError()
    with pytest.raises(ConnectError):
        web.play(grant.obtain(web.attempt(presented)))
    web.places[OPENID] = about(token_endpoint="https://new.example.com/token")
    web.places["https://new.example.com/token"] = TOKEN
    web.play(grant.obtain(web.attempt(presented)))
    assert web.asked == [f"{ISSUER}/token", OPENID, "https://new.example.com/token"]
    web.places["https://new.example.com/token"] = ConnectError()
    for _ in range(3):
        with pytest.raises(ConnectError):
            web.play(grant.obtain(web.attempt(presented)))
    assert Counter(web.asked)[OPENID] == 1


@pytest.mark.parametrize("answer", [ServerResponse(503, {}, b""), ServerResponse(400, {}, b"{}"), ReadTimeout()])
def test_what_is_no_sign_of_a_move(answer: Any) -> None:
    """An endpoint that answers, or that has taken a request, is where it was."""
    grant = credentials()
    web = _settled(grant, None)
    web.places[f"{ISSUER}/token"] = answer
    for _ in range(2):
        with pytest.raises((TokenFlowError, ReadTimeout)):
            web.play(grant.obtain(web.attempt()))
    assert OPENID not in web.asked


def test_a_named_endpoint_is_not_looked_for() -> None:
    """Without an issuer there is nobody to ask."""
    grant = ClientCredentials(f"{ISSUER}/token", client_id="c", client_secret="s")
    web = Web()
    web.fails(grant.obtain(web.attempt()), TokenRequestError)
    assert web.asked == [f"{ISSUER}/token"]


def test_an_old_doubt_does_not_touch_what_was_read_since() -> None:
    """Two flights share a server: one finds the old endpoint gone after the other has read the new metadata."""
    web, one = Web(**{OPENID: about()}), server()
    old = web.find(one)
    web.now += LEAST_AGE
    web.places[OPENID] = about(token_endpoint=f"{ISSUER}/new")
    newer = web.play(one.find_again(web.attempt(), old, 404))
    web.now += LEAST_AGE
    assert web.play(one.find_again(web.attempt(), old, 404)) is newer
    assert len(web.asked) == 2


def test_many_flights_on_one_server() -> None:
    """Threads that find, doubt and read at once: each gets what is right, and nobody fails."""
    one, found = server([ISSUER, OTHER]), []
    gate = threading.Barrier(8)

    def fly(number: int) -> None:
        issuer = (ISSUER, OTHER)[number % 2]
        web = Web(**{OPENID: about(), f"{OTHER}/.well-known/openid-configuration": about(OTHER)})
        gate.wait(10)
        for _ in range(200):
            web.now += LEAST_AGE
            metadata = web.play(one.find(web.attempt(), issuer))
            found.append((issuer, metadata.issuer))
            one.doubt(metadata)

    threads = [threading.Thread(target=fly, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1600
    assert all(asked == got for asked, got in found)


# Which of several (RFC 9728)


def open_server(*issuers: str) -> Server:
    return server(issuers or (ISSUER, OTHER))


def two(**places: Any) -> Web:
    """Both issuers, and whatever else."""
    return Web(**{OPENID: about(), f"{OTHER}/.well-known/openid-configuration": about(OTHER)} | places)


def test_the_api_says_which() -> None:
    """Its metadata choose among the issuers that are allowed; the first that is."""
    web, one = two(**{PLACE: trusts("https://evil.example", OTHER, ISSUER)}), open_server()
    assert one.is_unknown(None)
    assert web.find(one, None, PLACE).issuer == OTHER
    assert web.asked == [PLACE, f"{OTHER}/.well-known/openid-configuration"]
    assert not one.is_unknown(None)


def test_a_single_issuer_asks_no_api() -> None:
    """`issuer=` as a string is decided: whatever the API says is not even read."""
    web, one = two(**{PLACE: trusts(OTHER)}), server()
    assert not one.is_unknown(None)
    assert web.find(one, None, PLACE).issuer == ISSUER
    assert web.asked == [OPENID]


@pytest.mark.parametrize(
    "trusted", [["https://evil.example"], [f"{ISSUER}/"], [ISSUER.upper()], [], [5, None], [[ISSUER]]]
)
def test_an_issuer_that_is_not_allowed(trusted: list[Any]) -> None:
    """Nobody else is asked for a token, nor even for metadata; the error says whom the API trusts."""
    web, one = (
        two(**{PLACE: document(resource="https://api.example.com", authorization_servers=trusted)}),
        open_server(),
    )
    error = web.fails(one.find(web.attempt(None, PLACE)), ConfigurationError)
    assert "does not allow" in str(error)
    assert web.asked == [PLACE]


def test_what_an_api_says_is_bounded_in_an_error() -> None:
    """A name of a megabyte, or with control characters in it, does not get into a log as it is."""
    nasty = "https://evil.example/\x1b[31m\n" + "x" * 1_000_000
    web, one = two(**{PLACE: trusts(nasty)}), open_server()
    text = str(web.fails(one.find(web.attempt(None, PLACE)), ConfigurationError))
    assert len(text) < 1000
    assert text.isprintable()
    for place in (f"{PLACE}/{'x' * 100_000}", f"https://{'x' * 100_000}.example/"):
        assert len(str(web.fails(one.find(web.attempt(None, place)), ConfigurationError))) < 1000


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/.well-known/oauth-protected-resource",
        "https://api.example.com.evil.example/.well-known/oauth-protected-resource",
        "https://api.example.com:8443/.well-known/oauth-protected-resource",
        "https://169.254.169.254/latest/meta-data/",
        "http://api.example.com/.well-known/oauth-protected-resource",
        "http://127.0.0.1:8080/admin",
        "https://api.example.com@evil.example/",
        "https://evil.example\\@api.example.com/",
        "https://evil.example#@api.example.com/",
        "file:///etc/passwd",
        "/.well-known/oauth-protected-resource",
        "https://api.example.com:99999/",
        "",
    ],
)
def test_resource_metadata_at_another_origin_are_not_asked(place: str) -> None:
    """An API cannot send us anywhere but to itself (RFC 9728 §7.7): nothing is fetched."""
    web, one = two(**{place: trusts(ISSUER)}), open_server()
    web.fails(one.find(web.attempt(None, place)), ConfigurationError)
    assert web.asked == []


def test_the_same_origin_in_another_spelling() -> None:
    """The usual port, written out, and a host in capitals are the same origin."""
    for place in (
        "https://api.example.com:443/.well-known/oauth-protected-resource",
        "https://API.example.com/.well-known/oauth-protected-resource",
    ):
        web, one = two(**{place: trusts(ISSUER, resource=API)}), open_server()
        assert web.find(one, None, place).issuer == ISSUER


@pytest.mark.parametrize(
    ("place", "resource", "is_right"),
    [
        ("https://api.example.com/anywhere", API, True),  # the very URL (RFC 9728 §3.3)
        (PLACE, "https://api.example.com", True),
        (PLACE, "https://api.example.com/", True),
        (f"{PLACE}/orders", "https://api.example.com/orders", True),
        (f"{PLACE}/orders", "https://api.example.com/orders/", True),
        (f"{PLACE}/orders/", "https://api.example.com/orders/", True),
        (f"{PLACE}/orders?v=2", "https://api.example.com/orders?v=2", True),
        (f"{PLACE}/order", "https://api.example.com/order", False),  # no prefix of words, but of segments
        (f"{PLACE}/invoices", "https://api.example.com/invoices", False),
        (PLACE, "https://api.example.com/orders", False),  # said at another place than its own
        (f"{PLACE}/orders", "https://api.example.com", False),
        ("https://api.example.com/anywhere", "https://api.example.com", False),
        (PLACE, "https://other.example.com", False),
        (PLACE, "http://api.example.com", False),
        (PLACE, "https://api.example.com:99999", False),
        (PLACE, "https://[", False),
        (PLACE, None, False),
        (PLACE, ["https://api.example.com"], False),
    ],
)
def test_which_resource_they_are_about(place: str, resource: Any, is_right: bool) -> None:
    """What was asked, or what has its metadata in that very place and what was asked within it."""
    web, one = two(**{place: document(resource=resource, authorization_servers=[ISSUER])}), open_server()
    if is_right:
        assert web.find(one, None, place).issuer == ISSUER
    else:
        web.fails(one.find(web.attempt(None, place)), ConfigurationError)
        assert web.asked == [place]


def test_resource_metadata_that_are_not_there() -> None:
    """A 404 is told as one; a redirect leads nowhere; an outage is an outage."""
    for answer in (
        GONE,
        ServerResponse(302, {"location": "https://evil.example/"}, b""),
        ServerResponse(200, {}, b"x"),
    ):
        web, one = two(**{PLACE: answer}), open_server()
        assert str(answer.status) in str(web.fails(one.find(web.attempt(None, PLACE)), ConfigurationError))
        assert web.asked == [PLACE]
    web, one = two(**{PLACE: ServerResponse(503, {"retry-after": "3"}, b"")}), open_server()
    error = web.fails(one.find(web.attempt(None, PLACE)), TokenEndpointUnavailable)
    assert (error.outcome, error.retry_after) == ("not sent", 3.0)


def test_resource_metadata_that_cannot_be_read_again() -> None:
    """Who is known already serves on."""
    web, one = two(**{PLACE: [trusts(OTHER), ConnectError()]}), open_server()
    assert web.find(one, None, PLACE).issuer == OTHER
    assert web.find(one, None, PLACE).issuer == OTHER


def test_nobody_has_said_which() -> None:
    """A 401 without `resource_metadata` leaves several issuers several."""
    web, one = two(), open_server()
    assert "RFC 9728" in str(web.fails(one.find(web.attempt()), ConfigurationError))
    assert web.asked == []


def test_the_last_one_serves_on() -> None:
    """Once the API has chosen, renewals of their own accord go there; another choice of the API is another server."""
    web, one = two(**{PLACE: [trusts(OTHER), trusts(ISSUER)]}), open_server()
    for challenge, expected in ((PLACE, OTHER), (None, OTHER), (PLACE, ISSUER), (None, ISSUER)):
        assert web.find(one, None, challenge).issuer == expected


def test_a_token_tells_its_issuer() -> None:
    """The token of a store knows where it came from; an API that trusts several does not change that."""
    entry = Entry(Token("a"), 0.0, 1.0, issuer=OTHER)
    web, one = two(), open_server()
    assert not one.is_unknown(entry.issuer)
    assert web.find(one, entry).issuer == OTHER
    web, one = two(**{PLACE: trusts(ISSUER, OTHER)}), open_server()
    assert web.find(one, entry, PLACE).issuer == OTHER


def test_a_refresh_token_goes_back_to_its_issuer() -> None:
    """Whatever an API says: another server, even one that is allowed, does not get to see it (mix-up)."""
    web, one = two(**{PLACE: trusts(ISSUER)}), open_server()
    entry = Entry(Token("a", refresh_token="r"), 0.0, 1.0, issuer=OTHER)
    assert web.find(one, entry, PLACE).issuer == OTHER
    assert web.asked == [f"{OTHER}/.well-known/openid-configuration"]
    assert web.find(one, entry.spent(), PLACE).issuer == ISSUER  # nothing is presented any more


@pytest.mark.parametrize("extra", [{}, {"issuer": "https://evil.example"}, {"issuer": [ISSUER]}])
def test_a_refresh_token_of_nobody_knows_whom_goes_nowhere(extra: dict[str, Any]) -> None:
    """One that the program brought: neither an API, nor what was chosen for another session, says whose it is."""
    given = Entry.of_login(Token("a", refresh_token="SENTINEL", extra=extra), 0.0)
    web, one = two(**{PLACE: trusts(ISSUER)}), open_server()
    for _ in range(2):
        for attempt in (web.attempt(given, PLACE), web.attempt(given), replace(web.attempt(given), may_log_in=False)):
            error = web.fails(one.find(attempt), ConfigurationError)
            assert "name the one issuer=" in str(error)
            assert "SENTINEL" not in str(error)
            assert web.asked == []
        one._chosen = ISSUER
    web.fails(one.find(replace(web.attempt(given.spent()), may_log_in=False)), ConfigurationError)  # to revoke it
    assert web.find(one, given.spent()).issuer == ISSUER  # a new login


@pytest.mark.parametrize("kind", [AuthorizationCode, RefreshToken])
def test_nor_is_it_revoked_anywhere(kind: Any) -> None:
    """Tokens whose issuer nobody knows are not shown to the one that an API chose for others."""
    grant = kind(issuer=[ISSUER, OTHER], client_id="c")
    web = two(**{OPENID: about(revocation_endpoint=f"{ISSUER}/revoke"), f"{ISSUER}/revoke": document()})
    grant._server._chosen = ISSUER
    for given in (entry := Entry.of_login(Token("a", refresh_token="r"), 0.0), entry.spent()):
        web.fails(grant.revoke(replace(web.attempt(given), may_log_in=False)), ConfigurationError)
        assert web.asked == []
    assert web.play(grant.revoke(web.attempt(entry.having(issuer=ISSUER))))


def test_a_token_from_outside_may_say_whose_it_is() -> None:
    """As `finish` has it: what the token says is heeded like what an entry says, which comes first."""
    given = Entry.of_login(Token("a", refresh_token="r", extra={"issuer": OTHER}), 0.0)
    web, one = two(**{PLACE: trusts(ISSUER)}), open_server()
    assert web.find(one, given, PLACE).issuer == OTHER
    assert web.find(one, given.having(issuer=ISSUER), PLACE).issuer == ISSUER


def test_an_issuer_that_is_asked_for_by_name() -> None:
    """A login that was begun elsewhere is not finished here."""
    web, one = two(), open_server()
    assert web.play(one.find(web.attempt(), OTHER)).issuer == OTHER
    web.fails(one.find(web.attempt(), "https://evil.example"), ConfigurationError)


# What a program may say


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"issuer": ISSUER, "endpoints": {"token_endpoint": "https://a/t"}}, "contradict"),
        ({"issuer": ISSUER, "endpoints": {}, "metadata": {"a": 1}}, "contradict"),
        ({"issuer": None, "endpoints": {"token_endpoint": None}}, "issuer="),
        ({"issuer": None, "endpoints": {"authorization_endpoint": None, "token_endpoint": "https://a/t"}}, "missing"),
        ({"issuer": None, "endpoints": {"token_endpoint": "http://a/t"}}, "https"),
        ({"issuer": None, "endpoints": {"token_endpoint": "https://a:99999/t"}}, "port"),
        ({"issuer": None, "endpoints": {"token_endpoint": "https://a/t\n"}}, "control"),
        (
            {"issuer": None, "endpoints": {"token_endpoint": "https://a/t"}, "metadata": {"x_endpoint": "http://a/x"}},
            "x_endpoint",
        ),
        *(
            ({"issuer": None, "endpoints": {"token_endpoint": "https://a/t"}, "metadata": {"a": wrong}}, "JSON")
            for wrong in (object(), {1, 2}, float("nan"), {(): 1})
        ),
        ({"issuer": "", "endpoints": {}}, "issuer"),
        ({"issuer": [], "endpoints": {}}, "empty"),
        ({"issuer": 5, "endpoints": {}}, "several"),
        ({"issuer": [5], "endpoints": {}}, "string"),
        ({"issuer": b"https://a", "endpoints": {}}, "string"),
        ({"issuer": [ISSUER, None], "endpoints": {}}, "issuer"),
        ({"issuer": f"{ISSUER}?a=b", "endpoints": {}}, "query"),
        ({"issuer": f"{ISSUER}?", "endpoints": {}}, "query"),
        ({"issuer": f"{ISSUER}#a", "endpoints": {}}, "fragment"),
        ({"issuer": "https://u:p@a", "endpoints": {}}, "user"),
        ({"issuer": "http://auth.example.com", "endpoints": {}}, "https"),
        ({"issuer": "auth.example.com", "endpoints": {}}, "absolute"),
        ({"issuer": [ISSUER, "http://auth.example.com"], "endpoints": {}}, "https"),
    ],
)
def test_what_a_program_says_is_looked_at_at_once(options: dict[str, Any], word: str) -> None:
    """Contradictions, and URLs to which no credential may go, are refused when the grant is made."""
    with pytest.raises(ConfigurationError, match=word):
        Server(**options)


def test_all_that_is_said_in_the_place_of_a_document_makes_a_difference() -> None:
    """Lists and objects as well, such as the aliases for mutual TLS; in any order, and as it was when it was said."""

    def named(**metadata: Any) -> str:
        one = Server(issuer=None, endpoints={"token_endpoint": f"{ISSUER}/token"}, metadata=metadata)
        for found in metadata.values():
            if isinstance(found, dict):
                found.clear()
        return json.dumps(one.identity(), sort_keys=True)

    def aliases(**more: Any) -> dict[str, Any]:
        return {"mtls_endpoint_aliases": {"token_endpoint": f"{OTHER}/token", **more}}

    different = [
        named(),
        named(**aliases()),
        named(**aliases(token_endpoint=f"{ISSUER}/mtls")),
        named(**aliases(more=[1, 2])),
        named(token_endpoint_auth_methods_supported=["client_secret_post"]),
        named(token_endpoint_auth_methods_supported=["client_secret_basic"]),
        named(a=True),
        named(a="true"),
    ]
    assert len(set(different)) == len(different)
    assert named(**aliases(a=1, b=2), c=3, d=4) == named(d=4, c=3, **aliases(b=2, a=1))


def test_what_makes_two_servers_different() -> None:
    """One issuer, a list with that one alone (the API may refuse it), several in any order, endpoints."""
    named = Server(issuer=None, endpoints={"token_endpoint": f"{ISSUER}/token"})
    several = [server(ISSUER), server([ISSUER]), open_server(), named]
    assert len({json.dumps(one.identity(), sort_keys=True) for one in several}) == 4
    assert open_server(ISSUER, OTHER).identity() == open_server(OTHER, ISSUER).identity()
    assert [one.host for one in several] == [
        "auth.example.com",
        "auth.example.com",
        "login.example.org",
        "auth.example.com",
    ]
