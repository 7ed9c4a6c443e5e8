"""Entries as bytes: in the clear, sealed, damaged, and sealed by somebody else."""

from __future__ import annotations

import base64
import json
import math
import sys
from itertools import pairwise
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import example, given
from hypothesis import strategies as st

from httpx_tokenflow import ConfigurationError, StoreError, Token
from httpx_tokenflow.stores import Entry
from httpx_tokenflow.stores._codec import Codec

OLD, NEW, OTHER = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2, 251))
ENTRY = Entry(Token("SENTINEL-a", refresh_token="SENTINEL-r"), issued_at=1e9, lifetime=3600.0, presented=1, session="s")
FULL = ENTRY.having(
    token=Token("a", "DPoP", 2e9, "r", "read é", "i.d", {"n": [1, None, {"x": 2.5}]}),
    refresh_in=1.5,
    skew=-2.0,
    asked="write",
    issuer="https://as.example",
    key='{"kty": "EC"}',
)
BARE = Entry(Token("a"), issued_at=0.0, lifetime=None)


def flipped(raw: bytes, at: int, how: int = 1) -> bytes:
    return raw[:at] + bytes([raw[at] ^ how]) + raw[at + 1 :]


@pytest.mark.parametrize("keys", [[], [NEW], [NEW, OLD], [Fernet.generate_key()], (key for key in [NEW])])
@pytest.mark.parametrize("entry", [ENTRY, FULL, BARE])
def test_a_round_trip(keys: Any, entry: Entry) -> None:
    """What is encoded is decoded as it was, in the clear and sealed, with keys as text or bytes."""
    keys = list(keys) or [NEW]
    for codec in (Codec(), Codec(keys)):
        decoded = codec.decode("f", codec.encode("f", entry))
        assert decoded.to_dict() == entry.to_dict()
        assert decoded.fence == entry.fence


def test_what_is_sealed_shows_nothing() -> None:
    """A sealed entry has no word of the token in it, and is another each time, so that equal tokens do not show."""
    codec = Codec([NEW])
    first, second = codec.encode("f", ENTRY), codec.encode("f", ENTRY)
    assert first != second
    for raw in (first, base64.urlsafe_b64decode(first.rpartition(b".")[2])):
        assert b"SENTINEL" not in raw
        assert b"token" not in raw.removeprefix(b"tokenflow1.")


def test_keys_are_changed_in_three_steps() -> None:
    """The new key behind the old one, then before it, then alone: at no step is there an entry that nobody can read."""
    steps = [Codec([OLD]), Codec([OLD, NEW]), Codec([NEW, OLD]), Codec([NEW])]
    for before, after in pairwise(steps[:-1]):  # two steps are out in the fleet at once
        for writer, reader in ((before, after), (after, before)):
            assert reader.decode("f", writer.encode("f", ENTRY)).stamp == ENTRY.stamp
    assert steps[3].decode("f", steps[2].encode("f", ENTRY)).stamp == ENTRY.stamp  # the first one seals
    with pytest.raises(StoreError, match="not among keys="):
        steps[3].decode("f", steps[1].encode("f", ENTRY))


def test_another_key() -> None:
    """Who has not got the key is told that it is the key, and what to do about it."""
    with pytest.raises(StoreError, match=r"a key that is not among keys=.*put the old key after the new one"):
        Codec([OTHER]).decode("f", Codec([NEW]).encode("f", ENTRY))


def test_a_sealed_entry_without_keys() -> None:
    """Who has no keys is told to give them."""
    with pytest.raises(StoreError, match="is encrypted: give the store its keys="):
        Codec().decode("f", Codec([NEW]).encode("f", ENTRY))


def test_an_entry_of_another_fingerprint() -> None:
    """What was sealed for one client, user or scope opens for no other, however it came there."""
    codec = Codec([NEW])
    raw = codec.encode("f", ENTRY)
    for elsewhere in ("g", "", "f ", "F"):
        with pytest.raises(StoreError, match="belongs elsewhere"):
            codec.decode(elsewhere, raw)


def test_an_entry_in_the_clear_where_keys_are_given() -> None:
    """With keys nothing in the clear is taken, since anybody could have put it there, unless that is asked for."""
    raw = Codec().encode("f", ENTRY)
    with pytest.raises(StoreError, match=r"in the clear.*accepts_plain=True"):
        Codec([NEW]).decode("f", raw)
    accepting = Codec([NEW], accepts_plain=True)
    assert accepting.decode("f", raw).stamp == ENTRY.stamp
    assert accepting.encode("f", ENTRY).startswith(b"tokenflow1.")


@pytest.mark.parametrize("how", [1, 0x20, 0x80, 0xFF])
@pytest.mark.parametrize("accepts_plain", [False, True])
def test_every_byte_counts(how: int, accepts_plain: bool) -> None:
    """A sealed entry of which any single byte has changed is refused, wherever that is (but see the next test)."""
    codec = Codec([NEW, OLD], accepts_plain=accepts_plain)
    raw = codec.encode("f", ENTRY)
    last = len(raw.rstrip(b"=")) - 1
    for at in [at for at in range(len(raw)) if at != last]:
        with pytest.raises(StoreError):
            codec.decode("f", flipped(raw, at, how))


def test_every_byte_counts_in_its_last_bits_too() -> None:
    """No two texts of a sealed entry mean the same one: base64 has spare bits at its end, and they count as well."""
    codec = Codec([NEW])
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for extra in range(3):
        raw = codec.encode("f", ENTRY.having(session="s" * extra)).rstrip(b"=")
        ends = b"=" * (-len(raw.rpartition(b".")[2]) % 4)
        good = [last for last in alphabet if _opens(codec, raw[:-1] + bytes([last]) + ends)]
        assert good == [raw[-1]]


def _opens(codec: Codec, raw: bytes) -> bool:
    try:
        codec.decode("f", raw)
    except StoreError:
        return False
    return True


@pytest.mark.parametrize("keys", [[], [NEW]])
def test_half_an_entry(keys: list[str]) -> None:
    """An entry that ends anywhere before its end, or goes on after it, is refused."""
    codec = Codec(keys)
    raw = codec.encode("f", FULL)
    for end in range(len(raw)):
        with pytest.raises(StoreError):
            codec.decode("f", raw[:end])
    for tail in (b"x", b"=", b"\x00", b".", raw):
        with pytest.raises(StoreError):
            codec.decode("f", raw + tail)


@pytest.mark.parametrize(
    "keys",
    [
        ["SENTINEL no base64 ???"],
        [base64.urlsafe_b64encode(b"SENTINEL" * 4)[:-1]],
        [base64.urlsafe_b64encode(b"S" * 31)],
        [base64.urlsafe_b64encode(b"S" * 33)],
        [b"S" * 32],
        [""],
        [NEW, None],
        [NEW, 32],
        ["é" * 44],
        [NEW + "\n"],
        NEW,
        NEW.encode(),
    ],
)
def test_bad_keys(keys: Any) -> None:
    """What is no list of keys is refused when the store is made, and the error does not say what was given."""
    with pytest.raises(ConfigurationError, match="keys= must") as caught:
        Codec(keys)
    assert "SENTINEL" not in str(caught.value)
    assert NEW not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("keys", [None, 5, object()])
def test_keys_that_are_no_list(keys: Any) -> None:
    """What cannot be gone through is refused as other bad keys are."""
    with pytest.raises(ConfigurationError, match="keys= must"):
        Codec(keys)


def test_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys without the extra are an error that names it, when the store is made; without keys nothing is missed."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    Codec()
    with pytest.raises(ConfigurationError, match=r"httpx-tokenflow\[crypto\]"):
        Codec([NEW])


@pytest.mark.parametrize("extra", [{"x": object()}, {"x": {1, 2}}, {"x": math.nan}, {"x": b"SENTINEL"}])
def test_what_json_cannot_hold(extra: dict[str, Any]) -> None:
    """A token with something in it that cannot be stored is an error that says where, not a token half stored."""
    with pytest.raises(StoreError, match=r"Token\.extra") as caught:
        Codec().encode("f", ENTRY.having(token=Token("a", extra=extra)))
    assert "SENTINEL" not in str(caught.value)


def test_no_error_shows_a_secret() -> None:
    """Neither a repr nor an error, nor what an error was caused by, shows a key or a token."""
    codec, plain = Codec([NEW]), Codec()
    raw, clear = codec.encode("f", ENTRY), plain.encode("f", ENTRY)
    attempts = [
        (plain, raw),
        (codec, clear),
        (codec, flipped(raw, len(raw) - 9)),
        (Codec([OTHER]), raw),
        (plain, clear[:-1]),
        (plain, clear.replace(b'"version":1', b'"version":"SENTINEL"')),
        (plain, clear.replace(b"1000000000.0", b'"SENTINEL"')),
        (plain, b'"SENTINEL"'),
    ]
    assert NEW not in repr(codec)
    for reader, text in attempts:
        with pytest.raises(StoreError) as caught:
            reader.decode("f", text)
        error: BaseException | None = caught.value
        while error is not None:
            assert "SENTINEL-" not in str(error)
            assert NEW not in str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    ("name", "value"),
    [("presented", -1), ("presented", 1.5), ("presented", True), ("issued_at", "1"), ("lifetime", True), ("key", 5)],
)
def test_fields_that_cannot_be(name: str, value: Any) -> None:
    """A field of another kind than it has, or a count below nothing, is damage, not something to reckon with."""
    with pytest.raises(StoreError, match="damaged"):
        Entry.from_dict(FULL.to_dict() | {name: value})


# NaN and infinity are JSON to Python alone: see test_numbers_that_are_no_json.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _damaged(entry: Entry, fields: dict[str, Any], of_token: dict[str, Any], without: set[str]) -> dict[str, Any]:
    data = entry.to_dict() | fields
    data["token"] = data["token"] | of_token if isinstance(data["token"], dict) else data["token"]
    return {name: value for name, value in data.items() if name not in without}


DAMAGED = st.builds(
    _damaged,
    st.sampled_from([ENTRY, FULL, BARE]),
    st.dictionaries(st.sampled_from(list(FULL.to_dict())), JSON, max_size=2),
    st.dictionaries(st.sampled_from(list(FULL.token.to_dict())), JSON, max_size=2),
    st.sets(st.sampled_from(list(FULL.to_dict())), max_size=1),
)


def _reads(raw: bytes) -> None:
    try:
        entry = Codec().decode("f", raw)
    except StoreError:
        return
    again = Entry.from_dict(json.loads(json.dumps(entry.to_dict())))
    assert again.to_dict() == entry.to_dict()
    assert again.fence == entry.fence
    # whatever was loaded can be reckoned with
    assert isinstance(entry.is_spent, bool)
    assert entry.age(0.0) >= 0
    kept = entry.kept_for(0.0)
    assert kept is None or kept >= 0
    Codec().encode("f", entry)


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b"\xff\xfe{}")
@example(b'{"version":1,"version":1}')
def test_any_bytes(raw: bytes) -> None:
    """Any bytes are an entry, or a StoreError, and nothing else."""
    _reads(raw)


@given(JSON | DAMAGED)
@example({"version": 1, "token": {"access_token": "a", "expires_at": 1e400}, "issued_at": 1.0})
@example({"version": 1, "token": {"access_token": "a", "extra": {"\ud800": "\ud800"}}, "issued_at": 1.0})
@example({"version": 1, "token": {"access_token": "a\ud800"}, "issued_at": 1.0, "session": "\ud800"})
@example({"version": 1, "token": {"access_token": "a"}, "issued_at": 10**400})
@example({"version": 1, "token": {"access_token": "a"}, "issued_at": 1.0, "presented": 10**30})
@example({"version": True, "token": {"access_token": "a"}, "issued_at": 1.0})
def test_any_json(data: Any) -> None:
    """Any JSON is an entry that comes back as it is, or a StoreError, and nothing else."""
    _reads(json.dumps(data).encode())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_no_json(number: str) -> None:
    """An entry with a number in it that JSON does not have is damaged: it could be loaded, but no note made on it."""
    with pytest.raises(StoreError, match="damaged"):
        Codec().decode(
            "f", b'{"version":1,"token":{"access_token":"a","extra":{"x":%s}},"issued_at":1}' % number.encode()
        )


@given(st.binary(max_size=200), st.sampled_from([b"", b"tokenflow1.", b"tokenflow1.00000000."]))
def test_any_bytes_where_keys_are_given(raw: bytes, prefix: bytes) -> None:
    """With keys any bytes that nobody sealed are a StoreError."""
    codec = Codec([NEW])
    key_id = codec.encode("f", ENTRY).split(b".")[1]
    for text in (prefix + raw, b"tokenflow1." + key_id + b"." + base64.urlsafe_b64encode(raw)):
        with pytest.raises(StoreError):
            codec.decode("f", text)
