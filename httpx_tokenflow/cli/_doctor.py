"""``tokenflow doctor``: why does this request get a 401?

Start reading at `doctor`: what was asked (`_asked`, `_curl`, `_given`), perhaps a token first (`_fetching`), the
examination (`_prober`), and what came of it (`_verdict`).

Rules.

1. What cannot be understood ends with status 2 and one sentence, before anything is sent.
2. With ``--dry-run`` nothing is sent, to nobody: no token is fetched or renewed for it either.
3. No secret is told, wherever it was given; what is given on the command line, others on the machine can see as well.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from httpx_tokenflow import ConfigurationError, TokenFlowError
from httpx_tokenflow.doctor import MAX_PROBES, Fields, Question, diagnose, plan
from httpx_tokenflow.doctor._front import Sieve, is_shut_out

from ._asked import TOKEN_VARIABLE, asked_by, checked_origin, token_of
from ._commands import ConfigFile, complete
from ._given import (
    check_resource,
    endpoint_of,
    expected_of,
    introspection_at,
    profile_of,
    queried,
    secret_of,
    trust,
    wanted_by,
)
from ._plainly import say
from ._verdict import Report, console, plan_as_data, print_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._asked import Asked
    from ._fetching import Fetched, Wanted
    from ._profiles import Profile

__all__ = ["doctor", "looking"]

_INTERRUPTED = 130  # as shells count a program that SIGINT ended
_TIMEOUT = 5.0  # seconds
_PATIENCE = 20.0  # seconds for all probes at least
_PLACEHOLDER = "the-token-that-would-be-fetched"  # of a dry run

_SHUT_OUT = (
    "after a request without a credential the server refuses this one too, as servers do that block or slow down who "
    "was refused once: it was accepted before, so that is no fault of the credential"
)

Text = str | None


def _option(*names: str, text: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


_EXPECTED, _FETCHED = "What the API expects", "A token, fetched first"


def doctor(  # noqa: PLR0913, PLR0917 - what there is to say about a request
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL | -- curl …", help="What the request is for; or a curl command line, pasted."),
    ] = None,
    token: Annotated[
        Text,
        _option("--token", text="The access token; - for standard input. Else, for a URL by itself, TOKENFLOW_TOKEN."),
    ] = None,
    header: Annotated[list[str] | None, _option("--header", "-H", text="A header field, 'Name: value'.")] = None,
    cookie: Annotated[list[str] | None, _option("--cookie", "-b", text="A cookie, NAME=VALUE.")] = None,
    user: Annotated[Text, _option("--user", "-u", text="NAME:PASSWORD, for Basic.")] = None,
    method: Annotated[Text, _option("--method", "-X", text="Of the request; else GET. No body is sent.")] = None,
    profile: Annotated[
        Text,
        _option("--profile", "-p", text="A profile: its token, and what it expects.", autocompletion=complete),
    ] = None,
    config: ConfigFile = None,
    origin: Annotated[Text, _option("--origin", text="The page that a browser sends it from (CORS).")] = None,
    issuer: Annotated[
        Text, _option("--issuer", text="Who issues its tokens. Its metadata and keys are read.", panel=_EXPECTED)
    ] = None,
    audience: Annotated[Text, _option("--audience", text="For whom they are to be (aud).", panel=_EXPECTED)] = None,
    scope: Annotated[Text, _option("--scope", text="What they are to allow, space-separated.", panel=_EXPECTED)] = None,
    jwks_uri: Annotated[
        Text, _option("--jwks-uri", text="Where the issuer's keys are, if its metadata does not say.", panel=_EXPECTED)
    ] = None,
    introspection_endpoint: Annotated[
        Text,
        _option("--introspection-endpoint", text="Ask there about the token (RFC 7662).", panel=_EXPECTED),
    ] = None,
    token_endpoint: Annotated[
        Text, _option("--token-endpoint", text="Get a token there, once, and look with that.", panel=_FETCHED)
    ] = None,
    grant: Annotated[
        str,
        _option("--grant", text="client_credentials, refresh_token or authorization_code.", panel=_FETCHED),
    ] = "client_credentials",
    client_id: Annotated[Text, _option("--client-id", text="The client.", panel=_FETCHED)] = None,
    client_secret_env: Annotated[
        Text, _option("--client-secret-env", text="The environment variable with its secret.", panel=_FETCHED)
    ] = None,
    client_secret: Annotated[
        Text,
        _option("--client-secret", text="- for standard input. Others can see a value here.", panel=_FETCHED),
    ] = None,
    refresh_token_env: Annotated[
        Text, _option("--refresh-token-env", text="The environment variable with a refresh token.", panel=_FETCHED)
    ] = None,
    refresh_token: Annotated[
        Text,
        _option("--refresh-token", text="- for standard input. Many servers take each only once!", panel=_FETCHED),
    ] = None,
    code: Annotated[Text, _option("--code", text="An authorization code.", panel=_FETCHED)] = None,
    code_verifier: Annotated[Text, _option("--code-verifier", text="Of the login (PKCE).", panel=_FETCHED)] = None,
    redirect_uri: Annotated[Text, _option("--redirect-uri", text="Of the login.", panel=_FETCHED)] = None,
    resource: Annotated[
        list[str] | None, _option("--resource", text="The API that the token is for (RFC 8707).", panel=_FETCHED)
    ] = None,
    cacert: Annotated[Path | None, _option("--cacert", text="Certificates to trust (PEM).", metavar="FILE")] = None,
    timeout: Annotated[
        float | None, _option("--timeout", text="Seconds for each request; else 5.", min=0.1, max=600)
    ] = None,
    as_json: Annotated[bool, _option("--json", text="Write the diagnosis as JSON, and nothing else.")] = False,
    dry_run: Annotated[bool, _option("--dry-run", text="Say what would be sent, and send nothing.")] = False,
) -> None:
    """Say why a request gets 401, with the evidence, and what to do.

    It sends GET, HEAD and OPTIONS, without a body, eight requests at most, and
    the credential to the URL's origin alone; but what you name goes out as well:
    the request itself by --method, a POST with the token to
    --introspection-endpoint, and before all that a token request to
    --token-endpoint, or the renewal of a --profile. A token is taken as it is,
    blanks and all: what is wrong with it is the cause. A refresh token, or a
    code, is spent by it.

    $ tokenflow doctor https://api.example.com/me --token "$TOKEN"

    $ tokenflow doctor https://api.example.com/me --profile work

    $ tokenflow doctor -- curl https://api.example.com/me -H "X-API-Key: $KEY"

    $ tokenflow doctor - < a-curl-command-line-copied-from-the-browser.txt

    The exit status is 0 if all is well, 1 with a cause (or refused, and the
    doctor knows no cause for it), 2 if it could not look.

    --json has {"causes", "verdict", "healthy", "url", "status", "remarks",
    "token", "fetched", "exchanges"}. A cause, the most likely first, has {"id",
    "summary", "certainty", "evidence", "against", "remedy", "reference"}; a
    token {"kind", "shown", "header", "claims"}; an exchange {"role", "why",
    "began", "seconds", "method", "url", "credential", "status", "http_version",
    "challenges", "location", "failure"}. Times are in seconds.
    """
    status = 2
    with looking():
        _one_input(words, token, client_secret, refresh_token)
        asked = asked_by(words or (), headers=header or (), cookies=cookie or (), user=user, method=method)
        known = profile_of(profile, config)
        secret = secret_of(client_secret, client_secret_env, "--client-secret")
        wanted = None
        if token_endpoint is not None:
            form = {
                "refresh_token": secret_of(refresh_token, refresh_token_env, "--refresh-token"),
                "code": code, "redirect_uri": redirect_uri, "code_verifier": code_verifier,
            }  # fmt: skip
            secret = _PLACEHOLDER if dry_run else secret
            wanted = wanted_by(token_endpoint, grant, client_id, secret, form, scope, audience, resource or ())
        if known is not None and wanted is None and token is None and not asked.has_credential:
            check_resource(known, asked.url)
        expected = expected_of(known, issuer, audience, scope)
        question = Question(
            url=asked.url,
            method=asked.method,
            origin=asked.origin if origin is None else checked_origin(origin),
            expected=expected,
            issuer=endpoint_of(expected.issuer, "--issuer"),
            jwks_uri=endpoint_of(jwks_uri, "--jwks-uri"),
            introspection=introspection_at(introspection_endpoint, client_id, secret),
            now=time.time(),
        )
        seconds = timeout or asked.timeout or _TIMEOUT
        if dry_run:
            status = _tell_plan(asked, token, question, known, wanted, as_json=as_json)
        else:
            report = _examined(asked, token, question, known, wanted, secret, seconds, cacert)
            status = report.status
            if as_json:
                print(json.dumps(report.to_dict(), indent=2))  # noqa: T201 - what is asked for
            else:
                with console() as to:
                    report.print(to)
    raise typer.Exit(status)


@contextmanager
def looking() -> Iterator[None]:
    """In here, what goes wrong ends the command: with one sentence, and status 2."""
    if sys.stdout is None:  # the shell has closed it: the exit status is the answer
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the process is
    logging.getLogger("httpx_tokenflow").addHandler(logging.NullHandler())  # what is to be told, we tell
    try:
        yield
        sys.stdout.flush()
    except TokenFlowError as error:
        say(error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    except EOFError:
        say("nothing was entered")
        raise typer.Exit(2) from None
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        say(f"{error.filename or 'the output'}: {error.strerror or type(error).__name__}")
        raise typer.Exit(2) from None


def _one_input(words: list[str] | None, *options: str | None) -> None:
    if [*(words or ())[:1], *options].count("-") > 1:
        raise ConfigurationError("standard input can be one thing only, and - is given for several")


def _examined(
    asked: Asked,
    token: str | None,
    question: Question,
    known: Profile | None,
    wanted: Wanted | None,
    secret: str | None,
    timeout: float,
    cacert: Path | None,
) -> Report:
    import httpcore  # noqa: F401 - it takes a while to load, which is none of the exchange's time

    from ._prober import Prober

    introspection = question.introspection[0] if question.introspection is not None else None
    named = [asked.url, question.issuer, question.jwks_uri, introspection, wanted.endpoint if wanted else None]
    verify = trust(asked, cacert, named)
    asked, fetched = _with_token(asked, token, known, wanted, timeout, verify)
    question = replace(
        question,
        fields=Fields(asked.fields),
        refusal=fetched.refusal if fetched is not None else None,
        token_age=fetched.age if fetched is not None else None,
        secrets=tuple(one for one in (*asked.secrets, secret, token, *queried(asked.url)) if one),
        now=time.time(),
    )
    facts = Prober(timeout=timeout, patience=max(_PATIENCE, 4 * timeout), verify=verify).examine(question)
    reasons = {probe.role: probe.why for probe in plan(question)}
    return Report(
        diagnosis=diagnose(facts),
        url=asked.url,
        remarks=(*asked.remarks, *([_SHUT_OUT] if is_shut_out(facts) else ())),
        reasons=reasons,
        sieve=Sieve.of(facts),
        fetched=fetched,
    )


def _with_token(
    asked: Asked,
    token: str | None,
    known: Profile | None,
    wanted: Wanted | None,
    timeout: float,
    verify: Any,
) -> tuple[Asked, Fetched | None]:
    """The request with a token, fetched or given; a credential that was given goes before the profile's."""
    from ._fetching import fetch, fetch_by

    fetched = None
    if wanted is not None:
        if token is not None or asked.has_authorization:
            raise ConfigurationError("there are two credentials: one is given, and one is to be fetched; give one")
        # That curl does not verify the API's certificate (-k) is nothing about the token endpoint's.
        fetched = fetch(wanted, timeout=timeout, verify=True if verify is False else verify)
    elif known is not None and token is None and not asked.has_credential:
        fetched = fetch_by(known)
    if fetched is None:
        text, remark = token_of(token, asked)
        asked = replace(asked, remarks=(*([remark] if remark else ()), *asked.remarks))
        return asked if text is None else asked.having(("Authorization", f"Bearer {text}"), secrets=[text]), None
    pairs = [("Authorization", fetched.authorization)] if fetched.authorization else []
    return asked.having(*pairs, secrets=fetched.secrets), fetched


def _tell_plan(
    asked: Asked, token: str | None, question: Question, known: Profile | None, wanted: Wanted | None, *, as_json: bool
) -> int:
    """What would be sent; the plan goes by whether there is a credential, not by what it is."""
    first = None
    if wanted is not None:
        first = f"POST {wanted.endpoint}, for a token ({wanted.grant})"
    elif known is not None and token is None and not asked.has_credential:
        first = f"the token of the profile {known.name}, renewed at {known.server} if need be"
    elif token is None and token_of(None, asked)[0] is not None:
        first = f"the token is read from {TOKEN_VARIABLE}"
    fields = asked.fields
    if first is not None or token is not None:
        fields = (*fields, ("Authorization", f"Bearer {_PLACEHOLDER}"))
    found = plan_as_data(plan(replace(question, fields=Fields(fields))), first)
    if as_json:
        print(json.dumps(found, indent=2))  # noqa: T201 - what is asked for
    else:
        with console() as to:
            print_plan(found, MAX_PROBES, to)
    return 0
