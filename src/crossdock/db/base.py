"""What all tables share: the naming of constraints, the base model and the column types."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Enum, MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase

_NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


class Base(DeclarativeBase):
    """The base of every model; `tenant_id` comes first in each tenant table's primary key."""

    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads this name as a plain dict
        datetime: TIMESTAMP(timezone=True),
        UUID: PG_UUID(as_uuid=True),
        str: Text,
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


def native_enum(enum: type[StrEnum], name: str) -> Enum:
    """The PostgreSQL enum type `name`, holding the values of `enum` (not their Python names)."""
    return Enum(enum, name=name, values_callable=lambda members: [member.value for member in members])
