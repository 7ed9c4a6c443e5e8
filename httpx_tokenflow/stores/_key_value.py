"""Tokens in whatever `py-key-value-aio` can talk to.

Such a store has get, put and delete, and neither a lock nor a compare-and-set. So both are ours, among the tasks of
this process: whoever uses the same store elsewhere is not seen.
"""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from httpx_tokenflow._errors import ConfigurationError, StoreError
from httpx_tokenflow._forks import renew_after_fork
from httpx_tokenflow._loops import call_soon, running_loop

from ._coded import AsyncCodedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from ._coded import Swap

__all__ = ["KeyValueStore"]

_LONGEST = 10 * 365 * 86_400.0  # seconds; a server may say what no calendar can hold, and is kept for ever


class _KeyValue(Protocol):
    """What is used of ``key_value.aio.protocols.AsyncKeyValue``."""

    async def get(self, key: str, *, collection: str | None = None) -> Mapping[str, Any] | None: ...

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None: ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool: ...


class KeyValueStore(AsyncCodedStore):
    """Keeps tokens in a store of `py-key-value-aio`: DynamoDB, MongoDB, Memcached and more. For async programs only.

    Its compare-and-set and its lease hold in this process only, among all objects over the same `store`. So use it in
    one process; or in a fleet with grants that can fetch as often as they like (client credentials), where each process
    may renew for itself. Processes that share a refresh token which rotates need `RedisStore` or `FileStore`: with this
    one two of them would present the same one, and the server would end the session.

    Entries are given the time for which they have to be kept, so a store that forgets in time forgets what is over.

    Args:
        store: an ``AsyncKeyValue``. It belongs to the event loop that its own documentation says it does.
        keys: encryption keys, urlsafe base64 of 32 bytes each: the first encrypts, all decrypt. Needs the extra
            `crypto`.
        accepts_plain: with keys, also read what was stored before there were any.
        collection: where in `store`.

    Raises:
        ConfigurationError: a key is no such thing, or `store` has no async get, put and delete.
    """

    def __init__(
        self,
        store: _KeyValue,
        *,
        keys: Iterable[str | bytes] = (),
        accepts_plain: bool = False,
        collection: str = "tokenflow",
    ) -> None:
        super().__init__(keys, accepts_plain=accepts_plain)
        for verb in ("get", "put", "delete"):
            if isinstance(store, type) or not inspect.iscoroutinefunction(getattr(store, verb, None)):
                raise ConfigurationError(f"KeyValueStore needs a store of py-key-value-aio, with an async {verb}()")
        self._store = store
        self._collection = collection

    def __repr__(self) -> str:
        return f"<KeyValueStore over {type(self._store).__name__}, collection {self._collection!r}>"

    def alease(self, fingerprint: str, seconds: float, patience: float) -> AbstractAsyncContextManager[bool]:  # noqa: ARG002
        """The right to renew in this process, while the context lasts; `seconds` has no say.

        Raises:
            StoreError: another holder has not let go of it within `patience` seconds.
        """
        return self._leased(fingerprint, patience)

    @asynccontextmanager
    async def _leased(self, fingerprint: str, patience: float) -> AsyncIterator[bool]:
        import anyio

        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(patience):
                    await stack.enter_async_context(_turns.take(("lease", *self._key(fingerprint))))
            except TimeoutError:
                raise StoreError(f"another task of this process has had the lease for {patience:g} s") from None
            yield True

    def _key(self, fingerprint: str) -> tuple[int, str, str]:
        return id(self._store), self._collection, fingerprint

    async def _aread(self, fingerprint: str) -> bytes | None:
        value = await self._store.get(fingerprint, collection=self._collection)
        if value is None:
            return None
        text = value.get("entry")
        if not isinstance(text, str):
            raise StoreError(f"an entry of the store is damaged (collection {self._collection!r}): delete it")
        return text.encode(errors="replace")

    async def _aswap(self, fingerprint: str, swap: Swap) -> bool:
        async with _turns.take(("swap", *self._key(fingerprint))):
            if await self._aread(fingerprint) != swap.had:
                return False
            if swap.new is None:
                await self._store.delete(fingerprint, collection=self._collection)
            else:
                value, seconds = {"entry": swap.new.decode()}, swap.seconds
                ttl = None if seconds is None or seconds > _LONGEST else seconds
                await self._store.put(fingerprint, value, collection=self._collection, ttl=ttl)
            return True


class _Turns:
    """One after the other in this process, on whatever loop; nobody waits while they hold the threads' lock."""

    def __init__(self) -> None:
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[Hashable, Future[None]] = {}

    @asynccontextmanager
    async def take(self, key: Hashable) -> AsyncIterator[None]:
        mine: Future[None] = Future()
        while (ahead := self._first(key, mine)) is not mine:
            await _over(ahead)
        try:
            yield
        finally:
            with self._lock:
                if self._taken.get(key) is mine:  # not after a fork
                    del self._taken[key]
            mine.set_result(None)

    def _first(self, key: Hashable, mine: Future[None]) -> Future[None]:
        with self._lock:
            return self._taken.setdefault(key, mine)


async def _over(ahead: Future[None]) -> None:
    import anyio

    over, loop = anyio.Event(), running_loop()
    ahead.add_done_callback(lambda _: call_soon(loop, over.set))
    await over.wait()


_turns = _Turns()
