"""What a scenario gives: an auth object, a store, a clock, a server to talk to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.server import TOKEN_ENDPOINT, Hands, Server, wire

from httpx_tokenflow import (
    APIKeyAuth,
    BearerAuth,
    ClientCredentials,
    Clock,
    RefreshToken,
    RenewalPolicy,
    Token,
    TokenAuth,
)
from httpx_tokenflow.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import nullcontext

    from httpx_tokenflow.events import Event
    from httpx_tokenflow.stores import Entry

__all__ = ["Given"]


class Store(MemoryStore):
    """A store that can fail; or, `elsewhere`, the same entries as another process sees them."""

    def __init__(self, elsewhere: Store | None = None) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.leased: list[float] = []
        if elsewhere is not None:
            self._entries, self._lock = elsewhere._entries, elsewhere._lock

    def load(self, fingerprint: str) -> Entry | None:
        self._check("load")
        return super().load(fingerprint)

    def save(self, fingerprint: str, entry: Entry, *, replaces: str | None) -> bool:
        self._check("save")
        return super().save(fingerprint, entry, replaces=replaces)

    def lease(self, fingerprint: str, seconds: float, patience: float) -> nullcontext[None]:
        self._check("lease")
        self.leased.append(seconds)
        return super().lease(fingerprint, seconds, patience)

    def _check(self, verb: str) -> None:
        if verb in self.failing:
            raise OSError("the store is down, says the scenario")


class Given:
    """All that a scenario has before its first step.

    Args:
        given: what it says.
        make_client: a client that reaches a server and nothing else.
    """

    def __init__(self, given: dict[str, Any], make_client: Callable[..., Any]) -> None:
        self._given = given
        self.clock = Hands()
        self.server = Server(self.clock)
        self.server.change(given.get("server", {}))
        self.store = Store()
        self.events: list[Event] = []
        self.asked = 0
        hands = self.clock
        clock = Clock(lambda: hands.monotonic, lambda: hands.wall, hands.sleep, hands.asleep)
        random = given.get("random", 0.0)
        self._policy = RenewalPolicy(clock=clock, random=lambda: random, **given.get("policy", {}))
        self._token_client = make_client(self.server, "token_endpoint")
        if "stored" in given:
            self.store_elsewhere(given["stored"])
        self.auth: Any = self._make_auth(given.get("grant", "client_credentials"))
        self.clients = {where: make_client(self.server, where, auth=self.auth) for where in ("api", "other_api")}

    @property
    def all_clients(self) -> list[Any]:
        return [*self.clients.values(), self._token_client]

    def make_token(self, given: dict[str, Any]) -> Token:
        """A token that the server knows."""
        lives, refresh = given.get("lives", 3600.0), given.get("refresh")
        return Token(
            self.server.admit(given["name"], lives, refresh),
            expires_at=None if lives is None else self.clock.wall + lives,
            refresh_token=None if refresh is None else wire(refresh),
        )

    def store_elsewhere(self, given: dict[str, Any]) -> None:
        """Another process has this token, and puts it into the store that we share."""
        auth = TokenAuth(self._make_grant(), store=Store(elsewhere=self.store), policy=self._policy)
        auth.set_token(self.make_token(given))

    def _make_auth(self, grant: str) -> Any:
        given, on_event = self._given, self.events.append
        if grant == "bearer":
            return BearerAuth(self.server.admit(given["token"]["name"]), on_event=on_event)
        if grant == "bearer_callable":
            self._program = [None if name == "!" else self.server.admit(name) for name in given["program"]]
            return BearerAuth(self._ask_program, on_event=on_event)
        if grant == "api_key":
            return APIKeyAuth([self.server.admit(name) for name in given["keys"]], on_event=on_event)
        return TokenAuth(
            self._make_grant(),
            token=self.make_token(given["token"]) if "token" in given else None,
            store=self.store,
            policy=self._policy,
            client=self._token_client,
            should_renew=self._says_expired if "should_renew" in given else None,
            on_event=on_event,
        )

    def _make_grant(self) -> Any:
        given = self._given.get("client_secret", "S1")
        secret = wire(given) if isinstance(given, str) else [wire(name) for name in given]
        if self._given.get("grant") == "refresh_token":
            return RefreshToken(TOKEN_ENDPOINT, client_id="client", client_secret=secret, subject="user")
        return ClientCredentials(TOKEN_ENDPOINT, client_id="client", client_secret=secret)

    def _ask_program(self) -> str:
        credential = self._program[min(self.asked, len(self._program) - 1)]
        self.asked += 1
        if credential is None:
            raise RuntimeError("the program does not know it either")
        return credential

    def _says_expired(self, response: Any) -> bool:
        sign = self._given["should_renew"]
        return bool(sign in response.text if isinstance(sign, str) else response.status_code == sign)
