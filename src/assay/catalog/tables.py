"""The rows of a catalog in SQL: plain types, so that any database can hold them. All of it is rebuilt from the journal.

Times are whole microseconds since 1970, UTC. Text is compared by code point where order matters (names and aliases are
ASCII), which is SQLite's default, and PostgreSQL's collation "C".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

SCHEMA = 2
"""Number of this layout. A catalog with another number is rebuilt by the next writer."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Utc(TypeDecorator[datetime]):
    """A time with zone UTC, kept as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        """To the database."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - likewise
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


_NAME = String(255).with_variant(String(255, collation="C"), "postgresql")

metadata = MetaData()

models = Table(
    "models",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("versions", Integer, nullable=False, comment="how many; also the newest number"),
)

versions = Table(
    "versions",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("manifest", String(140), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("created", Utc, nullable=False),
    Column("actor", Text, nullable=False),
    Column("purged", Text),
    Column("yanked", Text),
    Column("removed", Text),
    Column("pinned", Text),
    Index("versions_by_manifest", "manifest", "name", "number"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("alias", _NAME, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("moved", Utc, nullable=False),
    Column("actor", Text, nullable=False),
    ForeignKeyConstraint(["name", "number"], ["versions.name", "versions.number"]),
)

referrers = Table(
    "referrers",
    metadata,
    Column("subject", String(140), primary_key=True),
    Column("manifest", String(140), primary_key=True),
    Column("sequence", BigInteger, nullable=False, comment="the event, for the order"),
    Column("artifact_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created", Utc, nullable=False),
    Index("referrers_in_order", "subject", "sequence"),
)

events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(40), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("at", Utc, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", Text, nullable=False, comment="canonical JSON"),
    Index("events_by_kind", "kind", "sequence"),
)

event_names = Table(
    "event_names",
    metadata,
    Column("name", _NAME, primary_key=True, comment="a model in whose history the event belongs"),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
)

applied = Table(
    "applied",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, comment="always 1"),
    Column("schema", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("check", String(64), nullable=False),
    Column("length", Integer, nullable=False),
)
"""How far the journal is applied: the fields of a ``journal.Mark``."""
