"""What a front end of the doctor needs beside the public names: the one seam between ``tokenflow`` and its insides.

A front end imports this and `httpx_tokenflow.doctor`, and no other module of the package (a test holds it to that):
what is not listed here may change as it likes.
"""

from __future__ import annotations

from ._diagnosis import is_answered, is_refused
from ._explain import refusal_of
from ._facts import UNSENDABLE, origin
from ._sent import credentials_of
from ._sifting import Sieve, without_secrets
from .causes._connections import is_shut_out
from .causes._key_prefixes import PREFIXES
from .causes._kinds import marks_of_another, marks_of_id_token, marks_of_refresh_token

__all__ = [
    "PREFIXES",
    "UNSENDABLE",
    "Sieve",
    "credentials_of",
    "is_answered",
    "is_refused",
    "is_shut_out",
    "marks_of_another",
    "marks_of_id_token",
    "marks_of_refresh_token",
    "origin",
    "refusal_of",
    "without_secrets",
]
