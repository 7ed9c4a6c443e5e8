"""The guard as FastAPI sees it: challenges, scopes, the OpenAPI document, websockets, and a client of ours."""

# No `from __future__ import annotations`: FastAPI reads those of routes that are made in functions.

import copy
import dataclasses
import pickle
import subprocess
import sys
import time as real_time
from typing import Annotated, Any

import guarding
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Security, WebSocket
from guarding import AUDIENCE, ISSUER, NOW, Issuer, Reply, Time, ask, claims, header, scope_of, sign, token
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from httpx_tokenflow import ClientCredentials, ConfigurationError, TokenAuth, TokenEndpointUnavailable
from httpx_tokenflow._challenges import parse_challenges
from httpx_tokenflow.doctor import Expected, explain
from httpx_tokenflow.fastapi import Caller, Guard, InvalidToken, JWTVerifier, Reason, Refusal, Verifier

GOOD = token()
PLACE = "https://api.example/.well-known/oauth-protected-resource"


class Counted:
    """A verifier of the program's own, which counts."""

    def __init__(self, **tokens: Any) -> None:
        self.tokens, self.calls = tokens, 0

    async def verify(self, token: str) -> Caller:
        self.calls += 1
        found = self.tokens.get(token, InvalidToken(Reason.INACTIVE))
        if isinstance(found, Exception):
            raise found
        return Caller(token, None, None, frozenset(found), None, {}, token)


def params(reply: Reply) -> dict[str, str]:
    (challenge,) = parse_challenges([reply.challenge or ""])
    return dict(challenge.params)


@pytest.mark.asyncio
async def test_challenges_say_what_is_wanted() -> None:
    """Realm and resource metadata are in each challenge; the scope where it is of use (RFC 6750 §3, RFC 9728 §5.1)."""
    guard = Guard(Counted(good=["read"]), realm='the "api" \\', resource_metadata=PLACE, scopes=["read"])
    app = guarding.app_of(guard, "write", "read")
    always = {"realm": 'the "api" \\', "resource_metadata": PLACE}
    nothing = await ask(app)
    assert nothing.status == 401
    assert params(nothing) == {**always, "scope": "read write"}
    bad = await ask(app, "Bearer bad")
    assert bad.status == 401
    said = {"error": "invalid_token", "error_description": "the token is not active"}
    assert params(bad) == {**always, **said}
    little = await ask(app, "Bearer good")
    assert little.status == 403
    words = {"error": "insufficient_scope", "error_description": "the token's scope does not cover this"}
    assert params(little) == {**always, **words, "scope": "read write"}
    twice = await ask(app, "Bearer good", "Bearer good")
    assert twice.status == 400
    assert params(twice)["error"] == "invalid_request"
    assert {one.field("cache-control") for one in (nothing, bad, little, twice)} == {"no-store"}


@pytest.mark.asyncio
async def test_nothing_gets_out_of_the_quotes() -> None:
    """A scope or a realm with quotes and line ends cannot end the field, or its string."""
    guard = Guard(Counted(good=[]), realm='a", error="x')
    reply = await ask(guarding.app_of(guard, 'b"\r\nSet-Cookie: c=d\x7fé'), "Bearer good")
    assert params(reply)["realm"] == 'a", error="x'
    assert params(reply)["scope"] == 'b"Set-Cookie: c=d'
    assert b"\r" not in (reply.challenge or "").encode()
    assert reply.field("set-cookie") is None


@pytest.mark.parametrize(
    ("has", "wanted", "status"),
    [
        ([], [], 200),
        (["read"], ["read"], 200),
        (["read", "write"], ["write", "read"], 200),
        (["read"], ["read", "write"], 403),
        ([], ["read"], 403),
        (["readwrite"], ["read"], 403),
        (["READ"], ["read"], 403),
    ],
)
@pytest.mark.asyncio
async def test_all_scopes_must_be_there(has: list[str], wanted: list[str], status: int) -> None:
    """Each scope of the guard and of the route must be in the token, to the letter."""
    assert (await ask(guarding.app_of(Guard(Counted(good=has)), *wanted), "Bearer good")).status == status
    assert (await ask(guarding.app_of(Guard(Counted(good=has), scopes=wanted)), "Bearer good")).status == status


def app_of_many(guard: Guard) -> FastAPI:
    """An app, a router and routes with scopes of their own."""
    app = FastAPI()
    router = APIRouter(dependencies=[Security(guard, scopes=["base"])])

    @router.get("/orders")
    async def orders(
        request: Request,
        caller: Annotated[Caller, Security(guard, scopes=["orders"])],
        again: Annotated[Caller, Depends(guard)],
    ) -> Any:
        return {"sub": caller.subject, "same": caller is again is request.state.caller}

    @app.get("/open")
    async def open_to_all() -> str:
        return "open"

    app.include_router(router)
    return app


@pytest.mark.asyncio
async def test_dependencies_share_one_verification() -> None:
    """However many dependencies ask, a request is verified once; the caller is in `request.state` too."""
    verifier = Counted(good=["base", "orders"], base=["base"], orders=["orders"])
    app = app_of_many(Guard(verifier))
    reply = await ask(app, "Bearer good", path="/orders")
    assert reply.body == b'{"sub":"good","same":true}'
    assert verifier.calls == 1
    assert (await ask(app, "Bearer base", path="/orders")).status == 403
    assert (await ask(app, "Bearer orders", path="/orders")).status == 403
    assert (await ask(app, path="/orders")).status == 401
    assert (await ask(app, path="/open")).status == 200


@pytest.mark.asyncio
async def test_two_guards_are_two_questions() -> None:
    """What one guard has found out counts for no other, nor for another token on the same request."""
    lax, strict = Counted(good=[]), Counted()
    scope = scope_of("Bearer good")
    assert (await Guard(lax).check(HTTPConnection(scope))).subject == "good"
    with pytest.raises(Refusal):
        await Guard(strict).check(HTTPConnection(scope))
    scope["headers"] = [(b"authorization", b"Bearer other")]
    with pytest.raises(Refusal):
        await Guard(lax).check(HTTPConnection(scope))


class Clocked(Counted):
    """Counts, has a clock, and its tokens end."""

    def __init__(self, time: Time, ends: float | None) -> None:
        super().__init__(good=[])
        self._clock, self.ends = time.clock, ends

    async def verify(self, token: str) -> Caller:
        found = await super().verify(token)
        return Caller(found.subject, None, None, found.scope, self.ends, {}, token)


@pytest.mark.parametrize(("ends", "again_after"), [(NOW + 10, 10), (NOW + 1000, 60), (None, 60)])
@pytest.mark.asyncio
async def test_what_was_seen_on_a_request_does_not_last(ends: float | None, again_after: float) -> None:
    """On a request that goes on the verifier is asked again when the token has ended, or after a minute."""
    time = Time()
    verifier = Clocked(time, ends)
    guard, request = Guard(verifier), HTTPConnection(scope_of("Bearer good"))
    await guard.check(request)
    time.now += again_after - 1
    await guard.check(request)
    assert verifier.calls == 1
    time.now += 1
    await guard.check(request)
    assert verifier.calls == 2
    verifier.tokens.clear()
    time.now += again_after
    with pytest.raises(Refusal):
        await guard.check(request)


@pytest.mark.asyncio
async def test_a_websocket_is_verified_each_time() -> None:
    """Who asks again about a websocket is told what holds now."""
    verifier = Counted(good=[])
    scope = {**scope_of("Bearer good"), "type": "websocket"}
    for _ in range(2):
        await Guard(verifier).check(HTTPConnection(scope))
    assert verifier.calls == 2
    verifier.tokens.clear()
    with pytest.raises(Refusal):
        await Guard(verifier).check(HTTPConnection(scope))


@pytest.mark.asyncio
async def test_a_guard_remembers_its_own_verifier_alone() -> None:
    """What stands on a request under the number of a verifier that is gone counts for no other."""
    strict = Counted()
    scope = scope_of("Bearer good")
    gone = Caller("eve", None, None, frozenset(), None, {}, "good")
    scope["httpx_tokenflow.fastapi.callers"] = {id(strict): (Counted(good=[]), gone, float("inf"))}
    with pytest.raises(Refusal):
        await Guard(strict).check(HTTPConnection(scope))


@pytest.mark.asyncio
async def test_a_route_that_returns_its_caller_keeps_the_token() -> None:
    """Whatever writes a caller down has no token: FastAPI, pydantic, `asdict`, `vars`, `repr`; the route has it."""
    guard = Guard(Issuer().verifier(Time()))
    app = FastAPI()

    @app.get("/plain")
    async def plain(caller: Annotated[Caller, Security(guard)]) -> Any:
        return {"caller": [caller]}

    @app.get("/model")
    async def model(caller: Annotated[Caller, Security(guard)]) -> Caller:
        return caller

    for path in ("/plain", "/model"):
        reply = await ask(app, f"Bearer {GOOD}", path=path)
        assert (reply.status, b'"subject":"ada"' in reply.body) == (200, True)
        assert not any(part.encode() in reply.body for part in GOOD.split("."))
    assert "token" not in app.openapi()["components"]["schemas"]["Caller"]["properties"]
    caller = await Issuer().verifier(Time()).verify(GOOD)
    assert caller.token == GOOD
    assert not any(part in str(dataclasses.asdict(caller)) + repr(caller) for part in GOOD.split("."))


def test_a_caller_is_a_value() -> None:
    """Callers are compared by all that they have, can be keys and copied, and cannot be changed."""
    made = [Caller("ada", "web", ISSUER, frozenset({"read"}), NOW, {"sub": "ada"}, one) for one in ("a", "a", "b")]
    assert made[0] == made[1] != made[2]
    assert made[0] != "ada"
    assert len(set(made)) == 2
    for again in (copy.copy(made[0]), copy.deepcopy(made[0]), pickle.loads(pickle.dumps(made[0]))):
        assert (again, again.token) == (made[0], "a")
    assert dataclasses.replace(made[0], subject="eve", token="a").subject == "eve"
    for name in ("token", "_token", "subject"):
        with pytest.raises((AttributeError, TypeError)):  # frozen, or no place for it
            setattr(made[0], name, "other")


@pytest.mark.asyncio
async def test_scopes_are_no_string() -> None:
    """A string where words are wanted is an error of the program, and no scope of one letter each."""
    with pytest.raises(ConfigurationError, match="sequence"):
        await Guard(Counted(good=[])).check(HTTPConnection(scope_of("Bearer good")), "read")


def test_the_document_names_scheme_and_scopes() -> None:
    """The OpenAPI document has the security scheme, and each route's scopes."""
    guard = Guard(JWTVerifier(ISSUER, AUDIENCE), description="By our own server", scheme_name="ours")
    document = app_of_many(guard).openapi()
    scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "By our own server"}
    assert document["components"]["securitySchemes"] == {"ours": scheme}
    (security,) = document["paths"]["/orders"]["get"]["security"]
    assert set(security["ours"]) == {"base", "orders"}
    assert "security" not in document["paths"]["/open"]["get"]
    opaque = app_of_many(Guard(Counted())).openapi()["components"]["securitySchemes"]
    assert opaque == {"bearer": {"type": "http", "scheme": "bearer"}}


@pytest.mark.asyncio
async def test_a_guard_is_overridden_like_any_dependency() -> None:
    """A test may put somebody else in the guard's place, as FastAPI people do."""
    guard = Guard(Counted())
    app = guarding.app_of(guard, "read")
    app.dependency_overrides[guard] = lambda: Caller("tester", None, None, frozenset(), None, {}, "")
    assert (await ask(app)).body == b'{"sub":"tester"}'


@pytest.mark.parametrize("how", [{}, {"retry_after": 0.2}, {"retry_after": 7.2}, {"retry_after": 9999.0}])
@pytest.mark.asyncio
async def test_an_outage_is_503(how: dict[str, Any]) -> None:
    """Where a token cannot be verified now the answer is 503 with Retry-After, and no challenge."""
    error = TokenEndpointUnavailable("as.example is out", outcome="not sent", **how)
    reply = await ask(guarding.app_of(Guard(Counted(good=error))), "Bearer good")
    assert (reply.status, reply.challenge) == (503, None)
    expected = {None: "5", 0.2: "1", 7.2: "8", 9999.0: "300"}
    assert reply.field("retry-after") == expected[how.get("retry_after")]
    assert b"as.example" not in reply.body


@pytest.mark.asyncio
async def test_a_verifier_that_breaks_lets_nobody_in() -> None:
    """What a verifier raises in a defect is an error of the app, and no way in."""
    with pytest.raises(ZeroDivisionError):
        await ask(guarding.app_of(Guard(Counted(good=ZeroDivisionError()))), "Bearer good")


@pytest.mark.asyncio
async def test_tokens_elsewhere_do_not_count() -> None:
    """A token in the query, in a cookie or in another field is none (RFC 6750 §2.2, §2.3)."""
    app = guarding.app_of(Guard(Counted(good=[])))
    more = [(b"cookie", b"access_token=good"), (b"x-authorization", b"Bearer good"), (b"proxy-authorization", b"x")]
    scope = scope_of(more=more)
    scope["query_string"] = b"access_token=good&token=good"
    assert (await ask(app, scope=scope)).status == 401


def websocket_app(guard: Guard) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def serve(websocket: WebSocket, caller: Annotated[Caller, Security(guard, scopes=["read"])]) -> None:
        await websocket.accept()
        await websocket.send_text(f"{caller.subject} {websocket.state.caller.subject}")
        await websocket.close()

    return app


def test_websockets_are_guarded_before_they_are_accepted() -> None:
    """A websocket with a good token is served; another is refused before it is accepted."""
    client = TestClient(websocket_app(Guard(Counted(good=["read"], little=[]))))
    with client.websocket_connect("/ws", headers={"Authorization": "Bearer good"}) as socket:
        assert socket.receive_text() == "good good"
    for headers in ({}, {"Authorization": "Bearer bad"}, {"Authorization": "Bearer little"}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws", headers=headers):
            raise AssertionError


@pytest.mark.asyncio
async def test_a_refused_websocket_says_why() -> None:
    """A websocket is refused with the status and the challenge, where the server can send them."""
    sent: list[Any] = []
    scope = {**scope_of(path="/ws"), "type": "websocket", "scheme": "wss", "subprotocols": []}
    scope["extensions"] = {"websocket.http.response": {}}

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await websocket_app(Guard(Counted()))(scope, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 401)
    assert dict(sent[0]["headers"])[b"www-authenticate"] == b'Bearer realm="api", scope="read"'


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"verifier": None}, "verifier"),
        ({"verifier": JWTVerifier}, "verifier"),
        ({"realm": "a\r\nb"}, "realm="),
        ({"realm": "é"}, "realm="),
        ({"realm": 1}, "realm="),
        ({"resource_metadata": "http://api.example/x"}, "resource_metadata="),
        ({"resource_metadata": "https://api.example/a b"}, "resource_metadata="),
        ({"resource_metadata": "https://api.example/\r\n"}, "resource_metadata="),
        ({"scopes": "read"}, "scopes="),
        ({"scopes": ["read write"]}, "scopes="),
        ({"scopes": ['"']}, "scopes="),
        ({"scopes": [1]}, "scopes="),
    ],
    ids=str,
)
def test_what_no_guard_can_use_is_refused_early(how: dict[str, Any], says: str) -> None:
    """A guard that could not work is not made."""
    with pytest.raises(ConfigurationError, match=says):
        Guard(**{"verifier": Counted(), **how})


def test_verifiers_are_verifiers() -> None:
    """Whatever has `verify` is a verifier."""
    assert isinstance(Counted(), Verifier)
    assert isinstance(JWTVerifier(ISSUER, AUDIENCE), Verifier)
    assert repr(Guard(JWTVerifier(ISSUER, AUDIENCE))) == f"<Guard api <JWTVerifier {ISSUER} for {AUDIENCE}>>"


# A client of ours in front of the guard


class Mint:
    """A token endpoint that issues tokens of any kind, in order; the last one from then on."""

    def __init__(self, *tokens: str) -> None:
        self.tokens, self.requests = list(tokens), 0

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self.answer))

    def answer(self, _request: httpx.Request) -> httpx.Response:
        self.requests += 1
        one = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        return httpx.Response(200, json={"access_token": one, "token_type": "Bearer", "expires_in": 3600})


@pytest.mark.anyio
async def test_a_client_of_ours_gets_over_the_guards_401() -> None:
    """A `TokenAuth` whose token has expired gets the guard's 401, renews, and the caller sees the 200."""
    mint = Mint(token(exp=NOW - 100), GOOD)
    grant = ClientCredentials(f"{ISSUER}/token", client_id="web", client_secret="its secret")
    auth = TokenAuth(grant, client=mint.client(), origins=["https://api.example"])
    app = guarding.app_of(Guard(Issuer().verifier(Time())), "read")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api.example", auth=auth) as api:
        responses = [await api.get("/") for _ in range(3)]
    assert [one.status_code for one in responses] == [200] * 3
    assert mint.requests == 2


WITHOUT_SCOPE = token(scope="other")
CAUSES = [
    (token(exp=NOW - 100), "token-expired"),
    (token(nbf=NOW + 100), "token-not-yet-valid"),
    (token(aud="https://other.example"), "wrong-audience"),
    (token(iss="https://other.example"), "wrong-issuer"),
    (WITHOUT_SCOPE, "missing-scope"),
    (sign(header(), claims(), "rsa-attacker"), "wrong-signature"),
    (sign(header(kid="other"), claims(), "rsa-attacker"), "unknown-key"),
    (sign(header(typ="JWT"), claims(at_hash="x")), "wrong-token-type"),
]


@pytest.mark.parametrize(("sent", "cause"), CAUSES, ids=[cause for _, cause in CAUSES])
@pytest.mark.asyncio
async def test_the_doctor_understands_the_guard(sent: str, cause: str) -> None:
    """Of the guard's refusal the doctor names the cause."""
    app = guarding.app_of(Guard(Issuer().verifier(Time())), "read")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api.example") as api:
        response = await api.get("/", headers={"Authorization": f"Bearer {sent}"})
    diagnosis = explain(response, now=NOW, expected=Expected())
    assert diagnosis.findings[0].id == cause


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""


def test_starlette_alone_will_do() -> None:
    """Without FastAPI the guard and its middleware work."""
    code = (
        HIDE.format(hidden={"fastapi"})
        + """
import asyncio, httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from httpx_tokenflow.fastapi import Caller, Guard, GuardMiddleware

class Yes:
    async def verify(self, token):
        return Caller(token, None, None, frozenset(), None, {}, token)

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse(request.state.caller.subject))])
app.add_middleware(GuardMiddleware, guard=Guard(Yes()))
async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://api") as api:
        print((await api.get("/", headers={"Authorization": "Bearer ada"})).text, (await api.get("/")).status_code)
asyncio.run(main())
"""
    )
    assert python(code) == "ada 401"


def test_without_either_the_error_names_the_extra() -> None:
    """Without Starlette the import says what to install."""
    code = (
        HIDE.format(hidden={"fastapi", "starlette"})
        + """
from httpx_tokenflow import ConfigurationError
try:
    import httpx_tokenflow.fastapi
except ConfigurationError as error:
    print(error)
"""
    )
    assert "pip install 'httpx-tokenflow[fastapi]'" in python(code)


@pytest.mark.asyncio
async def test_a_refusal_takes_no_time() -> None:
    """The largest token that is looked at is refused in bounded time, whatever it is made of."""
    app = guarding.app_of(Guard(Issuer().verifier(Time())))
    started = real_time.monotonic()
    for filling in ("a", ".", "=", "-", "A."):
        assert (await ask(app, f"Bearer {(filling * 16_384)[:16_384]}")).status in {400, 401}
    assert real_time.monotonic() - started < 5
