"""``ticketgate db``: the tables brought up to date, checked, backed up while the daemon runs, and
copied to another database.

What can go wrong: the check or the backup finds damage (exit 65, everything is told), the target of
a copy is not empty (65), the database or the disk is away or full (75). A database is never left
half changed.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.opening import explained, named_file, run
from gateway.cli.output import AsJson, emit, progress, table
from gateway.daemon.assemble import Installation
from gateway.store.sql import nodes

if TYPE_CHECKING:
    from config.settings import Settings
    from gateway.store.queues.blobs import Blobs
    from gateway.store.upkeep.backup import Backup
    from gateway.store.upkeep.check import CheckReport
    from gateway.store.upkeep.copy import CopiedTable

app = typer.Typer(no_args_is_help=True, help="Migrations, check, backup, copy.")


@app.command()
def upgrade(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the tables to the form this program needs; nothing happens when they have it."""

    async def act() -> tuple[str | None, str]:
        from gateway.store.engine import HEAD, Database, migrate, schema_version

        url = _settings(context).database.url
        database = await Database.open(url, node=nodes.own(), check_schema=False)
        try:
            before = await schema_version(database)
        finally:
            await database.close()
        await migrate(url)
        return before, HEAD

    with explained():
        before, after = asyncio.run(act())
    if as_json:
        emit({"before": before, "after": after})
    else:
        print(
            f"the tables stand at {after}"
            + ("" if before == after else f", before at {before or 'nothing'}")
        )


@app.command()
def check(context: typer.Context, as_json: AsJson = False) -> None:
    """Look whether every reference, number, raw mail and blob is as it must be. Damage is exit 65."""

    async def act() -> CheckReport:
        from gateway.store.engine import Database
        from gateway.store.upkeep.check import check as look

        database = await Database.open(
            _settings(context).database.url, node=nodes.own(), check_schema=False
        )
        try:
            with progress("checking", None) as step:
                return await look(database, _blobs(context), lambda _what, steps: step(steps))
        finally:
            await database.close()

    with explained():
        report = asyncio.run(act())
    findings = [asdict(finding) for finding in report.findings]
    if as_json:
        emit(
            {
                "ok": report.sound,
                "mails": report.mails,
                "blobs": report.blobs,
                "findings": findings,
                "spare_blobs": report.spare,
            }
        )
    else:
        print(
            f"{report.mails} mails and {report.blobs} blobs looked at: "
            f"{'all is well' if report.sound else 'damage found'}"
        )
        if findings:
            table(
                ("check", "count", "what"),
                [(each["check"], each["count"], each["detail"]) for each in findings],
            )
        if report.spare:
            print(f"{len(report.spare)} blobs belong to no mail; that is no damage")
    if not report.sound:
        raise typer.Exit(os.EX_DATAERR)


@app.command()
def backup(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="A new file; the large mails go into FILE.blobs beside it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Back up everything while the daemon runs, and prove the backup before it gets its name.
    Missing blobs are exit 65.
    """

    async def act(opened: Installation) -> Backup:
        from gateway.store.upkeep.backup import backup as save
        from gateway.store.upkeep.backup import page_count

        with progress("backing up", await page_count(opened.database)) as step:
            return await save(
                opened.database, _blobs(context), file, lambda _what, steps: step(steps)
            )

    done = run(context, act)
    if as_json:
        emit(
            {
                "file": str(file),
                "rows": done.rows,
                "blobs": done.blobs,
                "missing_blobs": list(done.missing),
            }
        )
    else:
        print(f"{file}: {sum(done.rows.values())} rows and {done.blobs} blobs, proven")
        for key in done.missing:
            print(f"missing in the blob store: {key}")
    if done.missing:
        raise typer.Exit(os.EX_DATAERR)


@app.command()
def copy(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="sqlite:///path or postgresql://user@host/name")],
    as_json: AsJson = False,
) -> None:
    """Copy everything into the empty database at URL, of either kind, and compare what arrived row
    by row. Blobs stay where they are.
    """

    async def act(opened: Installation) -> list[CopiedTable]:
        from gateway.store.upkeep.copy import copy as carry
        from gateway.store.upkeep.copy import count

        with progress("copying rows", await count(opened.database)) as step:
            return await carry(opened.database, url, lambda _table, rows: step(rows))

    copied = run(context, act)
    if as_json:
        emit({"tables": [asdict(each) for each in copied]})
    else:
        table(
            ("table", "rows", "digest"),
            [(each.name, each.rows, each.digest[:16]) for each in copied],
        )


def _blobs(context: typer.Context) -> Blobs:
    from gateway.store.queues.blobs import open_blobs

    return open_blobs(_settings(context).blobs.url)


def _settings(context: typer.Context) -> Settings:
    from config.load import load

    return load(named_file(context), os.environ).settings
