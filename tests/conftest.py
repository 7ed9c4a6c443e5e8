"""What all tests share."""

from __future__ import annotations

import gc
import os
import signal
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
import sample
from hypothesis import settings

from httpx_tokenflow._verdicts import VERDICTS

if TYPE_CHECKING:
    from types import ModuleType


settings.register_profile("tokenflow", deadline=None)  # how loaded the machine is, is no property of ours
settings.load_profile("tokenflow")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --scenarios=DIR` (tests/conformance)."""
    parser.addoption(
        "--scenarios",
        action="append",
        default=[],
        metavar="DIR",
        help="play the scenarios in the JSON files of this directory as well; may be given several times",
    )


def pytest_configure() -> None:
    """A shell that starts `make test` in the background has it ignore Ctrl-C; tests that send one want it heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for library in (httpx, httpx2):
        _read_certificates_once(library)


def _read_certificates_once(library: ModuleType) -> None:
    """Clients that say nothing of TLS share one context, for to read the certificates takes longer than most tests.

    Where the package makes a context it goes on to make one: that is looked at.
    """
    transports = library._transports.default
    read = transports.create_ssl_context

    @cache
    def shared(trust_env: bool, _where: tuple[str | None, ...]) -> Any:
        return read(verify=True, trust_env=trust_env)

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> Any:
        if verify is True and cert is None:
            return shared(trust_env, tuple(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")))
        return read(verify=verify, cert=cert, trust_env=trust_env)

    transports.create_ssl_context = context


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def pytest_runtest_setup() -> None:
    """Each test hears why its refusals stand, whatever the one before it has heard."""
    VERDICTS.forget()


def pytest_collection_finish() -> None:
    """The garbage collector leaves alone what is there before the first test: thousands of tests, and no garbage.

    Or each `gc.collect()` of a test looks through all of it, a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What is imported from now on may ask the garbage collector who refers to what, as hypothesis does."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the samples do without is slow."""
    for item in sample.superfluous(items):
        item.add_marker(pytest.mark.slow)
