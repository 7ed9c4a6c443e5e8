"""Where an authorization server is: named by its endpoints, or discovered (RFC 8414, OpenID Connect, RFC 9728).

Rules.

1. A document counts only if it says that it is about the very issuer that was asked (RFC 8414 §3.3: compared as it is,
   character by character). What it names must be https; only an issuer that is itself plain http, on loopback, may
   name endpoints like that.
2. It is read once, and again after a day, or when an endpoint is not there any more; then at most once a minute. A
   document that was good serves until there is another: a failure to read it again costs no more than the time of it.
3. Where the program allows several issuers, the API's own metadata says which of them it trusts (RFC 9728). That is
   read only from the origin that sent the 401, only if it is about the resource that was asked, and it can only choose
   among the issuers that the program has named. A refresh token goes back to whoever issued it, whatever an API says;
   where nobody knows who that was, it goes nowhere.
4. Reading presents nothing, and follows no redirect: whatever goes wrong, no token is at stake. A read gets half of the
   time that is left, at most, so that one that hangs leaves some for the token.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ._answers import json_of
from ._attempt import unavailable
from ._errors import ConfigurationError, TokenEndpointUnavailable, TokenFlowError
from ._origins import check_endpoint
from ._steps import Fetch, ServerRequest
from ._times import parse_date, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from ._answers import ServerResponse
    from ._attempt import Attempt
    from ._steps import Step

__all__ = ["Metadata", "Server", "read_document"]

logger = logging.getLogger("httpx_tokenflow")

MAX_AGE = 86_400.0  # seconds after which metadata is read again
LEAST_AGE = 60.0  # seconds for which it is not read again, whatever makes one doubt it
READ_TIMEOUT = 10.0  # seconds, and at most half of what is left

_GONE = frozenset({*range(300, 400), 404, 405, 410})  # not there any more, or not where it was
_TRANSIENT = frozenset({408, 425, 429})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of an authorization server (RFC 8414 §2).

    Args:
        issuer: its identifier, or None where the program has named the endpoints.
        facts: the members of its metadata document.
    """

    issuer: str | None
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def told(self) -> str | None:
        """Its identifier: the one that it was found by, or that the program told beside the endpoints."""
        return self.issuer or self.facts.get("issuer")

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
        if self.issuer is None:
            if not found:
                raise ConfigurationError(
                    f'{name} is missing: name it, as in metadata={{"{name}": "https://…"}}, or give issuer= instead of '
                    "endpoints"
                )
            return _check_url(found, name)
        who = f"the metadata of {self.issuer}"
        if not found:
            raise ConfigurationError(f"{who} names no {name}: the server does not offer that, or does not say so")
        url = _check_url(found, f"{who}: {name}")
        if urlsplit(url).scheme != "https" and urlsplit(self.issuer).scheme == "https":
            raise ConfigurationError(f"{who} is https, and its {name} is not: nothing is sent there (RFC 8414 §2)")
        return url

    def says(self, name: str) -> bool:
        """Whether a member is true."""
        return self.facts.get(name) is True

    def names(self, name: str) -> tuple[str, ...]:
        """A list of words; empty if it is not there."""
        found = self.facts.get(name)
        return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


@dataclass(frozen=True, slots=True)
class _Known:
    """Metadata that were read.

    Args:
        metadata: what they say.
        read_at: monotonic seconds at which they were read, or should have been.
        until: monotonic seconds at which they are read again.
    """

    metadata: Metadata
    read_at: float
    until: float


class Server:
    """The authorization server of a grant.

    Args:
        issuer: its identifier; or several, of which the API's own metadata names one (rule 3).
        endpoints: the URLs of endpoints that the program has named.
        metadata: further members of a metadata document, for a server that publishes none; all count in `identity`.

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
        if metadata is not None and not isinstance(metadata, Mapping):
            raise ConfigurationError("metadata= must be a mapping, of what the server's metadata document would say")
        named = {name: url for name, url in endpoints.items() if url is not None}
        if issuer is not None and (named or metadata):
            raise ConfigurationError(
                f"issuer= and {', '.join(f'{name}=' for name in named) or 'metadata='} contradict each other: "
                "issuer= discovers the endpoints"
            )
        self.allowed = _as_issuers(issuer)
        self.is_open = issuer is not None and not isinstance(issuer, str)  # the API says which it is
        self._chosen: str | None = None  # the one that it was last
        self._found: dict[str | None, _Known] = {}
        self._named: Metadata | None = None
        if issuer is None:
            facts = {**_as_facts(metadata or {}), **named}
            for name in endpoints:
                if name not in named:
                    raise ConfigurationError(f"{name} is missing: give its URL, or issuer= to discover it")
            for name, url in facts.items():
                if name.endswith("_endpoint"):
                    _check_url(url, name)
            self._named = Metadata(None, facts)
            _check_told(self._named)
        self.host = urlsplit([*named.values(), *self.allowed][-1]).netloc
        """For logs and reprs."""

    def identity(self) -> Mapping[str, Any]:
        """What makes the tokens of two servers different."""
        if self._named is None:
            return {"issuer": sorted(self.allowed) if self.is_open else self.allowed[0]}
        return {"endpoints": sorted(self._named.facts.items())}

    def is_unknown(self, presented_issuer: str | None) -> bool:
        """Whether only an API can say which server it is."""
        return self.is_open and presented_issuer is None and self._chosen is None

    def doubt(self, metadata: Metadata) -> None:
        """What `metadata` names may be elsewhere by now: it is read again before it is used again (rule 2)."""
        known = self._found.get(metadata.issuer)
        if known is not None and known.metadata is metadata:
            until = min(known.until, known.read_at + LEAST_AGE)
            self._found = {**self._found, metadata.issuer: replace(known, until=until)}

    def find_again(self, attempt: Attempt, metadata: Metadata, status: int) -> Generator[Step, Any, Metadata]:
        """What is known of the server of `metadata` now that an endpoint of it has answered `status`."""
        if status not in _GONE:
            return metadata
        self.doubt(metadata)
        return (yield from self.find(attempt, metadata.issuer))

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
        known, now = self._found.get(issuer), attempt.clock.monotonic()
        if known is None or now >= known.until:
            try:
                facts = yield from _discover(issuer, attempt)
            except (ConfigurationError, TokenEndpointUnavailable) as error:
                if known is None:
                    raise
                logger.warning("%s; what they said before holds", error)
                known = _Known(known.metadata, now, now + LEAST_AGE)
            else:
                known = _Known(Metadata(issuer, facts), now, now + MAX_AGE)
            self._found = {**self._found, issuer: known}
        self._chosen = issuer
        return known.metadata

    def _which(self, attempt: Attempt) -> Generator[Step, Any, str]:
        """Which of the allowed issuers it is (rule 3)."""
        challenge, presented, before = attempt.challenge, attempt.presented, self._chosen
        if presented is not None:
            theirs = presented.issuer or presented.token.extra.get("issuer")
            before = theirs if theirs in self.allowed else before
            # Where nobody may log in, what is spent can still be revoked, and so sent.
            if presented.token.refresh_token and not (presented.is_spent and attempt.may_log_in):
                return self._home(theirs)
        if challenge is not None and challenge.resource_metadata is not None:
            try:
                trusted = yield from _servers_of_resource(challenge.resource_metadata, attempt)
            except TokenEndpointUnavailable:
                if before is None:
                    raise
                return before
            if before not in trusted:
                before = next((one for one in trusted if one in self.allowed), None)
            if before is None:
                named = ", ".join(map(_shown, trusted[:3])) or "nobody that it names"
                raise ConfigurationError(
                    f"the API trusts {named}, which issuer= does not allow: add it there if it is right"
                )
        if before is None:
            raise ConfigurationError(
                "nobody has said which authorization server this is: the API's 401 has no resource_metadata "
                "(RFC 9728 §5.1); name one issuer="
            )
        return before

    def _home(self, issuer: str | None) -> str:
        """Where a refresh token of `issuer` goes (rule 3): an API that chose could have it sent to somebody else."""
        if issuer in self.allowed:
            return issuer
        raise ConfigurationError(
            "nobody has said which of the issuers this refresh token is from, and it goes to no other: name the one "
            "issuer= of this session; what finish() returns says it, in Token.extra"
        )


def _as_facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of what the program says in the place of a metadata document; as that would hold it."""
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError("metadata= has something that JSON cannot hold") from None
    return found


def _as_issuers(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    try:
        issuers = (given,) if isinstance(given, str) else tuple(given)
    except TypeError:
        raise ConfigurationError("issuer= must be a URL, or several of them") from None
    if not issuers:
        raise ConfigurationError("issuer= is empty: name at least one")
    for one in issuers:
        if "?" in _check_url(one, "issuer"):
            raise ConfigurationError("issuer= must have no query in it (RFC 8414 §2)")
    return issuers


def _check_url(url: Any, what: str) -> str:
    """`url` if credentials may be sent to it, and a request can be made of it.

    What no request can be made of would look as if it had been sent (rule 4).
    """
    if url and not isinstance(url, str):
        raise ConfigurationError(f"{what} must be a string, an absolute URL")
    found = check_endpoint(url, what)
    try:
        is_clean = found.isprintable() and " " not in found and urlsplit(found).port != 0
    except ValueError:
        is_clean = False
    if not is_clean:
        raise ConfigurationError(f"{what} is no URL: it has white space, control characters or an impossible port")
    return found


def _check_told(named: Metadata) -> None:
    """Whether what the program said of the issuer will do."""
    told: Any = named.told
    if told is not None and not (isinstance(told, str) and told):
        raise ConfigurationError('metadata= must name the issuer as a string, as in {"issuer": "https://…"}')
    if told is None and named.says("authorization_response_iss_parameter_supported"):
        raise ConfigurationError(
            "metadata= says that callbacks name who they are from (authorization_response_iss_parameter_supported), "
            'but not who that is: add {"issuer": "https://…"} to it (RFC 9207 §2.4)'
        )


def _discover(issuer: str, attempt: Attempt) -> Generator[Step, Any, Mapping[str, Any]]:
    answers = []
    for url in _places(issuer):
        status, facts = yield from read_document(url, f"the metadata of {issuer}", attempt)
        if facts is None:
            answers.append(f"{status} at {url}")
            continue
        if facts.get("issuer") != issuer:
            raise ConfigurationError(
                f"the metadata at {url} are about {_shown(facts.get('issuer'))}, not about the issuer that was asked, "
                f"{issuer!r}: they must be the same to the letter (RFC 8414 §3.3){_advice(facts.get('issuer'), issuer)}"
            )
        return facts
    raise ConfigurationError(
        f"{issuer} publishes no metadata (RFC 8414 §3, OpenID Connect Discovery §4; {', '.join(answers)}): "
        "check issuer=, or name its endpoints"
    )


def _advice(found: object, issuer: str) -> str:
    """What to do where `found` is what a server calls itself, if that is a known mishap."""
    if not isinstance(found, str):
        return ""
    if "{tenantid}" in found:
        return ". This one stands for all tenants: name your tenant's own issuer=, or the endpoints"
    return f"; write issuer={_shown(found)}" if found.rstrip("/") == issuer.rstrip("/") else ""


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
    theirs = urlsplit(_check_url(url, "the API's resource_metadata"))
    if _origin(theirs) != _origin(urlsplit(attempt.url)):
        raise ConfigurationError(
            f"the API's resource_metadata is at another origin ({_shown(theirs.netloc)}), which is not asked "
            "(RFC 9728 §7.7): the API has to publish it where it is itself"
        )
    status, facts = yield from read_document(url, "the API's resource_metadata", attempt)
    if facts is None:
        raise ConfigurationError(
            f"the API's resource_metadata, {_shown(url)}, are not there ({status}; RFC 9728 §3): name one issuer="
        )
    resource = facts.get("resource")
    if not isinstance(resource, str) or not _is_about(resource, url, attempt.url):
        raise ConfigurationError(
            f"the API's resource_metadata, {_shown(url)}, are about {_shown(resource)}, "
            "not about the resource that was asked (RFC 9728 §3.3)"
        )
    named = facts.get("authorization_servers")
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_about(resource: str, place: str, asked: str) -> bool:
    """Whether `resource` is what was asked, or has its metadata in that very place and what was asked within it."""
    if resource == asked:
        return True
    try:
        parts, inner = urlsplit(resource), urlsplit(asked)
        is_here = _origin(parts) == _origin(inner)
    except ValueError:
        return False
    path = parts.path.rstrip("/")
    # RFC 9728 §3.1 takes off the slash after a host, and no other; both are seen.
    places = {f"/.well-known/oauth-protected-resource{one}" for one in (path, parts.path if path else "")}
    is_place = place in {urlunsplit((parts.scheme, parts.netloc, one, parts.query, "")) for one in places}
    return is_here and is_place and (inner.path == path or inner.path.startswith(f"{path}/"))


def read_document(url: str, what: str, attempt: Attempt) -> Generator[Step, Any, tuple[int, dict[str, Any] | None]]:
    """The status of the answer, and the JSON object at `url`; None if there is none."""
    timeout = min(READ_TIMEOUT, attempt.timeout / 2)
    try:
        response: ServerResponse = yield Fetch(ServerRequest(url, method="GET"), timeout)
    except TokenEndpointUnavailable as error:  # for a token request it would be a lost answer
        raise TokenEndpointUnavailable(
            f"{what} cannot be read: there is more of it than of any honest document",
            outcome="not sent",
            retryable=False,
        ) from error
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
    facts = json_of(response.body) if response.status == 200 else None
    return response.status, facts if isinstance(facts, dict) else None


def _shown(text: object) -> str:
    return repr(text[:200]) if isinstance(text, str) else "nothing"
