"""How a client proves itself, and how its form is read: the same at each endpoint of the authorization server.

The rules:

1. A client proves itself in one way only (RFC 6749 §2.3): by Basic with form-urlencoded id and secret, in the body,
   or, as a public client, by its id alone (§3.2.1).
2. A parameter sent twice is an error, an empty one counts as omitted, an unknown one is ignored (§3.2). ``audience``
   and ``resource`` may be sent several times (RFC 8693 §2.1, RFC 8707 §2).
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

from ._state import Rejected

_SEVERAL = frozenset({"audience", "resource"})


def read_form(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read a form by rule 2: its parameters, and whom the token is to be for."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Rejected("invalid_request", "the body must be application/x-www-form-urlencoded")
    pairs = parse_qsl(body.decode("utf-8", "replace"))
    once = [(name, value) for name, value in pairs if name not in _SEVERAL]
    form = dict(once)
    if len(form) != len(once):
        raise Rejected("invalid_request", "a parameter was sent twice")
    return form, tuple(dict.fromkeys(value for name, value in pairs if name in _SEVERAL))


def client_of(clients: Mapping[str, str], headers: Mapping[str, str], form: Mapping[str, str]) -> str:
    """Name the client, by rule 1, or raise `Rejected`."""
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    if "authorization" in headers:
        basic_id, basic_secret = _basic(headers["authorization"])
        if secret or client_id not in {"", basic_id}:
            raise Rejected("invalid_request", "more than one client authentication")
        client_id, secret = basic_id, basic_secret
    expected = clients.get(client_id)
    if expected is None or not hmac.compare_digest(expected.encode(), secret.encode()):
        raise Rejected("invalid_client", "the client is unknown or its secret is wrong")
    return client_id


def _basic(authorization: str) -> tuple[str, str]:
    """Read id and secret from Basic credentials, form-urlencoded inside the base64 (RFC 6749 §2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    if scheme.lower() != "basic" or ":" not in decoded:
        raise Rejected("invalid_client", "the client authentication cannot be read")
    client_id, _, secret = decoded.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
