"""FastAPI, and Starlette where that will do: a guard at the front, and auth objects for what lies behind.

    who is let in       Guard, JWTVerifier, IntrospectionVerifier, GuardMiddleware; a route gets a Caller
    what lies behind    Upstreams (lifespan, clients by name), OnBehalfOf, Forwarding
    what is answered    install_problems, readiness

Start reading at `_guard` and at `_on_behalf`.
"""

from ._caller import Caller
from ._forwarding import Forwarding
from ._guard import Guard, Verifier
from ._introspection import IntrospectionVerifier
from ._jwt import JWTVerifier
from ._middleware import GuardMiddleware
from ._on_behalf import OnBehalfOf
from ._problems import install_problems
from ._readiness import readiness
from ._refusals import InvalidToken, Reason, Refusal
from ._upstreams import Upstreams

__all__ = [
    # who is let in
    "Caller",
    # what lies behind
    "Forwarding",
    "Guard",
    "GuardMiddleware",
    "IntrospectionVerifier",
    "InvalidToken",
    "JWTVerifier",
    "OnBehalfOf",
    "Reason",
    "Refusal",
    "Upstreams",
    "Verifier",
    "install_problems",
    "readiness",
]
