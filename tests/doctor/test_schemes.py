"""Which scheme, field, proof, certificate or login is wanted is told from what the server says, and no less."""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest
from doctor.cases_schemes import BOUND, CERTIFIED, JWK, OTHER_JWK, digest, proof, thumbprint
from doctor.rig import TOKEN, signed

from httpx_tokenflow.doctor import Certainty, Exchange, Facts, Fields, diagnose, explain, read_token
from httpx_tokenflow.doctor._mending import field_wanted, mended
from httpx_tokenflow.doctor.causes import _bindings, _schemes

BASIC = base64.b64encode(b"hugo:honolulu1973").decode()
URL = "http://127.0.0.1/v1/things"
AS_BEARER = ("Authorization", f"Bearer {TOKEN}")


def facts(
    *sent: tuple[str, str], told=(), status: int = 401, body: str | dict = "", token: str = "", tried=None
) -> Facts:
    text = body if isinstance(body, str) else json.dumps(body)
    challenges = Fields([("WWW-Authenticate", one) for one in told])
    asked = Exchange(
        url=URL, sent=Fields([("Host", "x"), *sent]), status=status, received=challenges, body=text, method="GET"
    )
    several = [asked]
    if tried is not None:
        field, answer = tried
        several.append(Exchange(role="mended", url=URL, sent=Fields([field]), status=answer, received=challenges))
    return Facts(exchanges=tuple(several), now=time.time(), token=read_token(token) if token else None)


def named(known: Facts) -> dict[str, Certainty]:
    return {finding.id: finding.certainty for finding in diagnose(known, _schemes.CAUSES).findings}


@pytest.mark.parametrize(
    ("sent", "told", "id_"),
    [
        (("Authorization", f"Basic {BASIC}"), ["Bearer"], "bearer-expected"),
        (("X-API-Key", TOKEN), ['Bearer realm="x"'], "bearer-expected"),
        (AS_BEARER, ['Basic realm="x"'], "basic-expected"),
        (("Authorization", f"Token {TOKEN}"), ['Basic realm="x"', "Negotiate"], "basic-expected"),
        (AS_BEARER, ['Digest realm="x", nonce="y"'], "digest-expected"),
        (AS_BEARER, ["Negotiate", "NTLM"], "negotiate-expected"),
        (("X-API-Key", TOKEN), ['Basic realm="x"', 'Bearer realm="x"'], "bearer-expected"),
        (AS_BEARER, ["Token"], "other-scheme-expected"),
        (AS_BEARER, ['AWS4-HMAC-SHA256 realm="x"'], "signature-expected"),
        (AS_BEARER, ['DPoP algs="ES256"'], "dpop-expected"),
    ],
)
def test_the_challenge_names_another_scheme(sent, told, id_):
    """A scheme that is wanted, and was not sent, is one cause and no other; the same scheme is none."""
    assert list(named(facts(sent, told=told))) == [id_]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (AS_BEARER, ['Bearer realm="x"']),
        (AS_BEARER, ['Basic realm="x"', 'Bearer realm="x"']),
        (AS_BEARER, ['Bearer error="invalid_token"', "DPoP"]),
        (AS_BEARER, []),
        (AS_BEARER, ["Unauthorized"]),
        (AS_BEARER, ['Cookie realm="x"']),
        (("Authorization", f"Basic {BASIC}"), ['Digest realm="x", nonce="y"', 'Basic realm="x"']),
        (("Authorization", f"Basic {BASIC}"), ['Basic realm="x"', 'Bearer realm="x"']),
        (("Authorization", f"token {TOKEN}"), ["Token"]),
        (("Authorization", "Negotiate YIIG"), ["Negotiate", "NTLM"]),
        (("Authorization", "NTLM TlRM"), ["Negotiate", "NTLM"]),
        (("Authorization", "AWS4-HMAC-SHA256 Credential=AKIA/x"), ["AWS4-HMAC-SHA256"]),
        (("Authorization", "Bearer undefined"), ['Basic realm="x"']),
        (("Cookie", "session=8f3a6c1e"), ["Bearer"]),
        (("Authorization", f"Bearar {TOKEN}"), ["Bearer"]),
    ],
)
def test_one_of_those_that_are_wanted_is_enough(sent, told):
    """Where the scheme that was sent is taken, or nothing is known, no other is named."""
    assert named(facts(sent, told=told)) == {}


@pytest.mark.parametrize("status", [0, 200, 404, 500])
def test_only_a_refusal_asks_for_another_scheme(status):
    """An answer that refuses no credential says nothing of schemes, whatever its challenge."""
    assert named(facts(AS_BEARER, told=['Basic realm="x"'], status=status)) == {}


def test_the_probe_makes_a_scheme_certain():
    """Where the same credential is accepted in another way, nothing else is to be said."""
    sent = ("X-API-Key", TOKEN)
    assert named(facts(sent, tried=(AS_BEARER, 200))) == {"bearer-expected": Certainty.CERTAIN}
    assert named(facts(sent, told=["Bearer"], tried=(AS_BEARER, 401))) == {"bearer-expected": Certainty.LIKELY}
    assert named(facts(AS_BEARER, tried=(sent, 200))) == {"api-key-expected": Certainty.CERTAIN}
    assert named(facts(AS_BEARER, tried=(sent, 401))) == {}
    as_token = ("Authorization", f"Token {TOKEN}")
    assert named(facts(AS_BEARER, told=["Token"], tried=(as_token, 200))) == {
        "other-scheme-expected": Certainty.CERTAIN
    }


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"message": "No API key found in request"}, "apikey"),
        ({"message": "Access denied due to missing subscription key."}, "Ocp-Apim-Subscription-Key"),
        ({"error": {"message": "x-api-key header is required"}}, "x-api-key"),
        ({"error": {"message": "The request is missing a valid API key."}}, "X-Goog-Api-Key"),
        ({"error": {"message": "API key not valid. Please pass a valid API key."}}, None),  # it was read
        ("Missing header: X-Acme-Token", "X-Acme-Token"),
        ("the Authorization header is missing", None),
        ("invalid api key", None),
        ({"message": "x-csrf-token missing"}, None),
    ],
)
def test_the_field_that_the_server_names(words, field):
    """A field is wanted where the words name it, or are those of a gateway that has one."""
    assert field_wanted(facts(AS_BEARER, body=words)) == field


def test_a_key_in_the_field_that_is_named_is_right():
    """Who names the field that the key was in says that the key is wrong, and nothing of the field."""
    words = {"message": "X-API-Key is invalid"}
    assert named(facts(("x-api-key", TOKEN), body=words)) == {}
    assert named(facts(AS_BEARER, ("X-API-Key", TOKEN), body=words)) == {}
    assert named(facts(AS_BEARER, body=words)) == {"api-key-expected": Certainty.LIKELY}


@pytest.mark.parametrize(
    ("sent", "told", "wanted"),
    [
        (("X-API-Key", TOKEN), ["Bearer"], [AS_BEARER]),
        (("X-API-Key", TOKEN), [], [AS_BEARER]),
        (AS_BEARER, [], [("X-API-Key", TOKEN)]),
        (AS_BEARER, ["Token"], [("Authorization", f"Token {TOKEN}")]),
        (AS_BEARER, ['Basic realm="x"'], None),
        (AS_BEARER, ["DPoP"], None),
        (AS_BEARER, ['Digest nonce="x"'], None),
        (("Authorization", f"Basic {BASIC}"), ["Bearer"], None),
        (("Authorization", f"Bearer {BOUND}"), [], None),
        (("Cookie", "session=8f3a6c1e"), ["Bearer"], None),
    ],
)
def test_what_is_tried(sent, told, wanted):
    """The same credential in the usual other way; a scheme that takes more than a token is not made up."""
    assert mended(facts(sent, told=told)) == wanted


def test_a_bound_token_is_never_a_bearer():
    """A token with cnf.jkt that was sent as Bearer is the cause (RFC 9449 §7.2), whatever the server says."""
    assert named(facts(("Authorization", f"Bearer {BOUND}"), token=BOUND)) == {"dpop-expected": Certainty.CERTAIN}
    as_dpop = facts(("Authorization", f"DPoP {BOUND}"), token=BOUND)
    assert named(as_dpop) == {"dpop-proof-missing": Certainty.CERTAIN}


def dpop(text: str, *told: str) -> Facts:
    return facts(("Authorization", f"DPoP {BOUND}"), ("DPoP", text), token=BOUND, told=told)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (proof(htm="POST"), "another method"),
        (proof(htu="http://127.0.0.1/v2/things"), "another URL"),
        (proof(htu=None), "another URL"),
        (proof(ath=None), "no hash of the token"),
        (proof(ath=digest("another")), "another token"),
        (proof(jti=None), "no jti"),
        (proof(iat=None), "no iat"),
        (proof(iat=time.time() - 4000), "s ago"),
        (proof(iat=time.time() + 4000), "in the future"),
        (proof({"typ": "JWT"}), "typ is not dpop+jwt"),
        (proof({"jwk": OTHER_JWK}), "key is another"),
        (proof({"jwk": JWK | {"d": "x"}}), "private key"),
        ("8f3a6c1e5b7d49f2", "no JWT"),
    ],
)
def test_what_is_wrong_with_a_proof(text, wrong):
    """Each rule of RFC 9449 §4.3 that can be checked is, and the one that is broken is named alone."""
    (finding,) = diagnose(dpop(text), _bindings.CAUSES).findings
    assert finding.id == "dpop-proof-invalid"
    assert finding.certainty == Certainty.CERTAIN
    assert wrong in finding.summary
    assert len(finding.evidence) == 1


@pytest.mark.parametrize(
    "htu", ["http://127.0.0.1:80/v1/things", "HTTP://127.0.0.1/v1/things", "http://127.0.0.1/v1/things?a=b#c"]
)
def test_a_proof_that_is_right(htu):
    """The URL of a proof is compared without port, query and fragment; a right proof is no cause."""
    assert named(dpop(proof(htu=htu))) == {}


def test_the_thumbprint_is_that_of_the_rfc():
    """The key of RFC 7638 §3.1 has the thumbprint that stands there."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu"
        "6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a"
        "wapJzKnqDKgw"
    )
    assert _bindings._thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}) == (
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    )
    assert _bindings._thumbprint(JWK) == thumbprint(JWK)


def test_a_nonce_is_wanted():
    """Certain where the server says so; likely where it gives one and the proof has none; nothing where it is in."""
    assert named(dpop(proof(), 'DPoP error="use_dpop_nonce"')) == {"dpop-nonce": Certainty.CERTAIN}
    given = (("DPoP-Nonce", "abc"), ("WWW-Authenticate", "DPoP"))
    for text, found in ((proof(), {"dpop-nonce": Certainty.LIKELY}), (proof(nonce="abc"), {})):
        sent = Fields([("Authorization", f"DPoP {BOUND}"), ("DPoP", text)])
        asked = Exchange(url=URL, sent=sent, status=401, received=Fields(given))
        assert named(Facts(exchanges=(asked,), now=time.time(), token=read_token(BOUND))) == found


def test_a_certificate_is_wanted():
    """Certain over plain http or in words, likely where the connection is not known; only of client certificates."""
    sent = ("Authorization", f"Bearer {CERTIFIED}")
    assert named(facts(sent, token=CERTIFIED)) == {"certificate-expected": Certainty.CERTAIN}
    secure = Exchange(url="https://api.example.com/", sent=Fields([sent]), status=401)
    assert named(Facts(exchanges=(secure,), token=read_token(CERTIFIED))) == {"certificate-expected": Certainty.LIKELY}
    page = "<html><title>400 No required SSL certificate was sent</title></html>"
    assert named(facts(AS_BEARER, status=400, body=page)) == {"certificate-expected": Certainty.CERTAIN}
    for words in ("the certificate of the server has expired", "certificates: 3"):
        assert named(facts(AS_BEARER, status=400, body=words)) == {}
    alert = Exchange(
        url="https://api.example.com/",
        sent=Fields([AS_BEARER]),
        failure="ReadError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]",
    )
    assert named(Facts(exchanges=(alert,))) == {"certificate-expected": Certainty.CERTAIN}


def test_another_login_is_wanted():
    """What the challenge asks for is in the summary; how the token's login was, in the evidence."""
    token = signed(auth_time=time.time() - 4000, acr="silver")
    told = 'Bearer error="insufficient_user_authentication", acr_values="gold", max_age="300"'
    (finding,) = diagnose(
        facts(("Authorization", f"Bearer {token}"), told=[told], token=token), _schemes.CAUSES
    ).findings
    assert finding.id == "step-up-required"
    assert "acr_values gold and a login at most 300 s ago" in finding.summary
    assert "acr is silver" in str(finding.evidence)
    for claims in ("", "!!!", base64.b64encode(b"[1]").decode(), base64.b64encode(b'{"a": 3}').decode()):
        told = f'Bearer error="insufficient_claims", claims="{claims}"'
        assert named(facts(AS_BEARER, told=[told])) == {"step-up-required": Certainty.CERTAIN}


@pytest.mark.parametrize("cnf", [None, 3, "x", [], {"jkt": 3}, {"jkt": ""}, {"jkt": None, "x5t#S256": []}])
def test_a_claim_of_any_type_is_no_binding(cnf):
    """What is not written as RFC 7800 has it binds nothing, and raises nothing."""
    token = signed(cnf=cnf)
    assert named(facts(("Authorization", f"Bearer {token}"), token=token)) == {}


def test_a_response_in_hand():
    """`explain` says the same of a response, without any probe."""
    request = httpx.Request("GET", "https://api.example.com/", headers={"Authorization": f"Basic {BASIC}"})
    response = httpx.Response(401, headers={"WWW-Authenticate": "Bearer"}, request=request)
    found = explain(response).first
    assert found is not None
    assert found.id == "bearer-expected"
    assert str(explain(response)) == "the credential was sent as Basic, and the server wants Bearer"
