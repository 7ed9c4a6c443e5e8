"""Profiles: what may be in the file, what a mistake is told, how it is written, and whose session a profile has."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import tomllib
from pathlib import Path

import httpx
import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from stores.keyrings import FileKeyring
from tokenflow_command import mode

from httpx_tokenflow import (
    AuthorizationCode,
    ConfigurationError,
    DeviceCode,
    ReauthenticationRequired,
    Token,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenFlowError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._entries import Entry
from httpx_tokenflow._token_auth import fingerprint
from httpx_tokenflow._token_client import TokenClient
from httpx_tokenflow.cli._login import login
from httpx_tokenflow.cli._logout import logout
from httpx_tokenflow.cli._profile_file import check_settings, config_path, read_config
from httpx_tokenflow.cli._profile_writing import write_settings
from httpx_tokenflow.cli._profiles import Profile, load_profile, profile_names
from httpx_tokenflow.stores import FileStore

ISSUER = "https://auth.example.com"
PLAIN = {"issuer": ISSUER, "client_id": "me", "store": "file"}
_ENDPOINTS = {f"{name}_endpoint": f"{ISSUER}/{name}" for name in ("token", "authorization")}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The file with the profiles, where the user has it; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TOKENFLOW_CONFIG", raising=False)
    path = tmp_path / "config" / "tokenflow" / "profiles.toml"
    path.parent.mkdir(parents=True)
    return path


def _profile(**settings):
    plain = {key: value for key, value in PLAIN.items() if key != "issuer" or "token_endpoint" not in settings}
    return Profile.of("default", Path("profiles.toml"), {**plain, **settings})


def _refused(text, name="default"):
    """What is told of a file with that text."""
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "tokenflow" / "profiles.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_profile(name)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('scop = "read"', "profile 'default': 'scop' is no key of a profile: did you mean scope? Allowed are grant, "),
        ('zzz = "read"', "'zzz' is no key of a profile: allowed are grant, store, issuer"),
        (
            'client_secret = "hush-SENTINEL"',
            "put the secret into an environment variable, and its name here, as client_se",
        ),
        ('client_secret_env = "hush SENTINEL!"', "client_secret_env must be the name of an environment variable"),
        ("scope = 5", "scope must be a string that is not empty, on one line, or a list of such"),
        ('scope = ["read", 5]', "scope must be a string that is not empty, on one line, or a list of such"),
        ('audience = ""', "audience must be a string"),
        ('grant = "device"', "grant must be one of 'authorization_code', 'device_code', 'client_credentials': did you"),
        ('grant = "implicit"', "grant must be one of"),
        ('store = "keychain"', "store must be one of 'keyring', 'file'"),
        ('client_auth = "basic"', "client_auth must be one of"),
        ('key = "hush-SENTINEL"', "put the key into a file of its own, and the path of that here, as key_file"),
        ('private_key = "hush-SENTINEL"', "private_key does not belong into this file"),
        ('client_auth = "private_key_jwt"', 'client_auth = "private_key_jwt" needs key_file: the path of a PEM file'),
        ('client_auth = "tls_client_auth"\nkey_file = "k"', 'client_auth = "tls_client_auth" needs cert_file'),
        ('key_file = "key.pem"', 'key_file is for client_auth = "private_key_jwt" or "tls_client_auth"'),
        ('client_auth = "private_key_jwt"\nkey_file = "k"\ncert_file = "c"', 'cert_file is for client_auth = "tls_cl'),
        ("""client_auth = "private_key_jwt"\nkey_file = '{"d": "SENTINEL"}'""", "key_file must be the path of a file"),
        ('key_file = "-----BEGIN PRIVATE KEY----- SENTINEL"', "key_file must be the path of a file"),
        (f'key_file = "MC4CAQAwBQYDK2VwBCIEI{"SENTINEL" * 5}+/="', "key_file must be the path of a file"),
        ('client_auth = "private_key_jwt"\nkey_file = "~nobody-here/k"', "nobody knows whose home directory that is"),
        ('client_auth = "private_key_jwt"\nkey_file = "k"\nclient_secret_env = "X"', "contradict each other: keep one"),
        (
            'client_auth = "tls_client_auth"\nkey_file = "k"\ncert_file = "c"\ngrant = "client_credentials"',
            "cannot be read",
        ),
        ("redirect_port = 70000", "redirect_port must be a port, 0 to 65535"),
        ("redirect_port = true", "redirect_port must be a port"),
        ('redirect_uri = "https://app.example.com/callback"', "redirect_uri must be on this machine"),
        ('redirect_uri = "http://["', "redirect_uri must be on this machine"),
        ('redirect_port = 8400\nredirect_uri = "http://127.0.0.1:8400/x"', "contradict each other: keep one"),
        ("timeout = -1", "timeout must be a number of seconds"),
        ("timeout = nan", "timeout must be a number of seconds"),
        ("timeout = 1" + "0" * 400, "timeout= must be a number of seconds, more than 0 and"),
        ('resource = "not a url"', "resource must be an absolute URI without a fragment (RFC 8707 §2)"),
        ('resource = ["https://a.example.com/#x"]', "resource must be an absolute URI without a fragment"),
        ('resource = "https://["', "resource must be an absolute URI without a fragment"),
        ('scope = ""', "scope must be a string that is not empty, on one line"),
        ('par = "yes"', "par must be true or false"),
        ("extra = {a = 1}", "extra must be a table of strings"),
        ('extra = {scope = "x"}', "profile 'default': extra= has scope"),
        ('token_endpoint = "https://a.example.com/t"', "issuer and token_endpoint contradict each other"),
        ('grant = "client_credentials"', "profile 'default': ClientCredentials needs client_secret="),
        ('grant = "client_credentials"\nsubject = "x"', "subject is for logins"),
    ],
)
def test_mistakes(line, says):
    """Whatever is wrong in a profile is told with file, profile, key and what is allowed, and without the value."""
    told = _refused(f'[profiles.default]\nissuer = "{ISSUER}"\nclient_id = "me"\n{line}\n')
    assert says in told
    assert "SENTINEL" not in told


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[profiles.default\n", "is no TOML: "),
        ("[profile.default]\n", "has 'profile' at its top: a profile is a table [profiles.NAME]"),
        ("a = 1" + "0" * 5000, "has a number of too many digits"),
        ("a = " + "[" * 20_000, "lists too deep in one another"),
        ("profiles = 5\n", "a profile is a table [profiles.NAME]"),
        ("profiles.default = 5\n", "a profile is a table [profiles.NAME]"),
        ("[profiles.defalt]\n", "there is no profile 'default'"),
        ("[profiles.defalt]\n", "did you mean 'defalt'?"),
        ("", "make it with tokenflow login --profile default --issuer"),
        ('[profiles.default]\nissuer = "https://a.example.com"\n', "client_id is missing"),
        ('[profiles.default]\nclient_id = "me"\n', "authorization_endpoint is missing"),
        ('[profiles.default]\nissuer = "http://a.example.com"\nclient_id = "me"\n', "must be https"),
    ],
)
def test_broken_files(text, says):
    """A file that is no TOML, or has something else in it, is told so with its name."""
    told = _refused(text)
    assert says in told
    assert "\n" not in told


@pytest.mark.usefixtures("config")
def test_the_first_of_several_mistakes():
    """Of several keys that do not belong there the first by name is told, in every run (a set has no order)."""
    head = f'[profiles.default]\nissuer = "{ISSUER}"\nclient_id = "me"\n'
    for pair in itertools.permutations(("client_key", "client_secret", "jwk", "key", "private_key"), 2):
        told = _refused(head + "".join(f'{key} = "x"\n' for key in pair))
        assert f": {min(pair)} does not belong into this file" in told
    for pair in itertools.permutations(("alpha", "beta", "gamma", "delta", "epsilon"), 2):
        assert f"has {min(pair)!r} at its top" in _refused("".join(f"{name} = 1\n" for name in pair))


def test_files_that_cannot_be_read(config):
    """What is no text, or a directory, is an error that names the file."""
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is not UTF-8"):
        load_profile()
    config.unlink()
    config.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_profile()


def test_which_file(config, tmp_path, monkeypatch):
    """The file is what is given, or else what TOKENFLOW_CONFIG names, or else the user's own, and hints say so."""
    for path, name in ((config, "own"), (tmp_path / "named.toml", "named"), (tmp_path / "given.toml", "given")):
        path.write_text(f'[profiles.{name}]\nissuer = "{ISSUER}"\nclient_id = "me"\n')
    assert profile_names() == ["own"]
    assert load_profile("own").how_to_log_in == "tokenflow login --profile own"
    monkeypatch.setenv("TOKENFLOW_CONFIG", str(tmp_path / "named.toml"))
    assert profile_names() == ["named"]
    given = tmp_path / "given.toml"
    assert profile_names(given) == ["given"]
    assert load_profile("given", given).how_to_log_in == f"tokenflow login --profile given --config {given}"


@pytest.mark.usefixtures("config")
def test_hints_work_elsewhere(tmp_path, monkeypatch):
    """A command to type names the file in full, also where TOKENFLOW_CONFIG names it: another shell has another."""
    monkeypatch.chdir(tmp_path)
    named = tmp_path / "named.toml"
    named.write_text(f'[profiles.own]\nissuer = "{ISSUER}"\nclient_id = "me"\n')
    monkeypatch.setenv("TOKENFLOW_CONFIG", "named.toml")
    assert load_profile("own").how_to_log_in == f"tokenflow login --profile own --config {named}"


@pytest.mark.parametrize("name", ["", "-x", "a\nb"])
def test_names_that_nobody_can_type(config, name):
    """A profile whose name is empty, begins with a dash or cannot be printed is told so."""
    config.write_text(f'[profiles.{json.dumps(name)}]\nissuer = "{ISSUER}"\nclient_id = "me"\n')
    with pytest.raises(ConfigurationError, match="cannot be a profile's name"):
        load_profile(name)


def test_no_home(monkeypatch):
    """Where there is no home directory, neither of HOME nor of the system, it is an error that names HOME."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TOKENFLOW_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_):
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for ask in (config_path, load_profile, FileStore, lambda: config_path(Path("~/x")), lambda: FileStore("~/x")):
        with pytest.raises(ConfigurationError, match="set HOME"):
            ask()
    with pytest.raises(ConfigurationError, match="set HOME, or write it in full"):
        config_path(Path("~nosuchuser/profiles.toml"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scope": "openid read", "audience": "orders", "resource": ["https://a.example.com", "https://b.example.com"]},
        {"extra": {"tenant": "7"}, "authorization_extra": {"prompt": "consent"}},
    ],
)
def test_a_program_has_the_same_session(more):
    """A program with the grant's own arguments, and the profile's name as subject, has the profile's session."""
    theirs = AuthorizationCode(issuer=ISSUER, client_id="me", subject="default", **more)
    assert _profile(**more).fingerprint == fingerprint(theirs, None)
    more = {name: value for name, value in more.items() if name != "authorization_extra"}
    device = DeviceCode(issuer=ISSUER, client_id="me", subject="default", on_prompt=print, **more)
    assert _profile(grant="device_code", **more).fingerprint == fingerprint(device, None)


def test_whose_session():
    """Two profiles have each their session, although server and client are the same; a subject makes it one."""
    one = _profile()
    other = Profile.of("other", one.path, PLAIN)
    assert one.fingerprint != other.fingerprint
    assert one.having(subject="s").fingerprint == other.having(subject="s").fingerprint
    assert one.fingerprint == one.having(redirect_port=8400, timeout=5, store="keyring").fingerprint


def test_named_endpoints():
    """A server without metadata has its endpoints named; those that a grant does not take count as metadata."""
    named = {
        "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t", "revocation_endpoint": f"{ISSUER}/r",
        "device_authorization_endpoint": f"{ISSUER}/d", "client_id": "me", "store": "file",
    }  # fmt: skip
    profile = Profile.of("default", Path("x"), named)
    assert profile.server == "auth.example.com"
    for by_device in (True, False):
        facts = dict(profile.login(by_device=by_device).identity()["server"]["endpoints"])
        assert facts == {name: url for name, url in named.items() if name.endswith("_endpoint")}


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
def test_no_login_by_itself(grant, monkeypatch):
    """Without a session, a token or a request is refused with the command to type; no browser is opened for it."""
    monkeypatch.setattr("webbrowser.open", pytest.fail)
    profile = _profile(grant=grant)
    for ask in (profile.token, profile.auth().token, profile.auth().warm):
        with pytest.raises(ReauthenticationRequired, match="run tokenflow login --profile default --config"):
            ask()


@pytest.mark.usefixtures("config")
def test_a_token_that_was_left_in_the_store():
    """What a login has put into the store is what the profile hands out, and nobody is asked for it."""
    profile = _profile()
    TokenAuth(AuthorizationCode(issuer=ISSUER, client_id="me", subject="default"), store=FileStore()).set_token(
        Token("access-1", expires_at=4e9)
    )
    assert profile.token().access_token == "access-1"
    assert profile.stored().token.access_token == "access-1"


@pytest.mark.usefixtures("config")
def test_nothing_is_renewed_aside(monkeypatch):
    """A token in its last quarter is handed out as it is: a renewal aside would be torn by the end of the process."""
    asked = []
    monkeypatch.setattr(TokenClient, "send", lambda *_: asked.append("the server") or pytest.fail("no network"))
    profile = _profile()
    entry = Entry(Token("access-1", refresh_token="r"), time.time() - 3400, 3600.0)  # early, and not due
    assert FileStore().save(profile.fingerprint, entry, replaces=None)
    with profile.auth() as auth:
        assert {auth.token().access_token for _ in range(3)} == {"access-1"}  # the first only looks into the store
    assert asked == []


@pytest.mark.usefixtures("config")
def test_an_answer_that_was_lost(monkeypatch):
    """A refresh token whose answer was lost is said to be sent once more; and after that, that one has to log in."""

    def silent(*_):
        raise httpx.ReadTimeout("late")

    monkeypatch.setattr(TokenClient, "send", silent)
    profile = _profile(**_ENDPOINTS)
    entry = Entry(Token("access-1", refresh_token="r"), time.time() - 1e6, 3600.0)
    assert FileStore().save(profile.fingerprint, entry, replaces=None)
    with pytest.raises(TokenEndpointUnavailable, match="may have spent the refresh token all the same: it is sent onc"):
        profile.token()
    with pytest.raises(ReauthenticationRequired, match=r"\(ReadTimeout\)\): run tokenflow login"):
        profile.token()
    with pytest.raises(ReauthenticationRequired, match="run tokenflow login"):
        profile.token()
    assert not profile.stored().is_refused


def test_which_store(monkeypatch, tmp_path):
    """Without `store` it is the keyring where there is one, or else a file."""
    settings = {"issuer": ISSUER, "client_id": "me"}
    monkeypatch.setattr("keyring.get_keyring", lambda: FileKeyring(tmp_path / "ring"))
    assert Profile.of("default", tmp_path, settings).store_kind == "keyring"
    from keyring.backends import fail

    monkeypatch.setattr("keyring.get_keyring", fail.Keyring)
    assert Profile.of("default", tmp_path, settings).store_kind == "file"


def _put_key(folder):
    """A private key in a file, and what verifies its signatures."""
    private = ec.generate_private_key(ec.SECP256R1())
    (folder / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return private.public_key()


def test_a_key_in_a_file(config, monkeypatch):
    """A profile's key_file, beside the file with the profiles, signs the client's assertion (RFC 7523 §2.2)."""
    public, sent = _put_key(config.parent), []

    def answer(_client, request, *_):
        sent.append(dict(request.form))
        return ServerResponse(200, {}, b'{"access_token": "access-1", "token_type": "Bearer", "expires_in": 60}')

    monkeypatch.setattr(TokenClient, "send", answer)
    profile = Profile.of(
        "default", config, {
            "client_id": "me", "grant": "client_credentials", "token_endpoint": f"{ISSUER}/token", "store": "file",
            "client_auth": "private_key_jwt", "key_file": "key.pem",
        },
    )  # fmt: skip
    assert profile.token().access_token == "access-1"
    claims = jwt.decode(sent[0]["client_assertion"], public, algorithms=["ES256"], audience=f"{ISSUER}/token")
    assert (claims["iss"], claims["sub"]) == ("me", "me")


def write_profile(config: Path, **settings: str) -> None:
    """The file, with one profile of a client that proves itself in that way."""
    said = {"issuer": ISSUER, "client_id": "me", "store": "file", **settings}
    lines = [f'{name} = "{value}"\n' for name, value in said.items()]
    config.write_text("".join(["[profiles.default]\n", *lines]))


@pytest.mark.usefixtures("config")
def test_a_key_that_is_not_there(config, capsys):
    """A login that could not prove the client says so before anybody is asked; a logout goes without the key."""
    write_profile(config, client_auth="private_key_jwt", key_file="gone.pem")
    with pytest.raises(SystemExit) as ended:
        login()
    assert ended.value.code == 1
    assert f"there is no regular file {config.parent / 'gone.pem'}" in capsys.readouterr().err
    logout()
    assert capsys.readouterr().out == "Nobody is logged in with the profile default.\n"


@pytest.mark.usefixtures("config")
def test_a_file_without_a_key(config, capsys):
    """A key_file with something else in it is named, with what it lacks, and none of it is shown."""
    write_profile(config, client_auth="private_key_jwt", key_file="key.pem")
    path = config.parent / "key.pem"
    for content, says in {
        "SENTINEL": f"the file {path} holds no private key (PEM or JWK)",
        "-----BEGIN CERTIFICATE-----\nSENTINEL\n": f"the client's key in the file {path} is a certificate: to sign",
    }.items():
        path.write_text(content)
        with pytest.raises(SystemExit):
            login()
        told = capsys.readouterr().err
        assert says in told
        assert "SENTINEL" not in told


@pytest.mark.usefixtures("config")
def test_a_login_with_a_certificate_that_is_not_there(config, capsys):
    """A login that could not prove the client says so before anybody is asked."""
    write_profile(config, client_auth="tls_client_auth", cert_file="gone.pem", key_file="key.pem")
    with pytest.raises(SystemExit) as ended:
        login()
    assert ended.value.code == 1
    assert f"the client's certificate {config.parent / 'gone.pem'} cannot be read" in capsys.readouterr().err


def test_a_certificate_in_files(config):
    """A profile's cert_file and key_file are the client's certificate in the TLS handshake (RFC 8705 §2)."""
    issued = trustme.CA().issue_cert("me")
    issued.cert_chain_pems[0].write_to_path(config.parent / "cert.pem")
    issued.private_key_pem.write_to_path(config.parent / "key.pem")
    settings = {**PLAIN, "client_auth": "tls_client_auth", "cert_file": "cert.pem", "key_file": "key.pem"}
    grant = Profile.of("default", config, settings).grant()
    assert grant.client_auth.method == "tls_client_auth"
    assert grant.client_auth.proof


def test_no_secret_in_a_repr(tmp_path):
    """A profile's repr is its name and its file: what is in `extra` may be a secret."""
    profile = Profile.of("default", tmp_path, {**PLAIN, "extra": {"key": "hush-SENTINEL"}})
    assert "SENTINEL" not in repr(profile)


# writing

HANDWRITTEN = """\
# my servers
[profiles.work]   # the company's
issuer = "https://auth.example.com"  # new since May
client_id = "me"

[profiles.home]
client_id = 'x'
issuer = "https://other.example.com"
"""


def test_writing_keeps_what_is_there(config):
    """A change keeps comments, order and the other profiles, and only what is meant is another."""
    config.write_text(HANDWRITTEN)
    write_settings(config, "work", {"client_id": "you", "store": "file"})
    expected = HANDWRITTEN.replace('client_id = "me"\n', 'client_id = "you"\nstore = "file"\n')
    assert config.read_text() == expected
    assert mode(config) == 0o600
    assert [path.name for path in config.parent.iterdir()] == ["profiles.toml"]


def test_writing_a_new_profile(config, tmp_path):
    """A profile is added to a file that is there, and to one that is made for it, in a directory made for that."""
    config.write_text(HANDWRITTEN)
    write_settings(config, "new.one", {"issuer": ISSUER, "resource": ["a", "b"]})
    assert config.read_text().startswith(HANDWRITTEN)
    assert read_config(config)["new.one"] == {"issuer": ISSUER, "resource": ["a", "b"]}
    other = tmp_path / "a" / "b" / "profiles.toml"
    write_settings(other, "one", {"issuer": ISSUER})
    assert tomllib.loads(other.read_text()) == {"profiles": {"one": {"issuer": ISSUER}}}
    assert (mode(other), mode(other.parent)) == (0o600, 0o700)


@pytest.mark.parametrize("text", ["profiles = {work = {client_id = 'me'}}\n", "profiles.work.client_id = 'me'\n"])
def test_writing_other_spellings(config, text):
    """Inline and dotted tables are changed as well, and nothing is lost."""
    config.write_text(text)
    write_settings(config, "work", {"issuer": ISSUER})
    assert read_config(config) == {"work": {"client_id": "me", "issuer": ISSUER}}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_writing_keeps_what_windows_writes(config, bom):
    """A mark at the beginning, and the ends of lines, are read past, and stay."""
    config.write_bytes(f"{bom}{HANDWRITTEN}".replace("\n", "\r\n").encode())
    write_settings(config, "work", {"client_id": "you"})
    expected = f"{bom}{HANDWRITTEN}".replace('client_id = "me"', 'client_id = "you"')
    assert config.read_bytes().decode() == expected.replace("\n", "\r\n")
    assert load_profile("work").settings["client_id"] == "you"


def test_writing_for_nobody_else(config, tmp_path):
    """Directories made for the file, or for the store, are 0700 whatever the umask says; a leftover harms nobody."""
    (config.parent / f".profiles.toml.{os.getpid()}").touch()
    write_settings(config, "one", {"issuer": ISSUER})
    before = os.umask(0)
    try:
        write_settings(tmp_path / "a" / "b" / "c.toml", "one", {"issuer": ISSUER})
        FileStore(tmp_path / "s" / "t").save("0" * 64, Entry(Token("x"), 0.0, None), replaces=None)
    finally:
        os.umask(before)
    assert {mode(tmp_path / one) for one in ("a", "a/b", "s", "s/t")} == {0o700}


def test_writing_over_another_mind(config):
    """A profile that is no longer what was read is not changed, unless it says already what is meant."""
    config.write_text(HANDWRITTEN)
    was = dict(read_config(config)["work"])
    write_settings(config, "work", {"client_id": "you"}, was=was)
    write_settings(config, "work", {"client_id": "you"}, was=was)
    text = config.read_text()
    for changes in ({"client_id": "she"}, {"scope": "read"}):
        with pytest.raises(ConfigurationError, match="changed meanwhile: its profile work has another client_id"):
            write_settings(config, "work", changes, was=was)
    assert config.read_text() == text


def test_writing_checks_itself(config, monkeypatch):
    """What would harm the file is not written: it is an error that says to do it by hand."""
    config.write_text(HANDWRITTEN)
    monkeypatch.setattr("tomlkit.dumps", lambda _document: "[profiles.work]\n")
    with pytest.raises(ConfigurationError, match="change profile work there"):
        write_settings(config, "work", {"issuer": ISSUER})
    assert config.read_text() == HANDWRITTEN


def test_writing_through_a_link(config, tmp_path):
    """Where the file is a link, as those who keep theirs in a repository have it, it stays one."""
    real = tmp_path / "dotfiles.toml"
    real.write_text(HANDWRITTEN)
    config.symlink_to(real)
    write_settings(config, "work", {"client_id": "you"})
    assert config.is_symlink()
    assert 'client_id = "you"' in real.read_text()


def test_writing_at_once(config):
    """Two who write at once lose nothing of one another."""
    config.write_text(HANDWRITTEN)
    threads = [threading.Thread(target=write_settings, args=(config, f"p{n}", {"client_id": "x"})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(read_config(config)) == {"work", "home", *(f"p{n}" for n in range(8))}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_writing_where_one_may_not(config):
    """A directory that cannot be written to is an error that names the file, and leaves it as it was."""
    config.write_text(HANDWRITTEN)
    config.parent.chmod(0o500)
    try:
        with pytest.raises(TokenFlowError, match=r"cannot be written"):
            write_settings(config, "work", {"client_id": "you"})
    finally:
        config.parent.chmod(0o700)
    assert config.read_text() == HANDWRITTEN


def test_a_write_that_fails_half_way(config, monkeypatch):
    """A disk that is full leaves the old file, and nothing beside it."""
    config.write_text(HANDWRITTEN)

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device"):
        write_settings(config, "work", {"client_id": "you"})
    assert config.read_text() == HANDWRITTEN
    assert [path.name for path in config.parent.iterdir()] == ["profiles.toml"]


def test_settings_of_all_kinds():
    """Every key that a profile may have is taken, in one profile or another."""
    check_settings(
        "here",
        {
            **PLAIN, "grant": "authorization_code", "client_secret_env": "SECRET_1",
            "client_auth": "client_secret_post",
            "scope": ["a", "b"], "resource": "https://a.example.com", "audience": "x", "extra": {"a": "b"},
            "token_type": "Bearer", "subject": "x", "redirect_port": 8400, "timeout": 60, "par": True,
            "authorization_extra": {"prompt": "login"},
        },
    )  # fmt: skip
    files = {"cert_file": "cert.pem", "key_file": "~/key.pem"}
    check_settings("here", {**PLAIN, "client_auth": "tls_client_auth", **files})
