"""``tokenflow doctor``: why does this request get a 401?"""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from httpx_tokenflow.doctor import Expected, Fields, Question, diagnose

from ._prober import Prober

__all__ = ["doctor"]


def doctor(
    url: Annotated[str, typer.Argument(help="What the request is for.")],
    token: Annotated[str | None, typer.Option(help="The access token.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header field.")] = None,
    method: Annotated[str, typer.Option("--method", "-X")] = "GET",
    origin: Annotated[str | None, typer.Option(help="The origin of the page that a browser sends it from.")] = None,
    issuer: Annotated[str | None, typer.Option()] = None,
    audience: Annotated[str | None, typer.Option()] = None,
    scope: Annotated[str, typer.Option()] = "",
    jwks_uri: Annotated[str | None, typer.Option()] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the diagnosis as JSON, and nothing else.")] = False,
) -> None:
    """Say why a request gets 401."""
    pairs = [(name.strip(), value.removeprefix(" ")) for name, _, value in (one.partition(":") for one in header or ())]
    if token is not None:
        pairs.append(("Authorization", f"Bearer {token}"))
    question = Question(
        url=url,
        method=method,
        fields=Fields(pairs),
        origin=origin,
        expected=Expected(issuer=issuer, audience=audience, scopes=frozenset(scope.split())),
        issuer=issuer,
        jwks_uri=jwks_uri,
        now=time.time(),
    )
    diagnosis = diagnose(Prober().examine(question))
    if as_json:
        print(json.dumps(diagnosis.to_dict(), indent=2))  # noqa: T201 - what is asked for
    else:
        print(diagnosis)  # noqa: T201 - likewise
    raise typer.Exit(0 if diagnosis.is_healthy else 1 if diagnosis.findings else 2)
