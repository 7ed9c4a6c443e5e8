"""The examination: which probes are sent, in which order, and when. A generator without I/O: probes out, exchanges in.

Rules.

1. At most eight requests, the redirects that are followed included; the one that was asked for comes first. Each
   probe has a reason, and is sent only if what is known by then leaves its question open. Where a probe may go, and
   with what, is in the rules of `_probes`.
2. `plan` lists what may be sent before anything is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import _probes
from ._explain import reading_of
from ._facts import SAID_BY_API, Exchange, Expected, Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._probes import Probe, Question

__all__ = ["MAX_PROBES", "examine", "plan"]

MAX_PROBES = 8


def examine(question: Question) -> Generator[Probe, Exchange, Facts]:
    """Probe what `question` leaves open, and return the facts."""
    facts = Facts(
        now=question.now,
        expected=question.expected,
        browser_origin=question.origin,
        refusal=question.refusal,
        token_age=question.token_age,
        secrets=question.secrets,
    )
    if question.refusal is not None:
        return facts  # there is nothing to ask with
    for step in _STEPS:
        for _ in range(step.times):
            probe = step.probe(question, facts)
            if probe is None or not probe.url or not step.is_due(facts) or len(facts.exchanges) >= MAX_PROBES:
                break
            facts = _learned(question, facts, replace((yield probe), role=probe.role))
            if probe.role == "asked":
                facts = replace(facts, token=reading_of(facts.credential))
    return facts


def plan(question: Question) -> list[Probe]:
    """All that `examine` may send for `question`, with the condition under which it does; eight of them at most."""
    if question.refusal is not None:
        return []
    before = Facts(now=question.now, expected=question.expected, browser_origin=question.origin)
    sketches = [(step.condition, step.probe(question, before)) for step in _STEPS]
    return [replace(probe, condition=condition) for condition, probe in sketches if probe is not None]


def _learned(question: Question, facts: Facts, exchange: Exchange) -> Facts:
    """The facts with one exchange more, and what its document says."""
    facts = replace(facts, exchanges=(*facts.exchanges, exchange))
    document = exchange.document if exchange.is_accepted else None
    if not isinstance(document, dict):
        return facts
    if exchange.role == "issuer metadata":
        return replace(facts, issuer_metadata=document)
    if exchange.role == "keys":
        return replace(facts, jwks=document)
    if exchange.role == "introspection":
        return replace(facts, introspection=document)
    if exchange.role == "resource metadata":
        return replace(facts, expected=_expected(question.expected, document))
    return facts


def _expected(said: Expected, document: dict[str, Any]) -> Expected:
    """What the person says, and where the person says nothing, what the API's metadata does (RFC 9728 §2)."""
    issuers, scopes = document.get("authorization_servers"), document.get("scopes_supported")
    first = issuers[0] if isinstance(issuers, list) and issuers and isinstance(issuers[0], str) else None
    listed = [one for one in scopes if isinstance(one, str)] if isinstance(scopes, list) else []
    resource = document.get("resource")
    return Expected(
        issuer=said.issuer or first,
        audience=said.audience or (resource if isinstance(resource, str) else None),
        scopes=said.scopes or frozenset(listed),
        whence=said.whence if said.issuer or said.audience or said.scopes else SAID_BY_API,
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """One place in the plan: what to send, as far as it is known, and when; `condition` is the same in words."""

    condition: str
    is_due: Callable[[Facts], bool]
    probe: Callable[[Question, Facts], Probe | None]
    times: int = 1


def _always(_facts: Facts) -> bool:
    return True


def _is_reached(facts: Facts) -> bool:
    return facts.status != 0


def _makes_a_difference(facts: Facts) -> bool:
    """It is accepted, and without the credential refused."""
    bare = facts.probe("bare")
    return facts.last is not None and facts.last.is_accepted and bare is not None and bare.is_refused


def _is_refused(facts: Facts) -> bool:
    """Neither accepted nor sent elsewhere: what another origin would say is not known."""
    return _is_reached(facts) and facts.last is not None and not facts.last.is_accepted and not facts.last.location


def _is_refused_again(facts: Facts) -> bool:
    """On a connection where somebody without a credential was refused before it."""
    again = facts.probe("again")
    return again is not None and again.is_refused


def _is_not_accepted(facts: Facts) -> bool:
    """Also where the credential cannot even go out as it is."""
    return facts.last is not None and not facts.last.is_accepted


def _is_jwt_refused(facts: Facts) -> bool:
    return _is_refused(facts) and facts.token is not None and facts.token.is_jwt


_STEPS = (
    _Step("always", _always, _probes.asked),
    _Step("if it is a redirect within the origin (three at most)", _is_reached, _probes.hop, times=3),
    _Step("if there was an answer", _is_reached, _probes.bare),
    _Step(
        "if it was refused, and another spelling or field is wanted, or none is named", _is_not_accepted, _probes.mended
    ),
    _Step("if it was accepted, and is refused without the credential", _makes_a_difference, _probes.again),
    _Step("if it is refused then", _is_refused_again, _probes.anew),
    _Step("if there was an answer", _is_reached, _probes.preflight),
    _Step("if the refusal names it, at the same origin", _is_refused, _probes.resource_metadata),
    _Step("if a JWT was refused", _is_jwt_refused, _probes.issuer_metadata),
    _Step("if a JWT was refused, and the keys are at an origin that was named", _is_jwt_refused, _probes.keys),
    _Step("if the token was refused", _is_refused, _probes.introspection),
)
