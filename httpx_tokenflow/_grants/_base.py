"""What the grants at an authorization server share: asking it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from httpx_tokenflow._answers import MIN_TOKEN, read_json, read_nothing, read_token_response
from httpx_tokenflow._attempt import unavailable
from httpx_tokenflow._client_auth import Client, ClientAuth, ClientSecretPost
from httpx_tokenflow._entries import Minted
from httpx_tokenflow._errors import ConfigurationError, ReauthenticationRequired, TokenFlowError, TokenRequestError
from httpx_tokenflow._metadata import Server
from httpx_tokenflow._steps import Fetch, ServerRequest, Step
from httpx_tokenflow._tokens import digest

from ._grant import ask
from ._options import Secret, as_audience, as_extra, as_proof, as_resources, as_scope, is_text

if TYPE_CHECKING:
    from httpx_tokenflow._answers import ServerResponse
    from httpx_tokenflow._attempt import Attempt
    from httpx_tokenflow._challenges import Challenge
    from httpx_tokenflow._entries import Entry
    from httpx_tokenflow._metadata import Metadata
    from httpx_tokenflow._signing import Key
    from httpx_tokenflow._tokens import Token

__all__ = ["TokenEndpoint", "claims_of"]

_T = TypeVar("_T")

Fresh = Callable[[Client], Generator[Step, Any, tuple[tuple[str, str], ...]]]
"""Makes parameters of a token request for one sending of it."""

_OURS = frozenset({"grant_type", "client_id", "client_secret", "scope", "refresh_token"})  # parameters of each grant
_SECRETS = frozenset(
    {
        "actor_token", "assertion", "client_assertion", "client_secret", "code", "code_verifier", "device_code",
        "refresh_token", "subject_token", "token",
    }
)  # fmt: skip


def _server_of(
    issuer: str | Iterable[str] | None, endpoints: Mapping[str, str | None], metadata: Mapping[str, Any] | None
) -> Server:
    """The server. One whose endpoints are named learns nothing: all tenants and users there share what is known."""
    if issuer is None and metadata is None and all(isinstance(url, str) for url in endpoints.values()):
        return _named_server(*endpoints.items())
    return Server(issuer=issuer, endpoints=endpoints, metadata=metadata)


@lru_cache(maxsize=64)
def _named_server(*endpoints: tuple[str, str | None]) -> Server:
    return Server(issuer=None, endpoints=dict(endpoints))


class TokenEndpoint:
    """A client at an authorization server: where, who, with what proof, and for what."""

    spends = False
    logs_in: bool = False
    login_timeout: float = 0.0
    widens: bool = False
    needs_client_id = True
    parameters: frozenset[str] = frozenset()  # those of the token request that this grant alone has

    def __init__(
        self,
        endpoints: Mapping[str, str | None],
        client_id: str | None,
        *,
        issuer: str | Iterable[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        client_secret: Secret | None = None,
        client_auth: ClientAuth | None = None,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
        extra: Mapping[str, str] | None = None,
        token_type: str | None = None,
    ) -> None:
        self._server = _server_of(issuer, endpoints, metadata)
        is_named = self.needs_client_id or client_secret is not None or client_auth is not None
        if not client_id and (is_named or client_id is not None):
            raise ConfigurationError(
                "client_id is missing: give the identifier under which the server knows the client"
            )
        if client_id and not is_text(client_id):
            raise ConfigurationError(
                "client_id must be a string without white space around it (a newline from a file?), all printable"
            )
        self._client_id = client_id or ""
        self._secret, self._client_auth = as_proof(client_secret, client_auth)
        self._may_choose = client_auth is None and client_secret is not None
        self._scope = as_scope(scope)
        self._audience = as_audience(audience)
        self._resource = as_resources(resource)
        self._extra = as_extra(extra)
        if token_type not in {None, "Bearer"}:
            raise ConfigurationError('token_type can only be "Bearer": the type to assume whatever the server says')
        self._token_type = token_type
        if taken := self._extra.keys() & (_OURS | self.parameters):
            raise ConfigurationError(
                f"extra= has {', '.join(sorted(taken))}, which the grant sends itself (RFC 6749 §3.2: not repeated)"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not pickled: it holds a secret; make one in each process")

    @property
    def name(self) -> str:
        """Client and server, for logs and reprs."""
        return f"{self._client_id}@{self._server.host}"

    @property
    def client_auth(self) -> ClientAuth:
        """How the client proves itself."""
        return self._client_auth

    def identity(self) -> Mapping[str, Any]:
        """All that goes on the wire, and nothing that only opens the door to the same tokens."""
        return {
            "grant": type(self).__name__,
            "server": self._server.identity(),
            "client_id": self._client_id,
            "client_auth": self._client_auth.identity(),
            "scope": self._scope,
            "audience": self._audience,
            "resource": list(self._resource),
            "extra": sorted(self._extra.items()),
            "token_type": self._token_type,
        }

    def _secret_identity(self) -> str | None:
        """Secret, key or certificate, by hash; None for what comes from a callable, or there are several of."""
        return digest(self._secret) if isinstance(self._secret, str) and self._secret else self._client_auth.proof

    def is_unknown(self, presented: Entry | None) -> bool:
        """Whether an API has to say first which authorization server this is (RFC 9728)."""
        return self._server.is_unknown(presented.issuer if presented is not None else None)

    def using(
        self,
        *,
        scope: str | Iterable[str] | None = None,
        audience: str | None = None,
        resource: str | Iterable[str] | None = None,
    ) -> Self:
        """The same for another scope, audience or resource (RFC 8707); what is not given stays."""
        changes: dict[str, Any] = {}
        if scope is not None:
            changes["_scope"] = as_scope(scope)
        if audience is not None:
            changes["_audience"] = as_audience(audience)
        if resource is not None:
            changes["_resource"] = as_resources(resource)
        return self._having(**changes)

    def _having(self, **changes: Any) -> Self:
        """The same but for `changes`; what becomes known of the server is known to both."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def revoke(self, attempt: Attempt) -> Generator[Step, Any, bool]:
        """Give up the tokens of `attempt.presented` at the server, the refresh token first (RFC 7009 §2.1).

        Returns:
            Whether the server agreed; False, too, if it has no endpoint for that.
        """
        presented = attempt.presented
        if presented is None or self._server.is_unknown(presented.issuer):
            return False
        server = yield from self._server.find(attempt)
        if not server.has("revocation_endpoint"):
            return False
        token = presented.token
        pairs = [(token.refresh_token, "refresh_token")] if token.refresh_token else []
        pairs += [] if token.is_for_refresh else [(token.access_token, "access_token")]
        failures: list[Exception | None] = []
        for value, hint in pairs:
            form = (("token", value), ("token_type_hint", hint))
            try:
                yield from self._post(attempt, server, "revocation_endpoint", form, _read_revoked)
            except Exception as error:  # noqa: BLE001 - whatever a transport raises: the other token has its turn
                failures.append(error)
            else:
                failures.append(None)
        if failures[0] is not None:
            raise failures[0]
        # Where the session is over, many servers leave the access token to its end (§2.2.1), or know it no more.
        return True

    def introspect(self, attempt: Attempt, token: str) -> Generator[Step, Any, dict[str, Any]]:
        """What the server says of `token` (RFC 7662 §2.2)."""
        server = yield from self._server.find(attempt)
        return (
            yield from self._post(attempt, server, "introspection_endpoint", (("token", token),), _read_introspected)
        )

    def _ask(
        self,
        attempt: Attempt,
        grant_type: str,
        fields: Iterable[tuple[str, str | None]],
        *,
        keeps: bool = False,
        fresh: Fresh | None = None,
    ) -> Generator[Step, Any, Minted]:
        """A token by one request to the token endpoint.

        Args:
            attempt: what there is to go by.
            grant_type: as it is written on the wire.
            fields: the parameters that this grant alone has.
            keeps: what the answer leaves out is as it was (RFC 6749 §6).
            fresh: as in `_post`.
        """
        server = yield from self._server.find(attempt)
        asked = self._widened(attempt)
        claims = claims_of(attempt.challenge)
        extra = self._extra if claims is None else {**self._extra, "claims": claims}
        pairs: list[tuple[str, str | None]] = [
            ("grant_type", grant_type),
            *fields,
            ("scope", asked or self._scope),
            ("audience", self._audience),
            *(("resource", one) for one in self._resource),
            *extra.items(),
        ]
        previous = attempt.presented.token if keeps and attempt.presented is not None else None
        minted = yield from self._mint(attempt, server, pairs, previous=previous, fresh=fresh)
        return minted.having(asked=asked)

    def _mint(
        self,
        attempt: Attempt,
        server: Metadata,
        pairs: Sequence[tuple[str, str | None]],
        *,
        previous: Token | None = None,
        fresh: Fresh | None = None,
    ) -> Generator[Step, Any, Minted]:
        """The token that the token endpoint of `server` answers with.

        Args:
            attempt: what there is to go by.
            server: whose token endpoint it is.
            pairs: the parameters.
            previous: the token whose refresh token is presented: what the answer leaves out is as it was (RFC 6749 §6).
            fresh: as in `_post`.
        """
        key = attempt.dpop.key_of(attempt.presented) if attempt.dpop is not None else None

        def read(response: ServerResponse, sent_at: float, secrets: tuple[str, ...]) -> Minted:
            return read_token_response(
                response,
                now=sent_at,
                secrets=secrets,
                token_type=self._token_type,
                previous=previous,
                is_bound=key is not None,
            )

        minted = yield from self._post(attempt, server, "token_endpoint", pairs, read, key=key, fresh=fresh)
        made = attempt.dpop.kept(key) if attempt.dpop is not None and key is not None else None
        issuer = server.issuer if len(self._server.allowed) > 1 or self._server.is_open else None
        return minted.having(issuer=issuer, key=made)

    def _widened(self, attempt: Attempt) -> str | None:
        """The scope to ask for where an API wanted more than the grant's own; None if none did."""
        before = attempt.presented.asked if attempt.presented is not None else None
        challenge = attempt.challenge
        if not self.widens or challenge is None or challenge.error != "insufficient_scope" or not challenge.scope:
            return before if self.widens else None
        granted = attempt.presented.token.scope if attempt.presented is not None else None
        words = (before or self._scope or granted or "", challenge.scope)
        return " ".join(dict.fromkeys(" ".join(words).split()))

    def _post(
        self,
        attempt: Attempt,
        server: Metadata,
        endpoint: str,
        pairs: Iterable[tuple[str, str | None]],
        read: Callable[[ServerResponse, float, tuple[str, ...]], _T],
        hidden: Iterable[str] = (),
        *,
        key: Key | None = None,
        fresh: Fresh | None = None,
    ) -> Generator[Step, Any, _T]:
        """Build the request, have it fetched, read the answer; with the next secret, where one is refused.

        Each request is signed anew, whatever it is sent again for: a `jti` serves once (RFC 7523 §3, RFC 9449 §11.1).

        Args:
            attempt: what there is to go by.
            server: whose endpoint it is.
            endpoint: its name in the server's metadata.
            pairs: the parameters; those without a value count as omitted (RFC 6749 §3.2).
            read: makes of the answer, the moment at which the request was sent (Unix seconds) and the secrets that must
                not be quoted what the caller wants to know.
            hidden: more such secrets than the parameters that are known to be some.
            key: the key that the tokens are to be bound to (RFC 9449 §5).
            fresh: makes the parameters that serve once anew for each request.
        """
        is_mtls = hasattr(self._client_auth, "certificate")
        url = server.endpoint(endpoint, mtls=is_mtls)
        form = tuple((name, value) for name, value in pairs if value)
        clock, client_auth = attempt.clock, self._choose(server)
        tried: list[str] = []
        nonces = 1  # how often a nonce may be asked for
        known = self._known(attempt)
        secret = yield from self._next_secret(tried, attempt.timeout)
        while True:
            token_endpoint = server.endpoint("token_endpoint", mtls=is_mtls)
            client = Client(self._client_id, secret, server.issuer, token_endpoint, clock.wall(), attempt.timeout)
            made = (yield from fresh(client)) if fresh is not None else ()
            request = yield from client_auth.sign(ServerRequest(url, (*form, *made)), client)
            if attempt.dpop is not None and key is not None:
                request = request.with_header("DPoP", attempt.dpop.proof_for_server(key, url, clock.wall()))
            sent_at = clock.wall()  # expiry is reckoned from here: the answer may have been long on its way
            response = yield from self._fetch(request, attempt, server)
            if attempt.dpop is not None and key is not None:
                attempt.dpop.heed_server(url, response.headers.get("dpop-nonce"))
            try:
                value = read(response, sent_at, (*tried, secret, *hidden, *_secrets_of(request), *known))
            except TokenFlowError as error:
                server = yield from self._server.find_again(attempt, server, response.status)
                before, url = url, server.endpoint(endpoint, mtls=is_mtls)
                if url != before:
                    continue  # it has moved, and the old place has not looked at what was sent
                if not isinstance(error, TokenRequestError):
                    raise
                if error.error == "use_dpop_nonce" and nonces and "dpop-nonce" in response.headers and key is not None:
                    nonces -= 1
                    continue
                tried.append(secret)
                following = (yield from self._next_secret(tried, attempt.timeout)) if _is_about_us(error) else ""
                if following in {"", *tried}:
                    raise
                secret = following
            else:
                return self._keep(value, secret, fell_back=bool(tried))

    def _fetch(
        self, request: ServerRequest, attempt: Attempt, server: Metadata
    ) -> Generator[Step, Any, ServerResponse]:
        """The answer to `request`; where nobody is at home, the next attempt asks whether they have moved."""
        try:
            response: ServerResponse = yield Fetch(request, attempt.timeout)
        except Exception as error:
            if unavailable(error).outcome == "not sent":
                self._server.doubt(server)
            raise
        return response

    def _choose(self, server: Metadata) -> ClientAuth:
        """How to prove the client where the program has left that open: as the server would have it (RFC 8414 §2)."""
        offered = server.names("token_endpoint_auth_methods_supported")
        if self._may_choose and "client_secret_post" in offered and "client_secret_basic" not in offered:
            return ClientSecretPost()
        return self._client_auth

    def _known(self, attempt: Attempt) -> tuple[str, ...]:
        """What a server may know of us without having been sent it now: each secret, and the tokens at hand."""
        several = () if callable(self._secret) else (self._secret,) if isinstance(self._secret, str) else self._secret
        token = attempt.presented.token if attempt.presented is not None else None
        tokens = () if token is None else (token.access_token, token.refresh_token, token.id_token)
        # What is very short stands in harmless words; what was sent is hidden whatever its length.
        return tuple(one for one in (*several, *tokens) if one and len(one) >= MIN_TOKEN)

    def _next_secret(self, tried: list[str], timeout: float) -> Generator[Step, Any, str]:
        """A secret that has not been tried yet; or, if there is none, an empty one or one that has."""
        if callable(self._secret):
            return (yield from ask(self._secret, "client_secret", timeout))
        # A copy, made in one go: in another thread the order may change meanwhile.
        secrets = (self._secret,) if isinstance(self._secret, str) else tuple(self._secret)
        return next((secret for secret in secrets if secret not in tried), "")

    def _keep(self, value: _T, secret: str, *, fell_back: bool) -> _T:
        """`value`; the secret that worked is the first to try from now on."""
        if not fell_back:
            return value
        if isinstance(self._secret, list):  # in place: for all that were made of the same grant
            self._secret[:] = [secret, *(other for other in tuple(self._secret) if other != secret)]
        return value.having(fell_back="client_secret") if isinstance(value, Minted) else value


_read_revoked = partial(read_nothing, what="the revocation endpoint")
_read_introspected = partial(read_json, what="the introspection endpoint")


def _secrets_of(request: ServerRequest) -> Iterable[str]:
    """What `request` has in it that nobody is to quote."""
    for _, value in request.headers:
        yield from (value, value.partition(" ")[2])
    yield from (value for name, value in request.form if name in _SECRETS)


def _is_about_us(error: TokenRequestError) -> bool:
    """Whether the server did not believe that it is us (RFC 6749 §5.2): some say so by the status alone."""
    is_about_the_token = isinstance(error, ReauthenticationRequired)
    return error.error == "invalid_client" or (error.status == 401 and not is_about_the_token)


def claims_of(challenge: Challenge | None) -> str | None:
    """The claims that an API asks for, as JSON (`claims=` of its challenge is base64 of it); None if there are none."""
    if challenge is None or challenge.error != "insufficient_claims":
        return None
    encoded = challenge.params.get("claims", "")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_").decode() or None
    except (binascii.Error, ValueError):
        return None
