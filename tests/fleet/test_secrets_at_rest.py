"""With encryption on, no secret can be read in Redis or in a file: everything there is searched for each of them."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from fleet.authority import Authority
from fleet.rig import until

CANARY = "c4n4ry-" + os.urandom(8).hex() + "-"
KEY = base64.urlsafe_b64encode(os.urandom(32)).decode()
SECRET = f"{CANARY}client-secret"


@pytest.fixture
def authority():
    with Authority(prefix=CANARY).served() as server:
        yield server


def shown(secret, everything):
    """The forms in which `secret` can be read in `everything`: as it is, in hex, in base64 at each of three offsets."""
    raw = secret.encode()
    forms = {"raw": raw, "hex": raw.hex().encode(), "reversed": raw[::-1]}
    for offset in range(3):
        # What stands before moves the bits; of the first and the last group some belong to neighbours.
        encoded = base64.b64encode(b"\0" * offset + raw)[4:-4]
        forms[f"base64 at {offset}"] = encoded
        forms[f"base64url at {offset}"] = encoded.translate(bytes.maketrans(b"+/", b"-_"))
    folded = everything.lower()
    return [name for name, form in forms.items() if form in everything or form.lower() in folded]


def test_the_search_finds_each_form():
    """A secret that is there is found, in whichever form."""
    for offset in range(3):
        filler = b"x" * offset
        assert shown(CANARY, filler + CANARY.encode()) == ["raw"]
        assert "hex" in shown(CANARY, filler + CANARY.encode().hex().upper().encode())
        coded = base64.b64encode(filler + CANARY.encode() + b"tail")
        assert f"base64 at {offset}" in shown(CANARY, b"12345" + coded)
    assert shown(CANARY, os.urandom(1000)) == []


@pytest.mark.parametrize("keys", [pytest.param([KEY], id="one"), pytest.param([], id="none", marks=pytest.mark.slow)])
def test_no_secret_can_be_read_in_redis(fleet, authority, valkey, keys):
    """Not in a key, a value, a lease or the dump; not even while a lease is held and after a holder was killed."""
    store = {"kind": "redis", "address": valkey.url, "keys": keys}
    first, second = fleet.start(2, kind="refresh", token=authority.login(), store=store, client_secret=SECRET)
    (other,) = fleet.start(store=store, client_secret=SECRET)
    for _ in range(2):
        authority.expire()
        assert fleet.run(tasks=5).failed == {}
    second.do("revoke")
    authority.expire()
    second.do("set_token", token=authority.login())
    assert fleet.run([first]).failed == {}
    authority.expire()
    first.do("arm", point="marked")
    first.start("run")
    first.stops_at("marked")
    everything = valkey.contents() + valkey.dump()
    assert everything.count(b":lease") >= 2  # the search has seen one, in both
    assert bool(shown(CANARY, everything)) is not bool(keys)
    assert shown(KEY, everything) == []
    first.kill()
    other.kill()


@pytest.mark.parametrize("keys", [pytest.param([KEY], id="one"), pytest.param([], id="none", marks=pytest.mark.slow)])
def test_no_secret_can_be_read_in_files(fleet, authority, tmp_path, keys):
    """Not in the entry, a lock file, or the file that a killed process leaves beside; and no file is for others."""
    folder = tmp_path / "tokens"
    store = {"kind": "file", "address": str(folder), "keys": keys}
    first, second = fleet.start(2, kind="refresh", token=authority.login(), store=store, client_secret=SECRET)
    for _ in range(2):
        authority.expire()
        assert fleet.all("threads", threads=3).failed == {}
    authority.expire()
    hold = authority.hold("after")
    running = first.start("run")
    hold.reached()
    first.do("arm", point="renaming")
    hold.release()
    first.stops_at("renaming")
    first.kill()
    assert running.exception(60) is not None
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    assert any(path.suffix == ".new" for path in files)  # the one that was left beside
    everything = b"\n".join(path.name.encode() + b"\n" + path.read_bytes() for path in files)
    assert bool(shown(CANARY, everything)) is not bool(keys)
    assert shown(KEY, everything) == []
    assert {path.stat().st_mode & 0o077 for path in [folder, *files]} == {0}
    until(lambda: fleet.run([second]).failed == {"ReauthenticationRequired": 1})  # a strict server
