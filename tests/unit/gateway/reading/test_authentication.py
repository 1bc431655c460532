"""Tests of the verdict of a trusted server (behaviour.md 5)."""

from __future__ import annotations

import pytest

from gateway.reading import parse
from gateway.reading.authentication import read_results, relied_on, verdict

OURS = "mx.help.example"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "none"),
        ([f"{OURS}; dmarc=pass header.from=a.example"], "pass"),
        ([f"{OURS}; dmarc=fail header.from=a.example"], "fail"),
        ([f"{OURS}; dmarc=fail (p=NONE sp=NONE dis=NONE) header.from=a.example"], "none"),
        ([f"{OURS}; dmarc=fail (p=reject) header.from=a.example"], "fail"),
        ([f"{OURS}; spf=pass smtp.mailfrom=a.example; dkim=pass header.d=a.example"], "none"),
        (["forged.example; dmarc=pass", f"{OURS}; dmarc=fail"], "fail"),
        ([f"{OURS}; dmarc=none", f"{OURS}; dmarc=pass"], "none"),
        (["forged.example; dmarc=pass"], "none"),
        ([f"{OURS}; none"], "none"),
        (["dmarc=pass header.from=a.example"], "none"),
        (["", ";", "(x)", ";dmarc=pass", '"', "("], "none"),
    ],
)
def test_verdicts(values, expected):
    """The topmost header with an id of ours decides."""
    assert verdict(read_results(values), [OURS]) == expected


@pytest.mark.parametrize(
    "value",
    [
        "{}; dmarc=pass",
        "{};dmarc=pass",
        "\t {} \t;\tdmarc\t=\tpass",
        "{} 1; dmarc=pass",
        "{}(host)(of (ours))1(version) ; dmarc (rfc 7489) / 1 = (yes) pass (sure)",
        '"{}"; dmarc=pass',
        '"mx.\\help.example" 1; dmarc=pass',
        "(dmarc=fail) {}; dmarc=pass; x=y",
        "MX.Help.EXAMPLE; DMARC=PASS",
    ],
)
def test_an_id_of_ours_in_any_correct_spelling(value):
    """Comments, blanks, quotes, case and the version beside the id are those of RFC 8601 2.2."""
    assert verdict(read_results([value.format(OURS)]), [OURS]) == "pass"


@pytest.mark.parametrize(
    "head",
    [
        "mx(x).help.example",
        "mx. help.example",
        "mx.help.example.",
        "mx.help.example,",
        "x mx.help.example",
        "x(mx.help.example)",
        "(mx.help.example)",
        'mx."help".example',
        '"mx.help.example',
        'x"mx.help.example"',
        '"" mx.help.example',
        '" mx.help.example"',
        r"mx\.help.example",
        "mx\r.help.example",
        "mx.help.example\x0b",
        "mx.help.example\u00a0",
        "mx.help.e\u200bxample",
        "=?utf-8?q?mx.help.example?=",
    ],
)
def test_an_id_that_others_overlook_is_none_of_ours(head):
    """An id that a server would not remove as its own gives no verdict; the one below decides."""
    values = [f"{head}; dmarc=pass", f"{OURS}; dmarc=fail"]
    assert verdict(read_results(values[:1]), [OURS]) == "none"
    assert verdict(read_results(values), [OURS]) == "fail"


def test_letters_that_turn_into_ours_are_not_ours():
    """An id is compared without regard to case, but only of ASCII letters."""
    assert verdict(read_results(["\u212ax.example; dmarc=pass"]), ["kx.example"]) == "none"


@pytest.mark.parametrize("head", [f"{OURS} 2", f"{OURS} 1 1", f"{OURS} by x", f'{OURS} ""'])
def test_an_unknown_version_is_not_read(head):
    """Of a field of ours in a version that we do not know nothing counts, nor of those below."""
    values = [f"{head}; dmarc=pass", f"{OURS}; dmarc=pass"]
    assert verdict(read_results(values), [OURS]) == "none"


@pytest.mark.parametrize(
    "rest",
    [
        "(dmarc=pass)",
        "spf=none (; dmarc=pass)",
        "spf=none (a (b) ; dmarc=pass)",
        r"spf=none (a \) ; dmarc=pass)",
        "spf=none (never closed ; dmarc=pass",
        'spf=pass reason="; dmarc=pass"',
        r'spf=pass reason="\"; dmarc=pass"',
        'spf=pass reason="never closed; dmarc=pass',
        '"dmarc=pass"',
        '"dmarc"=pass',
        'dmarc="pass"',
        'dmarc=pass"x"',
        'dmarc="x"pass',
        "dmarc=(pass)",
        "dmarc(=pass)",
        "dmarc=pass-by",
        "dmarc=passed",
        "dmarc=pass.example",
        "x-dmarc=pass",
        "x.dmarc=pass",
        "spf=none dmarc=pass",
        "dm\u0101rc=pass",
        "dmarc=pa\u017f\u017f",
        r"dmarc=pas\s",
        "dmarc=pass,",
    ],
)
def test_what_is_no_result_proves_nothing(rest):
    """What stands in comments and quoted strings, or is not exactly the word, never counts."""
    (found,) = read_results([f"{OURS}; {rest}"])
    assert found.dmarc != "pass"
    assert verdict([found], [OURS]) == "none"


@pytest.mark.parametrize(
    "rest",
    [
        "dmarc=fail header.from=a.example policy.published-domain-policy=none",
        "dmarc=fail p=none",
        "dmarc=fail policy.dmarc=none",
        'dmarc=fail reason="p=none"',
        'dmarc=fail reason="(p=none)"',
        'dmarc=fail "(p=none)"',
        "dmarc=fail (p=reject) (p=none)",
        "dmarc=fail (p=reject (p=none))",
        "dmarc=fail (sp=none dis=none d=none)",
        "dmarc=fail (x.p=none)",
        "dmarc=fail (p=nonesuch)",
        "dmarc=fail (p=reject); spf=fail (p=none)",
        "spf=fail (p=none); dmarc=fail",
        "dmarc=fail (p=none); dmarc=fail (p=reject)",
        "dmarc=fail; dmarc=pass",
        "dmarc=pass; dmarc=fail (p=reject)",
        "dmarc=pass; dmarc=none; dmarc=fail",
    ],
)
def test_a_failure_stays_one(rest):
    """Only the comment of the failed result itself tells of p=none; a second result is no help."""
    assert verdict(read_results([f"{OURS}; {rest}"]), [OURS]) == "fail"


@pytest.mark.parametrize(
    "rest",
    [
        "dmarc=fail (p=none)",
        "dmarc=fail(P=NONE)",
        "(p=none) dmarc=fail",
        "dmarc=fail header.from=a.example (policy=none)",
        "dmarc=fail (sp=reject, p = none)",
        "dmarc=fail ((p=none) dis=none)",
        "dmarc=fail (p=none); dmarc=fail (p=none)",
        "dmarc=temperror; dmarc=pass",
    ],
)
def test_a_failure_under_the_policy_none_says_nothing(rest):
    """A domain that publishes p=none asks nobody to mistrust its mail; nor does an error."""
    assert verdict(read_results([f"{OURS}; {rest}"]), [OURS]) == "none"


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


def test_encoded_words_in_the_field_stay_encoded(read):
    """Other programs see no id in an encoded word, and so do not remove it: nor is it one here."""
    found = read(extra=f"Authentication-Results: =?utf-8?q?{OURS}=3B_dmarc=3Dpass?=")
    assert verdict(found.authentication, {OURS}) == "none"


def test_nothing_is_mended_in_the_field(read, mail):
    """NUL and bytes that are no text are not dropped: the id would grow together around them."""
    for gap in (b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xcc\x81"):
        raw = b"Authentication-Results: mx" + gap + b".help.example; dmarc=pass (\xc3)\r\n" + mail()
        assert verdict(parse.read(raw).authentication, {OURS}) == "none"
