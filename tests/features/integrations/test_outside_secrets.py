"""Integrations whose credentials lie in an outside store: a real OpenBao."""

from typing import Any
from uuid import uuid4

import pytest

from crossdock.bootstrap import Services
from crossdock.kit.clock import Clock
from tests import stand_in
from tests.accounts import Account
from tests.features.deliveries.test_secrets import dump
from tests.features.integrations.conftest import Desk
from tests.hub import Hub, MovableClock
from tests.openbao import ROOT_TOKEN, OpenBao
from tests.stand_in import API_KEY


class AheadClock(MovableClock):
    """Moved forward by hand in both readings."""

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s


@pytest.fixture
def clock() -> Clock:
    return AheadClock()


@pytest.fixture
async def reference(desk: Desk, openbao: OpenBao) -> dict[str, str]:
    """Where the provider's key lies, in a store that the tenant has registered."""
    path = f"providers/{uuid4().hex}"
    openbao.put(path, key=API_KEY)
    store = {
        "name": "vault",
        "kind": "hashicorp_vault",
        "settings": {"url": openbao.url, "ca": openbao.ca},
        "credentials": {"token": ROOT_TOKEN},
    }
    made = await desk.api.post("/api/v1/secret-stores", json=store)
    assert made.status == 201, made.body
    return {"store": "vault", "path": path, "field": "key"}


async def called(desk: Desk, integration: dict[str, Any]) -> int:
    return (await desk.api.get(f"/api/v1/gateway/{integration['id']}/header")).status


async def test_the_secret_is_used_and_stays_where_it_is(
    desk: Desk, reference: dict[str, str], services: Services, tenant: Account
) -> None:
    made = await desk.create(credentials={"api_key": reference})
    assert made["status"] == "active"
    assert made["credentials"] == {"api_key": reference}
    assert await called(desk, made) == 200
    rows = await dump(Hub(services, tenant.tenant_id))
    assert [table for table, content in rows.items() if API_KEY.encode() in content] == []


@pytest.mark.parametrize("changes", [{"store": "nowhere"}, {"path": "providers/none"}, {"field": "other"}])
async def test_a_reference_that_leads_nowhere_is_a_test_that_failed(
    desk: Desk, reference: dict[str, str], changes: dict[str, str]
) -> None:
    answer = await desk.post(**desk.wanted(credentials={"api_key": reference | changes}))
    assert answer.status == 201, answer.body  # it is there, and says what it waits for
    told = answer.json["test"]["message"]
    assert "no secret store named" in told or "no such secret" in told or "no field" in told, told
    assert answer.json["status"] == "pending_validation"
    assert answer.json["status_reason"] == told
    assert (await desk.act(answer.json["id"], "test")).json["message"] == told


async def test_a_secret_that_is_gone_from_its_store_is_a_check_that_failed(
    desk: Desk, reference: dict[str, str], openbao: OpenBao, services: Services, clock: AheadClock
) -> None:
    made = await desk.create(credentials={"api_key": reference})
    openbao.put(reference["path"], other="field")
    clock.move(301)
    await services.integrations.checks.run()
    assert (await desk.read(made["id"]))["health"] == "degraded"


async def test_a_secret_that_was_changed_in_its_store_is_noticed_when_the_old_one_is_refused(
    desk: Desk,
    reference: dict[str, str],
    openbao: OpenBao,
    clock: AheadClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await desk.create(credentials={"api_key": reference})
    assert await called(desk, made) == 200
    clock.move(60)
    changed = "changed-key-9876543210"
    monkeypatch.setattr(stand_in, "API_KEY", changed)
    openbao.put(reference["path"], key=changed)
    assert await called(desk, made) == 200
    # One that is wrong in the store, too, is refused, and does not double every call.
    monkeypatch.setattr(stand_in, "API_KEY", "another-key")
    clock.move(60)
    asked = len(desk.provider.requests)
    assert [await called(desk, made) for _ in range(3)] == [401, 401, 401]
    assert len(desk.provider.requests) - asked == 4


async def test_only_those_who_typed_a_secret_are_reminded_to_change_it(
    desk: Desk, reference: dict[str, str], services: Services, clock: AheadClock
) -> None:
    await desk.create(credentials={"api_key": reference})
    typed = await desk.create(name="Typed", provider="bearer_payments", **_token(desk))
    clock.move(91 * 86_400)
    await services.reminders.run()
    alerts = (await desk.api.get("/api/v1/alerts?kind=secret_old")).json["items"]
    assert {alert["entity_id"] for alert in alerts if alert["entity_kind"] == "integration"} == {typed["id"]}


def _token(desk: Desk) -> dict[str, Any]:
    wanted = desk.payments("bearer_payments")
    return {"config": wanted["config"], "credentials": wanted["credentials"]}
