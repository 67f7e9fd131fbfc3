"""The one list of modules that define tables, so that Alembic sees them all."""

from importlib import import_module

_MODEL_MODULES = (
    "crossdock.db.audit",
    "crossdock.db.outbox",
    "crossdock.features.identity.models",
    "crossdock.features.events.models",
    "crossdock.features.vault.models",
    "crossdock.features.deliveries.models",
    "crossdock.features.inbound.models",
    "crossdock.features.integrations.models",
    "crossdock.features.integrations.calls.models",
    "crossdock.features.integrations.oauth.models",
    "crossdock.features.integrations.shared.models",
    "crossdock.features.alerts.models",
)


def import_models() -> None:
    """Register every table with the base's metadata."""
    for module in _MODEL_MODULES:
        import_module(module)
