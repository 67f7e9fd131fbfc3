import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import EventIdentity, presets, verify
from crossdock.connectors.webhooks.errors import WrongSignatureError
from tests.connectors.webhooks.bodies import QUICKBOOKS
from tests.connectors.webhooks.presets.reading import events_of, identities_of, webhook
from tests.connectors.webhooks.samples import NOW, SECRET

PRESET = presets()["quickbooks"]
INVOICE = {"name": "Invoice", "id": "130", "operation": "Create", "lastUpdated": "2026-11-01T18:00:00.000Z"}
MERGED = {
    "name": "Customer",
    "id": "7",
    "operation": "Merge",
    "deletedId": "8",
    "lastUpdated": "2026-11-01T18:00:01-08:00",
}
OLDER = json.dumps(
    {
        "eventNotifications": [
            {"realmId": "310687", "dataChangeEvent": {"entities": [INVOICE, MERGED]}},
            {"realmId": "42", "dataChangeEvent": {"entities": [INVOICE]}},
        ]
    }
).encode()


@pytest.mark.parametrize("body", [QUICKBOOKS, OLDER])
def test_both_payloads_are_signed_alike(body: bytes) -> None:
    signature = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
    request = webhook(body, ("intuit-signature", signature))
    assert verify(PRESET, request=request, secrets=[SECRET], now=NOW).secret_index == 0
    decoded = base64.b64encode(hmac.new(base64.b64decode(SECRET), body, hashlib.sha256).digest()).decode()
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=webhook(body, ("intuit-signature", decoded)), secrets=[SECRET], now=NOW)


def test_each_entity_of_each_company_is_an_event_that_knows_its_company() -> None:
    assert events_of(PRESET, webhook(OLDER)) == [
        {"realmId": "310687", **INVOICE},
        {"realmId": "310687", **MERGED},
        {"realmId": "42", **INVOICE},
    ]
    at = datetime(2026, 11, 1, 18, tzinfo=UTC)
    assert identities_of(PRESET, webhook(OLDER)) == [
        EventIdentity("310687:Invoice:130:Create:2026-11-01T18:00:00.000Z", "quickbooks.invoice.created", at),
        EventIdentity(
            "310687:Customer:7:Merge:2026-11-01T18:00:01-08:00",
            "quickbooks.customer.merged",
            datetime(2026, 11, 2, 2, 0, 1, tzinfo=UTC),
        ),
        EventIdentity("42:Invoice:130:Create:2026-11-01T18:00:00.000Z", "quickbooks.invoice.created", at),
    ]


def test_each_cloud_event_has_its_own_id_and_the_same_type_as_before() -> None:
    at = datetime(2025, 9, 10, 21, 31, 25, 179_851, tzinfo=UTC)
    expected = EventIdentity("88cd52aa-33b6-4351-9aa4-47572edbd068", "quickbooks.invoice.created", at)
    assert identities_of(PRESET, webhook(QUICKBOOKS)) == [expected]
    one = json.dumps(json.loads(QUICKBOOKS)[0]).encode()
    assert identities_of(PRESET, webhook(one, content_type="application/cloudevents+json")) == [expected]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("qbo.customer.emailed.v1", "quickbooks.customer.emailed"),
        ("qbo.invoice.created.v12", "quickbooks.invoice.created"),
        ("intuit.other", "quickbooks.intuit.other"),
        ("", None),
        (7, "quickbooks.7"),
    ],
)
def test_the_version_is_no_part_of_the_type(word: object, expected: str | None) -> None:
    request = webhook(json.dumps([{"specversion": "1.0", "type": word}]).encode())
    assert [found.type for found in identities_of(PRESET, request)] == [expected]


@pytest.mark.parametrize("operation", ["Create", "Update", "Delete", "Merge", "Void", "Emailed", "Other"])
def test_the_older_operations_are_named_as_the_newer(operation: str) -> None:
    words = {"Create": "created", "Update": "updated", "Delete": "deleted", "Merge": "merged", "Void": "voided"}
    entity = INVOICE | {"operation": operation}
    body = {"eventNotifications": [{"realmId": "1", "dataChangeEvent": {"entities": [entity]}}]}
    (found,) = identities_of(PRESET, webhook(json.dumps(body).encode()))
    assert found.type == f"quickbooks.invoice.{words.get(operation, operation.lower())}"


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b'{"eventNotifications":[]}', []),
        (b"[]", []),
        (b'{"eventNotifications":[{"realmId":"1"}]}', [{"realmId": "1"}]),
        (b'{"eventNotifications":[7,{"dataChangeEvent":{"entities":["x"]}}]}', [7, "x"]),
        (b'{"eventNotifications":{}}', [{"eventNotifications": {}}]),
        (b"", [None]),
    ],
)
def test_what_is_built_otherwise_is_kept_and_nothing_is_no_event(body: bytes, events: list[object]) -> None:
    assert events_of(PRESET, webhook(body)) == events
    assert [found.id for found in identities_of(PRESET, webhook(body))] == [None] * len(events)
