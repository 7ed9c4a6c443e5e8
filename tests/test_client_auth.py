"""Client authentication by assertion and by certificate: what is said, to whom, how often, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import pickle
import ssl
import threading
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import httpx2
import jwt
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from httpx_tokenflow import (
    ClientCredentials,
    ClientSecretBasic,
    ClientSecretPost,
    ConfigurationError,
    RefreshToken,
    RenewalPolicy,
    TokenAuth,
    TokenEndpointUnavailable,
    TokenRequestError,
)
from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._certificates import CertificateFiles, _ends
from httpx_tokenflow._client_auth import (
    Client,
    ClientSecretJWT,
    NoClientAuth,
    PrivateKeyJWT,
    TLSClientAuth,
    audience_of,
)
from httpx_tokenflow._dpop import DPoP
from httpx_tokenflow._signing import make_key, read_key
from httpx_tokenflow._steps import Call, Fetch, ServerRequest
from httpx_tokenflow._times import SYSTEM_CLOCK
from httpx_tokenflow._token_auth import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://auth.example.com/token"
ISSUER = "https://auth.example.com"
SECRET = "a secret of sixty-four bytes, so that any of the hashes takes it"
GOOD = ServerResponse(200, {}, b'{"access_token": "a", "token_type": "Bearer"}')
LIBRARIES = [httpx, httpx2]


@cache
def key(alg: str = "ES256") -> Any:
    return make_key(alg)


def private_key_jwt(**options: Any) -> PrivateKeyJWT:
    return PrivateKeyJWT(key().to_json(), **options)


def signed(method: Any, *, issuer: str | None = None, secret: str = "", now: float = 1000.5) -> dict[str, str]:
    """The form that it signs."""
    with pytest.raises(StopIteration) as end:
        next(method.sign(ServerRequest(URL), Client("me", secret, issuer, URL, now, 5.0)))
    request = end.value.value
    assert len(dict(request.form)) == len(request.form)
    assert request.headers == ()
    return dict(request.form)


def claims(assertion: str) -> dict[str, Any]:
    return jwt.decode(assertion, options={"verify_signature": False})


def grant(**options: Any) -> ClientCredentials:
    return ClientCredentials(**{"token_endpoint": URL, "client_id": "me", **options})


def attempt(**options: Any) -> Attempt:
    return Attempt(None, SYSTEM_CLOCK.monotonic() + 5.0, SYSTEM_CLOCK, **options)


# Assertions


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_secret_signs(alg: str) -> None:
    """`client_secret_jwt` (RFC 7523 §2.2): the assertion proves the client, and the secret stays here."""
    form = signed(ClientSecretJWT(alg), secret=SECRET)
    assert form.keys() == {"client_id", "client_assertion_type", "client_assertion"}
    assert form["client_id"] == "me"
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert jwt.get_unverified_header(form["client_assertion"]) == {"typ": "JWT", "alg": alg}
    verified = jwt.decode(form["client_assertion"], SECRET, [alg], audience=URL, options={"verify_exp": False})
    assert (verified["iss"], verified["sub"]) == ("me", "me")
    assert SECRET not in str(form)


@pytest.mark.parametrize(("alg", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_that_is_too_short_for_its_hash(alg: str, least: int) -> None:
    """RFC 7518 §3.2, for which Okta and Spring refuse it in silence: refused before it is sent, and not quoted."""
    assert signed(ClientSecretJWT(alg), secret="s" * least)
    with pytest.raises(ConfigurationError, match=f"too short for {alg}, which wants {least} bytes") as caught:
        signed(ClientSecretJWT(alg), secret=SECRET[: least - 1])
    assert SECRET[: least - 1] not in str(caught.value)
    with pytest.raises(ConfigurationError, match="must be one of HS256, HS384, HS512"):
        ClientSecretJWT("RS256")


def test_a_key_signs() -> None:
    """`private_key_jwt` (RFC 7523 §3): from and about the client, for the server, short-lived, used once."""
    form = signed(private_key_jwt(kid="k1"))
    assert (form["client_id"], len(form)) == ("me", 3)
    assertion = form["client_assertion"]
    public = jwt.PyJWK(key().public_jwk, algorithm="ES256")
    said = jwt.decode(assertion, public, ["ES256"], audience=URL, options={"verify_exp": False})
    assert jwt.get_unverified_header(assertion) == {"typ": "JWT", "kid": "k1", "alg": "ES256"}
    assert (said["iss"], said["sub"], said["aud"]) == ("me", "me", URL)
    assert said.keys() == {"iss", "sub", "aud", "jti", "iat", "exp"}
    assert (said["iat"], said["exp"]) == (990, 1050)
    assert len(base64.urlsafe_b64decode(said["jti"] + "==")) >= 16


@pytest.mark.parametrize(
    ("audience", "issuer", "expected"),
    [
        (None, None, URL),
        (None, ISSUER, ISSUER),
        ("issuer", ISSUER, ISSUER),
        ("token_endpoint", ISSUER, URL),
        ("token_endpoint", None, URL),
        ("https://other.example.com/", ISSUER, "https://other.example.com/"),
    ],
)
def test_who_an_assertion_is_for(audience: str | None, issuer: str | None, expected: str) -> None:
    """The issuer where it is known, or else the token endpoint; or what the program says. One string."""
    form = signed(private_key_jwt(audience=audience), issuer=issuer)
    assert claims(form["client_assertion"])["aud"] == expected


def test_the_audience_may_be_the_very_endpoint() -> None:
    """Okta wants the URL of the request at hand, whichever endpoint that is."""
    method = private_key_jwt(audience="endpoint")
    assert claims(signed(method)["client_assertion"])["aud"] == "https://auth.example.com/token"


def test_further_members_of_the_header() -> None:
    """Entra knows a certificate by its thumbprint in the header; what signs cannot be overridden there."""
    method = private_key_jwt(headers={"x5t#S256": "thumb"})
    header = jwt.get_unverified_header(signed(method)["client_assertion"])
    assert (header["x5t#S256"], header["typ"], header["alg"]) == ("thumb", "JWT", "ES256")
    for name in ("alg", "kid", "typ"):
        with pytest.raises(ConfigurationError, match="headers"):
            private_key_jwt(headers={name: "x"})


def test_an_issuer_that_nobody_has_named() -> None:
    """The audience "issuer" without one is an error that says what to do."""
    with pytest.raises(ConfigurationError, match="give issuer="):
        audience_of("issuer", Client("me", "", None, URL, 0.0, 1.0))


@pytest.mark.parametrize("method", ["secret", "key"])
def test_each_assertion_has_a_name_of_its_own(method: str) -> None:
    """A `jti` is never used twice (RFC 7523 §3): two signatures of the same moment differ in it."""
    auth, secret = (ClientSecretJWT(), SECRET) if method == "secret" else (private_key_jwt(), "")
    names = {claims(signed(auth, secret=secret)["client_assertion"])["jti"] for _ in range(50)}
    assert len(names) == 50


def sent(flow: Any, *answers: ServerResponse) -> list[dict[str, str]]:
    """The forms of the token requests, answered like this."""
    forms, step, left = [], next(flow), iter(answers)
    try:
        while True:
            assert isinstance(step, Fetch | Call)
            if isinstance(step, Call):
                step = flow.send(step.function())
                continue
            forms.append(dict(step.request.form))
            step = flow.send(next(left))
    except (StopIteration, TokenRequestError):
        return forms


def test_a_second_sending_has_another_assertion() -> None:
    """After `use_dpop_nonce`, and after `invalid_client` with another secret, it is signed anew."""
    nonce = ServerResponse(400, {"dpop-nonce": "n"}, b'{"error": "use_dpop_nonce"}')
    bound = ServerResponse(200, {}, b'{"access_token": "a", "token_type": "DPoP"}')
    forms = sent(grant(client_auth=private_key_jwt()).obtain(attempt(dpop=DPoP())), nonce, bound)
    names = [claims(form["client_assertion"])["jti"] for form in forms]
    assert len(names) == len(set(names)) == 2

    wrong = ServerResponse(401, {}, b'{"error": "invalid_client"}')
    secrets = [SECRET, SECRET[::-1]]
    forms = sent(grant(client_auth=ClientSecretJWT(), client_secret=secrets).obtain(attempt()), wrong, GOOD)
    names = [claims(form["client_assertion"])["jti"] for form in forms]
    assert len(names) == len(set(names)) == 2
    for form, secret in zip(forms, secrets, strict=True):
        assert jwt.decode(form["client_assertion"], secret, ["HS256"], audience=URL)


def server(library: Any, *statuses: int) -> tuple[Any, list[dict[str, list[str]]]]:
    """Transport of a token endpoint and an API that answer like this, and then well; and the token requests."""
    forms: list[dict[str, list[str]]] = []
    left = list(statuses)

    def answer(request: Any) -> Any:
        if request.url.path != "/token":
            return library.Response(200)
        forms.append(parse_qs(request.content.decode()))
        status = left.pop(0) if left else 200
        return library.Response(status, json={"access_token": "a", "expires_in": 3600} if status == 200 else {})

    return library.MockTransport(answer), forms


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_attempt_of_a_renewal_has_another_assertion(library: Any) -> None:
    """A renewal that tries again after a 503 signs again; the callable that signs is asked each time."""
    transport, forms = server(library, 503, 503)
    asked: list[bytes] = []

    def sign(data: bytes) -> bytes:
        asked.append(data)
        return key()._signature(data)

    tokens = library.Client(transport=transport)
    method = PrivateKeyJWT(sign, alg="ES256", kid="kms")
    auth = TokenAuth(grant(client_auth=method), client=tokens, policy=RenewalPolicy(attempts=3))
    with tokens, library.Client(transport=transport, auth=auth) as client:
        assert client.get("https://api.example.com/x").status_code == 200
    names = [claims(form["client_assertion"][0])["jti"] for form in forms]
    assert len(names) == len(set(names)) == len(asked) == 3


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_async_callable_signs_on_a_loop_and_not_in_a_thread(library: Any) -> None:
    """From an event loop it is awaited; from a thread it is an error that says so, and nothing is sent."""
    transport, forms = server(library)

    async def sign(data: bytes) -> bytes:
        await asyncio.sleep(0)
        return key()._signature(data)

    method = PrivateKeyJWT(sign, alg="ES256")

    async def use() -> int:
        async with library.AsyncClient(transport=transport) as tokens:
            auth = TokenAuth(grant(client_auth=method), client=tokens)
            async with library.AsyncClient(transport=transport, auth=auth) as client:
                return (await client.get("https://api.example.com/x")).status_code

    assert asyncio.run(use()) == 200
    assert len(forms) == 1
    with library.Client(transport=transport) as tokens:
        auth = TokenAuth(grant(client_auth=method), client=tokens)
        with pytest.raises(ConfigurationError, match="PrivateKeyJWT's key is async, and this is a sync use"):
            auth.token()
    assert len(forms) == 1


def test_an_async_callable_that_hangs_is_given_up() -> None:
    """It has the time of the attempt; what it did not sign was not sent."""

    async def sign(data: bytes) -> bytes:
        await asyncio.sleep(60)
        raise AssertionError(data)

    transport, forms = server(httpx)

    async def use() -> None:
        async with httpx.AsyncClient(transport=transport) as tokens:
            method = PrivateKeyJWT(sign, alg="ES256")
            auth = TokenAuth(grant(client_auth=method), client=tokens, policy=RenewalPolicy(budget=0.2))
            await auth.atoken()

    with pytest.raises(TokenEndpointUnavailable, match="PrivateKeyJWT's key raised TimeoutError") as caught:
        asyncio.run(use())
    assert caught.value.outcome == "not sent"
    assert forms == []


def test_what_cannot_sign_fails_at_once() -> None:
    """A wrong key is an error where PrivateKeyJWT is written, and says what it is."""
    for wrong in ("/etc/key.pem", {"kty": "oct", "k": "AA"}, len):
        with pytest.raises(ConfigurationError, match="PrivateKeyJWT's key"):
            PrivateKeyJWT(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="wants P-384"):
        private_key_jwt(alg="ES384")


# Whose tokens


def test_the_key_counts_for_tokens_in_the_clients_own_name() -> None:
    """As a secret does for client credentials: by thumbprint, or by the name of a key that is elsewhere."""
    other = make_key()

    def of(method: Any, **options: Any) -> str:
        return fingerprint(grant(client_auth=method, **options), None)

    prints = [
        of(private_key_jwt()),
        of(PrivateKeyJWT(other.to_json())),
        of(PrivateKeyJWT(len, alg="ES256", kid="a")),
        of(PrivateKeyJWT(len, alg="ES256", kid="b")),
        of(PrivateKeyJWT(len, alg="ES256")),
        of(ClientSecretJWT(), client_secret=SECRET),
        of(ClientSecretJWT(), client_secret=SECRET[::-1]),
        of(ClientSecretBasic(), client_secret=SECRET),
    ]
    assert len(set(prints)) == len(prints)
    assert of(private_key_jwt()) == of(private_key_jwt(kid="k", audience="token_endpoint"))
    assert of(PrivateKeyJWT(len, alg="ES256", kid="a")) == of(PrivateKeyJWT(hash, alg="ES256", kid="a"))


def test_a_session_outlives_the_key(tmp_path: Path) -> None:
    """Neither key, secret nor certificate parts a person's tokens of before from those of after its rotation."""

    def of(method: Any, **options: Any) -> str:
        return fingerprint(RefreshToken(URL, client_id="me", subject="ann", client_auth=method, **options), None)

    assert of(private_key_jwt()) == of(PrivateKeyJWT(make_key().to_json()))
    assert of(ClientSecretJWT("HS512"), client_secret=SECRET) == of(ClientSecretJWT(), client_secret=SECRET[::-1])
    one, other = (TLSClientAuth(*write(tmp_path, name, issued(name))) for name in ("one", "other"))
    assert of(one) == of(other)
    assert fingerprint(grant(client_auth=one), None) != fingerprint(grant(client_auth=other), None)
    assert one.proof in str(grant(client_auth=one).identity())


def test_methods_need_what_they_need() -> None:
    """A secret where one signs, and none where a key or certificate does."""
    with pytest.raises(ConfigurationError, match="ClientSecretJWT needs client_secret="):
        grant(client_auth=ClientSecretJWT())
    with pytest.raises(ConfigurationError, match="contradict each other"):
        grant(client_auth=private_key_jwt(), client_secret=SECRET)


def test_nothing_shows_a_key_or_a_secret(tmp_path: Path) -> None:
    """Reprs of methods and grants name the key by its thumbprint; none of it can be pickled."""
    cert, path = write(tmp_path, "me", issued("me"))
    methods = [ClientSecretJWT(), private_key_jwt(), TLSClientAuth(cert, path, password="SENTINEL")]
    private = [json.loads(key().to_json())["d"], SECRET, "SENTINEL", *path.read_text().splitlines()[1:-1]]
    for method in methods:
        options = {"client_secret": SECRET} if method.needs_secret else {}
        shown = repr(method) + repr(grant(client_auth=method, **options)) + str(method.identity()) + str(method.proof)
        shown += repr(Client("me", SECRET, None, URL, 0.0, 1.0)) + repr(vars(type(method)))
        shown += repr(ServerRequest(URL).with_form(("client_assertion", SECRET)))
        assert not [one for one in private if one in shown]
    assert repr(private_key_jwt()) == f"<PrivateKeyJWT {key().thumbprint}>"
    assert repr(PrivateKeyJWT(len, alg="PS256")) == "<PrivateKeyJWT PS256>"
    assert repr(methods[2]) == f"<TLSClientAuth {methods[2].proof}>"
    assert methods[2].proof in repr(methods[2].certificate)
    for secret in methods[1:]:
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret)


def test_the_names_of_the_methods() -> None:
    """After RFC 7591 §2 and RFC 8705 §2.1."""
    names = [ClientSecretBasic, ClientSecretPost, ClientSecretJWT, PrivateKeyJWT, TLSClientAuth, NoClientAuth]
    assert [one.method for one in names] == [
        "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "none"
    ]  # fmt: skip


# Certificates

CA = trustme.CA()


def issued(name: str) -> trustme.LeafCert:
    return CA.issue_cert(f"{name}.example")


def write(folder: Path, name: str, cert: trustme.LeafCert) -> tuple[Path, Path]:
    chain, secret = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    secret.write_bytes(cert.private_key_pem.bytes())
    return chain, secret


def self_signed(starts: datetime, ends: datetime) -> tuple[str, str]:
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "me")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(secret.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(starts).not_valid_after(ends)
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    whole = builder.sign(secret, hashes.SHA256()).public_bytes(Encoding.PEM)
    return whole.decode(), secret.private_bytes(*form).decode()


def shown_by(files: CertificateFiles, context: ssl.SSLContext | None = None) -> str:
    """The name in the certificate that a context presents, seen from the other end of a handshake."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(context)
        files.load(context)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("server.example").configure_cert(theirs)
    CA.configure_trust(theirs)
    theirs.verify_mode = ssl.CERT_OPTIONAL
    ins, outs = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(ins, outs, server_hostname="server.example")
    other = theirs.wrap_bio(outs, ins, server_side=True)
    for _ in range(4):
        for end in (ours, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = other.getpeercert()
    return found["subjectAltName"][0][1].removesuffix(".example") if found else ""


def test_a_certificate_proves_the_client(tmp_path: Path) -> None:
    """RFC 8705 §2: the identifier in the form, the certificate in the handshake, its thumbprint as in `x5t#S256`."""
    leaf = issued("me")
    method = TLSClientAuth(*map(str, write(tmp_path, "me", leaf)))
    assert signed(method) == {"client_id": "me"}
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
    assert method.proof == method.certificate.thumbprint == thumbprint
    assert shown_by(method.certificate) == "me"


def test_a_thumbprint_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate is read without `cryptography`."""
    paths = write(tmp_path, "me", issued("me"))
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    assert TLSClientAuth(*paths).proof


def test_the_aliases_for_mutual_tls_are_used() -> None:
    """RFC 8705 §5: whoever has a certificate goes where certificates are asked for; others go where they went."""

    class Certified(NoClientAuth):
        certificate = None

    aliases = {"mtls_endpoint_aliases": {"token_endpoint": "https://mtls.example.com/token"}}
    for method, url in ((Certified(), "https://mtls.example.com/token"), (private_key_jwt(), URL)):
        step = next(grant(client_auth=method, metadata=aliases).obtain(attempt()))
        assert step.request.url == url


def test_an_encrypted_key_of_a_certificate(tmp_path: Path) -> None:
    """With its password, and with no other; and without one nobody is asked on the terminal."""
    cert, path = write(tmp_path, "me", issued("me"))
    secret = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"SENTINEL")))
    for password in ("SENTINEL", b"SENTINEL"):
        assert shown_by(TLSClientAuth(cert, path, password=password).certificate) == "me"
    for password in (None, "WRONG"):
        with pytest.raises(ConfigurationError, match="password= right if it is encrypted") as caught:
            TLSClientAuth(cert, path, password=password)
        assert "WRONG" not in str(caught.value)


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    """Each its own error, at construction: missing, no PEM, without its key, with another's, expired."""
    cert, path = write(tmp_path, "me", issued("me"))
    _, other = write(tmp_path, "other", issued("other"))
    now = datetime.now(UTC)
    old = tmp_path / "old.pem", tmp_path / "old.key"
    for file, text in zip(old, self_signed(now - timedelta(days=2), now - timedelta(seconds=1)), strict=True):
        file.write_text(text)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    wrong = [
        (tmp_path / "none.pem", path, "none.pem cannot be read: No such file"),
        (tmp_path, path, "cannot be read: Is a directory"),
        (path, path, "me.key has no certificate in it"),
        (damaged, path, "damaged.pem is PEM text that cannot be read"),
        (cert, tmp_path / "none.key", "none.key cannot be read: No such file"),
        (cert, cert, "me.pem cannot be used: it must be a private key"),
        (cert, other, "other.key is not the key of the certificate"),
        (*old, f"has expired on {now.date()}|has expired on {(now - timedelta(seconds=1)).date()}"),
    ]
    for one, secret, why in wrong:
        with pytest.raises(ConfigurationError, match=why):
            TLSClientAuth(one, secret)


@pytest.mark.parametrize("years", [1, 30, 5000])
def test_the_end_of_a_certificate_in_both_forms(tmp_path: Path, years: int) -> None:
    """Until 2049 with two digits of the year, after that with four (RFC 5280 §4.1.2.5): it is good."""
    now = datetime.now(UTC)
    paths = tmp_path / "me.pem", tmp_path / "me.key"
    for file, text in zip(paths, self_signed(now - timedelta(days=1), now.replace(year=now.year + years)), strict=True):
        file.write_text(text)
    assert TLSClientAuth(*paths).proof


@given(garbage=st.binary(max_size=60), at=st.integers(0, 200), change=st.integers(1, 255))
def test_the_end_of_what_is_no_certificate(garbage: bytes, at: int, change: int) -> None:
    """Whatever the bytes are, there is a time or none: a certificate is OpenSSL's to judge."""
    damaged = bytearray(ssl.PEM_cert_to_DER_cert(CA.cert_pem.bytes().decode()))
    damaged[at] ^= change
    for der in (garbage, b"\x30\x84" + garbage, bytes(damaged)):
        found = _ends(der)
        assert found is None or found.tzinfo is UTC


def test_a_certificate_that_changed_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next connection shows the new one, wherever the program has gone; whose tokens these are does not change."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "me", issued("first"))
    files = CertificateFiles("me.pem", "me.key")
    monkeypatch.chdir("/")
    thumbprint = files.thumbprint
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    files.load(context)
    assert shown_by(files, context) == "first"
    write(tmp_path, "me", issued("second"))
    assert shown_by(files, context) == "first"
    files.load(context)
    assert (shown_by(files, context), files.thumbprint) == ("second", thumbprint)


def test_a_mounted_secret_changes_at_the_end_of_a_link(tmp_path: Path) -> None:
    """As Kubernetes does it: a link to a directory is exchanged, sizes and times are the same."""
    link = tmp_path / "now"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for path in write(tmp_path / name, "me", issued(name)):
            path.write_bytes(path.read_bytes().ljust(4096, b"\n"))
            os.utime(path, (1000, 1000))
    link.symlink_to(tmp_path / "first")
    files = CertificateFiles(link / "me.pem", link / "me.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    files.load(context)
    new = tmp_path / "new"
    new.symlink_to(tmp_path / "second")
    new.replace(link)
    files.load(context)
    assert shown_by(files, context) == "second"


def test_in_the_middle_of_a_change_the_old_one_is_shown(tmp_path: Path) -> None:
    """Two files do not change at once: while they do not fit, or are away, the one of before serves."""
    cert, path = write(tmp_path, "me", issued("first"))
    files = CertificateFiles(cert, path)
    context, late = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    files.load(context)
    second = issued("second")
    cert.write_bytes(second.cert_chain_pems[0].bytes())
    for change in (lambda: None, lambda: path.write_text("half"), path.unlink):
        change()
        files.load(context)
        assert shown_by(files, context) == "first"
        with pytest.raises(TokenEndpointUnavailable, match="cannot be read now") as caught:
            files.load(late)
        assert (caught.value.outcome, caught.value.retryable) == ("not sent", True)
    path.write_bytes(second.private_key_pem.bytes())
    files.load(context)
    assert shown_by(files, context) == "second"


def test_a_change_under_the_eyes_is_not_taken_for_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the files change between the trial and the loading, that attempt fails, and the next one loads them."""
    cert, path = write(tmp_path, "me", issued("first"))
    files = CertificateFiles(cert, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    files.load(context)
    write(tmp_path, "me", issued("second"))
    third = issued("third")
    load, left = CertificateFiles._load, [None, lambda: cert.write_bytes(third.cert_chain_pems[0].bytes())]

    def loading(self: CertificateFiles, into: ssl.SSLContext) -> None:
        if left and (change := left.pop(0)) is not None:
            change()
        load(self, into)

    monkeypatch.setattr(CertificateFiles, "_load", loading)
    for _ in range(2):  # and it does not go on with half of it
        with pytest.raises(TokenEndpointUnavailable):
            files.load(context)
    path.write_bytes(third.private_key_pem.bytes())
    files.load(context)
    assert shown_by(files, context) == "third"


def test_it_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at two files costs microseconds, a key is not read for nothing; and contexts do not live on by it."""
    files = CertificateFiles(*write(tmp_path, "me", issued("me")))
    loads: list[Any] = []
    load = CertificateFiles._load
    monkeypatch.setattr(CertificateFiles, "_load", lambda self, into: (loads.append(1), load(self, into)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for _ in range(3):
        files.load(context)
    assert len(loads) == 2  # a trial, and the loading
    del context
    assert len(files._loaded) == 0


def test_threads_load_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One context may serve several loops: it is not loaded by two at once."""
    files = CertificateFiles(*write(tmp_path, "me", issued("me")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    inside, most, load = [], [0], CertificateFiles._load

    def loading(self: CertificateFiles, into: ssl.SSLContext) -> None:
        inside.append(1)
        most[0] = max(most[0], len(inside))
        threading.Event().wait(0.01)
        load(self, into)
        inside.pop()

    monkeypatch.setattr(CertificateFiles, "_load", loading)
    threads = [threading.Thread(target=files.load, args=(context,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_grant_without_a_client_says_nothing_of_one() -> None:
    """`none` with no identifier adds nothing to the form (RFC 7521 §4.1)."""
    flow = NoClientAuth().sign(ServerRequest(URL), Client("", "", None, URL, 0.0, 1.0))
    with pytest.raises(StopIteration) as end:
        next(flow)
    assert end.value.value.form == ()


def test_a_key_read_elsewhere_is_the_same() -> None:
    """What PrivateKeyJWT takes is what `read_key` takes: one and the same thumbprint."""
    assert private_key_jwt().proof == read_key(key().to_json()).thumbprint
