from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import EventIdentity, presets, sign, verify
from crossdock.connectors.webhooks.errors import InvalidSettingsError, WrongSignatureError
from tests.connectors.webhooks.bodies import SAMSARA
from tests.connectors.webhooks.presets.reading import identities_of, webhook
from tests.connectors.webhooks.samples import URL

PRESET = presets()["samsara"]
KEY = "c2Ftc2FyYS10ZXN0LXNlY3JldC0wMDAx"
BODY = b'{"eventId":"e1","eventType":"Ping"}'
AT = datetime.fromtimestamp(1763650000, tz=UTC)
SIGNATURE = "v1=1048f72659809368c4ec877854b80f850597f322b0f4865e7a4a807c6a3fe0b2"


def test_the_vector_is_accepted_by_the_decoded_key() -> None:
    request = webhook(BODY, ("X-Samsara-Signature", SIGNATURE), ("X-Samsara-Timestamp", "1763650000"))
    assert verify(PRESET, request=request, secrets=[KEY], now=AT).timestamp == AT
    as_text = "YzJGdGMyRnlZUzEwWlhOMExYTmxZM0psZEMwd01EQXg="  # whose decoded form is the key's text
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=request, secrets=[as_text], now=AT)


def test_what_we_sign_is_the_vector() -> None:
    request = sign(PRESET, secret=KEY, body=BODY, url=URL, now=AT, event=EventIdentity(type="samsara.DriverUpdated"))
    assert request.headers.get("X-Samsara-Signature") == SIGNATURE
    assert request.headers.get("X-Samsara-Event-Type") == "DriverUpdated"


@pytest.mark.parametrize("secret", ["not base64!", "é", "c2Ft c2Fy", ""])
def test_a_secret_key_that_is_not_base64_is_refused(secret: str) -> None:
    with pytest.raises(InvalidSettingsError):
        PRESET.signature.check_secret(secret)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            SAMSARA,
            EventIdentity("017db07f", "samsara.DriverUpdated", datetime(2026, 11, 20, 14, 2, 11, 683_000, tzinfo=UTC)),
        ),
        (
            b'{"eventId":"e1","eventType":"Alert","eventMs":1763650000741}',
            EventIdentity("e1", "samsara.Alert", AT.replace(microsecond=741_000)),
        ),
        (b"{}", EventIdentity()),
    ],
)
def test_both_versions_of_the_payload_have_id_type_and_time(body: bytes, expected: EventIdentity) -> None:
    assert identities_of(PRESET, webhook(body)) == [expected]
