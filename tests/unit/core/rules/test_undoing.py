"""Tests of what goes back with a joined thread when a merge is undone (behaviour.md P10)."""

from __future__ import annotations

from core.model.merging import JoinRecord
from core.rules.undoing import JoinedMail, with_mail_since

ANN, BOB, CARL, DORA = 1, 2, 3, 4
RECORD = JoinRecord(7, 2, 1, True, (2,), ())


def mail(message: int, *parents: int, people: set[int], addressed: bool = False) -> JoinedMail:
    """Return a mail; ids are those of the messages."""
    ids = tuple(str(each) for each in parents)
    return JoinedMail(message, str(message), ids, frozenset(people), addressed)


def test_each_later_mail_follows_the_nearest_mail_it_answers() -> None:
    """P10: answers to answers go along; one to both goes with its nearest parent; others stay."""
    mails = [
        mail(1, people={ANN}),
        mail(2, people={BOB}),
        mail(3, 1, 2, people={ANN}),
        mail(4, 2, 1, people={BOB}),
        mail(5, 9, 4, people={BOB}),
        mail(6, people={ANN}),
        mail(7, people={BOB}, addressed=True),
        mail(8, 7, people={BOB}),
    ]
    made = with_mail_since(RECORD, mails[::-1], {}, (), ())
    assert (made.messages, made.since) == ((2,), (4, 5, 7, 8))


def test_mail_from_before_the_join_stays_where_it_was() -> None:
    """P10: undoing gives back the state before, so an earlier mail is no mail that came since."""
    earlier = JoinRecord(7, 2, 1, True, (3,), ())
    mails = [mail(1, people={ANN}), mail(2, 3, people={ANN}), mail(3, people={BOB})]
    assert with_mail_since(earlier, mails, {}, (), ()).since == ()


def test_people_are_only_where_they_are_named() -> None:
    """P10, section 5: who was brought or came since leaves, unless named there or kept."""
    mails = [
        mail(1, people={ANN}),
        mail(2, people={BOB}),
        mail(3, 2, people={BOB, CARL}),
        mail(4, 1, people={ANN, CARL}),
    ]
    roles = {ANN: "requester", BOB: "participant", CARL: "participant", DORA: "associated"}
    made = with_mail_since(RECORD, mails, roles, (BOB, DORA), (DORA,))  # type: ignore[arg-type]
    assert made.left == (BOB,)
    assert made.came == ((BOB, "participant"), (CARL, "participant"))
