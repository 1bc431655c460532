"""Tests of which IP addresses a webhook may call (reliability.md 29)."""

from ipaddress import ip_address

from gateway.outbox.webhook import Allowed, is_public

PUBLIC = ("1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1")
INNER = (
    *(
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
    ),
    *(
        "192.0.0.1",
        "192.0.0.9",
        "192.0.2.1",
        "192.168.1.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
    ),
    *(
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "100::1",
        "2001:db8::1",
        "2001::1",
        "3fff::1",
        "5f00::1",
    ),
    *("fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1", "64:ff9b:1::1"),
)


def test_which_addresses_are_public():
    """Private, loopback, link-local, multicast, reserved and carrier addresses are not public."""
    assert [each for each in PUBLIC if not is_public(ip_address(each))] == []
    assert [each for each in INNER if is_public(ip_address(each))] == []


def test_addresses_within_addresses():
    """An IPv4 address in an IPv6 one counts as IPv4, for the rule and for exceptions."""
    nobody, tens = Allowed(()), Allowed(("10.0.0.0/8",))
    for form in ("::ffff:10.1.2.3", "2002:a01:203::1", "64:ff9b::a01:203"):
        assert not nobody.covers("hook", form)
        assert tens.covers("hook", form)
    for form in ("::ffff:1.1.1.1", "64:ff9b::101:101"):
        assert nobody.covers("hook", form)
