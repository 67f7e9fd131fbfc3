"""What is sent to whom: filters, transformations, formats, headers, credentials."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from crossdock.features.deliveries.models import SubscriptionStatus
from crossdock.features.deliveries.schemas import SubscriptionCreated
from crossdock.features.events.ingest import NewEvent
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import ACTOR, Hub, with_settings
from tests.receivers import Receiver, Reply, receiving

pytestmark = pytest.mark.usefixtures("worker")

ANYWHERE = "http://127.0.0.1:9999/hook"
XML = b'<?xml version="1.0"?><a/>\xff'


def xml_event(hub: Hub) -> NewEvent:
    event = hub.event(payload=XML)
    event.content_type = "application/xml"
    return event


class TestFilters:
    async def test_only_what_passes_is_sent(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, filter="data.total >= `100` && starts_with(type, 'order.')")
        accepted = await hub.publish({"total": 99}, {"total": 100}, {"other": 1}, {"total": 1e3})
        assert [one.delivery_count for one in accepted] == [0, 1, 0, 1]
        await hub.ended(subscription, 2)
        assert [request.data for request in receiver.requests] == [{"total": 100}, {"total": 1000.0}]

    async def test_one_that_cannot_be_evaluated_keeps_the_delivery_as_failed(
        self, hub: Hub, receiver: Receiver
    ) -> None:
        subscription = await hub.subscribe(receiver, filter="starts_with(data.name, 'a')")
        await hub.publish({"name": 7}, {"name": "ab"})
        failed, delivered = await hub.ended(subscription, 2)
        assert (failed["status"], failed["attempt_count"]) == ("failed", 0)
        assert failed["error"].startswith("The subscription's filter could not be evaluated:")
        assert delivered["status"] == "delivered"
        assert len(receiver.requests) == 1

    async def test_a_changed_one_counts_for_what_is_published_next(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, filter="data == `1`")
        assert [one.delivery_count for one in await hub.publish(1, 2)] == [1, 0]
        key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
        await hub.services.subscriptions.patch(hub.tenant_id, ACTOR, key, {"filter": "data == `2`"})
        assert [one.delivery_count for one in await hub.publish(1, 2)] == [0, 1]
        await hub.services.subscriptions.patch(hub.tenant_id, ACTOR, key, {"filter": None, "event_types": ["other.*"]})
        assert [one.delivery_count for one in await hub.publish(1, 2)] == [0, 0]


class TestTransformations:
    async def test_the_result_is_the_body_and_is_kept_with_the_attempt(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(
            receiver,
            transformation="{kind: type, sum: sum(data.lines[].price)}",
            content_type="application/vnd.sum+json",
        )
        await hub.publish({"lines": [{"price": 1}, {"price": 2.5}]})
        (delivery,) = await hub.ended(subscription)
        (request,) = receiver.requests
        assert request.json == {"kind": "order.created", "sum": 3.5}
        assert request.headers["content-type"] == "application/vnd.sum+json"
        (attempt,) = await hub.attempts(delivery["id"])
        assert attempt["request_body"] == request.body

    async def test_one_that_fails_ends_the_delivery_without_an_attempt(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, transformation="sum(data.lines)")
        await hub.publish({"lines": "none"})
        (delivery,) = await hub.ended(subscription)
        assert (delivery["status"], delivery["attempt_count"], receiver.requests) == ("failed", 0, [])
        assert delivery["error"].startswith("The subscription's transformation failed:")

    async def test_data_beyond_what_a_number_holds_end_the_delivery(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, transformation="data")
        await hub.services.writer.publish([hub.event(payload=b"[1e400]"), hub.event(payload=b"[" * 980 + b"]" * 980)])
        rows = await hub.ended(subscription, 2)
        assert {(row["status"], row["attempt_count"]) for row in rows} == {("failed", 0)}


class TestFormats:
    PAYLOAD = b'{ "n" : 1.0, "s": "\\u00e9\\/" }'

    async def sent(self, hub: Hub, receiver: Receiver, event: NewEvent, **settings: Any) -> tuple[bytes, str]:
        await hub.subscribe(receiver, **settings)
        await hub.services.writer.publish([event])
        (request,) = await receiver.got(1)
        return request.body, request.headers["content-type"]

    async def test_the_envelope_carries_the_data_byte_for_byte(self, hub: Hub, receiver: Receiver) -> None:
        event = hub.event(payload=self.PAYLOAD)
        body, content_type = await self.sent(hub, receiver, event)
        head = f'{{"type":"order.created","timestamp":"{_utc(event.occurred_at)}","data":'
        assert (body, content_type) == (head.encode() + self.PAYLOAD + b"}", "application/json")

    async def test_data_that_are_not_json_go_into_the_envelope_as_base64(self, hub: Hub, receiver: Receiver) -> None:
        body, _ = await self.sent(hub, receiver, xml_event(hub))
        document = msgspec.json.decode(body)
        assert base64.b64decode(document["data_base64"]) == XML
        assert document["data_content_type"] == "application/xml"

    async def test_the_payload_alone_keeps_its_bytes_and_its_type(self, hub: Hub, receiver: Receiver) -> None:
        assert await self.sent(hub, receiver, xml_event(hub), format="payload") == (XML, "application/xml")

    async def test_a_media_type_that_no_header_can_hold_fails_its_own_delivery_alone(
        self, hub: Hub, receiver: Receiver
    ) -> None:
        """None is accepted any more; of an older version some may be stored."""
        subscription = await hub.subscribe(receiver, format="payload", ordered=True)
        broken = hub.event(payload=b"x")
        broken.content_type = "text/plain\r\nx-forged: 1"
        await hub.services.writer.publish([broken, xml_event(hub)])
        failed, delivered = await hub.ended(subscription, 2)
        assert (failed["status"], delivered["status"]) == ("failed", "delivered")
        (request,) = receiver.requests
        assert (request.body, "x-forged" in request.headers) == (XML, False)

    async def test_a_cloud_event_is_one_by_the_letter(self, hub: Hub, receiver: Receiver) -> None:
        event = hub.event(payload=self.PAYLOAD)
        event.subject = "42"
        body, content_type = await self.sent(hub, receiver, event, format="cloudevents")
        assert content_type == "application/cloudevents+json"
        assert body.endswith(b',"data":' + self.PAYLOAD + b"}")
        document = msgspec.json.decode(body)
        assert document.pop("data") == {"n": 1.0, "s": "é/"}
        assert document.pop("id").startswith("evt_")
        assert document == {
            "specversion": "1.0",
            "source": "/crossdock",
            "type": "order.created",
            "time": _utc(event.occurred_at),
            "datacontenttype": "application/json",
            "subject": "42",
        }

    async def test_a_cloud_event_that_came_as_one_keeps_its_own_attributes(self, hub: Hub, receiver: Receiver) -> None:
        event = xml_event(hub)
        event.source, event.attributes = "/shop", {"id": "A-1", "traceparent": "00-ab-cd-01", "sampled": True}
        body, _ = await self.sent(hub, receiver, event, format="cloudevents")
        document = msgspec.json.decode(body)
        assert base64.b64decode(document["data_base64"]) == XML
        assert (document["id"], document["source"]) == ("A-1", "/shop")
        assert (document["traceparent"], document["sampled"]) == ("00-ab-cd-01", True)


class TestHeaders:
    async def test_custom_ones_are_sent_and_masked_in_history(self, hub: Hub, receiver: Receiver) -> None:
        subscription = await hub.subscribe(receiver, headers={"X-Team": "s3cret-team"})
        await hub.publish(1)
        (delivery,) = await hub.ended(subscription)
        assert receiver.requests[0].headers["x-team"] == "s3cret-team"
        (attempt,) = await hub.attempts(delivery["id"])
        assert "s3cret-team" not in attempt["request_headers"]

    async def test_those_of_the_system_cannot_be_set(self, hub: Hub) -> None:
        names = ["webhook-signature", "Webhook-Id", "WEBHOOK-TIMESTAMP", "webhook-anything", "crossdock-event-id"]
        names += ["Content-Type", "content-length", "Host", "Transfer-Encoding", "Connection", "User-Agent"]
        names += ["X-Forwarded-For", "Proxy-Authorization", "bad name", "bad\r\nname", ""]
        with pytest.raises(InvalidInputError) as caught:
            await hub.subscribe(ANYWHERE, headers=dict.fromkeys(names, "x"))
        assert [fault.pointer for fault in caught.value.faults] == [f"/headers/{name}" for name in names]

    async def test_the_one_that_proves_who_calls_cannot_be_set_twice(self, hub: Hub) -> None:
        with pytest.raises(InvalidInputError):
            await hub.subscribe(
                ANYWHERE,
                headers={"x-api-key": "1"},
                auth={"kind": "api_key", "header": "X-API-Key", "value": "2"},
            )

    async def test_a_value_cannot_break_out(self, hub: Hub) -> None:
        values = ["a\r\nInjected: yes", "a\nb", "\x00", "é", " padded"]
        with pytest.raises(InvalidInputError) as caught:
            await hub.subscribe(ANYWHERE, headers={f"X-{number}": value for number, value in enumerate(values)})
        assert len(caught.value.faults) == len(values)

    async def test_a_content_type_cannot_break_out(self, hub: Hub) -> None:
        with pytest.raises(ValueError, match="content_type"):
            await hub.subscribe(ANYWHERE, content_type="text/plain\r\nX: y")


class TestCredentials:
    async def test_each_kind_arrives_as_the_destination_expects_it(self, hub: Hub, receiver: Receiver) -> None:
        kinds: list[dict[str, Any]] = [
            {"kind": "basic", "username": "me", "password": "pässword"},
            {"kind": "api_key", "header": "X-Key", "value": "k-123"},
            {"kind": "hmac", "header": "X-Hub", "secret": "shh", "algorithm": "sha512", "prefix": "sha512="},
        ]
        for number, auth in enumerate(kinds):
            await hub.subscribe(receiver, auth=auth, event_types=[f"order.n{number}"])
            await hub.publish({"n": number}, event_type=f"order.n{number}")
            await receiver.got(number + 1)
        basic, api_key, signed = receiver.requests
        assert base64.b64decode(basic.headers["authorization"].removeprefix("Basic ")).decode() == "me:pässword"
        assert api_key.headers["x-key"] == "k-123"
        digest = hmac.new(b"shh", signed.body, hashlib.sha512).hexdigest()
        assert signed.headers["x-hub"] == f"sha512={digest}"
        assert all("webhook-signature" in request.headers for request in receiver.requests)

    @with_settings(breaker_failures=1, breaker_open_s=60)
    async def test_a_token_that_cannot_be_had_is_tried_again_and_not_held_against_the_destination(
        self, hub: Hub, receiver: Receiver
    ) -> None:
        async with receiving() as tokens:
            tokens.answers(
                Reply(500),
                Reply(500),
                Reply(
                    200,
                    b'{"access_token":"t-1","token_type":"Bearer","expires_in":3600}',
                    {"Content-Type": "application/json"},
                ),
            )
            auth = {"kind": "oauth2", "token_url": tokens.url, "client_id": "me", "client_secret": "shh"}
            subscription = await hub.subscribe(receiver, auth=auth, verify=False)
            await enable(hub, subscription)
            await hub.publish(1)
            (delivery,) = await hub.ended(subscription)
        assert delivery["status"] == "delivered"
        assert [request.headers["authorization"] for request in receiver.requests] == ["Bearer t-1"]


async def enable(hub: Hub, subscription: SubscriptionCreated) -> None:
    key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
    await hub.services.subscriptions.set_status(hub.tenant_id, ACTOR, key, SubscriptionStatus.ACTIVE, None)


def _utc(moment: datetime) -> str:
    """RFC 3339 with a Z, as the API writes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
