"""From a webhook that brought several events to one receipt for each."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from crossdock.connectors.webhooks import EventIdentity, Headers, InboundRequest
from crossdock.connectors.webhooks.content_types import JSON
from crossdock.features.inbound.due_receipts import DueEndpoint, DueReceipt
from crossdock.features.inbound.errors import UnprocessableReceiptError
from crossdock.features.inbound.event_identity import identity_of
from crossdock.features.inbound.new_receipts import MOST_PARTS, NewReceipt
from crossdock.features.inbound.processing import Divide
from crossdock.mapping.expressions import EvaluationError, Expression, compile_expression
from crossdock.mapping.json_values import JsonValue

# So many at a time: whoever else has something to do gets a turn in between.
_PARTS_PER_TURN = 50
# Headers are not signed, and each part keeps them: what is 60 kB long must not be stored 10,000 times.
_MOST_HEADER_BYTES = 64_000_000
# What these say of the whole body is not so of a part.
_OF_THE_WHOLE = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding"})


async def parts_of(receipt: DueReceipt, endpoint: DueEndpoint, divide: Divide) -> Sequence[NewReceipt]:
    """The receipts of the single events, with the ids that follow the whole's.

    Raises UnprocessableReceiptError for more than 10,000, and for very long headers of very many.
    """
    if len(divide.parts) > MOST_PARTS:
        raise UnprocessableReceiptError(
            f"The body brings {len(divide.parts)} events; {MOST_PARTS} are the most of one webhook."
        )
    if len(divide.parts) * sum(len(name) + len(value) for name, value in receipt.headers) > _MOST_HEADER_BYTES:
        raise UnprocessableReceiptError(
            f"The headers, repeated with each of {len(divide.parts)} events, would be too long to store."
        )
    expression = compile_expression(endpoint.event_id_expression) if endpoint.event_id_expression else None
    kept = [(name, value) for name, value in receipt.headers if name not in _OF_THE_WHOLE]
    headers = [*kept, ("content-type", JSON)]
    read_as = Headers(headers)
    found = []
    for index, part in enumerate(divide.parts):
        if index % _PARTS_PER_TURN == 0:
            await asyncio.sleep(0)
        body = msgspec.json.encode(part)
        request = InboundRequest(method=receipt.method, url=receipt.url, headers=read_as, body=body)
        identity = _identity(divide, request, part, expression)
        found.append(
            NewReceipt(
                tenant_id=receipt.tenant_id,
                id=UUID(int=receipt.id.int + 1 + index),
                parent_id=receipt.id,
                endpoint_id=receipt.endpoint_id,
                external_id=identity.id,
                event_type=identity.type,
                method=receipt.method,
                url=receipt.url,
                headers=headers,
                content_type=JSON,
                body=body,
                source_address=receipt.source_address,
                correlation_id=receipt.correlation_id,
                held=False,
                ordered=endpoint.ordered,
                received_at=receipt.received_at,
            )
        )
    return found


def _identity(divide: Divide, request: InboundRequest, part: JsonValue, expression: Expression | None) -> EventIdentity:
    try:
        return identity_of(divide.preset, request, part, event_id=expression)
    except EvaluationError:
        return EventIdentity()
