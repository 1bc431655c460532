"""Records of merges and joins, which undo them (behaviour.md P10)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.model.ticket import ParticipantRole


@dataclass(frozen=True, slots=True)
class JoinRecord:
    """What was moved when a mail merged two tickets and joined ``thread`` into ``into``.

    ``messages`` were on ``thread`` at that time; ``since`` are later messages that an undo moves
    back too. ``left`` are contacts whom the undo removes from ``into``. ``came`` are contacts who
    have joined the conversation since, and whom the undo adds to ``thread``.
    """

    id: int
    thread: int
    into: int
    origin: bool
    messages: tuple[int, ...]
    followed: tuple[int, ...]  # threads that redirected to ``thread`` before
    since: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    came: tuple[tuple[int, ParticipantRole], ...] = ()


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """What a merge moved, and the fields of the surviving ticket before the merge."""

    id: int
    at: datetime
    threads: tuple[int, ...]
    contacts: tuple[int, ...]  # put on the survivor by the merge
    flags: tuple[str, ...]  # of the survivor, before
    created_at: datetime  # of the survivor, before
    joins: tuple[JoinRecord, ...] = ()
