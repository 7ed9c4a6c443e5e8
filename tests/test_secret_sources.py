"""Secrets from where they live, and the refusal of those that belong elsewhere."""

from __future__ import annotations

import os
import re
import time
import traceback
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    ConfigurationError,
    InvalidCredential,
    RenewalPolicy,
    TokenAuth,
    TokenFlowError,
)
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._entries import Entry, Minted
from httpx_tokenflow._grants import SessionLogin
from httpx_tokenflow._grants._callable import AskProgram
from httpx_tokenflow._lifecycle import life_of
from httpx_tokenflow._secrets import EnvSecret, FileSecret, expectation
from httpx_tokenflow._times import SYSTEM_CLOCK
from httpx_tokenflow._tokens import MAX_LIFETIME
from httpx_tokenflow.testing import Sandbox, serve

KEY = "SENTINEL-key-for-tests-of-32-bytes!!"


# ── from the environment ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_variable_is_looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set while the program runs counts from then on, to the letter."""
    secret = EnvSecret("TOKENFLOW_SECRET")
    for value in ("one", " two "):
        monkeypatch.setenv("TOKENFLOW_SECRET", value)
        assert secret() == value


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_there(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """The error names the variable, and says whether it is empty."""
    monkeypatch.delenv("TOKENFLOW_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("TOKENFLOW_SECRET", value)
    with pytest.raises(ConfigurationError, match=f"TOKENFLOW_SECRET is {'not set' if value is None else 'empty'}"):
        EnvSecret("TOKENFLOW_SECRET")()


@pytest.mark.parametrize("name", ["", None, "A=b", "a\0b", 5])
def test_a_name_that_no_variable_can_have(name: Any) -> None:
    """It is refused at once."""
    with pytest.raises(ConfigurationError, match="environment variable"):
        EnvSecret(name)


# ── from a file ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("SENTINEL\n")
    return path


def test_a_file_without_the_white_space_around(file: Path) -> None:
    """A newline at the end, and a byte order mark, are none of the secret; what is inside is."""
    for content in (b"SENTINEL", b"SENTINEL\r\n", b"\n SENTINEL \n\n", b"\xef\xbb\xbfSENTINEL\n"):
        file.write_bytes(content)
        assert FileSecret(file)() == FileSecret(str(file))() == "SENTINEL"
    file.write_text("two words\n")
    assert FileSecret(file)() == "two words"


def test_a_file_that_changes_is_read_again(file: Path) -> None:
    """Even where neither its size nor its times tell: written in place, or exchanged."""
    secret = FileSecret(file)
    before = file.stat()
    for content in ("first", "other"):
        file.write_text(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert secret() == content


def test_kubernetes_exchanges_a_link(tmp_path: Path) -> None:
    """A mounted secret is a link to a directory that is exchanged as a whole."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(version)
    data = tmp_path / "..data"
    data.symlink_to("one")
    (tmp_path / "token").symlink_to("..data/token")
    secret = FileSecret(tmp_path / "token")
    assert secret() == "one"
    other = tmp_path / "..new"
    other.symlink_to("two")
    other.rename(data)
    assert secret() == "two"


def test_a_relative_path_stays_where_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that goes elsewhere (a daemon does) still finds its secret."""
    monkeypatch.chdir(file.parent)
    secret = FileSecret(file.name)
    monkeypatch.chdir("/")
    assert secret() == "SENTINEL"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "no regular file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"SENTINEL\xff", "not UTF-8"),
        ("SENTINEL".encode("utf-16"), "not UTF-8"),
        (b"SENTINEL" * 10_000, "65536 bytes"),
    ],
)
def test_a_file_that_holds_no_secret(file: Path, content: bytes | None, match: str) -> None:
    """The error names the file and shows nothing of it, not even in its cause."""
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=match) as caught:
        FileSecret(file)()
    assert str(file) in str(caught.value)
    assert "SENTINEL" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def test_a_pipe_is_not_waited_for(file: Path) -> None:
    """To open one would stop the program until somebody writes."""
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ConfigurationError, match="no regular file"):
        FileSecret(file)()


def test_a_directory_is_none_either(tmp_path: Path) -> None:
    """The usual mistake with a mounted secret."""
    with pytest.raises(ConfigurationError, match="no regular file"):
        FileSecret(tmp_path)()


def test_a_file_that_may_not_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says is in the error."""

    def refuse(*_args: object, **_options: object) -> Any:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        FileSecret(file)()


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("", {}),
        (None, {}),
        (b"/run/secret", {}),
        (5, {}),
        *(("x", {"max_age": age}) for age in (0, -1, True, "60", None, float("nan"), float("inf"))),
    ],
)
def test_arguments_that_cannot_be(path: Any, options: dict[str, Any]) -> None:
    """They are refused at once."""
    with pytest.raises(ConfigurationError):
        FileSecret(path, **options)


def test_reprs_show_the_place(file: Path) -> None:
    """And nothing of what is there."""
    assert repr(EnvSecret("HOME")) == "EnvSecret('HOME')"
    secret = FileSecret(file)
    secret()
    assert repr(secret) == f"FileSecret({str(file)!r})"
    assert repr(FileSecret(PurePosixPath("/run/x"))) == "FileSecret('/run/x')"


# ── where a callable is taken ──────────────────────────────────────────────────────────────────────────────────────


def brought(function: Any) -> Minted:
    flow = AskProgram(function, "token").obtain(Attempt(None, SYSTEM_CLOCK.monotonic() + 1.0, SYSTEM_CLOCK))
    step = next(flow)
    with pytest.raises(StopIteration) as end:
        flow.send(step.function())  # type: ignore[union-attr]
    minted: Minted = end.value.value
    return minted


class Aged:
    """A callable that says for how long its answer is good."""

    def __init__(self, max_age: Any) -> None:
        self.max_age = max_age
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return "token"


@pytest.mark.parametrize(
    ("max_age", "lifetime"),
    [(60.0, 60.0), (5, 5.0), (1e300, MAX_LIFETIME), *((bad, MAX_LIFETIME) for bad in (0, -1, None, "60", True, Aged))],
)
def test_for_how_long_a_callable_is_believed(max_age: Any, lifetime: float) -> None:
    """As long as it says; if it says nothing that makes sense, until it is refused."""
    assert brought(Aged(max_age)).lifetime == lifetime
    assert brought(lambda: "token").lifetime == MAX_LIFETIME


def test_a_file_is_looked_at_aside_before_its_time_is_over() -> None:
    """With the default of a minute, requests after 45 s have it read aside, and none waits before 48 s."""
    life = life_of(Entry(brought(Aged(60.0)).token, 0.0, 60.0), RenewalPolicy(jitter=0.0), 0.0)
    assert (life.early, life.due, life.end) == (45.0, 48.0, 60.0)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_requests_within_that_time_do_not_look(library: Any) -> None:
    """A thousand requests cost one look; nothing else is on their path."""
    secret = Aged(60.0)
    transport = library.MockTransport(lambda _request: library.Response(200))
    with library.Client(transport=transport, auth=BearerAuth(secret), base_url="https://a.example") as client:
        for _ in range(1000):
            client.get("/")
    assert secret.asked == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_bearer_token_from_a_file(file: Path, library: Any) -> None:
    """It is exchanged while the program runs: seen when it is refused, and when its time is over, without any 401."""
    good, seen = {"one"}, []

    def api(request: Any) -> Any:
        seen.append(request.headers["authorization"].removeprefix("Bearer "))
        return library.Response(200 if seen[-1] in good else 401)

    file.write_text("one\n")
    auth = BearerAuth(FileSecret(file, max_age=0.5))
    with library.Client(transport=library.MockTransport(api), auth=auth, base_url="https://a.example") as client:
        assert client.get("/").status_code == 200
        file.write_text("two\n")
        good.add("two")
        assert client.get("/").status_code == 200
        assert seen == ["one", "one"], "the time of the first is not over"
        time.sleep(0.6)
        assert client.get("/").status_code == 200
        assert seen[-1] == "two"
        file.write_text("three\n")
        good -= {"one", "two"}
        good.add("three")
        assert client.get("/").status_code == 200
        assert seen[-2:] == ["two", "three"]
        time.sleep(0.6)
        assert client.get("/").status_code == 200, "an unchanged file changes nothing"
        file.unlink()
        time.sleep(0.6)
        with pytest.raises(ConfigurationError, match="no regular file"):
            client.get("/")
    assert "three" not in repr(auth)


def test_everywhere_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client's secret, an API key, and a password."""
    monkeypatch.setenv("TOKENFLOW_SECRET", "SENTINEL")
    sandbox = Sandbox(clients={"client": "SENTINEL"}, accounts={"ann": "SENTINEL"})
    sandbox.api_keys.add("SENTINEL")
    with serve(sandbox) as base:
        for secret in (EnvSecret("TOKENFLOW_SECRET"), FileSecret(file)):
            credentials = {"username": "ann", "password": secret}
            for path, auth in (
                ("/api/x", TokenAuth(ClientCredentials(f"{base}/token", client_id="client", client_secret=secret))),
                ("/api/x", TokenAuth(SessionLogin(f"{base}/session/login", credentials=credentials))),
                ("/api-key/x", APIKeyAuth(secret)),
            ):
                with httpx.Client(base_url=base, auth=auth) as client:
                    assert client.get(path).status_code == 200


# ── what is expected ───────────────────────────────────────────────────────────────────────────────────────────────


def token(**claims: Any) -> str:
    return jwt.encode({"iss": "https://prod.example.com", "aud": "api", **claims}, KEY)


@pytest.mark.parametrize(
    ("expect", "credential"),
    [
        (None, "anything"),
        ("sk_live_", "sk_live_1"),
        ({"iss": "https://prod.example.com"}, token()),
        ({"iss": "https://prod.example.com", "aud": "api"}, token(exp=1)),
        ({"aud": "api"}, token(aud=["other", "api"])),
        ({"iss": ["https://other.example.com", "https://prod.example.com"]}, token()),
        ({"aud": ("x", "api")}, token(aud=["api", "y"])),
        ({"tenant": 7, "admin": False}, token(tenant=7, admin=False)),
        ({"realm": None}, token(realm=None)),
        (re.compile("sk_(live|prod)_").match, "sk_prod_1"),
    ],
)
def test_what_is_as_expected_passes(expect: Any, credential: str) -> None:
    """A prefix, claims however an audience is written, alternatives, a predicate; an expiry is nobody's business."""
    assert expectation(expect)(credential) is None


@pytest.mark.parametrize(
    ("expect", "credential", "says"),
    [
        ("sk_live_", "sk_test_SENTINEL", "sk_live_"),
        ("sk_live_", "", "sk_live_"),
        ("sk_live_", "Sk_live_SENTINEL", "sk_live_"),
        ({"iss": "https://prod.example.com"}, token(iss="SENTINEL"), "iss = 'https://prod.example.com'"),
        ({"iss": "https://prod.example.com", "aud": "x"}, token(), "differs in aud"),
        ({"iss": "https://prod.example.com/"}, token(), "differs in iss"),
        ({"tenant": "x"}, token(), "differs in tenant"),
        ({"tenant": None}, token(), "differs in tenant"),
        ({"tenant": 1}, token(tenant=True), "differs in tenant"),
        ({"tenant": "1"}, token(tenant=1), "differs in tenant"),
        ({"aud": "x"}, token(aud=[]), "differs in aud"),
        ({"iss": "x"}, "SENTINEL", "opaque"),
        ({"iss": "x"}, "SENTINEL.e30.x", "opaque"),
        ({"iss": "x"}, "", "opaque"),
        (lambda _credential: False, "SENTINEL", "predicate"),
        (int, "SENTINEL", "raised ValueError"),
    ],
)
def test_what_is_not_is_refused_and_not_quoted(expect: Any, credential: str, says: str) -> None:
    """The error says what was expected; the credential is neither in it nor in its cause."""
    with pytest.raises(InvalidCredential, match=re.escape(says)) as caught:
        expectation(expect)(credential)
    assert "nothing was sent" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert "SENTINEL" not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    assert not credential or credential not in shown


@pytest.mark.parametrize("expect", ["", {}, 5, ["sk_live_"], b"sk"])
def test_an_expectation_of_nothing_is_refused(expect: Any) -> None:
    """One that would let everything pass, or nothing, is a mistake."""
    with pytest.raises(ConfigurationError, match="expect="):
        expectation(expect)


def test_an_async_predicate_is_refused() -> None:
    """What it returns is always true, which would let everything pass."""

    async def check(_credential: str) -> bool:
        return False

    with pytest.raises(ConfigurationError, match="async"):
        expectation(check)("x")


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: f"e30.{raw.hex()}.x") | st.just("." * 5000))
def test_whatever_a_credential_is(credential: str) -> None:
    """Reading its claims raises nothing but the refusal."""
    with pytest.raises(TokenFlowError):
        expectation({"iss": "https://prod.example.com"})(credential)


def test_a_token_nested_without_end_is_opaque() -> None:
    """So deep that no parser follows."""
    import base64

    deep = base64.urlsafe_b64encode(b"[" * 200_000).decode().rstrip("=")
    head = token().partition(".")[0]
    with pytest.raises(InvalidCredential, match="opaque"):
        expectation({"iss": "x"})(f"{head}.{deep}.eHg")
