"""The examination by hand: which probes go out, with what, whatever is answered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doctor.cases_browsers import CHROME, FIREFOX
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpx_tokenflow.cli._asked import asked_by
from httpx_tokenflow.doctor import (
    MAX_PROBES,
    Exchange,
    Expected,
    Fields,
    Question,
    Refusal,
    diagnose,
    examine,
    plan,
)
from httpx_tokenflow.doctor._facts import origin
from httpx_tokenflow.doctor._preflights import asked_fields

URL = "https://api.example/v1/things"
ISSUER = "https://issuer.example"
ENDPOINT = "https://introspection.example/ask"
SECRET = "credential-3b9f1c77d2"
TOKEN = Fields([("Authorization", f"Bearer {SECRET}")])
CHALLENGE = Fields([("WWW-Authenticate", "Bearer")])
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0." + "A" * 43


def drive(question, answer):
    """The probes of an examination whose answers `answer` gives, and the facts it ends with."""
    talk, probes, told = examine(question), [], None
    while True:
        try:
            probe = talk.send(told)
        except StopIteration as done:
            return probes, done.value
        probes.append(probe)
        assert len(probes) < 50, "it does not end"
        told = replace(answer(probe), method=probe.method, url=probe.url, sent=probe.fields, role=probe.role)


def answering(status, *pairs, body=""):
    return Exchange(status=status, received=Fields(pairs), body=body)


def refusing_bare(probe):
    return answering(200) if probe.has_credential else Exchange(status=401, received=CHALLENGE)


def roles(probes):
    return [probe.role for probe in probes]


STATUSES = st.sampled_from([0, 200, 204, 301, 302, 307, 308, 400, 401, 403, 404, 405, 407, 419, 429, 500, 511])
PLACES = st.sampled_from(
    [
        URL, URL + "/", "/v1/things/", "https://api.example/login", "https://www.api.example/v1/things",
        "http://api.example/v1/things", "https://evil.example/", "//evil.example/x", "https://[", "", "?a=b", "\x00",
        "https://user:pass@api.example/v1/x", "https://api.example:port/x", "https://api.example:444/v1/things",
    ]
)  # fmt: skip
CHALLENGES = st.sampled_from(
    [
        "Bearer", "Basic", 'Bearer error="invalid_token"', 'Bearer resource_metadata="https://api.example/meta"',
        'Bearer resource_metadata="https://evil.example/meta"', "ApiKey", "{", 'DPoP algs="ES256"',
    ]
)  # fmt: skip
BODIES = st.sampled_from(
    [
        "", "{}", '{"jwks_uri": "https://issuer.example/keys"}', '{"jwks_uri": "https://evil.example/keys"}',
        '{"jwks_uri": 7}', '{"message": "use X-API-Key"}', "[1]", "<html><title>Log in</title></html>",
        '{"authorization_servers": ["https://evil.example"], "scopes_supported": [1, "a"]}', "null",
    ]
)  # fmt: skip
ANSWERS = st.builds(
    lambda status, place, challenge, body: answering(
        status, ("Location", place), ("WWW-Authenticate", challenge), body=body
    ),
    STATUSES, PLACES, CHALLENGES, BODIES,
)  # fmt: skip
CREDENTIALS = st.sampled_from(
    [
        Fields(), TOKEN, Fields([("Authorization", f'Bearer  "{SECRET}"')]), Fields([("X-API-Key", SECRET)]),
        Fields([("Cookie", f"session={SECRET}")]), Fields([("Authorization", f"Bearer {JWT}")]),
        Fields([("X_API_KEY", SECRET), ("Accept", "application/json")]),
    ]
)  # fmt: skip
QUESTIONS = st.builds(
    Question,
    url=st.sampled_from([URL, URL + f"?access_token={SECRET}", f"https://me:{SECRET}@api.example/v1/things"]),
    method=st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "DELETE"]),
    fields=CREDENTIALS,
    origin=st.sampled_from([None, "https://app.example", "null"]),
    issuer=st.sampled_from([None, ISSUER]),
    introspection=st.sampled_from([None, (ENDPOINT, Fields([("Authorization", "Basic YTpi")]))]),
    expected=st.sampled_from([Expected(), Expected(audience="https://api.example")]),
    refusal=st.sampled_from([None, None, None, Refusal(status=400, error="invalid_client")]),
)
WITHIN_LIMITS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@WITHIN_LIMITS
@given(question=QUESTIONS, answers=st.lists(ANSWERS, min_size=12, max_size=12))
def test_whatever_is_answered_the_rules_hold(question, answers):
    """At most eight probes, all planned, none to an origin that was not named, none that writes, and no secret told."""
    left = iter(answers)
    probes, facts = drive(question, lambda _probe: next(left))
    assert len(probes) <= MAX_PROBES == 8
    named = {origin(one) for one in (question.url, ISSUER if question.issuer else "", ENDPOINT) if one}
    for probe in probes:
        assert origin(probe.url) in named, probe.url
        if probe.has_credential:
            home = ENDPOINT if probe.role == "introspection" else question.url
            assert origin(probe.url) == origin(home)
        if probe.method not in {"GET", "HEAD", "OPTIONS"}:
            assert probe.role in {"asked", "introspection"}
        if probe.role in {"bare", "preflight", "resource metadata", "issuer metadata", "keys"}:
            assert SECRET not in probe.url + repr(probe.fields.pairs)
            assert JWT not in repr(probe.fields.pairs)
    assert {probe.role for probe in probes} <= {probe.role for probe in plan(question)}
    assert [probe.role for probe in probes].count("asked") == (question.refusal is None)
    text = str(diagnose(facts).to_dict())
    assert SECRET not in text


@pytest.mark.parametrize("pasted", [CHROME, FIREFOX])
def test_a_preflight_asks_for_what_the_page_has_set(pasted):
    """Of a command line copied from a browser, that is `Authorization`; the rest the browser sends by itself."""
    asked = asked_by([pasted.replace("{url}", URL)])
    question = Question(url=URL, fields=Fields((*asked.fields, ("Via", "x"))), origin=asked.origin)
    probes, _facts = drive(question, lambda _probe: Exchange(status=401, received=CHALLENGE))
    preflight = next(probe for probe in probes if probe.role == "preflight")
    assert preflight.fields.get("Access-Control-Request-Headers") == "authorization"


@pytest.mark.parametrize(
    ("pair", "asks"),
    [
        (("Content-Type", "text/plain; charset=utf-8"), []),
        (("Content-Type", "application/json"), ["content-type"]),
        (("Range", "bytes=0-"), []),
        (("Range", "bytes=-5"), ["range"]),
        (("X-Requested-With", "fetch"), ["x-requested-with"]),
        (("DPoP", "x"), ["dpop"]),
    ],
)
def test_a_safelisted_value_is_not_asked_for(pair, asks):
    """The three simple types and a simple range go without a preflight, other values and fields do not."""
    assert asked_fields([pair]) == asks


def test_a_healthy_answer_is_looked_at_three_times():
    """Accepted with the credential, refused without: asked, bare, and once more on the connection of the refusal."""
    probes, facts = drive(Question(url=URL, fields=TOKEN), refusing_bare)
    assert roles(probes) == ["asked", "bare", "again"]
    assert [probe.connection for probe in probes] == ["first", "second", "second"]
    assert diagnose(facts).is_healthy


def test_a_post_is_sent_once():
    """The request that was asked for goes out as it is; every other probe reads."""
    probes, _facts = drive(Question(url=URL, method="POST", fields=TOKEN), refusing_bare)
    assert [probe.method for probe in probes] == ["POST", "GET", "GET"]


@pytest.mark.parametrize(
    ("fields", "query", "asks"),
    [
        ([("Authorization", f"Bearer {SECRET}")], "", SECRET),
        ([("Authorization", f"DPoP {SECRET}")], "", SECRET),
        ([("Authorization", f"baerer {SECRET}")], "", SECRET),
        ([("Authorization", SECRET)], "", SECRET),
        ([("Authorization", f"JWT {JWT}")], "", JWT),
        ([("Cookie", "a=1"), ("Authorization", f"Bearer {SECRET}"), ("X-API-Key", "k")], "?key=v", SECRET),
        ([("Authorization", "Basic Ym9iOlBBU1NXT1JEMTIz")], "", None),
        ([("Authorization", "Bearer Ym9iOlBBU1NXT1JEMTIz")], "", None),
        ([("Authorization", "Ym9iOlBBU1NXT1JEMTIz")], "", None),
        ([("Authorization", f"Bearer bob:{SECRET}")], "", None),
        ([("Authorization", f"ApiKey {SECRET}")], "", None),
        ([("Authorization", f"user {SECRET}")], "", None),
        ([("Cookie", f"session={SECRET}")], "", None),
        ([("X-API-Key", SECRET)], "", None),
        ([], f"?access_token={SECRET}", None),
    ],
)
def test_only_a_token_is_introspected(fields, query, asks):
    """The issuer is asked about a token in `Authorization`; cookies, passwords and keys are for the API alone."""
    question = Question(url=URL + query, fields=Fields(fields), introspection=(ENDPOINT, Fields()))
    probes, _facts = drive(question, lambda _probe: Exchange(status=401, received=CHALLENGE))
    forms = [dict(probe.form)["token"] for probe in probes if probe.role == "introspection"]
    assert forms == ([] if asks is None else [asks])
    assert ("introspection" in roles(plan(question))) == (asks is not None)


@pytest.mark.parametrize(
    ("place", "goes"),
    [
        ("https://evil:word@api.example/z", ["https://api.example/z"]),
        ("https://evil@api.example/v1/things", []),
        ("https://evil:word@evil.example/z", []),
        ("/z\x7f", []),
    ],
)
def test_a_redirect_brings_no_credential_of_its_own(place, goes):
    """User and password in a Location are left out: a client would send them in place of what is examined."""
    question = Question(url=URL, fields=TOKEN)
    probes, _facts = drive(question, lambda probe: answering(302, ("Location", place if probe.url == URL else "/a")))
    assert [probe.url for probe in probes if probe.role == "hop"][:1] == goes


def test_no_repr_has_the_query():
    """A token in the URL is in no repr of a question, nor of the probes for it."""
    question = Question(url=f"{URL}?access_token={SECRET}")
    probes, _facts = drive(question, lambda _probe: Exchange(status=401))
    assert SECRET not in repr(question) + repr(probes)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_post_is_not_followed(status):
    """What a POST was redirected to is not asked for."""
    probes, _facts = drive(
        Question(url=URL, method="POST", fields=TOKEN), lambda _probe: answering(status, ("Location", "/v1/things/"))
    )
    assert "hop" not in roles(probes)


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/v1/things", "http://api.example/v1/things", "https://api.example:8443/", "//evil.example",
        "https://api.example:port/",
        "https://api.example.evil.example/", "https://api.example@evil.example/v1/things", "https://[", "data:,x",
    ],
)  # fmt: skip
def test_no_redirect_leads_the_doctor_elsewhere(place):
    """A redirect to another origin is a fact, and nothing is sent there."""
    probes, _facts = drive(Question(url=URL, fields=TOKEN), lambda _probe: answering(302, ("Location", place)))
    assert "hop" not in roles(probes)
    assert {origin(probe.url) for probe in probes} == {origin(URL)}


def test_a_circle_of_redirects_ends():
    """Back where it was, the doctor follows no more; nor after three redirects to new places."""
    places = {URL: "/b", "https://api.example/b": URL}
    probes, _facts = drive(
        Question(url=URL, fields=TOKEN), lambda probe: answering(302, ("Location", places.get(probe.url, "/c")))
    )
    assert roles(probes).count("hop") == 1
    probes, _facts = drive(Question(url=URL, fields=TOKEN), lambda probe: answering(302, ("Location", probe.url + "x")))
    assert roles(probes).count("hop") == 3


def test_the_browsers_questions_are_asked_only_for_a_browser():
    """Without --origin there is neither preflight nor Origin; with it both, and the preflight has no credential."""
    probes, _facts = drive(Question(url=URL, fields=TOKEN), refusing_bare)
    assert "preflight" not in roles(probes)
    assert all(probe.fields.get("Origin") is None for probe in probes)
    probes, _facts = drive(Question(url=URL, fields=TOKEN, origin="https://app.example"), refusing_bare)
    preflight = next(probe for probe in probes if probe.role == "preflight")
    assert dict(preflight.fields.pairs) == {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    assert all(probe.fields.get("Origin") == "https://app.example" for probe in probes)


def test_a_simple_request_has_no_preflight():
    """A GET with a cookie is sent by browsers without asking, so the doctor does not ask either."""
    cookie = Fields([("Cookie", "session=abcdefgh")])
    probes, _facts = drive(Question(url=URL, fields=cookie, origin="https://app.example"), refusing_bare)
    assert "preflight" not in roles(probes)


def test_a_new_connection_is_tried_only_where_the_old_one_refuses():
    """The fourth probe is sent where the third was refused, on a connection of its own."""

    def answer(probe):
        return refusing_bare(probe) if probe.role != "again" else Exchange(status=401, received=CHALLENGE)

    probes, _facts = drive(Question(url=URL, fields=TOKEN), answer)
    assert roles(probes) == ["asked", "bare", "again", "anew"]
    assert probes[-1].connection == "own"


def test_the_keys_are_read_where_they_were_named_only():
    """A jwks_uri at a third origin is not visited; the issuer's own is."""
    question = Question(url=URL, fields=Fields([("Authorization", f"Bearer {JWT}")]), issuer=ISSUER)
    for told, expected in ((f"{ISSUER}/keys", True), ("https://evil.example/keys", False)):

        def answer(probe, told=told):
            if probe.role == "issuer metadata":
                return answering(200, body=f'{{"jwks_uri": "{told}"}}')
            return Exchange(status=401, received=CHALLENGE)

        probes, _facts = drive(question, answer)
        assert ("keys" in roles(probes)) is expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [("https://api.example/meta", True), ("https://evil.example/meta", False), ("/meta", False), ("https://[", False)],
)
def test_what_the_api_says_of_itself_is_read_at_its_own_origin(told, expected):
    """`resource_metadata` in a challenge leads nowhere else (RFC 9728 §7.7)."""
    challenge = Fields([("WWW-Authenticate", f'Bearer resource_metadata="{told}"')])
    probes, _facts = drive(
        Question(url=URL, fields=TOKEN), lambda _probe: Exchange(status=401, received=challenge, body="")
    )
    assert [probe.url for probe in probes if probe.role == "resource metadata"] == ([told] if expected else [])


def test_where_no_token_was_issued_nothing_is_sent():
    """With a refusal of the token endpoint in hand there is nothing to ask with, and the plan is empty."""
    question = Question(url=URL, refusal=Refusal(status=401, error="invalid_client"))
    assert drive(question, refusing_bare)[0] == []
    assert plan(question) == []


def test_no_answer_ends_it():
    """Where nobody answers, one probe is enough to know."""
    probes, facts = drive(Question(url=URL, fields=TOKEN), lambda _probe: Exchange(failure="ConnectError: refused"))
    assert roles(probes) == ["asked"]
    assert not diagnose(facts).is_healthy


def test_the_bare_probe_is_bare():
    """Neither fields nor the URL keep a credential: not in the query, not before the host, not in an odd spelling."""
    fields = Fields([("authorization", SECRET), ("X_API_KEY", SECRET), ("cookie", SECRET), ("Accept", "text/plain")])
    question = Question(url=f"https://u:{SECRET}@api.example/v1?access_token={SECRET}&page=2", fields=fields)
    probes, _facts = drive(question, refusing_bare)
    bare = next(probe for probe in probes if probe.role == "bare")
    assert bare.url == "https://api.example/v1?page=2"
    assert bare.fields.pairs == (("Accept", "text/plain"),)
    assert not bare.has_credential
