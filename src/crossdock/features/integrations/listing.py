"""What a list of integrations is narrowed by."""

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, or_

from crossdock.features.integrations.models import Environment, Health, Integration, IntegrationStatus

QueryT = TypeVar("QueryT", bound=Select[Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which integrations a list shows: those that are all of what is given."""

    text: str | None = None
    provider: str | None = None
    category: str | None = None
    status: IntegrationStatus | None = None
    environment: Environment | None = None
    owner: str | None = None
    health: Health | None = None

    def narrowing(self, query: QueryT) -> QueryT:
        """The query with these conditions."""
        for name in ("provider", "category", "status", "environment", "owner", "health"):
            value = getattr(self, name)
            if value is not None:
                query = query.where(getattr(Integration, name) == value)
        if self.text:
            places = (Integration.name, Integration.description, Integration.owner, Integration.external_id)
            query = query.where(or_(*(place.icontains(self.text, autoescape=True) for place in places)))
        return query
