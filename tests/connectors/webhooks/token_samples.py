"""One honest request per preset whose sender signs nothing; most repeat a shared secret."""

import json
from dataclasses import dataclass

from tests.connectors.webhooks.samples import OTHER_SECRET, SECRET


@dataclass(frozen=True)
class TokenSample:
    """A request that repeats a shared secret: in this header, or somewhere in the body."""

    preset: str
    body: bytes
    header: str = ""
    secret: str = SECRET
    other: str = OTHER_SECRET


GRAPH = json.dumps(
    {
        "value": [
            {
                "subscriptionId": "7f105c7d-2dc5-4530-97cd-4e7ae6534c07",
                "subscriptionExpirationDateTime": "2026-03-20T11:00:00Z",
                "clientState": "as set by sign",
                "changeType": change,
                "resource": f"Users/48d31887/Events/{event}",
                "tenantId": "84bd8158-6d4d-4958-8b9f-9d6445542f95",
                "resourceData": {
                    "@odata.type": "#Microsoft.Graph.Event",
                    "@odata.id": f"Users/48d31887/Events/{event}",
                    "@odata.etag": 'W/"DwAAABYAAAA"',
                    "id": event,
                },
            }
            for change, event in (("updated", "AAMkAD1"), ("deleted", "AAMkAD2"))
        ]
    }
).encode()

ZOHO = json.dumps(
    {
        "query_params": {},
        "module": "Leads",
        "resource_uri": "https://www.zohoapis.com/crm/v8/Leads",
        "ids": ["5725767000000524157", "5725767000000524158"],
        "affected_fields": [{"5725767000000524157": ["Last_Name", "Email"]}],
        "operation": "update",
        "channel_id": "1000000068001",
        "token": "as set by sign",
        "server_time": 1763650000123,
    }
).encode()

BUILDER_IO = json.dumps(
    {
        "newValue": {"id": "cs3df", "published": "published", "name": "My great page", "data": {"property": "value"}},
        "previousValue": None,
        "modelName": "page",
        "operation": "publish",
    }
).encode()

TOKEN_SAMPLES = [
    TokenSample("google_calendar", b"", header="X-Goog-Channel-Token"),
    TokenSample("microsoft_graph", GRAPH),
    TokenSample("zoho", ZOHO),
    TokenSample("builder_io", BUILDER_IO, header="Authorization"),
    TokenSample("shared_secret", b'{"id":7}', header="X-Webhook-Secret"),
    TokenSample(
        "basic_auth",
        b'{"id":7}',
        header="Authorization",
        secret="zoë:pa:ss wörd-0123456789",
        other="crossdock:another-password-0123456789",
    ),
]

ORGANIZATION = "00D5g000001abcdEAA"
ONE = """<Notification><Id>04l5g00000AbCd{n}EAV</Id>
   <sObject xsi:type="sf:{kind}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">
    <sf:Id>0015g00000XyZabAAF</sf:Id><sf:Name>Acme &amp; Söhne</sf:Name>
   </sObject></Notification>"""


def message(
    *kinds: str, organization: str = f"<OrganizationId>{ORGANIZATION}</OrganizationId>", before: str = ""
) -> bytes:
    """An outbound message as Salesforce writes it, with a notification of each kind of record."""
    notifications = "".join(ONE.format(n=n, kind=kind) for n, kind in enumerate(kinds or ("Account",), start=1))
    return f"""<?xml version="1.0" encoding="UTF-8"?>{before}
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
 <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
  {organization}<ActionId>04k5g0000008xyzAAA</ActionId><SessionId>00D5g000001abcd!AQEAQsession</SessionId>
  <EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/66.0/00D5g000001abcd</EnterpriseUrl>
  <PartnerUrl>https://acme.my.salesforce.com/services/Soap/u/66.0/00D5g000001abcd</PartnerUrl>
  {notifications}</notifications></soapenv:Body></soapenv:Envelope>""".encode()
