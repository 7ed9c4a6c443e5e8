"""The peers in a table of one line each, for those who have to choose: what the same run of three scripts has counted.

Rules.

1. A number is the worst of the grants; an event loop is asyncio's. Who fails is told.
2. A dash is for what a peer cannot be asked, since it has no client for that.
3. The README has this very table; a test compares it with the page of results.
"""

from __future__ import annotations

from typing import Any

Rows = list[dict[str, Any]]

ASYNCIO = "asyncio"

SERVES = {
    "tokenflow": "httpx, httpx2",
    "singleflight-auth": "httpx, requests; not trio",
    "authlib": "httpx2, requests",
    "httpx-auth": "httpx; blocks event loops",
    "mcp": "httpx2, event loops",
    "azure-core, msal": "a client of its own",
    "google-auth": "requests, aiohttp",
    "requests-oauth2client": "requests",
}
COLUMNS = (
    "", "serves", "token requests: 1,000 tasks find it expired", "1,000 calls in threads do",
    "1,000 tasks, or threads, get a 401", "one of 100 tasks is cancelled, the refresh token rotates",
    "fail while the token endpoint is down, the token good",
)  # fmt: skip


def compared(reports: dict[str, dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and lines; no lines before all three scripts have said what they found."""
    if not {"storms", "cancellation", "outage"} <= reports.keys():
        return COLUMNS, []
    storms, cancelled, outage = (reports[name]["data"]["rows"] for name in ("storms", "cancellation", "outage"))
    tasks = min({row["tasks"] for row in storms}, key=lambda each: abs(each - 1000))
    storms = [row for row in storms if row["tasks"] == tasks]
    return COLUMNS, [
        (
            f"**{name}**" if name == "tokenflow" else name,
            serves,
            _storm(storms, name, "expired", (ASYNCIO,)),
            _storm(storms, name, "expired", ("threads",)),
            _storm(storms, name, "every 401", (ASYNCIO, "threads")),
            _cancelled(cancelled, name),
            _outage(outage, name),
        )
        for name, serves in SERVES.items()
    ]


def _storm(rows: Rows, name: str, case: str, runtimes: tuple[str, ...]) -> str:
    mine = [row for row in rows if row["contender"] == name and row["case"] == case]
    by_runtime = [[row for row in mine if runtime in row["runtime"]] for runtime in runtimes]
    found = next((some for some in by_runtime if some), [])
    if not found:
        return "-"
    failed, tasks = max(row["failed"] for row in found), found[0]["tasks"]
    made = [row["token_requests"] for row in found]
    if failed and set(made) == {0}:
        return f"{_share(failed, tasks)} fail"
    requests = "no end" if None in made else f"{max(made):,}"
    return f"{requests}; {_share(failed, tasks)} fail" if failed else requests


def _share(failed: int, of: int) -> str:
    return "all" if failed >= of else f"{failed:,}"


def _cancelled(rows: Rows, name: str) -> str:
    found = [row for row in rows if row["contender"] == name and "refresh" in row["grant"]]
    found = [row for row in found if row["cancelled"] == "the first" and row["runtime"] == ASYNCIO]
    if not found:
        return "-"
    (row,) = found
    if "stands still" in row["note"]:
        return "the loop stands still"
    if not row["failed"]:
        return "nobody fails"
    return f"{_share(row['failed'], row['others'])} fail{', session lost' if row['session'] == 'lost' else ''}"


def _outage(rows: Rows, name: str) -> str:
    found = [row for row in rows if row["contender"] == name and row["failed"] is not None]
    if not found:
        return "-"
    worst = max(found, key=lambda row: row["failed"])
    return f"{worst['failed']} of {worst['of']}"
