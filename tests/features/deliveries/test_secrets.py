"""Secrets of subscriptions while deliveries go out, fail and are replayed: nowhere in clear."""

import json
import logging
from collections.abc import Iterator

import pytest

from crossdock.bootstrap import Services
from crossdock.connectors.webhooks.standard import new_symmetric_secret
from crossdock.db.urls import libpq_url
from crossdock.observability.logging import configure_logging
from tests.accounts import Account
from tests.hub import Hub
from tests.receivers import Receiver, Reply, receiving
from tests.serving import ApiClient
from tests.waiting import eventually

import asyncpg  # isort: skip

BASIC, KEY, HMAC, CLIENT, TOKEN = "pw-5501-basic", "pw-5502-key", "pw-5503-hmac", "pw-5504-client", "pw-5505-token"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line that is logged, in detail."""
    configure_logging(level="debug", log_format="json")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    configure_logging(level="info", log_format="json")


@pytest.mark.usefixtures("worker")
async def test_secrets_that_are_used_are_shown_stored_and_logged_nowhere(
    api: ApiClient, services: Services, tenant: Account, receiver: Receiver, logged: list[str]
) -> None:
    hub = Hub(services, tenant.tenant_id)
    secret, rotated = new_symmetric_secret(), new_symmetric_secret()
    async with receiving() as tokens:
        # A token endpoint that repeats what it was sent, as badly made ones do.
        refusal = Reply(400, json.dumps({"error": "invalid_client", "error_description": f"{CLIENT}?"}).encode())
        granted = Reply(200, json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 60}).encode())
        tokens.answers(refusal, granted)
        kinds = [
            {"kind": "basic", "username": "me", "password": BASIC},
            {"kind": "api_key", "header": "X-Key", "value": KEY},
            {"kind": "hmac", "secret": HMAC},
            {"kind": "oauth2", "token_url": tokens.url, "client_id": "us", "client_secret": CLIENT},
        ]
        ids = []
        for auth in kinds:
            wanted = {"name": "s", "url": receiver.url, "event_types": ["order.*"], "auth": auth, "secret": secret}
            wanted["retry_policy"] = {"retries": 2, "intervals_s": [0.05]}
            made = await api.post("/api/v1/webhooks/subscriptions", json=wanted)
            assert made.status == 201, made.body
            ids.append(made.json["id"])
            await api.post(f"/api/v1/webhooks/subscriptions/{ids[-1]}/enable")
        await api.post(f"/api/v1/webhooks/subscriptions/{ids[0]}/rotate-secret", json={"secret": rotated})
        receiver.answers(Reply(500), Reply(401), Reply(302, b"", {"Location": "https://elsewhere.example/"}))
        await api.post("/api/v1/events", json={"type": "order.created", "data": 1})

        async def all_over() -> bool:
            rows = await hub.query("SELECT status FROM deliveries WHERE kind = 'event'")
            return len(rows) == 4 and all(row["status"] != "pending" for row in rows)

        await eventually(all_over)
    assert any(request.headers.get("authorization") == f"Bearer {TOKEN}" for request in receiver.requests)

    secrets = {BASIC, KEY, HMAC, CLIENT, TOKEN, secret, rotated}
    answers = [(await api.get("/api/v1/webhooks/deliveries")).body, (await api.get("/api/v1/audit-log")).body]
    listed = [item["id"] for item in json.loads(answers[0])["items"]]
    answers += [(await api.get(f"/api/v1/webhooks/deliveries/{one}")).body for one in listed]
    for one in ids:
        answers += [(await api.get(f"/api/v1/webhooks/subscriptions/{one}{part}")).body for part in ("", "/stats")]
    places = {"an answer": b"\n".join(answers), "a log": "\n".join(logged).encode(), **await dump(hub)}
    for place, text in places.items():
        for one in secrets:
            assert one.encode() not in text, (place, one)
            assert one.removeprefix("whsec_").encode() not in text, (place, one)


async def dump(hub: Hub) -> dict[str, bytes]:
    """Every row of every table, as its bytes stand there, by table."""
    connection = await asyncpg.connect(libpq_url(hub.services.database.dsn))
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        dumped = {}
        for table in tables:
            rows = await connection.fetch(f"SELECT * FROM {table['tablename']}")
            values = [value for row in rows for value in row.values()]
            dumped[table["tablename"]] = b"\n".join(
                value if isinstance(value, bytes) else str(value).encode() for value in values
            )
        return dumped
    finally:
        await connection.close()
