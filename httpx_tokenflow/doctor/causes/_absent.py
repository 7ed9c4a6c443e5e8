"""Nothing that could be accepted was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpx_tokenflow.doctor._diagnosis import Cause, Certainty, Finding

if TYPE_CHECKING:
    from httpx_tokenflow.doctor._facts import Facts

__all__ = ["CAUSES"]


class NoCredential(Cause):
    """Neither `Authorization` nor any other field or parameter that credentials are in."""

    id = "no-credential"
    title = "No credential was sent"
    remedy = "send one: auth=TokenAuth(…) on the client, or --token here; look whether the variable it is in is set"
    reference = "RFC 9110 §15.5.2"

    def look(self, facts: Facts) -> Finding | None:
        if facts.asked is None or facts.credentials:
            return None
        wanted = ", ".join(dict.fromkeys(challenge.scheme for challenge in facts.challenges))
        return self.found(
            Certainty.CERTAIN,
            f"no credential was sent{f', and the server wants {wanted}' if wanted else ''}",
            [
                "the request has no Authorization field, no API key, no cookie",
                facts.said(r"missing|required|no (auth|token)"),
            ],
        )


CAUSES: tuple[Cause, ...] = (NoCredential(),)
