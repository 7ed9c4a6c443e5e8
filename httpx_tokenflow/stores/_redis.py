"""Tokens in Redis, or Valkey: for replicas that share one, on as many machines as you like.

Rules.

1. Redis is asked when a token is renewed, and never by a request with a fresh token.
2. Each question has a time limit of ours, whatever client was given and whatever it would put up with.
3. Compare-and-set is one script about one key (a cluster is fine with it), which compares the very bytes. Each value
   begins with words of its own, so that a script that was sent twice, since its first answer was lost, knows what it
   did itself from what another did: two who note the same thing about one token must not both be told yes.
4. Entries are kept by Redis' clock. What is in there was written by machines whose clocks differ: each reckons with
   the difference between its own and Redis', if it is 2 s or more; in whole seconds, so that a time comes back as it
   went in.
5. Redis holds prefix + fingerprint, and the same with ``:lease``; the channel is the same with ``:news``.
"""

from __future__ import annotations

import inspect
import math
import secrets
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._extras import need_extra
from httpx_tokenflow._loops import running_loop

from ._coded import CodedStore, Swap
from ._redis_lease import Leases
from ._sides import AsyncioSide, Gate, Side, SyncSide, ThreadSide, at_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from httpx_tokenflow._entries import Entry

__all__ = ["RedisStore"]

_CLOCK_EVERY = 60.0  # seconds after which Redis is asked again what time it is
_LATER = 0.3  # seconds
_CLOCK_SLACK = 2.0  # seconds by which clocks may differ, and answers be late
_CONNECTIONS = 10_000  # as many as there are threads: no more than 100, as by default, would be an error to the next
_LONGEST = 10**12  # milliseconds: Redis takes no more than it can add to its clock

# had, new ("": nothing), milliseconds ("": for ever), channel ("": nobody has to know)
_SWAP = """
local now = redis.call('GET', KEYS[1]) or ''
if ARGV[2] ~= '' and now == ARGV[2] then return 1 end
if now ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if ARGV[4] ~= '' then redis.pcall('PUBLISH', ARGV[4], '') end
return 1
"""
_READ_WITH_TIME = """
local time = redis.pcall('TIME')
return {redis.call('GET', KEYS[1]), time[1] or '', time[2] or ''}
"""


class RedisStore(CodedStore):
    """Keeps tokens in Redis or Valkey; for sync and async programs alike, and any number of processes and machines.

    Needs the extra ``redis``. Thread-safe; a child process may go on using it after a fork.

    What it keeps of sessions (refresh tokens, logins) has no end that anybody could know, so Redis has to keep it: with
    persistence, and without an eviction policy that takes keys without a time to live (``allkeys-…``). A session that
    Redis has lost lives on where it is in memory, and there alone. Name whose it is (``subject=``): a `RefreshToken` or
    a login without a name is one for all who share the store.

    Args:
        client: a URL (``redis://``, ``rediss://``, ``unix://``); or a client of redis-py: ``Redis``, ``RedisCluster``,
            what ``Sentinel.master_for`` gives, or their twins of ``redis.asyncio``, which serve asyncio programs
            alone. A client is used as it is, and never closed; one that was made by ``from_url`` tries nothing twice,
            so that after a restart of Redis the first question fails, unless it was given ``retry=``.
        prefix: of every key and channel.
        keys: encryption keys (urlsafe base64 of 32 bytes): the first encrypts, all decrypt. Without any, whoever can
            read Redis can read the tokens. Needs the extra ``crypto``.
        accepts_plain: with keys, also read what was stored before there were any.
        timeout: seconds that Redis may take for each question; a load is one, a save two. Default 2: a process so busy
            that it looks at an answer a second late is no outage of Redis, which would cost a token request of its own;
            and two of them are over before a renewal gives its store up, after 5. Give a sync client time limits of its
            own as well: a thread that waits for its answer is left to itself.

    Raises:
        ConfigurationError: an argument is no such thing, or the extra is missing.
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "tokenflow:",
        keys: Iterable[str | bytes] = (),
        accepts_plain: bool = False,
        timeout: float = 2.0,
    ) -> None:
        super().__init__(keys, accepts_plain=accepts_plain)
        _check(prefix, timeout)
        self._prefix, self._timeout = prefix, float(timeout)
        self._is_ours = isinstance(client, str)
        self._client = _client_of(client, self._timeout) if self._is_ours else _checked(client)
        self._is_asyncio = any(
            inspect.iscoroutinefunction(getattr(self._client, name, None)) for name in ("execute_command", "aclose")
        )
        self._swap_script = self._client.register_script(_SWAP)
        self._read_script = self._client.register_script(_READ_WITH_TIME)
        self._leases = Leases(self._client)
        self._gate = Gate()
        self._offset, self._clock_due = 0, -math.inf

    def __repr__(self) -> str:
        return f"<RedisStore {_where(self._client)} {self._prefix}>"

    def close(self) -> None:
        """Close the connections of our own client; one that was given stays as it is."""
        if self._is_ours:
            self._client.close()

    async def aclose(self) -> None:
        """As `close`, which waits for nothing."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _side(self) -> Side:
        if self._is_asyncio:
            raise ConfigurationError(
                "RedisStore was given an asyncio client, which cannot serve a sync program: give it a URL, or a sync "
                "client, which serve both"
            )
        return SyncSide(self._timeout)

    def _aside(self) -> Side:
        if not self._is_asyncio:
            return ThreadSide(self._timeout, self._gate)
        if not hasattr(running_loop(), "call_soon_threadsafe"):
            raise ConfigurationError(
                "RedisStore was given an asyncio client, which works on asyncio alone: give it a URL, or a sync "
                "client, which work on trio as well"
            )
        return AsyncioSide(self._timeout, self._gate)

    async def _reading(self, side: Side, fingerprint: str) -> bytes | None:
        key = self._prefix + fingerprint
        if time.monotonic() < self._clock_due:
            return _bytes(await side.ask(self._client.get, key))
        before = time.time()
        raw, seconds, microseconds = await side.ask(self._read_script, [key])
        self._set_clock(before, time.time(), _bytes(seconds), _bytes(microseconds))
        return _bytes(raw)

    async def _swapping(self, side: Side, fingerprint: str, swap: Swap) -> bool:
        key = self._prefix + fingerprint
        for_ever = swap.seconds is None
        milliseconds = "" if for_ever else max(1, min(_LONGEST, math.ceil((swap.seconds or 0.0) * 1000)))
        channel = f"{key}:news" if swap.is_news else ""
        arguments = [swap.had or b"", swap.new or b"", milliseconds, channel]
        return bool(await side.ask(self._swap_script, [key], arguments))

    def _read(self, fingerprint: str) -> bytes | None:
        return at_once(self._reading(self._side(), fingerprint))

    def _swap(self, fingerprint: str, swap: Swap) -> bool:
        return at_once(self._swapping(self._side(), fingerprint, swap))

    async def _aread(self, fingerprint: str) -> bytes | None:
        return await self._reading(self._aside(), fingerprint)

    async def _aswap(self, fingerprint: str, swap: Swap) -> bool:
        return await self._swapping(self._aside(), fingerprint, swap)

    def _encode(self, fingerprint: str, entry: Entry) -> bytes:
        own = secrets.token_hex(8).encode()  # rule 3
        return own + b" " + super()._encode(fingerprint, _shifted(entry, -self._offset))

    def _decode(self, fingerprint: str, raw: bytes | None) -> Entry | None:
        entry = super()._decode(fingerprint, raw and raw.partition(b" ")[2])
        return entry and _shifted(entry, self._offset)

    def _set_clock(self, before: float, after: float, seconds: bytes | None, microseconds: bytes | None) -> None:
        """Reckon anew by how much our clock is ahead of Redis' (rule 4)."""
        if seconds and microseconds and 0 <= after - before < _CLOCK_SLACK:
            ahead = (before + after) / 2 - (int(seconds) + int(microseconds) / 1e6)
            if abs(ahead - self._offset) > _CLOCK_SLACK:
                self._offset = round(ahead) if abs(ahead) >= _CLOCK_SLACK else 0
        self._clock_due = time.monotonic() + _CLOCK_EVERY

    def _names(self, fingerprint: str) -> tuple[str, str]:
        return f"{self._prefix}{fingerprint}:lease", f"{self._prefix}{fingerprint}:news"

    @contextmanager
    def lease(self, fingerprint: str, seconds: float, patience: float) -> Iterator[bool]:
        """The right to renew: redis-py's lock, which ends by itself after `seconds`. See `Store.lease`.

        Raises:
            StoreError: somebody else has had it for `patience` seconds.
        """
        side = self._side()
        claim = at_once(self._leases.take(side, *self._names(fingerprint), (seconds, patience)))
        try:
            yield claim is not None
        except BaseException:
            with suppress(Exception):
                at_once(self._leases.give_back(side, claim))
            raise
        at_once(self._leases.give_back(side, claim))

    @asynccontextmanager
    async def alease(self, fingerprint: str, seconds: float, patience: float) -> AsyncIterator[bool]:
        """As `lease`."""
        side = self._aside()
        claim = await self._leases.take(side, *self._names(fingerprint), (seconds, patience))
        try:
            yield claim is not None
        except BaseException:
            with side.shield(), suppress(Exception):
                await self._leases.give_back(side, claim)
            raise
        with side.shield():
            await self._leases.give_back(side, claim)


def _client_of(url: str, timeout: float) -> Any:
    """A client of our own, which tries once more if a connection turns out to be dead, and not if Redis hangs."""
    with need_extra("redis", "RedisStore"):
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=timeout + _LATER,  # ours comes first, and says what it is
            socket_connect_timeout=timeout,
            retry=retry,
            max_connections=_CONNECTIONS,
        )
    except (ValueError, TypeError):
        raise ConfigurationError(  # whose text may quote a password
            "RedisStore needs a URL such as redis://host:6379/0, rediss://user:password@host:6379/0 or "
            "unix:///run/redis.sock"
        ) from None


def _check(prefix: Any, timeout: Any) -> None:
    if not isinstance(prefix, str):
        raise ConfigurationError("prefix= must be a string")
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < math.inf:
        raise ConfigurationError("timeout= must be a number of seconds above 0")


def _checked(client: Any) -> Any:
    has_all = all(callable(getattr(client, name, None)) for name in ("execute_command", "register_script", "lock"))
    if inspect.isclass(client) or not has_all:
        raise ConfigurationError(
            f"RedisStore needs a URL or a client of redis-py, and was given {type(client).__name__}"
        )
    return client


def _where(client: Any) -> str:
    """Which Redis that is, and no word of a password."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in options:
        return str(options["path"])
    return f"{options['host']}:{options.get('port', 6379)}" if "host" in options else type(client).__name__


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value  # str: of a client with decode_responses


def _shifted(entry: Entry, seconds: int) -> Entry:
    """`entry` on a clock that is ahead by `seconds`; the server's is where it was."""
    if seconds == 0:
        return entry
    return entry.having(issued_at=entry.issued_at + seconds, skew=entry.skew - seconds)
