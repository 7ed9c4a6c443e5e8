"""What a type checker must say of programs that are wrong; see `test_typed.py`. Nothing of it is ever run.

Each line expects its errors, mypy's and pyright's: a mistake that a checker lets pass is an ignore too many, which it
reports.
"""

# ruff: noqa: T201 - what is printed is used

from __future__ import annotations

from typing import Any

import httpx

import httpx_tokenflow as tf
from httpx_tokenflow import events, stores, testing
from httpx_tokenflow.fastapi import Guard, Upstreams

URL = "https://auth.example.com/token"


class NoGrant:
    """It has no `spends`, and `obtain` is no generator."""

    def identity(self) -> dict[str, str]:
        return {}

    def obtain(self, attempt: Any) -> str:
        return "…"


class NoStore:
    """Its `save` does not compare."""

    def load(self, fingerprint: str) -> stores.Entry | None:
        return None

    def save(self, fingerprint: str, entry: stores.Entry) -> None:
        return None


def of_tokens(event: tf.Token) -> None:
    """A handler of something else."""


grant = tf.ClientCredentials(URL, client_id="orders", client_secret="…")
auth = tf.TokenAuth(grant)


async def mistakes(event: events.Event) -> None:
    # What goes into an auth
    tf.TokenAuth("…")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(grant, token="…")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(NoGrant())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(grant, store=NoStore())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(grant, store={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(grant, policy={"budget": 5})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(grant, on_event=of_tokens)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.TokenAuth(grant, origin="https://api.example.com")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.TokenAuth(grant, dpop=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.BearerAuth(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.APIKeyAuth(b"x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.RenewalPolicy(60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.RenewalPolicy(due_window="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.RenewalPolicy(window=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    # Grants
    tf.ClientCredentials(URL)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.ClientCredentials(URL, "orders")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.ClientCredentials(URL, client_id="orders", secret="…")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.ClientCredentials(URL, client_id="orders", client_secret=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.ClientCredentials(URL, client_id="orders", client_auth="basic")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.DeviceCode(issuer=URL, client_id="tv")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.DeviceCode(issuer=URL, client_id="tv", on_prompt=of_tokens)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.SessionLogin(URL)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tf.TokenExchange(URL, client_id="o", subject_token=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tf.PrivateKeyJWT(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    # What comes out of it
    expires: float = auth.token().expires_at  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    token: tf.Token = auth.atoken()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    text: str = await auth.atoken()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(expires, token, text)
    auth.set_token("…")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    auth.token().access_token = "…"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    auth.status.state = tf.State.FRESH  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    left: float = auth.status.expires_in  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(left)
    auth.using(scopes=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    # Events, and one auth for each of many
    print(event.error)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
    if isinstance(event, events.RenewalFailed):
        print(event.token)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
        event.seconds = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    print(tf.AuthCache(lambda tenant: "…", limit=5))  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]
    by_number: tf.AuthCache[int] = tf.AuthCache(lambda number: auth, limit=5)
    print(by_number["acme"])  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    # Elsewhere
    Guard(URL)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Upstreams({"billing": httpx.AsyncClient()})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    stores.MemoryStore(limit="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.Status("503")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    testing.Sandbox().script(503)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(tf.Tokens)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
