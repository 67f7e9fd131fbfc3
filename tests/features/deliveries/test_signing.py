"""What a receiver can verify of a delivery."""

from base64 import b64decode
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from crossdock.connectors.webhooks.standard import new_symmetric_secret
from crossdock.features.deliveries.schemas import RotateIn, SubscriptionCreated
from crossdock.kit.ids import IdKind, parse_id
from tests.hub import ACTOR, Hub, MovableClock
from tests.receivers import BROKEN, Received, Receiver, Reply

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


def verifies(secret: str | None, request: Received) -> bool:
    """Whether the request is signed with the secret, by the field's own library."""
    assert secret is not None
    try:
        Webhook(secret).verify(request.body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


async def rotate(hub: Hub, subscription: SubscriptionCreated, **given: object) -> SubscriptionCreated:
    key = parse_id(IdKind.SUBSCRIPTION, subscription.id)
    return await hub.services.subscriptions.rotate(hub.tenant_id, ACTOR, key, RotateIn.model_validate(given))


async def test_a_delivery_is_verified_by_the_standards_own_library(hub: Hub, receiver: Receiver) -> None:
    subscription = await hub.subscribe(receiver)
    await hub.publish({"n": "é😀"})
    (request,) = await receiver.got(1)
    assert verifies(subscription.secret, request)
    assert not verifies(new_symmetric_secret(), request)
    assert verifies(subscription.secret, receiver.verifications[0])


async def test_a_secret_of_the_tenants_own_signs(hub: Hub, receiver: Receiver) -> None:
    secret = new_symmetric_secret()
    subscription = await hub.subscribe(receiver, secret=secret)
    assert subscription.secret == secret
    await hub.publish(1)
    (request,) = await receiver.got(1)
    assert verifies(secret, request)


async def test_an_ed25519_signature_is_verified_with_the_public_key_that_is_shown(hub: Hub, receiver: Receiver) -> None:
    subscription = await hub.subscribe(receiver, signing="asymmetric")
    assert subscription.secret is None
    shown = subscription.keys[0].public_key
    assert shown is not None
    await hub.publish({"n": 1})
    (request,) = await receiver.got(1)
    version, _, signature = request.headers["webhook-signature"].partition(",")
    assert version == "v1a"
    public = Ed25519PublicKey.from_public_bytes(b64decode(shown.removeprefix("whpk_")))
    signed = f"{request.id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    public.verify(b64decode(signature), signed)


async def test_both_secrets_sign_while_they_overlap_and_the_old_one_stops_after(
    hub: Hub, receiver: Receiver, clock: MovableClock
) -> None:
    old = await hub.subscribe(receiver)
    await hub.publish(1)
    await receiver.got(1)
    new = await rotate(hub, old, overlap_s=3600)
    assert new.secret != old.secret
    await hub.publish(2)
    during = (await receiver.got(2))[1]
    assert (verifies(old.secret, during), verifies(new.secret, during)) == (True, True)

    clock.move(3601)
    await hub.publish(3)
    after = (await receiver.got(3))[2]
    # Its timestamp is an hour ahead of the library's clock: compared by hand.
    with pytest.raises(WebhookVerificationError, match="too new"):
        Webhook(new.secret or "").verify(after.body, dict(after.headers))
    assert after.headers["webhook-signature"] == signed_by(new, after)
    assert after.headers["webhook-signature"] != signed_by(old, after)


async def test_without_an_overlap_the_old_secret_stops_at_once(hub: Hub, receiver: Receiver) -> None:
    old = await hub.subscribe(receiver)
    new = await rotate(hub, old, overlap_s=0)
    await hub.publish(1)
    (request,) = await receiver.got(1)
    assert (verifies(old.secret, request), verifies(new.secret, request)) == (False, True)


async def test_a_rotation_may_change_the_kind_of_signature(hub: Hub, receiver: Receiver) -> None:
    old = await hub.subscribe(receiver)
    await rotate(hub, old, signing="asymmetric", overlap_s=60)
    await hub.publish(1)
    (request,) = await receiver.got(1)
    assert [one.partition(",")[0] for one in request.headers["webhook-signature"].split()] == ["v1a", "v1"]
    assert verifies(old.secret, request)


async def test_the_id_stays_over_retries_and_the_timestamp_is_fresh(
    hub: Hub, receiver: Receiver, clock: MovableClock
) -> None:
    async def a_minute_later(_request: web.BaseRequest) -> web.StreamResponse:
        clock.move(60)
        return web.Response(status=500)

    subscription = await hub.subscribe(receiver)
    receiver.answers(a_minute_later, a_minute_later)
    await hub.publish(1)
    requests = await receiver.got(3)
    assert len({request.id for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    times = [int(request.headers["webhook-timestamp"]) for request in requests]
    assert [later - earlier >= 60 for earlier, later in pairwise(times)] == [True, True]
    assert [request.headers["crossdock-attempt"] for request in requests] == ["1", "2", "3"]
    assert all(request.headers["webhook-signature"] == signed_by(subscription, request) for request in requests)


async def test_the_correlation_id_goes_along(hub: Hub, receiver: Receiver) -> None:
    receiver.answers(BROKEN, Reply(200))
    await hub.subscribe(receiver)
    (accepted,) = await hub.publish(1)
    for request in await receiver.got(2):
        assert request.headers["crossdock-correlation-id"] == ACTOR.correlation_id
        assert parse_id(IdKind.EVENT, request.headers["crossdock-event-id"]) == accepted.event_id
        assert request.headers["crossdock-event-type"] == "order.created"


def signed_by(subscription: SubscriptionCreated, request: Received) -> str:
    """The signature that the library makes of the request."""
    moment = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), tz=UTC)
    return Webhook(subscription.secret or "").sign(request.id, moment, request.body.decode())
