"""Tests of the column types, with any value that a mail may contain."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.store.schema import tables
from gateway.store.schema.types import clean, encode, instant, microseconds

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    '\0\ud800\udfffa\u0301é\u212b\n"\\nu0000\U0001f600', max_size=30
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=8,
)


def storable(text: str) -> bool:
    return (
        "\0" not in text
        and not any("\ud800" <= each <= "\udfff" for each in text)
        and unicodedata.is_normalized("NFC", text)
    )


@given(ANY_TEXT, st.none() | st.integers(0, 40))
def test_clean_text_can_be_stored_and_is_cut(text, limit):
    """Clean text has no NUL or lone surrogate, is NFC and short enough, idempotently."""
    found = clean(text, limit)
    assert storable(found)
    assert limit is None or len(found) <= limit
    assert clean(found, limit) == found


def cleaned(value):
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(key): cleaned(item) for key, item in value.items()}
        case list():
            return [cleaned(item) for item in value]
        case _:
            return value


@given(JSON)
@example(["\n\u0303"])
@example({"a": "\0", "\0": "\\u0000"})
@example(["<\u0338", "=\u0338"])
def test_documents_hold_clean_strings_and_stay_json(value):
    """A document keeps its value, with its strings cleaned and escapes intact."""
    text = encode(value)
    assert storable(text) or "\\" in text
    assert "\0" not in text
    assert json.loads(text) == cleaned(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1j}])
def test_values_outside_json_are_refused(value):
    """A value that JSON cannot express is refused."""
    with pytest.raises((TypeError, ValueError)):
        encode(value)


@given(st.datetimes(timezones=st.timezones()))
def test_instants_keep_their_microseconds(value):
    """An instant comes back in UTC, to the microsecond, whatever its zone."""
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        return
    assert instant(microseconds(value)) == utc
    assert instant(microseconds(value)).utcoffset() == timedelta(0)


def test_a_time_without_zone_is_refused():
    """A naive time raises at once."""
    with pytest.raises(ValueError):
        microseconds(datetime(2026, 1, 1))  # noqa: DTZ001


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            ANY_TEXT,
            JSON,
            st.datetimes(
                datetime(1, 1, 3),  # noqa: DTZ001
                datetime(9999, 12, 29),  # noqa: DTZ001
                timezones=st.just(timezone(timedelta(hours=2))),
            ),
        ),
        min_size=1,
        max_size=20,
    )
)
async def test_both_databases_give_back_what_they_were_given(store, rows):
    """Values come back as their types guarantee, written singly or in bulk."""
    from gateway.store.sql.bulk import write_rows

    table = tables.merge
    values = [
        {"kind": "join", "at": when, "moved": [document, text]} for text, document, when in rows
    ]
    names = [
        {"address": f"{place}", "name": text, "id": place, "created_at": when}
        for place, (text, _, when) in enumerate(rows)
    ]
    async with store.write() as connection:
        await connection.execute(sa.delete(table))
        await connection.execute(sa.delete(tables.contact))
        await write_rows(connection, [(table, values[:-1]), (tables.contact, names)])
        await connection.execute(sa.insert(table).values(values[-1]))
    async with store.read() as connection:
        found = (
            await connection.execute(sa.select(table.c.at, table.c.moved).order_by(table.c.id))
        ).all()
        people = (
            (
                await connection.execute(
                    sa.select(tables.contact.c.name).order_by(tables.contact.c.id)
                )
            )
            .scalars()
            .all()
        )
    assert [row.at for row in found] == [when.astimezone(UTC) for _, _, when in rows]
    assert [row.moved for row in found] == [cleaned([document, text]) for text, document, _ in rows]
    assert people == [clean(text, 500) for text, _, _ in rows]
