"""Tests that `contact erase` removes a person everywhere and leaves other people's mail alone."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from core.model.message import Envelope
from gateway.ingress.accept import AcceptedMail
from gateway.intake.batch import Batch, Item, Rules
from gateway.reading import parse
from gateway.store.engine import Database
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.spool import Spool
from gateway.store.schema import tables

ANN = "Ann Example <ann@customer.example>"
BOB = "Bob Other <bob@elsewhere.example>"
WORD = "quokkazebra"  # occurs in no other mail
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
ENVELOPE = Envelope("bounce@mail.example", ("support@localhost",), "smtp", NOW)
LARGE = 300 << 10  # too large for the database, so it becomes a blob


def letter(
    cli,
    sender,
    key,
    text,
    *,
    to="support@localhost",
    cc="",
    answers="",
    subject="Printer",
    attached=0,
):
    """Write a file with a mail."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"], mail["Message-ID"] = sender, to, subject, f"<{key}>"
    mail["Date"] = "Sun, 22 Nov 2026 09:00:00 +0000"
    if cc:
        mail["Cc"] = cc
    if answers:
        mail["In-Reply-To"] = f"<{answers}>"
    mail.set_content(text)
    if attached:
        mail.add_attachment(
            b"x" * attached, maintype="application", subtype="octet-stream", filename="big.bin"
        )
    cli.files += 1
    path = cli.folder / f"{cli.files:03}.eml"
    path.write_bytes(mail.as_bytes())
    return path


def arrive(cli, *paths):
    """Receive and process mails at once; return the ticket number of each."""
    return asyncio.run(processed(cli, [path.read_bytes() for path in paths]))


async def processed(cli, raws):
    """Put mails into the spool, read them in this process, and apply the decisions."""
    database = Database(cli.url, "test")
    try:
        ids = await spooled(cli, database, *raws)
        items = [
            Item(mail_id, ENVELOPE, parse.read(raw), False, NOW)
            for mail_id, raw in zip(ids, raws, strict=True)
        ]
        async with database.write(ordered=True) as connection:
            return [
                row.ticket
                for row in await Batch(connection, Rules(ZoneInfo("UTC")), items, NOW).run()
            ]
    finally:
        await database.close()


async def spooled(cli, database, *raws):
    """Put mails into the spool; return their ids."""
    spool = Spool(database, open_blobs(f"file://{cli.folder}/blobs"))
    return await spool.put(
        [AcceptedMail(raw, len(raw), hashlib.sha256(raw).hexdigest(), ENVELOPE) for raw in raws]
    )


async def wait(cli, raw):
    """Receive a mail and leave it pending."""
    database = Database(cli.url, "test")
    try:
        await spooled(cli, database, raw)
    finally:
        await database.close()


@pytest.fixture
def office(cli, clean_url):
    """Return a command line with large mail in files, and the address of the database."""
    cli.setting("blobs__url", f"file://{cli.folder}/blobs")
    cli.url = clean_url
    return cli


def stored(cli) -> bytes:
    """Return every byte of database, log and blobs on SQLite, every row on PostgreSQL."""
    kept = [path.read_bytes() for path in (cli.folder / "blobs").rglob("*") if path.is_file()]
    if cli.url.startswith("sqlite"):
        file = Path(cli.url.removeprefix("sqlite:///"))
        kept += [path.read_bytes() for path in file.parent.glob(f"{file.name}*")]
    else:
        kept.append(asyncio.run(dumped(cli.url)))
    return b"\n".join(kept).lower()


async def dumped(url: str) -> bytes:
    """Return all rows as text, bytes unchanged."""
    database = Database(url, "test")
    try:
        async with database.read() as connection:
            found = []
            index = "message_search_data" if database.dialect == "sqlite" else "message_search"
            for table in (*(each.name for each in tables.metadata.sorted_tables), index):
                for row in await connection.exec_driver_sql(f"SELECT * FROM {table}"):
                    found.extend(
                        value if isinstance(value, bytes) else str(value).encode() for value in row
                    )
            return b"\n".join(found)
    finally:
        await database.close()


def correspondence(cli) -> dict[str, int]:
    """Receive mail of Ann alone (one large), Ann and Bob, Bob alone, and Bob about Ann."""
    mails = {
        "alone": letter(
            cli, ANN, "1@mail.example", f"My printer says {WORD}.", subject=f"The {WORD} printer"
        ),
        "large": letter(
            cli,
            ANN,
            "ann@customer.example.2@mail.example",
            f"{WORD} again.",
            subject="A big one",
            attached=LARGE,
        ),
        "shared": letter(
            cli, BOB, "3@mail.example", "The lift stands still.", subject="Lift", cc=ANN
        ),
        "hers": letter(
            cli,
            ANN,
            "8.ann@customer.example",
            f"I heard {WORD} in it.",
            subject="Re: Lift",
            answers="3@mail.example",
        ),
        "again": letter(
            cli,
            BOB,
            "5@mail.example",
            "Ask Ann Example <ANN@customer.example>.",
            subject="Re: Lift",
            cc=ANN,
            answers="8.ann@customer.example",
        ),
        "bob": letter(cli, BOB, "6@mail.example", "The door is open.", subject="Door"),
        "named": letter(
            cli,
            BOB,
            "7@mail.example",
            "Write to ann@customer.example please.",
            subject="Address",
            attached=LARGE,
        ),
        "other": letter(
            cli,
            "Joann <joann@customer.example>",
            "8@mail.example",
            "I am joann@customer.example.",
            subject="Namesake",
        ),
    }
    return dict(zip(mails, arrive(cli, *mails.values()), strict=True))


def test_nothing_of_the_person_is_left(office):
    """Item 30: name, address and words are in no row, file, blob or search result."""
    correspondence(office)
    assert WORD.encode() in stored(office)
    assert len([path for path in (office.folder / "blobs").rglob("*") if path.is_file()]) == 2
    done = office.json("contact", "erase", "Ann@Customer.example", "--yes")
    assert (done["erased"], done["clean"], done["blobs"]) == (True, True, 2)
    left = stored(office).replace(b"joann@customer.example", b"")
    for trace in (b"ann@customer.example", WORD.encode(), b"ann example"):
        at = left.find(trace)
        assert at < 0, left[max(0, at - 200) : at + 60]
    assert office.json("ticket", "list", "--search", WORD)["tickets"] == []
    check = office.json("db", "check")
    assert (check["ok"], check["spare_blobs"]) == (True, [])


def test_her_tickets_stay_as_numbers(office):
    """The ticket keeps number, status and dates; the rest is gone, and the history says so."""
    sent = correspondence(office)
    before = office.json("ticket", "show", sent["alone"])
    done = office.json("contact", "erase", "ann@customer.example", "--yes")
    assert done["tickets"] == [sent["alone"], sent["large"]]
    shown = office.json("ticket", "show", sent["alone"])
    assert (shown["subject"], shown["requester"], shown["participants"]) == ("[erased]", None, [])
    assert [thread["messages"] for thread in shown["threads"]] == [[]]
    for name in ("number", "status", "created_at", "closed_at", "close_date", "pipeline"):
        assert shown[name] == before[name], name
    assert [(each["type"], each["actor"]) for each in shown["events"]] == [
        ("ticket_created", "[erased]"),
        ("erased", "console"),
    ]


def test_other_peoples_conversations_are_unharmed(office):
    """Mail without her stays unchanged; mail that names her loses her, and its raw bytes."""
    sent = correspondence(office)
    whole = {name: office.json("ticket", "show", sent[name]) for name in ("bob", "other")}
    mails = {each["subject"]: each["id"] for each in office.json("mail", "list")["mail"]}
    raw = {name: office("mail", "raw", mails[name]).out for name in ("Door", "Namesake")}
    office.json("contact", "erase", "ann@customer.example", "--yes")
    assert {name: office.json("ticket", "show", sent[name]) for name in ("bob", "other")} == whole
    assert {name: office("mail", "raw", mails[name]).out for name in ("Door", "Namesake")} == raw
    lift = office.json("ticket", "show", sent["shared"])
    assert (lift["subject"], lift["requester"]["address"]) == ("Lift", "bob@elsewhere.example")
    messages = [each for thread in lift["threads"] for each in thread["messages"]]
    assert [each["text"].strip() for each in messages] == [
        "The lift stands still.",
        "Ask [erased].",
    ]
    assert messages[0]["cc"] == [{"name": "[erased]", "address": None}]
    gone = office("mail", "raw", mails["Address"])
    assert (gone.code, "erased" in gone.err) == (65, True)
    assert office.json("mail", "show", mails["Address"])["from"] == "bob@elsewhere.example"
    assert len(office.json("ticket", "list", "--search", "please")["tickets"]) == 1


def test_a_dry_run_counts_and_changes_nothing(office):
    """--dry-run reports exactly what would go, and changes no row."""
    correspondence(office)
    before = asyncio.run(dumped(office.url))
    told = office.json("contact", "erase", "ann@customer.example", "--dry-run")
    assert told["erased"] is False
    assert (
        told["removed_messages"],
        told["removed_mails"],
        told["removed_raw"],
        told["changed_messages"],
    ) == (3, 3, 3, 3)
    assert asyncio.run(dumped(office.url)) == before
    done = office.json("contact", "erase", "ann@customer.example", "--yes")
    assert {name: done[name] for name in told if name != "erased"} == {
        name: told[name] for name in told if name != "erased"
    }


def test_what_cannot_be_erased_is_refused(office):
    """No terminal and no option: 64; an unknown, a channel's or no address: 65; no change."""
    correspondence(office)
    before = asyncio.run(dumped(office.url))
    assert office("contact", "erase", "ann@customer.example").code == 64
    assert office("contact", "erase", "ann@customer.example", "--yes", "--dry-run").code == 64
    for address in ("nobody@customer.example", "support@localhost", "ann"):
        for how in ("--yes", "--dry-run"):
            assert office("contact", "erase", address, how).code == 65, address
    assert asyncio.run(dumped(office.url)) == before


def test_a_second_erasure_finds_nobody(office):
    """A second erasure finds nobody (65) and changes nothing."""
    correspondence(office)
    office.json("contact", "erase", "ann@customer.example", "--yes")
    before = asyncio.run(dumped(office.url))
    assert office("contact", "erase", "ann@customer.example", "--yes").code == 65
    assert asyncio.run(dumped(office.url)) == before


def test_an_erased_person_who_writes_again_is_new(office):
    """Later mail from the erased person makes a new contact and a new ticket."""
    sent = correspondence(office)
    office.json("contact", "set", "ann@customer.example", "--block", "on")
    office.json("contact", "erase", "ann@customer.example", "--yes")
    (number,) = arrive(
        office, letter(office, ANN, "9@mail.example", "Hello.", subject=f"The {WORD} printer")
    )
    assert number == max(sent.values()) + 1
    assert office.json("ticket", "show", number)["links"] == []
    assert office.json("contact", "show", "ann@customer.example")["blocked"] is False


def test_pending_mail_stops_an_erasure(office):
    """A pending mail that names the person ends the command with 75, and nothing is erased."""
    correspondence(office)
    asyncio.run(
        wait(
            office,
            b"From: bob@elsewhere.example\r\nSubject: x\r\n\r\nSee ann@customer.example.\r\n",
        )
    )
    before = asyncio.run(dumped(office.url))
    assert office("contact", "erase", "ann@customer.example", "--yes").code == 75
    assert asyncio.run(dumped(office.url)) == before
