"""``replay``: process mail from files as if it arrived in the order of the files (interfaces.md 4).

``--dry-run`` runs the same code and rolls the changes back. Unreadable files are listed on stderr
at the end, with exit code 65; all other files are processed.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from core.mail.threading import JoinPolicy
from core.model.message import Envelope, Message
from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import AsJson, one_of
from gateway.cli.output import emit, progress, say
from gateway.cli.usage_errors import options_checked
from gateway.clock import Clock
from gateway.daemon.assemble import Installation
from gateway.ingress.accept import Acceptor
from gateway.ingress.mail_files import FoundMail, Unreadable, iter_paths
from gateway.intake.batch import Rules
from gateway.intake.worker import Intake
from gateway.store.engine import Database
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Finished, Spool
from gateway.store.setup import channels
from gateway.store.tickets import threads
from gateway.store.upkeep.rehearsal import rehearsal

GROUP = 256  # mails in memory at a time
app = App("Process .eml files, mboxes and Maildirs.")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command; ``channel`` gets mail that is addressed to no channel.

    If ``join`` is None, the configured value applies.
    """

    dry_run: bool = False
    by_date: bool = False
    automation: bool = True
    channel: str | None = None
    join: JoinPolicy | None = None


@dataclass(slots=True)
class Tally:
    """What a replay did: the file of each mail id, results, held mails, unreadable files."""

    files: dict[int, str] = field(default_factory=dict)
    rows: list[Finished] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


class DateClock:
    """A clock for ``--clock date`` that follows the Date of each mail, but never goes back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: datetime | None = None

    def now_of(self, message: Message) -> datetime:
        """Return the Date of a mail, or the time that the last call returned if that is later.

        For a mail without a Date, return the time that the last call returned. If there was no call
        before, return the present time.
        """
        date = message.date or self._last or self._clock.now()
        self._last = date if self._last is None else max(self._last, date)
        return self._last


async def replay(
    opened: Installation, paths: Sequence[Path], options: Options
) -> tuple[Tally, dict[int, tuple[int, int | None]]]:
    """Process the mail in ``paths``; return the results, and the final place of each thread.

    The places map the thread id in a result to the (thread, ticket) where the mail is at the end,
    after all joins and merges.
    """
    tally = Tally()
    async with AsyncExitStack() as stack:
        database: Database = opened.database
        spool = await opened.spool()
        if options.dry_run:
            database = await stack.enter_async_context(rehearsal(database))
            folder = stack.enter_context(TemporaryDirectory(prefix="ticketgate-"))
            spool = Spool(database, open_blobs(f"file://{folder}"))
        now_of = DateClock(opened.clock).now_of if options.by_date else None
        rules = await _rules(opened, options)
        intake = Intake(database, spool, await opened.sandbox(), rules, opened.clock, now_of=now_of)
        accept = Acceptor(spool, opened.limits, opened.incoming, wake=lambda: None)
        await _all(paths, options, accept, intake, tally)
        async with database.read() as connection:
            where = await threads.finally_at(
                connection, {row.thread_id for row in tally.rows if row.thread_id}
            )
    return tally, where


async def _rules(opened: Installation, options: Options) -> Rules:
    """Return the rules of this run; raise NotFound if ``--channel`` names no channel."""
    rules = replace(opened.rules, join=options.join or opened.rules.join)
    if options.channel is None:
        return rules
    async with opened.database.read() as connection:
        channel = await channels.at(connection, options.channel)
    return replace(rules, fallback=channel.address)


async def _all(
    paths: Sequence[Path], options: Options, accept: Acceptor, intake: Intake, tally: Tally
) -> None:
    group: list[FoundMail] = []
    with progress("mails", None) as advance:
        for found in iter_paths(paths):
            if isinstance(found, Unreadable):
                tally.unreadable.append(found)
                continue
            group.append(found)
            if len(group) == GROUP:
                await _group(group, options, accept, intake, tally)
                advance(len(group))
                group = []
        await _group(group, options, accept, intake, tally)
        advance(len(group))


async def _group(
    group: Sequence[FoundMail], options: Options, accept: Acceptor, intake: Intake, tally: Tally
) -> None:
    """Store raw mails in one commit, then process them; both in the order of the files."""
    if not group:
        return
    receipts = await accept.accept_all(
        [(found.raw, _envelope(intake.clock, options, found)) for found in group]
    )
    ids = [receipt.mail_id for receipt in receipts]
    tally.files.update(zip(ids, (found.file for found in group), strict=True))
    done = await intake.drain(ids)
    tally.rows += done
    tally.held += sorted(set(ids) - {row.mail_id for row in done})


def _envelope(clock: Clock, options: Options, found: FoundMail) -> Envelope:
    now, automation = clock.now(), options.automation
    return Envelope(
        None, (), "replay", now, trusted_hop=True, origin=found.file, automation=automation
    )


def lines(tally: Tally, where: dict[int, tuple[int, int | None]]) -> list[dict[str, Any]]:
    """Return one document for each mail, in processing order (interfaces.md 4)."""
    finished = {row.mail_id: row for row in tally.rows}
    return [
        _line(mail_id, file, finished.get(mail_id), where) for mail_id, file in tally.files.items()
    ]


def _line(
    mail_id: int, file: str, row: Finished | None, where: dict[int, tuple[int, int | None]]
) -> dict[str, Any]:
    if row is None:
        return _held_line(mail_id, file)
    thread, ticket = where.get(row.thread_id or 0, (row.thread_id, row.ticket))
    result = row.outcome
    return {
        "file": file,
        "mail_id": mail_id,
        "message_id": row.message_id,
        "outcome": row.state,
        "kind": row.kind,
        "sender_role": result["sender_role"],
        "ticket": ticket,
        "thread": thread,
        "created_ticket": result["created_ticket"],
        "matched_by": result["matched_by"],
        "status": result["status"] if ticket is not None else None,
        "close_date": result["close_date"],
        "decisions": result["decisions"],
        "reason": row.reason,
    }


def _held_line(mail_id: int, file: str) -> dict[str, Any]:
    """Return the document of a mail whose processing failed."""
    unknown = ("message_id", "kind", "sender_role", "ticket", "thread", "matched_by", "status")
    return {
        "file": file,
        "mail_id": mail_id,
        **dict.fromkeys((*unknown, "close_date")),
        "outcome": "held",
        "created_ticket": False,
        "decisions": [],
        "reason": "It could not be processed; mail show tells why.",
    }


def summary(documents: Collection[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return the counts of the summary line (interfaces.md 4)."""
    states = Counter(each["outcome"] for each in documents)
    made = sum(1 for each in documents if each["created_ticket"])
    attached = sum(
        1
        for each in documents
        if each["outcome"] == "done" and each["ticket"] is not None and not each["created_ticket"]
    )
    counts = {name: states[name] for name in ("ignored", "quarantined", "held", "duplicate")}
    return {
        "messages": len(documents),
        "tickets_created": made,
        "attached": attached,
        **counts,
        "seconds": round(seconds, 3),
    }


PathsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...", help="Files with one mail (.eml), mboxes, Maildirs, or folders of them."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would happen, and store nothing.")
]
ClockOption = Annotated[
    str,
    typer.Option(
        "--clock",
        metavar="now|date",
        help="The time at which each mail counts as received: now, or the Date of the mail.",
    ),
]
NoAutomationOption = Annotated[
    bool,
    typer.Option(
        "--no-automation",
        help="Only make threads and tickets; send no acknowledgements, apply no status rules.",
    ),
]
ChannelOption = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="ADDRESS",
        help="The channel for mail addressed to no channel. Default: the default channel.",
    ),
]

JoinOption = Annotated[
    str | None,
    typer.Option(
        "--join",
        metavar="vouched|anyone",
        help="Whose mail may join two conversations. Default: as configured (threads.join).",
    ),
]


@app.command()
def command(
    context: typer.Context,
    paths: PathsArgument,
    dry_run: DryRunOption = False,
    clock: ClockOption = "now",
    no_automation: NoAutomationOption = False,
    channel: ChannelOption = None,
    join: JoinOption = None,
    as_json: AsJson = False,
) -> None:
    """Process .eml files, mboxes and Maildirs, in the order given."""
    with options_checked(context):
        one_of("--clock", clock, ("now", "date"))
        policies: dict[str | None, JoinPolicy] = {"vouched": "vouched", "anyone": "anyone"}
        if join is not None:
            one_of("--join", join, ("vouched", "anyone"))
    options = Options(dry_run, clock == "date", not no_automation, channel, policies.get(join))
    began = time.monotonic()

    async def act(opened: Installation) -> tuple[Tally, dict[int, tuple[int, int | None]]]:
        return await replay(opened, paths, options)

    tally, where = run(context, act, create=True)
    documents = lines(tally, where)
    _show(documents, summary(documents, time.monotonic() - began), as_json=as_json)
    for each in tally.unreadable:
        say(f"{each.file}: {each.reason}", error=True)
    if tally.unreadable:
        raise typer.Exit(os.EX_DATAERR)


def _show(documents: list[dict[str, Any]], total: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        for document in (*documents, {"summary": total}):
            emit(document)
        return
    for document in documents:
        say(f"{document['file']}: {document['outcome']}. {document['reason']}")
    say(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in total.items()))
