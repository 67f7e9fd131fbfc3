"""What senders send: one body or more of each."""

import json
from typing import Any

XML = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<DocuSignEnvelopeInformation xmlns="http://www.docusign.net/API/3.0"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    "<EnvelopeStatus><RecipientStatuses><RecipientStatus><Type>Signer</Type>"
    "<Email>zoë@example.com</Email><Signed>2019-06-25T13:14:40.1</Signed>"
    '<DeclineReason xsi:nil="true"/><CustomFields/>'
    "<TabStatuses><TabStatus><TabType>Custom</TabType><TabValue>2019-06-25T13:14:47</TabValue></TabStatus>"
    "</TabStatuses></RecipientStatus></RecipientStatuses>"
    "<TimeGenerated>2019-06-25T13:14:47.5542209</TimeGenerated>"
    "<EnvelopeID>0147df4c-0144-433b-aac5-55285fe7dbbf</EnvelopeID><Status>Completed</Status>"
    "</EnvelopeStatus><TimeZone>Pacific Standard Time</TimeZone><TimeZoneOffset>-7</TimeZoneOffset>"
    "</DocuSignEnvelopeInformation>"
).encode()

DOCUSIGN_JSON = json.dumps(
    {
        "event": "envelope-completed",
        "generatedDateTime": "2026-01-02T03:04:05.678Z",
        "data": {"accountId": "ACC", "envelopeId": "0147df4c-0144-433b-aac5-55285fe7dbbf"},
    }
).encode()

SMS = (
    b"MessageSid=SM11111111111111111111111111111111&AccountSid=AC00000000000000000000000000000000"
    b"&From=%2B14155550100&To=%2B14155550199&Body=CONFIRM&NumMedia=0"
)

STRIPE = json.dumps({"id": "evt_1Pabc2LkdIwHu7ix", "object": "event", "type": "charge.refunded"}).encode()

HUBSPOT = json.dumps(
    [
        {
            "eventId": 567890123,
            "subscriptionId": 234567,
            "portalId": 12345678,
            "occurredAt": 1763650000741,
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": 65059681032,
            "propertyName": "lifecyclestage",
            "propertyValue": "customer",
        }
    ]
).encode()

MAILGUN = json.dumps(
    {
        "event-data": {
            "event": "failed",
            "severity": "permanent",
            "id": "G9Bn5sl1TC6nu79C8C0bwg",
            "timestamp": 1521233195.375624,
            "recipient": "alice@example.com",
        }
    }
).encode()

QUICKBOOKS = json.dumps(
    [
        {
            "specversion": "1.0",
            "id": "88cd52aa-33b6-4351-9aa4-47572edbd068",
            "source": "intuit.c2hhcmVk",
            "type": "qbo.invoice.created.v1",
            "time": "2025-09-10T21:31:25.179851517Z",
            "intuitentityid": "1234",
            "intuitaccountid": "310687",
            "data": {},
        }
    ]
).encode()

QUILTT = json.dumps(
    {
        "environment": {"id": "env_1Bx4omNvZgKao2OqGshImD", "name": "Sandbox", "mode": "SANDBOX"},
        "eventTypes": ["profile.ready"],
        "events": [
            {
                "id": "evt_12sDfIGkY96vVvNvTqNfn9",
                "at": "2026-11-01T02:04:37Z",
                "type": "profile.ready",
                "profile": {"id": "p_12VnSaRRxyP12Sl9rLZg8n1"},
            }
        ],
    }
).encode()

SLACK = json.dumps(
    {
        "type": "event_callback",
        "team_id": "T1DC2JH3J",
        "event_id": "Ev08MFMKH6",
        "event_time": 1773500960,
        "event": {"type": "app_mention", "text": "<@U0LAN0Z89> hi", "event_ts": "1773500960.000005"},
    }
).encode()
SLASH_COMMAND = b"token=xyzz0WbapA4vBCrFEFxk6G&team_id=T1DC2JH3J&command=%2Fdeploy&text=now&trigger_id=13345224609.738"

SQUARE = json.dumps(
    {
        "merchant_id": "6SSW7HV8K2ST5",
        "type": "refund.created",
        "event_id": "bc316346-6691-4243-88ed-6d651a0d0c47",
        "created_at": "2020-02-06T21:27:41.852Z",
        "data": {"type": "refund", "id": "KkAk_ptNB"},
    }
).encode()

STANDARD = json.dumps(
    {"type": "invoice.paid", "timestamp": "2026-03-14T15:09:20.719851517Z", "data": {"id": "in_1"}}
).encode()

XERO = json.dumps(
    {
        "events": [
            {
                "resourceId": "717f2bfc-c6d4-41fd-b238-3f2f0c0cf777",
                "eventDateUtc": "2026-06-21T01:15:39.902",
                "eventType": "UPDATE",
                "eventCategory": "INVOICE",
                "tenantId": "c2cc9b6e-9458-4c7d-93cc-f02b81b0594f",
                "tenantType": "ORGANISATION",
            }
        ],
        "lastEventSequence": 1,
        "firstEventSequence": 1,
        "entropy": "S0m3r4Nd0mt3xt",
    }
).encode()

SAMSARA = b'{"eventId":"017db07f","eventTime":"2026-11-20T14:02:11.683Z","eventType":"DriverUpdated","data":{}}'
MOTIVE = b'{"action":"fault_code_opened","id":991,"last_observed_at":"2026-11-20T14:02:11Z"}'

SENDGRID = json.dumps(
    [
        {
            "email": "a@example.com",
            "timestamp": 1700000000,
            "event": "delivered",
            "sg_event_id": "ZGVsaXZlcmVk",
            "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        },
        {
            "email": "b@example.com",
            "timestamp": 1700000001,
            "event": "bounce",
            "type": "blocked",
            "sg_event_id": "Ym91bmNl",
        },
    ]
).encode()

PAYPAL = json.dumps(
    {
        "id": "WH-58D329510W468432D-8HN650336L201105X",
        "create_time": "2026-11-01T21:50:07.940Z",
        "resource_type": "refund",
        "event_type": "PAYMENT.CAPTURE.REFUNDED",
        "resource": {"id": "1Y107995YT783435V", "amount": {"currency_code": "USD", "value": "1.00"}},
    }
).encode()

SNS_TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
SNS_CERTIFICATE_URL = (
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
)
SES_BOUNCE = {
    "eventType": "Bounce",
    "bounce": {"bounceType": "Permanent", "timestamp": "2026-03-14T15:09:20.678Z"},
    "mail": {"messageId": "0100017f", "destination": ["x@example.com"]},
}
SNS_NOTIFICATION: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": SNS_TOPIC,
    "Subject": "Größe: 3 ✓\nsecond line",
    "Message": json.dumps(SES_BOUNCE),
    "Timestamp": "2026-03-14T15:09:26.655Z",
    "SignatureVersion": "2",
    "SigningCertURL": SNS_CERTIFICATE_URL,
    "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
}
SNS_CONFIRMATION: dict[str, Any] = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": SNS_TOPIC,
    "Message": "You have chosen to subscribe to the topic.\nTo confirm, visit the SubscribeURL.",
    "SubscribeURL": f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={SNS_TOPIC}&Token=2336412f37",
    "Timestamp": "2026-03-14T15:09:26.655Z",
    "SignatureVersion": "1",
    "SigningCertURL": SNS_CERTIFICATE_URL,
}
