"""DPoP: tokens that are of use only to who holds a key (RFC 9449).

Rules.

1. Each request has a proof of its own, made when it is sent, and again when it is sent again (§7.3): for its method,
   its URL without query and fragment, the token that goes along, and the server's newest nonce.
2. A nonce belongs to the server that gave it (§8, §9): authorization servers and APIs are kept apart, and so are
   origins. The newest one counts, whatever answer it came with (§8.2).
3. A key made for the occasion is kept with the token: who loads the token from a store can use it (§5: a refresh token
   of a public client is bound to the key as well).
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from ._errors import ConfigurationError
from ._forks import renew_after_fork
from ._sealing import seal, unseal
from ._signing import base64url, key_from_json, make_key, read_key
from ._tokens import check_credential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._credentials import Presented
    from ._entries import Entry
    from ._signing import Key
    from ._times import Clock

__all__ = ["DPoP", "InDPoP"]

MAX_NONCES = 1024  # servers of which the nonce is remembered: the latest


class InDPoP:
    """In `Authorization`, with a proof beside it; both sealed to the one request (RFC 9449 §7.1)."""

    __slots__ = ("_clock", "_dpop")

    sealed = True
    place = "Authorization"

    def __init__(self, dpop: DPoP, clock: Clock) -> None:
        self._dpop = dpop
        self._clock = clock

    def is_on(self, request: Any) -> bool:
        return "authorization" in request.headers

    def put(self, request: Any, held: Presented) -> None:
        dpop, entry = self._dpop, held.entry
        proof = dpop.proof_for_api(
            dpop.key_of(entry), request.method, _htu(request.url), self._clock.wall(), entry.token.access_token
        )
        request.headers = seal(request.headers, {"Authorization": held.value, "DPoP": proof})

    def carries(self, request: Any, held: Presented) -> bool:
        return bool(request.headers.get("Authorization") == held.value)

    def take_off(self, request: Any) -> None:
        unseal(request, "Authorization", "DPoP")

    def heed(self, response: Any) -> bool:
        nonce = response.headers.get("DPoP-Nonce")
        self._dpop.heed_api(_htu(response.request.url), nonce)
        return nonce is not None


def _htu(url: Any) -> str:
    """`url` (of httpx or httpx2) as a proof has it: without query, fragment and user (RFC 9449 §4.2)."""
    scheme = {"wss": "https", "ws": "http"}.get(url.scheme, url.scheme)
    return f"{scheme}://{url.netloc.decode('ascii')}{url.raw_path.partition(b'?')[0].decode('ascii')}"


class DPoP:
    """Binds tokens to a key, and proves on each request that it is at hand (RFC 9449). Needs the extra `crypto`.

    Give it to `TokenAuth` as ``dpop=``. One object may serve any number of them.

    Args:
        key: the private key, PEM or a JWK. None: one is made for the occasion (ES256) and kept with the token.
        alg: how it signs; None: as the key's type has it (ES256 for P-256, RS256 for RSA, EdDSA for Ed25519).

    Raises:
        ConfigurationError: the key cannot be used, or the extra is not installed.
    """

    __slots__ = ("__weakref__", "_given", "_keys", "_lock", "_made", "_nonces")

    def __init__(self, key: str | bytes | Mapping[str, Any] | None = None, *, alg: str | None = None) -> None:
        if key is None and alg is not None:
            raise ConfigurationError("alg= is for a key that is given")
        self._given = None if key is None else read_key(key, alg=alg, what="DPoP's key")
        self._made = self._given or make_key("ES256", what="DPoP")
        self._keys: dict[str, Key] = {}  # as kept with a token -> ready to sign
        self._nonces: dict[tuple[str, str], str] = {}  # who it is for, and its origin -> the newest nonce
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<DPoP {self._given.thumbprint}>" if self._given is not None else "<DPoP with a key of its own>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a DPoP is not pickled: it holds a private key; make one in each process")

    def identity(self) -> str | None:
        """What it adds to a fingerprint: which key; None if that is kept with the token."""
        return self._given.thumbprint if self._given is not None else None

    @property
    def thumbprint(self) -> str:
        """Of the key that new tokens are bound to (RFC 7638), as `dpop_jkt` has it (RFC 9449 §10)."""
        return self._made.thumbprint

    def key_of(self, entry: Entry | None) -> Key:
        """The key that `entry` is bound to, or that a new token is to be bound to."""
        if self._given is not None or entry is None or entry.key is None:
            return self._made
        key = self._keys.get(entry.key)
        if key is None:
            key = key_from_json(entry.key)
            self._keys = {entry.key: key}
        return key

    def kept(self, key: Key) -> str | None:
        """`key` as it is kept with a token; None if the program has it."""
        return None if self._given is not None else key.to_json()

    def proof_for_server(self, key: Key, url: str, now: float) -> str:
        """A proof for a request to an authorization server (§5)."""
        return self._proof(key, "POST", url, now, self._nonces.get(("server", _origin(url))), {})

    def proof_for_api(self, key: Key, method: str, url: str, now: float, access_token: str) -> str:
        """A proof for a request with a token (§7.1)."""
        ath = base64url(hashlib.sha256(check_credential(access_token, "the token").encode()).digest())
        return self._proof(key, method, url, now, self._nonces.get(("api", _origin(url))), {"ath": ath})

    def heed_server(self, url: str, nonce: str | None) -> None:
        """An authorization server has answered, with a new nonce or without (§8)."""
        self._heed(("server", _origin(url)), nonce)

    def heed_api(self, url: str, nonce: str | None) -> None:
        """An API has answered, with a new nonce or without (§9)."""
        self._heed(("api", _origin(url)), nonce)

    def _heed(self, whose: tuple[str, str], nonce: str | None) -> None:
        if not nonce or self._nonces.get(whose) == nonce:
            return
        with self._lock:  # or of two nonces that come at once one is lost, and with it a request
            others = [(other, one) for other, one in self._nonces.items() if other != whose]
            self._nonces = dict([*others[1 - MAX_NONCES :], (whose, nonce)])

    def _proof(self, key: Key, method: str, url: str, now: float, nonce: str | None, claims: dict[str, Any]) -> str:
        claims = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url.partition("?")[0],
            "iat": int(now),
            **claims,
        }
        if nonce is not None:
            claims["nonce"] = nonce
        return key.sign({"typ": "dpop+jwt", "jwk": key.public_jwk}, claims)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
