"""A hundred thousand fingerprints in one process: what each costs to keep, and what it takes to find its token.

    python benchmarks/fingerprints.py [--json] [--quick] [--count 100000]

Rules.

1. The floor is a dict of header strings. Bytes are resident ones, of a process of its own for each contender, over what
   it had before; what all of its clients share (a transport, a store) is there before, a first fingerprint too.
2. A lookup goes from the key to a request that has its credential. It is measured in laps, in turn with the floor's in
   the same process, of as many keys, at random among all of them, which no processor's cache holds.
3. Everybody is set up as its manual shows for many tenants. Who has a client or an auth for each has them in a dict;
   tokens come from an endpoint in memory, or as a program hands over those that it has.
4. Who would take minutes is measured with fewer, and the table says with how many.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from _fresh import ISSUER, TOKEN_URL, URL
from _report import Bar, Report, span

if TYPE_CHECKING:
    from collections.abc import Callable

    Kept = Callable[[str, Any], None]  # puts the credential of a key on a request
    Setup = Callable[[int], tuple[Callable[[str], None], Kept]]  # what adds a key, and that

TOKEN = "a" * 40
LAPS, LOOKUPS, QUICK = 11, 1000, 2000
FEW = 100
BAR_LOOKUP, BAR_BYTES = 1.5, 3000
FLOOR, US = "floor: dict of header strings", "tokenflow, AuthCache and MemoryStore"
LIMIT = 240  # seconds for one contender

NOTES = """\
bytes: resident ones for each fingerprint, the token among them, the key not: the program has it. lookup: from the key
to a request with its credential, over the floor's lookup among as many; of the floor: {floor_us:.1f} microseconds.
{count:,} ÷ {few}: a lookup among all over one among {few}, of the same few keys: whether anything is searched.
to add: one more fingerprint, its token from an endpoint in memory (httpx-auth, google-auth, authlib: from the program);
msal looks through all that it has before it asks for another, so its cache is filled directly, and this is of the last.
{fewer}
"""


def _unused(request: Any) -> httpx.Response:
    raise AssertionError("every token is fresh")


def _flow_of(auths: Any) -> Kept:
    def put(key: str, request: Any) -> None:
        next(auths[key].sync_auth_flow(request))

    return put


def floor(count: int) -> tuple[Any, Kept]:
    kept: dict[str, str] = {}

    def add(key: str) -> None:
        kept[key] = f"Bearer {TOKEN}{key}"

    def put(key: str, request: Any) -> None:
        request.headers["Authorization"] = kept[key]

    return add, put


def tokenflow(count: int) -> tuple[Any, Kept]:
    from httpx_tokenflow import AuthCache, ClientCredentials, TokenAuth
    from httpx_tokenflow.stores import MemoryStore

    def issue(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"access_token": f"{TOKEN}{issue.key}", "expires_in": 3600})

    client, store = httpx.Client(transport=httpx.MockTransport(issue)), MemoryStore(limit=count + 10)
    auths: AuthCache[str] = AuthCache(
        lambda key: TokenAuth(
            ClientCredentials(TOKEN_URL, client_id=key, client_secret=f"secret of {key}"), store=store, client=client
        ),
        limit=count + 10,
    )

    def add(key: str) -> None:
        issue.key = key
        auths[key].token()

    return add, _flow_of(auths)


def singleflight(count: int) -> tuple[Any, Kept]:
    from singleflight_auth import SingleFlightAuth

    tokens: dict[str, str] = {}
    auths: dict[str, Any] = {}

    def add(key: str) -> None:
        tokens[key] = f"{TOKEN}{key}"
        auths[key] = SingleFlightAuth(get_token=lambda: tokens[key], refresh=lambda: tokens[key])

    return add, _flow_of(auths)


def httpx_auth(count: int) -> tuple[Any, Kept]:
    from httpx_auth import OAuth2, OAuth2ClientCredentials

    client = httpx.Client(transport=httpx.MockTransport(_unused))
    auths: dict[str, Any] = {}

    def add(key: str) -> None:
        auth = OAuth2ClientCredentials(TOKEN_URL, client_id=key, client_secret=f"secret of {key}", client=client)
        OAuth2.token_cache._add_access_token(auth.state, f"{TOKEN}{key}", 3600)
        auths[key] = auth

    return add, _flow_of(auths)


def authlib(count: int, **how: Any) -> tuple[Any, Kept]:
    from authlib.integrations.httpx_client import OAuth2Client

    clients: dict[str, Any] = {}

    def add(key: str) -> None:
        token = {"access_token": f"{TOKEN}{key}", "token_type": "Bearer", "expires_at": int(time.time()) + 3600}
        grant = {"token_endpoint": TOKEN_URL, "grant_type": "client_credentials"}
        clients[key] = OAuth2Client(key, f"secret of {key}", token=token, **grant, **how)

    def put(key: str, request: Any) -> None:
        client = clients[key]
        client.ensure_active_token(client.token)
        next(client.token_auth.auth_flow(request))

    return add, put


def authlib_shared(count: int) -> tuple[Any, Kept]:
    from importlib import import_module

    from _fresh import authlib_host

    library = import_module(authlib_host())
    return authlib(count, transport=library.MockTransport(_unused), trust_env=False)


def google_auth(count: int) -> tuple[Any, Kept]:
    from google.oauth2.credentials import Credentials

    credentials: dict[str, Any] = {}
    expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)

    def add(key: str) -> None:
        how = {"token_uri": TOKEN_URL, "client_id": key, "client_secret": f"secret of {key}"}
        credentials[key] = Credentials(f"{TOKEN}{key}", refresh_token=f"rt{key}", expiry=expiry, **how)

    def put(key: str, request: Any) -> None:
        credentials[key].before_request(None, "GET", URL, request.headers)

    return add, put


def msal(count: int) -> tuple[Any, Kept]:
    """One application with many scopes, whose tokens are in one TokenCache."""
    import msal
    from _fresh import session_of

    known = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": TOKEN_URL}
    issued = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}

    def answered(request: Any) -> tuple[int, bytes]:
        return 200, json.dumps(issued if request.method == "POST" else known).encode()

    cache = msal.TokenCache()
    application = msal.ConfidentialClientApplication(
        "client", "secret", oidc_authority=ISSUER, token_cache=cache, http_client=session_of(answered)
    )

    def add(key: str) -> None:
        if key == "last":
            application.acquire_token_for_client([key])
            return
        answer = {**issued, "access_token": f"{TOKEN}{key}"}
        asked = {"client_id": "client", "scope": [key], "token_endpoint": TOKEN_URL, "grant_type": "client_credentials"}
        cache.add({**asked, "environment": application.authority.instance, "response": answer})

    def put(key: str, request: Any) -> None:
        answer = application.acquire_token_for_client([key])
        request.headers["Authorization"] = f"Bearer {answer['access_token']}"

    return add, put


@dataclass(frozen=True, slots=True)
class Contender:
    """Who keeps tokens, and how many at most (rule 4)."""

    set_up: Setup
    most: int = 100_000


CONTENDERS = {
    FLOOR: Contender(floor),
    US: Contender(tokenflow),
    "singleflight-auth, an auth each": Contender(singleflight),
    "httpx-auth, an auth each": Contender(httpx_auth),
    "google-auth, credentials each": Contender(google_auth),
    "msal, a scope each": Contender(msal),
    "authlib, a client each": Contender(authlib, 50),
    "authlib, a client each, one transport": Contender(authlib_shared, 10_000),
}


# In a process of its own


def child(name: str, count: int) -> dict[str, float]:
    add, put = CONTENDERS[name].set_up(count)
    few_add, few_put = CONTENDERS[name].set_up(FEW)
    floor_add, floor_put = floor(count)
    keys = [f"tenant-{number}" for number in range(count)]
    some = keys[:FEW]
    add("first")
    put("first", _request())
    gc.collect()
    resident, began = _resident(), time.perf_counter()
    for key in keys:
        add(key)
    took = (time.perf_counter() - began) / count
    gc.collect()
    resident = _resident() - resident
    began = time.perf_counter()
    add("last")
    last = time.perf_counter() - began
    gc.freeze()
    if name != "httpx-auth, an auth each":  # of which there is one cache for the process
        for key in some:
            few_add(key)
    else:
        few_put = put
    for key in keys:
        floor_add(key)
        put(key, _request())  # each has been in use
    laps = [(_lap(put, keys), _lap(floor_put, keys), _lap(put, some), _lap(few_put, some)) for _ in range(LAPS)][1:]
    return {
        "bytes": resident / count,
        "add": last if name.startswith("msal") else took,
        "lookup": statistics.median(ours / other for ours, other, _, _ in laps),
        "searched": statistics.median(many / few for _, _, many, few in laps),
        "seconds": statistics.median(ours for ours, _, _, _ in laps),
        "count": count,
    }


def _request() -> httpx.Request:
    return httpx.Request("GET", URL)


def _lap(put: Kept, keys: list[str]) -> float:
    asked, request = random.choices(keys, k=LOOKUPS), _request()
    began = time.perf_counter()
    for key in asked:
        put(key, request)
        del request.headers["Authorization"]
    return (time.perf_counter() - began) / LOOKUPS


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# The table


def measure(name: str, count: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, "--count", str(min(count, CONTENDERS[name].most))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"what": name, "error": f"no end in {LIMIT} s"}
    if done.returncode:
        return {"what": name, "error": (done.stderr.strip().splitlines() or ["it failed"])[-1][:80]}
    return {"what": name, **json.loads(done.stdout)}


def report(rows: list[dict[str, Any]], count: int) -> Report:
    by_name = {row["what"]: row for row in rows if "error" not in row}
    floor_bytes, fewer = by_name[FLOOR]["bytes"], [row for row in by_name.values() if row["count"] < count]
    said = "".join(f"{row['what']}: measured with {row['count']:,}. " for row in fewer)
    notes = NOTES.format(count=count, few=FEW, floor_us=by_name[FLOOR]["seconds"] * 1e6, fewer=said)
    columns = ("what", "bytes ÷ floor", "lookup ÷ floor", f"{count:,} ÷ {FEW}", "bytes", "µs to add", "of")
    return Report(
        title=f"{count:,} fingerprints in one process",
        columns=columns,
        rows=[_cells(row, floor_bytes) for row in rows],
        notes=notes.strip().splitlines(),
        data={"rows": rows, "count": count},
        bars=_bars(by_name, count) if US in by_name else [],
    )


def _cells(row: dict[str, Any], floor_bytes: float) -> tuple[str, ...]:
    if "error" in row:
        return (row["what"], "-", "-", "-", "-", "-", row["error"])
    ratios = f"{row['bytes'] / floor_bytes:,.1f}", f"{row['lookup']:.2f}", f"{row['searched']:.2f}"
    return (row["what"], *ratios, f"{row['bytes']:,.0f}", f"{row['add'] * 1e6:,.1f}", f"{row['count']:,}")


def _bars(by_name: dict[str, dict[str, Any]], count: int) -> list[Bar]:
    ours, peers = by_name[US], [row for name, row in by_name.items() if name not in {US, FLOOR}]
    found = [row["searched"] for row in peers if row["count"] > FEW]
    return [
        Bar(
            f"lookup among {count:,} fingerprints ÷ among {FEW}, of the same keys",
            f"≤ {BAR_LOOKUP:g}",
            f"{ours['searched']:.2f}",
            ours["searched"] <= BAR_LOOKUP,
            peers=span(found),
        ),
        Bar(
            f"resident bytes for each of {count:,} fingerprints",
            f"≤ {BAR_BYTES:,}",
            f"{ours['bytes']:,.0f}",
            ours["bytes"] <= BAR_BYTES,
            peers=span([row["bytes"] for row in peers], "{:,.0f}"),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="A hundred thousand fingerprints in one process.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} fingerprints")
    parser.add_argument("--count", type=int, default=100_000, help="fingerprints (default: %(default)s)")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args.count)))
        return
    count = QUICK if args.quick else args.count
    with ThreadPoolExecutor(2) as pool:  # a number is a ratio within a process, or bytes
        rows = list(pool.map(measure, CONTENDERS, [count] * len(CONTENDERS)))
    raise SystemExit(report(rows, count).show(as_json=args.json))


if __name__ == "__main__":
    main()
