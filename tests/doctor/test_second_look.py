"""What a second reviewer found in the mends of the first one's findings."""

from __future__ import annotations

import httpx
import pytest
from doctor.rig import signed

from httpx_tokenflow.doctor import Fields, Question, explain, plan

PERSON = "dXNlcjpwYXNzd29yZA=="


def answered(status, body, sent, **more):
    request = httpx.Request("GET", "https://api.example/v1", headers=sent)
    return explain(httpx.Response(status, json=body, request=request, **more))


def test_a_password_behind_two_schemes_is_not_introspected():
    """User and password stay at home, whatever words stand before them."""
    for value in (f"Bearer Basic {PERSON}", f"Basic {PERSON}", f"Bearer {PERSON}"):
        question = Question(
            url="https://api.example/v1",
            fields=Fields([("Authorization", value)]),
            introspection=("https://as.example/introspect", Fields()),
        )
        assert "introspection" not in {probe.role for probe in plan(question)}


@pytest.mark.parametrize(
    "words",
    [
        "Invalid clientToken: idempotency token reused",
        "The session token for pagination is invalid",
        "access token field name is missing in body",
    ],
)
def test_a_400_about_another_token_is_no_refusal(words):
    """What is called a token and is none of ours does not make a 400 a refusal."""
    assert answered(400, {"message": words}, {"Authorization": "Bearer opaque-8f3a6c1e5b7d"}).findings == ()


@pytest.mark.parametrize(
    "words",
    [
        "Algorithm HS256 is not in the allowlist",
        "invalid token: unknown key id k1",
        "token contains too many segments",
    ],
)
def test_words_of_one_cause_are_not_anothers(words):
    """Lists, keys and segments of a token are not those of addresses, API keys and limits."""
    diagnosis = answered(401, {"message": words}, {"Authorization": f"Bearer {signed({'kid': 'k1'})}"})
    assert not {"client-kept-out", "wrong-api-key", "limit-reached"} & {one.id for one in diagnosis.findings}
