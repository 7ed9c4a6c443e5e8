"""Logins by code and by device, step by step and without I/O: what is sent, what is believed, and what is given up."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import webbrowser
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest
from logins import DEVICE_GRANT, ENDPOINTS, ISSUER, Stage

from httpx_tokenflow import (
    ClientSecretBasic,
    ClientSecretPost,
    ConfigurationError,
    DPoP,
    InvalidCredential,
    ReauthenticationRequired,
    RefreshToken,
    Token,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._challenges import Challenge
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._grants import DeviceCode, DevicePrompt
from httpx_tokenflow._logins import AuthorizationCode
from httpx_tokenflow._loopback import Closed, Listener, Stray
from httpx_tokenflow._steps import Fetch, Patience, Work
from httpx_tokenflow._token_auth import fingerprint

NOT_NOW = ServerResponse(503, {}, b"{}")
PENDING = ServerResponse(400, {}, b'{"error": "authorization_pending"}')
SLOW_DOWN = ServerResponse(400, {}, b'{"error": "slow_down"}')
PAGE = "https://app.example.com/callback"
OTHER = "https://other.example.com"


def refused(error: str, **more: str) -> ServerResponse:
    return ServerResponse(400, {}, json.dumps({"error": error, **more}).encode())


def lost() -> Exception:
    return httpx.ReadTimeout("SENTINEL")


def not_sent() -> Exception:
    return httpx.ConnectError("SENTINEL")


def challenge(error: str, **params: str) -> Challenge:
    return Challenge("Bearer", {"error": error, **params})


def entry(**options: Any) -> Entry:
    token = Token("old", refresh_token="refresh-0", scope="a b")
    return Entry(token, 0.0, 60.0).having(**options)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()

    def serve(listener: Listener, *args: Any) -> None:
        stage.serve(listener, *args)

    monkeypatch.setattr(Listener, "serve", serve)
    return stage


@pytest.fixture
def code(stage: Stage) -> Any:
    """Makes grants that log in by code."""
    given = {"issuer": ISSUER, "client_id": "c", "open_browser": stage.browse}
    return lambda **options: AuthorizationCode(**{**given, **options})


@pytest.fixture
def device(stage: Stage) -> Any:
    """Makes grants that log in by device."""
    given = {"issuer": ISSUER, "client_id": "c", "on_prompt": stage.prompt}
    return lambda **options: DeviceCode(**{**given, **options})


@pytest.fixture(params=["code", "device"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def obtain(stage: Stage, grant: Any, presented: Entry | None = None, **options: Any) -> Any:
    """One attempt, performed to its end."""
    return stage.play(grant.obtain(stage.attempt(presented, **options)))


def fails(stage: Stage, grant: Any, kind: type[TokenFlowError], *args: Any, **options: Any) -> Any:
    """How one attempt fails; no secret of the login is in that."""
    with pytest.raises(kind) as caught:
        obtain(stage, grant, *args, **options)
    check_secrets(stage, caught.value)
    return caught.value


def check_secrets(stage: Stage, error: BaseException) -> None:
    said = f"{error!r} {error} {getattr(error, 'error_description', '')} {getattr(error, 'error', '')}"
    assert "SENTINEL" not in said
    if stage.url and "request_uri" not in stage.url:
        asked = stage.issuer.asked(stage.url)
        assert asked["state"] not in said
    for form in stage.issuer.forms("/token"):
        assert form.get("code_verifier", "SENTINEL") not in said


# The session


def test_while_there_is_a_refresh_token_nobody_is_asked(stage: Stage, either: Any) -> None:
    """It is presented, without a scope (RFC 6749 §6), and what the answer leaves out is as it was."""
    stage.issuer.refresh_tokens.add("refresh-0")
    minted = obtain(stage, either(scope="a b c", resource="https://r"), entry(asked="a b d"))
    assert stage.issuer.forms("/token") == [
        {"grant_type": "refresh_token", "refresh_token": "refresh-0", "client_id": "c", "resource": "https://r"}
    ]
    assert (minted.token.scope, minted.asked) == ("a b", "a b d")
    assert not any(isinstance(step, Patience | Work) for step in stage.steps)


def test_a_part_of_a_session_says_which(stage: Stage, either: Any) -> None:
    """By `using` the refresh token buys a token for less scope, or another resource of the session (RFC 8707 §2.2)."""
    grant = either(scope="a b", audience="api", resource=["https://r1", "https://r2"])
    parts = [
        {},
        {"scope": "a"},
        {"audience": "other"},
        {"resource": "https://r2"},
        {"resource": ["https://r2", "https://r1"]},
    ]
    for part in parts:
        stage.issuer.refresh_tokens.add("refresh-0")
        obtain(stage, grant.using(**part), entry(), may_log_in=False)
    said = [
        {name: form.get(name) for name in ("scope", "audience", "resource")} for form in stage.issuer.forms("/token")
    ]
    whole = {"scope": None, "audience": None, "resource": "https://r1"}
    assert said == [whole, whole | parts[1], whole | parts[2], whole | parts[3],
                    whole | {"resource": "https://r2 https://r1"}]  # fmt: skip


@pytest.mark.parametrize(
    ("presented", "options"),
    [
        (None, {}),
        (entry().spent(), {}),
        (entry().having(token=Token("old")), {}),
        (entry(), {"challenge": challenge("insufficient_user_authentication")}),
        (entry(), {"challenge": challenge("insufficient_scope", scope="d")}),
    ],
    ids=["nothing", "spent", "no refresh token", "another login wanted", "more scope wanted"],
)
def test_when_a_person_is_asked(stage: Stage, either: Any, presented: Any, options: Any) -> None:
    """Where no refresh token is left, or an API wants what none can bring; if nobody may be asked, that is said."""
    stage.issuer.refresh_tokens.add("refresh-0")
    error = fails(stage, either(), ReauthenticationRequired, presented, may_log_in=False, **options)
    assert "warm()" in str(error)
    assert stage.issuer.seen == []
    minted = obtain(stage, either(), presented, **options)
    assert stage.issuer.grants()["refresh_token"] == 0
    assert minted.token.refresh_token in stage.issuer.refresh_tokens


@pytest.mark.parametrize("wanted", [challenge("invalid_token"), challenge("insufficient_scope")])
def test_other_challenges_disturb_nobody(stage: Stage, either: Any, wanted: Challenge) -> None:
    """An API that merely says no, or does not say what it wants, gets another token by the refresh token."""
    stage.issuer.refresh_tokens.add("refresh-0")
    obtain(stage, either(), entry(), challenge=wanted)
    assert stage.issuer.grants() == {"refresh_token": 1}


def test_a_refusal_of_the_refresh_token_is_the_renewals_to_judge(stage: Stage, either: Any) -> None:
    """Somebody else may have renewed: `invalid_grant` goes through, and nobody is asked yet."""
    error = fails(stage, either(), ReauthenticationRequired, entry())
    assert error.error == "invalid_grant"
    assert stage.issuer.grants() == {"refresh_token": 1}


def test_a_server_that_wants_to_see_the_person(stage: Stage, either: Any) -> None:
    """OpenID Connect's `interaction_required` for a refresh token: a login at once, if one may be."""
    stage.issuer.fail("/token", refused("interaction_required"))
    assert obtain(stage, either(), entry()).token.refresh_token != "refresh-0"
    stage.issuer.fail("/token", refused("interaction_required"))
    error = fails(stage, either(), TokenRequestError, entry(), may_log_in=False)
    assert error.error == "interaction_required"
    stage.issuer.fail("/token", refused("invalid_client"))
    assert fails(stage, either(), TokenRequestError, entry()).error == "invalid_client"


def test_what_a_renewal_knows_of_a_login(code: Any, device: Any) -> None:
    """Logins spend refresh tokens, may take a person's time, and can widen; a page elsewhere cannot be served."""
    for grant, seconds in ((code(), 300.0), (device(), 600.0), (code(timeout=5), 5.0)):
        assert (grant.spends, grant.logs_in, grant.widens, grant.login_timeout) == (True, True, True, seconds)
    for grant in (code(redirect_uri=PAGE), code(open_browser=False)):
        assert (grant.spends, grant.logs_in, grant.widens, grant.login_timeout) == (True, False, False, 0.0)


def test_a_backend_is_told_to_log_its_people_in_itself(stage: Stage, code: Any) -> None:
    """Where the browser comes back to a page of the program's own, a request without a session says how it is done."""
    local = {"redirect_uri": "http://localhost:8000/callback", "open_browser": False}
    for may_log_in in (False, True):
        for options in ({"redirect_uri": PAGE}, local):
            error = fails(stage, code(**options), ReauthenticationRequired, may_log_in=may_log_in)
            assert "start() and finish()" in str(error)
    assert stage.issuer.seen == []


@pytest.mark.parametrize("subject", ["", 5, b"ann", object()])
def test_a_subject_that_names_nobody(either: Any, subject: Any) -> None:
    """Two persons whom the program calls nothing would share their tokens."""
    with pytest.raises(ConfigurationError, match="subject= must be a string"):
        either(subject=subject)
    with pytest.raises(ConfigurationError, match="subject= must be a string"):
        RefreshToken(f"{ISSUER}/token", client_id="c", subject=subject)


def test_a_session_that_could_never_go_on_says_so(stage: Stage, code: Any, device: Any) -> None:
    """The server issued no refresh token: what to ask for is said there, and nowhere else."""
    without = entry().having(token=Token("old"))
    wider = challenge("insufficient_scope", scope="b")
    for grant in (code(), code(redirect_uri=PAGE), device()):
        error = fails(stage, grant, ReauthenticationRequired, without, may_log_in=False)
        assert "issued no refresh token: ask for offline_access" in str(error)
        assert "access_type" in str(error)
        for presented, options in ((None, {}), (entry().spent(), {}), (Entry.mark(0.0, ""), {}),
                                   (without, {"challenge": wider})):  # fmt: skip
            error = fails(stage, grant, ReauthenticationRequired, presented, may_log_in=False, **options)
            assert "offline" not in str(error)
    assert stage.issuer.seen == []


def test_whose_session_it_is(code: Any, device: Any) -> None:
    """The person, the server and all that is asked for make a difference; the secret does not."""
    assert fingerprint(code(client_secret="s"), None) == fingerprint(code(client_secret="t"), None)
    grants = [code(), device(), code(subject="ann"), code(subject="bob"), code(client_id="d"), code(scope="a"),
              code(authorization_extra={"acr_values": "phr"}), code(issuer="https://other.example.com"),
              AuthorizationCode(f"{ISSUER}/a", f"{ISSUER}/t", client_id="c"),
              AuthorizationCode(f"{ISSUER}/b", f"{ISSUER}/t", client_id="c")]  # fmt: skip
    assert len({fingerprint(grant, None) for grant in grants}) == len(grants)
    assert fingerprint(code(), None) == fingerprint(code(redirect_uri=PAGE), None)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0}, {"timeout": -1}, {"timeout": True}, {"timeout": "5"}, {"timeout": float("nan")},
        {"timeout": float("inf")}, {"client_id": ""}, {"issuer": None}, {"client_auth": ClientSecretBasic()},
        {"open_browser": "firefox"}, {"open_browser": True}, {"authorization_extra": {"state": "x"}},
        {"authorization_extra": "prompt"}, {"authorization_extra": {"max_age": 5}}, {"extra": {"code": "x"}},
        {"extra": {"redirect_uri": PAGE}}, {"extra": {"code_verifier": "x"}},
        {"authorization_extra": {"response_mode": "form_post"}}, {"redirect_uri": "http://app.example.com/callback"},
        {"redirect_uri": "/callback"}, {"redirect_uri": "https:///callback"}, {"redirect_uri": f"{PAGE}#x"},
        {"redirect_uri": "https://user@app.example.com/"}, {"redirect_uri": "https://app.example.com/\n"},
        {"redirect_uri": "https://app.example.com:x/"}, {"redirect_uri": "https://[/"}, {"redirect_uri": None},
        {"redirect_uri": ""},
    ],
)  # fmt: skip
def test_codes_what_cannot_be_is_refused_at_once(code: Any, options: dict[str, Any]) -> None:
    """A grant that could not work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        code(**options)


@pytest.mark.parametrize(
    "options",
    [{"on_prompt": None}, {"timeout": 0}, {"client_id": ""}, {"issuer": None}, {"extra": {"device_code": "x"}}],
)
def test_devices_what_cannot_be_is_refused_at_once(device: Any, options: dict[str, Any]) -> None:
    """A grant that could not work is refused when it is made."""
    with pytest.raises(ConfigurationError):
        device(**options)


@pytest.mark.parametrize(
    "uri", [PAGE, "http://127.0.0.1:8123/callback", "http://127.5.5.5/x", "com.example.app:/callback"]
)
def test_pages_to_come_back_to(code: Any, uri: str) -> None:
    """https, loopback, and a scheme of the program's own (RFC 8252 §7)."""
    assert code(redirect_uri=uri)


# By code: what is asked


def test_an_authorization_request(stage: Stage, code: Any) -> None:
    """What RFC 6749 §4.1.1 and 7636 §4.3 say, each once; the code goes with what it belongs to, and without a scope."""
    grant = code(scope=["a", "b"], audience="api", resource=["https://r1", "https://r2"], extra={"x": "y"},
                 authorization_extra={"prompt": "consent"})  # fmt: skip
    minted = obtain(stage, grant)
    asked = stage.issuer.asked(stage.url)
    redirect_uri = asked.pop("redirect_uri")
    host, port = urlsplit(redirect_uri).hostname, urlsplit(redirect_uri).port
    assert (host, urlsplit(redirect_uri).path) == ("127.0.0.1", "/callback")
    assert port
    assert len(asked.pop("state")) == 43
    form = stage.issuer.forms("/token")[0]
    verifier = form.pop("code_verifier")
    assert len(verifier) == 43
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert asked == {
        "response_type": "code",
        "client_id": "c",
        "scope": "a b",
        "audience": "api",
        "resource": "https://r1 https://r2",
        "code_challenge": digest,
        "code_challenge_method": "S256",
        "prompt": "consent",
    }
    assert form.pop("code").startswith("code-")
    assert form == {
        "grant_type": "authorization_code",
        "redirect_uri": redirect_uri,
        "client_id": "c",
        "resource": "https://r1",
        "x": "y",
    }
    assert (minted.lifetime, minted.asked) == (3600, None)


def test_no_two_logins_are_alike(stage: Stage, code: Any) -> None:
    """State, verifier and nonce are made anew for each login, and are three different things."""
    grant, seen = code(scope="openid"), []
    for _ in range(3):
        obtain(stage, grant)
        asked = stage.issuer.asked(stage.url)
        seen += [asked["state"], asked["nonce"], stage.issuer.forms("/token")[-1]["code_verifier"]]
    assert len(set(seen)) == 9


def test_an_endpoint_with_a_query(stage: Stage) -> None:
    """The authorization endpoint's own query is kept (RFC 6749 §3.1)."""
    grant = AuthorizationCode(
        f"{ISSUER}/authorize?tenant=t", f"{ISSUER}/token", client_id="c", open_browser=stage.browse
    )
    flow = grant.obtain(stage.attempt())
    stage.person = lambda url: stage.issuer.log_in(url.replace("?tenant=t&", "?"))
    assert stage.play(flow).token.access_token
    assert stage.url.startswith(f"{ISSUER}/authorize?tenant=t&client_id=c&response_type=code&")


def test_what_an_api_asked_for(stage: Stage, code: Any, device: Any) -> None:
    """RFC 9470 §4: acr_values and max_age go into a new request, over what the program says; so do claims."""
    wanted = challenge("insufficient_user_authentication", acr_values="phr phrh", max_age="0")
    obtain(stage, code(authorization_extra={"acr_values": "low", "prompt": "login"}), entry(), challenge=wanted)
    asked = stage.issuer.asked(stage.url)
    assert (asked["acr_values"], asked["max_age"], asked["prompt"]) == ("phr phrh", "0", "login")
    obtain(stage, device(), entry(), challenge=wanted)
    form = stage.issuer.forms("/device")[0]
    assert (form["acr_values"], form["max_age"]) == ("phr phrh", "0")
    claims = base64.urlsafe_b64encode(b'{"a": 1}').rstrip(b"=").decode()
    wanted = challenge("insufficient_claims", claims=claims)
    obtain(stage, code(), challenge=wanted)
    obtain(stage, device(), challenge=wanted)
    assert stage.issuer.asked(stage.url)["claims"] == stage.issuer.forms("/device")[1]["claims"] == '{"a": 1}'


def test_more_scope_is_asked_for_on_top(stage: Stage, either: Any) -> None:
    """The union of what there was and what is wanted; and from then on that is what a login asks for."""
    wanted = challenge("insufficient_scope", scope="b d")
    minted = obtain(stage, either(scope="a b"), entry(), challenge=wanted)
    asked = stage.issuer.asked(stage.url) if stage.url else stage.issuer.forms("/device")[-1]
    assert (asked["scope"], minted.asked) == ("a b d", "a b d")
    minted = obtain(stage, either(scope="a b"), entry(asked="a b d").spent())
    asked = stage.issuer.asked(stage.url) if stage.url else stage.issuer.forms("/device")[-1]
    assert (asked["scope"], minted.asked) == ("a b d", "a b d")


@pytest.mark.parametrize("given", [None, "made"])
def test_the_code_is_bound_to_the_key(stage: Stage, code: Any, given: str | None) -> None:
    """RFC 9449 §10: the thumbprint goes along, and the proof is by that very key, whatever key there was before."""
    dpop, before = DPoP(), DPoP()
    presented = entry(key=before.kept(before.key_of(None))).spent() if given else None
    stage.issuer.fail("/token", None)
    flow = code().obtain(stage.attempt(presented, dpop=dpop))
    with pytest.raises(ConfigurationError, match="bearer token although"):  # this server knows no DPoP
        stage.play(flow)
    assert stage.issuer.asked(stage.url)["dpop_jkt"] == dpop.thumbprint
    proof = next(headers["DPoP"] for path, _, headers in stage.issuer.seen if path == "/token")
    assert jwt.get_unverified_header(proof)["jwk"] == dpop.key_of(None).public_jwk


# By code: pushed authorization requests (RFC 9126)


@pytest.mark.parametrize(
    ("par", "required", "pushed"), [(None, False, 0), (None, True, 1), (True, False, 1), (False, True, 0)]
)
def test_when_a_request_is_pushed(stage: Stage, code: Any, par: Any, required: bool, pushed: int) -> None:
    """Where the server requires it, or the program says so; then the browser carries a reference and nothing else."""
    stage.issuer.facts["require_pushed_authorization_requests"] = required
    stage.person = stage.issuer.log_in
    obtain(stage, code(par=par, scope="openid"))
    assert len(stage.issuer.forms("/par")) == pushed
    assert ("code_challenge" in stage.url) is not bool(pushed)


@pytest.mark.parametrize("client_auth", [None, ClientSecretBasic(), ClientSecretPost()])
def test_a_pushed_request_says_once_who_sends_it(stage: Stage, client_auth: Any) -> None:
    """`client_id` is in the form once, however the client proves itself (RFC 9126 §2.1, RFC 6749 §3.2)."""
    secret = {"client_secret": "s", "client_auth": client_auth} if client_auth else {}
    grant = AuthorizationCode(issuer=ISSUER, client_id="c", par=True, open_browser=stage.browse, **secret)
    obtain(stage, grant)
    assert stage.issuer.forms("/par")[0]["client_id"] == "c"
    device = DeviceCode(issuer=ISSUER, client_id="c", on_prompt=stage.prompt, **secret)
    obtain(stage, device)
    assert stage.issuer.forms("/device")[0]["client_id"] == "c"


def test_a_pushed_request_that_is_refused(stage: Stage, code: Any) -> None:
    """Nobody is sent anywhere; the error is the server's, without the state that it echoes."""
    stage.issuer.fail("/par", refused("invalid_request", error_description="no"))
    assert fails(stage, code(par=True), TokenRequestError).error == "invalid_request"
    stage.issuer.fail("/par", ServerResponse(201, {}, b'{"expires_in": 60}'))
    fails(stage, code(par=True), TokenRequestError)
    stage.issuer.fail("/par", NOT_NOW)
    assert fails(stage, code(par=True), TokenEndpointUnavailable).retryable
    assert stage.url == ""
    named = AuthorizationCode(f"{ISSUER}/authorize", f"{ISSUER}/token", client_id="c", par=True)
    with pytest.raises(ConfigurationError, match="pushed_authorization_request_endpoint"):
        obtain(stage, named)

    class Echo(type(stage.issuer)):
        def _answer(self, path: str, form: dict[str, str]) -> Any:
            return 400, {"error": "invalid_request", "error_description": f"{form['state']} {form['nonce']}"}

    flow = code(par=True, scope="openid", issuer=None, authorization_endpoint=ENDPOINTS["authorization_endpoint"],
                token_endpoint=ENDPOINTS["token_endpoint"],
                metadata={"pushed_authorization_request_endpoint": f"{ISSUER}/par"})  # fmt: skip
    stage.issuer = Echo()
    error = fails(stage, flow, TokenRequestError)
    assert stage.issuer.forms("/par")[0]["state"] not in str(error)
    assert stage.issuer.forms("/par")[0]["nonce"] not in str(error)


# By code: the answer


def callback(url: str, **said: str | None) -> str:
    """A callback with these parameters and the right state, unless they say otherwise."""
    asked = parse_qs(urlsplit(url).query)
    values = {"state": asked["state"][0], **said}
    return f"{asked['redirect_uri'][0]}?{urlencode({name: one for name, one in values.items() if one is not None})}"


ANSWERS: dict[str, tuple[dict[str, str | None], type[TokenFlowError], str, str | None]] = {
    "another issuer": ({"code": "code-SENTINEL", "iss": "https://evil.example"}, ConfigurationError, "9207", None),
    "an error of another issuer": ({"error": "access_denied", "iss": f"{ISSUER}/"}, ConfigurationError, "9207", None),
    "access denied": ({"error": "access_denied"}, ReauthenticationRequired, "access_denied", "access_denied"),
    "login required": ({"error": "login_required"}, ReauthenticationRequired, "login_required", "login_required"),
    "invalid scope": ({"error": "invalid_scope"}, TokenRequestError, "invalid_scope", "invalid_scope"),
    "server error": ({"error": "server_error"}, TokenRequestError, "server_error", "server_error"),
    "not now": ({"error": "temporarily_unavailable"}, TokenRequestError, "temporarily", "temporarily_unavailable"),
    "error and code": ({"error": "x", "code": "code-SENTINEL"}, TokenRequestError, "failed: x", "x"),
    "no code": ({}, TokenRequestError, "neither a code nor an error", None),
    "an empty code": ({"code": ""}, TokenRequestError, "neither a code nor an error", None),
    "an empty error": ({"error": ""}, TokenRequestError, "neither a code nor an error", None),
    "words": (
        {"error": "x", "error_description": "no code-SENTINEL\r\n\x1b" + "y" * 999, "code": "code-SENTINEL"},
        TokenRequestError,
        "yyy…)",
        "x",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_bring_no_code(stage: Stage, code: Any, name: str) -> None:
    """Each has its own error, the person is shown it, and nothing is sent to the token endpoint."""
    said, kind, match, error_code = ANSWERS[name]
    stage.person = partial(callback, **said)
    error = fails(stage, code(), kind)
    assert type(error).__name__ == kind.__name__
    assert match in str(error)
    assert getattr(error, "error", None) == error_code
    assert len(str(error)) < 400
    assert stage.issuer.forms("/token") == []


def test_an_answer_must_say_who_it_is_from_if_all_do(stage: Stage, code: Any) -> None:
    """RFC 9207 §2.4: where the metadata announce `iss`, one without it is somebody else's; elsewhere it may be."""
    stage.person = lambda url: stage.issuer.log_in(url, iss=None)
    assert obtain(stage, code())
    stage.issuer.facts["authorization_response_iss_parameter_supported"] = True
    sent = len(stage.issuer.forms("/token"))
    assert "9207" in str(fails(stage, code(), ConfigurationError))
    assert len(stage.issuer.forms("/token")) == sent
    stage.person = None
    assert obtain(stage, code())


@pytest.mark.parametrize("name", ["state", "iss", "error", "error_description", "error_uri", "code"])
def test_nothing_is_there_twice(stage: Stage, code: Any, name: str) -> None:
    """RFC 6749 §3.1: a callback with a parameter twice, equal or not, is not read."""
    for value in ("", "SENTINEL"):
        stage.person = lambda url, value=value: f"{stage.issuer.log_in(url, error='x')}&{name}={value}&{name}={value}"
        assert f"more than one {name}" in str(fails(stage, code(), TokenRequestError))
    assert stage.issuer.forms("/token") == []


def test_what_nobody_asked_for_is_ignored(stage: Stage, code: Any) -> None:
    """RFC 6749 §4.1.2: parameters that we do not know are ignored, however often they are there."""
    stage.person = lambda url: f"{stage.issuer.log_in(url, session_state='x')}&session_state=y&foo"
    assert obtain(stage, code())


def test_what_a_listener_does_not_take(stage: Stage, code: Any) -> None:
    """Another state, whatever else is said, is another login's: the listener is told to go on."""
    for said in ({"state": "x"}, {"state": None}, {"state": ""}, {"state": None, "error": "access_denied"}):
        stage.person = lambda url, said=said: stage.issuer.log_in(url, **said)
        with pytest.raises(Stray, match="go back"):
            obtain(stage, code())
    stage.person = lambda url: f"{stage.issuer.log_in(url, state=None)}&state=x&state=y"
    with pytest.raises(Stray):
        obtain(stage, code())
    stage.person = lambda url: "http://127.0.0.1/callback?" + "&".join(["state=x"] * 200)
    with pytest.raises(Stray):
        obtain(stage, code())
    assert stage.issuer.forms("/token") == []


CLAIMS: dict[str, tuple[dict[str, Any], str | None]] = {
    "as it should be": ({}, None),
    "several audiences": ({"aud": ["x", "c"]}, None),
    "another nonce": ({"nonce": "SENTINEL"}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "a nonce that is none": ({"nonce": 5}, "nonce"),
    "another issuer": ({"iss": "https://evil.example"}, "iss"),
    "no issuer": ({"iss": None}, "iss"),
    "another client": ({"aud": "cc"}, "aud"),
    "other clients": ({"aud": ["x", "cc"]}, "aud"),
    "nobody": ({"aud": None}, "aud"),
    "all wrong": ({"nonce": "x", "iss": "x", "aud": "x"}, "nonce and iss and aud"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_an_id_token_is_for_this_login(stage: Stage, code: Any, name: str) -> None:
    """OpenID Connect Core §3.1.3.7: its nonce is ours, its issuer the server, and we are among its audience."""
    stage.issuer.claims, wrong = CLAIMS[name]
    if wrong is None:
        assert obtain(stage, code(scope="openid")).token.id_token
    else:
        assert f"see its {wrong} (" in str(fails(stage, code(scope="openid"), TokenRequestError))


def test_an_id_token_that_cannot_be_read(stage: Stage, code: Any) -> None:
    """What is no JWT is for nobody; none at all, or one that was not asked for, is nothing to look at."""

    def answer(**more: str) -> ServerResponse:
        return ServerResponse(200, {}, json.dumps({"access_token": "a", **more}).encode())

    stage.issuer.fail("/token", answer(id_token="SENTINEL"))
    assert "cannot be read" in str(fails(stage, code(scope="openid"), TokenRequestError))
    stage.issuer.fail("/token", answer(), answer(id_token="SENTINEL"))
    assert obtain(stage, code(scope="openid")).token.id_token is None
    assert obtain(stage, code(scope="profile")).token.id_token == "SENTINEL"
    assert "nonce" not in stage.issuer.asked(stage.url)


def test_without_an_issuer_its_name_cannot_be_compared(stage: Stage) -> None:
    """Where the program named endpoints alone, nonce and audience are still looked at."""
    named = {name: ENDPOINTS[name] for name in ("authorization_endpoint", "token_endpoint")}
    grant = AuthorizationCode(**named, client_id="c", scope="openid", open_browser=stage.browse)
    stage.issuer.claims = {"iss": "https://who.knows"}
    stage.person = lambda url: stage.issuer.log_in(url, iss="https://who.knows")
    assert obtain(stage, grant)
    stage.issuer.claims = {"nonce": "x"}
    assert "nonce" in str(fails(stage, grant, TokenRequestError))


def test_an_issuer_that_is_named_beside_the_endpoints_is_compared(stage: Stage) -> None:
    """RFC 9207 §2.4 and the ID token's `iss`; metadata that demand the one must name the other."""
    always = {"authorization_response_iss_parameter_supported": True}

    def grant(**metadata: Any) -> AuthorizationCode:
        named = {name: ENDPOINTS[name] for name in ("authorization_endpoint", "token_endpoint")}
        options = {"client_id": "c", "scope": "openid", "open_browser": stage.browse}
        return AuthorizationCode(**named, **options, metadata=metadata)

    for wrong in (always, {**always, "issuer": None}, {"issuer": ""}, {"issuer": 5}):
        with pytest.raises(ConfigurationError, match='"issuer": "https://'):
            grant(**wrong)
    assert obtain(stage, grant(**always, issuer=ISSUER))
    codes = len(stage.issuer.forms("/token"))
    for more in ({}, always):
        stage.person = lambda url: stage.issuer.log_in(url, iss="https://evil.example")
        assert "somebody else" in str(fails(stage, grant(**more, issuer=ISSUER), ConfigurationError))
    stage.person = lambda url: stage.issuer.log_in(url, iss=None)
    assert "always says so" in str(fails(stage, grant(**always, issuer=ISSUER), ConfigurationError))
    assert len(stage.issuer.forms("/token")) == codes
    assert obtain(stage, grant(issuer=ISSUER))
    stage.issuer.claims = {"iss": "https://evil.example"}
    assert "see its iss (" in str(fails(stage, grant(issuer=ISSUER), TokenRequestError))


@pytest.mark.parametrize("iss", [None, "", OTHER])
def test_with_several_issuers_an_answer_says_who_it_is_from(stage: Stage, code: Any, iss: str | None) -> None:
    """RFC 9700 §4.4: the code of one allowed server is not handed to another, whatever their metadata announce."""
    grant = code(issuer=[ISSUER, OTHER])
    grant._server._chosen = ISSUER
    for error in ({}, {"error": "access_denied"}):
        stage.person = partial(stage.issuer.log_in, iss=iss, **error)
        assert "where this login was begun" in str(fails(stage, grant, ConfigurationError))
    assert stage.issuer.forms("/token") == []
    stage.person = None
    assert obtain(stage, grant).issuer == ISSUER
    stage.person = partial(stage.issuer.log_in, iss=None)
    alone = code(issuer=[ISSUER])
    alone._server._chosen = ISSUER
    assert obtain(stage, alone)


# By code: the exchange


def test_a_code_that_was_not_taken_is_presented_again(stage: Stage, code: Any) -> None:
    """What was not sent, or answered with "not now", costs nothing; Retry-After is heeded."""
    later = ServerResponse(503, {"retry-after": "7"}, b"{}")
    stage.issuer.fail("/token", not_sent(), later)
    assert obtain(stage, code()).token.access_token
    assert stage.slept() == [1.0, 7.0]
    codes = {form["code"] for form in stage.issuer.forms("/token")}
    assert len(codes) == 1
    assert stage.issuer.logins == 1


def test_a_code_whose_answer_was_lost_is_not(stage: Stage, code: Any) -> None:
    """A code serves once: the outcome is unknown, and no other login begins by itself. No refresh token is at stake."""
    stage.issuer.fail("/token", lost())
    error = fails(stage, code(), TokenEndpointUnavailable)
    assert (error.outcome, error.retryable, error.may_have_spent) == ("unknown", False, False)
    assert isinstance(error.__cause__, httpx.ReadTimeout)
    assert len(stage.issuer.forms("/token")) == 1
    stage.issuer.fail("/token", ServerResponse(200, {}, b"?"))
    assert not fails(stage, code(), TokenEndpointUnavailable).retryable


def test_an_exchange_that_fails_and_fails(stage: Stage, code: Any) -> None:
    """Three times, and only while there is time; nobody has to log in again in the same breath."""
    stage.issuer.fail("/token", *[NOT_NOW] * 3)
    error = fails(stage, code(), TokenEndpointUnavailable)
    assert (error.outcome, error.retryable) == ("answered", False)
    assert len(stage.issuer.forms("/token")) == 3
    stage.issuer.fail("/token", ServerResponse(503, {"retry-after": "60"}, b"{}"))
    assert not fails(stage, code(), TokenEndpointUnavailable).retryable
    assert len(stage.issuer.forms("/token")) == 4
    tls = httpx.ConnectError("")
    tls.__cause__ = ssl.SSLError()
    stage.issuer.fail("/token", tls)
    assert not fails(stage, code(), TokenEndpointUnavailable).retryable
    assert len(stage.issuer.forms("/token")) == 5


def test_a_code_that_is_refused(stage: Stage, code: Any) -> None:
    """`invalid_grant` for a code: the error is the server's, which echoes the code; we do not."""
    stage.person = lambda url: stage.issuer.log_in(url).replace("code-SENTINEL", "code-SENTINEL-x")
    error = fails(stage, code(), ReauthenticationRequired)
    assert error.error == "invalid_grant"
    assert error.error_description.startswith("code")
    assert len(stage.issuer.forms("/token")) == 1


def test_a_persons_time_is_not_the_networks(stage: Stage, code: Any) -> None:
    """What was left of the budget before a person acted is there again for the exchange; everybody is told to wait."""
    stage.takes = 200.0
    obtain(stage, code())
    patience = next(step.seconds for step in stage.steps if isinstance(step, Patience))
    assert patience == 330.0
    fetch = [step for step in stage.steps if isinstance(step, Fetch)][-1]
    assert fetch.timeout == 30.0


def test_nobody_comes(stage: Stage, code: Any) -> None:
    """After `timeout` it is over, and what to do is said."""
    stage.takes = 301.0
    assert "within 300 seconds" in str(fails(stage, code(), ReauthenticationRequired))

    def shut(_url: str) -> str:
        raise Closed

    stage.takes, stage.person = 0.0, shut
    fails(stage, code(), ReauthenticationRequired)


def test_the_usual_browser(stage: Stage, code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise it is `webbrowser.open`, in a thread of its own: it may take a while."""
    monkeypatch.setattr(webbrowser, "open", lambda url: setattr(stage, "url", url) or True)
    assert obtain(stage, code(open_browser=None))
    works = [step for step in stage.steps if isinstance(step, Work)]
    assert len(works) == 2


def test_no_browser(stage: Stage, code: Any) -> None:
    """Where there is none, or the callable fails, the error says what to do; what was raised is the cause."""
    assert "DeviceCode" in str(fails(stage, code(open_browser=lambda _: False), ConfigurationError))

    def broken(_url: str) -> None:
        raise LookupError("SENTINEL")

    error = fails(stage, code(open_browser=broken), TokenEndpointUnavailable)
    assert isinstance(error.__cause__, LookupError)
    assert "open_browser raised LookupError" in str(error)
    assert not error.retryable

    def of_ours(_url: str) -> None:
        raise InvalidCredential("mine")

    assert str(fails(stage, code(open_browser=of_ours), InvalidCredential)) == "mine"


def listens(step: Any) -> Listener:
    return step.function.__self__


def test_however_it_ends_nobody_listens_any_more(stage: Stage, code: Any) -> None:
    """An answer, an error, or a flow that is thrown away: the port is free."""
    flow = code().obtain(stage.attempt())
    while not isinstance(step := flow.send(None if not stage.steps else stage._perform(stage.steps[-1])), Work):
        stage.steps.append(step)
    listener = listens(step)
    assert listener._doors[0].fileno() != -1
    flow.close()
    assert listener._doors[0].fileno() == -1
    for takes in (0.0, 500.0):
        stage.takes = takes
        try:
            obtain(stage, code())
        except ReauthenticationRequired:
            assert takes
        assert listens(stage.steps[-1 if takes else -2])._doors[0].fileno() == -1


# By device


def test_a_device(stage: Stage, device: Any) -> None:
    """A device code is asked for, the person is told, and the server is asked every five seconds."""
    grant = device(scope="a b", audience="api", resource="https://r", extra={"x": "y"})
    stage.issuer.fail("/token", PENDING, PENDING, None)
    minted = obtain(stage, grant)
    assert stage.issuer.forms("/device") == [
        {"client_id": "c", "scope": "a b", "audience": "api", "resource": "https://r", "x": "y"}
    ]
    poll = {"grant_type": DEVICE_GRANT, "device_code": "device-SENTINEL-1", "client_id": "c", "resource": "https://r"}
    assert stage.issuer.forms("/token") == [poll | {"x": "y"}] * 3
    assert stage.slept() == [5.0, 5.0, 5.0]
    assert stage.prompts == [DevicePrompt("WDJB-MJHT", f"{ISSUER}/go", f"{ISSUER}/go?user_code=WDJB-MJHT", 600.0, 5.0)]
    assert minted.token.refresh_token in stage.issuer.refresh_tokens
    patience = [step.seconds for step in stage.steps if isinstance(step, Patience)]
    assert patience == [630.0]


def test_a_prompt_says_what_to_do_and_hides_the_code(stage: Stage, device: Any) -> None:
    """`print` will do for a prompt; a log of its repr does not give the code away, nor does that of the device."""
    obtain(stage, device())
    prompt = stage.prompts[0]
    assert str(prompt) == f"To log in, open {ISSUER}/go and enter WDJB-MJHT"
    assert "WDJB" not in repr(prompt)
    assert not any("SENTINEL" in repr(step) for step in stage.steps)


@pytest.mark.parametrize(
    ("said", "expected"),
    [(None, 5.0), ("soon", 5.0), (1, 1.0), ("2.5", 2.5), (0, 1.0), (-5, 1.0), (30, 30.0)],
)
def test_how_often_it_is_asked(stage: Stage, device: Any, said: Any, expected: float) -> None:
    """As the server says, five seconds if it does not, and never more than once a second (RFC 8628 §3.2)."""
    stage.issuer.device["interval"] = said
    stage.issuer.fail("/token", PENDING, None)
    obtain(stage, device())
    assert stage.slept() == [expected, expected]


def test_slow_down_is_for_good(stage: Stage, device: Any) -> None:
    """Each adds five seconds, to this and all later polls (RFC 8628 §3.5)."""
    stage.issuer.fail("/token", PENDING, SLOW_DOWN, PENDING, SLOW_DOWN, PENDING, None)
    obtain(stage, device())
    assert stage.slept() == [5.0, 5.0, 10.0, 10.0, 15.0, 15.0]


def test_a_server_out_of_reach_is_asked_less_and_less(stage: Stage, device: Any) -> None:
    """Each failure doubles the pause, Retry-After may ask for more, and an answer ends that; slow_down stays."""
    stage.issuer.fail("/token", not_sent(), NOT_NOW, lost(), PENDING, SLOW_DOWN, NOT_NOW, PENDING,
                      ServerResponse(429, {"retry-after": "60"}, b"{}"), None)  # fmt: skip
    obtain(stage, device())
    assert stage.slept() == [5.0, 10.0, 20.0, 40.0, 5.0, 10.0, 20.0, 10.0, 60.0]


@pytest.mark.parametrize("error", ["expired_token", "access_denied"])
def test_the_person_did_not(stage: Stage, device: Any, error: str) -> None:
    """Refused, or not in time: somebody has to log in, and which it was can be told."""
    stage.issuer.fail("/token", PENDING, refused(error, error_description="why device-SENTINEL-1"))
    found = fails(stage, device(), ReauthenticationRequired)
    assert (found.error, found.status) == (error, 400)
    assert found.error_description.startswith("why")
    assert len(stage.issuer.forms("/token")) == 2


def test_it_ends_with_the_code(stage: Stage, device: Any) -> None:
    """By the server's time or by ours, whichever is shorter; the last poll is at the very end."""
    for said, ours, polls in ((12, 600.0, 3), (600, 12.0, 3), (5, 600.0, 1), (0, 600.0, 0), (-1, 600.0, 0)):
        stage.steps, before = [], len(stage.issuer.forms("/token"))
        stage.issuer.device["expires_in"] = said
        stage.issuer.faults.clear()
        stage.issuer.fail("/token", *[PENDING] * 9)
        assert fails(stage, device(timeout=ours), ReauthenticationRequired).error == "expired_token"
        assert len(stage.issuer.forms("/token")) - before == polls
        assert sum(stage.slept()) == max(0, min(said, ours))


def test_each_poll_has_time_of_its_own(stage: Stage, device: Any) -> None:
    """Ten minutes of waiting do not use up what the network may take."""
    stage.issuer.fail("/token", *[PENDING] * 100, None)
    obtain(stage, device())
    polls = [step for step in stage.steps if isinstance(step, Fetch) and step.request.method == "POST"]
    assert {step.timeout for step in polls} == {30.0}


def test_other_answers_end_it(stage: Stage, device: Any) -> None:
    """What no waiting can mend is raised at once."""
    tls = httpx.ConnectError("")
    tls.__cause__ = ssl.SSLError()
    for fault, kind in (
        (refused("invalid_client"), TokenRequestError),
        (refused("invalid_grant"), ReauthenticationRequired),
        (ServerResponse(302, {}, b""), ConfigurationError),
        (ServerResponse(407, {}, b""), TokenEndpointUnavailable),
        (ServerResponse(200, {}, b'{"access_token": "a", "token_type": "mac"}'), ConfigurationError),
        (tls, TokenEndpointUnavailable),
    ):
        before = len(stage.issuer.forms("/token"))
        stage.issuer.fail("/token", fault)
        error = fails(stage, device(), kind)
        assert not getattr(error, "retryable", False)
        assert len(stage.issuer.forms("/token")) == before + 1


@pytest.mark.parametrize(
    "said",
    [
        {"verification_uri": "http://auth.example.com/go"}, {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": None}, {"verification_uri": None, "verification_uri_complete": None},
        {"verification_uri": ["https://x"]}, {"verification_uri": "https://"},
        {"verification_uri": "https://auth.example.com@evil.example/go"}, {"verification_uri": "https://x/\x1b[2J"},
        {"verification_uri": "https://x/ y"}, {"verification_uri": "https://\u0430uth.example.com/go"},
        {"verification_uri": "https://x/" + "y" * 3000}, {"verification_uri": "https://[x"}, {"verification_uri": ""},
        {"verification_uri_complete": "http://evil.example/"}, {"verification_uri_complete": ""},
        {"verification_uri_complete": 5}, {"user_code": "AB\x1b[2JCD"}, {"user_code": ""}, {"user_code": None},
        {"user_code": 5}, {"user_code": "A" * 65}, {"device_code": ""}, {"device_code": None}, {"expires_in": None},
        {"expires_in": "soon"},
    ],
)  # fmt: skip
def test_what_is_shown_to_a_person_is_looked_at_first(stage: Stage, device: Any, said: dict[str, Any]) -> None:
    """A hostile server gets nobody to open its page, and writes nothing to a terminal; nobody is asked for anything."""
    stage.issuer.device = said
    error = fails(stage, device(), TokenRequestError)
    assert "\x1b" not in str(error)
    assert stage.prompts == []
    assert stage.issuer.forms("/token") == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:8080/go", "http://localhost/go", "https://x.example/#/device?a=b"])
def test_where_a_person_may_be_sent(stage: Stage, device: Any, uri: str) -> None:
    """https wherever, and loopback."""
    stage.issuer.device = {"verification_uri": uri, "verification_uri_complete": None}
    obtain(stage, device())
    assert (stage.prompts[0].verification_uri, stage.prompts[0].verification_uri_complete) == (uri, None)


def test_the_name_in_the_draft(stage: Stage, device: Any) -> None:
    """Servers of before the RFC say `verification_url`."""

    class Draft(type(stage.issuer)):
        def _answer(self, path: str, form: dict[str, str]) -> Any:
            status, body = super()._answer(path, form)
            if path == "/device":
                body["verification_url"] = body.pop("verification_uri") + "/draft"
            return status, body

    stage.issuer = Draft()
    obtain(stage, device())
    assert stage.prompts[0].verification_uri == f"{ISSUER}/go/draft"


def test_a_prompt_that_cannot_be_shown(stage: Stage, device: Any) -> None:
    """What the callable raised is the cause, and nobody polls for what nobody was told."""

    def broken(_prompt: Any) -> None:
        raise LookupError("SENTINEL")

    error = fails(stage, device(on_prompt=broken), TokenEndpointUnavailable)
    assert isinstance(error.__cause__, LookupError)
    assert "on_prompt raised LookupError" in str(error)
    assert not error.retryable
    assert stage.issuer.forms("/token") == []


def test_a_device_authorization_that_fails(stage: Stage, device: Any) -> None:
    """Nobody has been asked yet: what may pass may be tried again."""
    stage.issuer.fail("/device", NOT_NOW)
    assert fails(stage, device(), TokenEndpointUnavailable).retryable
    stage.issuer.fail("/device", refused("invalid_scope"))
    assert fails(stage, device(), TokenRequestError).error == "invalid_scope"
    assert stage.prompts == []


def test_each_poll_has_a_proof_of_its_own(stage: Stage, device: Any) -> None:
    """RFC 9449 §5: the polls carry proofs, and no two of them the same."""
    stage.issuer.fail("/token", PENDING, PENDING,
                      ServerResponse(200, {}, b'{"access_token": "a", "token_type": "DPoP"}'))  # fmt: skip
    dpop = DPoP()
    minted = stage.play(device().obtain(stage.attempt(dpop=dpop)))
    proofs = [headers["DPoP"] for path, _, headers in stage.issuer.seen if path == "/token"]
    assert len({jwt.decode(one, options={"verify_signature": False})["jti"] for one in proofs}) == 3
    assert minted.token.token_type == "DPoP"
    assert minted.key is not None


def test_nothing_of_a_login_stays_in_the_grant(stage: Stage, code: Any) -> None:
    """While one login is under way, another begins and ends with the same grant: neither has anything of the other."""
    grant = code()
    before = dict(vars(grant))

    def meanwhile(url: str) -> str:
        stage.person = None
        tokens.append(obtain(stage, grant).token)
        return stage.issuer.log_in(url)

    tokens: list[Token] = []
    stage.person = meanwhile
    tokens.append(obtain(stage, grant).token)
    assert len({token.access_token for token in tokens}) == 2
    assert stage.issuer.logins == 2
    assert vars(grant) == before
