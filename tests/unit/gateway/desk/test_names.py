"""Tests that a new name reaches every place, and a deletion lists every place (behaviour.md P04).

The last test walks all columns of the database, so that a new place cannot be forgotten.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.compose.route import MailIdentity
from gateway.desk.correspondence import CorrespondenceDesk, MailDraft
from gateway.desk.names import naming_user
from gateway.desk.templates import TemplateDesk
from gateway.desk.workflows import WorkflowDesk, WorkflowPlan
from gateway.errors import Conflict, Invalid, Refused
from gateway.store.schema import tables
from gateway.store.schema.types import Instant
from gateway.store.setup import workflows
from gateway.store.setup.pipelines import load_pipelines

NEW, US, THEM = "New", "Waiting on us", "Waiting on contact"


def status(value: str, op: str = "eq", field: str = "status") -> dict[str, Any]:
    return {"field": field, "op": op, "value": value}


def note(number: int) -> dict[str, Any]:
    return {"id": f"n{number}", "kind": "add_note", "text": US}


FLOW = [
    {"id": "move", "kind": "set_status", "status": "waiting ON us"},
    {"id": "far", "kind": "set_status", "status": "Lead", "pipeline": "Sales"},
    {
        "id": "fork",
        "kind": "branch",
        "branches": [
            {"name": US, "when": status(US), "actions": [note(1)]},
            {"name": "no", "when": {"any": [[status(US, "ne")]]}, "actions": []},
        ],
        "otherwise": [{"id": "late", "kind": "set_status", "status": US}],
    },
    {
        "id": "paths",
        "kind": "branch",
        "field": "status",
        "branches": [{"name": "a", "value": US, "actions": []}],
    },
    {"id": "mail", "kind": "send_email", "template": "Hello"},
    {"id": "own", "kind": "set_owner", "owner": "Olga"},
    {"id": "tell", "kind": "notify_internal_email", "to": ["olga@ours.example"]}
    | {"subject": "x", "text": US},
]


@pytest.fixture
def automation(office):
    return WorkflowDesk(office.database, office.clock, office.zone)


@pytest.fixture
def letters(office):
    return TemplateDesk(office.database, office.clock, office.zone)


@pytest.fixture
async def flows(office, automation, letters):
    """Two pipelines, a template, a user, and a workflow of Support / New that names them all."""
    await office.pipelines.add_pipeline("Sales", [("Lead", "open"), ("Won", "closed")])
    await office.people.add_user("Olga", ["olga@ours.example"], "agent")
    await letters.put_template("Hello", "", "x", "x", None, transactional=None)
    settings = {
        "filter": [status(US, "contains"), status("Sales", "ne", "pipeline")],
        "unenroll_when": status("olga@ours.example", field="owner"),
    }
    await automation.put([WorkflowPlan("Support", NEW, FLOW, settings)])
    return settings


async def stored(office) -> tuple[Any, Any, Any, int]:
    """Return actions, filter, unenroll_when and version of the workflow of Support / New."""
    async with office.database.read() as connection:
        known = await load_pipelines(connection)
        found = {each.name: each for each in (await workflows.load(connection, known)).values()}
        flow = next(each for name, each in found.items() if name.endswith("/ New"))
        actions = await workflows.actions_of(connection, flow.id, flow.version)
        return actions, flow.filter, flow.unenroll_when, flow.version


def swapped(value: Any, old: str, new: str) -> Any:
    """Return a document with a text replaced where it is a name and not free text."""
    if isinstance(value, dict):
        return {
            key: each if key in ("text", "name", "id") else swapped(each, old, new)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [swapped(each, old, new) for each in value]
    return new if isinstance(value, str) and value.casefold() == old.casefold() else value


async def test_p04_a_renamed_status_is_renamed_everywhere(office, flows):
    """P04: actions, conditions of branches and filters follow the new name; one new version."""
    await office.pipelines.rename_status("Support", US, "Ours")
    assert await stored(office) == (
        swapped(FLOW, US, "Ours"),
        swapped(flows["filter"], US, "Ours"),
        flows["unenroll_when"],
        3,  # the default workflow, the fixture's, the renamed one
    )


async def test_p04_an_arranged_status_is_renamed_everywhere(office, flows):
    """P04: `pipeline import` with another name for a status renames it in conditions too."""
    from gateway.desk.pipelines import PipelinePlan, StatusPlan

    names = [(NEW, "open", None), ("Ours", "open", US), (THEM, "open", None)]
    plans = [StatusPlan(*each) for each in (*names, ("Closed", "closed", None))]
    await office.pipelines.arrange_pipelines([PipelinePlan("Support", tuple(plans), {})])
    assert (await stored(office))[:2] == (
        swapped(FLOW, US, "Ours"),
        swapped(flows["filter"], US, "Ours"),
    )


async def test_p04_a_deleted_status_leads_to_its_replacement_everywhere(office, flows):
    """P04: deleting with a target names the target in every place."""
    await office.pipelines.delete_status("Support", US, THEM)
    assert (await stored(office))[:2] == (
        swapped(FLOW, US, THEM),
        swapped(flows["filter"], US, THEM),
    )


async def test_p04_a_deletion_lists_every_place(office, flows):
    """P04: without a target the refusal lists the actions, branches and filters that name it."""
    with pytest.raises(Refused) as refused:
        await office.pipelines.delete_status("Support", US)
    assert refused.value.message.endswith(
        "the trigger on_customer_reply, the action move of Support / New, the action fork of "
        "Support / New, the action late of Support / New, the action paths of Support / New, "
        "the filter of Support / New"
    )


async def test_p04_the_workflow_of_a_deleted_status_goes_with_it(office, automation):
    """P04: a workflow that names its own status is no reason to keep the status."""
    await office.pipelines.add_status("Support", "Spare", "open")
    own = {"unenroll_when": status("Spare", "ne")}
    await automation.put([WorkflowPlan("Support", "Spare", [], own)])
    pipeline = await office.pipelines.delete_status("Support", "Spare")
    assert pipeline.moved == ()


async def test_p06_a_pipeline_that_workflows_name_is_listed_and_kept(office, flows):
    """P06: other pipelines' actions and conditions on the pipeline or its statuses are listed."""
    with pytest.raises(Refused, match="the action far of Support / New, the filter of Support"):
        await office.pipelines.delete_pipeline("Sales")


async def test_p04_a_renamed_pipeline_is_renamed_everywhere(office, flows):
    """P04: actions and conditions follow the new name of a pipeline; a name in use is refused."""
    with pytest.raises(Conflict):
        await office.pipelines.rename_pipeline("Sales", "support")
    assert (await office.pipelines.rename_pipeline("sales", "Trade")).name == "Trade"
    actions, condition, _, _ = await stored(office)
    assert actions == swapped(FLOW, "Sales", "Trade")
    assert condition == swapped(flows["filter"], "Sales", "Trade")


async def test_p04_an_unclear_name_is_refused(office, automation):
    """P04: a condition that may mean statuses of two other pipelines has to say which."""
    for name in ("Sales", "Legal"):
        await office.pipelines.add_pipeline(name, [("Lead", "open"), ("Won", "closed")])
    unclear = {"filter": status("Won")}
    await automation.put([WorkflowPlan("Support", NEW, [], unclear)])
    with pytest.raises(Refused, match="not clear which is meant in the filter of Support / New"):
        await office.pipelines.rename_status("Legal", "Won", "Settled")
    clear = {"filter": [status("Won"), status("Legal", field="pipeline")]}
    await automation.put([WorkflowPlan("Support", NEW, [], clear)])
    await office.pipelines.rename_status("Sales", "Won", "Sold")
    assert (await stored(office))[1] == clear["filter"]
    await office.pipelines.rename_status("Legal", "Won", "Settled")
    assert (await stored(office))[1] == swapped(clear["filter"], "Won", "Settled")


async def test_p04_a_renamed_template_is_renamed_everywhere(office, flows, letters):
    """P04: actions follow the new name of a template; built-in ones keep theirs."""
    assert (await letters.rename_template("hello", "Bye")).words[""].text == "x"
    assert (await stored(office))[0] == swapped(FLOW, "Hello", "Bye")
    for old, new in (("Ticket received", "x"), ("Bye", "ticket closed")):
        with pytest.raises((Refused, Conflict)):
            await letters.rename_template(old, new)
    with pytest.raises(Refused, match="is sent by mail of Support / New"):
        await letters.delete_template("Bye")


async def test_p04_a_renamed_user_is_renamed_everywhere(office, flows):
    """P04: actions follow a user's new name, unless an older user of that name is meant."""
    await office.people.add_user("Olga", ["other@ours.example"], "agent")
    await office.people.set_user("other@ours.example", name="Another")
    assert (await stored(office))[0] == FLOW
    await office.people.set_user("olga@ours.example", name="Olga Two")
    assert (await stored(office))[0] == swapped(FLOW, "Olga", "Olga Two")


async def test_p04_who_names_a_user_is_told(office, flows):
    """P04: every action and condition that names a user by name or address is found."""
    await office.people.set_user("olga@ours.example", active=False)
    async with office.database.read() as connection:
        assert await naming_user(connection, "olga@ours.example") == (
            "the action own of Support / New",
            "the action tell of Support / New",
            "the unenroll_when of Support / New",
        )


async def test_p04_scheduled_replies_follow_and_are_listed(office):
    """P04: a scheduled reply that sets a status follows its name, in the pipeline of its ticket."""
    mails = CorrespondenceDesk(office.database, office.clock, MailIdentity(office.zone))
    numbers = [(await office.mail("ann@customer.example", key=key)).ticket for key in "ab"]
    later = office.clock.now() + timedelta(days=1)
    for number in numbers:
        await mails.reply(number, MailDraft("x", status=THEM, at=later))
    await office.pipelines.add_pipeline("Sales", [(THEM, "open"), ("Won", "closed")])
    await office.desk.move([numbers[1]], THEM, "Sales")
    with pytest.raises(Refused, match=f"the scheduled reply on ticket {numbers[0]}$"):
        await office.pipelines.delete_status("Support", THEM)
    await office.pipelines.rename_status("Support", THEM, "Theirs")
    async with office.database.read() as connection:
        drafts = sa.select(tables.outgoing.c.draft).order_by(tables.outgoing.c.id)
        rows = (await connection.execute(drafts)).scalars()
        assert [row["status"] for row in rows] == ["Theirs", THEM]


async def test_a_condition_on_an_unknown_status_is_refused(office, automation):
    """P04: a misspelt status or pipeline in a condition is refused when it is written."""
    fork = {
        "id": "fork",
        "kind": "branch",
        "branches": [{"name": "x", "when": status("Waitting"), "actions": []}],
    }
    for actions, settings in (
        ([fork], {}),
        ([], {"filter": status("Waitting")}),
        ([], {"unenroll_when": status("Sails", field="pipeline")}),
    ):
        with pytest.raises(Invalid, match=r"no (status|pipeline) '(Waitting|Sails)'"):
            await automation.put([WorkflowPlan("Support", NEW, actions, settings)])


async def test_an_old_version_with_an_old_name_is_not_restored(office, flows, automation):
    """P04: restoring a version that names a status by its old name says so and changes nothing."""
    await office.pipelines.rename_status("Support", US, "Ours")
    with pytest.raises(Invalid, match="fork: no status 'Waiting on us'"):
        await automation.restore("Support", NEW, 2)
    assert (await stored(office))[3] == 3


# Every column that leads to a pipeline, status, channel, template or user, and how a new name
# reaches it: an id stays the same; names are written anew; history tells what was.
IDS = set(
    "status.pipeline_id channel.pipeline_id ticket.pipeline_id workflow.pipeline_id"
    " channel.status_id channel.outbound_status_id ticket.status_id workflow.status_id"
    " pipeline.on_email_sent"
    " pipeline.on_customer_reply thread.channel_id mail.channel_id template_text.template_id"
    " user_address.user_id ticket.owner_id notice.user_id message.author_id outgoing.author_id"
    " action_comment.workflow_id workflow_version.workflow_id enrolment.workflow_id"
    " action_run.workflow_id enrolment.chain".split()
)
NAMES = {
    "pipeline.name": "rename_pipeline",
    "status.name": "rename_status",
    "template.name": "rename_template",
    "user_account.name": "set_user",
    "workflow_version.actions": "references.rename",
    "workflow.filter": "references.rename",
    "workflow.unenroll_when": "references.rename",
    "outgoing.draft": "references.rename_in_replies",
    "channel.name": "set_channel",  # shown only: everything refers to the address
    "contact.name": "a mail of the contact",  # likewise
}
FIXED = {  # an address, or the name of a table of the configuration, which no command changes
    "channel.address",
    "user_address.address",
    "mailbox.name",
    "sent_copy.mailbox",
    "outgoing.return_address",
    "mail.envelope",
    "contact.address",
    "counter.name",
}
HISTORY = set(
    "event.actor event.cause event.before event.after event.detail enrolment.cause"
    " enrolment.end_reason enrolment.silent action_run.detail outgoing.template mail.outcome"
    " mail.reason merge.moved notice.detail workflow_version.author workflow_version.note"
    " action_comment.author".split()
)
OTHER_IDS = set(  # of tickets, people outside, mail: nothing that is renamed
    "contact_id requester_id thread_id message_id mail_id sender_id enrolment_id outgoing_id"
    " mailbox_id original_id".split()
)
FREE = set(  # what people or machines wrote, or words of the program
    "allow claims deny notify signature password_hash role language flags tags parents head"
    " attachments evidence window exclude_sources text reply_text html subject body url"
    " recipient domain key strangers state source priority subject_key kind ref direction"
    " sender_role auth sha256 blob lease_owner erased on_leave place wait_for action outcome"
    " last_reply filename content_type problem backlog_automation client account access_token"
    " refresh_token type sender".split()
)


def test_every_column_that_may_hold_a_name_is_known():
    """P04: a new column of text, a document or an id must be put into one of these tables."""
    unknown = []
    for table in tables.metadata.tables.values():
        for column in table.columns:
            place = f"{table.name}.{column.name}"
            texts = isinstance(column.type, sa.String | sa.types.TypeDecorator)
            holds = (texts and not isinstance(column.type, Instant)) or column.name.endswith("_id")
            known = place in IDS | NAMES.keys() | FIXED | HISTORY
            if holds and not known and column.name not in OTHER_IDS | FREE:
                unknown.append(place)
    assert unknown == []
    for place in IDS | NAMES.keys() | FIXED | HISTORY:
        table, _, column = place.partition(".")
        assert column in tables.metadata.tables[table].columns, place
