"""How programs use the package, as their type checkers see it. Nothing of it is ever run; see `test_typed.py`.

Every public name is here. `assert_type` says what a checker must infer; that a line is here says that it must pass.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, assert_type

import httpx
import httpx2
from fastapi import Depends, FastAPI, Security
from prometheus_client import CollectorRegistry

import httpx_tokenflow as tf
from httpx_tokenflow import doctor, events, grants, instrumentation, stores, testing
from httpx_tokenflow import fastapi as tf_fastapi

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

URL = "https://auth.example.com/token"
APP: dict[str, str] = {}


# What a program gives: secrets, handlers, stores and grants of its own


def secret() -> str:
    return "…"


async def asecret() -> str:
    return "…"


async def credentials() -> dict[str, str]:
    return {"username": "ann", "password": await asecret()}


def on_prompt(prompt: tf.DevicePrompt) -> None:
    assert_type(prompt.user_code, str)
    assert_type(prompt.verification_uri_complete, str | None)
    assert_type(prompt.interval, float)


async def aon_prompt(prompt: tf.DevicePrompt) -> None:
    on_prompt(prompt)


def on_event(event: events.Event) -> None:
    assert_type(event.source, str)
    if isinstance(event, events.TokenRenewed | events.TokenObtained):
        assert_type(event.why, events.Why)
        assert_type(event.expires_in, float)
    elif isinstance(event, events.RenewalFailed):
        assert_type(event.error, tf.TokenFlowError)
        assert_type(event.expires_in, float | None)
    elif isinstance(event, events.RequestDone):
        assert_type(event.outcome, Literal["accepted", "absorbed", "refused", "failed", "broken"])
    elif isinstance(event, events.StoreFailed):
        assert_type(event.error, tf.StoreError)
    elif isinstance(event, events.Waited):
        assert_type((event.leads, event.served, event.seconds), tuple[bool, bool, float])
    elif isinstance(event, events.RequestRefused):
        assert_type((event.status, event.scope), tuple[int, str | None])
    elif isinstance(event, events.RefusalExplained):
        assert_type((event.verdict, event.remedy, event.times), tuple[str, str | None, int])
    elif isinstance(event, events.BreakerOpened | events.BreakerClosed):
        assert_type(event.origin, str)
    elif isinstance(event, events.Revoked):
        assert_type(event.agreed, bool)
    elif isinstance(event, events.SecretFellBack):
        assert_type(event.what, str)


class Watcher:
    """A handler that is an object."""

    every_request = True

    def __call__(self, event: events.Event) -> int:
        return len(str(event))


class OwnStore:
    """The sync side of a store."""

    def load(self, fingerprint: str) -> stores.Entry | None:
        return None

    def save(self, fingerprint: str, entry: stores.Entry, *, replaces: str | None) -> bool:
        assert_type((entry.token, entry.lifetime, entry.fence), tuple[tf.Token, float | None, str])
        return True

    def delete(self, fingerprint: str, *, fence: str) -> bool:
        return True

    @contextmanager
    def lease(self, fingerprint: str, seconds: float, patience: float) -> Generator[bool]:
        yield True


class OwnAsyncStore:
    """The async side of one."""

    async def aload(self, fingerprint: str) -> stores.Entry | None:
        return None

    async def asave(self, fingerprint: str, entry: stores.Entry, *, replaces: str | None) -> bool:
        return True

    async def adelete(self, fingerprint: str, *, fence: str) -> bool:
        return True

    @asynccontextmanager
    async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncGenerator[bool | None]:
        yield None


class OwnGrant:
    """A grant of one's own, as `httpx_tokenflow.grants` has it."""

    spends = False

    def identity(self) -> dict[str, str]:
        return {"grant": "desk ticket"}

    def obtain(self, attempt: grants.Attempt) -> Generator[grants.Step, Any, grants.Minted]:
        held: grants.Entry | None = attempt.presented
        asked: grants.Challenge | None = attempt.challenge
        assert_type(asked.scope if asked else None, str | None)
        yield grants.Patience(300.0)
        key: str = grants.check_credential((yield grants.Call(asecret, "key", attempt.timeout)), "key")
        yield grants.Work(lambda: held)
        yield grants.Sleep(0.5)
        request = grants.ServerRequest(grants.check_endpoint(URL, "url"), json={"key": key})
        response: grants.ServerResponse = yield grants.Fetch(request, attempt.timeout)
        sent_at = attempt.clock.wall()
        answer = grants.read_json(response, sent_at, secrets=[key])
        assert_type(answer, dict[str, Any])
        assert_type(grants.read_seconds(answer.get("validFor")), float | None)
        assert_type(grants.read_token_response(response, now=sent_at), grants.Minted)
        return grants.Minted(grants.Token(answer["ticket"]), lifetime=60.0)


own_grant: grants.Grant = OwnGrant()
own_store: stores.Store = OwnStore()
own_async_store: stores.AsyncStore = OwnAsyncStore()
memory: stores.Store = stores.MemoryStore(limit=10)
memory_too: stores.AsyncStore = stores.MemoryStore()
leases: tuple[AbstractContextManager[bool | None], AbstractAsyncContextManager[bool | None]] = (
    own_store.lease("", 1.0, 1.0),
    own_async_store.alease("", 1.0, 1.0),
)


# Grants, and how a client proves who it is


all_grants: list[grants.Grant] = [
    tf.ClientCredentials(URL, client_id="orders", client_secret="…", scope="a b", audience="x", resource=["y", "z"]),
    tf.ClientCredentials(issuer="https://auth.example.com", client_id="orders", client_secret=secret),
    tf.ClientCredentials(issuer=("https://a.example", "https://b.example"), client_id="orders", client_secret=asecret),
    tf.ClientCredentials(URL, client_id="orders", client_secret=["new", "old"], client_auth=tf.ClientSecretPost()),
    tf.ClientCredentials(URL, client_id="o", client_secret=tf.EnvSecret("S"), client_auth=tf.ClientSecretBasic()),
    tf.ClientCredentials(URL, client_id="o", client_secret=tf.FileSecret(Path("s"), max_age=5), extra={"x": "y"}),
    tf.ClientCredentials(URL, client_id="o", client_secret="…", client_auth=tf.ClientSecretJWT(alg="HS512")),
    tf.ClientCredentials(URL, client_id="o", client_auth=tf.PrivateKeyJWT({"kty": "EC"}, kid="1", headers={"x": "y"})),
    tf.ClientCredentials(URL, client_id="o", client_auth=tf.PrivateKeyJWT(lambda signing_input: b"", alg="ES256")),
    tf.ClientCredentials(URL, client_id="o", client_auth=tf.TLSClientAuth("cert.pem", Path("key.pem"))),
    tf.RefreshToken(URL, client_id="desk", subject="ann"),
    tf.AuthorizationCode(issuer="https://auth.example.com", client_id="desk", scope=["openid", "a"], timeout=60),
    tf.DeviceCode(issuer="https://auth.example.com", client_id="tv", on_prompt=on_prompt),
    tf.DeviceCode("https://auth.example.com/device", URL, client_id="tv", on_prompt=aon_prompt),
    tf.TokenExchange(URL, client_id="o", client_secret="…", subject_token=asecret, actor_token="…"),
    tf.JWTBearer(URL, key="PEM", iss="me", sub="me", aud=URL, alg="RS256", claims={"scope": "a"}),
    tf.SessionLogin(URL, credentials={"username": "ann", "password": secret}, fields={"access_token": ["a", "b"]}),
    tf.SessionLogin(URL, credentials=credentials, refresh_url=URL, logout_url=URL),
]


def web_backend(callback_url: str) -> tf.TokenAuth:
    login = tf.AuthorizationCode(
        issuer="https://auth.example.com", client_id="web", redirect_uri="https://app.example/"
    )
    url, state = login.start()
    assert_type(url, str)
    return tf.TokenAuth(tf.RefreshToken(URL, client_id="web"), token=login.finish(callback_url, state))


async def aweb_backend(callback_url: str) -> tf.Token:
    login = tf.AuthorizationCode(
        issuer="https://auth.example.com", client_id="web", redirect_uri="https://app.example/"
    )
    url, state = await login.astart()
    assert_type(url, str)
    return assert_type(await login.afinish(callback_url, state), tf.Token)


# What goes into auth=


policy = tf.RenewalPolicy(due_window=30, early_window=None, attempts=2, clock=tf.Clock(wall=lambda: 0.0))
auth = tf.TokenAuth(
    all_grants[0],
    token=tf.Token("…", refresh_token="…", expires_at=1_800_000_000, extra={"x": 1}),
    store=own_store,
    policy=policy,
    origins=("https://api.example.com",),
    verify=ssl.create_default_context(),
    expect={"iss": "https://prod.example.com"},
    should_renew=lambda response: bool(response.status_code == 440),
    step_up=True,
    on_event=events.to_all(on_event, Watcher(), instrumentation.PrometheusMetrics(CollectorRegistry())),
)
others = [
    tf.TokenAuth(own_grant, store=own_async_store, client=httpx.AsyncClient(), on_event=Watcher()),
    tf.TokenAuth(OwnGrant(), store=OwnStore(), client=httpx2.Client(), dpop=tf.DPoP({"kty": "EC"})),
    tf.TokenAuth(OwnGrant(), store=OwnAsyncStore(), verify=True, expect=lambda token: token.startswith("x")),
    tf.TokenAuth(OwnGrant(), store=stores.FileStore(Path("state"), keys=["…"])),
    tf.TokenAuth(OwnGrant(), store=stores.KeyringStore("orders"), on_event=instrumentation.OpenTelemetryMetrics()),
    tf.TokenAuth(OwnGrant(), store=stores.RedisStore("redis://"), on_event=instrumentation.OpenTelemetryTraces()),
]
simple: list[httpx.Auth] = [
    tf.BearerAuth("…", origins=["https://api.example.com"], expect="sk-live-"),
    tf.BearerAuth(asecret, on_event=on_event),
    tf.APIKeyAuth(["new", "old"], header="X-Key", prefix="ApiKey "),
    tf.APIKeyAuth(tf.FileSecret("key"), query="api_key"),
]


def key_value(store: Any) -> stores.AsyncStore:
    return stores.KeyValueStore(store)


def in_a_thread() -> None:
    with auth, httpx.Client(auth=auth) as client, httpx2.Client(auth=auth) as client2:
        assert_type(client.get("/", auth=auths["acme"]), httpx.Response)
        assert_type(client2.get("/", auth=tf.BearerAuth(secret)), httpx2.Response)
        client.get("/", extensions={"tokenflow": {"retry": False}})
    assert_type(auth.warm(), bool)
    assert_type(auth.token(), tf.Token)
    auth.set_token(tf.Token.from_dict(auth.token().to_dict()))
    assert_type(auth.introspect(), dict[str, Any])
    assert_type(auth.revoke(), bool)
    assert_type(auth.using(scope=["a"], resource="https://other.example.com"), tf.TokenAuth)
    auth.close()


async def on_an_event_loop() -> None:
    async with auth, httpx.AsyncClient(auth=auth) as client, httpx2.AsyncClient(auth=auth) as client2:
        assert_type(await client.get("/", auth=tf.APIKeyAuth("…")), httpx.Response)
        assert_type(await client2.get("/", auth=auths["acme"]), httpx2.Response)
    assert_type(await auth.awarm(), bool)
    assert_type(await auth.atoken(), tf.Token)
    await auth.aset_token(tf.Token("…"))
    assert_type(await auth.aintrospect("…"), dict[str, Any])
    assert_type(await auth.arevoke(), bool)
    await auth.aclose()


def a_token_in_hand(token: tf.Token, status: tf.Status) -> None:
    assert_type((token.access_token, token.token_type), tuple[str, str])
    assert_type((token.expires_at, token.refresh_token, token.scope), tuple[float | None, str | None, str | None])
    assert_type(auth.status, tf.Status)
    assert_type(status.state, tf.State)
    assert_type((status.expires_in, status.waiting), tuple[float | None, int])
    assert_type(status.last_error, tf.TokenFlowError | None)
    if status.state is tf.State.BACKED_OFF:
        raise SystemExit(status.state.value)


def auth_of(tenant: str) -> tf.TokenAuth:
    return tf.TokenAuth(tf.ClientCredentials(URL, client_id=tenant, client_secret="…"))


auths = tf.AuthCache(auth_of, limit=10_000)
assert_type(auths, tf.AuthCache[str])
assert_type(auths["acme"], tf.TokenAuth)
by_pair: tf.AuthCache[tuple[str, int]] = tf.AuthCache(lambda pair: auth_of(pair[0]), limit=2)
by_pair.discard(("acme", 1))


def what_can_go_wrong() -> str | None:
    try:
        auth.token()
    except tf.ReauthenticationRequired as error:
        return assert_type(error.error, str | None)
    except tf.TokenRequestError as error:
        assert_type(error.status, int | None)
        return error.error_description
    except tf.TokenEndpointUnavailable as error:
        assert_type(error.retry_after, float | None)
    except tf.StepUpRequired as error:
        return error.acr_values
    except (tf.OriginNotAllowed, tf.InvalidCredential, tf.ConfigurationError, tf.StoreError) as error:
        return assert_type(str(error), str)
    except tf.TokenFlowError as error:
        assert_type(error, tf.TokenFlowError)
    return None


# Why a 401?


class CoffeeBreak(doctor.Cause):
    """A cause of one's own."""

    id: ClassVar[str] = "coffee"
    title: ClassVar[str] = "Everybody has coffee"
    remedy: ClassVar[str] = "wait"
    reference: ClassVar[str] = "RFC 2324"

    def look(self, facts: doctor.Facts) -> doctor.Finding | None:
        asked: doctor.Exchange | None = facts.asked
        if asked is None or asked.status != 418 or asked.received.get("x-tea"):
            return None
        return self.found(doctor.Certainty.CERTAIN, "it is a teapot", "418")


def explained(response: httpx.Response) -> None:
    diagnosis = doctor.explain(response, expected=doctor.Expected(issuer="https://auth.example.com"))
    assert_type(diagnosis, doctor.Diagnosis)
    assert_type(diagnosis.first, doctor.Finding | None)
    assert_type(diagnosis.findings, tuple[doctor.Finding, ...])
    facts = doctor.Facts(exchanges=(doctor.Exchange(status=401, received=doctor.Fields([("a", "b")])),))
    assert_type(doctor.diagnose(facts, [CoffeeBreak()]).is_healthy, bool)
    sent: doctor.Sent = doctor.sent_in("Authorization", "Bearer …")
    reading: doctor.Reading = doctor.read_token(sent.value)
    assert_type(reading.claims["sub"], Any)
    refusal = doctor.Refusal(status=401, error="invalid_token")
    assert_type(refusal.error, str | None)


def examined(question: doctor.Question) -> Generator[doctor.Probe, doctor.Exchange, doctor.Facts]:
    assert_type(doctor.plan(question)[: doctor.MAX_PROBES], list[doctor.Probe])
    return (yield from doctor.examine(question))


# In a service


class OwnVerifier:
    """A verifier of one's own."""

    async def verify(self, token: str) -> tf_fastapi.Caller:
        if token != "…":
            raise tf_fastapi.InvalidToken(tf_fastapi.Reason.SIGNATURE)
        return tf_fastapi.Caller(
            subject="ann", client_id=None, issuer=None, scope=frozenset(), expires_at=None, claims={}, token=token
        )


verifier: tf_fastapi.Verifier = OwnVerifier()
guard = tf_fastapi.Guard(tf_fastapi.JWTVerifier("https://auth.example.com", "orders"), scopes=["orders:read"])
other_guards = [
    tf_fastapi.Guard(verifier),
    tf_fastapi.Guard(tf_fastapi.IntrospectionVerifier(auth), realm="orders"),
]
on_behalf = tf_fastapi.OnBehalfOf(
    guard,
    lambda token: tf.TokenExchange(URL, client_id="o", client_secret="…", subject_token=token),
    origins=("https://billing.example.com",),
)
forwarding = tf_fastapi.Forwarding(guard, origins=("https://reports.example.com",))
upstreams = tf_fastapi.Upstreams({"billing": lambda: httpx.AsyncClient(auth=auth)}, auths={"grpc": auth}, patience=5)
app = FastAPI(lifespan=upstreams.lifespan)
app.add_route("/ready", tf_fastapi.readiness(upstreams, required=["billing"]))
app.add_middleware(tf_fastapi.GuardMiddleware, guard=guard, exempt=["/ready"])
tf_fastapi.install_problems(app, guard=guard)


@app.get("/invoices")
async def invoices(
    caller: Annotated[tf_fastapi.Caller, Security(guard, scopes=["invoices:read"])],
    for_caller: Annotated[tf.TokenAuth, Depends(on_behalf)],
    as_it_is: Annotated[tf.BearerAuth, Depends(forwarding)],
    billing: Annotated[httpx.AsyncClient, Depends(upstreams.client("billing"))],
) -> dict[str, str | None]:
    assert_type(await billing.get("/", auth=for_caller), httpx.Response)
    await billing.get("/", auth=as_it_is)
    assert_type((caller.subject, caller.scope), tuple[str | None, frozenset[str]])
    assert_type(await on_behalf(caller), tf.TokenAuth)
    return {"subject": caller.subject}


def refused(error: tf_fastapi.Refusal) -> int:
    return assert_type(error.status_code, int)


# What is measured, and tests


def measured() -> None:
    assert_type(instrumentation.MEASURES[0], instrumentation.Measure)
    assert_type((instrumentation.dashboard(), instrumentation.alerts(), instrumentation.table()), tuple[str, str, str])


def in_a_test(tokenflow_sandbox: testing.Sandbox, tokenflow_clock: testing.ManualClock) -> None:
    faults: list[testing.Fault] = [
        testing.Answer({"access_token": "…"}), testing.Drip(0.1), testing.DropAfter(), testing.DropBefore(),
        testing.Endless(), testing.Garbage(), testing.Html(), testing.Refuse("insufficient_scope", status=403),
        testing.Silent(), testing.Slow(1), testing.Status(503, retry_after=1), testing.Truncated(),
    ]  # fmt: skip
    tokenflow_sandbox.script(*faults, on="token")
    tokenflow_clock.advance(3600)
    tested = tf.TokenAuth(own_grant, policy=tf.RenewalPolicy(clock=tokenflow_clock.clock))
    with httpx.Client(transport=tokenflow_sandbox.transport(), auth=tested) as client:
        client.get("/api/x")
    assert_type(tokenflow_sandbox.token_requests, int)
    assert_type(tokenflow_sandbox.seen, list[testing.Seen])
    assert_type(tokenflow_sandbox.mint("ann", audience="orders", scope="read"), str)
    testing.assert_token_requests(tokenflow_sandbox, 1)
    testing.assert_faults_used(tokenflow_sandbox)
    testing.assert_nothing_leaked(tokenflow_sandbox, client)
    testing.LeakWatch(tokenflow_sandbox).check()
    with testing.serve(testing.Sandbox(lifetime=5, clock=tokenflow_clock)) as url:
        assert_type(url, str)
