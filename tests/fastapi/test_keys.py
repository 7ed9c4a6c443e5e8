"""The issuer's keys: read once for everybody, renewed aside, rate-limited, and what becomes of them in an outage."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import threading
from base64 import urlsafe_b64decode
from typing import Any

import anyio
import anyio.lowlevel
import guarding
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from guarding import AUDIENCE, ISSUER, Issuer, Time, ask, claims, header, jwk, sign

from httpx_tokenflow import ClientCredentials, ConfigurationError, TokenEndpointUnavailable
from httpx_tokenflow.fastapi import Guard, IntrospectionVerifier, InvalidToken, JWTVerifier, Reason
from httpx_tokenflow.fastapi._once import Once

GOOD = guarding.token()
NEW = sign(header(kid="rsa-new"), claims(), "rsa-new")


def made_up(at: int) -> str:
    return sign(header(kid=f"made-up-{at}"), claims(), "rsa-attacker")


async def verdict(verifier: JWTVerifier, token: str) -> Any:
    """Who it is, or why not."""
    try:
        return (await verifier.verify(token)).subject
    except InvalidToken as no:
        return no.reason


async def settled(issuer: Issuer, fetches: int) -> None:
    """Wait until what is done aside has asked for the set so often, and is over."""
    with anyio.fail_after(10):
        while issuer.fetches < fetches:
            await anyio.lowlevel.checkpoint()
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_a_flood_of_made_up_keys_costs_one_request_per_cooldown() -> None:
    """1,000 tokens with made-up keys have the key set read once per cool-down, at most."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time, cooldown=30.0)
    assert await verdict(verifier, GOOD) == "ada"
    assert issuer.fetches == 1
    flood = [made_up(at) for at in range(100)] * 10
    for step, token in enumerate(flood):
        time.now += 0.1  # 100 seconds in all
        assert await verdict(verifier, token) is Reason.KEY
        assert issuer.fetches <= 1 + (step + 1) * 0.1 / 30
    assert issuer.fetches == 4
    assert await verdict(verifier, GOOD) == "ada"


@pytest.mark.anyio
async def test_a_flood_at_once_costs_one_request() -> None:
    """Made-up keys at one moment, with nothing at hand, have the set read once."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    found = []

    async def one(token: str) -> None:
        found.append(await verdict(verifier, token))

    async with anyio.create_task_group() as tasks:
        for at in range(100):
            tasks.start_soon(one, made_up(at))
    assert found == [Reason.KEY] * 100
    assert issuer.fetches == 1


@pytest.mark.anyio
async def test_a_new_key_is_found() -> None:
    """A token with a key that is new gets in: the set is read again for it, once the cool-down is over."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.keys.append(jwk("rsa-new"))
    assert await verdict(verifier, NEW) is Reason.KEY
    assert issuer.fetches == 1
    time.now += 30
    assert await verdict(verifier, NEW) == "ada"
    assert issuer.fetches == 2


@pytest.mark.anyio
async def test_an_issuer_that_names_no_keys_may_change_them() -> None:
    """Where tokens do not say which key, one that no key fits has the set read again, by the same cool-down."""
    issuer, time = Issuer(keys=[jwk("rsa-1", kid=None)]), Time()
    verifier = issuer.verifier(time)
    old, new = sign(header(kid=None), claims()), sign(header(kid=None), claims(), "rsa-new")
    assert await verdict(verifier, old) == "ada"
    issuer.keys[:] = [jwk("rsa-new", kid=None)]
    assert await verdict(verifier, new) is Reason.SIGNATURE
    time.now += 30
    assert await verdict(verifier, new) == "ada"
    assert await verdict(verifier, old) is Reason.SIGNATURE
    assert issuer.fetches == 2


@pytest.mark.anyio
async def test_a_key_that_is_gone_is_refused() -> None:
    """A token whose key has left the set is refused from the next reading on, although it was verified before."""
    issuer, time = Issuer(keys=[jwk("rsa-1"), jwk("rsa-new")]), Time()
    verifier = issuer.verifier(time, max_age=100.0)
    assert await verdict(verifier, GOOD) == "ada"
    assert await verdict(verifier, NEW) == "ada"
    issuer.keys[:] = [jwk("rsa-new")]
    time.now += 99
    assert await verdict(verifier, GOOD) == "ada"  # the set is read again aside, by this one
    await settled(issuer, 2)
    assert await verdict(verifier, GOOD) is Reason.KEY
    assert await verdict(verifier, NEW) == "ada"


@pytest.mark.anyio
async def test_a_key_of_the_same_name_is_another() -> None:
    """A verified token is verified again where its key's name stands for another key now."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time, max_age=100.0)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.keys[:] = [jwk("rsa-new", kid="rsa-1")]
    time.now += 101
    assert await verdict(verifier, GOOD) == "ada"  # the set is read again aside, by this one
    await settled(issuer, 2)
    assert await verdict(verifier, GOOD) is Reason.SIGNATURE


@pytest.mark.anyio
async def test_a_key_that_takes_the_name_of_another_is_found() -> None:
    """Where an issuer uses a key's name again, a token by the new key gets in once the cool-down is over."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    by_new = sign(header(), claims(), "rsa-new")
    assert await verdict(verifier, GOOD) == "ada"
    issuer.keys[:] = [jwk("rsa-new", kid="rsa-1")]
    for _ in range(5):
        assert await verdict(verifier, by_new) is Reason.SIGNATURE
    assert issuer.fetches == 1
    time.now += 30
    assert await verdict(verifier, by_new) == "ada"
    assert await verdict(verifier, GOOD) is Reason.SIGNATURE
    for _ in range(5):
        assert await verdict(verifier, GOOD) is Reason.SIGNATURE
    assert issuer.fetches == 2


@pytest.mark.anyio
async def test_nobody_waits_for_an_issuer_that_hangs() -> None:
    """While the issuer does not answer, the older keys serve at once, also beyond their age; for a day, no longer."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time, max_age=100.0)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.gate = anyio.Event()
    for pause in (101, 16, 3600):
        time.now += pause
        good = guarding.token(exp=time.now + 100)
        with anyio.fail_after(5):
            for _ in range(3):
                assert await verdict(verifier, good) == "ada"
    await settled(issuer, 2)
    time.now += 86_400
    issuer.keys[:] = [jwk("rsa-new")]
    issuer.gate.set()
    issuer.gate = None
    assert await verdict(verifier, guarding.token(exp=time.now + 100)) is Reason.KEY


@pytest.mark.parametrize("stands_still", ["monotonic", "wall"])
@pytest.mark.anyio
async def test_the_age_of_keys_is_what_either_clock_says(stands_still: str) -> None:
    """A machine that slept for a week, or whose clock was set back, does not believe the keys of before."""
    issuer, time = Issuer(), Time()
    start = time.now
    clock = dataclasses.replace(time.clock, **{stands_still: lambda: start})
    verifier = issuer.verifier(time, clock=clock)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.keys[:] = [jwk("rsa-new")]
    time.now += 7 * 86_400
    assert await verdict(verifier, guarding.token(exp=time.now + 100, iat=None)) is Reason.KEY
    assert issuer.fetches == 2


@pytest.mark.parametrize("keys", [[], [{"kty": "oct", "k": "AAAA"}], ["junk", jwk("rsa1024-1")]], ids=str)
@pytest.mark.anyio
async def test_a_set_without_keys_of_use_is_a_failure(keys: list[Any], caplog: Any) -> None:
    """A set with no key that verifies is an outage, and no refusal; where there are older keys, these serve on."""
    cold = guarding.app_of(Guard(Issuer(keys=keys).verifier(Time())))
    assert (await ask(cold, f"Bearer {GOOD}")).status == 503
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time, max_age=100.0)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.keys = keys
    caplog.clear()
    for fetches in (2, 3):
        time.now += 101
        assert await verdict(verifier, GOOD) == "ada"
        await settled(issuer, fetches)
    assert await verdict(verifier, GOOD) == "ada"
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warned) == 1
    assert "no key that could verify" in warned[0]
    assert "the older ones serve on" in warned[0]
    issuer.keys = [jwk("rsa-new")]
    time.now += 101
    await verdict(verifier, GOOD)
    await settled(issuer, 4)
    assert await verdict(verifier, NEW) == "ada"


@pytest.mark.anyio
async def test_what_has_been_read_meanwhile_is_not_read_again() -> None:
    """Who looked at an older set than there is now gets the one there is, without a request."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    keys = verifier._keys
    older = await keys.current()
    time.now += 31
    newer = await keys.newer(older)
    time.now += 31
    assert newer is not older
    assert await keys.newer(older) is newer
    assert issuer.fetches == 2


@pytest.mark.anyio
async def test_an_issuer_that_moves_its_keys_is_asked_where() -> None:
    """Where the place of the keys has none any more, the metadata are read again, and name the new one."""
    place = "/jwks"

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/.well-known/openid-configuration":
            facts = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", "jwks_uri": f"{ISSUER}{place}"}
            return httpx.Response(200, json=facts)
        return httpx.Response(200 if request.url.path == place else 404, json={"keys": [jwk("rsa-1"), jwk("rsa-new")]})

    time = Time()
    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    verifier = JWTVerifier(ISSUER, AUDIENCE, client=client, clock=time.clock)
    assert await verdict(verifier, GOOD) == "ada"
    place = "/elsewhere"
    for _ in range(4):
        time.now += 31
        assert await verdict(verifier, made_up(1)) is Reason.KEY
    assert verifier._keys._pauses.row == 0


@pytest.mark.anyio
async def test_only_so_many_published_keys_are_tried() -> None:
    """For a token that names no key eight of the issuer's are tried, and no ninth."""
    issuer = Issuer(keys=[*(jwk(f"ec256-{at}") for at in range(8)), jwk("ec256-8")])
    verifier = issuer.verifier(Time())
    for key, expected in (("ec256-7", "ada"), ("ec256-8", Reason.SIGNATURE)):
        given = sign(header(alg="ES256", kid=None), claims(), key, algorithm="ES256")
        assert await verdict(verifier, given) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are forks on POSIX only")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_has_locks_of_its_own() -> None:
    """A child that was forked while another thread held the lock can read keys, and ask about tokens."""
    grant = ClientCredentials(issuer=ISSUER, client_id="api", client_secret="its secret")
    asks = IntrospectionVerifier(grant)
    held = [Issuer().verifier(Time())._keys, asks._of_known, asks._of_others]
    for one in held:
        one._lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if all(one._lock.acquire(timeout=5) for one in held) else 1)
    for one in held:
        one._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.anyio
async def test_the_set_is_renewed_aside() -> None:
    """Before the set is too old it is read again aside: nobody waits for that, and it is done once."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time, max_age=1000.0)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.gate = anyio.Event()
    time.now += 750
    good = guarding.token(exp=time.now + 100)
    for _ in range(5):
        assert await verdict(verifier, good) == "ada"
    await settled(issuer, 2)
    assert await verdict(verifier, good) == "ada"
    issuer.gate.set()
    await settled(issuer, 2)
    time.now += 740  # fresh again since the second reading
    assert await verdict(verifier, guarding.token(exp=time.now + 100)) == "ada"
    await settled(issuer, 2)
    assert issuer.fetches == 2


@pytest.mark.anyio
async def test_old_keys_serve_through_an_outage_and_not_for_ever() -> None:
    """Where the set is not to be had, the last one serves for a day beyond its age; then it is an outage."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time, max_age=3600.0)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.status = 503
    time.now += 3600 + 86_399
    assert await verdict(verifier, guarding.token(exp=time.now + 100)) == "ada"
    time.now += 2
    with pytest.raises(TokenEndpointUnavailable):
        await verifier.verify(guarding.token(exp=time.now + 100))
    issuer.status = 200
    time.now += 30
    assert await verdict(verifier, guarding.token(exp=time.now + 100)) == "ada"


@pytest.mark.anyio
async def test_an_outage_is_not_made_worse() -> None:
    """Readings that fail are a second apart, then two, up to the cool-down; who comes in between costs nothing."""
    issuer, time = Issuer(status=500), Time()
    verifier = issuer.verifier(time)
    begun = []
    for _ in range(1200):
        before = issuer.fetches
        with pytest.raises(TokenEndpointUnavailable):
            await verifier.verify(GOOD)
        if issuer.fetches > before:
            begun.append(time.now)
        time.now += 0.1
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(begun)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("asked", "pause"), [("20", 20), ("9999", 300)])
@pytest.mark.anyio
async def test_a_server_may_ask_for_time(asked: str, pause: int) -> None:
    """Retry-After of the issuer is heeded, five minutes at most, and whoever needs the keys is told what is left."""
    issuer, time = Issuer(status=503, headers={"Retry-After": asked}), Time()
    verifier = issuer.verifier(time)
    with pytest.raises(TokenEndpointUnavailable):
        await verifier.verify(GOOD)
    time.now += pause - 5
    with pytest.raises(TokenEndpointUnavailable) as caught:
        await verifier.verify(GOOD)
    assert caught.value.retry_after == 5
    assert issuer.fetches == 1
    issuer.status = 200
    time.now += 5
    assert await verdict(verifier, GOOD) == "ada"


@pytest.mark.anyio
async def test_unknown_keys_in_an_outage_are_refused() -> None:
    """With older keys at hand, a made-up one is a 401 though the set cannot be read: no outage for an attacker."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    assert await verdict(verifier, GOOD) == "ada"
    issuer.status = 500
    time.now += 31
    assert await verdict(verifier, made_up(1)) is Reason.KEY
    assert await verdict(verifier, GOOD) == "ada"


@pytest.mark.anyio
async def test_five_hundred_at_once_read_the_keys_once() -> None:
    """500 requests with nothing at hand: one reading, and all are served."""
    issuer = Issuer()
    app = guarding.app_of(Guard(issuer.verifier(Time())))
    issuer.gate = anyio.Event()
    found = []

    async def one() -> None:
        found.append((await ask(app, f"Bearer {GOOD}")).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(500):
            tasks.start_soon(one)
        await settled(issuer, 1)
        assert found == []
        issuer.gate.set()
    assert found == [200] * 500
    assert issuer.fetches == 1


@pytest.mark.anyio
async def test_who_came_first_may_leave() -> None:
    """The reading goes on when the one who began it is cancelled: the others are served by it."""
    issuer = Issuer()
    verifier = issuer.verifier(Time())
    issuer.gate = anyio.Event()
    found = []

    async def one() -> None:
        found.append(await verdict(verifier, GOOD))

    async def first(leader: anyio.CancelScope) -> None:
        with leader:
            await one()

    leader = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first, leader)
        await settled(issuer, 1)
        for _ in range(20):
            tasks.start_soon(one)
        await settled(issuer, 1)
        leader.cancel()
        await settled(issuer, 1)
        issuer.gate.set()
    assert found == ["ada"] * 20
    assert issuer.fetches == 1


def test_waiters_on_other_loops_are_woken() -> None:
    """Who waits on another event loop than the one that reads is served by the same reading."""
    reading, served = threading.Event(), threading.Event()
    fetches = []

    async def handle(request: httpx.Request) -> httpx.Response:
        fetches.append(request.url.path)
        reading.set()
        await anyio.to_thread.run_sync(served.wait, 10)
        return httpx.Response(200, json={"keys": [jwk("rsa-1")]})

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    verifier = JWTVerifier(ISSUER, AUDIENCE, jwks_uri=f"{ISSUER}/jwks", client=client, clock=Time().clock)
    with start_blocking_portal() as one, start_blocking_portal() as other:
        first = one.start_task_soon(verdict, verifier, GOOD)
        assert reading.wait(10)
        second = other.start_task_soon(verdict, verifier, GOOD)
        while len(verifier._keys._reading._landings) < 2:  # both wait, each on a loop of its own
            other.call(anyio.sleep, 0)
        other.call(anyio.sleep, 0)
        served.set()
        assert first.result(10) == second.result(10) == "ada"
    assert fetches == ["/jwks"]


GARBAGE: list[Any] = [
    None,
    1,
    "key",
    [],
    {},
    {"kty": None},
    {"kty": "unknown", "kid": "a"},
    {"kty": ["RSA"]},
    {"kty": "RSA", "kid": "b"},
    {"kty": "RSA", "kid": "c", "n": "!!", "e": "AQAB"},
    {"kty": "RSA", "kid": "d", "n": "AQAB" * 50_000, "e": "AQAB"},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
    {"kty": "EC", "crv": ["P-256"]},
    {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
    {"kty": "oct", "k": "A" * 43, "kid": "oct"},
    {**jwk("rsa-1"), "kid": ["rsa-1"]},
    {**jwk("rsa-1"), "kid": "k" * 300},
    {**jwk("rsa-1"), "use": ["sig"]},
    {**jwk("rsa-1"), "alg": ["RS256"]},
    {**jwk("rsa-1"), "alg": "ES256"},
    {**jwk("rsa-1"), "key_ops": "verify"},
]


@pytest.mark.anyio
async def test_garbage_among_the_keys_costs_only_itself() -> None:
    """A key that cannot be read, or is for something else, is skipped; those before and after it serve."""
    issuer = Issuer(keys=[jwk("rsa-1"), *GARBAGE, jwk("rsa-new")])
    verifier = issuer.verifier(Time())
    assert await verdict(verifier, GOOD) == "ada"
    assert await verdict(verifier, NEW) == "ada"
    assert {one.kid for one in (await verifier._keys.current()).keys} == {"rsa-1", "rsa-new"}


@pytest.mark.anyio
async def test_no_more_than_a_hundred_keys_are_read() -> None:
    """Of a set that is larger than any honest one, the first hundred keys count."""
    issuer = Issuer(keys=[jwk("ed-1", kid=f"{at}") for at in range(99)] + [jwk("rsa-1"), jwk("rsa-new")])
    verifier = issuer.verifier(Time())
    assert await verdict(verifier, GOOD) == "ada"
    assert await verdict(verifier, NEW) is Reason.KEY


@pytest.mark.anyio
async def test_a_key_may_say_what_it_is_for() -> None:
    """`alg`, `use` and `key_ops` of a key are heeded; a published private key is nobody's any more."""
    private = json.loads(guarding.algorithms.RSAAlgorithm.to_jwk(guarding.private_key("rsa-1")))
    private.pop("key_ops")
    for changes, is_good in (
        ({"alg": "RS256"}, True),
        ({"alg": "PS256"}, False),
        ({"alg": "RS512"}, False),
        ({"use": "sig"}, True),
        ({"use": "enc"}, False),
        ({"key_ops": ["verify", "encrypt"]}, True),
        ({"key_ops": ["encrypt"]}, False),
        ({"x5u": "https://attacker.example/", "x5c": ["!"]}, True),
        (private, False),
    ):
        verifier = Issuer(keys=[jwk("rsa-1", **changes), jwk("rsa-new")]).verifier(Time())
        assert await verdict(verifier, GOOD) == ("ada" if is_good else Reason.KEY), changes


@pytest.mark.anyio
async def test_null_is_nothing_in_a_key() -> None:
    """A member of a key that is null is not there."""
    nothing = dict.fromkeys(("alg", "use", "key_ops", "d", "k", "x5u"))
    verifier = Issuer(keys=[{**jwk("rsa-1"), **nothing, "kid": None}]).verifier(Time())
    assert await verdict(verifier, sign(header(kid=None), claims())) == "ada"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
@pytest.mark.anyio
async def test_a_signature_is_as_long_as_its_key(algorithm: str) -> None:
    """A signature of RSA without its leading zero, or with one more, is none (RFC 8017 §8.1.2, §8.2.2)."""
    verifier = Issuer().verifier(Time())
    for at in range(5000):  # one in 256 begins with a zero
        message, _, signature = sign(header(alg=algorithm), claims(jti=str(at)), algorithm=algorithm).rpartition(".")
        raw = urlsafe_b64decode(signature + "==")
        if raw[0] == 0:
            break
    assert await verdict(verifier, f"{message}.{signature}") == "ada"
    for other in (raw[1:], b"\0" + raw):
        assert await verdict(verifier, f"{message}.{guarding.b64(other)}") is Reason.SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"issuer": f"{ISSUER}/"}},
        {"metadata": {"jwks_uri": "http://as.example/jwks"}},
        {"metadata": {"jwks_uri": "ftp://as.example/jwks"}},
        {"metadata": {"jwks_uri": None}},
        {"keys": None},
        {"status": 404},
        {"status": 302, "headers": {"Location": "https://attacker.example/"}},
    ],
    ids=str,
)
@pytest.mark.anyio
async def test_an_issuer_that_is_wrong_is_an_outage(change: dict[str, Any]) -> None:
    """Metadata of another issuer, keys at no https place, a redirect: no key is taken, and nobody is refused for it."""
    issuer = Issuer(**change)
    app = guarding.app_of(Guard(issuer.verifier(Time())))
    reply = await ask(app, f"Bearer {GOOD}")
    assert reply.status == 503
    assert reply.challenge is None
    assert int(reply.field("retry-after") or 0) >= 1
    assert reply.field("cache-control") == "no-store"
    assert b"as.example" not in reply.body
    before = len(issuer.seen)
    assert (await ask(app, f"Bearer {GOOD}")).status == 503
    assert len(issuer.seen) == before


@pytest.mark.anyio
async def test_warming_reads_the_keys() -> None:
    """`awarm` reads the keys before the first request, and says what is wrong where that fails."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    await verifier.awarm()
    await verifier.awarm()
    assert issuer.fetches == 1
    with pytest.raises(ConfigurationError, match="RFC 8414"):
        await Issuer(metadata={"issuer": "https://other.example"}).verifier(time).awarm()


@pytest.mark.anyio
async def test_a_reading_that_dies_is_not_the_last() -> None:
    """A reading whose event loop has ended is lost for those who waited for it alone: the next one reads again."""
    dies = True

    async def handle(_request: httpx.Request) -> httpx.Response:
        if dies:
            await anyio.sleep_forever()
        return httpx.Response(200, json={"keys": [jwk("rsa-1")]})

    async def briefly() -> None:
        with anyio.move_on_after(0.05):
            await verifier.verify(GOOD)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    verifier = JWTVerifier(ISSUER, AUDIENCE, jwks_uri=f"{ISSUER}/jwks", client=client, clock=Time().clock)
    await anyio.to_thread.run_sync(anyio.run, briefly)
    dies = False
    assert await verdict(verifier, GOOD) == "ada"


@pytest.mark.anyio
async def test_a_reading_that_says_nothing_is_given_up() -> None:
    """A reading of which nothing is heard any more is replaced, and whoever still waits for it is told."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    silent = verifier._keys._reading = Once(anyio.sleep_forever, "reading", 10.0)
    verifier._keys._begun_at = time.now
    errors = []

    async def waits() -> None:
        with pytest.raises(TokenEndpointUnavailable) as caught:
            await silent.result()
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await anyio.lowlevel.checkpoint()
        time.now += 16
        assert await verdict(verifier, GOOD) == "ada"
    assert len(errors) == 1


@pytest.mark.anyio
async def test_nobody_waits_for_ever() -> None:
    """Who waits for work that does not end waits for a bounded time, and what goes wrong in it reaches them."""

    async def breaks() -> None:
        raise ZeroDivisionError

    endless = Once(anyio.sleep_forever, "the work", 0.01)
    endless.begin(lambda: None)
    with pytest.raises(TokenEndpointUnavailable, match="the work"):
        await endless.result()
    endless.give_up()
    broken = Once(breaks, "the work", 10.0)
    broken.begin(lambda: None)
    with pytest.raises(ZeroDivisionError):
        await broken.result()


@pytest.mark.anyio
async def test_each_who_waits_has_an_error_of_their_own() -> None:
    """Who waits for work that fails gets an error that nobody else has, with the cause that all share."""
    cause = TokenEndpointUnavailable("the work failed", outcome="not sent", retry_after=7.0)

    async def fails() -> None:
        raise cause

    work = Once(fails, "the work", 10.0)
    work.begin(lambda: None)
    errors = []
    for _ in range(2):
        with pytest.raises(TokenEndpointUnavailable, match="the work failed") as caught:
            await work.result()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert {(one.__cause__, one.retry_after) for one in errors} == {(cause, 7.0)}


def test_one_verifier_on_one_loop_after_another(anyio_backend: str) -> None:
    """A verifier works on one event loop after another: nothing of the first one is left in it."""
    issuer, time = Issuer(), Time()
    verifier = issuer.verifier(time)
    for _ in range(3):
        assert anyio.run(verdict, verifier, guarding.token(exp=time.now + 100), backend=anyio_backend) == "ada"
        time.now += 3600
    assert issuer.fetches == 3
