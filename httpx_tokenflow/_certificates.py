"""The certificate by which a client proves itself in the TLS handshake (RFC 8705), from files that may change.

Rules.

1. What cannot prove anything fails when it is read: a file that is missing or is no PEM text, a key that belongs to
   another certificate, a certificate that has expired.
2. Certificates are short-lived, and whatever renews them writes the files anew (mounted secrets, SPIFFE, cert-manager).
   So the files are looked at before each connection, and loaded again when they have changed. Two files do not change
   in one moment: what does not fit together is not loaded, and the certificate of before is shown until it does.
3. The thumbprint stays that of the first certificate: it names who the tokens were for, and a fingerprint never moves.
   Tokens bound to the one of before (§3) are refused by the API, and renewed like any other.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ._errors import ConfigurationError, TokenEndpointUnavailable
from ._forks import renew_after_fork
from ._signing import base64url

if TYPE_CHECKING:
    import os

__all__ = ["CertificateFiles"]

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _VERSION = 0x17, 0xA0  # tags of DER

_Stamp = tuple[tuple[int, int, int], ...]


class CertificateFiles:
    """A certificate with its chain, and its key, in PEM files.

    Args:
        cert: path of the certificate, the client's own first, then its chain. A relative one counts from the directory
            that is current now.
        key: path of its private key.
        password: of the key, where it is encrypted.

    Raises:
        ConfigurationError: it cannot be used; the message says why.
    """

    __slots__ = ("__weakref__", "_cert", "_key", "_loaded", "_lock", "_password", "thumbprint")

    def __init__(
        self, cert: str | os.PathLike[str], key: str | os.PathLike[str], password: str | bytes | None = None
    ) -> None:
        self._cert, self._key = Path(cert).absolute(), Path(key).absolute()
        self._password = password
        self._loaded: weakref.WeakKeyDictionary[ssl.SSLContext, _Stamp] = weakref.WeakKeyDictionary()
        der = _read(self._cert)
        ends = _ends(der)
        if ends is not None and ends <= datetime.now(UTC):
            raise ConfigurationError(f"the client's certificate {self._cert} has expired on {ends.date()}: renew it")
        self.thumbprint: str = base64url(hashlib.sha256(der).digest())
        """Of the certificate (RFC 8705 §3.1, `x5t#S256`)."""
        self._after_fork()
        renew_after_fork(self)
        self._try()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<CertificateFiles {self.thumbprint}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a certificate with its key is not pickled: read it in each process")

    def load(self, context: ssl.SSLContext) -> None:
        """Have `context` present the certificate, as the files have it now (rule 2).

        Raises:
            TokenEndpointUnavailable: it cannot be read, and the context has none of before.
        """
        with self._lock:
            loaded = self._loaded.get(context)
            try:
                stamp = _stamp(self._cert, self._key)
                if stamp == loaded:
                    return
                self._try()
            except (OSError, ConfigurationError) as error:
                if loaded is None:
                    raise _unavailable() from error
                return
            try:
                self._load(context)
            except OSError as error:  # they have changed again, and the context has half of it
                self._loaded.pop(context, None)
                raise _unavailable() from error
            self._loaded[context] = stamp

    def _try(self) -> None:
        """Load it where it does no harm.

        Raises:
            ConfigurationError: it cannot be loaded.
        """
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigurationError(f"{self._key} is not the key of the certificate {self._cert}") from None
            raise ConfigurationError(
                f"{self._key} cannot be used: it must be a private key in PEM, and password= right if it is encrypted"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{self._key} cannot be read: {error.strerror}") from None

    def _load(self, context: ssl.SSLContext) -> None:
        # Never without a password: OpenSSL would ask for it on the terminal.
        context.load_cert_chain(self._cert, self._key, password=self._password or "")


def _unavailable() -> TokenEndpointUnavailable:
    return TokenEndpointUnavailable("the client's certificate cannot be read now", outcome="not sent")


def _stamp(*paths: Path) -> _Stamp:
    """What changes when one of the files does: a mounted secret changes by another file at the end of a link."""
    found = (path.stat() for path in paths)
    return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)


def _read(path: Path) -> bytes:
    """The first certificate in a file, as DER.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        found = _FIRST.search(path.read_text("latin-1"))
    except OSError as error:
        raise ConfigurationError(f"the client's certificate {path} cannot be read: {error.strerror}") from None
    if found is None:
        raise ConfigurationError(f"{path} has no certificate in it: it must be in PEM (BEGIN CERTIFICATE)")
    try:
        return ssl.PEM_cert_to_DER_cert(found[0])
    except ValueError:
        raise ConfigurationError(f"{path} is PEM text that cannot be read: check that it is whole") from None


def _ends(der: bytes) -> datetime | None:
    """When a certificate expires (RFC 5280 §4.1.2.5); None where that cannot be read."""
    try:
        at = _element(der, _element(der, 0)[1])[1]  # inside its first part
        if der[at] == _VERSION:
            at = _element(der, at)[2]
        for _ in range(3):  # the serial number, the algorithm, the issuer
            at = _element(der, at)[2]
        tag, start, end = _element(der, _element(der, _element(der, at)[1])[2])  # the second of the two times
        text = der[start:end].decode("ascii")
        if tag == _UTC_TIME:
            text = ("19" if text >= "50" else "20") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return None


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Its tag, and where its content starts and ends."""
    start, length = at + 2, der[at + 1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    return der[at], start, start + length
