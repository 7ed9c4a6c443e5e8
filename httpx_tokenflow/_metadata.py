"""Where an authorization server is: named by its endpoints, or discovered (RFC 8414, OpenID Connect, RFC 9728).

Rules.

1. A document counts only if it says that it is about the very issuer that was asked (RFC 8414 §3.3: compared as it is,
   character by character). Every endpoint in it must be https, or loopback.
2. It is read once, and again after a day, or when an endpoint is not there any more. While there is one, a failure to
   read it again costs nothing.
3. Where the program allows several issuers, the API's own metadata says which of them it trusts (RFC 9728). That is
   read only from the origin that sent the 401, only if it is about the resource that was asked, and it can only choose
   among the issuers that the program has named.
4. Reading it presents nothing: whatever goes wrong, no token is at stake.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ._attempt import unavailable
from ._credentials import check_endpoint
from ._errors import ConfigurationError, TokenEndpointUnavailable, TokenFlowError
from ._steps import Fetch, ServerRequest
from ._times import parse_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from ._attempt import Attempt
    from ._steps import Step
    from ._tokens import ServerResponse

__all__ = ["Metadata", "Server", "is_gone"]

MAX_AGE = 86_400.0  # seconds after which metadata is read again

_GONE = frozenset({404, 405, 410})
_TRANSIENT = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of an authorization server (RFC 8414 §2).

    Args:
        issuer: its identifier, or None where the program has named the endpoints.
        facts: the members of its metadata document.
    """

    issuer: str | None
    facts: Mapping[str, Any] = field(repr=False)

    def has(self, name: str) -> bool:
        """Whether it has that endpoint."""
        return bool(self.facts.get(name))

    def endpoint(self, name: str, *, mtls: bool = False) -> str:
        """The URL of an endpoint; its alias for mutual TLS where there is one (RFC 8705 §5).

        Raises:
            ConfigurationError: there is none, or credentials may not be sent to it.
        """
        aliases = self.facts.get("mtls_endpoint_aliases")
        found = aliases.get(name) if mtls and isinstance(aliases, dict) else None
        found = found or self.facts.get(name)
        if not isinstance(found, str) or not found:
            who = f"the metadata of {self.issuer} names no {name}" if self.issuer else f"{name} is missing"
            raise ConfigurationError(f"{who}: give issuer=, or name the endpoint")
        return check_endpoint(found, name)

    def says(self, name: str) -> bool:
        """Whether a member is true."""
        return self.facts.get(name) is True

    def names(self, name: str) -> tuple[str, ...]:
        """A list of words; empty if it is not there."""
        found = self.facts.get(name)
        return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


class Server:
    """The authorization server of a grant.

    Args:
        issuer: its identifier; or several, of which the API's own metadata names one (rule 3).
        endpoints: the URLs of endpoints that the program has named.
        metadata: further members of a metadata document, for a server that publishes none.

    Raises:
        ConfigurationError: there is neither an issuer nor an endpoint, or both; or one of them cannot be used.
    """

    def __init__(
        self,
        *,
        issuer: str | Iterable[str] | None,
        endpoints: Mapping[str, str | None],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        named = {name: url for name, url in endpoints.items() if url is not None}
        if issuer is not None and (named or metadata):
            raise ConfigurationError(
                f"issuer= and {', '.join(f'{name}=' for name in named) or 'metadata='} contradict each other: "
                "issuer= discovers the endpoints"
            )
        self.allowed = (issuer,) if isinstance(issuer, str) else tuple(issuer or ())
        self.is_open = issuer is not None and not isinstance(issuer, str)  # the API says which it is
        self._found: dict[str, tuple[Metadata, float]] = {}
        self._named: Metadata | None = None
        if issuer is None:
            for name in endpoints:
                check_endpoint(named.get(name), name)
            self._named = Metadata(None, {**(metadata or {}), **named})
        elif not self.allowed:
            raise ConfigurationError("issuer= is empty: name at least one")
        for one in self.allowed:
            if check_endpoint(one, "issuer") != one or urlsplit(one).query:
                raise ConfigurationError("issuer= must have no query in it (RFC 8414 §2)")

    def identity(self) -> Mapping[str, Any]:
        """What makes the tokens of two servers different."""
        if self._named is None:
            return {"issuer": sorted(self.allowed) if self.is_open else self.allowed[0]}
        return {"endpoints": sorted((name, url) for name, url in self._named.facts.items() if isinstance(url, str))}

    @property
    def host(self) -> str:
        """For logs and reprs."""
        urls = self.allowed or [url for url in self._named.facts.values() if isinstance(url, str)]  # type: ignore[union-attr]  # one of the two is there
        return urlsplit(urls[-1]).netloc

    def is_unknown(self, presented_issuer: str | None) -> bool:
        """Whether only an API can say which server it is."""
        return self.is_open and presented_issuer is None and not self._found

    def doubt(self) -> None:
        """What is known may have changed: read it again before the next attempt."""
        self._found = {issuer: (metadata, -math.inf) for issuer, (metadata, _) in self._found.items()}

    def find(self, attempt: Attempt, issuer: str | None = None) -> Generator[Step, Any, Metadata]:
        """What is known of the server; read first, if need be.

        Args:
            attempt: what there is to go by.
            issuer: which of several it is, where that is known.

        Raises:
            ConfigurationError: it is another server's, cannot be used, or is not to be found.
            TokenEndpointUnavailable: it cannot be read now.
        """
        if self._named is not None:
            return self._named
        if issuer is None:
            issuer = (yield from self._which(attempt)) if self.is_open else self.allowed[0]
        if issuer not in self.allowed:
            raise ConfigurationError(f"{_shown(issuer)} is another issuer than issuer= allows")
        known, read_at = self._found.get(issuer, (None, -math.inf))
        now = attempt.clock.monotonic()
        if known is not None and now - read_at < MAX_AGE:
            return known
        try:
            facts = yield from _discover(issuer, attempt)
        except TokenEndpointUnavailable:
            if known is None:
                raise
            facts = known.facts
        found = Metadata(issuer, facts)
        self._found = {**self._found, issuer: (found, now)}
        return found

    def _which(self, attempt: Attempt) -> Generator[Step, Any, str]:
        """Which of the allowed issuers it is: the API says so (rule 3), or whoever issued the token that we hold."""
        challenge = attempt.challenge
        if challenge is not None and challenge.resource_metadata is not None:
            named = yield from _servers_of_resource(challenge.resource_metadata, attempt)
            chosen = next((one for one in named if one in self.allowed), None)
            if chosen is None:
                raise ConfigurationError(
                    f"the API trusts {', '.join(named[:3]) or 'nobody that it names'}, which issuer= does not allow: "
                    "add it there if it is right"
                )
            return chosen
        before = attempt.presented.issuer if attempt.presented is not None else None
        if before in self.allowed and before is not None:
            return before
        if self._found:
            return next(iter(self._found))
        raise ConfigurationError(
            "nobody has said which authorization server this is: the API's 401 has no resource_metadata "
            "(RFC 9728 §5.1); name one issuer="
        )


def _discover(issuer: str, attempt: Attempt) -> Generator[Step, Any, Mapping[str, Any]]:
    for url in _places(issuer):
        facts = yield from _read(url, f"the metadata of {issuer}", attempt)
        if facts is None:
            continue
        if facts.get("issuer") != issuer:
            raise ConfigurationError(
                f"the metadata at {url} is about {_shown(facts.get('issuer'))}, not about the issuer that was asked, "
                f"{issuer!r}: they must be the same to the letter (RFC 8414 §3.3)"
            )
        return facts
    raise ConfigurationError(
        f"{issuer} publishes no metadata (RFC 8414 §3, OpenID Connect Discovery §4): check issuer=, "
        "or name its endpoints"
    )


def _places(issuer: str) -> list[str]:
    """Where the metadata of `issuer` may be (OpenID Connect Discovery §4.1, RFC 8414 §3.1)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    paths = (
        f"{path}/.well-known/openid-configuration",
        f"/.well-known/oauth-authorization-server{path}",
        f"/.well-known/openid-configuration{path}",
    )
    return list(dict.fromkeys(urlunsplit((parts.scheme, parts.netloc, one, "", "")) for one in paths))


def _servers_of_resource(url: str, attempt: Attempt) -> Generator[Step, Any, list[str]]:
    """The authorization servers that a protected resource trusts (RFC 9728 §3)."""
    check_endpoint(url, "resource_metadata")
    theirs, asked = urlsplit(url), urlsplit(attempt.url)
    if (theirs.scheme, theirs.netloc) != (asked.scheme, asked.netloc):
        raise ConfigurationError(
            f"the API's resource_metadata is at another origin ({theirs.netloc}), which is not asked (RFC 9728 §7.7)"
        )
    facts = yield from _read(url, "the resource's metadata", attempt)
    resource = facts.get("resource") if facts is not None else None
    if not isinstance(resource, str) or not _is_about(resource, url, attempt.url):
        raise ConfigurationError(
            f"the metadata at {url} is about {_shown(resource)}, not about the resource that was asked (RFC 9728 §3.3)"
        )
    named = facts.get("authorization_servers") if facts is not None else None
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def _is_about(resource: str, place: str, asked: str) -> bool:
    """Whether `resource` is what was asked, or has its metadata in that very place and what was asked within it."""
    if resource == asked:
        return True
    parts, inner = urlsplit(resource), urlsplit(asked)
    path = parts.path.rstrip("/")
    well_known = urlunsplit(
        (parts.scheme, parts.netloc, f"/.well-known/oauth-protected-resource{path}", parts.query, "")
    )
    within = inner.path == path or inner.path.startswith(f"{path}/")
    return place == well_known and (parts.scheme, parts.netloc) == (inner.scheme, inner.netloc) and within


def _read(url: str, what: str, attempt: Attempt) -> Generator[Step, Any, Mapping[str, Any] | None]:
    """The JSON object at `url`; None if there is none."""
    try:
        response: ServerResponse = yield Fetch(ServerRequest(url, method="GET"), attempt.timeout)
    except TokenFlowError:
        raise
    except Exception as error:
        raise unavailable(error, what, sent=False) from error
    if response.status >= 500 or response.status in _TRANSIENT:
        now = parse_date(response.headers.get("date")) or attempt.clock.wall()
        raise TokenEndpointUnavailable(
            f"{what} cannot be read now ({response.status})",
            outcome="not sent",
            retry_after=parse_retry_after(response.headers.get("retry-after"), now=now),
            status=response.status,
        )
    try:
        facts = json.loads(response.body) if response.status == 200 else None
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) else None


def is_gone(status: int | None) -> bool:
    """Whether an endpoint that answers this is not there any more."""
    return status in _GONE


def _shown(text: object) -> str:
    return repr(text[:200]) if isinstance(text, str) else "nothing"
