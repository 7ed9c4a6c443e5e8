"""The error tree: who catches what, what an error carries, and what it does not."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import httpx
import httpx2
import pytest

from httpx_tokenflow import (
    ConfigurationError,
    ReauthenticationRequired,
    StepUpRequired,
    TokenEndpointUnavailable,
    TokenFlowError,
    TokenRequestError,
    _errors,
)

KINDS = [kind for _, kind in inspect.getmembers(_errors, inspect.isclass) if issubclass(kind, TokenFlowError)]


def make(kind: type[TokenFlowError]) -> TokenFlowError:
    return kind("what", outcome="unknown") if kind is TokenEndpointUnavailable else kind("what")


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_caught_by_both_libraries(kind: type[TokenFlowError]) -> None:
    """`except httpx.HTTPError` and `except httpx2.HTTPError` catch whatever we raise (F86)."""
    for caught in (kind, TokenFlowError, httpx.HTTPError, httpx2.HTTPError):
        with pytest.raises(caught):
            raise make(kind)


def test_an_outage_looks_like_one_to_retry_layers() -> None:
    """TokenEndpointUnavailable is a TransportError of both libraries; a wrong configuration is not."""
    assert isinstance(make(TokenEndpointUnavailable), httpx.TransportError)
    assert isinstance(make(TokenEndpointUnavailable), httpx2.TransportError)
    assert not isinstance(make(ConfigurationError), httpx.TransportError)


@pytest.mark.parametrize("kind", KINDS)
def test_the_joined_class_shows_the_public_name(kind: type[TokenFlowError]) -> None:
    """The class that is raised has the name, the module and the docstring of the public one."""
    error = make(kind)
    assert type(error).__name__ == kind.__name__
    assert type(error).__module__ == kind.__module__
    assert type(error).__doc__ == kind.__doc__
    assert str(error) == "what"


def test_again_is_a_fresh_error_with_the_same_facts() -> None:
    """Each waiter's error has the facts, and neither the traceback nor the response of another caller."""
    error = TokenRequestError("no", status=400, error="x", error_description="d", error_uri="u")
    error.response, error.request = object(), httpx.Request("GET", "https://a.example")
    twin = error.again()
    assert twin is not error
    assert type(twin) is type(error)
    assert (str(twin), twin.status, twin.error, twin.error_description, twin.error_uri) == ("no", 400, "x", "d", "u")
    assert twin.response is None
    assert twin.__traceback__ is None


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel_between_processes_without_what_they_hold(kind: type[TokenFlowError]) -> None:
    """A pickled error comes back as what it was, without request and response, which carry credentials."""
    error = make(kind)
    error.request = httpx.Request("GET", "https://a.example", headers={"Authorization": "Bearer SENTINEL"})
    error.response = httpx.Response(401, request=error.request)
    dumped = pickle.dumps(error)
    assert b"SENTINEL" not in dumped
    back = pickle.loads(dumped)
    assert isinstance(back, kind)
    assert isinstance(back, httpx.HTTPError)
    assert str(back) == "what"
    assert back.response is None


def test_fields_of_a_step_up() -> None:
    """StepUpRequired has what RFC 9470 §3 names."""
    error = StepUpRequired("x", acr_values="a b", max_age=5, scope="s")
    assert (error.acr_values, error.max_age, error.scope) == ("a b", 5, "s")


def test_without_any_library_loaded_errors_are_plain() -> None:
    """The module needs no HTTP library: what is not loaded cannot be named in an except clause either."""
    code = (
        "import sys; sys.modules['httpx_tokenflow'] = type(sys)('httpx_tokenflow');"
        f"sys.modules['httpx_tokenflow'].__path__ = [{str(_errors.__file__).rsplit('/', 1)[0]!r}];"
        "from httpx_tokenflow._errors import StoreError;"
        "assert 'httpx' not in sys.modules and 'httpx2' not in sys.modules;"
        "print(StoreError.__mro__[1].__name__, str(StoreError('plain')));"
        "import httpx2; assert isinstance(StoreError('x'), httpx2.HTTPError)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["TokenFlowError", "plain"]


def test_reauthentication_is_a_token_request_error() -> None:
    """Who catches TokenRequestError catches ReauthenticationRequired too."""
    assert issubclass(ReauthenticationRequired, TokenRequestError)
