"""A tenant's settings as the API takes and shows them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from crossdock.features.identity.models import TenantSetting
from crossdock.http.schemas import AnyJson, Input, View

Category = Annotated[str, Path(pattern=r"^[a-z0-9_.-]{1,100}$", description="Such as `notifications`.")]
Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="Such as `daily_report`.")]


class SettingValue(Input):
    """A setting's value, any JSON up to 64 KiB; not a place for secrets, which the audit log would keep."""

    value: AnyJson = Field(description="Any JSON, null too.")


class SettingView(View):
    """A setting."""

    category: str
    key: str
    value: Any
    updated_by: str
    updated_at: datetime

    @classmethod
    def of(cls, setting: TenantSetting) -> "SettingView":
        """The view of a stored setting."""
        return cls.model_validate(setting)
