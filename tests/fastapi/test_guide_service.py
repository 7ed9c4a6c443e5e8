"""The guide's service, as it stands there, against the sandbox."""

from __future__ import annotations

import re

import httpx
import prometheus_client
import pytest
from documents import TEXTS, example
from starlette.testclient import TestClient

from httpx_tokenflow import ClientCredentials
from httpx_tokenflow.instrumentation._measures import table
from httpx_tokenflow.testing import Sandbox, serve

AUDIENCE = "https://orders.example.com"


@pytest.fixture
def sandbox():
    sandbox = Sandbox(clients={"orders": "s"})
    with serve(sandbox):
        yield sandbox


def test_a_service(sandbox):
    """The guard lets in who has the scope; behind it the service asks for them, and errors are problem documents."""
    text = example("OnBehalfOf(").replace("https://auth.example.com", sandbox.url).replace("/invoices", "/api/x")
    found = {"SECRET": "s"}
    exec(text.replace("https://billing.example.com", sandbox.url), found)
    token = sandbox.mint("ann", audience=AUDIENCE, scope="invoices:read")
    with TestClient(found["app"]) as client:
        assert client.get("/ready").status_code == 200
        got = client.get("/api/x", headers={"Authorization": f"Bearer {token}"})
        assert (got.status_code, got.json()["subject"], got.json()["client_id"]) == (200, "ann", "orders")
        nobody = client.get("/api/x")
        assert (nobody.status_code, nobody.headers["content-type"]) == (401, "application/problem+json")
        assert "error=" not in nobody.headers["www-authenticate"]
        other = sandbox.mint("ann", audience=AUDIENCE, scope="invoices:write")
        lacking = client.get("/api/x", headers={"Authorization": f"Bearer {other}"})
        assert (lacking.status_code, 'scope="invoices:read"' in lacking.headers["www-authenticate"]) == (403, True)
        document = client.get("/openapi.json").json()
        assert document["paths"]["/api/x"]["get"]["security"] == [{"bearer": ["invoices:read"]}]


def test_metrics(sandbox):
    """The example counts requests, in the registry that everybody uses."""
    grant = ClientCredentials(f"{sandbox.url}/token", client_id="orders", client_secret="s")
    found = {"grant": grant}
    exec(example("PrometheusMetrics()"), found)
    with httpx.Client(base_url=sandbox.url, auth=found["auth"]) as client:
        assert client.get("/api/x").status_code == 200
    said = prometheus_client.generate_latest().decode()
    assert re.search(r'tokenflow_requests_total\{[^}]*tokenflow_outcome="accepted"[^}]*\} 1.0', said)


def test_the_table_of_measures():
    """guide/metrics.md has the generated table; its comment there says how to make it anew."""
    assert table() in TEXTS["metrics.md"]
