"""AuthCache: an auth object for each of many tenants or users, and no more of them than there is room for."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ._errors import ConfigurationError
from ._forks import renew_after_fork
from ._token_auth import TokenAuth

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AuthCache"]

K = TypeVar("K")


class AuthCache(Generic[K]):
    """One `TokenAuth` per key (a tenant, a user on whose behalf one calls), made when it is first asked for.

        store = MemoryStore(limit=100_000)

        def auth_of(tenant: str) -> TokenAuth:
            return TokenAuth(ClientCredentials(TOKEN_URL, client_id=tenant, client_secret=secrets[tenant]), store=store)

        auths = AuthCache(auth_of, limit=10_000)
        client.get(url, auth=auths["acme"])

    Beyond `limit` the one that was used least recently is let go: whoever has it goes on with it, a renewal in the air
    lands, and the tokens stay in the store, so let all share one. It serves any thread and event loop at once (as
    `functools.lru_cache` does not: that makes two for one key, and cannot forget one).

    Args:
        make: makes the auth of a key, without asking for that of another; called once for each, without any lock. What
            it raises goes to all who wait for that key, and the next one to ask has it called again.
        limit: how many auths are kept at most.

    Raises:
        ConfigurationError: `make` is no function, is async, or returns something else than a `TokenAuth`; `limit` is no
            whole number, or less than 1.
    """

    def __init__(self, make: Callable[[K], TokenAuth], *, limit: int) -> None:
        given: Any = limit
        if not callable(make):
            raise ConfigurationError("AuthCache needs a function that makes the TokenAuth of a key")
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise ConfigurationError("AuthCache's limit must be a whole number of auths, 1 or more")
        self._make = make
        self._limit = limit
        self._auths: OrderedDict[K, TokenAuth] = OrderedDict()  # the least recently used first
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a collection may come upon a __del__ that discards something
        self._making: dict[K, _Making] = {}  # by threads, of which a child has none

    def __repr__(self) -> str:
        return f"<AuthCache of {len(self)}, {self._limit} at most>"

    def __len__(self) -> int:
        return len(self._auths)

    def __contains__(self, key: object) -> bool:
        return key in self._auths

    def __getitem__(self, key: K) -> TokenAuth:
        """The auth of `key`; who asks while it is made waits, on an event loop too: be quick in `make`."""
        with self._lock:
            auth = self._auths.get(key)
            if auth is not None:
                self._auths.move_to_end(key)
                return auth
            mine = _Making()
            making = self._making.setdefault(key, mine)
        return self._lead(key, mine) if making is mine else making.outcome()

    def _lead(self, key: K, making: _Making) -> TokenAuth:
        gone = []  # outside of the lock, since whatever goes with them may have a __del__ that comes back here
        try:
            auth = _checked(self._make(key))
        except BaseException as error:
            with self._lock:
                if self._making.get(key) is making:
                    del self._making[key]
            making.set_exception(error)
            raise
        with self._lock:
            if self._making.get(key) is making:  # or else it was discarded meanwhile
                del self._making[key]
                self._auths[key] = auth
                while len(self._auths) > self._limit:
                    gone.append(self._auths.popitem(last=False))
        making.set_result(auth)
        return auth

    def discard(self, key: K) -> None:
        """Let the auth of `key` go, if there is one: at a logout, after `TokenAuth.revoke`."""
        with self._lock:
            self._making.pop(key, None)
            gone = self._auths.pop(key, None)
        del gone

    def clear(self) -> None:
        """Let all of them go."""
        self._all()

    def close(self) -> None:
        """Close all of them, and let them go; a later use makes them anew."""
        for auth in self._all():
            auth.close()

    async def aclose(self) -> None:
        """As `close`."""
        for auth in self._all():
            await auth.aclose()

    def _all(self) -> list[TokenAuth]:
        with self._lock:
            gone = list(self._auths.values())
            self._auths.clear()
            self._making.clear()
            return gone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


class _Making(Future[TokenAuth]):
    """An auth that one thread makes, and others wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def outcome(self) -> TokenAuth:
        if self._thread == threading.get_ident():
            raise ConfigurationError("the function given to AuthCache asks for the very key that it is to make")
        return self.result()


def _checked(auth: Any) -> TokenAuth:
    if inspect.iscoroutine(auth):
        auth.close()
    if not isinstance(auth, TokenAuth):
        raise ConfigurationError("the function given to AuthCache must return a TokenAuth, and not be async")
    return auth
