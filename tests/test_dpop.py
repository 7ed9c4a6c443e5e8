"""DPoP without a network: what a proof says, whose nonce it has, and which key it is made with (RFC 9449)."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import httpx2
import jwt
import pytest

from httpx_tokenflow import ClientCredentials, DPoP, Token, TokenAuth
from httpx_tokenflow._entries import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

API, ELSEWHERE, SERVER = "https://api.example", "https://elsewhere.example", "https://as.example/token"


class Seen(NamedTuple):
    """A request as it arrived: afterwards nothing of ours is on it."""

    url: str
    proof: dict[str, Any]
    has_token: bool


class World:
    """An API, somebody else, and an authorization server, in one transport."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.api_nonce = self.server_nonce = ""
        self.redirects: dict[str, str] = {}
        self.refuse = 0
        self.body = b"{}"

    def __call__(self, request: Any) -> Any:
        library = httpx2 if isinstance(request, httpx2.Request) else httpx
        url = str(request.url)
        proof = claims(request.headers["dpop"]) if "dpop" in request.headers else {}
        self.seen.append(Seen(url, proof, "authorization" in request.headers))
        nonce = self.server_nonce if url == SERVER else self.api_nonce if url.startswith(API) else ""
        headers = {"DPoP-Nonce": nonce} if nonce else {}
        if nonce and proof.get("nonce") != nonce and proof:
            if url == SERVER:
                return library.Response(400, headers=headers, json={"error": "use_dpop_nonce"})
            return library.Response(401, headers={**headers, "WWW-Authenticate": 'DPoP error="use_dpop_nonce"'})
        if url == SERVER:
            number = len(self.proofs(SERVER))
            answer = {"access_token": f"a{number}", "token_type": "DPoP", "expires_in": 600}
            return library.Response(200, headers=headers, json=answer)
        if request.url.path in self.redirects:
            return library.Response(307, headers={"Location": self.redirects[request.url.path]})
        if self.refuse and proof:
            self.refuse -= 1
            return library.Response(401, headers=headers)
        return library.Response(200, headers=headers, content=self.body)

    def proofs(self, url: str) -> list[dict[str, Any]]:
        return [one.proof for one in self.seen if one.url.startswith(url)]


def claims(proof: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(proof, options={"verify_signature": False})
    return found


def make(world: World, library: Any = httpx, **options: Any) -> Any:
    token_client = library.Client(transport=library.MockTransport(world))
    grant = ClientCredentials(SERVER, client_id="c", client_secret="s")
    auth = TokenAuth(grant, client=token_client, **{"dpop": DPoP(), **options})
    return library.Client(transport=library.MockTransport(world), auth=auth, follow_redirects=True)


def test_a_nonce_has_a_budget_of_its_own() -> None:
    """A nonce and a renewal in one request: both are made good, each send with a proof of its own."""
    world = World()
    world.api_nonce, world.refuse = "n1", 1
    assert make(world).get(f"{API}/x?q=1").status_code == 200
    proofs = world.proofs(API)
    assert [one.get("nonce") for one in proofs] == [None, "n1", "n1"]
    assert len({one["jti"] for one in proofs}) == 3
    assert {one["htu"] for one in proofs} == {f"{API}/x"}
    assert len(world.proofs(SERVER)) == 2


def test_nonces_of_servers_and_origins_are_kept_apart() -> None:
    """The API's, another origin's and the authorization server's own: nobody gets somebody else's."""
    dpop = DPoP()
    dpop.heed_api("https://one.example/x", "of-one")
    dpop.heed_api("https://two.example/x", "of-two")
    dpop.heed_server("https://one.example/token", "of-server")
    key = dpop.key_of(None)

    def nonce(proof: str) -> Any:
        return claims(proof).get("nonce")

    assert nonce(dpop.proof_for_api(key, "GET", "https://one.example/y", 1.0, "t")) == "of-one"
    assert nonce(dpop.proof_for_api(key, "GET", "https://two.example/y", 1.0, "t")) == "of-two"
    assert nonce(dpop.proof_for_api(key, "GET", "https://one.example:8443/y", 1.0, "t")) is None
    assert nonce(dpop.proof_for_server(key, "https://one.example/other", 1.0)) == "of-server"
    assert nonce(dpop.proof_for_server(key, "https://two.example/token", 1.0)) is None


def test_a_new_nonce_comes_along_with_any_answer() -> None:
    """The newest counts, also from a 200: the next request needs no second send."""
    world = World()
    client = make(world)
    world.api_nonce = "n1"
    client.get(f"{API}/x")
    sends = len(world.proofs(API))
    client.get(f"{API}/x")
    assert len(world.proofs(API)) == sends + 1


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_nonces_that_come_at_once_are_all_kept() -> None:
    """Many servers, many threads: no nonce is lost, which would cost a request its budget."""
    dpop = DPoP()
    urls = [f"https://h{i}.example/" for i in range(64)]
    together = threading.Barrier(8)

    def work(mine: list[str]) -> None:
        together.wait()
        for number in range(50):
            for url in mine:
                dpop.heed_api(url, f"{url}{number}")

    threads = [threading.Thread(target=work, args=(urls[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(dpop._nonces.values()) == {f"{url}49" for url in urls}


def test_nonces_are_not_kept_for_ever() -> None:
    """The oldest servers are forgotten."""
    dpop = DPoP()
    for i in range(1100):
        dpop.heed_api(f"https://h{i}.example/", "n")
    assert len(dpop._nonces) == 1024
    assert ("api", "https://h1099.example") in dpop._nonces


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_redirect_within_the_origin_gets_a_proof_for_the_new_place(library: Any) -> None:
    """The credential is made anew for where the redirect leads."""
    world = World()
    world.redirects = {"/old": "/new"}
    assert make(world, library).get(f"{API}/old").status_code == 200
    assert world.proofs(API)[-1]["htu"] == f"{API}/new"
    assert all(one.proof["htu"] == one.url for one in world.seen if one.proof)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_redirect_elsewhere_gets_neither_token_nor_proof(library: Any) -> None:
    """Nothing of ours crosses an origin."""
    world = World()
    world.redirects = {"/old": f"{ELSEWHERE}/new"}
    assert make(world, library).get(f"{API}/old").status_code == 200
    (there,) = [one for one in world.seen if one.url.startswith(ELSEWHERE)]
    assert (there.proof, there.has_token) == ({}, False)


def test_a_predicate_of_the_program_renews_with_a_new_proof() -> None:
    """`should_renew` and DPoP: another token, and a proof with its hash."""
    world = World()
    world.body = b"expired"

    def should_renew(response: Any) -> bool:
        response.read()
        is_expired = response.content == b"expired"
        world.body = b"fine"
        return is_expired

    assert make(world, should_renew=should_renew).get(f"{API}/x").content == b"fine"
    proofs = world.proofs(API)
    assert len({one["ath"] for one in proofs}) == len({one["jti"] for one in proofs}) == 2


def test_each_token_is_proven_with_its_own_key() -> None:
    """Entries with different keys, in any order: each gets the key that it is bound to."""
    one, two = DPoP(), DPoP()
    kept = [dpop.kept(dpop.key_of(None)) for dpop in (one, two)]
    reader = DPoP()
    for _ in range(2):
        for dpop, json in zip((one, two), kept, strict=True):
            entry = Entry(Token("a"), 0.0, 600.0, key=json)
            assert reader.key_of(entry).thumbprint == dpop.thumbprint
    assert reader.key_of(Entry(Token("a"), 0.0, 600.0)).thumbprint == reader.thumbprint


def test_a_key_that_the_program_gave_is_not_kept_with_the_token() -> None:
    """It is the program's to keep; and it counts whatever key a token in the store came with."""
    made = DPoP()
    given = DPoP(_pem())
    assert given.kept(given.key_of(None)) is None
    entry = Entry(Token("a"), 0.0, 600.0, key=made.kept(made.key_of(None)))
    assert given.key_of(entry).thumbprint == given.thumbprint


def _pem() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
