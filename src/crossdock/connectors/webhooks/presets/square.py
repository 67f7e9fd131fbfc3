"""Square (https://developer.squareup.com/docs/webhooks/step3validate): HMAC-SHA256 of URL and body.

Signed is the notification URL exactly as it is registered, so behind a proxy the endpoint's public
URL has to be that one. No time is signed; `event_id` tells a replay. Checked against the vendor's
`square.utils.webhooks_helper`.
"""

from collections.abc import Mapping

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import LocatedIdentity, Locator, TimeLocator
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.scheme import HmacScheme


def _companions(_event_type: str | None, _event_id: str | None) -> Mapping[str, str]:
    return {"Square-Environment": "Sandbox"}


SQUARE = Preset(
    name="square",
    title="Square",
    how_to="Developer Console, Webhooks, Subscriptions: add the URL exactly as public, enter its signature key here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(
        HmacScheme(header="x-square-hmacsha256-signature", encoding="base64", signed_content="{url}{body}")
    ),
    identify=LocatedIdentity(
        id=Locator(expression="event_id"),
        type=Locator(expression="type"),
        type_prefix="square.",
        time=TimeLocator(expression="created_at"),
    ),
    companions=_companions,
)
