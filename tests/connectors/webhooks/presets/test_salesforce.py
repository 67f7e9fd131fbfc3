from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    preset_for,
    presets,
    read_document,
    sign,
    verify,
)
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSecretError,
    MissingSignatureError,
    WebhookRefusedError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.identity import member
from tests.connectors.webhooks.samples import NOW, URL
from tests.connectors.webhooks.token_samples import ORGANIZATION, message

PRESET = preset_for("salesforce", {"organization_ids": ["00D000000000001", ORGANIZATION]})


def _request(body: bytes, content_type: str = "text/xml; charset=UTF-8") -> InboundRequest:
    return InboundRequest(url=URL, headers=Headers([("Content-Type", content_type)]), body=body)


def _verify(body: bytes, content_type: str = "text/xml; charset=UTF-8") -> None:
    verify(PRESET, request=_request(body, content_type), secrets=[], now=NOW)


def _events(body: bytes) -> list[Any]:
    return list(PRESET.split(read_document(PRESET, _request(body)).document) or [])


@pytest.mark.parametrize("organization", [ORGANIZATION, ORGANIZATION[:15], ORGANIZATION[:15] + "XYZ"])
def test_a_message_of_an_accepted_organization_is_accepted(organization: str) -> None:
    _verify(message(organization=f"<OrganizationId>{organization}</OrganizationId>"))


@pytest.mark.parametrize("organization", ["00D5g000001abceEAA", ORGANIZATION.lower(), "00D5g000001abCdEAA"])
def test_a_message_of_another_organization_is_refused(organization: str) -> None:
    with pytest.raises(WrongSignatureError):
        _verify(message(organization=f"<OrganizationId>{organization}</OrganizationId>"))


def test_any_changed_byte_of_the_organization_is_refused() -> None:
    body = message()
    start = body.index(ORGANIZATION.encode())
    for at in range(start, start + 15):
        with pytest.raises(WebhookRefusedError):
            _verify(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])


@pytest.mark.parametrize("body", [b"", b"<a/>", b"<Envelope><Body/></Envelope>", message(organization="")])
def test_what_names_no_organization_is_refused(body: bytes) -> None:
    with pytest.raises(MissingSignatureError):
        _verify(body)


@pytest.mark.parametrize(
    "organization",
    [
        "<OrganizationId/>",
        "<OrganizationId>00D5g</OrganizationId>",
        f"<OrganizationId>{ORGANIZATION}</OrganizationId>" * 2,
        f"<OrganizationId><a>{ORGANIZATION}</a></OrganizationId>",
    ],
)
def test_an_organization_written_otherwise_is_refused(organization: str) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(message(organization=organization))


def test_json_in_the_shape_of_a_message_is_refused() -> None:
    body = b'{"Envelope":{"Body":{"notifications":{"OrganizationId":"%s"}}}}' % ORGANIZATION.encode()
    with pytest.raises(MissingSignatureError):
        _verify(body, "application/json")


@pytest.mark.parametrize(
    "body", [b"\xff\xfe<", b"not xml", message()[:-9], message().replace(b"S\xc3\xb6hne", b"S\xf6hne")]
)
def test_a_broken_or_wrongly_encoded_message_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(body)


BILLION_LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


@pytest.mark.parametrize(
    ("before", "organization"),
    [
        (BILLION_LAUGHS, "<OrganizationId>&i;</OrganizationId>"),
        (f'<!DOCTYPE a [<!ENTITY o "{ORGANIZATION}">]>', "<OrganizationId>&o;</OrganizationId>"),
        ('<!DOCTYPE a [<!ENTITY o SYSTEM "file:///etc/passwd">]>', "<OrganizationId>&o;</OrganizationId>"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">', f"<OrganizationId>{ORGANIZATION}</OrganizationId>"),
        ("<!DOCTYPE a>", f"<OrganizationId>{ORGANIZATION}</OrganizationId>"),
        ('<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>', "<OrganizationId/>"),
    ],
    ids=["bomb", "entity", "file", "external-dtd", "empty-dtd", "parameter-entity"],
)
def test_document_types_and_entities_are_refused(before: str, organization: str) -> None:
    with pytest.raises(MalformedSignatureError, match="document type or entities"):
        _verify(message(before=before, organization=organization))


def test_a_message_nested_without_end_is_refused() -> None:
    with pytest.raises(MalformedSignatureError, match="nested deeper"):
        _verify(message(organization="<a>" * 5_000 + "</a>" * 5_000))


def test_each_notification_is_an_event_of_its_own() -> None:
    body = message("Account", "Invoice__c")
    assert [identify(PRESET, _request(body), event) for event in _events(body)] == [
        EventIdentity("04l5g00000AbCd1EAV", "salesforce.Account"),
        EventIdentity("04l5g00000AbCd2EAV", "salesforce.Invoice__c"),
    ]


def test_one_notification_alone_is_a_list_too() -> None:
    assert _events(message()) == [
        {
            "OrganizationId": ORGANIZATION,
            "ActionId": "04k5g0000008xyzAAA",
            "EnterpriseUrl": "https://acme.my.salesforce.com/services/Soap/c/66.0/00D5g000001abcd",
            "PartnerUrl": "https://acme.my.salesforce.com/services/Soap/u/66.0/00D5g000001abcd",
            "Notification": {
                "Id": "04l5g00000AbCd1EAV",
                "sObject": {"@type": "sf:Account", "Id": "0015g00000XyZabAAF", "Name": "Acme & Söhne"},
            },
        }
    ]


def test_the_session_is_in_no_document() -> None:
    body = message("Account", "Contact")
    assert "AQEAQsession" not in str(read_document(PRESET, _request(body)).document)
    assert "AQEAQsession" not in str(_events(body))


def test_a_message_is_acknowledged_as_soap() -> None:
    answer = PRESET.accepted
    assert answer is not None
    assert (answer.status, answer.content_type) == (200, "text/xml")
    envelope = fromstring(answer.body.decode())
    ack = envelope.find(".//{http://soap.sforce.com/2005/09/outbound}notificationsResponse/*")
    assert ack is not None
    assert (ack.tag, ack.text) == ("{http://soap.sforce.com/2005/09/outbound}Ack", "true")


def test_without_organizations_nothing_is_accepted() -> None:
    with pytest.raises(MissingSecretError):
        verify(presets()["salesforce"], request=_request(message()), secrets=[], now=NOW)


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        (None, "/settings/organization_ids"),
        ({}, "/settings/organization_ids"),
        ({"organization_ids": []}, "/settings/organization_ids"),
        ({"organization_ids": ["0015g00000XyZab"]}, "/settings/organization_ids/0"),
        ({"organization_ids": [ORGANIZATION, "00D5g000001abcdE"]}, "/settings/organization_ids/1"),
    ],
)
def test_an_endpoint_must_name_its_organizations(settings: object, pointer: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("salesforce", settings)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]


def test_what_is_signed_would_be_accepted() -> None:
    request = sign(PRESET, secret="", body=message(), url=URL, now=NOW)
    assert request.headers.get("content-type") == "text/xml; charset=utf-8"
    verify(PRESET, request=request, secrets=[], now=NOW)
    with pytest.raises(WrongSignatureError):
        sign(
            PRESET,
            secret="",
            body=message(organization="<OrganizationId>00D111111111111</OrganizationId>"),
            url=URL,
            now=NOW,
        )


def test_a_message_is_read_from_its_own_document_as_from_the_whole() -> None:
    document = read_document(PRESET, _request(message())).document
    assert member(document, "OrganizationId") == ORGANIZATION
