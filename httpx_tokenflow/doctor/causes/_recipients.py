"""For whom the token is, by whom and to whom it was issued, what it allows: a part of `_claims`, with its rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx_tokenflow.doctor._facts import SAID_BY_API
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding

from ._hosts import is_public
from ._known import AUDIENCES
from ._reckoning import has_token, jwt_of, sure
from ._words import AUDIENCE, CLIENT, ISSUER, SCOPE, said

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES"]

_ENTRA_REMEDY = (
    "set accessTokenAcceptedVersion (requestedAccessTokenVersion) of the API's registration to 2, or let the API "
    "accept the issuer of version 1 (sts.windows.net) as well"
)


class WrongAudience(Cause):
    """It was issued for another API (`aud`)."""

    id = "wrong-audience"
    title = "The token is for another API"
    remedy = (
        "ask for a token for this API: audience= (Auth0), resource= (RFC 8707), or the scope that stands for it "
        "(Entra ID)"
    )
    reference = "RFC 7519 §4.1.3, RFC 9068 §4"

    def look(self, facts: Facts) -> Finding | None:
        token = jwt_of(facts)
        words = said(facts, AUDIENCE) if has_token(facts) else None
        has = () if token is None else token.texts("aud")
        wanted = facts.expected.audience
        if token is not None and wanted is not None and wanted not in has:
            return self._unlike(facts, has, wanted, words)
        if words is not None:
            against = f"the audience is the one that is expected: {wanted}" if wanted is not None and has else None
            what = f"the server does not accept the token's audience{_listed(has)}"
            return self.found(sure(words, against), what, [words, _shown("aud", has)], [against])
        return None if wanted is not None else self._of_another(facts, has)

    def _unlike(self, facts: Facts, has: tuple[str, ...], wanted: str, words: str | None) -> Finding:
        evidence = [
            _shown("aud", has) or "it has no aud",
            f"{wanted} is expected: {_whence(facts, 'resource', wanted)}",
            words,
        ]
        if any(one.rstrip("/") == wanted.rstrip("/") for one in has):
            what = (
                f"the token's audience differs from {wanted} by the slash at its end, and they are compared as they are"
            )
            return self.found(sure(words), what, evidence)
        is_told = words is not None or _whence(facts, "resource", wanted) != SAID_BY_API
        what = (
            f"the token is for {' and '.join(has[:3])}, not for {wanted}"
            if has
            else f"the token has no audience, and {wanted} is expected"
        )
        return self.found(Certainty.CERTAIN if is_told else Certainty.LIKELY, what, evidence)

    def _of_another(self, facts: Facts, has: tuple[str, ...]) -> Finding | None:
        """By the URL alone (rule 2)."""
        here = None if facts.asked is None else _host(facts.asked.url)
        if here is None or not has:
            return None
        known = [(one, AUDIENCES[one.rstrip("/")]) for one in has if one.rstrip("/") in AUDIENCES]
        if len(known) == len(has) and not any(here.endswith(hosts) for _, (_, hosts) in known):
            what = f"the token is for {known[0][1][0]}, and {here} is not that"
            return self.found(Certainty.LIKELY, what, [_shown("aud", has)])
        if not is_public(here):
            return None  # this machine, or a name within a network: what is behind it has another name outside
        hosts = {_host(one) for one in has}
        if None in hosts or any(one == here or here.endswith(f".{one}") for one in hosts if one):
            return None
        what = f"the token is for {' and '.join(has[:3])}, and the request went to {here}"
        return self.found(
            Certainty.POSSIBLE, what, [_shown("aud", has)], ["an audience is often a name and no address"]
        )


class WrongIssuer(Cause):
    """It was issued by somebody whom the API does not trust (`iss`)."""

    id = "wrong-issuer"
    title = "The token is from another issuer"
    remedy = "take the token from the issuer that the API trusts: another environment, tenant or realm has another one"
    reference = "RFC 7519 §4.1.1, RFC 9068 §4"

    def look(self, facts: Facts) -> Finding | None:
        token = jwt_of(facts)
        words = said(facts, ISSUER) if has_token(facts) else None
        has = None if token is None else token.text("iss")
        wanted = _issuers(facts)
        if has is None or not wanted or has in wanted:
            if words is None:
                return None
            against = f"the issuer is one that is expected: {has}" if wanted and has else None
            what = f"the server does not accept the token's issuer{_listed((has,) if has else ())}"
            return self.found(sure(words, against), what, [words, _shown("iss", (has or "",))], [against])
        return self._unlike(facts, has, wanted, words)

    def _unlike(self, facts: Facts, has: str, wanted: tuple[str, ...], words: str | None) -> Finding:
        evidence = [
            _shown("iss", (has,)),
            f"{' or '.join(wanted[:3])} is expected: {_whence(facts, 'authorization_servers', wanted[0])}",
            words,
        ]
        if any(one.rstrip("/") == has.rstrip("/") for one in wanted):
            what = (
                f"the token's issuer {has} differs from the one expected by the slash at its end, and they are "
                f"compared as they are"
            )
            return self.found(sure(words), what, evidence)
        is_told = words is not None or _whence(facts, "authorization_servers", wanted[0]) != SAID_BY_API
        is_entra = {
            has.split("/")[2:3] == ["sts.windows.net"],
            any("login.microsoftonline.com" in one for one in wanted),
        } == {True}
        return self.found(
            Certainty.CERTAIN if is_told else Certainty.LIKELY,
            f"the token is from {has}, not from {' or '.join(wanted[:3])}",
            evidence,
            remedy=_ENTRA_REMEDY if is_entra else None,
        )


class MissingScope(Cause):
    """It does not allow what was asked for."""

    id = "missing-scope"
    title = "The token lacks a scope"
    remedy = "ask for a token with that scope (scope=), and have it granted to the client and by the user"
    reference = "RFC 6750 §3.1 (insufficient_scope)"

    def look(self, facts: Facts) -> Finding | None:
        challenge = next((one for one in facts.challenges if one.error == "insufficient_scope"), None)
        words = said(facts, SCOPE) if has_token(facts) else None
        wanted = _scopes_wanted(facts, is_said=words is not None)
        has = _scopes_of(facts)
        missing = sorted(wanted - has) if has is not None else sorted(wanted)
        if challenge is None and words is None and not (wanted and has is not None and missing):
            return None
        evidence = [
            words,
            f"it has {' '.join(sorted(has)) or 'no scope at all'}" if has is not None else None,
            f"{' '.join(sorted(wanted))} is asked for" if wanted else None,
        ]
        what = (
            f"the token lacks the scope {' '.join(missing)}"
            if missing
            else "the server says that the token's scope is not enough"
        )
        against = "the token has the scopes that are asked for" if wanted and not missing else None
        is_told = challenge is not None or words is not None or bool(facts.expected.scopes)
        return self.found(
            Certainty.CERTAIN if is_told and against is None else Certainty.LIKELY, what, evidence, [against]
        )


class WrongClient(Cause):
    """It was issued to a client that the API does not accept (`azp`, `client_id`)."""

    id = "wrong-client"
    title = "The token was issued to a client that the API does not accept"
    remedy = "take the token with the client that is registered for this API, or have this client added at the API"
    reference = "RFC 9068 §2.2 (client_id), OpenID Connect Core §2 (azp)"

    def look(self, facts: Facts) -> Finding | None:
        words = said(facts, CLIENT) if has_token(facts) and facts.status != 407 else None
        if words is None:
            return None
        token = jwt_of(facts)
        names = ("azp", "client_id", "appid", "cid")
        shown = [] if token is None else [_shown(name, token.texts(name)) for name in names]
        client = None if token is None else next((text for name in names if (text := token.text(name))), None)
        return self.found(
            sure(words),
            f"the server does not accept the client of the token{_listed((client,) if client else ())}",
            [words, *shown],
        )


def _scopes_wanted(facts: Facts, *, is_said: bool) -> frozenset[str]:
    """What the refusal names, or else the person; `scopes_supported` lists what there is, not what is needed."""
    for challenge in facts.challenges:
        told = challenge.params.get("scope", "").split()
        if told and (is_said or challenge.error in {None, "insufficient_scope"}):
            return frozenset(told)
    supported = _api_metadata(facts).get("scopes_supported")
    if isinstance(supported, list) and facts.expected.scopes == {one for one in supported if isinstance(one, str)}:
        return frozenset()
    return facts.expected.scopes


def _scopes_of(facts: Facts) -> frozenset[str] | None:
    """What the token allows, as far as it or its issuer says; None if neither does."""
    told = (facts.introspection or {}).get("scope")
    if isinstance(told, str):
        return frozenset(told.split())
    token = jwt_of(facts)
    if token is None or not any(name in token.claims for name in ("scope", "scp", "scopes", "permissions", "roles")):
        return None
    return token.scopes | set(token.texts("roles"))


def _issuers(facts: Facts) -> tuple[str, ...]:
    """Whom the API trusts: the person's word, what that one calls itself, and all that the API's metadata lists."""
    expected = facts.expected.issuer
    if not expected:
        return ()
    listed = _api_metadata(facts).get("authorization_servers")
    others = listed if isinstance(listed, list) and expected in listed else []
    several = [expected, (facts.issuer_metadata or {}).get("issuer"), *others]
    return tuple(dict.fromkeys(one for one in several if isinstance(one, str) and one))


def _whence(facts: Facts, member: str, value: str) -> str:
    """Who says that `value` is expected: the API's metadata, where it has it, or the person."""
    told = _api_metadata(facts).get(member)
    return SAID_BY_API if told == value or (isinstance(told, list) and value in told) else facts.expected.whence


def _api_metadata(facts: Facts) -> Mapping[str, Any]:
    """What the API says of itself (RFC 9728 §2), if it was read."""
    probe = facts.probe("resource metadata")
    document = None if probe is None else probe.document
    return document if isinstance(document, dict) else {}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _shown(claim: str, values: tuple[str, ...]) -> str | None:
    return f"its {claim} is {', '.join(value[:200] for value in values[:5])}" if any(values) else None


def _listed(values: tuple[str, ...]) -> str:
    return f" {', '.join(value[:200] for value in values[:3])}" if values else ""


CAUSES: tuple[Cause, ...] = (WrongAudience(), WrongIssuer(), MissingScope(), WrongClient())
