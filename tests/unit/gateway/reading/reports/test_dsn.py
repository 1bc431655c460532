"""Tests of machine reports: deliveries, bounces in prose, receipts, complaints, TLS, DMARC."""

from __future__ import annotations

import pytest

MAILER = (
    b"Return-Path: <>\r\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example>\r\nTo: "
    b"desk@help.example\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\nMessage-ID: "
    b"<b1@mx.example>\r\n"
)
RETURNED = (
    "Content-Type: message/rfc822\n\nFrom: desk@help.example\nTo: bob@site.example\nSubject: "
    "Your pump\nMessage-ID: <ours.1@help.example>\n\nHello Bob"
)
REPORT = 'multipart/report; report-type=delivery-status; boundary="b"'


def status(*groups: str) -> str:
    return (
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        + "\n".join(group + "\n" for group in groups)
    )


def test_a_delivery_report_by_the_book(read, multipart):
    """A report by RFC 3464 has recipient, original, status, diagnostic and the returned id."""
    group = (
        "Original-Recipient: rfc822; bob@old.example\nFinal-Recipient: rfc822; "
        "bob@site.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 "
        "no such\n user here"
    )
    found = read(
        multipart("b", "Content-Type: text/plain\n\nIt failed.", status(group), RETURNED),
        head=MAILER,
        kind=REPORT,
        subject="Undelivered Mail",
    )
    assert found.kind == "bounce"
    assert found.bounce is not None
    assert found.bounce.action == "failed"
    assert found.bounce.original_message_id == "ours.1@help.example"
    (one,) = found.bounce.recipients
    assert (one.address, one.original, one.action, one.status) == (
        "bob@site.example",
        "bob@old.example",
        "failed",
        "5.1.1",
    )
    assert one.diagnostic == "smtp; 550 5.1.1 no such user here"
    assert not found.auto_respond_ok


@pytest.mark.parametrize(
    ("group", "kind", "action"),
    [
        (
            "Final-Recipient: rfc822; b@x.example\nAction: delayed\nStatus: 4.4.1",
            "bounce",
            "delayed",
        ),
        (
            "Final-Recipient: rfc822; b@x.example\nAction: delivered\nStatus: 2.0.0",
            "report",
            "delivered",
        ),
        (
            "Final-Recipient: rfc822; b@x.example\nAction: relayed\nStatus: 2.0.0",
            "report",
            "relayed",
        ),
        (
            "Final-Recipient: rfc822; b@x.example\nAction: expanded (to a list)\nStatus: 2.0.0",
            "report",
            "expanded",
        ),
        ("Final-Recipient: rfc822; b@x.example\nStatus: 5.2.2", "bounce", "failed"),
        (
            "Final-Recipient: LOCAL; <b@x.example>\nAction: Failed\nStatus: 5.2.2 (full)",
            "bounce",
            "failed",
        ),
        (
            (
                "Final-Recipient: x400; nobody\nOriginal-Recipient: rfc822;b@x.example\nAction: "
                "failed\nStatus: 5.0.0"
            ),
            "bounce",
            "failed",
        ),
    ],
)
def test_actions_of_a_report(read, multipart, group, kind, action):
    """The action of a report is read; a success notice is a report, not a bounce."""
    found = read(
        multipart("b", "Content-Type: text/plain\n\nNotice.", status(group)),
        head=MAILER,
        kind=REPORT,
    )
    assert (found.kind, found.bounce and found.bounce.action) == (kind, action)
    assert found.bounce is not None
    assert found.bounce.recipients[0].address == "b@x.example"


def test_the_worst_of_several_recipients_is_the_action(read, multipart):
    """With one recipient delayed and one failed, the action is failed."""
    body = multipart(
        "b",
        status(
            "Final-Recipient: rfc822; a@x.example\nAction: delayed\nStatus: 4.0.0",
            "Final-Recipient: rfc822; b@x.example\nAction: failed\nStatus: 5.0.0",
        ),
    )
    found = read(body, head=MAILER, kind=REPORT)
    assert found.bounce is not None
    assert found.bounce.action == "failed"
    assert [each.address for each in found.bounce.recipients] == ["a@x.example", "b@x.example"]


def test_groups_without_blank_lines(read, multipart):
    """Groups are split even if a mailer forgets the blank lines between recipients."""
    body = (
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx\nFinal-Recipient: "
        "rfc822; a@x.example\nAction: failed\nStatus: 5.1.1\nFinal-Recipient: rfc822; "
        "b@x.example\nAction: failed\nStatus: 5.1.2\n"
    )
    found = read(multipart("b", body), head=MAILER, kind=REPORT)
    assert found.bounce is not None
    assert {(each.address, each.status) for each in found.bounce.recipients} == {
        ("a@x.example", "5.1.1"),
        ("b@x.example", "5.1.2"),
    }


@pytest.mark.parametrize(
    "text",
    [
        (
            "Hi. This is the qmail-send program at mx.example.\nI'm afraid I wasn't able to "
            "deliver your message to the following addresses.\n\n<bob@site.example>:\nSorry, no "
            "mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the "
            "message.\n\nMessage-ID: <ours.1@help.example>\n\nHello"
        ),
        (
            "A message that you sent could not be delivered to one or more of its recipients. The "
            "following address(es) failed:\n\n  bob@site.example\n    550 5.1.1 unknown "
            "user\n\n------ This is a copy of the message, including all the headers. "
            "------\n\nMessage-ID: <ours.1@help.example>\n"
        ),
        (
            "   ----- The following addresses had permanent fatal errors "
            "-----\n<bob@site.example>\n    (reason: 550 5.1.1 no such user)\n\n   ----- Original "
            "message follows -----\n\nMessage-ID: <ours.1@help.example>\n"
        ),
        (
            "Ihre Nachricht konnte nicht zugestellt werden.\n\nbob@site.example: unbekannter "
            "Empfänger (550 5.1.1 unknown)\n\n----- Original message -----\nMessage-ID: "
            "<ours.1@help.example>\n"
        ),
    ],
)
def test_bounces_told_in_prose(read, text):
    """Recipient, status and returned id are found in bounces without a machine report."""
    found = read(text, head=MAILER, subject="failure notice")
    assert found.kind == "bounce"
    assert found.bounce is not None
    assert [each.address for each in found.bounce.recipients] == ["bob@site.example"]
    assert found.bounce.recipients[0].status == "5.1.1"
    assert found.bounce.original_message_id == "ours.1@help.example"


def test_failed_recipients_in_the_header(read):
    """X-Failed-Recipients names all recipients."""
    found = read(
        "Delivery failed.",
        head=MAILER,
        subject="Mail delivery failed",
        extra="X-Failed-Recipients: a@x.example, b@x.example",
    )
    assert found.bounce is not None
    assert {each.address for each in found.bounce.recipients} == {"a@x.example", "b@x.example"}


def test_a_delay_warning_in_prose(read):
    """A mail that is still being retried is delayed, never failed."""
    text = (
        "Your message has not yet been delivered to:\n\n  bob@site.example\n\nNo action is "
        "required on your part. Delivery attempts will continue for some time."
    )
    found = read(text, head=MAILER, subject="Warning: message delayed 24 hours")
    assert (found.kind, found.bounce and found.bounce.action) == ("bounce", "delayed")


def test_prose_from_a_person_is_no_bounce(read):
    """behaviour.md 2.1, step 5: only a null path or a mailer's address makes it a bounce."""
    assert (
        read(
            "My mail to bob@site.example was returned: user unknown. What now?",
            subject="Undeliverable mail",
        ).kind
        == "human"
    )


def test_a_forwarded_bounce_is_no_bounce(read, multipart):
    """A person who attaches a report sends an ordinary mail."""
    inner = (
        "Content-Type: message/rfc822\n\nFrom: MAILER-DAEMON@mx.example\nSubject: "
        "failure\n\nit failed"
    )
    assert (
        read(
            multipart("b", "Content-Type: text/plain\n\nWhat is this?", inner),
            kind="multipart/mixed; boundary=b",
            subject="Fwd: failure",
        ).kind
        == "forward"
    )


@pytest.mark.parametrize(
    "text",
    [
        (
            "Please click the link below to confirm that you are human, and your message will be "
            "delivered."
        ),
        "Your message is waiting. To have your mail delivered, verify that you are a real person.",
    ],
)
def test_a_challenge_dressed_as_a_report_is_an_auto_reply(read, multipart, text):
    """behaviour.md 2.1, step 3: a challenge is an auto-reply, even in the form of a report."""
    body = multipart(
        "b",
        f"Content-Type: text/plain\n\n{text}",
        status("Final-Recipient: rfc822; b@x.example\nAction: failed\nStatus: 4.7.0"),
    )
    assert read(body, head=MAILER, kind=REPORT).kind == "auto_reply"


@pytest.mark.parametrize(
    ("kind", "piece", "extra", "subject"),
    [
        (
            "multipart/report; report-type=disposition-notification; boundary=b",
            (
                "Content-Type: message/disposition-notification\n\nDisposition: "
                "manual-action/MDN-sent-manually; displayed"
            ),
            "",
            "Read: x",
        ),
        (
            "multipart/report; report-type=feedback-report; boundary=b",
            "Content-Type: message/feedback-report\n\nFeedback-Type: abuse",
            "",
            "FW: x",
        ),
        (
            "multipart/report; report-type=tlsrpt; boundary=b",
            "Content-Type: application/tlsrpt+gzip\n\nx",
            "TLS-Report-Domain: help.example",
            "Report Domain: help.example",
        ),
        (
            "multipart/mixed; boundary=b",
            "Content-Type: application/gzip; name=r.xml.gz\n\nx",
            "",
            "Report Domain: help.example Submitter: big.example Report-ID: <1>",
        ),
        (
            "multipart/mixed; boundary=b",
            "Content-Type: message/rfc822\n\nFrom: desk@help.example\nSubject: x\n\nx",
            "",
            "complaint about message from 192.0.2.1",
        ),
    ],
    ids=["receipt", "feedback", "tls", "dmarc", "complaint"],
)
def test_other_reports(read, multipart, kind, piece, extra, subject):
    """Receipts, complaints, TLS and DMARC reports are reports."""
    found = read(
        multipart("b", "Content-Type: text/plain\n\nSee the report.", piece),
        kind=kind,
        extra=extra,
        subject=subject,
    )
    assert (found.kind, found.auto_respond_ok) == ("report", False)


def test_a_mail_services_json_notice_is_a_bounce(read):
    """Amazon SES bounces are JSON, in lines that relays break."""
    notice = (
        '{"notificationType":"Bounce","bounce":{"bounceType":"Permanent",'
        '"bouncedRecipients":[{"emailAddress":"bob@site.example","action":"failed",'
        '"status":"5.1.1","diagno!\n sticCode":"smtp; 550 user '
        'unknown"}]},"mail":{"messageId":"0101-ours"}}\n\n--\nYou are subscribed.'
    )
    found = read(
        notice,
        head=(
            b"From: AWS <no-reply@sns.example>\r\nTo: desk@help.example\r\nDate: Mon, 02 Mar "
            b"2026 10:00:00 +0100\r\n"
        ),
    )
    assert found.kind == "bounce"
    assert found.bounce is not None
    assert (
        found.bounce.recipients[0].address,
        found.bounce.recipients[0].status,
        found.bounce.original_message_id,
    ) == ("bob@site.example", "5.1.1", "0101-ours")
    wrapped = (
        '{"Type": "Notification", "Message": '
        '"{\\"notificationType\\":\\"Bounce\\",'
        '\\"bounce\\":{\\"bouncedRecipients\\":[{\\"emailAddress\\":\\"b@x.example\\"}]}}"}'
    )
    assert read(wrapped).kind == "bounce"
    assert read('{"notificationType":"Complaint"}').kind == "report"
    assert read('{"notificationType": broken').kind == "human"


def test_a_bounce_that_says_verify_is_no_challenge(read):
    """A bounce that contains "verify" is still a bounce."""
    text = (
        "Your message could not be delivered:\n\n<bob@site.example>: 550 5.7.1 Verification "
        "failed, unable to verify sender; unauthenticated senders not allowed\n"
    )
    assert read(text, head=MAILER, subject="Undelivered Mail Returned to Sender").kind == "bounce"
