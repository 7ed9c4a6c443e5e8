"""`tokenflow doctor` as a person calls it: what it takes, what it sends, what it says, and how it ends."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from doctor.cases_connections import banning
from doctor.rig import TOKEN, Reply, bearer, refusing, run, serve, signed
from doctor.terminal import COMMAND, in_terminal

from httpx_tokenflow.cli._asked import Asked
from httpx_tokenflow.cli._doctor import doctor

SECRET = "hush-51c0e5b7d49f2a0c4"
KEYS = {"causes", "verdict", "healthy", "url", "status", "remarks", "token", "fetched", "exchanges"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "TOKENFLOW_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOKENFLOW_CONFIG", str(tmp_path / "profiles.toml"))


class Counting:
    """A server that keeps what it got."""

    def __init__(self, answer=lambda request: Reply()):
        self.answer = answer
        self.got = []

    def __call__(self, request):
        self.got.append(request)
        return self.answer(request)


def wanting(credential):
    """Accepts this credential alone."""
    return lambda request: Reply() if request.credential == credential else Reply(401, bearer("invalid_token"))


@pytest.fixture
def ask(capsys, monkeypatch):
    """Runs the doctor against a server: what it got, and how the command ended."""

    def asked(answer, *arguments, **more):
        counting = Counting(answer)
        with serve(counting) as origin:
            words = [one.replace("{url}", f"{origin}/v1/things").replace("{origin}", origin) for one in arguments]
            ended = run(["doctor", *words], capsys, monkeypatch, **more)
        return counting.got, ended

    return asked


def basic(text):
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("arguments", "more", "credential"),
    [
        (("{url}", "--token", TOKEN), {}, f"Bearer {TOKEN}"),
        (("{url}", "--token", "-"), {"stdin": f"{TOKEN}\n"}, f"Bearer {TOKEN}"),
        (("{url}",), {"environment": [("TOKENFLOW_TOKEN", TOKEN)]}, f"Bearer {TOKEN}"),
        (("{url}", "-H", f"Authorization: Token {TOKEN}"), {}, f"Token {TOKEN}"),
        (("{url}", "-H", f"authorization:DPoP {TOKEN}"), {"environment": [("TOKENFLOW_TOKEN", "x")]}, f"DPoP {TOKEN}"),
        (("{url}", "--user", f"me:{SECRET}:ü"), {}, basic(f"me:{SECRET}:ü")),
        (("{url}", "-u", "me:"), {}, basic("me:")),
        (("--json", "--", "curl", "{url}", "-H", f"Authorization: Bearer {TOKEN}"), {}, f"Bearer {TOKEN}"),
        (("--", f"curl '{{url}}' \\\n -H 'authorization: Bearer {TOKEN}' --compressed"), {}, f"Bearer {TOKEN}"),
        (("-",), {"stdin": f"curl '{{url}}' \\\n -H 'authorization: Bearer {TOKEN}'\n"}, f"Bearer {TOKEN}"),
        (("--token", TOKEN, "--", "curl", "{url}"), {}, f"Bearer {TOKEN}"),
        (("--", "curl", "-u", f"me:{SECRET}", "{url}"), {}, basic(f"me:{SECRET}")),
    ],
)
def test_a_credential_arrives_as_it_was_given(capsys, monkeypatch, arguments, more, credential):
    """However the credential is given, the API gets exactly that, and accepts it."""
    counting = Counting(wanting(credential))
    with serve(counting) as origin:
        url = f"{origin}/v1/things"
        more = {**more, "stdin": more.get("stdin", "").replace("{url}", url)}
        ended = run(["doctor", *(one.replace("{url}", url) for one in arguments)], capsys, monkeypatch, **more)
    assert ended.status == 0, ended.stdout + ended.stderr
    assert counting.got[0].credential == credential
    assert TOKEN not in ended.stdout
    assert SECRET not in ended.stdout


def test_user_and_password_in_the_url_are_a_credential(capsys, monkeypatch):
    """They go as Basic, percent-decoded, and neither is in the request line nor in the output."""
    counting = Counting(wanting(basic(f"me:{SECRET}@")))
    with serve(counting) as origin:
        url = origin.replace("//", f"//me:{SECRET}%40@") + "/x"
        ended = run(["doctor", url, "--json"], capsys, monkeypatch)
    assert ended.status == 0
    assert counting.got[0].path == "/x"
    assert SECRET not in ended.stdout


def test_cookies_go_along(ask):
    """Several cookies are one field."""
    got, ended = ask(lambda request: Reply(), "{url}", "--cookie", "a=1", "-b", "b=2")
    assert got[0].headers["cookie"] == "a=1; b=2"
    assert ended.status == 0


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        (f'"{TOKEN}"', "quotes"),
        (f"{TOKEN}\n", "line-break"),
        (f"{TOKEN}\r", "line-break"),
        (f"\u200b{TOKEN}", "invisible-character"),
        (f" {TOKEN}", "extra-space"),
    ],
)
def test_nothing_is_cleaned_on_the_way_in(ask, token, cause):
    """Quotes, line breaks, blanks and invisible characters reach the doctor, from a pipe too: they are the cause."""
    for arguments, stdin in ((("--token", token), ""), (("--token", "-"), f"{token}\n")):
        _, ended = ask(wanting(f"Bearer {TOKEN}"), "{url}", "--json", *arguments, stdin=stdin)
        assert ended.status == 1
        assert ended.causes[0]["id"] == cause


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to look at"),
        (("api.example.com/x",), "needs a scheme"),
        (("localhost:8080/x",), "needs a scheme"),
        (("ftp://api.example.com",), "'ftp' is none"),
        (("https:///x",), "no host"),
        (("https://api.example.com:99999/",), "malformed"),
        (("https://[::1/",), "malformed"),
        (("https://api.example.com/\n",), "line break"),
        (("https://api.example.com/", "https://api.example.com/"), "one URL"),
        (("{url}", "-H", SECRET), "header 1 has no colon"),
        (("{url}", "-H", "a: b", "-H", SECRET), "header 2 has no colon"),
        (("{url}", "-H", f"a b: {SECRET}"), "no header can have"),
        (("{url}", "-H", f"X-Trace: {SECRET}\nX-More: 1"), "control character"),
        (("{url}", "--token", SECRET, "-H", f"Authorization: Bearer {SECRET}"), "two credentials"),
        (("{url}", "--user", f"me:{SECRET}", "-H", f"Authorization: Bearer {SECRET}"), "two credentials"),
        (("{url}", "--user", "me"), "needs a password"),
        (("{url}", "-X", "GE T"), "method must be a word"),
        (("{url}", "--token", "-"), "empty"),
        (("-", "--token", "-"), "one thing only"),
        (("{url}", "--origin", "app.example.com"), "needs a scheme"),
        (("{url}", "--origin", "https://app.example.com/page"), "is a scheme, a host"),
        (("{url}", "--issuer", "issuer.example"), "--issuer needs a scheme"),
        (("{url}", "--jwks-uri", f"https://me:{SECRET}@issuer.example/keys"), "leave it out"),
        (("{url}", "--cacert", "/no/such/file"), "cannot be read"),
        (("{url}", "--profile", "nobody"), "no profile"),
        (("{url}", "--token-endpoint", "{origin}/token"), "needs --client-id"),
        (("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me"), "--client-secret-env"),
        (("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me", "--grant", "magic"), "--grant is one of"),
        (("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me", "--grant", "refresh_token"), "needs one"),
        (("{url}", "--token-endpoint", "{origin}/t", "--client-id", "me", "--grant", "authorization_code"), "--code"),
        (
            ("{url}", "--token-endpoint", "http://api.example.com/t", "--client-id", "me", "--client-secret", SECRET),
            "http",
        ),
        (("{url}", "--client-secret-env", "NO_SUCH_VARIABLE"), "not set"),
        (("{url}", "--introspection-endpoint", "{origin}/i", "--client-id", "me"), "needs the client's secret"),
        (("{url}", "--introspection-endpoint", "http://issuer.example/i", "--token", SECRET), "must be https"),
        (("{url}", "--introspection-endpoint", "http://issuer.example/i", "--dry-run"), "must be https"),
        (
            (
                "{url}",
                "--token-endpoint",
                "http://issuer.example/t",
                "--client-id",
                "me",
                "--dry-run",
                "--client-secret",
                "x",
            ),
            "must be https",
        ),
        (("{url}", "--client-secret-env", SECRET), "the environment variable is not set"),
        (("{url}", "--refresh-token-env", SECRET, "--token-endpoint", "{url}", "--client-id", "x"), "is not set"),
        (("{url}", "--profile", SECRET), "no profile of that name"),
        (("{url}", "--profile", f"-{SECRET}"), "no profile of that name"),
        (("--", "curl", "{url}", f"--{SECRET}"), "does not know: one;"),
        (("--", "curl", "{url}", f"--{SECRET}=x"), "does not know: one;"),
        (("--", "curl", "{url}", f"--no-{SECRET}"), "does not know: one;"),
        (("--", "curl", "-d", "a=1", "{url}"), "the doctor only reads"),
        (("--", "curl", "{url}", "--frob"), "--frob"),
        (("--", "curl", "{url}", "-H", f"X: {SECRET}\x1b[31m"), "control character"),
    ],
)
def test_what_cannot_be_understood_ends_with_2(ask, arguments, says):
    """It is one sentence on standard error that quotes no value; nothing was sent, and standard output is empty."""
    got, ended = ask(lambda request: Reply(), *arguments)
    assert ended.status == 2
    assert ended.stdout == ""
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert SECRET not in ended.stderr
    assert got == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_changes_something_is_sent_when_it_is_said_so(ask, method):
    """A pasted POST is not sent, unless --method names it; and then without its body."""
    pasted = ("--", "curl", "-X", method, "-d", SECRET, "-H", "Content-Length: 22", "{url}")
    got, ended = ask(refusing(), "--json", *pasted)
    assert (got, ended.status) == ([], 2)
    assert f"this is a {method}" in ended.stderr
    got, ended = ask(refusing(), "--json", "--method", method, *pasted)
    assert (got[0].method, got[0].body) == (method, b"")
    assert {one.method for one in got[1:]} <= {"GET", "OPTIONS"}
    assert "its body is not sent" in json.loads(ended.stdout)["remarks"]
    got, ended = ask(refusing(), "--json", "--method", "GET", *pasted)
    assert {one.method for one in got} <= {"GET", "OPTIONS"}


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--origin", "https://app.example.com"),
        ("--issuer", "{origin}", "--introspection-endpoint", "{origin}/introspect"),
        ("--json",),
    ],
)
def test_a_dry_run_sends_nothing(ask, more):
    """It lists each probe with method, URL, condition, with or without credential, and the server gets nothing."""
    got, ended = ask(lambda request: Reply(), "{url}?key=" + SECRET, "--token", TOKEN, "--dry-run", *more)
    assert (got, ended.status) == ([], 0)
    assert "GET" in ended.stdout
    assert "/v1/things?key=…" in ended.stdout or r"/v1/things?key=\u2026" in ended.stdout
    assert SECRET not in ended.stdout
    assert TOKEN not in ended.stdout
    if "--json" in more:
        probes = json.loads(ended.stdout)["probes"]
        assert [probe["credential"] for probe in probes][:1] == [True]
        assert {"role", "why", "when", "method", "url", "credential"} == set(probes[0])
    else:
        assert "Nothing was sent" in ended.stdout
        assert "OPTIONS" in ended.stdout or "--origin" not in more
        assert "/introspect" in ended.stdout or "--issuer" not in more


def test_a_dry_run_fetches_no_token(ask):
    """The token request is listed first, and not sent."""
    more = ("--token-endpoint", "{origin}/token", "--client-id", "me", "--client-secret", SECRET)
    got, ended = ask(lambda request: Reply(), "{url}", *more, "--dry-run")
    assert (got, ended.status) == ([], 0)
    assert "/token" in ended.stdout
    assert "client_credentials" in ended.stdout
    assert SECRET not in ended.stdout


def test_json_has_what_help_says(ask):
    """The keys are those of the docstring, types are plain, and neither query values nor header values are in it."""
    token = signed(exp=time.time() - 3600, scope="read")
    refuse = refusing("invalid_token", "expired")
    _, ended = ask(refuse, "{url}?n=7&page=" + SECRET, "--token", token, "-H", f"X-Trace: {SECRET}", "--json")
    data = json.loads(ended.stdout)
    assert data.keys() == KEYS
    assert (data["healthy"], data["status"]) == (False, 401)
    assert data["verdict"] == f"Certain: {data['causes'][0]['summary']}"
    assert data["token"]["kind"] == "jwt"
    assert data["token"]["claims"]["scope"] == "read"
    assert data["token"]["shown"].startswith("sha256:")
    first, second = data["exchanges"][:2]
    assert first["url"].endswith("/v1/things?n=…&page=…")
    assert data["url"] == first["url"]
    assert (first["credential"], first["status"], second["credential"]) == (True, 401, False)
    assert first["challenges"] == ['Bearer realm="api", error="invalid_token", error_description="expired"']
    for hidden in (SECRET, token, token.rpartition(".")[2]):
        assert hidden not in ended.stdout
    assert all(f'"{key}"' in (doctor.__doc__ or "") for key in KEYS | first.keys())


def test_health_is_one_line(ask):
    """An accepted request is said to be, in the first line, with status 0; and that its token ends soon is remarked."""
    token = signed(exp=time.time() + 125)
    _, ended = ask(wanting(f"Bearer {token}"), "{url}", "--token", token)
    assert ended.status == 0
    assert ended.stdout.startswith("Healthy: GET http://127.0.0.1:")
    assert ended.stdout.split("\n")[0].endswith("/v1/things was accepted (200)")
    assert "the token ends in 2 min" in ended.stdout
    assert not any(line != line.rstrip() for line in ended.stdout.split("\n"))


def test_health_without_a_credential_proves_nothing(ask):
    """Where the URL is accepted without the credential as well, that is remarked."""
    _, ended = ask(lambda request: Reply(), "{url}", "--token", TOKEN)
    assert ended.status == 0
    assert "without the credential it is accepted as well" in " ".join(ended.stdout.split())


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (Reply(503), 2, "Could not look: GET"),
        (Reply(429), 2, "which says nothing about a credential"),
        (Reply(404), 0, "Not refused: GET"),
    ],
)
def test_what_says_nothing_of_a_credential(ask, answer, status, says):
    """A server that fails or wants patience is no diagnosis; a 404 is no refusal."""
    credential = f"Bearer {TOKEN}"
    _, ended = ask(
        lambda request: answer if request.credential == credential else Reply(401), "{url}", "--token", TOKEN
    )
    assert ended.status == status
    assert says in ended.stdout.split("\n")[0]


def test_no_answer_is_no_diagnosis(capsys, monkeypatch):
    """Where nobody listens, the first line says so, and the status is 2."""
    with serve(lambda request: Reply()) as origin:
        pass
    ended = run(["doctor", f"{origin}/x", "--token", TOKEN], capsys, monkeypatch)
    assert ended.stdout.startswith("Could not look: no answer")
    assert ended.status == 2


def test_a_refusal_without_a_known_cause_says_what_was_tried(capsys, monkeypatch):
    """It is status 1: the request was refused; the server's words and all probes are told."""
    monkeypatch.setattr("httpx_tokenflow.doctor.causes.CAUSES", ())
    with serve(refusing("", "", body={"message": "computer says no"})) as origin:
        ended = run(["doctor", f"{origin}/x", "--token", TOKEN], capsys, monkeypatch)
    assert ended.status == 1
    assert ended.stdout.startswith("No cause found that the doctor knows: GET http")
    assert "computer says no" in ended.stdout
    assert ended.stdout.count("with the credential") >= 1


def token_server(answer, accepted="fetched-9c1e5b7d49f2"):
    """A token endpoint beside an API that accepts what it issues."""

    def both(request):
        if request.path == "/token":
            return answer(request)
        return Reply() if request.credential == f"Bearer {accepted}" else Reply(401, bearer())

    return both


CALLBACK = "https%3A%2F%2Fapp.example.com%2Fcb"
ISSUED = {"access_token": "fetched-9c1e5b7d49f2", "token_type": "Bearer", "expires_in": 60, "refresh_token": SECRET}


@pytest.mark.parametrize(
    ("arguments", "more", "form"),
    [
        (("--client-secret-env", "THE_SECRET", "--scope", "read"), {"environment": [("THE_SECRET", SECRET)]},
         "grant_type=client_credentials&scope=read"),
        (("--client-secret", "-", "--resource", "https://a.example", "--resource", "https://b.example"),
         {"stdin": f"{SECRET}\n"},
         "grant_type=client_credentials&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example"),
        (("--grant", "refresh_token", "--refresh-token-env", "THE_TOKEN"), {"environment": [("THE_TOKEN", SECRET)]},
         f"grant_type=refresh_token&refresh_token={SECRET}&client_id=me"),
        (("--grant", "authorization_code", "--code", SECRET, "--code-verifier", f"{SECRET}2", "--redirect-uri",
          "https://app.example.com/cb"), {},
         f"grant_type=authorization_code&code={SECRET}&redirect_uri={CALLBACK}&code_verifier={SECRET}2&client_id=me"),
    ],
)  # fmt: skip
def test_a_token_is_fetched_first(ask, arguments, more, form):
    """It is one request of our own grant's kind; its token is presented, and no secret of either is told."""
    server = token_server(lambda request: Reply(body=ISSUED))
    endpoint = ("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me")
    for shown in ((), ("--json",)):
        got, ended = ask(server, *endpoint, *arguments, *shown, **more)
        assert ended.status == 0, ended.stdout + ended.stderr
        assert [request.path for request in got].count("/token") == 1
        assert got[0].body.decode() == form
        for hidden in (SECRET, "fetched-9c1e5b7d49f2", base64.b64encode(f"me:{SECRET}".encode()).decode()):
            assert hidden not in ended.stdout + ended.stderr


def test_what_was_given_as_a_secret_is_not_echoed(ask):
    """An API that quotes the client's secret, or a value of the URL's query, has it taken out of what it says."""
    value = "q-7d49f2a0c48f3a6c1e5b"

    def echoing(request):
        if request.path == "/token":
            return Reply(body=ISSUED)
        return Reply(401, bearer("invalid_token", f"expired: {SECRET} {value}"), body={"message": f"{SECRET} {value}"})

    endpoint = ("--token-endpoint", "{origin}/token", "--client-id", "me", "--client-secret", SECRET)
    for more in ((), ("--json",)):
        _, ended = ask(echoing, "{url}?page=" + value, *endpoint, *more)
        assert "expired: *** ***" in " ".join(ended.stdout.split())
        assert SECRET not in ended.stdout
        assert value not in ended.stdout


@pytest.mark.parametrize(
    ("reply", "status"),
    [(Reply(401, body={"error": "invalid_client", "error_description": f"bad {SECRET}"}), 1), (Reply(503), (1, 2))],
)
def test_a_refused_token_request_is_the_diagnosis(ask, reply, status):
    """The API is not asked at all, the token endpoint is named, and its echo of the secret is not told."""
    arguments = ("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me", "--client-secret", SECRET)
    got, ended = ask(token_server(lambda request: reply), *arguments)
    assert {request.path for request in got} == {"/token"}
    assert ended.status in (status if isinstance(status, tuple) else (status,))
    assert "no token from" in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr


def test_a_token_endpoint_that_hangs_keeps_nobody(ask):
    """The token request ends with --timeout."""
    began = time.monotonic()
    arguments = ("{url}", "--token-endpoint", "{origin}/token", "--client-id", "me", "--client-secret", SECRET)
    hang = token_server(lambda request: time.sleep(3) or Reply())
    _, ended = ask(hang, *arguments, "--timeout", "0.3")
    assert ended.status in {1, 2}
    assert time.monotonic() - began < 20


PROFILE = """
[profiles.work]
grant = "client_credentials"
token_endpoint = "{origin}/token"
client_id = "me"
client_secret_env = "THE_SECRET"
scope = "openid read"
audience = "https://api.example"
store = "file"
"""


@contextmanager
def profiled(tmp_path, monkeypatch, answer):
    counting = Counting(answer)
    monkeypatch.setenv("THE_SECRET", SECRET)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with serve(counting) as origin:
        (tmp_path / "profiles.toml").write_text(PROFILE.replace("{origin}", origin))
        yield counting, origin


def test_a_profile_has_the_token_and_says_what_to_expect(tmp_path, monkeypatch, capsys):
    """Its token is presented; and against a token of another audience its own is what was expected."""
    with profiled(tmp_path, monkeypatch, token_server(lambda request: Reply(body=ISSUED))) as (counting, origin):
        ended = run(["doctor", f"{origin}/x", "--profile", "work"], capsys, monkeypatch)
        assert ended.status == 0, ended.stdout + ended.stderr
        assert "the profile work" in ended.stdout
        assert counting.got[1].credential == f"Bearer {ISSUED['access_token']}"
        token = signed(aud="https://other.example", scope="read")
        other = run(["doctor", f"{origin}/x", "--profile", "work", "--token", token, "--json"], capsys, monkeypatch)
    assert [cause["id"] for cause in other.causes][:1] == ["wrong-audience"]
    assert "https://api.example" in other.causes[0]["summary"] + "".join(other.causes[0]["evidence"])
    assert sum(request.path == "/token" for request in counting.got) == 1


def test_a_dry_run_renews_no_profile(tmp_path, monkeypatch, capsys):
    """With --profile and --dry-run nobody is asked for a token."""
    with profiled(tmp_path, monkeypatch, lambda request: Reply()) as (counting, origin):
        ended = run(["doctor", f"{origin}/x", "--profile", "work", "--dry-run"], capsys, monkeypatch)
    assert (counting.got, ended.status) == ([], 0)
    assert "the profile work" in ended.stdout


def test_the_client_is_known_at_the_introspection_endpoint(ask):
    """The client's id and secret go there as Basic, form-encoded first, and the token in the body; neither is told."""

    def both(request):
        if request.path == "/introspect":
            return Reply(body={"active": False})
        return Reply(401, bearer("invalid_token"))

    arguments = (
        "--introspection-endpoint",
        "{origin}/introspect",
        "--client-id",
        "a b",
        "--client-secret",
        f"{SECRET}:%",
    )
    got, ended = ask(both, "{url}", "--token", TOKEN, *arguments)
    asked = next(request for request in got if request.path == "/introspect")
    assert asked.credential == basic(f"a+b:{SECRET}%3A%25")
    assert f"token={TOKEN}" in asked.body.decode()
    assert TOKEN not in ended.stdout
    assert SECRET not in ended.stdout


def test_a_page_that_a_browser_sent_it_from_is_in_what_was_pasted():
    """A pasted Origin of another site is the page's; the URL's own is none."""
    fields = (("Origin", "https://app.example.com"),)
    assert Asked(url="https://api.example.com/x", fields=fields).origin == "https://app.example.com"
    assert Asked(url="https://app.example.com/x", fields=fields).origin is None


def test_an_environment_variable_is_told_of_and_gives_way(ask):
    """That the token is from TOKENFLOW_TOKEN is remarked; a key that is given goes before it."""
    environment = [("TOKENFLOW_TOKEN", TOKEN)]
    got, ended = ask(lambda request: Reply(), "{url}", environment=environment)
    assert got[0].credential == f"Bearer {TOKEN}"
    assert "the token is the one in TOKENFLOW_TOKEN" in ended.stdout
    got, _ = ask(lambda request: Reply(), "{url}", "-H", "X-API-Key: abc", environment=environment)
    assert got[0].credential is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--", "curl", "{url}"),
        ("--", "curl '{url}' -H 'accept: */*'"),
        ("{url}", "-H", "AccessKey: abc"),
        ("{url}", "-H", "X-Session-Id: abc"),
        ("{url}", "-H", "X-Tenant: 8f3a6c1e5b7d49f2a0c4"),
        ("{url}?sessionid=abc",),
        ("{url}?t=8f3a6c1e5b7d49f2a0c4",),
    ],
)
def test_the_token_of_the_environment_goes_nowhere_unasked(ask, arguments):
    """Beside a pasted command line, or what is or may be a credential, it stays here."""
    got, ended = ask(lambda request: Reply(), "--json", *arguments, environment=[("TOKENFLOW_TOKEN", SECRET)])
    assert {request.credential for request in got} == {None}
    assert SECRET not in ended.stdout + ended.stderr


@pytest.mark.parametrize("arguments", [("--", "curl", "{url}"), ("{url}", "-H", "X-Tenant: 8f3a6c1e5b7d49f2a0c4")])
def test_it_is_said_that_the_token_of_the_environment_stays(ask, arguments):
    """Where nothing else is known as a credential, the first remark says so, and how to send it."""
    _, ended = ask(lambda request: Reply(), "--json", *arguments, environment=[("TOKENFLOW_TOKEN", SECRET)])
    assert json.loads(ended.stdout)["remarks"][0].startswith("TOKENFLOW_TOKEN is not sent")


@pytest.mark.parametrize(
    "more",
    [(), ("-H", "Accept: application/json"), ("-H", "X-Request-Id: 8f3a6c1e5b7d49f2a0c4"), ("-H", "X-Tenant: a")],
)
def test_the_token_of_the_environment_is_for_a_url(ask, more):
    """What is no credential keeps it from nothing; a plan says where the token would come from, and reads it not."""
    environment = [("TOKENFLOW_TOKEN", SECRET)]
    got, _ = ask(lambda request: Reply(), "{url}?page=2", *more, environment=environment)
    assert got[0].credential == f"Bearer {SECRET}"
    got, ended = ask(lambda request: Reply(), "{url}?page=2", *more, "--dry-run", environment=environment)
    assert got == []
    assert "the token is read from TOKENFLOW_TOKEN" in ended.stdout


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_profile_s_token_stays_with_its_resource(tmp_path, monkeypatch, capsys, more):
    """Where the profile says what API it is for, another gets its token only by --token, and the message says how."""
    with profiled(tmp_path, monkeypatch, token_server(lambda request: Reply(body=ISSUED))) as (counting, origin):
        file = tmp_path / "profiles.toml"
        plain = file.read_text()
        file.write_text(plain + 'resource = "https://api.example/v1"\n')
        ended = run(["doctor", f"{origin}/x", "--profile", "work", *more], capsys, monkeypatch)
        assert (ended.status, ended.stdout, counting.got) == (2, "", [])
        assert '--token "$(tokenflow token --profile work' in ended.stderr
        ended = run(["doctor", f"{origin}/x", "--profile", "work", "--token", TOKEN, *more], capsys, monkeypatch)
        assert ended.status != 2
        file.write_text(plain + f'resource = ["urn:api", "{origin}/"]\n')
        ended = run(["doctor", f"{origin}/x", "--profile", "work", *more], capsys, monkeypatch)
        assert ended.status != 2, ended.stderr


@pytest.mark.parametrize("pair", ["Content-Length: 5", "Transfer-Encoding: chunked", "TE: trailers", "Upgrade: h2c"])
def test_what_belongs_to_a_connection_is_not_sent(ask, pair):
    """Also as an option: it would promise a body that does not come; and a remark says so."""
    name = pair.partition(":")[0]
    got, ended = ask(refusing(), "{url}", "--token", TOKEN, "-H", pair, "--json")
    assert [request.headers.get(name.lower()) for request in got] == [None] * len(got) != []
    assert name in json.loads(ended.stdout)["remarks"][0]


@pytest.mark.parametrize(("more", "status", "answer"), [("--json", 0, lambda _request: Reply()), ("", 1, refusing())])
def test_a_closed_output_leaves_the_exit_status(more, status, answer):
    """Where the shell has closed standard output, nothing is told, and the status says whether all is well."""
    with serve(answer) as origin:
        ended = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" doctor "$1" --token "$2" {more} >&-', str(COMMAND), origin, TOKEN],
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (ended.returncode, ended.stderr) == (status, b"")


def test_a_ban_by_our_own_probe_is_remarked(ask):
    """A server that shuts out who was refused once is no cause, and it is said what has happened."""
    _, ended = ask(banning(403)(), "{url}", "--token", TOKEN, "--json")
    found = json.loads(ended.stdout)
    assert (ended.status, found["causes"]) == (0, [])
    assert any("block or slow down who" in remark for remark in found["remarks"])
    _, ended = ask(lambda request: Reply() if request.credential else Reply(401), "{url}", "--token", TOKEN, "--json")
    assert json.loads(ended.stdout)["remarks"] == []


HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b31m[bold red]x[/] [link=http://evil.example]y[/link] \u202e\u2066\r\x08"


def hostile(request):
    words = HOSTILE.replace("\r", "").replace("\x08", "").replace("\x07", "")
    safe = "".join(char for char in words if 32 <= ord(char) < 256 or char == "\t")
    return Reply(
        401,
        (
            ("WWW-Authenticate", f'Bearer realm="{safe}", error="invalid_token", error_description="{safe}"'),
            ("Set-Cookie", f"sid={SECRET}"),
            ("Server", safe),
        ),
        body={"message": HOSTILE, "error": HOSTILE},
    )


def test_a_terminal_obeys_no_server():
    """Escape sequences and markup of a server, a token and a URL are shown as text: only our colours are obeyed."""
    token = signed(scope=HOSTILE, iss=f"https://issuer.example/{HOSTILE}", **{HOSTILE: HOSTILE})
    with serve(hostile) as origin:
        screen = in_terminal("doctor", f"{origin}/x?a=%1b[31m", "--token", token, "--issuer", origin)
    assert screen.status == 1
    assert "[bold red]x[/]" in screen.text
    assert not {char for char in screen.text if not char.isprintable()} - {"\n"}
    assert SECRET not in screen.text


def test_in_a_terminal_the_verdict_is_first():
    """In 80 columns, with colours; wrapped, it is still the summary of --json."""
    with serve(refusing("invalid_token", "The token expired")) as origin:
        command = ("doctor", f"{origin}/v1/things", "--token", signed(exp=time.time() - 7200))
        screen = in_terminal(*command)
        plain = in_terminal(*command, environment={"NO_COLOR": "1", "TERM": "dumb"})
    assert screen.status == 1
    assert screen.raw.startswith("\x1b[1;31m")
    assert screen.verdict.startswith("Certain: the token expired 2 h")
    assert max(map(len, screen.text.split("\n"))) <= 80
    assert "\x1b" not in plain.raw
    assert [line for line in ("because", "do", "see", "The token", "What was sent") if line not in screen.text] == []


def test_a_question_is_asked_in_a_terminal():
    """A user without a password is asked for it, and it is not echoed."""
    with serve(wanting(basic(f"me:{SECRET}"))) as origin:
        screen = in_terminal("doctor", f"{origin}/x", "--user", "me", typed=("Password of me: ", f"{SECRET}\n"))
    assert "Password of me" in screen.text
    assert screen.status == 0, screen.text


def test_an_interrupt_is_no_traceback():
    """After Ctrl-C there is one line, and status 130."""
    over = threading.Event()
    counting = Counting(lambda request: over.wait(30) and Reply())
    with serve(counting) as origin:
        screen = in_terminal("doctor", f"{origin}/x", "--timeout", "60", interrupt_when=lambda: counting.got)
        over.set()
    assert screen.status == 130
    assert "Traceback" not in screen.text


def test_a_pipe_that_is_closed_says_nothing():
    """Whoever reads the first line only gets it, and no complaint."""
    with serve(refusing()) as origin:
        command = [str(COMMAND), "doctor", f"{origin}/x", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        said = process.stderr.read().decode()
        process.stderr.close()
        status = process.wait(60)
    assert said == ""
    assert status == 1


def test_what_is_not_needed_is_not_loaded():
    """Neither cryptography nor a store, nor the demo's server, is loaded for a run without keys to read."""
    code = (
        "import sys; sys.argv = ['tokenflow', 'doctor', 'http://127.0.0.1:9/', '--token', 'abcdefgh']\n"
        "from httpx_tokenflow.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in eval(done.stderr.strip().split("\n")[-1])}
    assert not loaded & {"cryptography", "jwt", "keyring", "redis", "uvicorn", "httpx2", "tomlkit"}
