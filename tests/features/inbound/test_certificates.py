"""Webhooks whose senders sign with a certificate or a private key, at the door of a real hub."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from crossdock.connectors.webhooks import InboundRequest, Preset, preset_for, sign
from crossdock.connectors.webhooks.certificate_fetching import FetchedCertificates
from crossdock.connectors.webhooks.certificates import Authorities, SigningCertificate
from crossdock.connectors.webhooks.errors import CertificateUnavailableError, InvalidSettingsError
from crossdock.connectors.webhooks.presets.sendgrid import new_private_key, public_key_of
from crossdock.db.engine import Database
from crossdock.features.inbound.schemas import EndpointCreated
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.transport import OutboundRequest, OutboundResponse
from crossdock.kit.clock import SystemClock
from tests.connectors.webhooks.bodies import PAYPAL, SENDGRID
from tests.connectors.webhooks.certificates import (
    PAYPAL_URL,
    SNS_SETTINGS,
    SNS_URL,
    TOPIC,
    Issuer,
    LocalCertificates,
    pem,
    signing,
    signs_with,
)
from tests.features.inbound.conftest import Hub, open_hub
from tests.gateway.destinations import Visit, destination
from tests.serving import Answer

WEBHOOK_ID = "8PT597110X687430LKGECATA"
NOW = SystemClock().now()
ROOT = Issuer.root(NOW)
PAYPALS = signing(ROOT.leaf("messageverificationcerts.paypal.com", NOW), ROOT)
AMAZONS = signing(ROOT.leaf("sns.amazonaws.com", NOW))


@pytest.fixture
def certificates() -> LocalCertificates:
    return LocalCertificates({PAYPAL_URL: PAYPALS, SNS_URL: AMAZONS})


@pytest.fixture
async def hub(database: Database, certificates: LocalCertificates) -> AsyncIterator[Hub]:
    async with open_hub(database, certificates=certificates) as opened:
        yield opened


def _signed(hub: Hub, preset: Preset, url: str, body: bytes, *, secret: str = "") -> InboundRequest:
    at = f"{hub.api.base_url}/webhooks/{hub.tenant}/{preset.name}"
    return sign(signs_with(preset, url), secret=secret, body=body, url=at, now=hub.clock.now())


async def _post(hub: Hub, request: InboundRequest, headers: Mapping[str, str] | None = None) -> Answer:
    return await hub.api.post(
        urlsplit(request.url).path, body=request.body, headers=dict(request.headers.items()) | dict(headers or {})
    )


async def _paypal(hub: Hub) -> EndpointCreated:
    return await hub.endpoint("paypal", secret=WEBHOOK_ID)


def _from_paypal(hub: Hub, body: bytes = PAYPAL) -> InboundRequest:
    return _signed(hub, preset_for("paypal"), PAYPAL_URL, body, secret=WEBHOOK_ID)


async def test_paypals_webhook_is_taken_in_under_its_own_id_and_type(hub: Hub) -> None:
    await _paypal(hub)
    assert (await _post(hub, _from_paypal(hub))).json == {"status": "received"}
    receipt = await hub.only_receipt()
    assert receipt["external_id"] == "WH-58D329510W468432D-8HN650336L201105X"
    assert receipt["event_type"] == "paypal.payment.capture.refunded"
    assert (await _post(hub, _from_paypal(hub))).json == {"status": "duplicate"}


async def test_another_webhooks_id_is_refused(hub: Hub) -> None:
    await hub.endpoint("paypal", secret="5YR89137NC123456X")
    assert (await _post(hub, _from_paypal(hub))).status == 401
    await hub.refused_for("signature_wrong")
    assert await hub.stored() == {}


@pytest.mark.parametrize(
    "certificate",
    [
        signing(Issuer.root(NOW, name="Stranger", key=3).leaf("messageverificationcerts.paypal.com", NOW), ROOT),
        signing(ROOT.leaf("evilpaypal.com", NOW), ROOT),
    ],
)
async def test_a_wrong_certificate_is_refused(
    hub: Hub, certificates: LocalCertificates, certificate: SigningCertificate
) -> None:
    certificates.known = {PAYPAL_URL: certificate}
    await _paypal(hub)
    answer = await _post(hub, _from_paypal(hub))
    assert (answer.status, answer.json["code"]) == (401, "webhook_refused")
    assert "certificate" not in answer.json["detail"]
    await hub.refused_for("certificate_wrong")
    assert await hub.stored() == {}


async def test_a_certificate_from_elsewhere_is_refused_and_not_asked_for(
    hub: Hub, certificates: LocalCertificates
) -> None:
    await _paypal(hub)
    answer = await _post(hub, _from_paypal(hub), {"PayPal-Cert-Url": "https://paypal.com.evil.example/cert"})
    assert answer.status == 401
    await hub.refused_for("certificate_wrong")
    assert certificates.asked == []


async def test_without_the_certificate_the_sender_is_asked_to_send_again(
    hub: Hub, certificates: LocalCertificates
) -> None:
    await _paypal(hub)
    certificates.known = {PAYPAL_URL: CertificateUnavailableError("PayPal is away.")}
    answer = await _post(hub, _from_paypal(hub))
    assert (answer.status, answer.json["code"]) == (503, "certificate_unavailable")
    assert b"PayPal is away" not in answer.body  # what the hub can reach, it tells its owner alone
    assert answer.headers["Retry-After"] == "10"
    await hub.refused_for("certificate_unavailable")
    assert await hub.stored() == {}
    certificates.known = {PAYPAL_URL: PAYPALS}
    assert (await _post(hub, _from_paypal(hub))).json == {"status": "received"}


def _notification(**changes: Any) -> bytes:
    message = {
        "Type": "Notification",
        "Message": '{"eventType": "Bounce", "mail": {}, "bounce": {}}',
        "TopicArn": TOPIC,
    }
    return json.dumps(message | changes).encode()


async def _sns(hub: Hub) -> Preset:
    await hub.endpoint("amazon_sns", settings=SNS_SETTINGS)
    return preset_for("amazon_sns", SNS_SETTINGS)


async def test_a_bounce_that_came_through_sns_becomes_its_event(hub: Hub) -> None:
    request = _signed(hub, await _sns(hub), SNS_URL, _notification(MessageId="m-1"))
    assert (await _post(hub, request)).json == {"status": "received"}
    receipt = await hub.only_receipt()
    assert (receipt["external_id"], receipt["event_type"]) == ("m-1", "ses.bounce")
    assert receipt["body"] == request.body
    await hub.work_off()
    (event,) = await hub.rows("SELECT type, payload FROM events")
    payload = json.loads(event["payload"])
    assert event["type"] == "ses.bounce"
    assert (payload["MessageId"], payload["Message"]["eventType"]) == ("m-1", "Bounce")


async def test_the_topic_of_somebody_else_is_refused_and_its_certificate_not_asked_for(
    hub: Hub, certificates: LocalCertificates
) -> None:
    other = _notification(TopicArn=TOPIC.replace("123456789012", "999999999999"))
    assert (await _post(hub, _signed(hub, await _sns(hub), SNS_URL, other))).status == 401
    await hub.refused_for("topic_unknown")
    assert certificates.asked == []


async def test_raw_message_delivery_is_refused(hub: Hub) -> None:
    await _sns(hub)
    answer = await hub.api.post(
        "/webhooks/acme/amazon_sns",
        body=b'{"eventType": "Bounce"}',
        headers={"x-amz-sns-rawdelivery": "true", "Content-Type": "text/plain; charset=UTF-8"},
    )
    assert answer.status == 401
    await hub.refused_for("signature_missing")


async def test_an_endpoint_for_sns_without_topics_cannot_be_opened(hub: Hub) -> None:
    with pytest.raises(InvalidSettingsError, match="topic_arns"):
        await hub.endpoint("amazon_sns", settings=None)


async def test_sendgrids_batch_is_believed_by_its_public_key_and_split(hub: Hub) -> None:
    private, rotated = new_private_key(), new_private_key()
    endpoint = await hub.endpoint("sendgrid", secret=public_key_of(private))
    assert (await hub.send(endpoint, SENDGRID, secret=rotated)).status == 401
    assert (await hub.send(endpoint, SENDGRID, secret=private)).json == {"status": "received"}
    await hub.work_off()
    events = await hub.rows("SELECT type FROM events ORDER BY type")
    assert [event["type"] for event in events] == ["sendgrid.bounce", "sendgrid.delivered"]


@dataclass
class Detour:
    """A transport that goes to a destination of the test's for whatever host, and counts how often."""

    transport: HttpTransport
    to: str
    sent: int = 0

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        self.sent += 1
        there = urlsplit(request.url)
        return await self.transport.send(replace(request, url=f"{self.to}{there.path}?{there.query}"))

    async def aclose(self) -> None:
        await self.transport.aclose()


@asynccontextmanager
async def _detour(visit_with: Any) -> AsyncIterator[Detour]:
    async with destination(visit_with) as there:
        detour = Detour(HttpTransport(policy=AddressPolicy(allow_loopback=True)), there.url)
        try:
            yield detour
        finally:
            await detour.aclose()


async def test_fifty_webhooks_at_once_cause_one_fetch_of_their_certificate(database: Database) -> None:
    async def serve(visit: Visit) -> None:
        while await visit.request():
            await visit.answer(pem(PAYPALS.leaf))

    async with _detour(serve) as detour:
        source = FetchedCertificates(
            transport=detour, clock=SystemClock(), authorities=lambda: Authorities.of([ROOT.certificate])
        )
        async with open_hub(database, certificates=source) as hub:
            await _paypal(hub)
            bodies = [json.dumps(json.loads(PAYPAL) | {"id": f"WH-{n}"}).encode() for n in range(50)]
            answers = await asyncio.gather(*(_post(hub, _from_paypal(hub, body)) for body in bodies))
            assert [answer.json for answer in answers] == [{"status": "received"}] * 50
            assert await hub.count("receipts") == 50
            assert detour.sent == 1


async def test_a_subscription_to_an_accepted_topic_is_confirmed_at_amazons_url(hub: Hub) -> None:
    called = []

    async def confirm(visit: Visit) -> None:
        while request := await visit.request():
            called.append(request.split(b"\r\n")[0].decode())
            await visit.answer(b"<ConfirmSubscriptionResponse/>")

    query = f"Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
    message = _notification(
        Type="SubscriptionConfirmation",
        Message="You have chosen to subscribe.",
        SubscribeURL=f"https://sns.eu-west-1.amazonaws.com/?{query}",
        Token="2336412f37",
    )
    async with _detour(confirm) as detour:
        hub.transport = cast("HttpTransport", detour)
        assert (await _post(hub, _signed(hub, await _sns(hub), SNS_URL, message))).json == {"status": "received"}
        await hub.work_off()
    assert called == [f"GET /?{query} HTTP/1.1"]
    receipt = await hub.only_receipt()
    assert (receipt["event_type"], receipt["error"]) == ("sns.subscription_confirmation", None)
    assert receipt["state"] in ("processed", "stored")
