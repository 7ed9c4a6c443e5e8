"""Test support: an authorization server and a protected API, in memory or on loopback, with faults on demand.

    sandbox = Sandbox()
    first = sandbox.login()
    sandbox.script(DropAfter())      # the next token request is processed, and its answer is lost
    with httpx.Client(transport=sandbox.transport(), base_url="https://sandbox") as client: ...    # in memory
    with serve(sandbox) as url: ...                    # over real HTTP; wants the extra `testing`
    assert sandbox.token_requests == 1
    assert sandbox.is_alive(first["refresh_token"])

Start reading at `_sandbox`. The state machine is in `_state`, what the server says in `_app`, what can go
wrong in `_faults`; none of these does any I/O. Deliveries (`_reply`) are carried by `_asgi` and `_transport`.
"""

from ._checks import assert_faults_used, assert_nothing_leaked, assert_token_requests
from ._clock import ManualClock
from ._faults import (
    Answer,
    Drip,
    DropAfter,
    DropBefore,
    Endless,
    Fault,
    Garbage,
    Html,
    Refuse,
    Silent,
    Slow,
    Status,
    Truncated,
)
from ._record import Seen
from ._sandbox import Sandbox
from ._serve import serve
from ._watch import LeakWatch

__all__ = [
    "Answer",
    "Drip",
    "DropAfter",
    "DropBefore",
    "Endless",
    "Fault",
    "Garbage",
    "Html",
    "LeakWatch",
    "ManualClock",
    "Refuse",
    "Sandbox",
    "Seen",
    "Silent",
    "Slow",
    "Status",
    "Truncated",
    "assert_faults_used",
    "assert_nothing_leaked",
    "assert_token_requests",
    "serve",
]
