"""Whatever a tenant asks for of another's is not there: over every operation that the API describes."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from crossdock.bootstrap import Services
from crossdock.features.alerts.models import AlertKind
from crossdock.features.alerts.raising import Finding, raise_alert
from crossdock.settings import Settings
from tests.accounts import Account
from tests.connectors.webhooks.test_multipart_bodies import GIVEN as MULTIPART
from tests.connectors.webhooks.test_multipart_bodies import Part, multipart
from tests.serving import Answer, ApiClient, serving
from tests.waiting import eventually

# Operations under these are not a tenant's.
NOT_A_TENANTS = ("/api/v1/operator/", "/api/v1/integrations/providers/", "/webhooks/", "/health/", "/metrics")

# What a write must say to get as far as looking for the thing; others need no body.
BODIES: Mapping[tuple[str, str], Any] = {
    ("patch", "/api/v1/apikeys/{key_id}"): {"name": "mine"},
    ("patch", "/api/v1/roles/{role_id}"): {"name": "mine"},
    ("patch", "/api/v1/users/{user_id}"): {"name": "Mine"},
    ("post", "/api/v1/users/{user_id}/password"): {"password": "now it is mine"},
    ("patch", "/api/v1/event-types/{name}/versions/{version}"): {"description": "mine"},
    ("put", "/api/v1/webhooks/endpoints/{endpoint_id}"): {"name": "mine", "path": "mine"},
    ("patch", "/api/v1/webhooks/endpoints/{endpoint_id}"): {"name": "mine"},
    ("put", "/api/v1/integrations/{integration_id}"): {"name": "mine"},
    ("patch", "/api/v1/integrations/{integration_id}"): {"name": "mine"},
    ("put", "/api/v1/webhooks/subscriptions/{subscription_id}"): {
        "name": "mine",
        "url": "https://mine.example.com/",
        "event_types": ["*"],
    },
    ("patch", "/api/v1/webhooks/subscriptions/{subscription_id}"): {"name": "mine"},
    ("patch", "/api/v1/secret-stores/{store_id}"): {"name": "mine"},
    ("post", "/api/v1/secret-stores/{store_id}/check"): {},
    ("post", "/api/v1/webhooks/subscriptions/{subscription_id}/replay"): {"since": "2020-01-01T00:00:00Z"},
}
QUERIES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("delete", "/api/v1/apikeys/{key_id}"): {"reason": "mine"},
}

OPEN_TO_ALL = {("post", "/api/v1/sessions")}

# A name that every tenant may use for something of its own: writing it makes that.
MAKES_ONES_OWN = {("put", "/api/v1/settings/{category}/{key}")}


@dataclass(slots=True)
class Things:
    """One of everything, belonging to one tenant: by the name that paths have for it."""

    by_parameter: dict[str, str] = field(default_factory=dict)

    def fill(self, path: str) -> str:
        """The path with this tenant's things in it; fails for a parameter that nobody has made a thing for."""
        return re.sub(r"\{(\w+)\}", lambda match: self.by_parameter[match[1]], path)

    @property
    def marks(self) -> set[str]:
        """Texts that an answer to another tenant must not hold."""
        return {text for text in self.by_parameter.values() if len(text) > 8}


async def make_things(api: ApiClient, account: Account, receiver: str) -> Things:
    """One of everything."""
    key = await _made(api, "/api/v1/apikeys", {"name": "theirs", "scopes": ["event:read"]})
    role = await _made(api, "/api/v1/roles", {"name": "theirs", "permissions": ["event:read"]})
    user = await _made(api, "/api/v1/users", {"email": "their@s.example", "name": "Theirs", "roles": ["viewer"]})
    event_type = await _made(api, "/api/v1/event-types", {"name": "theirs.happened"})
    assert (await api.put("/api/v1/settings/their-category/their-key", json={"value": "their value"})).status == 200
    subscription = await _made(
        api, "/api/v1/webhooks/subscriptions", {"name": "theirs", "url": receiver, "event_types": ["theirs.*"]}
    )
    event = await api.post("/api/v1/events", json={"type": "theirs.happened", "data": {"secret": "their payload"}})
    assert event.status == 202, event.body
    deliveries = await api.get(f"/api/v1/events/{event.json['id']}/deliveries")
    endpoint = await _made(
        api, "/api/v1/webhooks/endpoints", {"name": "theirs", "path": "their-path", "preset": "none"}
    )
    store = await _made(
        api,
        "/api/v1/secret-stores",
        {
            "name": "their-store",
            "kind": "hashicorp_vault",
            "settings": {"url": "https://vault.example.com"},
            "credentials": {"token": "their-token"},
        },
    )
    integration = await _made(
        api,
        "/api/v1/integrations",
        {
            "provider": "generic_http",
            "name": "theirs",
            "environment": "test",
            "auth_method": "none",
            "config": {"base_url": receiver},
        },
    )
    assert (await api.get(f"/api/v1/gateway/{integration['id']}/theirs")).status == 200
    calls = await eventually(lambda: _items(api, f"/api/v1/api-logs/search?integration_id={integration['id']}"))
    received = await api.with_key(None).post(
        f"/webhooks/{account.slug}/their-path",
        body=multipart(Part("secret", b"their body"), Part("file", b"their file", "theirs.txt")),
        headers={"Content-Type": MULTIPART},
    )
    assert received.status < 300, received.body
    receipts = await api.get(f"/api/v1/webhooks/endpoints/{endpoint['id']}/receipts")
    alerts = await api.get("/api/v1/alerts")
    return Things(
        {
            "alert_id": alerts.json["items"][0]["id"],
            "integration_id": integration["id"],
            "integration": integration["id"],
            "path": "anything",
            "call_id": calls[0]["id"],
            "key_id": key["id"],
            "role_id": role["id"],
            "user_id": user["id"],
            "name": event_type["name"],
            "version": str(event_type["version"]),
            "category": "their-category",
            "key": "their-key",
            "subscription_id": subscription["id"],
            "event_id": event.json["id"],
            "delivery_id": deliveries.json["items"][0]["id"],
            "endpoint_id": endpoint["id"],
            "receipt_id": receipts.json["items"][0]["id"],
            "store_id": store["id"],
            "index": "0",
        }
    )


@pytest.fixture(autouse=True)
async def _alert(services: Services, other_tenant: Account) -> None:
    """Something to look at, which no request makes."""
    found = Finding(
        tenant_id=other_tenant.tenant_id,
        kind=AlertKind.CHECK_FAILING,
        entity_kind="integration",
        entity_id="their integration",
        title="theirs",
        detail="theirs",
    )
    async with services.database.tenant(other_tenant.tenant_id) as session:
        await raise_alert(session, found)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that the API describes."""

    method: str
    path: str

    @property
    def query(self) -> Mapping[str, str]:
        return QUERIES.get((self.method, self.path), {})

    async def ask(self, client: ApiClient, path: str) -> Answer:
        body = BODIES.get((self.method, self.path))
        return await client.request(self.method.upper(), path, json=body, params=self.query)


@pytest.fixture
async def operations(anonymous: ApiClient) -> list[Operation]:
    """Everything that a tenant may ask for."""
    described = (await anonymous.get("/api/v1/openapi.json")).json["paths"]
    found = [
        Operation(method, path)
        for path, item in described.items()
        if not path.startswith(NOT_A_TENANTS)
        for method in item
    ]
    assert len(found) > 50
    return found


async def test_another_tenants_things_are_not_there_whatever_is_done_to_them(
    api: ApiClient, other_api: ApiClient, other_tenant: Account, operations: list[Operation], receiver: str
) -> None:
    theirs = await make_things(other_api, other_tenant, receiver)
    found: list[str] = []
    for operation in operations:
        if "{" not in operation.path or (operation.method, operation.path) in MAKES_ONES_OWN:
            continue
        path = theirs.fill(operation.path)
        if operation.method == "get":
            seen = await operation.ask(other_api, path)
            assert seen.status == 200, f"{path} does not even show its owner anything: {seen.body!r}"
        answer = await operation.ask(api, path)
        if answer.status != 404 or (answer.body and not answer.json["code"].endswith("not_found")):
            found.append(f"{operation.method} {path}: {answer.body!r}")
    assert found == []
    # and all of it is as it was
    for operation in operations:
        if operation.method == "get" and "{" in operation.path:
            seen = await operation.ask(other_api, theirs.fill(operation.path))
            assert (seen.status, b"mine" in seen.body) == (200, False), operation


async def test_no_list_holds_another_tenants_things(
    api: ApiClient, other_api: ApiClient, other_tenant: Account, operations: list[Operation], receiver: str
) -> None:
    theirs = await make_things(other_api, other_tenant, receiver)
    lists = [one for one in operations if one.method == "get" and "{" not in one.path]
    shown_to_owner = b""
    for operation in lists:
        answer = await operation.ask(api, operation.path)
        assert [mark for mark in theirs.marks if mark.encode() in answer.body] == [], operation
        shown_to_owner += (await operation.ask(other_api, operation.path)).body
    listed = [mark for mark in theirs.marks if mark.encode() in shown_to_owner]
    assert len(listed) >= len(theirs.marks) - 2, "the lists show their owner too little for this test to mean anything"


async def test_nothing_is_answered_without_a_key(anonymous: ApiClient, operations: list[Operation]) -> None:
    for operation in operations:
        if (operation.method, operation.path) not in OPEN_TO_ALL:
            answer = await operation.ask(anonymous, re.sub(r"\{\w+\}", "x", operation.path))
            assert answer.status == 401, f"{operation}: {answer.body!r}"


async def _items(api: ApiClient, path: str) -> Any:
    return (await api.get(path)).json["items"]


async def _made(api: ApiClient, path: str, body: Any) -> Any:
    answer = await api.post(path, json=body)
    assert answer.status == 201, answer.body
    return answer.json


@pytest.fixture
def settings(database_url: str, tmp_path: Any) -> Settings:
    return Settings(database_url=database_url, data_dir=tmp_path / "installation", allow_loopback=True)


@pytest.fixture
async def receiver() -> AsyncIterator[str]:
    async def take(_request: Request) -> Response:
        return Response(status_code=200)

    async with serving(Router([Route("/{path:path}", take, methods=["GET", "POST"])])) as base_url:
        yield base_url + "/"
