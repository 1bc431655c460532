"""Tests of the verdict of a trusted server (behaviour.md 5)."""

from __future__ import annotations

import pytest

from gateway.reading.authentication import read_results, relied_on, verdict

OURS = "mx.help.example"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "none"),
        ([f"{OURS}; dmarc=pass header.from=a.example"], "pass"),
        ([f"{OURS}; dmarc=fail header.from=a.example"], "fail"),
        ([f"{OURS}; dmarc=fail (p=NONE sp=NONE dis=NONE) header.from=a.example"], "none"),
        ([f"{OURS}; dmarc=fail policy.published-domain-policy=none header.from=a.example"], "none"),
        ([f"{OURS}; dmarc=fail (p=reject) header.from=a.example"], "fail"),
        ([f"{OURS}; spf=pass smtp.mailfrom=a.example; dkim=pass header.d=a.example"], "none"),
        (["forged.example; dmarc=pass", f"{OURS}; dmarc=fail"], "fail"),
        ([f"{OURS}; dmarc=none", f"{OURS}; dmarc=pass"], "none"),
        (["forged.example; dmarc=pass"], "none"),
        ([f"(dmarc=pass) {OURS}; spf=none"], "none"),
        ([f'{OURS}; spf=pass reason="; dmarc=pass"'], "none"),
        ([f"{OURS} 1; dmarc=pass"], "pass"),
        ([f"{OURS.upper()}; DMARC=PASS"], "pass"),
        ([f"{OURS}; none"], "none"),
        (["dmarc=pass header.from=a.example"], "none"),
    ],
)
def test_verdicts(values, expected):
    """The topmost header with an id of ours decides; comments and quotes in it do not."""
    assert verdict(read_results(values), [OURS]) == expected


def test_several_signatures_count_by_the_best():
    """One DKIM signature that passes is enough."""
    (found,) = read_results(
        [f"{OURS}; dkim=fail header.d=list.example; dkim=pass header.d=a.example; spf=softfail"]
    )
    assert (found.dkim, found.spf, found.dmarc) == ("pass", "softfail", None)


def test_the_shown_header_is_the_one_that_decided():
    """The trusted header is shown; without one, the topmost."""
    results = read_results(["other.example; spf=pass", f"{OURS}; spf=fail"])
    assert relied_on(results, [OURS]) == results[1]
    assert relied_on(results, []) == results[0]
    assert relied_on((), [OURS]) is None


def test_a_mail_carries_its_results(read):
    """A read mail has its folded result headers in order."""
    found = read(
        extra=f"Authentication-Results: {OURS};\n dmarc=pass (p=reject)\n header.from=mail.example"
    )
    assert verdict(found.authentication, {OURS}) == "pass"
