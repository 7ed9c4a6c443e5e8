"""`tokenflow login`, `token`, `logout` and `status` without any server: what they say, and what can go wrong here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import jwt
import keyring
import pytest
import trustme
import typer
from keyring.backends import fail
from stores.keyrings import Failing, FileKeyring
from tokenflow_command import COMMAND, PATIENCE, Home, Inside

from httpx_tokenflow import ReauthenticationRequired, Token
from httpx_tokenflow._entries import Entry, Minted
from httpx_tokenflow._steps import Sleep
from httpx_tokenflow.cli import _app
from httpx_tokenflow.cli._kept import KeptCode, LoginByCode
from httpx_tokenflow.cli._plainly import lasting, plain
from httpx_tokenflow.cli._profiles import load_profile
from httpx_tokenflow.cli._quick import _VALUES, try_token
from httpx_tokenflow.stores import FileStore

ISSUER = "https://auth.example.com"
COMMANDS = ("login", "token", "logout", "status")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with the profile `default`, in which nobody has logged in; nothing reaches a network."""
    home = Inside(tmp_path)
    home.profile(issuer=ISSUER, client_id="me", store="file")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was made"))
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("a browser was opened"))
    return home


def _hold(home, token, name="default", **facts):
    """Have the store hold `token` for a profile."""
    profile = load_profile(name, home.config)
    entry = Entry(token, time.time(), **{"lifetime": 3600.0, **facts})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home.folder / "state"))
        store = FileStore() if profile.store_kind == "file" else profile.store()
        assert store.save(profile.fingerprint, entry, replaces=None)


def _one_line(ended, code=1):
    """The one line in which a command said why it failed."""
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("tokenflow: ")
    return line


# what goes wrong is one line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[profiles.default", "is no TOML"),
        ('[profiles.default]\nclientid = "x"\n', "did you mean client_id?"),
        ("", "there is no profile 'default'"),
    ],
)
def test_a_file_that_is_wrong(home, command, text, says):
    """A file that is broken, or has nothing in it, is one line with the file's name, and status 1."""
    home.config.write_text(text)
    ended = home.run(command)
    said = ended.stdout if command == "status" and "clientid" in text else _one_line(ended)
    assert ended.returncode == 1
    assert says in said
    assert str(home.config) in said


@pytest.mark.parametrize("command", ["token", "login"])
def test_a_store_that_cannot_be(home, command):
    """Where the tokens cannot be kept, it is one line that names the place; a login finds that before it asks."""
    (home.folder / "state").write_text("no directory")
    assert str(home.state) in _one_line(home.run(command))


@pytest.mark.parametrize("command", ["token", "login", "logout"])
def test_a_keyring_that_is_none(home, command, monkeypatch):
    """A profile whose keyring does not work is one line that says what to do instead, and nobody is asked to log in."""
    monkeypatch.setattr("keyring.core._keyring_backend", fail.Keyring())
    home.profile("ring", issuer=ISSUER, client_id="me", store="keyring")
    line = _one_line(home.run(command, "--profile", "ring"))
    assert "keyring" in line
    assert "tokenflow: the keyring (keyring.backends.fail.Keyring) failed" in line
    assert 'store = "file"' in line


def test_nobody_is_logged_in(home):
    """Without a session a script gets nothing on its standard output, and a line with the command to type."""
    assert _one_line(home.run("token")).endswith("run tokenflow login --profile default")
    assert home.run("logout").stdout == "Nobody is logged in with the profile default.\n"


def test_which_profile(home):
    """A profile is chosen by option or variable, and a mistyped one is told the nearest."""
    home.profile("work", issuer=ISSUER, client_id="me", store="file")
    _hold(home, Token("access-work"), "work")
    assert home.token("--profile", "work") == home.token("--profile=work") == home.token("-p", "work") == "access-work"
    home.environment["TOKENFLOW_PROFILE"] = "work"
    assert home.token() == "access-work"
    assert "did you mean 'work'?" in _one_line(home.run("token", "--profile", "wrok"))
    other = home.folder / "other.toml"
    home.config.rename(other)
    home.environment["TOKENFLOW_CONFIG"] = str(other)
    assert home.token() == "access-work"
    del home.environment["TOKENFLOW_CONFIG"]
    assert home.token("--config", str(other)) == "access-work"


def test_mistyped_options(home):
    """An option that there is none of, or that lacks its value, is told as everywhere, with status 2."""
    _hold(home, Token("access-1"))
    for arguments in (["--jsn"], ["--profile"], ["default"], ["--json=yes"], ["-pdefault", "x"]):
        ended = home.run("token", *arguments)
        assert (ended.returncode, ended.stdout) == (2, ""), arguments
    assert home.token("-pdefault") == "access-1"


@pytest.mark.parametrize("arguments", [["--help"], ["-p"], ["-p=x"], ["--profile="], ["x"], ["--config", "--json"]])
def test_what_is_for_typer(arguments):
    """The short way leaves alone whatever it does not know for certain."""
    assert not try_token(arguments)


def test_scripts_load_no_more_than_they_need(home):
    """`tokenflow token` loads neither typer, nor the keyring, nor what writes profiles, nor any other command."""
    _hold(home, Token("access-1"))
    code = (
        "import atexit, sys; from httpx_tokenflow.cli import main\n"
        "names = 'typer', 'pydantic', 'keyring', 'tomlkit', 'httpx_tokenflow.cli._login', 'httpx_tokenflow.testing'\n"
        "atexit.register(lambda: print([name for name in names if name in sys.modules])); main()"
    )
    command = [sys.executable, "-P", "-c", code, "token"]
    ended = subprocess.run(command, env=home.environment, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "access-1\n[]\n", "")


def test_a_closed_pipe(home, tmp_path):
    """A reader that has gone is one line and status 1, and nothing of it is in the interpreter's own words."""
    _hold(home, Token("access-1"))
    theirs, ours = os.pipe()
    os.close(theirs)
    process = Home(tmp_path).start("token", stdout=ours)
    os.close(ours)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors == "tokenflow: nobody reads the output any more, and not all of it was written\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("token >&-", "tokenflow: nobody reads the output any more, and not all of it was written\n"),
        ("token >/dev/full", "tokenflow: the output could not be written: No space left on device\n"),
        pytest.param("status >/dev/full", "tokenflow: the output could not be written: ", marks=pytest.mark.slow),
    ],
)
def test_output_that_cannot_be_written(home, tmp_path, command, says):
    """An output that is closed, or full, is one line and status 1, and no traceback."""
    _hold(home, Token("access-1"))
    line = ["sh", "-c", f"exec {COMMAND} {command}"]
    ended = subprocess.run(line, env=home.environment, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(says)
    assert ended.stderr.count("\n") == says.count("tokenflow")


@pytest.mark.slow
def test_nowhere_to_complain(home):
    """With standard error closed the exit status is that of what went wrong: a traceback would make it 1."""
    home.profile(
        "down", token_endpoint="http://127.0.0.1:1/t", authorization_endpoint=ISSUER, client_id="x", store="file"
    )
    _hold(home, Token("access-1", refresh_token="r"), "down", lifetime=0.0)
    line = ["sh", "-c", f"exec {COMMAND} token --profile down 2>&-"]
    ended = subprocess.run(line, env=home.environment, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, "", "")


def test_interrupted(home, monkeypatch):
    """Ctrl-C is status 130 and one line, whatever the command was about."""

    def interrupt(*_arguments):
        raise KeyboardInterrupt

    for where, command in (("_quick.load_profile", "token"), ("_status.profile_names", "status")):
        monkeypatch.setattr(f"httpx_tokenflow.cli.{where}", interrupt)
        assert _one_line(home.run(command), 130) == "tokenflow: interrupted"


# login, as far as it comes without a server


def test_what_the_profile_says_is_not_lost(home):
    """An option that says something else than the profile is refused, names both, and changes nothing."""
    before = home.config.read_text()
    line = _one_line(home.run("login", "--client-id", "other"))
    assert "says client_id = 'me', and not 'other': add --update to change it, or --profile NAME" in line
    assert home.config.read_text() == before


def test_a_session_is_not_left_behind(home):
    """With --update too nobody's session is left behind under what the profile said before."""
    _hold(home, Token("access-1", refresh_token="refresh-1"))
    for arguments in (["--client-id", "other", "--update"], ["--scope", "read"], ["--store", "keyring", "--update"]):
        assert "first tokenflow logout --profile default" in _one_line(home.run("login", *arguments))
    assert home.token() == "access-1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--profile", "other"], "there is no profile 'other'"),
        (["--profile", "a b", "--issuer", ISSUER, "--client-id", "x"], "a profile's name has letters, digits"),
        (["--profile", "new", "--issuer", ISSUER], "client_id is missing"),
        (["--profile", "new", "--issuer", "auth.example.com", "--client-id", "x"], "issuer"),
        (["--profile", "new", "--issuer", ISSUER, "--client-id", "x", "--store", "safe"], "store must be one of"),
        (["--profile", "new", "--issuer", ISSUER, "--client-id", "x", "--grant", "devise"], "grant must be one of"),
        (["--profile", "new", "--issuer", ISSUER, "--client-id", "x", "--client-secret-env", "a b"], "of an environ"),
        (["--scope", ""], "option --scope must be a string that is not empty, on one line"),
        (["--resource", "not a url"], "option --resource must be an absolute URI without a fragment"),
        (["--profile", ""], "'' cannot be a profile's name"),
        (["--profile=-x", "--issuer", ISSUER, "--client-id", "x"], "'-x' cannot be a profile's name"),
        (["--device", "--grant", "client_credentials"], "--device and the grant client_credentials contradict"),
        (["--device", "--grant", "authorization_code"], "--device and the grant authorization_code contradict"),
        (["--token-endpoint", "https://a.example.com/t", "--update"], "says issuer, and with issuer no endpoint is na"),
        (
            ["--profile", "new", "--issuer", ISSUER, "--client-id", "x", "--grant", "client_credentials"],
            "the profile 'new' by these options: ClientCredentials needs client_secret=",
        ),
    ],
)
def test_a_login_that_cannot_be(home, arguments, says):
    """What is wrong with the options is told before anybody is asked to log in, and nothing is written."""
    before = home.config.read_text()
    assert says in _one_line(home.run("login", *arguments))
    assert home.config.read_text() == before


def test_a_profile_that_could_not_be_written(home, monkeypatch):
    """A new profile whose file could not be written is told before anybody is asked to log in."""
    blocked = home.folder / "file"
    blocked.write_text("")
    options = ["--issuer", ISSUER, "--client-id", "x", "--store", "file"]
    line = _one_line(home.run("login", "--config", str(blocked / "profiles.toml"), *options))
    assert str(blocked) in line
    monkeypatch.setattr("os.access", lambda *_: False)  # as it is for whoever is not root
    line = _one_line(home.run("login", "--profile", "new", *options))
    assert f"the profile cannot be written: {home.config.parent} is no directory that you can write to" in line


# status


def _id_token(**claims):
    return jwt.encode(claims, "0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize(
    ("token", "facts", "says", "expected"),
    [
        (None, {}, ["default: not logged in"], {"logged_in": False}),
        (
            Token("access-1", refresh_token="r", scope="read write", id_token=_id_token(sub="7", email="a@b.example")),
            {"lifetime": 3599.0},
            ["default: logged in as a@b.example", "token 59 min 5", "renewal by a refresh token",
             "scope read write", "store file"],
            {"logged_in": True, "renews": True, "who": "a@b.example", "scope": "read write"},
        ),
        (
            Token("access-1", refresh_token="r"),
            {"lifetime": 0.0},
            ["default: logged in", "token ended", "scope the server did not say"],
            {"logged_in": True, "renews": True, "expires_in": 0},
        ),
        (
            Token("access-1", refresh_token="r"),
            {"presented": 2},
            ["default: logged in", "renewal none: two answers of the server were lost; run tokenflow login"],
            {"logged_in": True, "renews": False},
        ),
        (
            Token("access-1", refresh_token="r"),
            {"presented": 2, "note": Entry(Token("x"), 0.0, None).spent().note},
            ["default: logged in", "renewal none: the server refused the refresh token; run tokenflow login"],
            {"logged_in": True, "renews": False},
        ),
        (
            Token("access-1", refresh_token="r"),
            {"presented": 1},
            ["default: logged in", "renewal by a refresh token, which is sent, or was without an answer: once more"],
            {"logged_in": True, "renews": True},
        ),
        (
            Token("access-1"),
            {"lifetime": 0.0},
            ["default: the session has ended", "renewal none: the server gave no refresh token"],
            {"logged_in": False, "renews": False},
        ),
        (
            Token("access-1"),
            {"lifetime": None},
            ["default: logged in", "token the server did not say how long it lives (sha256"],
            {"logged_in": True, "renews": False, "expires_in": None},
        ),
    ],
)  # fmt: skip
def test_status(home, token, facts, says, expected):
    """Status says in what state a session is, and how it goes on; in words, and as JSON."""
    if token is not None:
        _hold(home, token, **facts)
    ended = home.run("status")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(says[0])
    words = " | ".join(" ".join(line.split()) for line in ended.stdout.splitlines())
    for line in says[1:]:
        assert f" | {line}" in words
    found = home.status()
    assert {name: found.get(name) for name in expected} == expected
    assert "access-1" not in "".join(home.said)


def test_status_of_what_was_given_up(home):
    """What a logout leaves in the store is no session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home.folder / "state"))
        FileStore().save(load_profile("default", home.config).fingerprint, Entry.mark(time.time(), "s"), replaces=None)
    assert not home.status()["logged_in"]
    assert home.run("logout").stdout == "Nobody is logged in with the profile default.\n"


def test_status_of_many(home):
    """All profiles are shown, a broken one by what is wrong with it, and then the status is 1; or the one asked for."""
    home.profile(
        "service", grant="client_credentials", issuer=ISSUER, client_id="me", client_secret_env="S", store="file"
    )
    home.profile("broken", issuer=ISSUER, client_id="me", colour="red")
    _hold(home, Token("access-1"), "service")
    ended = home.run("status")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "default: not logged in\n" in ended.stdout
    assert "service: has a token\n" in ended.stdout
    assert "  renewal whenever it is due, in the client's own name" in ended.stdout
    assert "broken: cannot be looked at: " in ended.stdout
    assert "'colour' is no key of a profile" in ended.stdout
    one = home.run("status", "--profile", "service", "--json")
    assert one.returncode == 0
    (found,) = json.loads(one.stdout)
    assert (found["profile"], found["logged_in"], found["renews"]) == ("service", None, True)


def test_a_terminal_obeys_no_server(home):
    """What a server says comes to the terminal without the characters that a terminal would obey."""
    _hold(home, Token("access-1", scope="read\x1b[31m\x07", id_token=_id_token(email="a\x1b]0;x\x07@example.com\n")))
    said = home.run("status").stdout
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "a ]0;x @example.com" in said
    assert "\x1b" not in plain("a\x1b[2Jb")


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min 59 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (-5, "0 s")],
)
def test_durations(seconds, says):
    """A duration is its two largest units."""
    assert lasting(seconds) == says


# the keyring


def test_a_session_in_the_keyring(home, monkeypatch, tmp_path):
    """With `store = "keyring"` the token is in the keyring, and in no file of ours."""
    monkeypatch.setattr(keyring.core, "_keyring_backend", FileKeyring(tmp_path / "ring"))
    home.profile("ring", issuer=ISSUER, client_id="me", store="keyring")
    _hold(home, Token("access-1", refresh_token="refresh-1"), "ring")
    assert home.token("--profile", "ring") == "access-1"
    assert home.status("ring")["logged_in"]
    assert "  store   keyring" in home.run("status", "--profile", "ring").stdout
    assert home.entries() == []
    assert "access-1" in (tmp_path / "ring").read_text()


# help and completion


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(home, command):
    """The help of each command has two examples at least, each on a line of its own."""
    ended = home.run(command, "--help")
    assert ended.returncode == 0
    assert sum(line.strip().startswith("$ ") for line in ended.stdout.splitlines()) >= 2


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        ("tokenflow token --profile wo", "[profiles.work]\n[profiles.world]\n[profiles.x]\n", ["work", "world"]),
        pytest.param(
            "tokenflow status --config {} -p e", "[profiles.elsewhere]\n", ["elsewhere"], marks=pytest.mark.slow
        ),
        pytest.param("tokenflow logout -p e", "[", [], marks=pytest.mark.slow),
    ],
)
def test_completion(home, tmp_path, words, text, expected):
    """The shell completes the names of profiles, also of the file that is named; a broken one completes none."""
    file = tmp_path / "other.toml" if "{}" in words else home.config
    file.write_text(text)
    asking = {"COMP_WORDS": words.format(file), "COMP_CWORD": str(words.count(" "))}
    environment = {**home.environment, **asking, "_TOKENFLOW_COMPLETE": "complete_bash"}
    ended = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.stdout.split(), ended.stderr) == (expected, "")


# a certificate that proves nothing any more

ENDPOINTS = {f"{name}_endpoint": f"{ISSUER}/{name}" for name in ("authorization", "token", "revocation")}


@pytest.mark.parametrize(("is_there", "why"), [(False, "cannot be read: No such file"), (True, "has expired on 2020-")])
def test_without_a_good_certificate(home, is_there, why):
    """The session of a client whose certificate is missing, or has ended, is shown, used while it lasts, and forgotten.

    Renewed it is not, and a logout says that the server was not told, and why.
    """
    home.config.unlink()
    cert, key = home.config.parent / "cert.pem", home.config.parent / "key.pem"
    proof = {"client_auth": "tls_client_auth", "cert_file": cert.name, "key_file": key.name}
    home.profile(client_id="me", store="file", **ENDPOINTS, **proof)
    authority = trustme.CA()
    good, old = authority.issue_cert("me"), authority.issue_cert("me", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    good.cert_chain_pems[0].write_to_path(cert)
    good.private_key_pem.write_to_path(key)
    _hold(home, Token("access-1", refresh_token="refresh-1"))
    cert.unlink()
    if is_there:
        old.cert_chain_pems[0].write_to_path(cert)
        old.private_key_pem.write_to_path(key)

    assert home.status()["state"] == "logged in"
    assert home.token() == "access-1"
    home.age()
    for _ in range(3):
        line = _one_line(home.run("token"))
        assert (str(cert) in line, why in line) == (True, True)
    assert home.status()["renewal"] == "by a refresh token"
    ended = home.run("logout")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"The server did not revoke it: the client's certificate {cert} {why}" in " ".join(ended.stdout.split())
    assert not home.status()["logged_in"]


# what is damaged, and where it is kept


def _damage(home, text):
    _hold(home, Token("access-1", refresh_token="refresh-1"))
    (path,) = home.entries()
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["", "xx", "[]", '{"version": 1}'])
def test_a_damaged_entry(home, text):
    """An entry that is none is told with its file, and a logout forgets it and says that it was not revoked."""
    path = _damage(home, text)
    line = _one_line(home.run("token"))
    assert str(path) in line
    assert line.endswith("tokenflow login replaces it, tokenflow logout forgets it")
    ended = home.run("logout")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"could not be revoked: {path}" in ended.stdout
    assert home.entries() == []


def test_a_login_replaces_what_is_damaged(home, monkeypatch):
    """A damaged entry makes way for a login, and no sooner than that has worked."""
    path = _damage(home, "xx")
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in(fails=True))
    _one_line(home.run("login"))
    assert path.read_text() == "xx"
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in())
    ended = home.run("login")
    assert ended.returncode == 0, ended.stderr
    assert f"{path}: an entry of the store is damaged" in ended.stderr
    assert home.token() == "access-2"


def _logs_in(meanwhile=lambda: None, *, fails=False, **facts):
    """A login that nobody has to do, after `meanwhile`."""

    def log_in(_self, _attempt):
        yield Sleep(0.0)
        meanwhile()
        if fails:
            raise ReauthenticationRequired("no")
        return Minted(Token("access-2", refresh_token="refresh-2", **facts), 3600.0)

    return log_in


@pytest.mark.parametrize("by_option", [True, False])
def test_a_store_that_cannot_be_written(home, monkeypatch, tmp_path, by_option):
    """A keyring that reads and denies writing is found before a person is asked: a file, or one line."""

    class NoWrite(FileKeyring):
        def set_password(self, *_):
            raise RuntimeError("denied")

    monkeypatch.setattr("keyring.core._keyring_backend", NoWrite(tmp_path / "ring"))
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in() if not by_option else _logs_in(pytest.fail))
    options = ["--profile", "new", "--issuer", ISSUER, "--client-id", "me", *(["--store=keyring"] if by_option else [])]
    ended = home.run("login", *options)
    if by_option:
        assert 'say store = "file" in the profile' in _one_line(ended)
        assert "[profiles.new]" not in home.config.read_text()
    else:
        assert (ended.returncode, "Kept in: file." in ended.stdout) == (0, True), ended
    assert not list(home.state.glob("probe.entry"))


def test_a_keyring_that_cannot_be_read_is_left(home, monkeypatch):
    """`login --store file --update` gets past a keyring that cannot be read, and says that something may be in it."""
    monkeypatch.setattr("keyring.core._keyring_backend", Failing(RuntimeError("locked")))
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in())
    home.profile("ring", issuer=ISSUER, client_id="me", store="keyring")
    ended = home.run("login", "--profile", "ring", "--store", "file", "--update")
    assert ended.returncode == 0, ended.stderr
    assert "What session it may hold is left in it" in ended.stderr
    assert home.token("--profile", "ring") == "access-2"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_keyring_that_cannot_be_loaded(home, monkeypatch, command):
    """A PYTHON_KEYRING_BACKEND that names nothing is one line, or a file instead, and no traceback."""
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    home.environment["PYTHON_KEYRING_BACKEND"] = "foo.Bar"
    home.profile("ring", issuer=ISSUER, client_id="me", store="keyring")
    ended = home.run(command, "--profile", "ring")
    said = ended.stdout if command == "status" else _one_line(ended)
    assert "the one that PYTHON_KEYRING_BACKEND or keyring's own file names) failed" in said
    home.profile("any", issuer=ISSUER, client_id="me")
    assert "nobody is logged in" in _one_line(home.run("token", "--profile", "any"))


# what becomes of the file while somebody logs in


NEW = ["--profile", "new", "--issuer", ISSUER, "--client-id", "me", "--store", "file"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[profiles.x\n", "is no TOML"),
        ('[profiles.new]\nclient_id = "theirs"\n', "changed meanwhile: its profile new has another client_id"),
    ],
)
def test_a_file_that_is_changed_meanwhile(home, monkeypatch, text, why):
    """A file that another changes during a login is left alone; what it has to say is shown, and the session kept."""
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in(lambda: home.config.write_text(text)))
    ended = home.run("login", *NEW)
    assert ended.returncode == 1
    assert ended.stdout.startswith("Logged in at")
    assert why in ended.stderr
    assert home.config.read_text() == text
    lines = ended.stderr[ended.stderr.index("[profiles.new]") :]
    home.config.write_text(lines)
    assert home.token("--profile", "new") == "access-2"


def test_a_file_that_cannot_be_changed(home, monkeypatch):
    """A file that cannot be changed without harm is one line before anybody is asked to log in."""
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in(pytest.fail))
    home.config.write_text('profiles = {work = {client_id = "me"}}\n')
    assert "cannot be changed without harm" in _one_line(home.run("login", *NEW))


# the session of before


@pytest.mark.parametrize(
    ("before", "after", "is_revoked"), [("alice", "bob", True), ("alice", "alice", False), (None, "bob", False)]
)
def test_the_session_of_before(home, monkeypatch, before, after, is_revoked):
    """A session that makes way is revoked if it was certainly another person's; else it is said that it goes on."""
    revoked = []

    def revoke(_self, attempt):
        yield Sleep(0.0)
        revoked.append(attempt.presented.token.refresh_token)
        return True

    monkeypatch.setattr(KeptCode, "revoke", revoke)
    monkeypatch.setattr(LoginByCode, "_log_in", _logs_in(id_token=_id_token(sub=after)))
    _hold(home, Token("access-1", refresh_token="refresh-1", id_token=before and _id_token(sub=before)))
    ended = home.run("login")
    assert ended.returncode == 0, ended.stderr
    assert revoked == (["refresh-1"] if is_revoked else [])
    assert ("the session of alice has been revoked" in ended.stderr) == is_revoked
    assert ("goes on at the server until it ends there" in ended.stderr) == (not is_revoked)
    assert home.token() == "access-2"


# the browser


def test_a_browser_holds_up_nobody(home, monkeypatch, capfd):
    """A browser that stays is not waited for, and what it writes to standard output goes to standard error."""
    closed, begun = threading.Event(), threading.Event()

    def browse(_url):
        subprocess.run(["echo", "NOISE"], check=True)
        begun.set()
        closed.wait(PATIENCE)

    def log_in(grant, _attempt):
        yield Sleep(0.0)
        grant._open_browser("https://auth.example.com/authorize")
        assert begun.wait(PATIENCE)
        return Minted(Token("access-2"), 3600.0)

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setattr(LoginByCode, "_log_in", log_in)
    try:
        assert home.run("login").stdout.startswith("Logged in")
    finally:
        closed.set()
    said = capfd.readouterr()
    assert ("NOISE" in said.out, "NOISE" in said.err) == (False, True)


def test_who_has_the_lease(home, monkeypatch):
    """A renewal of another's that does not end is status 75, and says how to find out whose it is."""
    monkeypatch.setattr("httpx_tokenflow._storing.TAKEOVER", -39.9)
    _hold(home, Token("access-1", refresh_token="r"), lifetime=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home.folder / "state"))
        key = load_profile("default", home.config).fingerprint
        with FileStore().lease(key, 40.0, 1.0):
            line = _one_line(home.run("token"), 75)
    assert f"{key}.lease.lock has not let go of it" in line
    assert "lsof says which process has it: continue or end that, or try again later" in line


def test_json_has_all_its_keys(home):
    """`token --json` has each of its keys, also where there is nothing to say: null."""
    _hold(home, Token("access-1"))
    found = json.loads(home.token("--json"))
    assert found == {"access_token": "access-1", "token_type": "Bearer", "expires_at": None, "scope": None}


# the two ways to the same options


def test_the_short_way_has_the_options_of_the_long_one():
    """What `tokenflow token` reads without typer are all the options that its help has."""
    (command,) = typer.main.get_command(_app(["token"])).commands.values()
    options = {name: one for one in command.params for name in one.opts if name != "--help"}
    assert options.keys() == {*_VALUES, "--json"}
    assert {options[name].name for name in _VALUES} == set(_VALUES.values())
    assert {options[name].envvar for name in _VALUES} == {"TOKENFLOW_PROFILE", "TOKENFLOW_CONFIG"}
