"""Tests of names of processes: short, unique across hosts, and known when dead."""

from __future__ import annotations

import os
import socket
from typing import cast

import sqlalchemy as sa

from gateway.store.schema import tables
from gateway.store.sql import nodes


def test_hosts_with_similar_names_are_distinct(monkeypatch):
    """Long host names that differ at the end are different nodes; a name fits its column."""
    names = set()
    for end in ("aaaa", "bbbb"):
        monkeypatch.setattr(
            socket, "gethostname", lambda end=end: f"{'ticketgate-worker-' * 6}{end}"
        )
        names.add(nodes.own())
    assert len(names) == 2
    width = cast("sa.String", tables.mailbox.c.lease_owner.type).length
    assert all(len(name) <= width for name in names)


def test_only_processes_of_this_host_can_be_seen_to_be_gone():
    """Only ended processes of this host, or an earlier one with our name, count as dead."""
    mine = nodes.own()
    host = mine.rpartition("-")[0]
    living, gone = f"{host}-{os.getppid()}", f"{host}-4194305"
    assert nodes.dead([living, gone, "elsewhere-4194305", f"{host}-x", mine], mine) == [gone, mine]
