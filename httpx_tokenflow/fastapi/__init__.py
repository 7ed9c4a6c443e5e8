"""FastAPI, and Starlette where that will do: a guard at the front, and auth objects for what lies behind."""

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
    "Guard",
    "GuardMiddleware",
    "IntrospectionVerifier",
    "InvalidToken",
    "JWTVerifier",
    "Reason",
    "Refusal",
    "Verifier",
    # what lies behind
    "Forwarding",
    "OnBehalfOf",
    "Upstreams",
    "install_problems",
    "readiness",
]
