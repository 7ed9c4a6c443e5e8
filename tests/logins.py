"""What the tests of logins share: an authorization server of few words, somebody who logs in, and a clock to be moved.

`Issuer` answers requests as plain data, or, by `transport`, those of a client; it is strict about what RFC 6749, 7636,
8628 and 9126 ask of a client. `play` performs the steps of a grant one after the other, without I/O.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import itertools
import json
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt

from httpx_tokenflow._answers import ServerResponse
from httpx_tokenflow._attempt import Attempt
from httpx_tokenflow._loopback import Listener
from httpx_tokenflow._steps import Call, Fetch, Patience, Sleep, Work
from httpx_tokenflow._times import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ISSUER = "https://auth.example.com"
ENDPOINTS = {
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "device_authorization_endpoint": f"{ISSUER}/device",
    "pushed_authorization_request_endpoint": f"{ISSUER}/par",
}
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
KEY = "0123456789abcdef0123456789abcdef"


class Time:
    """Two clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)


class Issuer:
    """An authorization server. Faults are answers, or exceptions, for the next requests to an endpoint."""

    def __init__(self, **facts: Any) -> None:
        self.facts = {"issuer": ISSUER, **ENDPOINTS, **facts}
        self.seen: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []  # path, form, headers
        self.faults: dict[str, deque[Any]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.pushed: dict[str, dict[str, str]] = {}
        self.good: set[str] = set()  # access tokens
        self.refresh_tokens: set[str] = set()
        self.logins = 0
        self.claims: dict[str, Any] = {}  # what an ID token says otherwise than it should
        self.lifetime = 3600
        self.device: dict[str, Any] = {}  # what the device authorization endpoint says otherwise
        self._number = itertools.count(1)
        self._lock = threading.Lock()

    def fail(self, path: str, *faults: Any) -> None:
        self.faults.setdefault(path, deque()).extend(faults)

    def forms(self, path: str) -> list[dict[str, str]]:
        """The requests to an endpoint; each parameter was there once, but for `resource`."""
        found = [form for at, form, _ in self.seen if at == path]
        for form in found:
            assert all(len(values) == 1 for name, values in form.items() if name != "resource"), form
        return [{name: " ".join(values) for name, values in form.items()} for form in found]

    def grants(self) -> Counter[str]:
        return Counter(form["grant_type"] for form in self.forms("/token"))

    # As a server

    def answer(self, url: str, form: list[tuple[str, str]], headers: dict[str, str]) -> ServerResponse:
        with self._lock:
            path = urlsplit(url).path
            fields: dict[str, list[str]] = {}
            for name, value in form:
                fields.setdefault(name, []).append(value)
            self.seen.append((path, fields, headers))
            queue = self.faults.get(path)
            if queue:
                fault = queue.popleft()
                if isinstance(fault, Exception):
                    raise fault
                if fault is not None:
                    return fault
            status, body = self._answer(path, {name: values[0] for name, values in fields.items()})
        return ServerResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())

    def _answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path == "/.well-known/openid-configuration":
            return 200, self.facts
        if path == "/par":
            assert form["client_id"]
            uri = f"urn:par:{next(self._number)}"
            self.pushed[uri] = form
            return 201, {"request_uri": uri, "expires_in": 60}
        if path == "/device":
            number = next(self._number)
            return 200, {
                "device_code": f"device-SENTINEL-{number}",
                "user_code": "WDJB-MJHT",
                "verification_uri": f"{ISSUER}/go",
                "verification_uri_complete": f"{ISSUER}/go?user_code=WDJB-MJHT",
                "expires_in": 600,
                "interval": 5,
                **self.device,
            }
        assert path == "/token", path
        return self._token(form)

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refresh_tokens:
                return 400, {"error": "invalid_grant"}
            self.refresh_tokens.discard(form["refresh_token"])
            return 200, self._issue()
        if form["grant_type"] == DEVICE_GRANT:
            return 200, self._issue()
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if asked is None or asked["code_challenge"] != challenge.decode():
            return 400, {"error": "invalid_grant", "error_description": f"code {form['code']}"}
        assert asked["redirect_uri"] == form["redirect_uri"]
        answer = self._issue()
        if "nonce" in asked:
            claims = {"iss": ISSUER, "aud": asked["client_id"], "nonce": asked["nonce"], **self.claims}
            answer["id_token"] = jwt.encode({name: one for name, one in claims.items() if one}, KEY)
        return 200, answer

    def _issue(self) -> dict[str, Any]:
        number = next(self._number)
        self.good.add(f"access-{number}")
        self.refresh_tokens.add(f"refresh-{number}")
        return {
            "access_token": f"access-{number}",
            "refresh_token": f"refresh-{number}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
        }

    def transport(self) -> httpx.MockTransport:
        """For a client; everything that is not the server's is an API that wants a good token."""

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.host != "auth.example.com":
                token = request.headers.get("authorization", "").removeprefix("Bearer ")
                return httpx.Response(200 if token in self.good else 401)
            form = [(name, one) for name, values in parse_qs(request.content.decode()).items() for one in values]
            answer = self.answer(str(request.url), form, dict(request.headers))
            return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

        return httpx.MockTransport(handle)

    # As a person at its pages

    def asked(self, url: str) -> dict[str, str]:
        """The parameters of an authorization request, pushed or not; each is there once."""
        base, _, query = url.partition("?")
        assert base == ENDPOINTS["authorization_endpoint"]
        found = parse_qs(query)
        assert all(len(values) == 1 for name, values in found.items() if name != "resource"), found
        said = {name: " ".join(values) for name, values in found.items()}
        if "request_uri" not in said:
            return said
        assert set(said) == {"client_id", "request_uri"}
        return self.pushed.pop(said["request_uri"])

    def log_in(self, url: str, **otherwise: str | None) -> str:
        """Log in, and come back: the callback, with what is said `otherwise` (None: left out)."""
        asked = self.asked(url)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["code_challenge"]) == 43
        code = f"code-SENTINEL-{next(self._number)}"
        self.codes[code] = asked
        self.logins += 1
        said = {"code": code, "state": asked["state"], "iss": ISSUER, **otherwise}
        return f"{asked['redirect_uri']}?{urlencode({name: one for name, one in said.items() if one is not None})}"


@dataclass
class Stage:
    """What the steps of a grant are performed with."""

    issuer: Issuer = field(default_factory=Issuer)
    time: Time = field(default_factory=Time)
    steps: list[Any] = field(default_factory=list)
    url: str = ""  # where the browser was sent
    person: Callable[[str], str] | None = None  # from there to the callback; None: `issuer.log_in`
    takes: float = 0.0  # seconds that the person takes
    prompts: list[Any] = field(default_factory=list)
    served: dict[Listener, Any] = field(default_factory=dict)  # what listeners would serve, and for how long

    def serve(self, listener: Listener, judge: Callable[[str], str | None], seconds: float) -> None:
        """In the place of `Listener.serve`."""
        self.served[listener] = judge, seconds

    def browse(self, url: str) -> None:
        """As `open_browser`."""
        self.url = url

    def prompt(self, prompt: Any) -> None:
        """As `on_prompt`."""
        self.prompts.append(prompt)

    def attempt(self, presented: Any = None, **options: Any) -> Attempt:
        return Attempt(presented, self.time.now + 30.0, self.time.clock, **options)

    def slept(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Sleep)]

    def play(self, flow: Generator[Any, Any, Any]) -> Any:
        """Perform `flow` to its end."""
        answer: Any = None
        error: Exception | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as end:
                return end.value
            self.steps.append(step)
            answer = error = None
            try:
                answer = self._perform(step)
            except Exception as failed:  # noqa: BLE001 - for the flow
                error = failed

    def _perform(self, step: Any) -> Any:
        if isinstance(step, Fetch):
            request = step.request
            return self.issuer.answer(request.url, list(request.form), dict(request.headers))
        if isinstance(step, Sleep):
            self.time.now += step.seconds
            return None
        if isinstance(step, Call):
            result = step.function()
            assert not inspect.isawaitable(result)
            return result
        if isinstance(step, Work):
            listener = getattr(step.function, "__self__", None)
            return self._wait(listener) if isinstance(listener, Listener) else step.function()
        assert isinstance(step, Patience)
        return None

    def _wait(self, listener: Listener) -> str:
        judge, seconds = self.served[listener]
        self.time.now += min(self.takes, seconds)
        if self.takes > seconds:
            raise TimeoutError
        callback = (self.person or self.issuer.log_in)(self.url)
        target = callback.removeprefix("http://").partition("/")[2]
        judge(f"/{target}")
        return f"/{target}"
