"""A person with a browser: follows redirects, fills in the forms of the authorization server, says yes or no."""

from __future__ import annotations

import threading
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin

import httpx

if TYPE_CHECKING:
    import ssl

PATIENCE = 20.0  # seconds
MOVES = 20  # pages that a login takes at most


class Person:
    """Somebody who has an account, and a browser that keeps its cookies: whoever has logged in stays logged in.

    Args:
        issuer: the authorization server; its pages are filled in, and where it sends the browser otherwise is the end.
        trust: what the browser trusts.
        name: of the account.
    """

    def __init__(self, issuer: str, trust: ssl.SSLContext, name: str = "alice") -> None:
        self.name = name
        self.errors: list[BaseException] = []  # what went wrong in `browse`
        self._issuer = issuer
        self._browser = httpx.Client(verify=trust, timeout=PATIENCE)
        self._threads: list[threading.Thread] = []

    def log_in(self, url: str) -> str:
        """Log in and consent; returns the callback URL, which is not visited."""
        return self._go(url, "yes")

    def refuse(self, url: str) -> str:
        """Say no; returns the callback URL, with `access_denied`, which is not visited."""
        return self._go(url, "no")

    def visit(self, url: str) -> httpx.Response:
        """Log in and consent, and go where one is sent then: the page that a loopback redirect shows."""
        return self._browser.get(self.log_in(url))

    def visit_and_refuse(self, url: str) -> httpx.Response:
        """Say no, and go where one is sent then."""
        return self._browser.get(self.refuse(url))

    def browse(self, url: str) -> bool:
        """Like `webbrowser.open`: `visit` in the background. What goes wrong is in `errors`, and raised by `close`."""
        return self._aside(self.visit, url)

    def browse_and_refuse(self, url: str) -> bool:
        """`browse`, and say no."""
        return self._aside(self.visit_and_refuse, url)

    def confirm(self, verification_uri_complete: str) -> str:
        """Confirm a device, log in and consent; returns the text of the last page."""
        return self._device(verification_uri_complete, {"confirm": "yes"}, "yes")

    def deny(self, verification_uri_complete: str) -> str:
        """Abort a device's login; returns the text of the last page."""
        return self._device(verification_uri_complete, {"abort": "yes"}, "no")

    def close(self) -> None:
        """Wait for what is going on, and close the browser."""
        for thread in self._threads:
            thread.join(PATIENCE)
        self._browser.close()
        if self.errors:
            raise self.errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _aside(self, function: Any, url: str) -> bool:
        def run() -> None:
            try:
                function(url)
            except BaseException as error:  # noqa: BLE001 - it is for the one who waits
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    def _go(self, url: str, answer: str) -> str:
        request = self._browser.build_request("GET", url)
        for _ in range(MOVES):
            response = self._send(request)
            if response.has_redirect_location:
                target = urljoin(str(response.url), response.headers["location"])
                if not target.startswith(f"{self._issuer}/"):
                    return target
                request = self._browser.build_request("GET", target)
            else:
                request = self._answer(response, {"login": self.name, "answer": answer})
        raise AssertionError(f"no end of pages: {url}")

    def _device(self, url: str, choice: dict[str, str], answer: str) -> str:
        request = self._browser.build_request("GET", url)
        for _ in range(MOVES):
            response = self._send(request)
            if response.has_redirect_location:
                request = self._browser.build_request("GET", urljoin(str(response.url), response.headers["location"]))
            elif _Form(response.text).action is None or "deviceInputForm" in response.text:
                return response.text  # done, or aborted, which begins anew with an empty field
            elif "deviceConfirmForm" in response.text:
                request = self._answer(response, choice)
            else:
                request = self._answer(response, {"login": self.name, "answer": answer})
        raise AssertionError(f"no end of pages: {url}")

    def _send(self, request: httpx.Request) -> httpx.Response:
        response = self._browser.send(request)
        assert response.status_code < 400 or "deviceInputForm" in response.text, response.text
        return response

    def _answer(self, response: httpx.Response, values: dict[str, str]) -> httpx.Request:
        form = _Form(response.text)
        assert form.action is not None, response.text
        # A browser sends what the form has; buttons are fields of those who press them.
        filled = {name: values.get(name, value) for name, value in form.fields.items()}
        pressed = {name: values[name] for name in ("answer", "abort") if name in values and name in form.buttons}
        action = urljoin(str(response.url), form.action)
        return self._browser.build_request("POST", action, data=filled | pressed)


class _Form(HTMLParser):
    """The form of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.buttons: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self.action = found["action"]
        elif tag == "input" and found.get("name"):
            self.fields[found["name"] or ""] = found.get("value") or ""
        elif tag == "button" and found.get("name"):
            self.buttons.add(found["name"] or "")
