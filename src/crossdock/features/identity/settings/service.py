"""What one can do with a tenant's settings (requirement T7)."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.db import audit
from crossdock.db.audit import Actor
from crossdock.features.identity.models import TenantSetting
from crossdock.features.identity.settings import repository
from crossdock.http.pagination import PageRequest
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault, InvalidInputError, NotFoundError

_MAX_VALUE_BYTES = 65_536


class SettingService:
    """Reads and writes settings by category and key, with old and new values in the audit log."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    async def on_page(
        self, session: AsyncSession, tenant_id: UUID, page: PageRequest, *, category: str | None = None
    ) -> Sequence[TenantSetting]:
        """The tenant's settings, by category and key."""
        return await repository.settings_on_page(session, tenant_id, page, category=category)

    async def get(self, session: AsyncSession, tenant_id: UUID, category: str, key: str) -> TenantSetting:
        """One setting. Raises NotFoundError."""
        setting = await repository.setting_at(session, tenant_id, category, key)
        if setting is None:
            raise NotFoundError(f"There is no setting {category}/{key}.")
        return setting

    async def put(
        self,
        session: AsyncSession,
        *,
        tenant_id: UUID,
        actor: Actor,
        category: str,
        key: str,
        value: Any,  # noqa: ANN401 - any JSON
    ) -> TenantSetting:
        """Set a value. Raises InvalidInputError when it is too large."""
        if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) > _MAX_VALUE_BYTES:
            message = f"A setting's value may have {_MAX_VALUE_BYTES} bytes as JSON."
            raise InvalidInputError(message, (Fault("/value", "is too large"),))
        await repository.lock_tenants_settings(session, tenant_id)
        setting = await repository.setting_at(session, tenant_id, category, key)
        old = None if setting is None else {"value": setting.value}
        if setting is None:
            setting = TenantSetting(tenant_id=tenant_id, category=category, key=key)
            session.add(setting)
        setting.value = value
        setting.updated_by, setting.updated_at = actor.id, self._clock.now()
        _record(session, setting, actor, "setting.changed", old=old, new={"value": value})
        await session.flush()
        return setting

    async def remove(self, session: AsyncSession, *, tenant_id: UUID, actor: Actor, category: str, key: str) -> None:
        """Remove a setting. Raises NotFoundError."""
        await repository.lock_tenants_settings(session, tenant_id)
        setting = await self.get(session, tenant_id, category, key)
        _record(session, setting, actor, "setting.removed", old={"value": setting.value}, new=None)
        await session.delete(setting)


def _record(
    session: AsyncSession,
    setting: TenantSetting,
    actor: Actor,
    action: str,
    *,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
) -> None:
    audit.record(
        session,
        tenant_id=setting.tenant_id,
        actor=actor,
        action=action,
        entity_kind="setting",
        entity_id=f"{setting.category}/{setting.key}",
        old=old,
        new=new,
    )
