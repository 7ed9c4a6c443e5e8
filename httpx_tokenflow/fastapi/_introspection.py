"""Access tokens that only their issuer can read: it is asked about each (RFC 7662).

Rules.

1. A token is good if the answer says `active`: true, and the rest of it is what is wanted, as in a JWT (`_claims`).
2. Tokens that were good when they were last asked about have questions, turns and pauses of their own (`_questions`): a
   flood of made-up ones, or one that the endpoint stumbles over, does not lock out whoever was let in before.
3. A good answer is believed for `cache` seconds, and never longer than the token lasts: for so long a token that has
   been revoked still gets in, which is what a cache costs (RFC 7662 §4). A bad one is believed for a few seconds, so
   that a client with a dead token does not have the issuer asked each time.
4. An endpoint that cannot be asked says nothing of a token: that is no refusal, and no token is remembered for it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from httpx_tokenflow._errors import ConfigurationError
from httpx_tokenflow._times import SYSTEM_CLOCK, Clock
from httpx_tokenflow._token_auth import TokenAuth

from ._caller import Caller, copied
from ._claims import Wanted, as_names, as_required, as_seconds, as_size
from ._jws import is_plain
from ._questions import Questions
from ._refusals import InvalidToken, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from httpx_tokenflow._grants import Grant


__all__ = ["IntrospectionVerifier"]

MOST_LET_IN = 10_000  # names of tokens that were good when they were last asked about
MOST_NEGATIVE = 5.0  # seconds for which a refusal is remembered

_NO_BEARER = frozenset({"dpop", "pop", "mac", "refresh", "refresh_token", "n_a"})


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was found out about a token.

    Args:
        found: whoever it stands for, or why it is no good.
        until: monotonic seconds for which that is believed.
        until_wall: Unix seconds at which the token ends, or None.
    """

    found: Caller | Reason = field(repr=False)
    until: float
    until_wall: float | None


class IntrospectionVerifier:
    """Verifies access tokens by asking their issuer (RFC 7662), for a `Guard`; or by itself, with `verify`.

    Args:
        auth: a `TokenAuth` whose server is asked and whose client authentication is used; or a grant for one, such as
            ``ClientCredentials(issuer=…, client_id=…, client_secret=…)``.
        audience: who the tokens must be for: `aud`; one of them, if there are several. None: not looked at, and then
            any token that the server calls active gets in, also one for another API or, with a server that answers
            about these too and does not say what they are, a refresh token. Name it if the server tells it.
        issuer: `iss`, to the letter. None: not looked at, since the one who is asked vouches for it.
        cache: seconds for which an answer that lets a token in is believed: so long does one that was revoked. Default
            60; 0: each request asks.
        leeway: seconds by which the issuer's clock may differ. Default 30.
        required: claims that must be there, besides those above.
        max_size: characters that a token may have. Default 16 KiB.
        cache_size: tokens that are remembered. Default 1,024 of each kind, good and bad.
        accept_bound_without_proof: let a token in that is bound to a key (`cnf`) although nobody proves to have it.
        clock: for tests.

    Raises:
        ConfigurationError: an argument contradicts another, or there is nobody to ask.
    """

    bearer_format = None
    """How OpenAPI calls such tokens: it does not."""

    def __init__(
        self,
        auth: TokenAuth | Grant,
        *,
        audience: str | Iterable[str] | None = None,
        issuer: str | None = None,
        cache: float = 60.0,
        leeway: float = 30.0,
        required: Iterable[str] = (),
        max_size: int = 16_384,
        cache_size: int = 1024,
        accept_bound_without_proof: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._auth = auth if isinstance(auth, TokenAuth) else TokenAuth(auth)
        if not callable(getattr(self._auth._own.grant, "introspect", None)):  # noqa: SLF001 - a friend
            raise ConfigurationError(
                "IntrospectionVerifier needs somebody to ask: a grant with an authorization server, such as "
                "ClientCredentials(issuer=…, client_id=…, client_secret=…), or a TokenAuth with one"
            )
        self._wanted = Wanted(
            issuer=issuer,
            audience=frozenset() if audience is None else as_names(audience, "audience="),
            required=as_required(required),
            leeway=as_seconds(leeway, "leeway="),
            bound_is_fine=accept_bound_without_proof,
        )
        self._cache = as_seconds(cache, "cache=")
        self._most = as_size(max_size, "max_size=", least=1)
        self._room = as_size(cache_size, "cache_size=")
        self._clock = clock
        self._good: OrderedDict[bytes, _Answer] = OrderedDict()
        self._bad: OrderedDict[bytes, _Answer] = OrderedDict()  # apart, so that made-up ones push out no good one
        self._let_in: OrderedDict[bytes, None] = OrderedDict()
        self._of_known: Questions[_Answer] = Questions(self._asked, clock)
        self._of_others: Questions[_Answer] = Questions(self._asked, clock)

    def __repr__(self) -> str:
        return f"<IntrospectionVerifier {self._auth!r}>"

    async def awarm(self) -> None:
        """Nothing: the endpoint is asked about tokens that somebody has sent, and about no other."""

    async def verify(self, token: str) -> Caller:
        """Whoever `token` stands for.

        Raises:
            InvalidToken: it is no good.
            TokenFlowError: the issuer cannot be asked now.
        """
        if len(token) > self._most:
            raise InvalidToken(Reason.TOO_LARGE)
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        answer = self._known(self._good, name) or self._known(self._bad, name)
        if answer is None:
            questions = self._of_known if name in self._let_in else self._of_others
            answer = await questions.answer(name, token)
        if isinstance(answer.found, Reason):
            raise InvalidToken(answer.found)
        return copied(answer.found)

    def _known(self, answers: OrderedDict[bytes, _Answer], name: bytes) -> _Answer | None:
        answer = answers.get(name)
        if answer is None:
            return None
        ended = answer.until_wall is not None and self._clock.wall() >= answer.until_wall
        if ended or self._clock.monotonic() >= answer.until:
            answers.pop(name, None)
            return None
        return answer

    async def _asked(self, name: bytes, token: str) -> _Answer:
        said = await self._auth.aintrospect(token)
        now, now_wall = self._clock.monotonic(), self._clock.wall()
        try:
            caller = self._caller(said, token, now_wall)
        except InvalidToken as no:
            self._let_in.pop(name, None)
            return self._kept(self._bad, name, _Answer(no.reason, now + min(MOST_NEGATIVE, self._cache), None))
        self._let_in.pop(name, None)
        self._let_in[name] = None  # at the end, as the latest
        while len(self._let_in) > MOST_LET_IN:
            self._let_in.popitem(last=False)
        return self._kept(self._good, name, _Answer(caller, now + self._cache, caller.expires_at))

    def _caller(self, said: dict[str, Any], token: str, now: float) -> Caller:
        if not is_plain(said):
            raise InvalidToken(Reason.MALFORMED)
        if said.get("active") is not True:
            raise InvalidToken(Reason.INACTIVE)
        kind = said.get("token_type")
        if str(kind).lower() in _NO_BEARER and not (self._wanted.bound_is_fine and str(kind).lower() == "dpop"):
            raise InvalidToken(Reason.KIND if "refresh" in str(kind).lower() else Reason.BOUND)
        return self._wanted.caller(said, token, now)

    def _kept(self, answers: OrderedDict[bytes, _Answer], name: bytes, answer: _Answer) -> _Answer:
        if self._room and self._cache:
            answers[name] = answer
            while len(answers) > self._room:
                answers.popitem(last=False)
        return answer
