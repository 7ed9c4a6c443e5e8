"""What a connection that failed means: what passes by itself, and what has to be mended."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from httpx_tokenflow import ClientCredentials, Clock, RenewalPolicy, TokenAuth, TokenEndpointUnavailable
from httpx_tokenflow._attempt import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

ALERT = b"\x15\x03\x03\x00\x02\x02"  # TLS, a fatal one; its number follows (RFC 8446 §6)


def failed(reason: str | None, kind: type[ssl.SSLError] = ssl.SSLError) -> httpx.ConnectError:
    error, tls = httpx.ConnectError("no"), kind(1, "words")
    tls.reason = reason  # type: ignore[assignment]  # as OpenSSL sets it
    error.__cause__ = tls
    return error


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (failed("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError), False),
        (failed("SSLV3_ALERT_HANDSHAKE_FAILURE"), False),
        (failed("SSLV3_ALERT_BAD_CERTIFICATE"), False),
        (failed("TLSV13_ALERT_CERTIFICATE_REQUIRED"), False),
        (failed("TLSV1_ALERT_UNKNOWN_CA"), False),
        (failed("TLSV1_ALERT_PROTOCOL_VERSION"), False),
        (failed("UNSUPPORTED_PROTOCOL"), False),
        (failed(None), False),
        (failed("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError), True),
        (failed(None, ssl.SSLZeroReturnError), True),
        (failed("TLSV1_ALERT_INTERNAL_ERROR"), True),
        (failed("WRONG_VERSION_NUMBER"), True),
        (httpx.ConnectError("refused"), True),
    ],
)
def test_which_failures_of_tls_are_there_to_stay(error: Exception, *, retryable: bool) -> None:
    """What speaks of certificates, or of a handshake that is refused, is; what a balancer does is not."""
    judged = unavailable(error)
    assert (judged.retryable, judged.outcome) == (retryable, "not sent")
    assert ("certificate" in str(judged)) is not retryable


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that reads a hello and says `answer`: its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(TimeoutError), server.accept()[0] as connection:
                    connection.settimeout(5)
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join(10)


@pytest.mark.parametrize(
    ("answer", "has_passed"),
    [(b"", True), (ALERT + b"\x50", True), (b"HTTP/1.1 503 No\r\n\r\n", True), (ALERT + b"\x28", False)],
)
def test_a_balancer_without_backends(answer: bytes, *, has_passed: bool) -> None:
    """A server that hangs up in the handshake, says internal_error, or answers in plain HTTP, is down, not wrong."""
    with answering(answer) as port:
        grant = ClientCredentials(f"https://127.0.0.1:{port}/token", client_id="svc", client_secret="s")
        with httpx.Client(trust_env=False, verify=ssl.create_default_context()) as client:
            auth = TokenAuth(grant, client=client, policy=RenewalPolicy(clock=Clock(sleep=lambda _: None)))
            if has_passed:
                assert auth.warm() is False
            else:
                with pytest.raises(TokenEndpointUnavailable, match="certificate"):
                    auth.warm()
