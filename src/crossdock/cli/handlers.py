"""`crossdock webhook handlers`."""

from crossdock.cli.output import AsJson, show_rows
from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.schemas import HandlerOut


def list_handlers(*, as_json: AsJson = False) -> None:
    """List the handlers that are installed here, for endpoints with that target."""
    registry = HandlerRegistry()
    registry.load()
    show_rows(
        HandlerOut.all_of(registry),
        ("name", "description"),
        as_json=as_json,
        empty="There are no handlers; docs/webhook-handlers.md shows how to write one.",
    )
