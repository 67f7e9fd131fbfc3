"""Webhooks, both directions, as a library: proving who sent one, reading what it says, signing our own.

Signing our own is in `standard`. For the rest: look the preset up with `preset_for`, `verify` the
request, `read_document`, `identify`.
"""

from crossdock.connectors.webhooks.address_lists import AddressList
from crossdock.connectors.webhooks.bodies import BodyFormat, BodyLimits, ParsedBody, parse_body
from crossdock.connectors.webhooks.certificates import CertificateSource
from crossdock.connectors.webhooks.content_coding import decoded
from crossdock.connectors.webhooks.extract import identify, read_document
from crossdock.connectors.webhooks.identity import EventIdentity
from crossdock.connectors.webhooks.multipart_bodies import UploadedFile
from crossdock.connectors.webhooks.preset import Answer, Preset, SecretOrigin
from crossdock.connectors.webhooks.presets.catalogue import preset_for, presets
from crossdock.connectors.webhooks.request import Headers, InboundRequest
from crossdock.connectors.webhooks.scheme import HmacScheme, read_scheme
from crossdock.connectors.webhooks.sign import sign
from crossdock.connectors.webhooks.signature import Verified
from crossdock.connectors.webhooks.verify import verify, verify_with_certificates

__all__ = [
    "AddressList",
    "Answer",
    "BodyFormat",
    "BodyLimits",
    "CertificateSource",
    "EventIdentity",
    "Headers",
    "HmacScheme",
    "InboundRequest",
    "ParsedBody",
    "Preset",
    "SecretOrigin",
    "UploadedFile",
    "Verified",
    "decoded",
    "identify",
    "parse_body",
    "preset_for",
    "presets",
    "read_document",
    "read_scheme",
    "sign",
    "verify",
    "verify_with_certificates",
]
