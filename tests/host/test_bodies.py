"""Bodies: a server never sees one that is shorter than what the caller gave (F37, F39 to F41, F44)."""

from __future__ import annotations

import io
from typing import Any

import anyio
import pytest
from host.hands import FOUR, SIX, fresh_sandbox

from httpx_tokenflow import BearerAuth, Token

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)


class OnlyRead:
    """A file that cannot be rewound, such as a pipe or a socket."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class NotSeekable(OnlyRead):
    """The same, and it says so."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")


class SeekFails(OnlyRead):
    """The same, and it says so only when it is tried."""

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")


class AsyncFile:
    """A file of some async library: neither a generator nor an iterator of its own."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    async def aread(self, size: int = -1) -> bytes:
        return self._file.read(size)

    async def __aiter__(self) -> Any:
        while chunk := self._file.read(4):
            yield chunk


class Stream(OnlyRead):
    """The same as `content=`, which wants to iterate."""

    def __iter__(self) -> Any:
        return iter(self._file)


class Progress:
    """A progress bar: can be iterated as often as you like, and what it is drawn around cannot."""

    def __init__(self, around: Any) -> None:
        self._around = around

    def __iter__(self) -> Any:
        return self._around


class AsyncProgress:
    def __init__(self, around: Any) -> None:
        self._around = around

    def __aiter__(self) -> Any:
        return self._around


def _multipart(file: Any) -> dict[str, Any]:
    return {"files": {"file": ("name", file)}, "data": {"more": "x"}}


# What can be sent twice, and what cannot: for sync and async clients, sync only, async only.
AGAIN = {
    "no body": lambda hand, path: {},
    "bytes": lambda hand, path: {"content": WHOLE},
    "text": lambda hand, path: {"content": WHOLE.decode()},
    "empty": lambda hand, path: {"content": b""},
    "json": lambda hand, path: {"json": {"a": [1, 2, 3]}},
    "form": lambda hand, path: {"data": {"a": "1", "b": "2"}},
    "multipart of bytes": lambda hand, path: _multipart(WHOLE),
    "multipart of BytesIO": lambda hand, path: _multipart(io.BytesIO(WHOLE)),
    "multipart of a BytesIO in the middle": lambda hand, path: _multipart(_in_the_middle()),
    "multipart of a file": lambda hand, path: _multipart(path.open("rb")),
    "an iterable": lambda hand, path: {"content": hand.iterable(CHUNKS)},
}
AGAIN_SYNC = {
    "a list": lambda hand, path: {"content": list(CHUNKS)},
    "a tuple": lambda hand, path: {"content": tuple(CHUNKS)},
}
ONCE = {
    "a generator": lambda hand, path: {"content": hand.generator(CHUNKS)},
    "an iterator": lambda hand, path: {"content": hand.iterator(CHUNKS)},
    "an iterable of one iterator": lambda hand, path: {
        "content": (AsyncProgress if hand.is_async else Progress)(hand.iterator(CHUNKS))
    },
    "multipart of a pipe": lambda hand, path: _multipart(OnlyRead(WHOLE)),
    "multipart of a pipe that says so": lambda hand, path: _multipart(NotSeekable(WHOLE)),
    "multipart of a pipe that says so late": lambda hand, path: _multipart(SeekFails(WHOLE)),
}
ONCE_SYNC = {
    "map": lambda hand, path: {"content": map(bytes, CHUNKS)},
    "a file": lambda hand, path: {"content": path.open("rb")},
    "BytesIO": lambda hand, path: {"content": io.BytesIO(WHOLE)},
    "a pipe": lambda hand, path: {"content": Stream(WHOLE)},
}
ONCE_ASYNC = {
    "an async file": lambda hand, path: {"content": AsyncFile(WHOLE)},
    "an anyio file": lambda hand, path: {"content": anyio.wrap_file(path.open("rb"))},
}


def _in_the_middle() -> io.BytesIO:
    file = io.BytesIO(WHOLE)
    file.seek(5)
    return file


def _make(make, hand, path, request):
    """The body, and what is closed after the test."""
    options = make(hand, path)
    for thing in (options.get("content"), (options.get("files") or {"file": (None, None)})["file"][1]):
        close = getattr(getattr(thing, "wrapped", thing), "close", None)
        if isinstance(thing, io.IOBase | anyio.AsyncFile) and close is not None:
            request.addfinalizer(close)
    return options


def _with(kinds, everybody, sync_only, async_only):
    """Each client with each body that httpx takes from it."""
    return pytest.mark.parametrize(
        ("hand", "make"),
        [
            pytest.param(kind, make, id=f"{kind}-{name}")
            for kind, (_, backend) in kinds.items()
            for name, make in (everybody | (async_only if backend else sync_only)).items()
        ],
        indirect=["hand"],
    )


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "body"
    file.write_bytes(WHOLE)
    return file


def _bodies(sandbox):
    return [seen.body for seen in sandbox.seen if seen.path.startswith("/api")]


@_with(SIX, AGAIN, AGAIN_SYNC, {})
def test_what_can_be_sent_twice_is_sent_whole_twice(hand, home, make, path, request):
    """After a 401 the same body goes out again, whole, and the caller gets a 200 (F37)."""
    sandbox = home.sandbox
    client = hand.client(base_url=home.url, auth=home.auth())
    response = client.post("/api/x", **_make(make, hand, path, request))
    assert response.status_code == 200
    first, second = _bodies(sandbox)
    assert first == second
    assert response.json()["received"] == len(first)
    assert sandbox.token_requests == 1


@_with(SIX, ONCE, ONCE_SYNC, ONCE_ASYNC)
def test_what_cannot_be_sent_twice_is_sent_once(hand, home, make, path, request):
    """After a 401 such a body stays unsent, the 401 is given back, and the next request has the new token (F37-F40)."""
    sandbox = home.put(fresh_sandbox(latency=0.05))
    client = hand.client(base_url=home.url, auth=home.auth())
    response = client.post("/api/x", **_make(make, hand, path, request))
    first = _bodies(sandbox)
    assert response.status_code == 401, f"the server saw {first}"
    assert response.json()["error"] == "invalid_token"  # whole, as the server wrote it
    assert len(first) == 1
    assert client.get("/api/x").status_code == 200
    assert (sandbox.api_refused, sandbox.token_requests) == (1, 1)


@_with(FOUR, ONCE, ONCE_SYNC, ONCE_ASYNC)
def test_what_cannot_be_sent_twice_goes_out_whole_with_a_fresh_token(hand, home, make, path, request):
    """We look at such a body and leave it as it is: with a fresh token the server gets all of it (F37, F41)."""
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    response = client.post("/api/x", **_make(make, hand, path, request))
    assert response.status_code == 200
    (body,) = _bodies(home.sandbox)
    assert WHOLE in body


def test_a_due_token_is_renewed_before_such_a_body_leaves(any_hand, home):
    """A token that is due is renewed first, so that a body that can be sent once meets no 401 (F41)."""
    sandbox = home.put(fresh_sandbox(lifetime=30.0))
    client = any_hand.client(base_url=home.url, auth=home.auth(token=_due(sandbox)))
    response = client.post("/api/x", content=any_hand.generator(CHUNKS))
    assert (response.status_code, response.json()["received"]) == (200, len(WHOLE))
    assert (sandbox.api_refused, sandbox.token_requests) == (0, 1)


def _due(sandbox):
    first = sandbox.login()
    return Token(first["access_token"], refresh_token=first["refresh_token"], expires_at=1.0)


def test_a_401_to_a_streamed_upload_can_be_streamed(any_hand, home):
    """The 401 that is given back is untouched: the caller can stream it like any other answer (F40)."""
    client = any_hand.client(base_url=home.url, auth=home.auth())
    with client.stream("POST", "/api/x", content=any_hand.generator(CHUNKS)) as response:
        assert response.status_code == 401
        assert not response.is_stream_consumed
        assert b"invalid_token" in any_hand.read(response)
    assert client.get("/api/x").status_code == 200


def test_many_uploads_at_once_renew_once(any_hand, home):
    """Ten uploads that cannot be repeated get their ten 401s, and there is one renewal aside (F37)."""
    sandbox = home.put(fresh_sandbox(latency=0.05))
    client = any_hand.client(base_url=home.url, auth=home.auth())
    sent = [client.start("POST", "/api/x", content=any_hand.generator(CHUNKS)) for _ in range(10)]
    answers = [answer.status_code for answer in any_hand.outcomes(sent)]
    assert set(answers) <= {200, 401}
    assert 401 in answers
    assert client.get("/api/x").status_code == 200
    assert sandbox.token_requests == 1
    assert set(_bodies(sandbox)) == {WHOLE, b""}  # the last, a GET, has none


def test_a_renewal_aside_that_fails_is_told_to_the_next(any_hand, home):
    """The renewal that a given-back 401 sets off may fail: the next request says so, with the 401 long gone (F37)."""
    sandbox = home.sandbox
    auth = home.auth()
    for family in list(sandbox._tokens._families):
        sandbox.revoke_family(family)
    client = any_hand.client(base_url=home.url, auth=auth)
    assert client.post("/api/x", content=any_hand.generator(CHUNKS)).status_code == 401
    (error,) = client.together(1, "GET", "/api/x")
    assert type(error).__name__ == "ReauthenticationRequired"
    assert sandbox.token_requests == 1


def test_a_callable_is_asked_again_aside(any_hand, home):
    """What holds for a renewal at a token endpoint holds for a callable, sync or async (F37)."""
    sandbox = home.sandbox
    tokens = [sandbox.login()["access_token"]]

    async def anew():
        return tokens[-1]

    auth = BearerAuth(anew if any_hand.is_async else lambda: tokens[-1])
    client = any_hand.client(base_url=home.url, auth=auth)
    assert client.get("/api/x").status_code == 200
    sandbox.expire_access_tokens()
    tokens.append(sandbox.login()["access_token"])
    assert client.post("/api/x", content=any_hand.generator(CHUNKS)).status_code == 401
    assert client.get("/api/x").status_code == 200
    assert sandbox.api_refused == 1


# F41


class Hungry:
    """A transport that takes an upload chunk by chunk, and sees how far ahead of it the upload is produced."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.eaten = self.produced = self.furthest = 0

    def produce(self, chunks: int, size: int) -> Any:
        for _ in range(chunks):
            self.produced += size
            self.furthest = max(self.furthest, self.produced - self.eaten)
            yield b"x" * size

    async def aproduce(self, chunks: int, size: int) -> Any:
        for chunk in self.produce(chunks, size):
            yield chunk

    def handle_request(self, request: Any) -> Any:
        for chunk in request.stream:
            self.eaten += len(chunk)
        return self.library.Response(200)

    async def handle_async_request(self, request: Any) -> Any:
        async for chunk in request.stream:
            self.eaten += len(chunk)
        return self.library.Response(200)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


def _hungry(library):
    return type("HungryTransport", (Hungry, library.BaseTransport, library.AsyncBaseTransport), {})(library)


def test_an_upload_with_a_fresh_token_is_not_buffered(any_hand):
    """64 MiB go out as they are produced, never more than one chunk of them in memory (F41)."""
    transport, size = _hungry(any_hand.library), 1 << 20
    auth = BearerAuth("token")
    assert (auth.requires_request_body, auth.requires_response_body) == (False, False)
    client = any_hand.client(transport=transport, auth=auth)
    produce = transport.aproduce if any_hand.is_async else transport.produce
    assert client.post("https://api.example.com/", content=produce(64, size)).status_code == 200
    assert transport.eaten == 64 * size
    assert transport.furthest == size


def test_an_upload_of_megabytes_arrives(hand, home):
    """A streamed upload over a real connection arrives whole (F41)."""
    client = hand.client(base_url=home.url, auth=home.auth(expired=False))
    response = client.post("/api/x", content=hand.generator(bytes([i]) * 65_536 for i in range(64)))
    assert (response.status_code, response.json()["received"]) == (200, 64 * 65_536)


# F44


def test_a_request_that_is_to_be_sent_once_is_sent_once(any_hand, home):
    """With {"retry": False} a 401 is given back although the body could be sent again (F44)."""
    sandbox = home.sandbox
    client = any_hand.client(base_url=home.url, auth=home.auth())
    response = client.post("/api/x", content=WHOLE, extensions={"tokenflow": {"retry": False}})
    assert (response.status_code, response.json()["error"]) == (401, "invalid_token")
    assert _bodies(sandbox) == [WHOLE]
    assert client.post("/api/x", content=WHOLE).status_code == 200
    assert _bodies(sandbox)[-1] == WHOLE
    assert sandbox.token_requests == 1


def test_sent_once_it_still_has_a_token_that_is_not_due(any_hand, home):
    """{"retry": False} says nothing of what comes before: a due token is renewed first (F44)."""
    sandbox = home.sandbox
    client = any_hand.client(base_url=home.url, auth=home.auth(token=_due(sandbox)))
    response = client.post("/api/x", content=WHOLE, extensions={"tokenflow": {"retry": False}})
    assert response.status_code == 200
    assert (sandbox.api_requests, sandbox.token_requests) == (1, 1)


def test_by_default_a_post_is_sent_again(any_hand, home):
    """Without the option a POST is sent again: by contract a 401 means that it was not processed (F44)."""
    sandbox = home.sandbox
    client = any_hand.client(base_url=home.url, auth=home.auth())
    assert client.post("/api/x", json={}, extensions={"tokenflow": {}}).status_code == 200
    assert sandbox.api_requests == 2


def test_a_body_that_was_read_can_be_sent_twice(any_hand, home):
    """A request whose stream the program has read has its body in memory, and is sent again (F37)."""
    client = any_hand.client(base_url=home.url, auth=home.auth())
    request = client.raw.build_request("POST", "/api/x", content=any_hand.generator(CHUNKS))
    assert any_hand.read(request) == WHOLE
    assert client.send(request).json()["received"] == len(WHOLE)
    assert [len(body) for body in _bodies(home.sandbox)] == [len(WHOLE)] * 2
