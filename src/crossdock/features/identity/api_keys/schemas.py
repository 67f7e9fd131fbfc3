"""API keys as the API takes and shows them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from crossdock.features.identity.models import ApiKey
from crossdock.http.schemas import Input, ShortName, View
from crossdock.kit.ids import IdKind, format_id
from crossdock.kit.permissions import Permission

DEFAULT_RATE_PER_HOUR = 1_000

Scopes = Annotated[list[Permission], Field(min_length=1, max_length=len(Permission))]
RatePerHour = Annotated[int, Field(ge=1, le=2_147_483_647, description="Requests per clock hour.")]


class KeyStatus(StrEnum):
    """Whether a key opens."""

    ACTIVE = "active"
    ROTATED = "rotated"
    EXPIRED = "expired"
    REVOKED = "revoked"


class NewApiKey(Input):
    """A key to create."""

    name: ShortName
    scopes: Scopes
    expires_at: AwareDatetime | None = None
    rate_limit_per_hour: RatePerHour | None = Field(default=None, description="1,000 if not given.")


class ApiKeyChange(Input):
    """What to change of a key; scopes can only become fewer."""

    name: ShortName | None = None
    scopes: Scopes | None = None
    rate_limit_per_hour: RatePerHour | None = None


class Rotation(Input):
    """How to rotate a key."""

    grace_period_s: Annotated[int, Field(ge=0, le=30 * 86_400)] = Field(
        default=86_400, description="Seconds for which the old key works beside the new one."
    )


class ApiKeyView(View):
    """A key, without the key itself."""

    id: str
    name: str
    start: str = Field(description="The first characters after `cdk_`, to recognize the key by.")
    status: KeyStatus
    scopes: list[str]
    rate_limit_per_hour: int
    expires_at: datetime | None
    created_by: str
    created_at: datetime
    replaced_by: str | None
    works_until: datetime | None = Field(description="End of the grace period of a rotated key.")
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    usage_count: int
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey, now: datetime) -> "ApiKeyView":
        """The view of a stored key at this moment."""
        return cls(**_fields(key, now))


class CreatedApiKey(ApiKeyView):
    """A key just made; `key` is shown this once."""

    key: str

    @classmethod
    def made(cls, key: ApiKey, text: str, now: datetime) -> "CreatedApiKey":
        """The view of a stored key, with the key itself."""
        return cls(**_fields(key, now), key=text)


class RotatedApiKey(CreatedApiKey):
    """The successor of a rotated key; `key` is shown this once."""

    replaces: str
    old_works_until: datetime | None

    @classmethod
    def succeeding(cls, old: ApiKey, successor: ApiKey, text: str, now: datetime) -> "RotatedApiKey":
        """The view of a stored successor, with the key itself."""
        return cls(
            **_fields(successor, now),
            key=text,
            replaces=format_id(IdKind.API_KEY, old.id),
            old_works_until=old.works_until,
        )


def status_of(key: ApiKey, now: datetime) -> KeyStatus:
    """Whether the key opens at this moment."""
    if key.revoked_at is not None:
        return KeyStatus.REVOKED
    if any(end is not None and end <= now for end in (key.expires_at, key.works_until)):
        return KeyStatus.EXPIRED
    return KeyStatus.ACTIVE if key.replaced_by is None else KeyStatus.ROTATED


def _fields(key: ApiKey, now: datetime) -> dict[str, object]:
    return {
        "id": format_id(IdKind.API_KEY, key.id),
        "replaced_by": None if key.replaced_by is None else format_id(IdKind.API_KEY, key.replaced_by),
        "status": status_of(key, now),
        "usage_count": key.usage_count or 0,
        **{name: getattr(key, name) for name in _COPIED},
    }


_COPIED = (
    "name",
    "start",
    "scopes",
    "rate_limit_per_hour",
    "expires_at",
    "created_by",
    "created_at",
    "works_until",
    "revoked_at",
    "revoked_by",
    "revoked_reason",
    "last_used_at",
)
