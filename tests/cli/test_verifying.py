import time
from collections.abc import Callable

import pytest

from crossdock.cli.verifying import verifier
from crossdock.connectors.webhooks.standard import (
    AsymmetricKey,
    new_asymmetric_secret,
    new_symmetric_secret,
    read_key,
    sign,
)
from crossdock.kit.errors import InvalidInputError

BODY = b'{"type":"order.created","data":{}}'


def signed(secret: str, *, age_s: int = 0) -> dict[str, str]:
    timestamp = int(time.time()) - age_s
    return {
        "Webhook-Id": "dlv_1",
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": sign("dlv_1", timestamp, BODY, [read_key(secret)]),
    }


def public_of(secret: str) -> str:
    key = read_key(secret)
    assert isinstance(key, AsymmetricKey)
    return key.public


@pytest.mark.parametrize("new_secret", [new_symmetric_secret, new_asymmetric_secret])
def test_a_delivery_is_believed_with_its_key_alone(new_secret: Callable[[], str]) -> None:
    secret, other = new_secret(), new_secret()
    mine, others = (one if one.startswith("whsec_") else public_of(one) for one in (secret, other))
    assert verifier(mine)(signed(secret), BODY) is None
    assert verifier(others)(signed(secret), BODY) is not None
    assert verifier(mine)(signed(secret), BODY + b" ") is not None
    assert verifier(mine)(signed(secret, age_s=400), BODY) is not None
    assert verifier(mine)(signed(secret, age_s=-400), BODY) is not None


@pytest.mark.parametrize("new_secret", [new_symmetric_secret, new_asymmetric_secret])
@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,!"},
        {"webhook-id": "a", "webhook-timestamp": "x", "webhook-signature": "v1a,!"},
        {"webhook-id": "a", "webhook-timestamp": str(int(time.time())), "webhook-signature": "nonsense"},
        {"webhook-id": "a", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1a,!!"},
    ],
)
def test_odd_headers_are_a_fault_and_no_crash(new_secret: Callable[[], str], broken: dict[str, str]) -> None:
    secret = new_secret()
    check = verifier(secret if secret.startswith("whsec_") else public_of(secret))
    assert check(broken, b"\xff\xfe") is not None
    assert check(broken, BODY) is not None


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "whpk_", "whpk_AAAA"])
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(InvalidInputError):
        verifier(secret)
