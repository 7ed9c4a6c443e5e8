"""How the commands of a session say what they have to say, and what went wrong.

Rules.

1. What was asked for goes to standard output, all else to standard error.
2. What goes wrong is one line that says what to do, and an exit status: 75 (EX_TEMPFAIL) where the same command may
   work later (the token endpoint is not reached, another holds the lease), or else 1; 128 and its number after a signal
   (130 after Ctrl-C). No traceback, no secret.
3. What a server or a file says is shown without control characters: it comes to a terminal.
4. No typer here: `tokenflow token` does without it, since it takes as long to load as all the rest (`_quick`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from httpx_tokenflow import TokenEndpointUnavailable, TokenFlowError
from httpx_tokenflow._errors import BusyStore, DamagedEntry
from httpx_tokenflow.events import StoreFailed

from ._signals import heeding_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpx_tokenflow.events import Event

__all__ = ["heed", "in_words", "lasting", "plain", "plainly", "say", "show"]

_LATER = 75  # EX_TEMPFAIL of sysexits.h
_BY_SIGNAL = 128  # and its number: as shells count a program that a signal has ended
_TO_PERSONS = {
    ": start again with warm()": "",
    "check its certificate, or pass verify=": "check its certificate; SSL_CERT_FILE names whom else to trust",
    "the answers to two requests with it were lost: log in again": "the answers to two requests with it were lost",
    "use FileStore(keys=…)": 'say store = "file" in the profile',
}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def plain(text: object, most: int = 1000) -> str:
    """`text` on one line, without what a terminal would obey (rule 3)."""
    return " ".join("".join(one if one.isprintable() else " " for one in str(text)[:most]).split())


def in_words(error: BaseException | str) -> str:
    """What an error says, to a person and not to a program."""
    text = str(error)
    for to_program, to_person in _TO_PERSONS.items():
        text = text.replace(to_program, to_person)
    if isinstance(error, DamagedEntry):
        text = f"{text.removesuffix(': delete it')}: tokenflow login replaces it, tokenflow logout forgets it"
    if isinstance(error, BusyStore):
        text = f"{text}: lsof says which process has it: continue or end that, or try again later"
    if isinstance(error, TokenEndpointUnavailable) and error.retryable:
        when = "later" if error.retry_after is None else f"in {lasting(error.retry_after)}"
        text = f"{text}: try again {when}"
    return text


def say(text: object) -> None:
    """Tell a person, on standard error."""
    show(f"tokenflow: {plain(text)}")


def show(text: str) -> None:
    """Show `text` to a person, as it is, on standard error."""
    if sys.stderr is not None:  # as it is where the shell has closed it
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def heed(event: Event) -> None:
    """Tell of a store that failed, where the command goes on all the same."""
    if isinstance(event, StoreFailed):
        say(f"{in_words(event.error)}; {event.consequence}")


def lasting(seconds: float) -> str:
    """A duration as people say it: its two largest units."""
    left, words = max(0, int(seconds)), []
    for size, unit in _UNITS:
        if left >= size:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words[:2]) or "0 s"


@contextmanager
def plainly() -> Iterator[None]:
    """In here, what goes wrong ends the command as rule 2 says."""
    logging.getLogger("httpx_tokenflow").addHandler(logging.NullHandler())  # what is to be told, we tell
    _let_anything_be_written(sys.stdout)
    try:
        if sys.stdout is None:
            raise BrokenPipeError  # noqa: TRY301 - the shell has closed it: as if nobody read it
        with heeding_signals():
            yield
        sys.stdout.flush()
    except TokenFlowError as error:
        say(in_words(error))
        if isinstance(error, BusyStore) or (isinstance(error, TokenEndpointUnavailable) and error.retryable):
            raise SystemExit(_LATER) from None
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        say("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}")
        raise SystemExit(_BY_SIGNAL + number) from None
    except BrokenPipeError:
        _drop_the_rest()
        say("nobody reads the output any more, and not all of it was written")
    except OSError as error:
        _drop_the_rest()
        say(f"{error.filename or 'the output could not be written'}: {error.strerror or type(error).__name__}")
    else:
        return
    raise SystemExit(1)


def _drop_the_rest() -> None:
    """What is left to be written would be, in vain, when the interpreter ends, and that says so in its own words."""
    with suppress(OSError, AttributeError):  # closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _let_anything_be_written(stream: Any) -> None:
    """A name that the terminal's encoding does not have is no reason to fail."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
