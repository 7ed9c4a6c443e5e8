"""What a program needs to bring a grant of its own: for an API that gives tokens out in a way that is nobody else's.

A grant is two methods and a flag (`Grant`). `identity` names what makes two tokens different; it is hashed. `obtain`
is one attempt to get a token, as a generator: it yields what it wants done, is sent the answers, and returns what it
got. So it does no I/O of its own, and the same code serves threads, asyncio and trio. `TokenAuth` does the rest: when
to renew, once for everybody, retries, stores, leases, events. All of it, for an API that gives tickets out for a key:

    import os
    from collections.abc import Generator
    from typing import Any
    from httpx_tokenflow import TokenAuth
    from httpx_tokenflow.grants import Attempt, Fetch, Minted, ServerRequest, Step, Token, read_json, read_seconds

    class DeskTicket:
        spends = False  # no refresh token is presented

        def __init__(self, url: str, account: str, key: str) -> None:
            self.url, self.account, self.key = url, account, key

        def identity(self) -> dict[str, str]:
            return {"grant": "desk ticket", "url": self.url, "account": self.account}

        def obtain(self, attempt: Attempt) -> Generator[Step, Any, Minted]:
            sent_at, body = attempt.clock.wall(), {"account": self.account, "key": self.key}
            response = yield Fetch(ServerRequest(self.url, json=body), attempt.timeout)
            answer = read_json(response, sent_at, secrets=[self.key])
            return Minted(Token(answer.get("ticket", "")), lifetime=read_seconds(answer.get("validFor")))

    auth = TokenAuth(DeskTicket("https://desk.example.com/tickets", "orders", os.environ["DESK_KEY"]))

The steps.

    Fetch      a request to the server                            -> ServerResponse
    Call       a callable of the program's, sync or async         -> whatever it returns
    Work       a function that blocks: in a thread, on a loop     -> whatever it returns
    Sleep      for so many seconds                                -> None
    Patience   a person has to act: this takes so much longer     -> None

Rules.

1. A step that fails is thrown in at the yield. What a transport raises may pass: it counts as not sent, or as lost, by
   its kind, and is tried again where that can cost nothing. What is wrong for good is a `ConfigurationError`, or what
   the readers here raise: then nobody asks again within the same renewal.
2. Nothing is remembered between two attempts but what is in ``attempt.presented``: other processes come in between.
3. A grant that presents a refresh token says ``spends = True``. It presents none that ``is_spent``, which was refused
   or lost: then only a new session helps (``logs_in = True``, if it can open one). On an error that it raises after
   the server has taken a refresh token it sets ``may_have_spent``, as `read_token_response` does.
4. Where a key goes is up to the grant: https, to whom it belongs. `check_endpoint` helps.
"""

from __future__ import annotations

from ._answers import ServerResponse, read_json, read_seconds, read_token_response
from ._attempt import Attempt
from ._challenges import Challenge
from ._entries import Entry, Minted
from ._grants import Grant
from ._origins import check_endpoint
from ._steps import Call, Fetch, Patience, ServerRequest, Sleep, Step, Work
from ._tokens import Token, check_credential

__all__ = [
    "Attempt",
    "Call",
    "Challenge",
    "Entry",
    "Fetch",
    "Grant",
    "Minted",
    "Patience",
    "ServerRequest",
    "ServerResponse",
    "Sleep",
    "Step",
    "Token",
    "Work",
    "check_credential",
    "check_endpoint",
    "read_json",
    "read_seconds",
    "read_token_response",
]
