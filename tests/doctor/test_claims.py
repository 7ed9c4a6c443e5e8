"""What a token shows by itself, and what two clocks do: through `explain`, without a server."""

from __future__ import annotations

from email.utils import formatdate

import httpx
import pytest
from doctor.rig import signed, unsigned

from httpx_tokenflow import TokenEndpointUnavailable, TokenRequestError
from httpx_tokenflow.doctor import Exchange, Expected, Facts, Fields, diagnose, explain, read_token

NOW = 1_800_000_000.0
HOUR = 3600.0
BARE = 'Bearer realm="api"'
HERE = "https://api.example"


def answer(token: str, *, date: float | None = NOW, challenge: str = BARE, age: str = ""):
    """The answer of a server whose clock shows `date`."""
    headers = {"WWW-Authenticate": challenge}
    if date is not None:
        headers["Date"] = formatdate(date, usegmt=True)
    if age:
        headers["Age"] = age
    request = httpx.Request("GET", f"{HERE}/v1", headers={"Authorization": f"Bearer {token}"})
    return httpx.Response(401, headers=headers, request=request)


def token(**claims: object) -> str:
    """A token that is good at NOW for an hour."""
    return signed(**({"iat": NOW - 600, "exp": NOW + HOUR, "aud": HERE} | claims))


def looked(response: httpx.Response, **more: object):
    diagnosis = explain(response, now=NOW, **more)
    return [(finding.id, finding.certainty.name) for finding in diagnosis.findings], diagnosis.first


def test_how_long_ago_a_token_expired_is_said_with_the_lifetime_that_it_had():
    """The sentence has the two durations, in the two largest units of each."""
    _, first = looked(answer(token(iat=NOW - 5 * HOUR, exp=NOW - 3 * HOUR - 120)))
    assert first.summary == "the token expired 3 h 2 min ago, after a lifetime of 1 h 58 min"


@pytest.mark.parametrize("seconds", [-59, 0, 59])
def test_clocks_that_differ_by_less_than_a_minute_agree(seconds):
    """A Date within a minute of our clock says nothing of clocks."""
    found, _ = looked(answer(token(), date=NOW + seconds))
    assert not {name for name, _ in found} & {"our-clock", "server-clock"}


def test_a_difference_within_the_slack_is_no_matter_of_clocks():
    """A token that ends between two clocks that agree has expired, and no clock is blamed."""
    found, _ = looked(answer(token(exp=NOW + 30), date=NOW + 58))
    assert found[0] == ("token-expired", "LIKELY")


@pytest.mark.parametrize(
    ("difference", "claims", "words"),
    [
        (900, {"iat": NOW - 3000, "exp": NOW + 600}, "our clock is 15 min behind the server's"),
        (-900, {"iat": NOW - 3000, "exp": NOW + 9 * HOUR}, "our clock is 15 min ahead of the server's"),
        (900, {"exp": NOW + 600, "iat": NOW - 10}, "the server's clock is 15 min ahead of ours"),
        (-HOUR, {"iat": NOW - 600}, "the server's clock is 1 h behind ours"),
    ],
)
def test_which_clock_is_ahead_is_told_by_its_sign(difference, claims, words):
    """The one that shows the later time is ahead, whichever of the two is named."""
    assert words in str(looked(answer(token(**claims), date=NOW + difference))[1].summary)


@pytest.mark.parametrize(("seconds", "is_named"), [(299, False), (302, True), (-302, True)])
def test_clocks_alone_are_worth_a_word_from_five_minutes_on(seconds, is_named):
    """Where no time of the token decides, a difference of minutes is possible, and no more."""
    found, _ = looked(answer(token(iat=NOW - 4 * HOUR, exp=NOW + 9 * HOUR), date=NOW + seconds))
    assert (("our-clock", "POSSIBLE") in found) == is_named


def test_an_old_answer_of_a_cache_sets_no_clock():
    """Age is added to Date, and an Age that cannot be read makes the Date unknown."""
    for age, is_named in (("7200", False), ("soon", False), ("", True)):
        found, _ = looked(answer(token(), date=NOW - 2 * HOUR, age=age))
        assert any(name.endswith("-clock") for name, _ in found) == is_named, age


@pytest.mark.parametrize(
    ("claims", "age", "difference", "named"),
    [
        # By the server's clock it is over, by ours it is not.
        ({"iat": NOW - 50 * 60, "exp": NOW + 600}, None, 900, "our-clock"),  # no third clock
        ({"iat": NOW - 10, "exp": NOW + 600}, None, 900, "server-clock"),  # issued this minute by ours
        ({"iat": NOW + 880, "exp": NOW + 890}, None, 900, "our-clock"),  # issued in our future
        ({"iat": NOW - 50 * 60, "exp": NOW + 600}, 50 * 60, 900, "server-clock"),  # its age fits our clock
        ({"iat": NOW - 50 * 60, "exp": NOW + 600}, 65 * 60, 900, "our-clock"),  # its age fits the server's
        # By the server's it has not begun.
        ({"iat": NOW - 600}, None, -HOUR, "server-clock"),
        ({"iat": None, "nbf": NOW - 600}, None, -HOUR, "our-clock"),
    ],
)
def test_a_third_clock_tells_which_of_two_is_wrong(claims, age, difference, named):
    """The issuer's clock decides between ours and the server's; without it ours is named."""
    found, first = looked(answer(token(**claims), date=NOW + difference), token_age=age)
    assert found[0] == (named, "LIKELY"), (found, first)
    assert "token-expired" not in dict(found)


def test_the_issuers_date_is_a_third_clock():
    """Another origin that was asked, and whose Date is with ours, makes the server's clock the wrong one."""
    fields = [("Authorization", f"Bearer {token(iat=NOW - 3000, exp=NOW + 600)}")]
    ahead, with_us = (Fields([("Date", formatdate(NOW + seconds, usegmt=True))]) for seconds in (900, 0))
    asked = Exchange(url=f"{HERE}/v1", sent=Fields(fields), status=401, received=ahead)
    keys = Exchange(role="keys", url="https://as.example", status=200, received=with_us)
    reading = read_token(fields[0][1].split()[1])
    for exchanges, named in (((asked,), "our-clock"), ((asked, keys), "server-clock")):
        assert diagnose(Facts(exchanges=exchanges, now=NOW, token=reading)).first.id == named


def test_a_token_that_is_over_by_every_clock_is_expired_and_no_clock_is_blamed():
    """Clocks that differ do not matter to a token that has ended by both."""
    found, _ = looked(answer(token(exp=NOW - HOUR), date=NOW + 120))
    assert found[0] == ("token-expired", "CERTAIN")
    assert "our-clock" not in dict(found)


def test_a_token_that_ended_within_the_leeway_is_likely_and_no_more():
    """Servers allow for some seconds, so without a word of theirs five seconds are no proof."""
    assert looked(answer(token(exp=NOW - 5)))[0][0] == ("token-expired", "LIKELY")


@pytest.mark.parametrize(("claim", "certainty"), [("nbf", "CERTAIN"), ("iat", "LIKELY")])
def test_a_token_of_the_future_is_not_valid_yet(claim, certainty):
    """A server must look at nbf, and may look at iat."""
    assert looked(answer(token(**{claim: NOW + HOUR})))[0][0] == ("token-not-yet-valid", certainty)


@pytest.mark.parametrize("path", ["", "/"])
def test_an_audience_is_compared_to_the_letter(path):
    """The slash at the end counts, and the finding says that it is all."""
    expected = Expected(audience=HERE + "/")
    found, first = looked(answer(token(aud=[HERE + path])), expected=expected)
    assert ("wrong-audience" in dict(found)) == (path == "")
    assert path or "slash" in first.summary


def test_an_audience_among_several_is_enough():
    """A token for several APIs is for each of them."""
    found, _ = looked(answer(token(aud=["x", HERE])), expected=Expected(audience=HERE))
    assert "wrong-audience" not in dict(found)


@pytest.mark.parametrize("aud", ["https://api.example", "https://example", "urn:api", "my-client", None])
def test_an_audience_that_may_be_a_name_is_no_reason(aud):
    """The host of the URL, one above it, and what is no URL say nothing against a token."""
    assert "wrong-audience" not in dict(looked(answer(token(aud=aud)))[0])


def test_an_audience_of_another_host_is_possible_and_no_more():
    """Many audiences are names that look like addresses."""
    assert ("wrong-audience", "POSSIBLE") in looked(answer(token(aud="https://other.example")))[0]


def test_scopes_that_the_metadata_lists_are_not_all_needed():
    """`scopes_supported` says what there is: a token without them lacks nothing by that."""
    listed = Exchange(role="resource metadata", url=HERE, status=200, body='{"scopes_supported": ["read", "write"]}')
    asked = Exchange(url=HERE, status=401, sent=Fields([("Authorization", f"Bearer {token(scope='read')}")]))
    facts = Facts(
        exchanges=(asked, listed),
        now=NOW,
        token=read_token(token(scope="read")),
        expected=Expected(scopes=frozenset({"read", "write"})),
    )
    assert "missing-scope" not in {finding.id for finding in diagnose(facts).findings}


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "read", "nonce": "n"},
        {"typ": "Bearer", "nonce": "n"},
        {"token_use": "access", "nonce": "n"},
        {"azp": "me", "aud": "me"},
    ],
)
def test_an_access_token_is_not_taken_for_an_id_token(claims):
    """Scopes, and its own word, say that a token is for an API, whatever else it has."""
    assert "id-token" not in dict(looked(answer(signed({"typ": "JWT"}, exp=NOW + HOUR, **claims)))[0])


def test_a_service_accounts_own_jwt_is_no_client_assertion():
    """Google's APIs take a JWT whose iss is its sub; only one for a token endpoint is an assertion."""
    audience = "https://storage.googleapis.com/"
    jwt = signed({"typ": "JWT"}, iss="a@b.example", sub="a@b.example", aud=audience, exp=NOW + HOUR)
    assert "wrong-token-type" not in dict(looked(answer(jwt))[0])


def test_a_fresh_token_is_not_said_to_have_been_revoked():
    """What was issued a moment ago has neither ended nor been revoked; an hour later it may have."""
    challenge = 'Bearer error="invalid_token"'
    for age, named in ((3.0, "fresh-token-refused"), (3600.0, "token-not-known")):
        found, _ = looked(answer("opaque-8f3a6c1e5b7d49f2a0c4", challenge=challenge), token_age=age)
        assert dict(found).keys() & {"fresh-token-refused", "token-not-known"} == {named}


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        (signed(), "jwt", None),
        (signed(key="k" * 64, algorithm="HS512"), "jwt", None),
        (unsigned({"alg": "RS256"}, {}), "jwt", None),
        (unsigned({"alg": "ES256"}, {}), "jwt", None),
        (signed()[:-1], "jwt", "cut off"),
        (signed()[:-4], "jwt", "cut off"),
        (unsigned({"alg": "RS256"}, {})[:-8], "jwt", "cut off"),
        (unsigned({"typ": "JWT"}, {}), "jwt", "no algorithm"),
        (signed() + "x" * 20, "jwt", "43"),
        ("eyJ1c2VyIjoxfQ.Zm9v.YmFyYmF6", "opaque", None),  # a JSON object that is no header: Flask's sessions
        ("ey!.a.b", "jwt", "header"),
    ],
)
def test_a_token_that_was_cut_off_is_told_from_a_whole_one(text, kind, problem):
    """The length of a signature is its algorithm's, and what has none of a JWT's header is none."""
    reading = read_token(text)
    assert reading.kind == kind
    if problem == "43":
        assert reading.problems
    elif problem is None:
        assert not reading.problems
    else:
        assert problem in reading.problems[0]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (TokenRequestError("x", status=401, error="invalid_client"), "token-client-authentication"),
        (
            TokenRequestError("x", status=400, error="invalid_grant", error_description="code_verifier failed"),
            "token-pkce",
        ),
        (TokenRequestError("x", status=404), "token-endpoint-failing"),
        (TokenEndpointUnavailable("x", outcome="not sent"), "token-endpoint-failing"),
        (TokenEndpointUnavailable("x", outcome="answered", status=503), "token-endpoint-failing"),
        (TokenRequestError("x", status=400, error="unheard_of"), "token-request-refused"),
    ],
)
def test_an_error_of_the_token_endpoint_is_explained_by_itself(error, cause):
    """One cause, and one only, for each error that a renewal raises."""
    diagnosis = explain(error)
    assert [finding.id for finding in diagnosis.findings] == [cause]
    assert diagnosis.first.evidence


@pytest.mark.parametrize(
    ("path", "error", "challenge", "is_named"),
    [
        ("/oauth2/token", "invalid_request", "", True),
        ("/v1/things", "invalid_grant", "", True),
        ("/v1/things", "invalid_request", "", False),  # an API's own
        ("/v1/things", "invalid_client", 'Bearer realm="x"', False),  # an API that borrows the code
        ("/oauth2/token", "no_such_thing", "", False),
    ],
)
def test_a_token_endpoints_error_is_told_from_an_apis(path, error, challenge, is_named):
    """Codes that APIs use as well count at a token endpoint's path only."""
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    request = httpx.Request("POST", HERE + path)
    found = explain(httpx.Response(400, json={"error": error}, headers=headers, request=request)).findings
    assert any(finding.id.startswith("token-") for finding in found) == is_named
