"""The soak's judge can say "wrong", and does so for each of its rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from soak.judge import (
    AFTER,
    BLOCKS,
    ENDS_WITHIN,
    HAMMER,
    HUNG,
    MARGIN,
    MEMORY,
    Accepted,
    Minted,
    Outcome,
    Span,
    World,
    hammered,
    judge,
    not_flat,
    rise,
    too_early,
)

SENT = Outcome("trio", "session", 7, 100.0, 101.0, "200")
LACK = replace(SENT, what="TokenEndpointUnavailable", is_ours=True, is_transport=True)
NO_STORE = replace(SENT, what="StoreError", is_ours=True)
RESET = replace(SENT, what="ReadError", is_transport=True)
REFUSED = replace(SENT, what="401")


def world(*spans: Span, accepted: tuple[Accepted, ...] = (), **more: object) -> World:
    known = {("trio", "session"): list(accepted)}
    return World(spans=list(spans), accepted=known, stored=frozenset({"session"}), **more)


def fault(target: str, start: float = 99.0, end: float = 100.5) -> World:
    return world(Span("a fault", target, start, end))


EXCUSED = {
    "a request that we cancelled": (replace(SENT, what="cancelled", cut=100.9), world(), "cancelled"),
    "a time limit that we set": (replace(RESET, what="ReadTimeout", cut=100.9), world(), "cancelled"),
    "a client that we closed": (replace(SENT, what="RuntimeError", cut=100.9, closed=True), world(), "cancelled"),
    "a cut network": (RESET, fault("api"), "network"),
    "an outage": (LACK, fault("token"), "no token"),
    "an outage of its own": (LACK, fault("token session"), "no token"),
    "an outage a moment ago": (LACK, fault("token", 80.0, 100.0 - AFTER / 2), "no token"),
    "a store that is down": (NO_STORE, fault("store"), "no store"),
    "a process that stood still": (replace(RESET, what="ReadTimeout"), fault("process trio"), "suspended"),
    "two tokens of one request": (
        REFUSED,
        world(refused={("trio", "session", 7): "revoked"}, carried={("trio", "session", 7): {"one", "other"}}),
        "refused",
    ),
    "a busy machine": (LACK, fault("machine"), "busy"),
    "two tokens revoked": (
        REFUSED,
        world(refused={("trio", "session", 7): "revoked"}, refusals={("trio", "session"): [95.0, 100.9]}),
        "refused",
    ),
}
WRONG = {
    "an unexpected error": (replace(SENT, what="KeyError"), fault("api")),
    "an error of HTTP in a calm": (RESET, world()),
    "an error of HTTP in an outage of somebody else": (RESET, fault("token")),
    "a cancellation that was held up": (replace(SENT, what="cancelled", cut=100.9 - ENDS_WITHIN), world()),
    "a cancellation that nobody asked for": (replace(SENT, what="cancelled"), world()),
    "another error of ours after a cancellation": (replace(LACK, cut=100.9), world()),
    "an outage that never was": (LACK, world()),
    "an outage of another auth": (LACK, fault("token shared")),
    "an outage long ago": (LACK, fault("token", 80.0, 99.0 - AFTER)),
    "a good token thrown away": (
        LACK,
        world(Span("503", "token", 99.0, 102.0), accepted=(Accepted(98.0, 101.5 + MARGIN),)),
    ),
    "a store that was not down": (NO_STORE, world()),
    "client credentials without a store": (
        replace(NO_STORE, auth="shared"),
        world(Span("it stands still", "store", 99.0, 102.0)),
    ),
    "a session that is lost": (
        replace(SENT, what="ReauthenticationRequired", is_ours=True),
        world(*(Span("all of it", target, 99.0, 102.0) for target in ("api", "store", "token", "process trio"))),
    ),
    "a 401 that nobody mended": (
        REFUSED,
        world(refused={("trio", "session", 7): "revoked"}, refusals={("trio", "session"): [100.9]}),
    ),
    "a token that had ended": (
        REFUSED,
        world(refused={("trio", "session", 7): "ended"}, refusals={("trio", "session"): [95.0, 100.9]}),
    ),
    "a token of somebody else": (
        REFUSED,
        world(refused={("trio", "session", 7): "unknown token"}, refusals={("trio", "session"): [95.0, 100.9]}),
    ),
    "a request that hung, and was answered": (replace(SENT, ended=101.0 + HUNG), world()),
    "a good token thrown away on a busy machine": (
        LACK,
        world(Span("busy", "machine", 99.0, 102.0), accepted=(Accepted(98.0, 101.5 + MARGIN),)),
    ),
    "an unexpected error on a busy machine": (replace(SENT, what="KeyError"), fault("machine")),
    "a hang on a busy machine": (replace(LACK, ended=101.0 + HUNG), fault("machine")),
    "another status": (replace(SENT, what="500"), fault("api")),
}


@pytest.mark.parametrize("case", EXCUSED)
def test_a_fault_excuses_what_it_leads_to(case):
    """What a fault of ours led to is no failure, and the table says which."""
    one, happened, cause = EXCUSED[case]
    verdict = judge(one, happened)
    assert (verdict.wrong, verdict.cause) == (False, cause)


@pytest.mark.parametrize("case", WRONG)
def test_everything_else_is_wrong(case):
    """What no fault explains is wrong, in the middle of other faults as well."""
    assert judge(*WRONG[case]).wrong


def test_a_good_token_is_found_among_many():
    """A token that was good at the time is found, however many there were before and after it."""
    ends = [float(end) for end in range(10, 400, 2)]
    known = tuple(Accepted(end - 5.0, end) for end in ends)
    outage = Span("503", "token", 99.0, 102.0)
    assert judge(LACK, world(outage, accepted=known)).wrong
    ended = tuple(one for one in known if one.until <= LACK.ended or one.since >= LACK.began)
    assert not judge(LACK, world(outage, accepted=ended)).wrong


def test_a_standstill_is_no_hang():
    """The seconds for which a process stood still do not count."""
    slow = replace(SENT, ended=SENT.began + HUNG + 5.0)
    assert judge(slow, world()).wrong
    assert not judge(slow, fault("process trio", 105.0, 111.0)).wrong


def test_two_tokens_for_one_rollover_are_wrong():
    """A token that comes too soon after the one before it is told, where nothing was out of order."""
    pair = [Minted("shared", 50.0, 5.0), Minted("shared", 51.0, 5.0)]
    assert too_early(pair, [])
    assert not too_early(pair, [Span("it is cut", "store", 48.0, 49.0)])
    assert not too_early([pair[0], replace(pair[1], was_refused=True)], [])
    assert not too_early([pair[0], replace(pair[1], at=54.0)], [])
    assert not too_early([pair[0], replace(pair[1], whose="own")], [])


def test_a_hammered_server_is_told():
    """More token requests in a second than a process may make are wrong."""
    asked = [(10.0 + number / 20, "own") for number in range(HAMMER + 1)]
    assert hammered(asked, {"own": 1})
    assert not hammered(asked, {"own": 2})
    assert not hammered([(at * 10, whose) for at, whose in asked], {"own": 1})


def test_a_leak_is_not_flat():
    """Memory that grows with the requests is wrong, and what is filled once is not."""
    grows = [{"t": t, "rss": MEMORY * t / 20, "blocks": BLOCKS * t / 20} for t in range(60)]
    fills = [{"t": t, "rss": min(t, 10) * MEMORY, "blocks": min(t, 10) * BLOCKS} for t in range(60)]
    assert len(not_flat(grows)) == 2
    assert not_flat(fills) == []
    assert rise([(float(t), 2.0 * t) for t in range(60)]) == pytest.approx(2.0 * 29)
