"""FastAPI, and Starlette where that will do: a guard at the front, and auth objects for what lies behind."""

from ._caller import Caller

__all__ = ["Caller"]
