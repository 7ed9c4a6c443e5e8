"""An entry as the bytes that leave the process: JSON, or sealed with a key.

Rules.

1. Without keys an entry is JSON in the clear. With keys it is sealed by AES-GCM (NIST SP 800-38D), under the first of
   them; any of them opens it. So a key is changed in three steps: add the new one at the end everywhere; move it to the
   front; take the old one away when what it has sealed is renewed, or over.
2. The fingerprint is bound in as associated data: what was sealed for one client, user or scope opens for no other.
3. A store with keys takes nothing in the clear, unless it is told to: whoever can write into it could plant a token.
4. What cannot be read is an error that says why, and stays where it is: a wrong key is no lost session.

A sealed entry reads ``tokenflow1.<key id>.<nonce and ciphertext>``, base64url. Nothing can show that somebody has put
back an entry that was sealed earlier: encryption keeps secrets, and whoever can write can still undo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

from httpx_tokenflow._entries import Entry
from httpx_tokenflow._errors import ConfigurationError, DamagedEntry, StoreError
from httpx_tokenflow._extras import need_extra

__all__ = ["Codec"]

_KEY_SIZE = 32  # bytes
_NONCE_SIZE = 12  # bytes
_SEALED = b"tokenflow1."
_HOW = "base64.urlsafe_b64encode(os.urandom(32)), or Fernet.generate_key(), makes one"


class Codec:
    """Turns entries into bytes and back.

    Args:
        keys: urlsafe base64 of 32 bytes each; the first seals, all open. Empty: entries are in the clear.
        accepts_plain: with keys, also read what was stored before there were any.

    Raises:
        ConfigurationError: a key is no such thing, or the extra `crypto` is missing.
    """

    def __init__(self, keys: Iterable[str | bytes] = (), *, accepts_plain: bool = False) -> None:
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise ConfigurationError("keys= must be a list of keys, the first of which encrypts")
        self._ciphers = {_key_id(key): _cipher(key) for key in map(_read_key, keys)}
        self._accepts_plain = accepts_plain or not self._ciphers

    def __repr__(self) -> str:
        return f"<Codec with {len(self._ciphers)} keys>"

    def encode(self, fingerprint: str, entry: Entry) -> bytes:
        """The bytes of `entry`.

        Raises:
            StoreError: the token has something in it that JSON cannot hold.
        """
        try:
            plain = json.dumps(entry.to_dict(), separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"a token cannot be stored: Token.extra has what JSON cannot hold ({type(error).__name__})"
            ) from None
        for key_id, cipher in self._ciphers.items():
            nonce = os.urandom(_NONCE_SIZE)
            sealed = nonce + cipher.encrypt(nonce, plain, _bound(fingerprint))
            return _SEALED + key_id + b"." + base64.urlsafe_b64encode(sealed)
        return plain

    def decode(self, fingerprint: str, raw: bytes) -> Entry:
        """The entry in `raw`.

        Raises:
            StoreError: it was sealed with another key or for another fingerprint, is in the clear where it should not
                be, or is damaged.
        """
        if raw.startswith(_SEALED):
            plain = self._open(fingerprint, raw)
        elif self._accepts_plain:
            plain = raw
        else:
            raise StoreError(
                "the store holds an entry in the clear, and keys= are given: whoever can write there could have put it "
                "there. Give accepts_plain=True until all of them are renewed, or delete it"
            )
        try:
            data = json.loads(plain, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise DamagedEntry("an entry of the store is damaged (it is no JSON): delete it") from None
        if not isinstance(data, dict):
            raise DamagedEntry("an entry of the store is damaged (it is no JSON object): delete it")
        return Entry.from_dict(data)

    def _open(self, fingerprint: str, raw: bytes) -> bytes:
        if not self._ciphers:
            raise StoreError("an entry of the store is encrypted: give the store its keys=")
        key_id, _, text = raw.removeprefix(_SEALED).partition(b".")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise StoreError(
                "an entry of the store is encrypted with a key that is not among keys=: "
                "put the old key after the new one until everything is renewed"
            )
        try:
            sealed = base64.b64decode(text, altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(sealed) != text:  # its last bits may be anything to Python
                raise ValueError  # noqa: TRY301
            plain: bytes = cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], _bound(fingerprint))
        except Exception as error:  # noqa: BLE001 - InvalidTag, and whatever becomes of bytes that are none of ours
            raise StoreError(
                f"an entry of the store is damaged, was tampered with or belongs elsewhere ({type(error).__name__}): "
                "delete it"
            ) from None
        return plain


def _no_number(_: str) -> None:
    """NaN and the infinities: JSON to Python alone, and no entry with one could be written again."""
    raise ValueError


def _bound(fingerprint: str) -> bytes:
    return b"httpx_tokenflow 1 " + fingerprint.encode()


def _read_key(key: Any) -> bytes:
    try:
        text = key.encode("ascii") if isinstance(key, str) else bytes(key)
        decoded = base64.b64decode(text, altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        decoded = b""
    if len(decoded) != _KEY_SIZE:
        raise ConfigurationError(f"keys= must hold urlsafe base64 of {_KEY_SIZE} bytes each: {_HOW}") from None
    return decoded


def _key_id(key: bytes) -> bytes:
    """Names a key among others; says nothing about it, since it is random."""
    return hashlib.sha256(b"httpx_tokenflow key " + key).hexdigest()[:8].encode()


def _cipher(key: bytes) -> Any:
    with need_extra("crypto", "keys="):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    return AESGCM(key)
