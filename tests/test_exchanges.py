"""Token exchange and JWT bearer: what goes on the wire, anew each time, and whose tokens they are."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import pickle
from functools import cache
from typing import Any

import httpx
import httpx2
import jwt
import pytest

from httpx_tokenflow import (
    ClientSecretPost,
    ConfigurationError,
    InvalidCredential,
    ReauthenticationRequired,
    RenewalPolicy,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._challenges import Challenge
from httpx_tokenflow._client_auth import NoClientAuth
from httpx_tokenflow._dpop import DPoP
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._grants import JWTBearer, TokenExchange
from httpx_tokenflow._signing import make_key
from httpx_tokenflow._steps import Call, Fetch
from httpx_tokenflow._times import SYSTEM_CLOCK
from httpx_tokenflow._token_auth import fingerprint

URL = "https://auth.example.com/token"
ISSUER = "https://auth.example.com"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
GOOD = ServerResponse(200, {}, b'{"access_token": "a", "token_type": "Bearer"}')
BOUND = ServerResponse(200, {}, b'{"access_token": "a", "token_type": "DPoP"}')
NONCE = ServerResponse(400, {"dpop-nonce": "n"}, b'{"error": "use_dpop_nonce"}')
WRONG_CLIENT = ServerResponse(401, {}, b'{"error": "invalid_client"}')
METADATA = ServerResponse(200, {}, json.dumps({"issuer": ISSUER, "token_endpoint": URL}).encode())


@cache
def key() -> Any:
    return make_key()


def exchange(**options: Any) -> TokenExchange:
    given = {"token_endpoint": URL, "client_id": "c", "client_secret": "s", "subject_token": "subject", **options}
    return TokenExchange(**given)


def bearer(**options: Any) -> JWTBearer:
    given = {"token_endpoint": URL, "key": key().to_json(), "iss": "robot", **options}
    return JWTBearer(**given)


def ready(assertion: Any, **options: Any) -> JWTBearer:
    return bearer(key=None, iss=None, assertion=assertion, **options)


def attempt(**options: Any) -> Attempt:
    return Attempt(options.pop("presented", None), SYSTEM_CLOCK.monotonic() + 5.0, SYSTEM_CLOCK, **options)


def sent(grant: Any, *answers: ServerResponse, **options: Any) -> tuple[list[dict[str, str]], Any]:
    """The forms of the token requests of one attempt, answered like this; and what it brings or raises."""
    flow, forms, left = grant.obtain(attempt(**options)), [], iter(answers or (GOOD,))
    try:
        step = next(flow)
        while True:
            assert isinstance(step, Fetch | Call)
            if isinstance(step, Call):
                step = flow.send(step.function())
                continue
            if step.request.method == "POST":
                assert len(dict(step.request.form)) == len(step.request.form)
                forms.append(dict(step.request.form))
            step = flow.send(next(left))
    except StopIteration as end:
        return forms, end.value
    except TokenFlowError as error:
        return forms, error


def form(grant: Any, **options: Any) -> dict[str, str]:
    return sent(grant, **options)[0][0]


def claims(assertion: str) -> dict[str, Any]:
    return jwt.decode(assertion, options={"verify_signature": False})


def prints(*grants: Any) -> list[str]:
    return [fingerprint(grant, None) for grant in grants]


# Token exchange (RFC 8693)


def test_an_exchange() -> None:
    """The subject, what it is, and for what the new token is to be (§2.1); an actor only where there is one."""
    expected = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "subject",
        "subject_token_type": ACCESS_TOKEN,
    }
    assert form(exchange()) == expected
    assert form(exchange(audience="orders", scope="read", resource="https://r")) == expected | {
        "audience": "orders", "scope": "read", "resource": "https://r"
    }  # fmt: skip
    assert form(
        exchange(subject_token_type=ID_TOKEN, actor_token="actor", requested_token_type=ACCESS_TOKEN)
    ) == expected | {
        "subject_token_type": ID_TOKEN,
        "actor_token": "actor",
        "actor_token_type": ACCESS_TOKEN,
        "requested_token_type": ACCESS_TOKEN,
    }
    assert form(exchange(actor_token="a", actor_token_type=ID_TOKEN))["actor_token_type"] == ID_TOKEN


def test_tokens_from_callables() -> None:
    """Subject and actor are asked for at each request, once each; also when it is sent again."""
    subjects, actors = (f"s{n}" for n in itertools.count()), (f"a{n}" for n in itertools.count())
    grant = exchange(subject_token=lambda: next(subjects), actor_token=lambda: next(actors))
    forms, _ = sent(grant, NONCE, BOUND, dpop=DPoP())
    forms += sent(grant)[0]
    assert [(one["subject_token"], one["actor_token"]) for one in forms] == [("s0", "a0"), ("s1", "a1"), ("s2", "a2")]


@pytest.mark.parametrize("what", ["subject_token", "actor_token"])
def test_a_token_that_cannot_be(what: str) -> None:
    """Given as a string it fails at once; from a callable, before anything is sent; it is not quoted."""
    for wrong in ("SENTINEL\n", "", 5):
        with pytest.raises(InvalidCredential, match=what) as caught:
            exchange(**{what: wrong})
        forms, error = sent(exchange(**{what: lambda wrong=wrong: wrong}))
        assert (forms, type(error).__name__) == ([], "InvalidCredential")
        assert what in str(error)
        assert "SENTINEL" not in str(caught.value) + str(error)


@pytest.mark.parametrize("grant", [exchange, ready], ids=["exchange", "bearer"])
def test_a_callable_that_raises(grant: Any) -> None:
    """What it raised is the cause; nothing was sent, and its words are not repeated."""

    def broken() -> str:
        raise LookupError("SENTINEL")

    flow = grant(subject_token=broken) if grant is exchange else ready(broken)
    flow = flow.obtain(attempt())
    step = next(flow)
    with pytest.raises(LookupError) as raised:
        step.function()
    with pytest.raises(TokenEndpointUnavailable, match="raised LookupError") as caught:
        flow.throw(raised.value)
    assert (caught.value.__cause__, caught.value.outcome) == (raised.value, "not sent")
    assert "SENTINEL" not in str(caught.value)


def test_what_an_exchange_needs() -> None:
    """Missing and contradictory arguments are errors at construction."""
    for wrong, why in (
        ({"client_id": ""}, "client_id is missing"),
        ({"client_id": None}, "client_id is missing"),
        ({"actor_token_type": ID_TOKEN}, "give that as well"),
        ({"extra": {"subject_token": "x"}}, "extra= has subject_token"),
        ({"extra": {"actor_token_type": "x", "requested_token_type": "y"}}, "actor_token_type, requested_token_type"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"subject_token_type": 5}, "subject_token_type= must be a string"),
        ({"subject_token_type": None}, "subject_token_type= must be a string"),
        ({"subject_token_type": ""}, "subject_token_type= must be a string"),
        ({"actor_token": "x", "actor_token_type": 5}, "actor_token_type= must be a string"),
        ({"actor_token": "x", "actor_token_type": ""}, "actor_token_type= must be a string"),
        ({"requested_token_type": 5}, "requested_token_type= must be a string"),
        ({"subject_key": ""}, "subject_key= must be a string"),
        ({"subject_key": 5}, "subject_key= must be a string"),
        ({"subject_token": str, "actor_token": str, "subject_key": ""}, "subject_key= must be a string"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            exchange(**wrong)
    with pytest.raises(ConfigurationError, match="subject_key= says whose"):
        TokenExchange(URL, client_id="c", subject_key="ann")


@pytest.mark.parametrize(("grant", "what"), [(exchange, "subject_token"), (ready, "assertion")])
def test_one_grant_for_all_whom_a_service_acts_for(grant: Any, what: str) -> None:
    """`for_subject` makes the same grant for another; without any subject it is of no use, and says so at once."""
    nobody = grant(None) if grant is ready else grant(subject_token=None)
    with pytest.raises(ConfigurationError, match=r"for_subject\(\)"):
        TokenAuth(nobody)
    ann, bob = nobody.for_subject("ann's"), nobody.for_subject("bob's")
    same = grant("ann's") if grant is ready else grant(subject_token="ann's")
    assert ann.identity() == same.identity() != bob.identity()
    assert [form(one)[what] for one in (ann, bob)] == ["ann's", "bob's"]
    with pytest.raises(InvalidCredential):
        nobody.for_subject("")


def test_all_for_whom_a_service_acts_share_what_is_known_of_the_server() -> None:
    """The metadata of the issuer are read once for all of them, and a secret that works for one is tried first."""
    nobody = TokenExchange(issuer=ISSUER, client_id="c", client_secret=["old", "new"])
    refused = ServerResponse(401, {}, json.dumps({"error": "invalid_client"}).encode())
    forms, _ = sent(nobody.for_subject("ann's"), METADATA, refused, GOOD)
    assert [one["subject_token"] for one in forms] == ["ann's", "ann's"]
    forms, minted = sent(nobody.for_subject("bob's"), GOOD)
    assert [one["subject_token"] for one in forms] == ["bob's"]
    assert minted.fell_back is None


def test_what_the_server_issued() -> None:
    """`issued_token_type` is kept; one that is left out, against §2.2.1, costs nothing."""
    answer = {"access_token": "a", "token_type": "Bearer", "issued_token_type": ACCESS_TOKEN}
    minted = sent(exchange(), ServerResponse(200, {}, json.dumps(answer).encode()))[1]
    assert minted.token.extra["issued_token_type"] == ACCESS_TOKEN
    assert sent(exchange(), GOOD)[1].token == Token("a")


@pytest.mark.parametrize("token_type", ["N_A", "n_a"])
def test_a_token_that_is_none_for_an_api_is_never_sent(token_type: str) -> None:
    """RFC 8693 §2.2.1: "N_A" is no type to present it with; the error says so, and nobody can ask for it."""
    answer = {"access_token": "SENTINEL", "token_type": token_type, "issued_token_type": ID_TOKEN}
    error = sent(exchange(), ServerResponse(200, {}, json.dumps(answer).encode()))[1]
    assert isinstance(error, ConfigurationError)
    assert "none for an API (token_type N_A, RFC 8693 §2.2.1), and it is not sent as one" in str(error)
    assert "SENTINEL" not in str(error)
    with pytest.raises(ConfigurationError, match="takes no token_type="):
        exchange(token_type="Bearer")


@pytest.mark.parametrize(
    ("code", "kind"),
    [("invalid_request", TokenRequestError), ("invalid_target", TokenRequestError),
     ("invalid_grant", ReauthenticationRequired)],
)  # fmt: skip
def test_refusals_do_not_repeat_the_tokens(code: str, kind: Any) -> None:
    """RFC 8693 §2.2.2; a server that echoes subject and actor is not quoted with them."""
    answer = {"error": code, "error_description": "no SENTINEL1, no SENTINEL2, no SENTINEL3"}
    refusal = ServerResponse(400, {}, json.dumps(answer).encode())
    grant = exchange(subject_token="SENTINEL1", actor_token=lambda: "SENTINEL2", client_secret="SENTINEL3")
    error = sent(grant, refusal)[1]
    assert type(error)._public is kind
    assert "SENTINEL" not in str(error) + str(vars(error))


def test_whose_exchange_it_is() -> None:
    """Subject and actor count: by hash as strings, by the object as callables, by `subject_key` where it is given."""

    def token() -> str:
        return "subject"

    different = [
        exchange(),
        exchange(subject_token="other"),
        exchange(subject_token=token),
        exchange(subject_token=token),
        exchange(subject_key="ann"),
        exchange(subject_key="bob"),
        exchange(subject_token_type=ID_TOKEN),
        exchange(actor_token="actor"),
        exchange(actor_token="other"),
        exchange(actor_token=token),
        exchange(actor_token="actor", actor_token_type=ID_TOKEN),
        exchange(actor_token="actor", subject_key="ann"),
        exchange(actor_token="other", subject_key="ann"),
        exchange(requested_token_type=ACCESS_TOKEN),
        exchange(client_secret="other"),
        exchange(audience="orders"),
        exchange(client_id="d"),
        ready("subject"),
    ]
    assert len(set(prints(*different))) == len(different)
    for same in (
        [exchange(), exchange(subject_token_type=ACCESS_TOKEN)],
        [exchange(subject_key="ann"), exchange(subject_key="ann", subject_token=token)],
        [exchange(subject_key="ann", actor_token=f, subject_token=f) for f in (token, lambda: "x")],
    ):
        assert len(set(prints(*same))) == 1, same
    mine = exchange(subject_token=token)
    assert mine.using(scope="a").identity()["subject"] == mine.using(scope="b").identity()["subject"]
    assert prints(mine) == prints(mine.using())
    for grant in different:
        assert (
            "subject" not in grant.identity()["subject" if isinstance(grant, TokenExchange) else "assertion"].values()
        )


def test_a_callable_is_never_taken_for_another_that_had_its_place() -> None:
    """The next person's callable may have the address of the last one's: it shares nothing with it."""
    seen = {prints(exchange(subject_token=lambda: "t"))[0] for _ in range(50)}
    assert len(seen) == 50


# JWT bearer (RFC 7523 §2.1)


def test_a_statement() -> None:
    """From whom, about whom, for whom, short-lived, with a name of its own; no client where none is named."""
    given = form(bearer(sub="ann", kid="k1"))
    assert given.keys() == {"grant_type", "assertion"}
    assert given["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    public = jwt.PyJWK(key().public_jwk, algorithm="ES256")
    said = jwt.decode(given["assertion"], public, ["ES256"], audience=URL)
    assert jwt.get_unverified_header(given["assertion"]) == {"typ": "JWT", "kid": "k1", "alg": "ES256"}
    assert (said["iss"], said["sub"], said["aud"]) == ("robot", "ann", URL)
    assert said["exp"] - said["iat"] == 60
    assert len(base64.urlsafe_b64decode(said["jti"] + "==")) >= 16


def test_what_a_statement_can_say_besides() -> None:
    """About itself by default, or of nobody; for whom; for how long; whatever else; the scope, in both places."""

    def said(**options: Any) -> dict[str, Any]:
        return claims(form(bearer(**options))["assertion"])

    assert said()["sub"] == "robot"
    assert "sub" not in said(sub="")
    assert "scope" not in said()
    assert said(aud="https://other.example.com/")["aud"] == "https://other.example.com/"
    assert said(aud="token_endpoint")["aud"] == URL
    long = said(lifetime=3600)
    assert long["exp"] - long["iat"] == 3600
    assert said(claims={"tenant": ["a", {"b": 1}]})["tenant"] == ["a", {"b": 1}]
    assert said(scope=["a", "b"])["scope"] == "a b" == form(bearer(scope="a b"))["scope"]
    assert said(scope="a b", claims={"scope": "c"})["scope"] == "c"
    forms, _ = sent(bearer(token_endpoint=None, issuer=ISSUER), METADATA, GOOD)
    assert claims(forms[0]["assertion"])["aud"] == ISSUER


def test_more_scope_goes_into_the_statement_too() -> None:
    """When an API wants more (RFC 6750 §3.1), the assertion asks for it as the request does."""
    challenge = Challenge("bearer", params={"error": "insufficient_scope", "scope": "b"})
    given = form(bearer(scope="a"), challenge=challenge)
    assert given["scope"] == claims(given["assertion"])["scope"] == "a b"
    again = form(bearer(scope="a"), presented=Entry(Token("t"), 0.0, 1.0, asked="a b"))
    assert claims(again["assertion"])["scope"] == "a b"
    assert form(exchange(scope="a"), challenge=challenge)["scope"] == "a b"


def test_a_client_beside_the_statement() -> None:
    """Client authentication is optional (RFC 7521 §4.1): a secret, a name alone, or nothing."""
    assert form(bearer(client_id="c"))["client_id"] == "c"
    proven = form(bearer(client_id="c", client_secret="s", client_auth=ClientSecretPost()))
    assert (proven["client_id"], proven["client_secret"]) == ("c", "s")
    for wrong in ({"client_secret": "s"}, {"client_auth": NoClientAuth()}, {"client_id": ""}):
        with pytest.raises(ConfigurationError, match="client_id is missing"):
            bearer(**wrong)


def test_each_sending_has_a_statement_of_its_own() -> None:
    """After `use_dpop_nonce`, after `invalid_client`, and in the next attempt: never the same `jti`."""
    forms, minted = sent(bearer(), NONCE, BOUND, dpop=DPoP())
    assert minted.token.token_type == "DPoP"
    secrets = {"client_id": "c", "client_secret": ["a", "b"], "client_auth": ClientSecretPost()}
    forms += sent(bearer(**secrets), WRONG_CLIENT, GOOD)[0]
    forms += sent(bearer())[0]
    names = [claims(one["assertion"])["jti"] for one in forms]
    assert len(names) == len(set(names)) == 5


def server(library: Any, *statuses: int) -> tuple[Any, list[dict[str, str]]]:
    """Transport of a token endpoint and an API that answer like this, and then well; and the token requests."""
    forms: list[dict[str, str]] = []
    left = list(statuses)

    def answer(request: Any) -> Any:
        if request.url.path != "/token":
            return library.Response(200)
        forms.append(dict(library.QueryParams(request.content.decode())))
        status = left.pop(0) if left else 200
        return library.Response(status, json={"access_token": "a", "expires_in": 3600} if status == 200 else {})

    return library.MockTransport(answer), forms


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_renewal_that_tries_again_states_again(library: Any) -> None:
    """After a 503: another assertion, another answer of the callable; from a thread and on a loop."""
    tokens = (f"t{n}" for n in itertools.count())

    async def token() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    transport, forms = server(library, 503, 503)
    policy = RenewalPolicy(attempts=3)
    with library.Client(transport=transport) as client:
        assert TokenAuth(bearer(), client=client, policy=policy).token().access_token == "a"
    names = {claims(one["assertion"])["jti"] for one in forms}
    assert len(names) == len(forms) == 3

    async def use() -> None:
        transport, forms = server(library, 503)
        async with library.AsyncClient(transport=transport) as client:
            auth = TokenAuth(exchange(subject_token=token), client=client, policy=policy)
            assert (await auth.atoken()).access_token == "a"
        assert [one["subject_token"] for one in forms] == ["t0", "t1"]

    asyncio.run(use())
    with (
        library.Client(transport=transport) as client,
        pytest.raises(ConfigurationError, match="subject_token is async"),
    ):
        TokenAuth(exchange(subject_token=token), client=client).token()
    assert len(forms) == 3


def test_a_key_that_is_elsewhere() -> None:
    """A callable signs the statement; `alg` has to be said."""
    asked: list[bytes] = []

    def sign(data: bytes) -> bytes:
        asked.append(data)
        return key()._signature(data)

    given = form(bearer(key=sign, alg="ES256", kid="kms"))
    assert jwt.decode(given["assertion"], jwt.PyJWK(key().public_jwk), ["ES256"], audience=URL)["iss"] == "robot"
    assert len(asked) == 1
    with pytest.raises(ConfigurationError, match="JWTBearer's key is a callable: say with alg="):
        bearer(key=sign)


def test_an_assertion_that_somebody_else_has_signed() -> None:
    """As it is, or from a callable asked at each request: for workloads, and on a person's behalf."""
    assert form(ready("theirs", client_id="c", extra={"requested_token_use": "on_behalf_of"})) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "theirs",
        "client_id": "c",
        "requested_token_use": "on_behalf_of",
    }
    tokens = (f"t{n}" for n in itertools.count())
    grant = ready(lambda: next(tokens))
    assert [form(grant)["assertion"] for _ in range(2)] == ["t0", "t1"]


def test_what_a_statement_needs() -> None:
    """Missing and contradictory arguments are errors at construction, and quote nothing."""
    for wrong, why in (
        ({"key": None}, "iss= cannot get into a ready assertion=: leave it out, or give key="),
        ({"assertion": "SENTINEL"}, "one of them"),
        ({"iss": None}, "iss is missing"),
        ({"iss": ""}, "iss is missing"),
        ({"key": "SENTINEL"}, "JWTBearer's key is neither PEM text nor a JWK"),
        ({"alg": "ES384"}, "wants P-384"),
        ({"claims": {"sub": "x", "exp": 1}}, "claims= has exp, sub"),
        ({"claims": {"a": object()}}, "JSON cannot hold"),
        ({"claims": {"a": float("nan")}}, "JSON cannot hold"),
        ({"lifetime": 0}, "lifetime must be a number, more than 10 seconds"),
        ({"lifetime": float("inf")}, "lifetime must be"),
        ({"lifetime": -60}, "lifetime must be"),
        ({"lifetime": "60"}, "lifetime must be a number"),
        ({"lifetime": True}, "lifetime must be a number"),
        ({"claims": [1]}, "claims= must be a mapping"),
        ({"claims": "a"}, "claims= must be a mapping"),
        ({"iss": 5}, "iss= must be a string"),
        ({"sub": 5}, "sub= must be a string"),
        ({"aud": [URL]}, "aud= must be a string"),
        ({"subject_key": "ann"}, "subject_key= is for assertion="),
        ({"key": None, "iss": None, "assertion": "a", "subject_key": ""}, "subject_key= must be a string"),
        ({"key": None, "iss": None, "assertion": str, "subject_key": 5}, "subject_key= must be a string"),
        ({"extra": {"assertion": "x"}}, "extra= has assertion"),
    ):
        with pytest.raises(ConfigurationError, match=why) as caught:
            bearer(**wrong)
        assert "SENTINEL" not in str(caught.value)
    for given in ({"iss": "x"}, {"sub": ""}, {"aud": "x"}, {"claims": {}}, {"lifetime": 5.0}, {"alg": "ES256"}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(given))}= cannot get into a ready assertion="):
            JWTBearer(URL, assertion="a", **given)  # type: ignore[arg-type]
    with pytest.raises(InvalidCredential, match="assertion"):
        ready("SENTINEL\n")


def test_whose_statement_it_is() -> None:
    """What it says counts, and who signs it; when and for which endpoint do not."""

    def token() -> str:
        return "t"

    different = [
        bearer(),
        bearer(sub="ann"),
        bearer(sub=""),
        bearer(iss="other"),
        bearer(aud="x"),
        bearer(claims={"a": 1}),
        bearer(key=make_key().to_json()),
        bearer(key=len, alg="ES256"),
        bearer(key=len, alg="ES256", kid="k"),
        bearer(client_id="c"),
        bearer(client_id="c", client_secret="s"),
        bearer(client_id="c", client_secret="t"),
        bearer(scope="a"),
        ready("a"),
        ready("b"),
        ready(token),
        ready(token),
        ready(token, subject_key="ann"),
    ]
    assert len(set(prints(*different))) == len(different)
    assert len(set(prints(bearer(), bearer(sub="robot"), bearer(lifetime=600), bearer(kid="k")))) == 1
    assert len(set(prints(ready(token, subject_key="a"), ready("x", subject_key="a")))) == 1
    changing = {"a": [1]}
    grant = bearer(claims=changing)
    before = prints(grant)
    changing["a"].append(2)
    assert prints(grant) == before


def test_refusals_do_not_repeat_the_statement() -> None:
    """A server that echoes the assertion is not quoted with it."""
    for grant in (bearer(), ready("SENTINEL"), ready(lambda: "SENTINEL")):
        flow = grant.obtain(attempt())
        step = next(flow)
        if isinstance(step, Call):
            step = flow.send(step.function())
        assertion = dict(step.request.form)["assertion"]
        answer = {"error": "invalid_grant", "error_description": f"no {assertion}"}
        with pytest.raises(ReauthenticationRequired) as caught:
            flow.send(ServerResponse(400, {}, json.dumps(answer).encode()))
        assert assertion[:40] not in str(caught.value) + str(vars(caught.value))


def test_nothing_shows_what_is_exchanged() -> None:
    """Reprs say who and where; identities have hashes; pickles are refused."""
    private = json.loads(key().to_json())["d"]
    grants = [
        (exchange(subject_token="SENTINEL", actor_token="SENTINEL", client_secret="SENTINEL"), "c@auth.example.com"),
        (bearer(), "robot@auth.example.com"),
        (bearer(client_id="c"), "c@auth.example.com"),
        (ready("SENTINEL"), "assertion@auth.example.com"),
    ]
    for grant, name in grants:
        assert repr(grant) == f"<{type(grant).__name__} {name}>"
        held = [repr(value) for value in vars(grant).values() if not isinstance(value, str)]
        shown = repr(grant) + str(grant.identity()) + "".join(held)
        flow = grant.obtain(attempt())
        shown += repr(next(flow))
        assert "SENTINEL" not in shown
        assert private not in shown
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(grant)
