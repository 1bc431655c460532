"""``ticketgate db``: upgrade the schema, check the data, back it up, copy it to another database.

Exit codes: 65 when check or backup finds damage, or when the target of a copy is not empty; 75 when
a database does not answer, or when a disk is full. All damage is listed. No database is left half
changed.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.group import App
from gateway.cli.opening import explained, loaded_as_owner, named_file, run
from gateway.cli.option_values import AsJson
from gateway.cli.output import count, emit, progress, say, table
from gateway.cli.places import refuse_absent
from gateway.daemon.assemble import Installation, refuse_missing_database
from gateway.store.sql import nodes

if TYPE_CHECKING:
    from config.load import Loaded
    from gateway.store.queues.blobs import Blobs
    from gateway.store.upkeep.backup import Backup
    from gateway.store.upkeep.check import CheckReport
    from gateway.store.upkeep.copy import CopiedTable

app = App("Upgrade, check, back up and copy the database.")


@app.command()
def upgrade(context: typer.Context, as_json: AsJson = False) -> None:
    """Upgrade the database to the schema that this version needs."""
    with explained():
        settings = _loaded(context).settings
        refuse_missing_database(settings)
        before, after = asyncio.run(_upgrade(settings.database.url))
    if as_json:
        emit({"before": before, "after": after})
    elif before == after:
        say(f"schema is already at {after}")
    else:
        say(f"schema upgraded from {before or 'nothing'} to {after}")


async def _upgrade(url: str) -> tuple[str | None, str]:
    """Upgrade a schema; return its versions before and after."""
    from gateway.store.engine import HEAD, Database, migrate, schema_version

    database = await Database.open(url, node=nodes.own(), check_schema=False)
    try:
        before = await schema_version(database)
    finally:
        await database.close()
    await migrate(url)
    return before, HEAD


@app.command()
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Check all references, numbers, raw mails and blobs. Damage makes the exit code 65."""
    with explained():
        loaded = _loaded(context)
        refuse_absent(loaded)
        report = asyncio.run(_check(loaded.settings.database.url, _blobs(context)))
    if as_json:
        counts = {"ok": report.sound, "mails": report.mails, "blobs": report.blobs}
        findings = [asdict(finding) for finding in report.findings]
        emit(counts | {"findings": findings, "spare_blobs": report.spare})
    else:
        _show_report(report)
    if not report.sound:
        raise typer.Exit(os.EX_DATAERR)


async def _check(url: str, blobs: Blobs) -> CheckReport:
    from gateway.store.engine import Database
    from gateway.store.upkeep.check import check as look

    database = await Database.open(url, node=nodes.own(), check_schema=False)
    try:
        with progress("checking", None) as step:
            return await look(database, blobs, lambda _what, steps: step(steps))
    finally:
        await database.close()


def _show_report(report: CheckReport) -> None:
    checked = f"{count(report.mails, 'mail')} and {count(report.blobs, 'blob')}"
    say(f"checked {checked}: {'no damage' if report.sound else 'damage found'}")
    if report.findings:
        rows = [(each.check, each.count, each.detail) for each in report.findings]
        table(("Check", "Count", "What"), rows)
    if report.spare:
        say(f"{count(len(report.spare), 'spare blob')} without a mail; that is no damage")


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The file to create; large mails go into the folder FILE.blobs beside it.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Back up everything and verify it; the daemon may run. Lost blobs make the exit code 65."""
    done = run(context, lambda opened: _save(opened, _blobs(context), file))
    if as_json:
        written = {"file": str(file), "rows": done.rows, "blobs": done.blobs}
        emit(written | {"missing_blobs": list(done.missing)})
    else:
        rows = count(sum(done.rows.values()), "row")
        say(f"{file}: {rows} and {count(done.blobs, 'blob')}, verified")
        for key in done.missing:
            say(f"missing in the blob store: {key}")
    if done.missing:
        raise typer.Exit(os.EX_DATAERR)


async def _save(opened: Installation, blobs: Blobs, file: Path) -> Backup:
    from gateway.store.upkeep.backup import backup as save
    from gateway.store.upkeep.backup import page_count

    with progress("backing up", await page_count(opened.database)) as step:
        return await save(opened.database, blobs, file, lambda _what, steps: step(steps))


@app.command()
def copy(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The empty database: sqlite:///path or postgresql://user@host/name."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Copy all rows into an empty database and compare them. Blobs stay where they are."""

    async def act(opened: Installation) -> list[CopiedTable]:
        from gateway.store.upkeep.copy import copy as carry
        from gateway.store.upkeep.copy import count as count_rows

        with progress("copying rows", await count_rows(opened.database)) as step:
            return await carry(opened.database, url, lambda _table, rows: step(rows))

    copied = run(context, act)
    if as_json:
        emit({"tables": [asdict(each) for each in copied]})
    else:
        table(
            ("Table", "Rows", "Digest"),
            [(each.name, each.rows, each.digest[:16]) for each in copied],
        )


def _blobs(context: typer.Context) -> Blobs:
    from gateway.store.queues.blobs import open_blobs

    return open_blobs(_loaded(context).settings.blobs.url)


def _loaded(context: typer.Context) -> Loaded:
    return loaded_as_owner(named_file(context))
