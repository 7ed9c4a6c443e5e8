"""What lies in a store, put there by whoever can write to it: in the clear, sealed, whole, in parts, of any shape."""

from __future__ import annotations

import asyncio
import base64
import json
from functools import partial
from typing import Any

from httpx_tokenflow import StoreError, Token, TokenFlowError
from httpx_tokenflow._entries import Entry
from httpx_tokenflow.stores import FileStore, KeyringStore, KeyValueStore, RedisStore
from httpx_tokenflow.stores._codec import Codec

from .draws import SECRET, Draws, below, sure, told

NAMES = (
    "version", "token", "issued_at", "lifetime", "presented", "session", "refresh_in", "skew", "asked", "issuer", "key",
    "note", "access_token", "token_type", "expires_at", "refresh_token", "scope", "id_token", "extra",
)  # fmt: skip
WORDS = (SECRET, "refused x", "given-up x", "parts a 1 ", "parts b 99 " + "0" * 64, "tokenflow1.", "Bearer")
SEEDS = (
    (
        b'\x00{"version":1,"token":{"access_token":"SENTINEL-8f3a6c1e5b7d","refresh_token":"r","extra":{"a":1}},'
        b'"issued_at":1800000000.0,"lifetime":60.0,"presented":1,"session":"s","note":"refused ab"}'
    ),
    b"\x02tokenflow1.00000000.AAAA",
    b"\x03\x01\x00parts a 2 0123",
    b"\x05\x00\x01\x00",
    b'\x06{"access_token":"a","expires_at":1800000000,"extra":{}}',
)  # fmt: skip
_KEY = base64.urlsafe_b64encode(bytes(range(32)))
_PLAIN, _SEALED, _BOTH = Codec(), Codec([_KEY]), Codec([_KEY], accepts_plain=True)
_KEY_ID = _SEALED.encode("f", Entry(Token("a"), 0.0, None)).split(b".")[1]
_ENTRY = Entry(Token(SECRET, refresh_token="r"), 1_800_000_000.0, 60.0, session="s")
_FRAME = '{{"version":1,"issued_at":1,"token":{{"access_token":"a","refresh_token":"r"}},{}}}'


def check(data: bytes) -> None:
    """It is an entry that comes back as it is, or a `StoreError` that tells no secret; a token, or its errors."""
    draws = Draws(data, NAMES, WORDS)
    kind = draws.number(6)
    if kind == 6:
        _check_token(draws)
        return
    try:
        if kind == 0:
            entry = _PLAIN.decode("f", _raw(draws))
        elif kind == 1:
            entry = Entry.from_dict(_object(draws))
        elif kind == 2:
            entry = _check_sealed(draws)
        else:
            entry = (_in_keyring, _in_redis, _in_key_value)[kind - 3](draws)
    except StoreError as error:
        sure(SECRET not in told(error), "an error tells a secret", told(error))
        return
    if entry is not None:
        _comes_back(entry)


def _raw(draws: Draws) -> bytes:
    """An entry that is nearly one, or any bytes."""
    kind = draws.number(3)
    if kind == 0:
        return draws.rest()
    if kind == 1:
        return draws.body()
    raw = _PLAIN.encode("f", _ENTRY)
    if kind == 2:
        member = f"{json.dumps(draws.name())}:{draws.json()}"
        return _FRAME.format(member).encode("utf-8", "surrogatepass")
    at = draws.number(len(raw))
    return raw[:at] + draws.bytes(8) + raw[at + draws.number(4) :]


def _object(draws: Draws) -> Any:
    """What JSON can hold, as a mapping: whoever calls `from_dict` has seen that it is one."""
    try:
        found = json.loads(_raw(draws))
    except (ValueError, RecursionError):
        return {"version": 1}
    return found if isinstance(found, dict) else {"version": found}


def _check_sealed(draws: Draws) -> Entry:
    kind = draws.number(4)
    if kind == 0:
        return _BOTH.decode("f", _raw(draws))
    raw = _SEALED.encode("f", _ENTRY)
    if kind == 1:
        sure(_SEALED.decode("f", raw) == _ENTRY, "what was sealed is another", raw)
        raw = b"tokenflow1." + draws.rest()
    elif kind == 2:
        raw = b"tokenflow1." + _KEY_ID + b"." + draws.rest()
    elif kind == 3:
        raw = b"tokenflow1." + _KEY_ID + b"." + base64.urlsafe_b64encode(draws.rest())
    else:
        at = draws.number(len(raw) - 1)
        changed = raw[:at] + bytes([raw[at] ^ (draws.byte() or 1)]) + raw[at + 1 :]
        raw = changed if changed.startswith(b"tokenflow1.") else b""
    entry = _SEALED.decode("f", raw)
    raise AssertionError(f"what nobody has sealed is an entry: {entry!r} {raw!r}")


class _Keyring:
    """In the place of `keyring`: what it holds is a mapping."""

    def __init__(self, items: dict[str, str]) -> None:
        self._items = items

    def get_password(self, _service: str, name: str) -> str | None:
        return self._items.get(name)

    def get_keyring(self) -> _Keyring:
        return self


def _in_keyring(draws: Draws) -> Entry | None:
    import hashlib

    text = _raw(draws).decode("utf-8", "surrogateescape")
    size = draws.pick((50, 1000, 1, 7))
    parts = [text[at : at + size] for at in range(0, len(text), size)][:1000]
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    head = draws.pick((f"parts a {len(parts)} {digest}", text, f"parts b {draws.number(40)} {digest}"))
    store = KeyringStore.__new__(KeyringStore)
    store._codec, store._service = _PLAIN, "s"
    store._keyring = _Keyring({"f": head} | {f"f.a.{number}": part for number, part in enumerate(parts)})
    return store._decode("f", store._certain("f"))


def _in_redis(draws: Draws) -> Entry | None:
    store = RedisStore.__new__(RedisStore)
    store._codec, store._offset = _PLAIN, draws.pick((0, 1, -3600, 10**9))
    raw = draws.pick((b"", b" ", b"0123456789abcdef ")) + _raw(draws)
    entry = store._decode("f", draws.pick((raw, raw, raw, b"")))
    if entry is not None:  # whoever writes it again counts on Redis' clock
        store._decode("f", store._encode("f", entry))
    return entry


class _KeyValue:
    """In the place of a store of py-key-value-aio."""

    def __init__(self, value: Any) -> None:
        self._value = value

    async def get(self, *_: Any, **__: Any) -> Any:
        return self._value

    put = delete = get


_LOOP = asyncio.new_event_loop()


def _in_key_value(draws: Draws) -> Entry | None:
    text = _raw(draws).decode("utf-8", "surrogateescape")
    value = draws.pick(({"entry": text}, {"entry": text}, None, {}, {"entry": None}, {"entry": 1}, {"entry": [text]}))
    return _LOOP.run_until_complete(KeyValueStore(_KeyValue(value)).aload("f"))


def _comes_back(entry: Entry) -> None:
    again = Entry.from_dict(json.loads(json.dumps(entry.to_dict())))
    sure(again.to_dict() == entry.to_dict() and again.fence == entry.fence, "an entry is another", entry)
    sure(entry.token.access_token.isascii() and entry.token.access_token.isprintable(), "a token is none", entry)
    sure(entry.age(0.0) >= 0, "an age is less than nothing", entry)
    kept = entry.kept_for(0.0)
    sure(kept is None or kept >= 0, "it is kept for less than nothing", entry)
    plain = (entry.session, entry.asked, entry.issuer, entry.note, entry.token.scope, entry.token.token_type)
    sure(SECRET in str(plain) or SECRET not in repr(entry), "a repr shows a secret", entry)
    try:
        raw = _PLAIN.encode("f", entry.marked(1))
    except StoreError:
        return
    sure(_PLAIN.decode("f", raw).stamp == entry.stamp, "its note makes another of it", raw)


def _check_token(draws: Draws) -> None:
    """`Token.from_dict`, which programs give what they have kept themselves."""
    try:
        found = json.loads(draws.body())
    except (ValueError, RecursionError):
        return
    if not isinstance(found, dict):
        return
    try:
        token = Token.from_dict(found)
    except TokenFlowError as error:
        sure(SECRET not in told(error), "an error tells a secret", told(error))
        return
    sure(Token.from_dict(token.to_dict()) == token, "a token is another", token)
    sure(token.session, "its login has no name", token)
    sure(token.with_refresh_token(None).refresh_token is None, "a refresh token stays", token)


def _file(text: str) -> object:
    store = FileStore.__new__(FileStore)
    store._codec = _PLAIN
    store._path = lambda _: "f"  # type: ignore[method-assign]
    try:
        entry = store._decode("f", text.encode())
        return None if entry is None else (entry.fence, below(partial(_PLAIN.encode, "f", entry)))
    except StoreError as error:
        return str(error)


def _sealed(text: str) -> object:
    try:
        return _SEALED.decode("f", b"tokenflow1." + _KEY_ID + b"." + text.encode())
    except StoreError as error:
        return str(error)


def _keyring(text: str) -> object:
    try:
        return _in_keyring(Draws(b"\x00" + text.encode()))
    except StoreError as error:
        return str(error)


READERS = {
    "a file": _file,
    "a sealed entry": _sealed,
    "a token": lambda text: _file(_FRAME.format(f'"note":{json.dumps(text)},"session":{json.dumps(text)}')),
    "a version": lambda text: _file(f'{{"version":{json.dumps(text)}}}'),
    "a keyring": _keyring,
}
UNITS = (*WORDS, "a", "=", "A", "AAAA", "9", "[", '{"a":', '"', "\\", "\\u0000", '"a":1,', "ä", " ", ".", "parts a 1 ")

NESTED = {
    "an entry": _file,
    "its version": lambda text: _file(f'{{"version":{text}}}'),
    "its session": lambda text: _file(_FRAME.format(f'"session":{text}')),
    "what came along": lambda text: _file(
        f'{{"version":1,"issued_at":1,"token":{{"access_token":"a","extra":{{"x":{text}}}}}}}'
    ),
}
