"""Stripe (https://docs.stripe.com/webhooks/signature): `t=…,v1=…`, HMAC-SHA256 of time and body.

The key is the whole `whsec_…` text as it stands. Like Stripe's own libraries, a time ahead of our
clock is accepted.
"""

from crossdock.connectors.webhooks.hmac_signature import HmacSignature
from crossdock.connectors.webhooks.identity import LocatedIdentity, Locator, TimeLocator
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.scheme import HmacScheme, TimestampRule

STRIPE = Preset(
    name="stripe",
    title="Stripe",
    how_to="Dashboard, Developers, Webhooks: add the URL, then enter its signing secret (whsec_…) here.",
    secret_from=SecretOrigin.SENDER,
    signature=HmacSignature(
        HmacScheme(
            header="Stripe-Signature",
            prefix="v1=",
            separator=",",
            timestamp=TimestampRule(field="t", tolerance_s=300, allow_future=True),
            signed_content="{timestamp}.{body}",
        )
    ),
    identify=LocatedIdentity(
        id=Locator(expression="id"),
        type=Locator(expression="type"),
        type_prefix="stripe.",
        time=TimeLocator(expression="created", unit="s"),
    ),
)
