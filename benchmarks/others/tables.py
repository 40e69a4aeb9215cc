"""The tables for SQLAlchemy: the same attributes and references as `benchmarks.model.Item` has."""

from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, LargeBinary, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

THREADS_MAX = 64


class Base(DeclarativeBase):
    """What the tables have in common."""


class Row(Base):
    """A few columns and three references to other rows."""

    __tablename__ = "items"
    number: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[float]
    tags: Mapped[Any] = mapped_column(JSON)
    left_number: Mapped[int | None] = mapped_column(ForeignKey("items.number"))
    right_number: Mapped[int | None] = mapped_column(ForeignKey("items.number"))
    other_number: Mapped[int | None] = mapped_column(ForeignKey("items.number"))
    left: Mapped["Row"] = relationship(foreign_keys=[left_number], remote_side=[number])
    right: Mapped["Row"] = relationship(foreign_keys=[right_number], remote_side=[number])


class IntegerEntry(Base):
    """An integer as key, and a value."""

    __tablename__ = "integer_entries"
    key: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class TextEntry(Base):
    """A string as key, and a value."""

    __tablename__ = "text_entries"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class Large(Base):
    """Large data."""

    __tablename__ = "large"
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


ENTRIES: dict[str, Any] = {"int_tree": IntegerEntry, "str_tree": TextEntry}


def opened(path: Path) -> Engine:
    """Open the database, with its tables."""
    engine = create_engine(
        f"sqlite:///{path}", pool_size=THREADS_MAX, connect_args={"timeout": 120}
    )
    event.listen(engine, "connect", _safe)
    Base.metadata.create_all(engine)
    return engine


def _safe(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def session_class(engine: Engine) -> Any:
    """Return what makes sessions whose objects keep their state over commits."""
    return sessionmaker(engine, expire_on_commit=False)


def every(table: Any) -> Any:
    """Return the query for all rows."""
    return select(table)


def in_order(entry: Any) -> Any:
    """Return the query for keys and values, by key."""
    return select(entry.key, entry.value).order_by(entry.key)


def make_rows(count: int) -> list[Row]:
    """Return rows that form the same tree as `make_items` makes."""
    return [
        Row(
            number=number,
            title=f"item number {number}",
            price=number / 8,
            tags=["small", "blue"],
            left_number=_within(2 * number + 1, count),
            right_number=_within(2 * number + 2, count),
            other_number=number * 7919 % count,
        )
        for number in range(count)
    ]


def _within(number: int, count: int) -> int | None:
    return number if number < count else None
