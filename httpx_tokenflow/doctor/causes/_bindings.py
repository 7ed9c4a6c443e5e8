"""The token alone is not enough: a proof of a key, a certificate, a fresher or a stronger login goes with it.

Rules.

1. Of a proof (RFC 9449 §4.2) everything is looked at but its signature and whether it was used before.
2. A certificate that went along is not seen here: where the connection had none for sure (http) that is certain.
3. These causes are part of the room `_schemes`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx_tokenflow.doctor._facts import origin
from httpx_tokenflow.doctor._findings import Cause, Certainty, Finding
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._placeholders import nothing_in
from httpx_tokenflow.doctor._readings import read_token

from ._reckoning import SLACK, ahead

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Exchange, Facts
    from httpx_tokenflow.doctor._readings import Reading

__all__ = ["CAUSES"]

_PROOF_AGE = 300.0  # seconds; servers accept a proof for a few minutes (RFC 9449 §11.1)
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}  # RFC 7638 §3.2


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _bound_to(facts: Facts, member: str) -> str | None:
    """What the token is bound to (RFC 7800 §3.1)."""
    cnf = facts.token.claims.get("cnf") if facts.token is not None else None
    value = cnf.get(member) if isinstance(cnf, dict) else None
    return value if isinstance(value, str) and value else None


def _is_token_sent(facts: Facts) -> bool:
    sent = facts.credential
    is_there = sent is not None and sent.place not in {"Cookie", "URL"} and nothing_in(sent) is None
    return is_there and sent is not None and bool(spelling(sent).value)


def _is_sent_with_dpop(facts: Facts) -> bool:
    sent = facts.credential
    return sent is not None and sent.place == "Authorization" and spelling(sent).scheme == "DPoP"


def _is_refused(facts: Facts) -> bool:
    return facts.last is not None and facts.last.is_refused


def _proof(facts: Facts) -> Reading | None:
    text = facts.asked.sent.get("DPoP") if facts.asked is not None else None
    return None if text is None else read_token(text.strip())


class DpopExpected(Cause):
    """The token, or the server, wants DPoP, and Bearer or another scheme was sent."""

    id = "dpop-expected"
    title = "DPoP is wanted, and the token was sent in another way"
    remedy = (
        "send Authorization: DPoP <token> and a proof in the field DPoP: dpop=DPoP() here; curl and the like cannot "
        "make one"
    )
    reference = "RFC 9449 §7.1"

    def look(self, facts: Facts) -> Finding | None:
        if not _is_refused(facts) or not _is_token_sent(facts) or _is_sent_with_dpop(facts):
            return None
        wanted = {challenge.scheme.lower() for challenge in facts.challenges}
        bound = _bound_to(facts, "jkt") is not None
        if not bound and wanted != {"dpop"}:
            return None
        algs = next((one.params.get("algs") for one in facts.challenges if one.is_scheme("DPoP")), None)
        way = spelling(facts.credential).scheme if facts.credential is not None else ""
        reason = "the token is bound to a key (cnf.jkt)" if bound else "the server wants DPoP"
        return self.found(
            Certainty.CERTAIN,
            f"{reason}, and it was sent {f'as {way}' if way else 'without the scheme DPoP'}, which proves no key",
            [
                "the token has the claim cnf.jkt: it is good only with a proof of that key" if bound else None,
                "the server's challenge names DPoP and nothing else" if wanted == {"dpop"} else None,
                f"it takes proofs signed with {algs[:80]}" if algs else None,
                facts.said("dpop"),
            ],
        )


class ProofMissing(Cause):
    """The scheme is DPoP, and there is no field of that name."""

    id = "dpop-proof-missing"
    title = "The DPoP proof is missing"
    remedy = "make a proof for this method and URL, with the token's hash (ath), and send it in the field DPoP"
    reference = "RFC 9449 §7.1"

    def look(self, facts: Facts) -> Finding | None:
        if not _is_refused(facts) or not _is_sent_with_dpop(facts) or _proof(facts) is not None:
            return None
        what = "the token was sent as DPoP, and no proof with it"
        return self.found(Certainty.CERTAIN, what, ["the request has no field DPoP", facts.said("dpop")])


class ProofNonce(Cause):
    """The server wants its nonce in the proof."""

    id = "dpop-nonce"
    title = "The DPoP proof lacks the server's nonce"
    remedy = "make a new proof with the nonce of the answer's field DPoP-Nonce, and keep the newest of each server"
    reference = "RFC 9449 §9"

    def look(self, facts: Facts) -> Finding | None:
        proof, last = _proof(facts), facts.last
        if proof is None or last is None or not last.is_refused:
            return None
        told = any(challenge.error == "use_dpop_nonce" for challenge in facts.challenges) or _is_told(last)
        given = last.received.get("DPoP-Nonce")
        has_it = given is not None and proof.claims.get("nonce") == given
        if not told and (given is None or has_it or "nonce" in proof.claims):
            return None
        ours = "another nonce than the server's" if "nonce" in proof.claims else "no nonce"
        return self.found(
            Certainty.CERTAIN if told else Certainty.LIKELY,
            f"the DPoP proof has {ours}, and the server wants its own in it",
            [
                "the server's error is use_dpop_nonce" if told else None,
                "the answer has a field DPoP-Nonce" if given is not None else None,
                f"the proof has {ours}",
            ],
        )


def _is_told(last: Exchange) -> bool:
    return any("use_dpop_nonce" in text for _, text in last.words)


class ProofInvalid(Cause):
    """The proof is for another request, token or key, is too old, or is none."""

    id = "dpop-proof-invalid"
    title = "The DPoP proof is not valid for this request"
    remedy = (
        "make a new proof for every request, also for one that is sent again: method, URL without query, token, and "
        "time as they are then"
    )
    reference = "RFC 9449 §4.3"

    def look(self, facts: Facts) -> Finding | None:
        proof, asked = _proof(facts), facts.asked
        if proof is None or asked is None or not _is_refused(facts):
            return None
        several = (asked.sent.get_list("DPoP")[1:] and ["there are two fields DPoP, and one is allowed"]) or []
        wrong = [*several, *_wrong_in(proof, facts, asked)]
        said = facts.said(r"invalid_dpop_proof|dpop.{0,20}proof|\bjti\b")
        if not wrong and said is None:
            return None
        first = wrong[0] if wrong else "the server does not accept it; its signature and its jti cannot be checked here"
        certainty = Certainty.CERTAIN if wrong or "invalid_dpop_proof" in (said or "") else Certainty.LIKELY
        if not wrong and abs(ahead(facts) or 0.0) >= SLACK:
            certainty = Certainty.POSSIBLE  # the proof is as it should be, but for our clock: _clocks
        return self.found(
            certainty,
            f"the DPoP proof is not valid: {first}",
            [*wrong, said],
        )


def _wrong_in(proof: Reading, facts: Facts, asked: Exchange) -> list[str]:
    """What speaks against a proof (RFC 9449 §4.3)."""
    if not proof.is_jwt:
        return [f"it is no JWT: {proof.problems[0]}" if proof.problems else "it is no JWT"]
    typ, alg, jwk = (proof.header.get(name) for name in ("typ", "alg", "jwk"))
    claims, at = proof.claims, proof.seconds("iat")
    found = [
        (typ == "dpop+jwt", "its typ is not dpop+jwt"),
        (isinstance(alg, str) and alg != "none" and not alg.startswith("HS"), "its alg is none of a public key"),
        (isinstance(jwk, dict), "its header has no jwk"),
        (not isinstance(jwk, dict) or "d" not in jwk, "its jwk has the private key in it: make a new key"),
        (isinstance(claims.get("jti"), str), "it has no jti"),
        (claims.get("htm") == asked.method, f"it is for another method than {asked.method} (htm)"),
        (_is_same_url(claims.get("htu"), asked.url), "it is for another URL (htu)"),
        (at is not None, "it has no iat"),
        (at is None or abs(facts.now - at) <= _PROOF_AGE, _age_in_words(facts.now, at)),
    ]
    return [text for is_right, text in [*found, *_of_token(proof, facts)] if not is_right]


def _of_token(proof: Reading, facts: Facts) -> list[tuple[bool, str]]:
    """Whether the proof goes with the token: its hash, and the key that it is bound to."""
    sent, jwk = facts.credential, proof.header.get("jwk")
    token = spelling(sent).value if sent is not None else ""
    ath = proof.claims.get("ath")
    bound, own = _bound_to(facts, "jkt"), _thumbprint(jwk)
    return [
        (ath is not None, "it has no hash of the token (ath)"),
        (ath is None or ath == _digest(token.encode("utf-8", "replace")), "it is for another token (ath)"),
        (bound is None or own is None or bound == own, "its key is another than the token is bound to (cnf.jkt)"),
    ]


def _age_in_words(now: float, at: float | None) -> str:
    seconds = 0 if at is None else round(now - at)
    return f"it was made {seconds} s ago (iat)" if seconds >= 0 else f"it was made {-seconds} s in the future (iat)"


def _thumbprint(jwk: Any) -> str | None:
    """Of a key (RFC 7638 §3); None if it has not what that takes."""
    names = _MEMBERS.get(str(jwk.get("kty")), ()) if isinstance(jwk, dict) else ()
    members = {name: jwk.get(name) for name in names}
    if not names or not all(isinstance(value, str) for value in members.values()):
        return None
    return _digest(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())


def _is_same_url(one: Any, other: str) -> bool:
    """Without query and fragment (RFC 9449 §4.2)."""
    if not isinstance(one, str):
        return False
    try:
        return (*origin(one), urlsplit(one).path or "/") == (*origin(other), urlsplit(other).path or "/")
    except ValueError:
        return False


class CertificateExpected(Cause):
    """The token is bound to a certificate, or the server wants one (mutual TLS)."""

    id = "certificate-expected"
    title = "A client certificate is wanted"
    remedy = (
        "connect with the certificate that the token was issued with (httpx.Client(verify=context), curl --cert), all "
        "the way: a proxy that ends TLS must pass it on"
    )
    reference = "RFC 8705 §3"
    when_accepted = True  # nginx says 400

    def look(self, facts: Facts) -> Finding | None:
        last = facts.last
        if last is None or last.is_accepted or not (last.is_refused or last.status in {0, 400}):
            return None
        bound = _is_refused(facts) and _bound_to(facts, "x5t#S256") is not None
        said = facts.said(
            r"client cert|no required ssl certificate|ssl certificate error|mutual.?tls|\bmtls\b|certificate.bound"
        )
        alert = "certificate required" in (last.failure or "").lower().replace("_", " ")
        if not bound and said is None and not alert:
            return None
        is_plain = bound and last.url.lower().startswith("http:")
        what = (
            "the token is bound to a certificate (cnf x5t#S256)" if bound else "the server wants a client certificate"
        )
        how = ", and the connection was plain http, which has none" if is_plain else ""
        return self.found(
            Certainty.CERTAIN if is_plain or said is not None or alert else Certainty.LIKELY,
            f"{what}{how or ', which has to be on the connection'}",
            [
                "the token has the claim cnf with x5t#S256: it is good only on connections with that certificate"
                if bound
                else None,
                said,
                "the TLS handshake ended with the alert certificate_required" if alert else None,
            ],
            [None if is_plain or said or alert else "whether the connection had a certificate is not known here"],
        )


class StepUp(Cause):
    """The login was too weak, or too long ago, for this."""

    id = "step-up-required"
    title = "A stronger or fresher login is wanted"
    remedy = (
        "let the user log in again, with acr_values, max_age or claims from the challenge in the authorization request"
    )
    reference = "RFC 9470 §3"

    def look(self, facts: Facts) -> Finding | None:
        errors = {"insufficient_user_authentication", "insufficient_claims"}
        told = next((one for one in facts.challenges if one.error in errors), None)
        if told is None:
            return None
        wants = [
            f"acr_values {told.acr_values[:80]}" if told.acr_values else None,
            f"a login at most {told.max_age} s ago (max_age)" if told.max_age is not None else None,
            _claims_in_words(told.params.get("claims")),
        ]
        asked = " and ".join(text for text in wants if text)
        logged = facts.token.seconds("auth_time") if facts.token is not None else None
        acr = facts.token.text("acr") if facts.token is not None else None
        return self.found(
            Certainty.CERTAIN,
            f"the server wants another login for this{f': {asked}' if asked else ''}",
            [
                f"the server's error is {told.error}",
                f"the token's login was {round(facts.now - logged)} s ago (auth_time)" if logged is not None else None,
                f"the token's acr is {acr[:80]}" if acr else None,
            ],
        )


def _claims_in_words(text: str | None) -> str | None:
    """A claims challenge of Entra ID: JSON in base64."""
    if not text:
        return None
    try:
        document = json.loads(base64.b64decode(text + "=" * (-len(text) % 4)))
        names = [name for part in document.values() for name in part]
    except (ValueError, binascii.Error, AttributeError, TypeError, RecursionError):
        return "claims"
    return f"the claims {', '.join(map(str, names))[:80]}"


CAUSES: tuple[Cause, ...] = (
    StepUp(),
    DpopExpected(),
    ProofMissing(),
    ProofNonce(),
    ProofInvalid(),
    CertificateExpected(),
)
