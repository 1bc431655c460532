"""Tests of the visible reply: quotes and attributions are removed, all else stays."""

from __future__ import annotations

import textwrap

import pytest

ATTRIBUTIONS = [
    ("en", "On Mon, 2 Mar 2026 at 09:12, Bob Builder <bob@site.example> wrote:"),
    ("de", "Am Mo., 2. März 2026 um 09:12 Uhr schrieb Bob Builder <bob@site.example>:"),
    ("nl", "Op ma 2 mrt 2026 om 09:12 schreef Bob Builder <bob@site.example>:"),
    ("fr", "Le lun. 2 mars 2026 à 09:12, Bob Builder <bob@site.example> a écrit :"),
    ("es", "El lun, 2 mar 2026 a las 9:12, Bob Builder (<bob@site.example>) escribió:"),
    ("ca", "El dl., 2 de març 2026, 9:12, Bob Builder <bob@site.example> va escriure:"),
    ("pt", "Em seg., 2 de mar. de 2026 às 09:12, Bob Builder <bob@site.example> escreveu:"),
    ("it", "Il giorno lun 2 mar 2026 alle ore 09:12 Bob Builder <bob@site.example> ha scritto:"),
    ("ro", "În lun., 2 mar. 2026 la 09:12, Bob Builder <bob@site.example> a scris:"),
    ("da", "Den man. 2. mar. 2026 kl. 09.12 skrev Bob Builder <bob@site.example>:"),
    ("no", "man. 2. mar. 2026 kl. 09:12 skrev Bob Builder <bob@site.example>:"),
    ("sv", "Den mån 2 mars 2026 kl 09:12 skrev Bob Builder <bob@site.example>:"),
    ("is", "Þann mán., 2. mar. 2026 kl. 09:12 skrifaði Bob Builder <bob@site.example>:"),
    ("fi", "ma 2. maalisk. 2026 klo 9.12 Bob Builder (bob@site.example) kirjoitti:"),
    ("et", "Kuupäev E, 2. märts 2026 kell 09:12 kirjutas Bob Builder <bob@site.example>:"),
    (
        "lv",
        (
            "pirmd., 2026. g. 2. marts, plkst. 09:12 — lietotājs Bob Builder (<bob@site.example>) "
            "rakstīja:"
        ),
    ),
    ("lt", "2026-03-02, pr, 09:12 Bob Builder <bob@site.example> rašė:"),
    ("hu", "Bob Builder <bob@site.example> ezt írta (időpont: 2026. márc. 2., H, 9:12):"),
    ("pl", "pon., 2 mar 2026 o 09:12 Bob Builder <bob@site.example> napisał(a):"),
    ("cs", "po 2. 3. 2026 v 9:12 odesílatel Bob Builder <bob@site.example> napsal:"),
    ("sk", "po 2. 3. 2026 o 9:12 Bob Builder <bob@site.example> napísal(a):"),
    ("sl", "V pon., 2. mar. 2026 ob 09:12 je oseba Bob Builder <bob@site.example> napisala:"),
    ("hr", "pon, 2. ožu 2026. u 09:12 Bob Builder <bob@site.example> napisao je:"),
    ("sr", "пон, 2. мар 2026. у 09:12 Bob Builder <bob@site.example> је написао/ла:"),
    ("bg", "На пн, 2.03.2026 г. в 9:12 Bob Builder <bob@site.example> написа:"),
    ("ru", "пн, 2 мар. 2026 г. в 09:12, Bob Builder <bob@site.example>:"),
    ("uk", "пн, 2 бер. 2026 р. о 09:12 Bob Builder <bob@site.example> пише:"),
    ("el", "Στις Δευ 2 Μαρ 2026 στις 9:12 π.μ., ο χρήστης Bob Builder <bob@site.example> έγραψε:"),
    ("tr", "Bob Builder <bob@site.example>, 2 Mar 2026 Pzt, 09:12 tarihinde şunu yazdı:"),
    ("ja", "2026年3月2日(月) 9:12 Bob Builder <bob@site.example>:"),
    ("zh", "Bob Builder <bob@site.example> 于2026年3月2日周一 09:12写道："),
    ("ko", "2026년 3월 2일 (월) 오전 9:12, Bob Builder <bob@site.example>님이 작성:"),
    ("vi", "Vào Th 2, 2 thg 3, 2026 vào lúc 09:12 Bob Builder <bob@site.example> đã viết:"),
    ("id", "Pada tanggal Sen, 2 Mar 2026 pukul 09.12 Bob Builder <bob@site.example> menulis:"),
    (
        "he",
        "\u200fבתאריך יום ב׳, 2 במרץ 2026 ב-9:12 מאת Bob Builder <\u200fbob@site.example\u200f>:",
    ),
    ("ar", "في الاثنين، 2 مارس 2026 في 9:12 ص كتب Bob Builder <bob@site.example>:"),
]
QUOTE = "> The pump drips.\n>\n> Bob\n"


@pytest.mark.parametrize(("code", "sentence"), ATTRIBUTIONS, ids=[row[0] for row in ATTRIBUTIONS])
def test_attributions_in_each_language(read, code, sentence):
    """The reply is the text above; attribution and quote are kept beside it."""
    found = read(f"I will send someone.\n\nAda\n\n{sentence}\n\n{QUOTE}", subject="Re: Pump")
    assert found.reply_text == "I will send someone.\n\nAda"
    assert "The pump drips." in found.quoted_text
    assert sentence[:8].strip("\u200f") in found.quoted_text


@pytest.mark.parametrize(("code", "sentence"), ATTRIBUTIONS, ids=[row[0] for row in ATTRIBUTIONS])
def test_attributions_in_their_shapes(read, code, sentence):
    """Attributions over several lines, without a blank line, on top, and in HTML are found."""
    escaped = sentence.replace("<", "&lt;").replace(">", "&gt;")
    html = {"kind": "text/html; charset=utf-8"}
    assert (
        read(f"Yes, today.\n\n{textwrap.fill(sentence, 38)}\n\n{QUOTE}").reply_text == "Yes, today."
    )
    assert read(f"Yes, today.\n{sentence}\n{QUOTE}").reply_text == "Yes, today."
    assert read(f"{sentence}\n{QUOTE}\nYes, today.\n").reply_text == "Yes, today."
    quote = "<blockquote><div>The pump drips.</div></blockquote>"
    assert (
        read(
            (
                '<div>Yes, today.</div><br><div class="gmail_quote"><div '
                f'class="gmail_attr">{escaped}<br></div>{quote}</div>'
            ),
            **html,
        ).reply_text
        == "Yes, today."
    )
    assert (
        read(
            (
                f'Yes, today.<br><blockquote type="cite"><div>{escaped}</div><br>The pump '
                "drips.</blockquote>"
            ),
            **html,
        ).reply_text
        == "Yes, today."
    )
    assert (
        read(
            f'<p>Yes, today.</p><div class="moz-cite-prefix">{escaped}<br></div>{quote}', **html
        ).reply_text
        == "Yes, today."
    )


@pytest.mark.parametrize(("code", "sentence"), ATTRIBUTIONS, ids=[row[0] for row in ATTRIBUTIONS])
def test_unquoted_mail_below_an_attribution_is_cut(read, code, sentence):
    """Unquoted text below an attribution with time or address is removed."""
    assert (
        read(
            f"I will send someone.\n\n{sentence}\nThe pump drips.\n\nBob\n", subject="Re: Pump"
        ).reply_text
        == "I will send someone."
    )


def test_an_attribution_over_three_lines(read):
    """A long address may break an attribution over three lines."""
    text = (
        "Yes.\n\nOn Mon, Mar 2, 2026 at\n9:12 AM Bob Builder from the Northern "
        f"Site\n<bob.builder@the-northern-site.example> wrote:\n\n{QUOTE}"
    )
    assert read(text).reply_text == "Yes."


def test_text_below_the_quote(read):
    """With bottom posting, the text below the quote is the reply."""
    assert (
        read(
            f"On Mon, 2 Mar 2026 at 09:12, Bob <bob@site.example> wrote:\n{QUOTE}\nYes, tomorrow.\n"
        ).reply_text
        == "Yes, tomorrow."
    )


def test_interleaved_answers_are_never_cut(read):
    """Interleaved text keeps its quotes; only the attribution is removed."""
    text = (
        "On Mon, 2 Mar 2026 at 09:12, Bob <bob@site.example> wrote:\n> "
        "When?\n\nTomorrow.\n\n> Who?\n\nMe.\n"
    )
    assert read(text).reply_text == "> When?\n\nTomorrow.\n\n> Who?\n\nMe."


def test_words_on_both_sides_of_a_quote_keep_it(read):
    """Text above and below a quote keeps the quote."""
    text = "Two things.\n\n> When?\n\nTomorrow, as I told you on the phone this morning.\n"
    assert "> When?" in read(text).reply_text


def test_a_closing_below_the_quote_is_no_answer(read):
    """A closing or signature below a quote stays and does not make it interleaved."""
    assert read(
        f"Yes.\n\nOn Mon, 2 Mar 2026 at 09:12, Bob <bob@site.example> wrote:\n{QUOTE}\nKind "
        "regards,\nAda\n"
    ).reply_text.split() == ["Yes.", "Kind", "regards,", "Ada"]


def test_closings_and_signatures_stay(read):
    """A closing or signature is never removed."""
    text = (
        "Yes.\n\nBest,\nAda\n-- \nAda Reader\nHead of Pumps\n\nOn Mon, 2 Mar 2026 at 09:12, "
        f"Bob <bob@site.example> wrote:\n{QUOTE}"
    )
    assert read(text).reply_text == "Yes.\n\nBest,\nAda\n-- \nAda Reader\nHead of Pumps"


def test_a_quote_alone_gives_nothing(read):
    """interfaces.md 3: a mail that only quotes has an empty reply."""
    assert read(QUOTE).reply_text == ""


def test_a_header_block_and_its_rule_are_cut(read):
    """Outlook's quote, from its rule and header block on, is removed."""
    text = (
        "Yes.\n\n________________________________\nFrom: Bob <bob@site.example>\nSent: "
        "Monday\nTo: Ada\nSubject: Pump\n\nThe pump drips.\n"
    )
    found = read(text, subject="Re: Pump")
    assert found.reply_text == "Yes."
    assert found.quoted_text.startswith("____")


@pytest.mark.parametrize(
    "mark",
    [
        "-----Original Message-----",
        "-----Ursprüngliche Nachricht-----",
        "-----Message d'origine-----",
        "-----Mensaje original-----",
        "-----原始邮件-----",
    ],
)
def test_reply_marks(read, mark):
    """The marks above a quoted mail are recognised."""
    assert (
        read(f"Yes.\n\n{mark}\nFrom: Bob\nSubject: Pump\n\nThe pump drips.\n").reply_text == "Yes."
    )


@pytest.mark.parametrize("html", [
    ('<div>Yes.</div><div class="gmail_quote"><div>On Mon, 2 Mar 2026 at 09:12, Bob '
        '&lt;bob@site.example&gt; wrote:<br></div><blockquote>The pump drips.</blockquote></div>'),
    ('<p>Yes.</p><div id="divRplyFwdMsg"><b>From:</b> Bob '
        '&lt;bob@site.example&gt;<br><b>Sent:</b> Monday<br><b>To:</b> Ada<br><b>Subject:</b> '
        'Pump<br></div><div>The pump drips.</div>'),
    '<div>Yes.</div><br><blockquote type="cite">The pump drips.</blockquote>',
    ('<p>Yes.</p><div style="border-top:solid #E1E1E1 1.0pt"><p><b>Von:</b> Bob '
        '&lt;bob@site.example&gt;</p><p><b>Gesendet:</b> Montag</p><p><b>An:</b> '
        'Ada</p><p><b>Betreff:</b> Pumpe</p></div><p>Sie tropft.</p>'),
])  # fmt: skip
def test_quotes_in_html(read, html):
    """The quote marks of HTML clients are recognised."""
    assert read(html, kind="text/html; charset=utf-8").reply_text == "Yes."


@pytest.mark.parametrize(
    "text",
    [
        "He wrote:\n\nNothing at all.",
        "Note: the price > 5\nDate: tomorrow",
        "On Monday I wrote to you: nothing came.",
        "| a | b |\n| 1 | 2 |",
        "From: here to there\nit is far",
    ],
)
def test_a_persons_own_words_are_not_cut(read, text):
    """Sentences that only look like quotes stay."""
    assert read(text).reply_text == text
