"""What the doctor has found, told: for people on a terminal, or as JSON.

Rules.

1. The first line is the verdict: how certain, and the cause in one sentence.
2. Every text that comes from outside goes through the sieve, before anything is cut off it, and loses what a terminal
   would obey: the words of a server, of a token and of a URL are data, and none of them is markup. What is ours is
   not sifted: names, ids, the words for how certain it is. A server must not choose what is read.
3. Of a URL the values of its query are not told, of a request no header field, of an answer no cookie.
4. The exit status is 0 where all is well, 1 where a cause was found, or the request was refused for none that the
   doctor knows; 2 where nothing could be seen.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from httpx_tokenflow.doctor._front import credentials_of, is_answered, is_refused, without_secrets

from ._plainly import lasting
from ._token_words import lines_of, printable, seems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rich.console import Console
    from rich.table import Table

    from httpx_tokenflow.doctor import Diagnosis, Exchange, Facts, Finding, Probe, Reading
    from httpx_tokenflow.doctor._front import Sieve

    from ._fetching import Fetched

__all__ = ["Report", "console", "plan_as_data", "print_plan", "section", "sifted", "table_of"]

_WIDTH = 100  # columns at most; 80 where there is no terminal
_SOON = 600.0  # seconds: a token that ends sooner is remarked on
_OTHERS = 5  # findings beside the first that are shown
_WORDS = 300  # characters of a challenge
_FIELD = 16 * 1024  # characters of a field that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A diagnosis, and what a person should know beside it.

    Args:
        diagnosis: the causes, and the facts that they rest on.
        url: of the request, as it was asked for.
        remarks: what is to be said beside it.
        reasons: what each probe was for, by its role.
        sieve: for all that is told.
        fetched: how a token was got first, if it was.
    """

    diagnosis: Diagnosis
    url: str
    remarks: tuple[str, ...] = ()
    reasons: Mapping[str, str]
    sieve: Sieve
    fetched: Fetched | None = None

    @property
    def status(self) -> int:
        """The exit status (rule 4)."""
        facts = self.diagnosis.facts
        if self.diagnosis.findings:
            return 1
        if facts.refusal is not None:
            return 1 if 400 <= (facts.refusal.status or 0) < 500 and facts.refusal.status != 429 else 2
        return 2 if not is_answered(facts) else int(is_refused(facts))

    @property
    def verdict(self) -> str:
        """The first line (rule 1)."""
        facts, first = self.diagnosis.facts, self.diagnosis.first
        if first is not None:
            return self._clean(f"{first.certainty.name.capitalize()}: {first.summary}")
        unknown = "No cause found that the doctor knows" if self.status == 1 else "Could not look"
        if facts.refusal is not None:
            return self._clean(f"{unknown}: {facts.refusal.text}")
        last = facts.last
        if last is None or not facts.status:
            return self._clean(f"{unknown}: no answer ({(last and last.failure) or 'nothing was sent'})")
        asked = f"{last.method} {self._url(last.url)}"
        if not is_answered(facts):
            told = f"{unknown}: {asked} was answered {facts.status}, which says nothing about a credential"
        elif is_refused(facts):
            told = f"{unknown}: {asked} was refused ({facts.status})"
        elif last.is_accepted:
            told = f"Healthy: {asked} was accepted ({facts.status})"
        else:
            told = f"Not refused: {asked} was answered {facts.status}, which says nothing against the credential"
        return self._clean(told)

    @property
    def all_remarks(self) -> list[str]:
        """What is to be said beside the verdict."""
        facts, found = self.diagnosis.facts, list(self.remarks)
        end = facts.token.seconds("exp") if facts.token is not None else None
        if end is not None and 0 < end - facts.now < _SOON and not self.diagnosis.findings:
            found.append(f"the token ends in {lasting(end - facts.now)}")
        bare = facts.probe("bare")
        if self.diagnosis.is_healthy and bare is not None and bare.is_accepted:
            found.append("without the credential it is accepted as well: this URL says nothing about it")
        if self.status == 1 and not self.diagnosis.findings:
            told = [(where.removeprefix("the "), self.sieve.sift(text)) for where, text in _words_of(facts)]
            found += [f"it says in {where}: {text}" for where, text in told]
            found.append("every cause that the doctor knows was looked for; what was tried is below")
        return [self._clean(one) for one in found]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        facts = self.diagnosis.facts
        return {
            **self.diagnosis.to_dict(),  # sifted when it was made
            "verdict": self.verdict,
            "healthy": self.diagnosis.is_healthy,
            "url": self._url(self.url),
            "status": facts.status or None,
            "remarks": self.all_remarks,
            "token": None if facts.token is None else _token_as_data(facts.token, self.sieve),
            "fetched": None if self.fetched is None else sifted(self.fetched.to_dict(), self.sieve.sift),
            "exchanges": [self._exchange(one) for one in facts.exchanges],
        }

    def _exchange(self, exchange: Exchange) -> dict[str, Any]:
        leads = exchange.location
        return {
            "role": exchange.role,
            "why": self.reasons.get(exchange.role, exchange.role),
            "began": round(exchange.began, 4),
            "seconds": round(exchange.seconds, 4),
            "method": exchange.method,
            "url": self._url(exchange.url),
            "credential": _has_credential(exchange),
            "status": exchange.status or None,
            "http_version": exchange.http_version or None,
            "challenges": [
                self.sieve.sift(one[:_FIELD])[:_WORDS] for one in exchange.received.get_list("WWW-Authenticate")
            ],
            "location": None if leads is None else self._url(leads),
            "failure": None if exchange.failure is None else self.sieve.sift_ours(exchange.failure),
        }

    def _url(self, url: str) -> str:
        return self.sieve.sift_ours(without_secrets(url))

    def print(self, to: Console) -> None:
        """Tell a person."""
        from rich.text import Text

        colour = {0: "green", 1: "red", 2: "yellow"}[self.status]
        # Whoever pipes it takes the first line: it is one there, however long.
        to.print(Text(self.verdict, style=f"bold {colour}"), soft_wrap=not to.is_terminal)
        if self.diagnosis.first is not None:
            to.print(table_of(self._rows(self.diagnosis.first)))
        for remark in self.all_remarks:
            to.print(table_of([("note", remark)]))
        others = self.diagnosis.findings[1:]
        if others:
            section(to, "Also found")
            to.print(table_of(self._short(others)))
        self._print_token(to)
        if self.diagnosis.facts.exchanges or self.fetched is not None:
            section(to, "What was sent")
            to.print(table_of(self._timeline()))

    def _rows(self, finding: Finding) -> Iterator[tuple[str, str]]:
        """The evidence, and what to do."""
        for label, texts in (("because", finding.evidence), ("against", finding.against)):
            for at, text in enumerate(texts):
                yield (label if at == 0 else ""), self._clean(text)
        yield "do", printable(finding.remedy, 2000)  # sifted, where it is not ours alone
        yield "see", finding.reference

    def _short(self, findings: tuple[Finding, ...]) -> Iterator[tuple[str, str]]:
        for one in findings[:_OTHERS]:
            yield one.certainty.name.lower(), self._clean(one.summary)
            yield "", printable(one.remedy, 2000)
        if len(findings) > _OTHERS:
            yield "", f"and {len(findings) - _OTHERS} more: see --json"

    def _print_token(self, to: Console) -> None:
        facts = self.diagnosis.facts
        if facts.token is None:
            return
        credential = facts.credential
        section(to, "The token")
        kind = seems(facts.token, credential.value if credential is not None else "")
        rows = [("is", kind), ("hash", facts.token.shown)]
        rows += [(one.name, one.value) for one in lines_of(facts.token, facts.now)]
        to.print(table_of([(self._clean(name), self._clean(value)) for name, value in rows]))

    def _timeline(self) -> Iterator[tuple[str, str]]:
        if self.fetched is not None:
            outcome = "a token" if self.fetched.refusal is None else "no token"
            yield "first", self._clean(f"{outcome} from {self.fetched.source}, in {_ms(self.fetched.seconds)}")
        for exchange in self.diagnosis.facts.exchanges:
            told = self._exchange(exchange)
            yield f"+{_ms(exchange.began)}", self._clean(f"{told['method']} {told['url']}")
            outcome = f"{told['status']}" if exchange.status else f"no answer ({told['failure']})"
            credential = "with" if told["credential"] else "without"
            yield "", self._clean(f"{credential} the credential: {outcome} in {_ms(exchange.seconds)}; {told['why']}")
            for challenge in told["challenges"]:
                yield "", self._clean(f"WWW-Authenticate: {challenge}")
            if told["location"]:
                yield "", self._clean(f"leads to {told['location']}")

    def _clean(self, text: str) -> str:
        return printable(self.sieve.sift_ours(text), 2000)


def _words_of(facts: Facts) -> list[tuple[str, str]]:
    return facts.last.words[:3] if facts.last is not None else []


def _token_as_data(token: Reading, sieve: Sieve) -> dict[str, Any]:
    problems = {"problems": [sieve.sift_ours(one) for one in token.problems]} if token.problems else {}
    header, claims = sifted(token.header, sieve.sift), sifted(token.claims, sieve.sift)
    return {"kind": token.kind, "shown": token.shown, "header": header, "claims": claims, **problems}


def _has_credential(exchange: Exchange) -> bool:
    return exchange.role == "introspection" or bool(credentials_of(exchange.url, exchange.sent.pairs))


def sifted(value: Any, sift: Callable[[str], str]) -> Any:
    """JSON whose strings have gone through a sieve; names of members have not."""
    if isinstance(value, str):
        return sift(value)
    if isinstance(value, dict):
        return {str(name): sifted(one, sift) for name, one in value.items()}
    return [sifted(one, sift) for one in value] if isinstance(value, list | tuple) else value


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def plan_as_data(probes: Iterable[Probe], first: str | None = None) -> dict[str, Any]:
    """The probes that may be sent, as JSON has them."""
    shown = [
        {
            "role": probe.role,
            "why": probe.why,
            "when": probe.condition,
            "method": probe.method,
            "url": without_secrets(probe.url) if probe.url else None,
            "credential": probe.has_credential or probe.role == "mended",
        }
        for probe in probes
    ]
    return {"first": first, "probes": shown}


def print_plan(plan: Mapping[str, Any], most: int, to: Console) -> None:
    """Tell a person what may be sent."""
    count = f"{most} requests at most" if plan["probes"] else "no request"
    to.print(f"Nothing was sent. It would be {count}, in this order:", soft_wrap=not to.is_terminal)
    rows = [("first", plan["first"])] if plan["first"] else []
    for at, probe in enumerate(plan["probes"], 1):
        url = probe["url"] or "(where the answer before it says)"
        rows.append((f"{at}", printable(f"{probe['method']} {url}", 2000)))
        credential = "with" if probe["credential"] else "without"
        rows.append(("", f"{credential} the credential, {probe['when']}: {probe['why']}"))
    to.print(table_of(rows))


@contextmanager
def console() -> Iterator[Console]:
    """Where people read: a terminal, or 80 columns without colours, and without blanks at the end of a line."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    found = Console(highlight=False, markup=False, emoji=False)
    found.width = min(found.width, _WIDTH) if found.is_terminal else 80
    with found.capture() as captured:
        yield found
    text = captured.get()
    if not found.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    sys.stdout.write(text)


def section(to: Console, title: str) -> None:
    """A heading, with a line before it."""
    from rich.text import Text

    to.print()
    to.print(Text(title, style="bold"))


def table_of(rows: Iterable[tuple[str, ...]]) -> Table:
    """Rows of labels and texts, indented; what is too long for its line goes on under itself."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    for at, row in enumerate(rows):
        if at == 0:
            table.add_column(min_width=9, max_width=24, style="dim", overflow="fold")
            for _ in row[1:]:
                table.add_column(overflow="fold")
        table.add_row("", *map(Text, row))
    return table
