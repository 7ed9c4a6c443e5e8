"""The keys that sign a sandbox's JWTs, and the JWKS that tells them (RFC 7517 §5).

Rules.

1. A 2048-bit RSA key takes up to half a second to make. A sandbox's nth key is therefore the process's nth key, made
   when it is first needed: sandboxes share keys, and differ in their issuer.
2. The newest key signs. Keys retired by a rotation stay in the JWKS, unless they are to be gone.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpx_tokenflow._signing import Key

ALG = "RS256"

_making = Lock()


class KeyRing:
    """The keys of one sandbox."""

    def __init__(self) -> None:
        self._newest = 0
        self._oldest = 0

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Make a JWT access token (RFC 9068 §2.1) of ``claims``."""
        key = _key(self._newest)
        return key.sign({"typ": "at+jwt", "kid": key.thumbprint}, claims)

    def rotate(self, *, keep_old: bool) -> None:
        """Sign with another key from now on."""
        self._newest += 1
        if not keep_old:
            self._oldest = self._newest

    def jwks(self) -> dict[str, Any]:
        """List the public keys, the newest first."""
        keys = [_key(number) for number in range(self._newest, self._oldest - 1, -1)]
        return {"keys": [{**key.public_jwk, "kid": key.thumbprint, "alg": ALG, "use": "sig"} for key in keys]}

    def private(self) -> list[str]:
        """List the private keys that were made, as JWKs: for who looks whether one has leaked."""
        made = _made.cache_info().currsize
        return [_key(number).to_json() for number in range(self._newest + 1)] if made else []


def _key(number: int) -> Key:
    with _making:  # or two threads would make the same one twice
        return _made(number)


@lru_cache(maxsize=32)
def _made(_number: int) -> Key:
    from httpx_tokenflow._signing import make_key

    return make_key(ALG)
