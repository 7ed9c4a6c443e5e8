"""Tokens that only their issuer can read: asked about once, remembered briefly, checked like any other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import anyio
import anyio.lowlevel
import guarding
import pytest
from guarding import AUDIENCE, ISSUER, NOW, Issuer, Time, ask, claims

from httpx_tokenflow import ClientCredentials, ConfigurationError, TokenAuth, TokenEndpointUnavailable, TokenFlowError
from httpx_tokenflow._challenges import parse_challenges
from httpx_tokenflow.fastapi import Guard, IntrospectionVerifier, InvalidToken, Reason

TOKEN = "opaque-token-of-ada"


def active(**changes: Any) -> dict[str, Any]:
    return {"active": True, "token_type": "Bearer", **claims(**changes)}


def made(issuer: Issuer, time: Time, /, **how: Any) -> IntrospectionVerifier:
    grant = ClientCredentials(issuer=ISSUER, client_id="api", client_secret="its secret")
    auth = TokenAuth(grant, client=issuer.client())
    return IntrospectionVerifier(auth, **{"audience": AUDIENCE, "clock": time.clock, **how})


async def verdict(it: IntrospectionVerifier, given: str = TOKEN) -> Any:
    try:
        return (await it.verify(given)).subject
    except InvalidToken as no:
        return no.reason


def questions(issuer: Issuer) -> int:
    return issuer.seen.count("/introspect")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (active(), "ada"),
        (active(aud=["x", AUDIENCE], iss=None, exp=None, nbf=NOW), "ada"),
        ({"active": False}, Reason.INACTIVE),
        ({"active": False, **claims()}, Reason.INACTIVE),
        ({"active": "true", **claims()}, Reason.INACTIVE),
        ({"active": 1, **claims()}, Reason.INACTIVE),
        (claims(), Reason.INACTIVE),
        (active(exp=NOW - 31), Reason.EXPIRED),
        (active(exp=True), Reason.MALFORMED),
        (active(nbf=NOW + 31), Reason.NOT_YET),
        (active(aud="https://other.example"), Reason.AUDIENCE),
        (active(aud=None), Reason.LACKING),
        (active(aud={AUDIENCE: 1}), Reason.MALFORMED),
        (active(cnf={"jkt": "x"}), Reason.BOUND),
        (active() | {"token_type": "DPoP"}, Reason.BOUND),
        (active() | {"token_type": "refresh_token"}, Reason.KIND),
        (active() | {"token_type": "pop"}, Reason.BOUND),
        (active() | {"token_type": "MAC"}, Reason.BOUND),
        (json.dumps(active(sub="\ud800")), Reason.MALFORMED),
        (active(token_use="refresh_token"), Reason.KIND),
        (active(typ="Refresh"), Reason.KIND),
    ],
    ids=str,
)
@pytest.mark.anyio
async def test_the_answer_is_checked(answer: Any, expected: Any) -> None:
    """Only `active`: true lets a token in, and only if the rest of the answer is what is wanted."""
    assert await verdict(made(Issuer(answer=answer), Time())) == expected


@pytest.mark.anyio
async def test_settings_of_introspection_are_heeded() -> None:
    """Issuer, audience, claims, size and bound tokens are as the program says."""
    cases: list[tuple[dict[str, Any], dict[str, Any], Any]] = [
        ({"issuer": ISSUER}, active(), "ada"),
        ({"issuer": f"{ISSUER}/"}, active(), Reason.ISSUER),
        ({"issuer": ISSUER}, active(iss=None), Reason.LACKING),
        ({"audience": None}, active(aud=None), "ada"),
        ({"required": ["jti"]}, active(), Reason.LACKING),
        ({"max_size": 5}, active(), Reason.TOO_LARGE),
        ({"required": "jti"}, active(jti="1"), "ada"),
        ({"accept_bound_without_proof": True}, active() | {"token_type": "mac"}, Reason.BOUND),
        ({"accept_bound_without_proof": True}, active(cnf={"jkt": "x"}) | {"token_type": "DPoP"}, "ada"),
    ]
    for how, answer, expected in cases:
        assert await verdict(made(Issuer(answer=answer), Time(), **how)) == expected, how


@pytest.mark.anyio
async def test_a_good_answer_is_believed_for_a_while() -> None:
    """A good answer serves for `cache` seconds: then a token that was revoked gets in no more."""
    issuer, time = Issuer(answer=active()), Time()
    it = made(issuer, time, cache=60.0)
    assert await verdict(it) == "ada"
    issuer.answer = {"active": False}
    time.now += 59
    assert await verdict(it) == "ada"
    assert questions(issuer) == 1
    time.now += 1
    assert await verdict(it) is Reason.INACTIVE
    assert questions(issuer) == 2


@pytest.mark.anyio
async def test_an_answer_is_not_believed_beyond_the_tokens_end() -> None:
    """A remembered token is not let in after its `exp`."""
    issuer, time = Issuer(answer=active(exp=NOW + 10)), Time()
    it = made(issuer, time, leeway=0)
    assert await verdict(it) == "ada"
    time.now += 10
    assert await verdict(it) is Reason.EXPIRED
    assert questions(issuer) == 2


@pytest.mark.anyio
async def test_a_bad_answer_is_believed_briefly() -> None:
    """A refusal is remembered for 5 seconds, apart from what is good, and both are bounded."""
    issuer, time = Issuer(answer={"active": False}), Time()
    it = made(issuer, time, cache_size=3)
    for _ in range(10):
        assert await verdict(it) is Reason.INACTIVE
    assert questions(issuer) == 1
    time.now += 5
    issuer.answer = active()
    assert await verdict(it) == "ada"
    issuer.answer = {"active": False}
    for at in range(20):
        assert await verdict(it, f"made-up-{at}") is Reason.INACTIVE
    assert (len(it._bad), len(it._good)) == (3, 1)
    asked = questions(issuer)
    assert await verdict(it) == "ada"
    assert questions(issuer) == asked


@pytest.mark.anyio
async def test_nothing_is_remembered_if_so_told() -> None:
    """With `cache=0` each request asks."""
    issuer = Issuer(answer=active())
    it = made(issuer, Time(), cache=0)
    for at in range(3):
        assert await verdict(it) == "ada"
        assert questions(issuer) == at + 1


@pytest.mark.anyio
async def test_a_route_cannot_change_a_remembered_answer() -> None:
    """Claims belong to one request: who writes into them changes nobody else's."""
    it = made(Issuer(answer=active(roles=["user"])), Time())
    for _ in range(3):
        caller = await it.verify(TOKEN)
        assert caller.claims["roles"] == ["user"]
        caller.claims["roles"].append("admin")
        assert TOKEN not in repr(caller)


@pytest.mark.anyio
async def test_one_question_per_token_at_a_time() -> None:
    """Many at once with one token ask once, also where the first of them leaves; each token has its own answer."""
    issuer = Issuer(answer=active())
    it = made(issuer, Time(), cache=0)
    await verdict(it, "metadata are read")
    issuer.gate = anyio.Event()
    found = []

    async def one(token: str, scope: anyio.CancelScope) -> None:
        with scope:
            found.append(await verdict(it, token))

    leader = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, TOKEN, leader)
        await _settle()
        for _ in range(50):
            tasks.start_soon(one, TOKEN, anyio.CancelScope())
        tasks.start_soon(one, "another", anyio.CancelScope())
        await _settle()
        leader.cancel()
        await _settle()
        assert questions(issuer) == 3
        issuer.gate.set()
    assert found == ["ada"] * 51
    assert questions(issuer) == 3
    assert it._of_others._open == it._of_known._open == {}


@pytest.mark.anyio
async def test_no_more_than_twenty_questions_at_once() -> None:
    """A flood of tokens does not become a flood of questions: 20 are under way, the others wait their turn."""
    issuer = Issuer(answer=active())
    it = made(issuer, Time())
    await verdict(it)
    issuer.gate = anyio.Event()
    found = []

    async def one(token: str) -> None:
        found.append(await verdict(it, token))

    async with anyio.create_task_group() as tasks:
        for at in range(60):
            tasks.start_soon(one, f"token-{at}")
        await _settle()
        assert questions(issuer) == 21
        issuer.gate.set()
    assert found == ["ada"] * 60


async def _settle() -> None:
    for _ in range(200):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404, 302])
@pytest.mark.anyio
async def test_an_endpoint_that_does_not_answer_is_an_outage(status: int) -> None:
    """Where the issuer cannot be asked the answer is 503, without a challenge, and nothing is remembered."""
    issuer = Issuer(answer=active(), status=status, headers={"Retry-After": "7"})
    time = Time()
    app = guarding.app_of(Guard(made(issuer, time)))
    reply = await ask(app, f"Bearer {TOKEN}")
    assert (reply.status, reply.challenge) == (503, None)
    assert int(reply.field("retry-after") or 0) >= 1
    assert TOKEN.encode() not in reply.body
    issuer.status = 200
    issuer.headers = {}
    time.now += 7
    assert (await ask(app, f"Bearer {TOKEN}")).status == 200


@pytest.mark.anyio
async def test_an_inactive_token_gets_a_challenge() -> None:
    """An inactive token is a 401 invalid_token, which says no more than that."""
    app = guarding.app_of(Guard(made(Issuer(answer={"active": False, "sub": "eve"}), Time())))
    reply = await ask(app, f"Bearer {TOKEN}")
    (challenge,) = parse_challenges([reply.challenge or ""])
    assert (reply.status, challenge.error) == (401, "invalid_token")
    assert challenge.error_description == "the token is not active"
    assert b"eve" not in reply.body


@pytest.mark.anyio
async def test_a_question_that_says_nothing_is_asked_again() -> None:
    """A question of which nothing is heard any more is given up for the next one."""
    issuer, time = Issuer(answer=active()), Time()
    it = made(issuer, time)
    await verdict(it, "metadata are read")
    issuer.gate = anyio.Event()
    errors: list[Any] = []

    async def waits() -> None:
        try:
            await it.verify(TOKEN)
        except TokenEndpointUnavailable as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await _settle()
        time.now += 36
        silent, issuer.gate = issuer.gate, None
        assert await verdict(it) == "ada"
        await _settle()
        assert len(errors) == 1
        silent.set()
    assert it._of_others._open == {}


async def _leaves(it: IntrospectionVerifier, token: str, scope: anyio.CancelScope) -> None:
    with scope:
        await verdict(it, token)


async def _flood(it: IntrospectionVerifier, many: int, scope: anyio.CancelScope) -> None:
    with scope:
        async with anyio.create_task_group() as tasks:
            for at in range(many):
                tasks.start_soon(verdict, it, f"made-up-{at}")


def _waiting(questions: Any) -> list[int]:
    return [one.waiting for one in questions._turns.values()]


@pytest.mark.anyio
async def test_nobody_is_asked_for_who_has_left() -> None:
    """Made-up tokens whose senders hang up are dropped: what was not sent is never sent, and nobody waits for it."""
    issuer, time = Issuer(answer={"active": False}), Time()
    it = made(issuer, time)
    await verdict(it, "metadata are read")
    issuer.gate, all_leave = anyio.Event(), anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_flood, it, 200, all_leave)
        await _settle()
        assert _waiting(it._of_others) == [180]
        all_leave.cancel()
        await _settle()
        assert _waiting(it._of_others) == [0]
        assert len(it._of_others._open) == 20
        tasks.start_soon(verdict, it, TOKEN)
        await _settle()
        assert questions(issuer) == 21
        issuer.gate.set()
    assert questions(issuer) == 22


@pytest.mark.anyio
async def test_a_question_goes_on_for_who_has_joined() -> None:
    """Of two who wait for one turn the first may leave: the other has the answer."""
    issuer = Issuer(answer=active())
    it = made(issuer, Time())
    await verdict(it, "metadata are read")
    issuer.gate, leader, found = anyio.Event(), anyio.CancelScope(), []

    async def second() -> None:
        found.append(await verdict(it))

    async with anyio.create_task_group() as tasks:
        for at in range(20):
            tasks.start_soon(verdict, it, f"token-{at}")
        await _settle()
        tasks.start_soon(_leaves, it, TOKEN, leader)
        await _settle()
        tasks.start_soon(second)
        await _settle()
        leader.cancel()
        await _settle()
        issuer.gate.set()
    assert found == ["ada"]


@pytest.mark.anyio
async def test_a_flood_does_not_lock_out_who_was_let_in() -> None:
    """While as many made-up tokens wait as may, a token that was good before is asked about; a new one is a 503."""
    issuer, time = Issuer(answer=active()), Time()
    it = made(issuer, time, cache=60.0)
    assert await verdict(it) == "ada"
    time.now += 61
    issuer.gate, flood = anyio.Event(), anyio.CancelScope()

    async def good() -> None:
        assert await verdict(it) == "ada"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_flood, it, 220, flood)
        await _settle()
        with pytest.raises(TokenEndpointUnavailable, match="too many"):
            await it.verify("one-more")
        asked = questions(issuer)
        tasks.start_soon(good)
        await _settle()
        assert questions(issuer) == asked + 1
        flood.cancel()
        issuer.gate.set()


@pytest.mark.anyio
async def test_who_is_revoked_is_a_stranger() -> None:
    """A token has turns of its own only while the last answer about it was good; how many is bounded."""
    issuer, time = Issuer(answer=active()), Time()
    it = made(issuer, time, cache=1.0)
    assert await verdict(it) == "ada"
    assert len(it._let_in) == 1
    issuer.answer = {"active": False}
    time.now += 2
    assert await verdict(it) is Reason.INACTIVE
    assert len(it._let_in) == 0
    issuer.answer = active()
    time.now += 1  # a refusal is believed for no longer than an answer that lets in
    assert await verdict(it) == "ada"


def test_places_of_those_who_were_let_in_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tokens were good, no more are known than there is room for: those that were asked about last."""
    monkeypatch.setattr("httpx_tokenflow.fastapi._introspection.MOST_LET_IN", 3)
    it = made(Issuer(answer=active()), Time(), cache=0)

    async def many() -> None:
        for at in (1, 2, 3, 1, 4):
            await verdict(it, f"token-{at}")

    anyio.run(many)
    assert list(it._let_in) == [hashlib.sha256(f"token-{at}".encode()).digest() for at in (3, 1, 4)]


@pytest.mark.parametrize(("headers", "pause"), [({}, 1), ({"Retry-After": "60"}, 60), ({"Retry-After": "9999"}, 300)])
@pytest.mark.anyio
async def test_an_endpoint_that_fails_is_left_alone(headers: dict[str, str], pause: int, caplog: Any) -> None:
    """After a failure nothing is asked for a second, then two, or as long as is asked for; the first is warned of."""
    caplog.set_level("INFO", "httpx_tokenflow")
    issuer, time = Issuer(answer={"error": "no"}, status=503, headers=headers), Time()
    it = made(issuer, time)
    for _ in range(50):
        with pytest.raises(TokenEndpointUnavailable) as caught:
            await it.verify(TOKEN)
    assert questions(issuer) == 1
    assert caught.value.retry_after == pause
    time.now += pause
    with pytest.raises(TokenEndpointUnavailable):
        await it.verify(TOKEN)
    assert questions(issuer) == 2
    levels = [one.levelname for one in caplog.records if "cannot be introspected" in one.getMessage()]
    assert levels == ["WARNING", "INFO"]
    issuer.status, issuer.answer = 200, active()
    time.now += max(pause, 2)
    assert await verdict(it) == "ada"
    issuer.status = 503
    time.now += 61
    with pytest.raises(TokenEndpointUnavailable):
        await it.verify("another")
    assert questions(issuer) == 4
    issuer.headers = {}
    time.now += pause
    with pytest.raises(TokenEndpointUnavailable) as caught:
        await it.verify("another")
    assert (questions(issuer), caught.value.retry_after) == (5, None)
    with pytest.raises(TokenEndpointUnavailable) as caught:
        await it.verify("another")
    assert (questions(issuer), caught.value.retry_after) == (5, 2)


@pytest.mark.anyio
async def test_questions_that_fail_together_are_one_failure() -> None:
    """Twenty that fail at once make a pause of a second, and those that wait for their turn are not sent."""
    issuer, time = Issuer(answer=active()), Time()
    it = made(issuer, time)
    assert await verdict(it, "metadata are read") == "ada"
    issuer.gate, issuer.status = anyio.Event(), 500
    async with anyio.create_task_group() as tasks:
        for at in range(60):
            tasks.start_soon(_fails, it, f"token-{at}")
        await _settle()
        issuer.gate.set()
    assert questions(issuer) == 21
    time.now += 1
    await _fails(it, TOKEN)
    assert questions(issuer) == 22
    issuer.status = 200
    time.now += 2
    assert await verdict(it) == "ada"


async def _fails(it: IntrospectionVerifier, token: str) -> None:
    with pytest.raises(TokenEndpointUnavailable):
        await it.verify(token)


@pytest.mark.anyio
async def test_a_wrong_secret_is_no_secret(caplog: Any) -> None:
    """That the endpoint refuses us is a warning, which does not tell the token; and no flood of warnings."""
    issuer, time = Issuer(answer={"error": "invalid_client", "error_description": f"not {TOKEN}"}, status=401), Time()
    it = made(issuer, time)
    for _ in range(2):
        assert (await ask(guarding.app_of(Guard(it)), f"Bearer {TOKEN}")).status == 503
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "invalid_client" in warnings[0]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(("depth", "expected"), [(14, "ada"), (20, Reason.MALFORMED), (900, Reason.MALFORMED)])
@pytest.mark.anyio
async def test_a_deep_answer_is_refused(depth: int, expected: Any) -> None:
    """An answer that is nested deeper than any honest one is no good, and breaks nothing."""
    inner: Any = 1
    for _ in range(depth):
        inner = [inner]
    assert await verdict(made(Issuer(answer=active(inner=inner)), Time())) == expected


@pytest.mark.anyio
async def test_one_token_that_the_endpoint_cannot_read_stops_no_other() -> None:
    """A 400 is about the one token: the next one is asked about at once, so that nobody can shut the others out."""
    issuer = Issuer(answer={"error": "invalid_request"}, status=400)
    it = made(issuer, Time())
    with pytest.raises(TokenFlowError):
        await it.verify("strange")
    issuer.status, issuer.answer = 200, active()
    assert await verdict(it) == "ada"


@pytest.mark.anyio
async def test_warming_asks_nothing() -> None:
    """There is nothing to read beforehand: `awarm` is there, since all verifiers have it."""
    issuer = Issuer(answer=active())
    await made(issuer, Time()).awarm()
    assert issuer.seen == []


def test_there_must_be_somebody_to_ask() -> None:
    """A grant will do, if it has an authorization server; what has none is refused early."""
    it = IntrospectionVerifier(ClientCredentials(issuer=ISSUER, client_id="api", client_secret="its secret"))
    assert "its secret" not in repr(it)
    with pytest.raises(ConfigurationError, match="somebody to ask"):
        IntrospectionVerifier(TokenAuth(_Own()))
    with pytest.raises(ConfigurationError, match="cache="):
        made(Issuer(), Time(), cache=-1)
    with pytest.raises(ConfigurationError, match="cache_size="):
        made(Issuer(), Time(), cache_size=-1)
    with pytest.raises(ConfigurationError, match="max_size="):
        made(Issuer(), Time(), max_size="16k")


class _Own:
    """A grant of the program's own, with nobody to ask."""

    spends = False
    issues = True

    def identity(self) -> dict[str, Any]:
        return {"grant": "own"}

    def obtain(self, attempt: Any) -> Any:
        raise AssertionError
