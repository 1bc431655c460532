"""Tests of the domain of an organisation, by the public suffix list that the library brings."""

from __future__ import annotations

import socket

import pytest

from gateway.store.tickets import organisations
from gateway.store.tickets.organisations import organisational_domain


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.org", "example.org"),
        ("a.b.c.example.org", "example.org"),
        ("Mail.Example.CO.UK.", "example.co.uk"),
        ("a.b.city.kawasaki.jp", "city.kawasaki.jp"),
        ("one.github.io", "one.github.io"),
        ("a.one.github.io", "one.github.io"),
        ("a.bücher.example", "xn--bcher-kva.example"),
        ("b.xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("a..b", "a..b"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("", ""),
        ("x" * 300 + ".example", "x" * 247 + ".example"),
    ],
)
def test_hosts_below_one_domain_are_one_organisation(host, domain):
    """The registrable domain in ASCII counts; what is none stands for itself."""
    assert organisational_domain(host) == domain


def test_the_list_is_read_without_the_network(monkeypatch):
    """Nothing is fetched: the list is a file of the library."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    organisations._list.cache_clear()
    organisational_domain.cache_clear()
    assert organisational_domain("a.example.co.uk") == "example.co.uk"
