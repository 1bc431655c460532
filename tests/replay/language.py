"""The format of scenario.toml, and the player of its steps.

``scenario.toml`` has a ``title`` (what the scenario promises), ``rows`` (the numbers of
scenarios.md and behaviour.md that it covers) and steps::

    [[step]]
    at = "2026-11-22T12:00:00Z"      # set the clock, or move it on: "+200d"
    do = ["move 1 Closed"]           # people act: the verbs are the methods of Acts
    refused = "not allow"            # the last act is refused with this text
    mail = '''...'''                 # a mail arrives; $reply(1) $tag(1) $own(1) become our
      signed tokens
    to = ["support@localhost"]       # envelope; likewise sender ("" is the null path),
      trusted_hop, automation
    line = { ticket = 1, status = "New -> Waiting on us" }   # expected line of `replay --json`;
      keys left out are not compared
    explain = ["tie: in_reply_to"]   # steps of `mail explain`, in order
    tickets = { 1 = { status = "Closed", events = ["status_changed B"], moves = [] } }
    mails = { 2 = "quarantined" }
    count = { tickets = 1, threads = 2, messages = 3, contacts = 4 }
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from core.model.message import address_key
from core.model.ticket import Source
from gateway.desk.tickets import NewTicket
from gateway.errors import Rejected
from gateway.store.setup import channels, pipelines, users
from gateway.store.tickets import contacts
from tests.replay.world import Json, World, days, told

KEYS = {
    "at",
    "do",
    "refused",
    "mail",
    "to",
    "sender",
    "trusted_hop",
    "automation",
    "line",
    "explain",
    "tickets",
    "mails",
    "count",
}


class Acts:
    """The verbs of a step; administrative acts go to the store in one ordered transaction."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.actor = "console"

    async def act(self, line: str) -> Json | None:
        """Do one act such as ``move 1 Closed`` (quotes group words); return the replay line."""
        verb, *words = shlex.split(line)
        return await getattr(self, verb)(*words)

    async def by(self, address: str) -> None:
        self.actor = address

    async def create(self, subject: str, requester: str, source: Source = "manual") -> None:
        await self.world.desk(self.actor).create(
            NewTicket(subject=subject, requester=requester, source=source)
        )

    async def ticket_from_thread(self, thread: str) -> None:
        await self.world.desk(self.actor).create(NewTicket(thread=int(thread)))

    async def attach(self, number: str, thread: str) -> None:
        await self.world.desk(self.actor).attach(int(number), int(thread))

    async def move(self, number: str, status: str, pipeline: str | None = None) -> None:
        await self.world.desk(self.actor).move([int(number)], status, pipeline)

    async def note(self, number: str, text: str) -> None:
        await self.world.desk(self.actor).note(int(number), text)

    async def rename(self, number: str, subject: str) -> None:
        await self.world.desk(self.actor).set(int(number), {"subject": subject})

    async def merge(self, number: str, into: str) -> None:
        await self.world.desk(self.actor).merge(int(number), int(into))

    async def unmerge(self, number: str) -> None:
        await self.world.desk(self.actor).unmerge(int(number))

    async def delete(self, number: str) -> None:
        await self.world.desk(self.actor).delete(int(number))

    async def restore(self, number: str) -> None:
        await self.world.desk(self.actor).restore(int(number))

    async def person(self, number: str, change: Any, address: str) -> None:
        await self.world.desk(self.actor).person(int(number), change, address)

    async def forwarded(self, number: str, message_id: str, address: str) -> None:
        await self.world.forward_thread(int(number), message_id, address)

    async def release(self, mail: str) -> Json:
        return await self.world.release(int(mail))

    async def retry(self, mail: str) -> Json:
        await self.world.set_state(int(mail))
        return (await self.world.lines([int(mail)], await self.world.intake.drain([int(mail)])))[0]

    async def user(self, name: str, *addresses: str) -> None:
        async with self.world.database.write(ordered=True) as connection:
            await users.add(connection, name, addresses, "agent", self.world.clock.now())

    async def block(self, address: str) -> None:
        async with self.world.database.write(ordered=True) as connection:
            found = await contacts.load(connection, addresses=[address_key(address)])
            await contacts.set_flags(connection, [each.id for each in found], blocked=True)

    async def add_channel(self, address: str, pipeline: str = "Support") -> None:
        async with self.world.database.write(ordered=True) as connection:
            await channels.add(
                connection,
                address,
                "",
                await pipelines.named(connection, pipeline),
                None,
                self.world.clock.now(),
            )

    async def channel(self, address: str, setting: str, *values: str) -> None:
        async with self.world.database.write(ordered=True) as connection:
            channel = await channels.at(connection, address)
            if setting == "status":
                pipeline = (await pipelines.load_pipelines(connection))[channel.pipeline_id]
                status = pipeline.named(values[0])
                await channels.change(connection, channel, pipeline=pipeline, status_id=status.id)
            elif setting == "tickets":
                await channels.change(connection, channel, tickets=values[0] == "on")
            else:
                await channels.change(connection, channel, **cast("Json", {setting: set(values)}))

    async def add_pipeline(self, name: str, *statuses: str) -> None:
        steps: Any = [tuple(each.rsplit(":", 1)) for each in statuses]
        async with self.world.database.write(ordered=True) as connection:
            await pipelines.add(connection, name, steps)

    async def pipeline(self, name: str, setting: str, value: str) -> None:
        async with self.world.database.write(ordered=True) as connection:
            pipeline = await pipelines.named(connection, name)
            given: Any = value if setting == "strangers" else value == "on"
            if setting in ("on_customer_reply", "on_email_sent"):
                given = None if value == "off" else pipeline.named(value).id
            await pipelines.change(connection, pipeline, **{setting: given})

    async def status(self, pipeline_name: str, status_name: str, change: str, value: str) -> None:
        async with self.world.database.write(ordered=True) as connection:
            pipeline = await pipelines.named(connection, pipeline_name)
            status = pipeline.named(status_name)
            assert status is not None
            if change == "rename":
                await pipelines.rename_status(connection, status, value)
            else:
                await pipelines.move_status(connection, pipeline, status, int(value))


async def play(folder: Path, world: World) -> None:
    """Run every step of a scenario in order; AssertionError names the step that differs."""
    scenario = tomllib.loads((folder / "scenario.toml").read_text())
    assert set(scenario) == {"title", "rows", "step"}
    assert scenario["title"]
    acts = Acts(world)
    for place, step in enumerate(scenario["step"], 1):
        assert set(step) <= KEYS, f"step {place} has unknown words: {set(step) - KEYS}"
        await _step(step, world, acts, f"{folder.name}, step {place}: ")


async def _step(step: Json, world: World, acts: Acts, where: str) -> None:
    if at := step.get("at"):
        world.clock.set(
            world.clock.now() + days(float(at[1:-1]))
            if at.startswith("+")
            else datetime.fromisoformat(at)
        )
    line = await _acted(step, acts, where)
    if "mail" in step:
        given = {
            name: step[name]
            for name in ("to", "sender", "trusted_hop", "automation")
            if name in step
        }
        given["to"] = [(await world.filled(each)).decode() for each in given.get("to", ())]
        line = await world.mail(await world.filled(step["mail"]), world.envelope(**given))
    if line is not None:
        assert line["outcome"] != "held", f"{where}the mail is held: {line}"
    await _line(step, line, world, where)
    for number, wanted in step.get("tickets", {}).items():
        await _ticket(world, int(number), wanted, f"{where}ticket {number}: ")
    for number, state in step.get("mails", {}).items():
        assert (await world.register.get(int(number))).state == state, where
    for name, number in step.get("count", {}).items():
        assert await _count(world, name) == number, f"{where}{name}"


async def _acted(step: Json, acts: Acts, where: str) -> Json | None:
    """Do the acts of a step, the last of which may be refused; return the replay line."""
    line: Json | None = None
    todo: list[str] = step.get("do", [])
    refusal: Rejected | None = None
    for each in todo:
        assert refusal is None, f"{where}{refusal}"
        try:
            line = await acts.act(each)
        except Rejected as refused:
            refusal = refused
    if "refused" in step:
        assert refusal is not None, f"{where}{todo[-1]} was not refused"
        assert step["refused"] in refusal.message, where
    else:
        assert refusal is None, f"{where}{refusal}"
    return line


async def _line(step: Json, line: Json | None, world: World, where: str) -> None:
    if "line" in step:
        assert line is not None, where
        _same(_flat(line), step["line"], where + f"{line} ")
    if "explain" in step:
        assert line is not None, where
        entry = await world.register.get(line["mail_id"])
        _subsequence(
            [
                f"{each['step']}: {each['verdict']} - {each['why']}"
                for each in entry.outcome["steps"]
            ],
            step["explain"],
            where,
        )


def _flat(line: Json) -> Json:
    status = line["status"]
    return {**line, "status": f"{status['before'] or '-'} -> {status['after']}" if status else None}


def _same(found: Json, wanted: Json, where: str) -> None:
    for name, value in wanted.items():
        if name == "reason":
            assert value in found[name], where
        else:
            assert (found[name] if found[name] is not None else "none") == value, (
                f"{where}: {name} is {found[name]!r}"
            )


async def _count(world: World, name: str) -> int:
    if name == "tickets":
        return len(await world.tickets())
    if name == "threads":  # joined and continued threads are not counted
        return len([row for row in await world.rows("thread", "redirect_to") if row[0] is None])
    return len(await world.rows(name.removesuffix("s"), "id"))


async def _ticket(world: World, number: int, wanted: Json, where: str) -> None:
    found = await world.ticket(number)
    events = [told(event) for event in found["events"]]
    shown = {
        **found,
        "requester": found["requester"]["address"] if found["requester"] else None,
        "participants": [f"{each['role']} {each['address']}" for each in found["participants"]],
        "links": [f"{each['kind']} {each['number']}" for each in found["links"]],
        "origins": [each["id"] for each in found["threads"] if each["origin"]],
        "threads": [each["id"] for each in found["threads"]],
        "messages": [_message(each) for thread in found["threads"] for each in thread["messages"]],
        "moves": [
            each.removeprefix("status_changed ")
            for each in events
            if each.startswith("status_changed ")
        ],
        "skipped": [
            event["detail"] for event in found["events"] if event["type"] == "rule_skipped"
        ],
    }
    for name, value in wanted.items():
        if name == "events":
            _subsequence(events, value, where)
        elif name == "no_events":
            assert not [each for each in events if any(word in each for word in value)], (
                f"{where}{events}"
            )
        else:
            assert (shown[name] if shown[name] is not None else "none") == value, (
                f"{where}{name} is {shown[name]!r}"
            )


def _message(row: Json) -> str:
    flags = f" [{', '.join(row['flags'])}]" if row["flags"] else ""
    return f"{row['direction']} {row['sender_role']} {row['kind']}{flags}: {row['subject']}"


def _subsequence(found: Sequence[str], wanted: Sequence[str], where: str) -> None:
    rest = iter(found)
    for each in wanted:
        assert any(each in line for line in rest), f"{where}{each!r} is not in its place in {found}"
