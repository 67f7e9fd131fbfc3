"""How an integration goes from state to state: with its log, the audit, and the events that tell others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.connectors.manifest import AuthMethod, CredentialField, Manifest
from crossdock.db.audit import Actor, record
from crossdock.db.outbox import announce
from crossdock.features.integrations.configuration import check_auth
from crossdock.features.integrations.credentials import Credentials, missing
from crossdock.features.integrations.models import (
    Health,
    Integration,
    IntegrationLogEntry,
    IntegrationStatus,
    LogLevel,
)
from crossdock.features.integrations.schemas import IntegrationDetail
from crossdock.kit.ids import IdKind, format_id, new_uuid

ENTITY_KIND = "integration"

_ACTIVE = IntegrationStatus.ACTIVE
_LEVELS = {IntegrationStatus.ERROR: LogLevel.ERROR, IntegrationStatus.PENDING_AUTH: LogLevel.WARNING}


class Chronicle:
    """Writes down what happens to integrations, in the caller's transaction."""

    def __init__(self, session: AsyncSession, *, actor: Actor, now: datetime) -> None:
        self._session = session
        self._actor = actor
        self._now = now

    def created(self, integration: Integration) -> None:
        """It is there."""
        self._audit(integration, "created", old=None, new=shown(integration))
        self.log(integration, LogLevel.INFO, "created", "Created.")
        self._announce(integration, "created", status=integration.status.value)

    def changed(self, integration: Integration, old: Mapping[str, Any]) -> None:
        """Its settings are other ones; `old` is what was shown before. What changed is named, secrets are not told."""
        new = shown(integration)
        names = sorted(name for name in new if new[name] != old[name] and name not in _NOISE)
        if not names:
            return
        self._audit(integration, "updated", old={n: old[n] for n in names}, new={n: new[n] for n in names})
        self.log(integration, LogLevel.INFO, "changed", f"Changed: {', '.join(names)}.")
        self._announce(integration, "updated", changed=names)

    def deleted(self, integration: Integration) -> None:
        """It is gone."""
        self._audit(integration, "deleted", old=shown(integration), new=None)
        if integration.status is _ACTIVE:
            self._announce(integration, "disconnected", error="The integration was deleted.")
        self._announce(integration, "deleted")

    def moved(self, integration: Integration, status: IntegrationStatus, reason: str | None) -> None:
        """Put it into this state, for this reason; nothing happens to one that is there for the same reason."""
        old = integration.status
        if (old, integration.status_reason) == (status, reason):
            return
        before = {"status": old.value, "status_reason": integration.status_reason}
        integration.status = status
        integration.status_reason = reason
        integration.updated_at = self._now
        integration.updated_by = self._actor.id
        if old is not status:
            integration.status_changed_at = self._now
            integration.check_due_at = self._now if status is _ACTIVE else None
            if status not in {_ACTIVE, IntegrationStatus.ERROR}:
                integration.health, integration.health_reason, integration.failed_checks = Health.UNKNOWN, None, 0
        self._audit(integration, status.value, old=before, new={"status": status.value, "status_reason": reason})
        self.log(
            integration,
            _LEVELS.get(status, LogLevel.INFO),
            status.value,
            reason or f"Is {status.value} now.",
            {"from": old.value},
        )
        if old is not status:
            self._announce_move(integration, old, reason)

    def log(
        self,
        integration: Integration,
        level: LogLevel,
        action: str,
        message: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a line to its log."""
        self._session.add(
            IntegrationLogEntry(
                tenant_id=integration.tenant_id,
                id=new_uuid(),
                integration_id=integration.id,
                level=level,
                action=action,
                message=message,
                details=details,
                correlation_id=self._actor.correlation_id,
                at=self._now,
            )
        )

    def _announce_move(self, integration: Integration, old: IntegrationStatus, reason: str | None) -> None:
        status = integration.status
        if status is _ACTIVE:
            self._announce(integration, "connected", status=status.value)
        elif status is IntegrationStatus.ERROR:
            self._announce(integration, "error", error=reason)
        elif status is IntegrationStatus.DISCONNECTED or (
            old is _ACTIVE and status in {IntegrationStatus.PENDING_AUTH, IntegrationStatus.PENDING_VALIDATION}
        ):
            self._announce(integration, "disconnected", error=reason, status=status.value)
        else:
            self._announce(integration, "updated", changed=["status"], status=status.value)

    def _announce(self, integration: Integration, what: str, **more: Any) -> None:  # noqa: ANN401 - any JSON
        announce(
            self._session,
            tenant_id=integration.tenant_id,
            event_type=f"integration.{what}",
            data={
                "integration_id": format_id(IdKind.INTEGRATION, integration.id),
                "name": integration.name,
                "provider": integration.provider,
                "category": integration.category,
                "environment": integration.environment.value,
                "owner": integration.owner,
                **more,
            },
            correlation_id=self._actor.correlation_id,
        )

    def _audit(
        self, integration: Integration, what: str, *, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
    ) -> None:
        record(
            self._session,
            tenant_id=integration.tenant_id,
            actor=self._actor,
            action=f"integration.{what}",
            entity_kind=ENTITY_KIND,
            entity_id=format_id(IdKind.INTEGRATION, integration.id),
            old=old,
            new=new,
        )


_NOISE = frozenset(
    {"updated_at", "updated_by", "revision", "status", "status_reason", "status_changed_at", "health", "checked_at"}
)


def shown(integration: Integration) -> dict[str, Any]:
    """The integration as the API shows it: without secrets."""
    return IntegrationDetail.whole(integration).model_dump(mode="json")


def waiting_state(
    integration: Integration,
    *,
    manifest: Manifest,
    method: AuthMethod,
    asked: tuple[CredentialField, ...],
    credentials: Credentials,
) -> tuple[IntegrationStatus, str]:
    """What an integration that is not active yet waits for: credentials, a person's consent, or its test."""
    lacking = missing(credentials, asked)
    if lacking:
        return IntegrationStatus.PENDING_AUTH, f"It waits for its credentials: {', '.join(lacking)}."
    if check_auth(method, integration.config) and integration.authorized_at is None:
        link = f"POST /api/v1/integrations/{format_id(IdKind.INTEGRATION, integration.id)}/oauth/start"
        reason = f"It waits for a person's consent at {manifest.name}: {link} gives the address to open."
        return IntegrationStatus.PENDING_AUTH, reason
    return IntegrationStatus.PENDING_VALIDATION, "Its connection has not been tested yet."
