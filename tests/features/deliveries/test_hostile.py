"""Destinations that misbehave, and addresses that are none of a tenant's business."""

import gzip
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from crossdock.features.deliveries.destinations import Destination, DestinationLoader
from crossdock.features.deliveries.history import DeliveryHistory
from crossdock.features.deliveries.models import SubscriptionStatus
from crossdock.features.deliveries.schemas import AttemptOut, SubscriptionCreated
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.destination_auth import Authenticator
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import SystemClock
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import ACTOR, Hub, working
from tests.receivers import Receiver, Reply, drip, flood, hang
from tests.waiting import eventually

KEPT = 64 * 1024
ONCE = {"retries": 0}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts have a third of a second instead of the five that a subscription must give."""
    original = DestinationLoader._destination

    def in_a_hurry(self: DestinationLoader, row: object) -> Destination:
        return replace(original(self, row), timeout_s=0.3)  # type: ignore[arg-type]

    monkeypatch.setattr(DestinationLoader, "_destination", in_a_hurry)


async def shown(hub: Hub, subscription: SubscriptionCreated) -> AttemptOut:
    """The last attempt of the last delivery, as the API shows it."""
    rows = await hub.ended(subscription)
    async with hub.services.database.tenant(hub.tenant_id) as session:
        detail = await DeliveryHistory(clock=SystemClock()).read(session, rows[-1]["id"])
    return detail.history[-1]


@pytest.mark.usefixtures("worker", "impatient")
class TestADestinationThat:
    async def test_hangs_is_cut_by_the_total_timeout(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = hang
        subscription = await hub.subscribe(receiver, retry_policy=ONCE)
        await hub.publish(1)
        attempt = await shown(hub, subscription)
        assert attempt.status_code is None
        assert (attempt.error or "").startswith("timed_out")

    async def test_drips_is_cut_by_the_total_timeout(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = drip
        subscription = await hub.subscribe(receiver, retry_policy=ONCE)
        await hub.publish(1)
        attempt = await shown(hub, subscription)
        assert (attempt.error or "").startswith("timed_out")
        (delivery,) = await hub.deliveries(subscription)
        assert delivery["status"] == "failed"

    async def test_never_ends_its_answer_is_cut_at_the_size_that_is_kept(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = flood
        subscription = await hub.subscribe(receiver, retry_policy=ONCE)
        await hub.publish(1)
        attempt = await shown(hub, subscription)
        assert (attempt.status_code, attempt.response_truncated) == (200, True)
        assert len(attempt.response_body or "") == KEPT
        (delivery,) = await hub.deliveries(subscription)
        assert delivery["status"] == "delivered"

    async def test_answers_with_a_bomb_is_not_unpacked(self, hub: Hub, receiver: Receiver) -> None:
        bomb = gzip.compress(b"\0" * 20_000_000)
        receiver.otherwise = Reply(200, bomb, {"Content-Encoding": "gzip"})
        subscription = await hub.subscribe(receiver, retry_policy=ONCE)
        await hub.publish(1)
        attempt = await shown(hub, subscription)
        (row,) = await hub.query("SELECT response_body FROM attempts WHERE number = 1 AND length(response_body) > 1000")
        assert row["response_body"] == bomb
        assert attempt.response_body is None
        assert attempt.response_body_base64 is not None

    async def test_answers_with_what_is_no_text_is_stored_safely(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = Reply(500, b"\xff\x00\xfe")
        subscription = await hub.subscribe(receiver, retry_policy=ONCE)
        await hub.publish(1)
        attempt = await shown(hub, subscription)
        assert (attempt.response_body, attempt.response_body_base64) == (None, "/wD+")

    async def test_answers_with_nul_text_is_shown(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = Reply(200, b"a\x00b")
        subscription = await hub.subscribe(receiver)
        await hub.publish(1)
        assert (await shown(hub, subscription)).response_body == "a\x00b"


class TestAddresses:
    async def test_a_url_that_leads_inside_is_refused_at_creation(self, hub: Hub) -> None:
        policy = AddressPolicy(allow_loopback=False, allowed=())
        hub.services.subscriptions._limits = replace(hub.services.subscriptions._limits, policy=policy)
        for url in FORBIDDEN_URLS:
            with pytest.raises((InvalidInputError, ValidationError)):
                await hub.subscribe(url)
        assert await hub.query("SELECT FROM subscriptions") == []

    async def test_a_token_url_that_leads_inside_is_refused_too(self, hub: Hub, receiver: Receiver) -> None:
        auth = {"kind": "oauth2", "client_id": "me", "client_secret": "shh"}
        with pytest.raises(InvalidInputError) as caught:
            await hub.subscribe(receiver, auth=auth | {"token_url": "https://169.254.169.254/latest"})
        assert caught.value.faults[0].pointer == "/auth/token_url"

    async def test_what_was_allowed_once_is_judged_again_at_each_connection(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver)
        stricter = HttpTransport(policy=AddressPolicy(allow_loopback=False, allowed=()))
        hub.services.sender._authenticator = Authenticator(transport=stricter, clock=SystemClock())
        async with working(hub.services):
            await hub.publish(1)
            (delivery,) = await hub.ended(subscription)
        await stricter.aclose()
        assert (delivery["status"], delivery["attempt_count"], receiver.requests) == ("failed", 1, [])
        assert "loopback" in delivery["error"]

    async def test_a_name_that_changes_its_address_after_creation_is_blocked(self, hub: Hub) -> None:
        # As in DNS rebinding: harmless when it was saved, inside when it is sent to.
        inside = ["169.254.169.254", "10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "100.64.0.1", "fd00::1", "::"]
        addresses = {f"rebinding-{number}.example": address for number, address in enumerate(inside)}

        async def rebound(host: str) -> Sequence[str]:
            return [addresses[host]]

        transport = HttpTransport(policy=hub.services.policy, lookup=rebound)
        hub.services.sender._authenticator = Authenticator(transport=transport, clock=SystemClock())
        for host in addresses:
            subscription = await hub.subscribe(f"https://{host}/hook", verify=False)
            key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
            await hub.services.subscriptions.set_status(hub.tenant_id, ACTOR, key, SubscriptionStatus.ACTIVE, None)
        async with working(hub.services):
            await hub.publish(1)

            async def all_ended() -> list[Any]:
                rows = await hub.query("SELECT * FROM deliveries WHERE status <> 'pending'")
                return rows if len(rows) == len(inside) else []

            rows = await eventually(all_ended)
        await transport.aclose()
        assert {(row["status"], row["attempt_count"]) for row in rows} == {("failed", 1)}
        assert all(row["error"].startswith("address_blocked: rebinding-") for row in rows)

    @pytest.mark.usefixtures("worker")
    async def test_a_redirect_to_the_cloud_s_metadata_leads_nowhere(self, hub: Hub, receiver: Receiver) -> None:
        receiver.otherwise = Reply(302, b"", {"Location": "http://169.254.169.254/latest/meta-data/"})
        subscription = await hub.subscribe(receiver, retry_policy=ONCE)
        await hub.publish(1)
        (delivery,) = await hub.ended(subscription)
        assert (delivery["status"], delivery["last_status_code"]) == ("failed", 302)


FORBIDDEN_URLS = [
    "http://destination.example/hook",
    "https://127.0.0.1/hook",
    "https://localhost/hook",
    "https://sub.localhost/hook",
    "https://2130706433/hook",
    "https://0x7f000001/hook",
    "https://0177.0.0.1/hook",
    "https://127.1/hook",
    "https://0/hook",
    "https://10.1.2.3/hook",
    "https://172.16.0.1/hook",
    "https://192.168.0.1/hook",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/hook",
    "https://224.0.0.1/hook",
    "https://[::1]/hook",
    "https://[::ffff:10.0.0.1]/hook",
    "https://[::ffff:7f00:1]/hook",
    "https://[64:ff9b::10.0.0.1]/hook",
    "https://[fd00::1]/hook",
    "https://[fe80::1]/hook",
    "https://user:pass@destination.example/hook",
    "ftp://destination.example/hook",
    "file:///etc/passwd",
    "https://",
    "https://destination.example/" + "x" * 480,
]
