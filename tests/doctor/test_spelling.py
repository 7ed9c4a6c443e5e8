"""What is amiss in a credential is named with its place, and never quoted; what may be right is left alone."""

from __future__ import annotations

import base64

import httpx
import pytest
from doctor.rig import TOKEN, signed

from httpx_tokenflow.doctor import Certainty, Exchange, Facts, Fields, Reading, diagnose, explain
from httpx_tokenflow.doctor._facts import UNSENDABLE
from httpx_tokenflow.doctor._flaws import spelling
from httpx_tokenflow.doctor._mending import mended, trial
from httpx_tokenflow.doctor._placeholders import nothing_in
from httpx_tokenflow.doctor._sent import SCHEMES, credentials_of, is_key_field, nearest_scheme
from httpx_tokenflow.doctor.causes import _absent, _spelling

JWT = signed()
PASSWORD = base64.b64encode(b"hugo:honolulu1973").decode()
MINE = (*_absent.CAUSES, *_spelling.CAUSES)
BEARER = (("WWW-Authenticate", "Bearer"),)


def read(value: str):
    return spelling(credentials_of("", [("Authorization", value)])[0])


def kinds(value: str) -> list[str]:
    return [flaw.kind for flaw in read(value).flaws]


def exchange(role: str, value: str | None, status: int, told=BEARER, **more) -> Exchange:
    sent = Fields([("Host", "api.example.com"), *([] if value is None else [("Authorization", value)])])
    return Exchange(
        role=role, url="https://api.example.com/", sent=sent, status=status, received=Fields(told), body="", **more
    )


def named(facts: Facts) -> dict[str, Certainty]:
    return {finding.id: finding.certainty for finding in diagnose(facts, MINE).findings}


def of(value: str | None, status: int = 401, told=BEARER, **more) -> dict[str, Certainty]:
    return named(Facts(exchanges=(exchange("asked", value, status, told, **more),)))


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (f"Bearer\u00a0{TOKEN}", "invisible-character", "character 7 of 34 is U+00A0 NO-BREAK SPACE"),
        (f"Bearer {TOKEN}\u200d", "invisible-character", "character 35 of 35 is U+200D ZERO WIDTH JOINER"),
        (f"Bearer {TOKEN}\n", "line-break", "character 35 of 35 is U+000A LINE FEED"),
        (f"Bearer\t{TOKEN}", "extra-space", "character 7 is U+0009 TABULATOR"),
        (f"Bearer  {TOKEN}", "extra-space", "2 spaces between the scheme and the credential (characters 7 to 8)"),
        (f"  Bearer {TOKEN}", "extra-space", "begins with white space"),
        (f"Bearer {TOKEN}é", "non-ascii", "U+00E9 LATIN SMALL LETTER E WITH ACUTE"),
        (f"Bearar {TOKEN}", "scheme-misspelt", "'Bearar', and meant is 'Bearer'"),
        (f"Bearer{TOKEN}", "scheme-misspelt", "no space between Bearer and the credential"),
    ],
)
def test_a_flaw_is_told_with_its_place(value, kind, told):
    """The evidence says which character it is, by number and name, and does not quote the credential."""
    flaw = read(value).flaw(kind)
    assert flaw is not None
    assert told in flaw.text
    assert TOKEN not in flaw.text


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {TOKEN}",
        f"Bearer {JWT}",
        f"Basic {PASSWORD}",
        f"Token {TOKEN}",
        f"SSWS {TOKEN}",
        f'Token token="{TOKEN}", nonce="def"',
        'Digest username="hugo", response="a  b", nc=1,',
        f"AcmeAuth a, b;{TOKEN} ",
        'OAuth oauth_token="x%2Fy", oauth_signature="z%3D"',
        "AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=a;b, Signature=c",
        "Negotiate YIIG==",
        f"AcmeAuth {TOKEN}%2F,",
        f"Bearer {TOKEN}==",
        "Bearer a.b_c-d~e+f/g=",
        'Signature keyId="a",signature="b=="',
        f"Bot {TOKEN}",
        f"bearer_{TOKEN[:3]} x",
        "Basic SGVsbG86V29ybGQ6YQ==",
    ],
)
def test_what_may_be_right_has_no_fatal_flaw(value):
    """Parameters, signatures, padding and schemes of the house are left as they are."""
    assert [flaw for flaw in read(value).flaws if flaw.is_fatal and flaw.kind != "extra-space"] == []


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer  {TOKEN}",
        f"Bearer\n{TOKEN}",
        f'"Bearer {TOKEN}"',
        f"Bearer Bearer {TOKEN}",
        f"Authorization: Bearer {TOKEN}",
        f"Bearer b'{TOKEN}'",
        f"Bearer: '{TOKEN}',",
        f'Bearer {{"access_token":"{TOKEN}"}}',
        f"\ufeffBaerer\u00a0“{TOKEN}”\r\n",
        TOKEN,
        f"Bearer={TOKEN}",
        f"bearer {TOKEN}",
        f"Bearer {TOKEN[:8]}\n{TOKEN[8:]}",
    ],
)
def test_what_is_mended_is_the_same_credential(value):
    """Whatever has crept in, the probe carries the scheme, one space and the token."""
    facts = Facts(exchanges=(exchange("asked", value, 401),))
    assert mended(facts) == [("Authorization", f"Bearer {TOKEN}")]


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("Basic hugo:honolulu1973", PASSWORD),
        (f"Basic {base64.b64encode(b'hugo:honolulu1973' + bytes([10])).decode()}", PASSWORD),
        ("Basic Onh4Pz8_", "Onh4Pz8/"),
        ("Basic OnNlY3JldA", "OnNlY3JldA=="),
        (f"basic  {PASSWORD}", PASSWORD),
    ],
)
def test_what_is_mended_of_basic_is_the_same_person(value, right):
    """User and password go out in the base64 of RFC 7617."""
    facts = Facts(exchanges=(exchange("asked", value, 401, (("WWW-Authenticate", "Basic"),)),))
    assert mended(facts) == [("Authorization", f"Basic {right}")]


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", "Bearer undefined", "Bearer", "", f"Basic {PASSWORD}"])
def test_what_is_right_or_nothing_is_not_mended(value):
    """A credential as it should be, and one that is none, are not sent another time."""
    told = (("WWW-Authenticate", "Basic"),) if "Basic" in value else BEARER
    assert mended(Facts(exchanges=(exchange("asked", value, 401, told),))) is None


def test_the_probe_decides():
    """A flaw is certain where the credential is accepted without it, and likely at most where it is refused too."""
    asked = exchange("asked", f'Bearer "{TOKEN}"', 401)
    for status, certainty in ((200, Certainty.CERTAIN), (404, Certainty.CERTAIN), (401, Certainty.LIKELY)):
        facts = Facts(exchanges=(asked, exchange("mended", f"Bearer {TOKEN}", status, () if status < 401 else BEARER)))
        assert named(facts) == {"quotes": certainty}
    assert named(Facts(exchanges=(asked,))) == {"quotes": Certainty.LIKELY}


def test_what_the_rfc_allows_is_a_cause_only_by_proof():
    """Two spaces and small letters are right: where the probe is refused in the same way, they are not named."""
    for value, id_ in ((f"Bearer  {TOKEN}", "extra-space"), (f"bearer {TOKEN}", "scheme-case")):
        asked = exchange("asked", value, 401)
        refused, accepted = (exchange("mended", f"Bearer {TOKEN}", status) for status in (401, 200))
        assert named(Facts(exchanges=(asked, refused))) == {}
        assert named(Facts(exchanges=(asked, accepted))) == {id_: Certainty.CERTAIN}
    assert of(f"bearer {TOKEN}") == {}


def test_a_probe_that_everybody_passes_proves_nothing():
    """Where nobody needs a credential for the answer that the probe got, it says nothing of the spelling."""
    asked, bare = exchange("asked", f"Bearer  {TOKEN}", 401), exchange("bare", None, 404, ())
    tried = trial(Facts(exchanges=(asked, bare, exchange("mended", f"Bearer {TOKEN}", 404, ()))))
    assert tried is not None
    assert not tried.is_accepted


def test_another_refusal_is_told_apart():
    """A probe that is refused in another way has got further: what is amiss then is something else."""
    asked = exchange("asked", f"Bearer  {TOKEN}", 401, (("WWW-Authenticate", 'Bearer error="invalid_request"'),))
    other = exchange("mended", f"Bearer {TOKEN}", 401, (("WWW-Authenticate", 'Bearer error="invalid_token"'),))
    assert named(Facts(exchanges=(asked, other))) == {"extra-space": Certainty.POSSIBLE}


def test_what_cannot_be_sent_is_certain():
    """The client refuses a line break; what could have been sent is not blamed for that."""
    value = f'Bearer "{TOKEN}"\n'
    unsent = Facts(exchanges=(exchange("asked", value, 0, (), failure=f"LocalProtocolError: {UNSENDABLE}"),))
    assert named(unsent) == {"line-break": Certainty.CERTAIN, "quotes": Certainty.LIKELY}


def test_a_server_that_is_down_blames_no_spelling():
    """Where nothing answered, or the server failed, nothing is said of a credential, not even that there is none."""
    for value in (f"Bearer  {TOKEN}", TOKEN, f'"{TOKEN}"', None, f"Bearar {TOKEN}"):
        assert of(value, 0, (), failure="ConnectError: refused") == {}
        assert of(value, 503) == {}


def test_a_token_alone():
    """It is likely the reason where it is a JWT or Bearer is asked for, else possible; the probe makes it certain."""
    assert of(JWT, told=()) == {"scheme-missing": Certainty.LIKELY}
    assert of(TOKEN) == {"scheme-missing": Certainty.LIKELY}
    assert of(TOKEN, told=()) == {"scheme-missing": Certainty.POSSIBLE}
    tried = Facts(exchanges=(exchange("asked", TOKEN, 401, ()), exchange("mended", f"Bearer {TOKEN}", 200, ())))
    assert named(tried) == {"scheme-missing": Certainty.CERTAIN}


def test_nothing_and_a_word_for_nothing():
    """Nothing, an empty field and a placeholder are three things; none is said of a request that is not known."""
    assert of(None) == {"no-credential": Certainty.CERTAIN}
    assert of(None, 403, ()) == {"no-credential": Certainty.LIKELY}
    assert of("Bearer") == of("") == of("Basic Og==") == {"empty-credential": Certainty.CERTAIN}
    assert of("Bearer undefined") == of("Bearer ${TOKEN}") == {"placeholder-credential": Certainty.CERTAIN}
    assert of("Bearer token") == {"placeholder-credential": Certainty.LIKELY}
    unknown = explain(httpx.Response(401, headers=list(BEARER)))
    assert "no-credential" not in {one.id for one in unknown.findings}


def test_a_placeholder_is_shown():
    """The word for nothing is no secret, and is quoted; so is a scheme that is misspelt."""
    assert "'undefined'" in str(diagnose(Facts(exchanges=(exchange("asked", "Bearer undefined", 401),)), MINE))
    assert "'Bearar'" in str(diagnose(Facts(exchanges=(exchange("asked", f"Bearar {TOKEN}", 401),)), MINE))


def test_a_password_like_a_scheme_is_not_shown():
    """A secret that is one letter from a scheme's name stays one."""
    value = f"Basic {base64.b64encode(b'hugo:bearar').decode()}"
    told = (("WWW-Authenticate", 'Bearer error="the password bearar is wrong"'),)
    findings = diagnose(Facts(exchanges=(exchange("asked", f"{value}\n", 401, told),)), MINE).findings
    assert findings
    assert "bearar" not in str(findings)


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        JWT,
        "changeit-8f3a6c1e",
        "tok_8f3a6c1e5b7d",
        "secret-8f3a6c1e5b7d",
        "{8f3a6c}",
        "my-key-that-is-long-and-real-8f3a6c1e5b7d49f2a0c4-8f3a6c1e5b7d49f2a0c4",
        "nullable",
        "undefined1",
        "0",
        "test1234",
    ],
)
def test_a_credential_is_no_placeholder(value):
    """What only begins like one is not taken for one."""
    assert nothing_in(credentials_of("", [("Authorization", f"Bearer {value}")])[0]) is None


def test_a_token_alone_that_the_server_repeats_is_not_shown():
    """The first word of a value is no secret only where another follows it."""
    told = (("WWW-Authenticate", f'Bearer error_description="malformed header: {TOKEN}"'),)
    findings = diagnose(Facts(exchanges=(exchange("asked", TOKEN, 401, told),)), MINE).findings
    assert "malformed header: ***" in str(findings)
    assert TOKEN not in str(findings)


def test_schemes_are_near_to_themselves_only():
    """No scheme that is known is taken for a misspelt one."""
    assert [nearest_scheme(scheme) for scheme in SCHEMES] == list(SCHEMES)
    assert [nearest_scheme(word) for word in ("Header", "Session", "Acme", "Member", "Fearless", "Magic")] == [None] * 6
    for word in ("Bearar", "Baerer", "Beaer", "Barer", "Bear", "bearer:", "Bearerr", "earer", "Bearertoken"):
        assert nearest_scheme(word) in ({"Bearer"} if word not in {"Bearertoken", "earer"} else {None, "Bearer"})


def test_fields_that_carry_keys():
    """Known fields, and those that are called so; not those that only sound like it."""
    keys = (
        "X-API-Key",
        "apikey",
        "X-Acme-Key",
        "X-Acme-Token",
        "Acme-Api-Key",
        "Ocp-Apim-Subscription-Key",
        "x-client-secret",
    )
    others = (
        "Idempotency-Key",
        "X-CSRF-Token",
        "X-XSRF-TOKEN",
        "Sec-WebSocket-Key",
        "Accept",
        "X-Idempotency-Key",
        "Monkey",
    )
    assert [is_key_field(name) for name in (*keys, *others)] == [True] * len(keys) + [False] * len(others)


def test_two_credentials_in_one_request():
    """Two fields, or one and the query, are named; a cookie or a gateway's key beside the token is not."""
    twice = Fields([("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Basic {PASSWORD}")])
    refused = Exchange(url="https://api.example.com/", sent=twice, status=400, received=Fields(BEARER), body="")
    assert named(Facts(exchanges=(refused,))) == {"two-credentials": Certainty.LIKELY}
    beside = Fields([("Authorization", f"Bearer {TOKEN}"), ("apikey", TOKEN), ("Cookie", "a=b")])
    single = Exchange(url="https://api.example.com/", sent=beside, status=401, received=Fields(BEARER), body="")
    assert named(Facts(exchanges=(single,))) == {}


def test_user_and_password_in_the_url_are_a_credential():
    """httpx sends them as Basic: that is not nothing."""
    sent = Fields([("Host", "api.example.com")])
    asked = Exchange(url="https://hugo:honolulu1973@api.example.com/", sent=sent, status=401, received=Fields(BEARER))
    findings = diagnose(Facts(exchanges=(asked,))).findings
    assert "no-credential" not in {one.id for one in findings}
    assert "honolulu1973" not in str(findings)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\n",
        ":",
        "Bearer " + "\ud800" * 3,
        "Basic \ud800:\ud800",
        "\x00",
        "Bearer {",
        "=" * 50,
        "Bearer " + "[" * 5000,
        "Basic " + "A" * 100_000,
        "b''",
        "Bearer b''",
        "Authorization:",
        '"',
        'Bearer "',
        "Bearer token=",
    ],
)
def test_nothing_raises(value, caplog):
    """Whatever stands in the field, every cause looks at it without an error."""
    for told in ((), BEARER, (("WWW-Authenticate", "Basic"),)):
        facts = Facts(
            exchanges=(exchange("asked", value, 401, told), exchange("mended", value, 401, told)),
            token=Reading(kind="opaque", shown=""),
        )
        diagnose(facts)
        mended(facts)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
