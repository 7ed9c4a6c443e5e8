"""`tokenflow login`, `token`, `logout` and `status` against oidc-provider, run as a person and a script run them."""

from __future__ import annotations

import json
import re
import time
from unittest import mock

import pytest
from keyring.backends import fail
from stores.keyrings import Failing, FileKeyring
from tokenflow_command import Home, Inside, mode

from httpx_tokenflow import StoreError
from httpx_tokenflow.cli._profile_file import read_config
from httpx_tokenflow.stores import FileStore

SCOPE = "openid offline_access read"


@pytest.fixture
def home(rig, tmp_path):
    """Where the command is a process of its own."""
    return Home(tmp_path, SSL_CERT_FILE=rig.ca)


@pytest.fixture(params=[Inside, pytest.param(Home, marks=pytest.mark.slow)])
def either(rig, tmp_path, request):
    """The same; or where it runs in this process."""
    return request.param(tmp_path, SSL_CERT_FILE=rig.ca)


@pytest.fixture
def logged_in(either, rig, alice):
    """A home with the profile `default`, in which alice has logged in by a browser."""
    either.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE, store="file")
    either.log_in(alice)
    rig.reset()
    return either


def _allowed(rig, http, token):
    """Whether the API takes it."""
    return http.get(f"{rig.api}/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def _requests(rig):
    """How many token requests of which kind there were, and how they ended."""
    grants = rig.counters()["grants"]
    return {f"{grant} {status}": number for grant, ends in grants.items() for status, number in ends.items()}


def test_login_by_browser(home, rig, alice, http):
    """A login by browser makes the profile, says who, what and for how long, and scripts have a token from then on."""
    settings = ["--issuer", rig.issuer, "--client-id", rig.clients["public"].id, "--scope", SCOPE, "--store", "file"]
    said = home.log_in(alice, *settings)
    assert f"Logged in as alice at {rig.issuer} (profile default)" in said
    assert "lives for 1 h" in said
    assert "renewed by a refresh token" in said
    assert "Scope: read." in said
    token = home.token()
    assert _allowed(rig, http, token)
    with home.terminal("token") as terminal:
        assert terminal.wait() == 0
    assert terminal.text == f"{token}\n"
    assert _requests(rig) == {"authorization_code 200": 1}
    assert home.config.read_text().splitlines()[1:] == [
        f'issuer = "{rig.issuer}"', f'client_id = "{rig.clients["public"].id}"', f'scope = "{SCOPE}"', 'store = "file"',
    ]  # fmt: skip
    assert (mode(home.config), mode(home.config.parent)) == (0o600, 0o700)
    assert {mode(path) for path in home.state.iterdir()} == {0o600}
    assert mode(home.state) == 0o700


def test_login_by_device(home, rig, alice, http):
    """A login by device shows code and address plainly, opens no browser, and waits until the person has entered it."""
    home.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE, store="file")
    with home.terminal("login", "--device") as terminal:
        code = terminal.read_until(r"enter the code (\S+)")[1]
        url = terminal.read_until(rf"or open ({rig.issuer}/device\?user_code=\S+)\s")[1]
        assert code in url
        assert f"open {rig.issuer}/device on any device" in terminal.text
        alice.confirm(url)
        assert terminal.wait() == 0
    assert "Logged in as alice" in terminal.text
    assert not home.browsed.exists()
    assert _allowed(rig, http, home.token())


def test_a_refused_login(either, rig, alice):
    """Who says no at the server's page ends the login with one line that says so, and status 1; nothing is kept."""
    either.profile("other", issuer=rig.issuer, client_id="x")
    before = either.config.read_text()
    settings = ["--issuer", rig.issuer, "--client-id", rig.clients["public"].id, "--scope", SCOPE, "--store", "file"]
    with mock.patch("webbrowser.open", alice.browse_and_refuse):
        process = either.start("login", *settings) if type(either) is Home else None
        if process is not None:
            alice.visit_and_refuse(either.url())
        ended = either.run("login", *settings) if process is None else either.end(process)
    assert (ended.returncode, ended.stdout) == (1, "")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("tokenflow: the login failed: access_denied")
    assert "warm()" not in last
    assert either.config.read_text() == before
    assert either.entries() == []


@pytest.mark.slow
def test_a_device_that_is_refused(home, rig, alice):
    """Who aborts on the other device ends the login likewise."""
    home.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE, store="file", grant="device_code")
    with home.terminal("login") as terminal:
        alice.deny(terminal.read_until(r"or open (\S+)")[1])
        assert terminal.wait() == 1
    assert "the login failed: the person refused (access_denied). To try again: tokenflow login" in terminal.text
    assert "Traceback" not in terminal.text


@pytest.mark.slow
def test_device_and_browser_open_the_same_session(logged_in, rig, alice):
    """A login by device takes the place of one by browser: it is the profile's session, however it was opened."""
    before = logged_in.token()
    with logged_in.terminal("login", "--device") as terminal:
        alice.confirm(terminal.read_until(r"or open (\S+)")[1])
        assert terminal.wait() == 0
    assert len(logged_in.entries()) == 1
    assert logged_in.token() != before


@pytest.mark.parametrize("either", [Inside], indirect=True)
@pytest.mark.parametrize("number", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_tokens_at_once(number, logged_in, rig, http):
    """So many calls at once with a token that has ended are one renewal, and the session lives."""
    logged_in.age()
    calls = [logged_in.start("token") for _ in range(number)]
    ended = [call.communicate(timeout=120) for call in calls]
    assert [call.returncode for call in calls] == [0] * number, ended
    assert {errors for _, errors in ended} == {""}
    (printed,) = {out for out, _ in ended}
    assert _requests(rig) == {"refresh_token 200": 1}
    assert _allowed(rig, http, printed.strip())
    logged_in.age()
    assert _allowed(rig, http, logged_in.token())
    assert _requests(rig) == {"refresh_token 200": 2}
    counters = rig.counters()
    assert (counters["reused"], counters["revoked_families"]) == (0, 0)


def test_logout(logged_in, rig, http):
    """A logout revokes at the server and forgets here: the token serves nobody any more, and a script is told so."""
    token = logged_in.token()
    assert _allowed(rig, http, token)
    ended = logged_in.run("logout")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "the server has revoked it" in ended.stdout
    assert not _allowed(rig, http, token)
    refused = logged_in.run("token")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "run tokenflow login --profile default" in refused.stderr
    assert not logged_in.status()["logged_in"]
    again = logged_in.run("logout")
    assert (again.returncode, again.stdout) == (0, "Nobody is logged in with the profile default.\n")


def test_logout_without_the_server(logged_in):
    """A logout whose server is out of reach forgets all the same, and says that the server did not revoke."""
    logged_in.environment["SSL_CERT_FILE"] = ""  # nobody trusts it now
    ended = logged_in.run("logout")
    assert ended.returncode == 0
    assert "The server did not revoke it: the TLS connection to " in ended.stdout
    assert not logged_in.status()["logged_in"]


def test_a_session_that_the_server_has_ended(logged_in, rig, http):
    """A refresh token that the server refuses is one line that says to log in; it is not asked a second time."""
    refresh_token = logged_in.entry()["token"]["refresh_token"]
    client = rig.clients["public"]
    http.post(rig.endpoint("revocation"), data={"token": refresh_token, "client_id": client.id})
    logged_in.age()
    for _ in range(2):
        ended = logged_in.run("token")
        assert (ended.returncode, ended.stdout) == (1, "")
        (line,) = ended.stderr.splitlines()
        assert line.startswith("tokenflow: the session has ended")
        assert line.endswith("run tokenflow login --profile default")
    assert _requests(rig) == {"refresh_token 400": 1}
    status = logged_in.status()
    assert (status["logged_in"], status["renews"]) == (False, False)


def test_an_outage(logged_in, rig):
    """A token endpoint that is down is one line and status 75; the session is there when it is up again."""
    logged_in.age()
    rig.answer_next(503, count=3)
    ended = logged_in.run("token")
    assert (ended.returncode, ended.stdout) == (75, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "503" in ended.stderr
    assert ended.stderr.endswith(": try again later\n")
    assert "tokenflow login" not in ended.stderr
    assert logged_in.token()


def test_status(logged_in, rig):
    """Status says who, for how long, for what, where and how it goes on; the server is not asked."""
    token = logged_in.token()
    ended = logged_in.run("status")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("default: logged in as alice\n")
    for line in (f"server  {rig.issuer}", "renewal by a refresh token", "scope   read", "store   file"):
        assert f"  {line}\n" in ended.stdout
    found = logged_in.status()
    assert 3500 < found["expires_in"] <= 3600
    assert found["token"]["length"] == len(token)
    assert rig.counters()["requests"] == {} or sum(rig.counters()["requests"].values()) == 0


@pytest.mark.slow
def test_two_logins_at_once(home, rig, alice):
    """A login while another of the same profile is under way waits for that, and asks nobody a second time."""
    home.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE, store="file")
    with home.terminal("login") as first:
        url = home.url()
        with home.terminal("login") as second:
            second.read_until("another login of this profile is under way")
            alice.visit(url)
            assert (first.wait(), second.wait()) == (0, 0)
    assert "Logged in as alice" in first.text
    assert "Logged in as alice" in second.text
    assert not home.browsed.exists()
    assert _requests(rig) == {"authorization_code 200": 1}


@pytest.mark.slow
def test_a_login_that_is_given_up(home, rig):
    """Ctrl-C ends a login at once, with status 130 and without a traceback; the next one need not wait."""
    home.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE, store="file")
    for arguments in (("login",), ("login", "--device")):
        with home.terminal(*arguments) as terminal:
            terminal.read_until(r"http\S+\s")
            begun = time.monotonic()
            terminal.press(b"\x03")
            assert terminal.wait() == 130
            assert time.monotonic() - begun < 20
        assert "Traceback" not in terminal.text
        assert "under way" not in terminal.text
        assert terminal.text.endswith("tokenflow: interrupted\n")


def test_client_credentials(either, rig, http):
    """A client in its own name needs no login; its token is shared by all calls until it ends."""
    client = rig.clients["basic"]
    either.profile(
        grant="client_credentials", issuer=rig.issuer, client_id=client.id, client_secret_env="SECRET", store="file"
    )
    ended = either.run("token")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the environment variable SECRET is not set" in ended.stderr
    either.environment["SECRET"] = client.secret
    tokens = {either.token(), either.token()}
    assert len(tokens) == 1
    assert _allowed(rig, http, tokens.pop())
    assert _requests(rig) == {"client_credentials 200": 1}
    assert "nobody has to log in" in either.run("login").stdout
    assert "the server has revoked it" in either.run("logout").stdout


@pytest.mark.parametrize("way", ["private_key_jwt", "tls_client_auth"])
def test_a_client_with_a_key(either, rig, tmp_path, way):
    """A client that proves itself by a key or a certificate has both in files, which the profile names."""
    if way == "private_key_jwt":
        (tmp_path / "key.json").write_text(json.dumps(rig.keys["ES256"].jwk))
        name, files = "key-jwt", {"key_file": str(tmp_path / "key.json")}
    else:
        name, files = "tls", {"cert_file": str(rig.client_cert), "key_file": str(rig.client_key)}
    either.profile(
        grant="client_credentials", issuer=rig.issuer, client_id=rig.clients[name].id, store="file", client_auth=way,
        **files,
    )  # fmt: skip
    assert len({either.token(), either.token()}) == 1
    assert _requests(rig) == {"client_credentials 200": 1}
    assert "nobody has to log in" in either.run("login").stdout


def test_json(logged_in):
    """`token --json` has type, end and scope beside the token, and no refresh token."""
    found = json.loads(logged_in.token("--json"))
    assert found.keys() == {"access_token", "token_type", "expires_at", "scope"}
    assert found["access_token"] == logged_in.token()


def test_no_secret_in_any_output(logged_in, rig, alice):
    """Whatever a command says, through a life of logins, renewals and failures, has no token in it but `token`'s."""
    secrets = set()

    def note():
        token = logged_in.entry()["token"]
        secrets.update(token[name] for name in ("access_token", "refresh_token", "id_token") if name in token)

    note()
    logged_in.age()
    logged_in.token()
    note()
    logged_in.run("status")
    logged_in.run("status", "--json")
    logged_in.age()
    sent = logged_in.entry()["token"]["refresh_token"]
    rig.answer_next(400, {"error": "invalid_request", "error_description": f"bad token {sent}"})
    logged_in.run("token")
    logged_in.log_in(alice)
    note()
    logged_in.run("logout")
    logged_in.run("token")
    assert len(secrets) >= 6
    everything = "\n".join(logged_in.said)
    assert "Logged out" in everything
    assert not [secret for secret in secrets if secret in everything]
    for call in rig.log():
        for name in ("code", "code_verifier", "refresh_token"):
            value = call["params"].get(name)
            assert value is None or value not in everything


def test_a_script_never_opens_a_browser(logged_in):
    """Without a session, and after one has ended, `token` opens no browser, not even in a terminal."""
    logged_in.run("logout")
    with logged_in.terminal("token") as terminal:
        assert terminal.wait() == 1
    assert terminal.text.splitlines()[-1].startswith("tokenflow: nobody is logged in")
    assert not logged_in.browsed.exists()


def test_another_person_takes_over(logged_in, rig):
    """A login while somebody is logged in asks all the same, and its session takes the place of the other."""
    with rig.person("bob") as bob:
        assert "Logged in as bob" in logged_in.log_in(bob)
    assert logged_in.status()["who"] == "bob"


def test_one_who_is_logged_in_is_not_left_behind(logged_in):
    """What a session was opened by is not changed under it: log out first, or make another profile."""
    before = logged_in.config.read_text()
    refused = logged_in.run("login", "--scope", "openid read")
    assert refused.returncode == 1
    assert "add --update to change it, or --profile NAME for another" in refused.stderr
    refused = logged_in.run("login", "--scope", "openid read", "--update")
    assert refused.returncode == 1
    assert "first tokenflow logout --profile default" in refused.stderr
    assert logged_in.config.read_text() == before
    assert logged_in.status()["logged_in"]


def test_update(logged_in, alice):
    """With --update a login changes what the profile says, says so, and leaves all else in the file as it was."""
    logged_in.run("logout")
    text = logged_in.config.read_text()
    logged_in.config.write_text(f"# mine\n{text}")
    said = logged_in.log_in(alice, "--scope", "openid read", "--update")
    assert "the profile default in" in said
    assert logged_in.config.read_text() == f"# mine\n{text.replace(SCOPE, 'openid read')}"
    assert logged_in.status()["scope"] == "read"


@pytest.fixture
def inside(rig, tmp_path):
    """Where the command runs in this process, and nobody has a keyring."""
    with mock.patch("keyring.core._keyring_backend", fail.Keyring()):
        yield Inside(tmp_path, SSL_CERT_FILE=rig.ca)


def test_a_login_finds_where_to_keep_it(inside, rig, alice, tmp_path):
    """Without `store` a login takes the keyring where one works, or else a file, says which, and writes it down."""
    for ring, expected in ((fail.Keyring(), "file"), (FileKeyring(tmp_path / "ring"), "keyring")):
        name = f"in-{expected}"
        inside.profile(name, issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE)
        with mock.patch("keyring.core._keyring_backend", ring):
            said = inside.log_in(alice, "--profile", name)
            assert inside.token("--profile", name)
        assert f"Kept in: {expected}." in said
        assert ("the keyring does not work" in said) == (expected == "file")
        assert read_config(inside.config)[name]["store"] == expected
    assert len(inside.entries()) == 1


def test_a_keyring_that_fails_when_it_is_tried(inside, rig, alice):
    """A keyring that is there and fails is as good as none: the login says why, and takes a file."""
    inside.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE)
    with mock.patch("keyring.core._keyring_backend", Failing(RuntimeError("locked"))):
        said = inside.log_in(alice)
    assert "the keyring does not work (the keyring (stores.keyrings.Failing) failed (RuntimeError)" in said
    assert read_config(inside.config)["default"]["store"] == "file"


def test_a_secret_from_the_environment(inside, rig, alice):
    """A client with a secret logs in by what the variable holds; neither file nor store nor output has the secret."""
    client = rig.clients["post"]
    inside.environment["OUR_SECRET"] = client.secret
    settings = ["--issuer", rig.issuer, "--client-id", client.id, "--client-secret-env", "OUR_SECRET", "--scope", SCOPE]
    inside.log_in(alice, *settings, "--store", "file")
    inside.age()
    assert inside.token()
    kept = [path.read_text() for path in (inside.config, *inside.entries())]
    assert not [text for text in (*kept, *inside.said) if client.secret in text]


@pytest.mark.slow
def test_a_profile_that_is_made_by_device(inside, rig, alice):
    """A profile made by `login --device` logs in by device from then on, without the option."""
    settings = ["--issuer", rig.issuer, "--client-id", rig.clients["public"].id, "--scope", SCOPE, "--store", "file"]
    shown = []

    def show(text):
        shown.append(text)
        address = re.search(r"or open (\S+)", text)
        if address is not None:
            alice.confirm(address[1])

    with mock.patch("httpx_tokenflow.cli._login.show", show):
        ended = inside.run("login", "--device", "--profile", "tv", *settings)
    assert ended.returncode == 0, ended.stderr
    assert any("enter the code" in text for text in shown)
    assert read_config(inside.config)["tv"]["grant"] == "device_code"
    assert inside.status("tv")["grant"] == "device_code"
    assert inside.token("--profile", "tv")


def test_named_endpoints(inside, rig, alice, http):
    """A server without metadata is used, and left, by the endpoints that the profile names."""
    names = ("authorization_endpoint", "token_endpoint", "revocation_endpoint")
    options = [f"--{name.replace('_', '-')}={rig.endpoint(name.removesuffix('_endpoint'))}" for name in names]
    inside.log_in(alice, "--client-id", rig.clients["public"].id, "--scope", SCOPE, "--store=file", *options)
    token = inside.token()
    assert _allowed(rig, http, token)
    assert "the server has revoked it" in inside.run("logout").stdout
    assert not _allowed(rig, http, token)


@pytest.mark.slow
@pytest.mark.parametrize("either", [Inside], indirect=True)
def test_a_store_that_fails_in_the_middle(logged_in, rig):
    """Where the store does not take the next refresh token, the token is printed, and that the session ends is said."""
    logged_in.age()
    swap, calls = FileStore._swap, []

    def fails(self, fingerprint, change):
        calls.append(change)
        if len(calls) > 1:  # after the note that the refresh token is presented
            raise StoreError("the disk is full")
        return swap(self, fingerprint, change)

    with mock.patch.object(FileStore, "_swap", fails):
        ended = logged_in.run("token")
    assert ended.returncode == 0
    assert ended.stdout.strip()
    assert "the disk is full" in ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("then tokenflow login --profile default")
    assert _requests(rig) == {"refresh_token 200": 1}


def test_a_login_that_cannot_be_kept(inside, rig, alice):
    """A session that the store does not take is given back to the server, and the login has failed in one line."""
    inside.profile(issuer=rig.issuer, client_id=rig.clients["public"].id, scope=SCOPE, store="file")

    swap = FileStore._swap

    def fails(self, fingerprint, change):
        if fingerprint == "probe":
            return swap(self, fingerprint, change)
        raise StoreError("the disk is full")

    with mock.patch.object(FileStore, "_swap", fails), mock.patch("webbrowser.open", alice.browse):
        ended = inside.run("login")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == "tokenflow: the disk is full"
    assert rig.counters()["requests"]["/token/revocation"] >= 1
