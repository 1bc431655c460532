"""Tests that forwards are recognised in any language and from any client."""

from __future__ import annotations

import pytest

TEXT = "The pump on the second floor drips again.\n\nPlease send someone."

# language, mark, labels for from, date, subject, to, cc: as the mail programs of that language
# write them
LANGUAGES = [
    ("en", "---------- Forwarded message ---------", "From", "Date", "Subject", "To", "Cc"),
    (
        "de",
        "-------- Weitergeleitete Nachricht --------",
        "Von",
        "Datum",
        "Betreff",
        "An",
        "Kopie (CC)",
    ),
    (
        "nl",
        "---------- Doorgestuurd bericht ----------",
        "Van",
        "Verzonden",
        "Onderwerp",
        "Aan",
        "CC",
    ),
    (
        "fr",
        "-------- Message transféré --------",
        "De\u00a0",
        "Envoyé\u00a0",
        "Objet\u00a0",
        "À\u00a0",
        "Cc\u00a0",
    ),
    ("es", "-------- Mensaje reenviado --------", "De", "Fecha", "Asunto", "Para", "CC"),
    ("ca", "---------- Missatge reenviat ----------", "De", "Data", "Assumpte", "Per a", "A/c"),
    ("pt", "---------- Mensagem encaminhada ----------", "De", "Enviado", "Assunto", "Para", "Cc"),
    ("it", "---------- Messaggio inoltrato ----------", "Da", "Data", "Oggetto", "A", "Cc"),
    ("ro", "---------- Mesaj redirecționat ----------", "De la", "Data", "Subiect", "Către", "Cc"),
    ("da", "---------- Videresendt meddelelse ----------", "Fra", "Sendt", "Emne", "Til", "Cc"),
    ("no", "---------- Videresendt melding ----------", "Fra", "Dato", "Emne", "Til", "Kopi"),
    (
        "sv",
        "---------- Vidarebefordrat meddelande ----------",
        "Från",
        "Skickat",
        "Ämne",
        "Till",
        "Kopia",
    ),
    ("is", "---------- Áframsend skilaboð ----------", "Frá", "Dagsetning", "Efni", "Til", "Afrit"),
    (
        "fi",
        "---------- Välitetty viesti ----------",
        "Lähettäjä",
        "Lähetetty",
        "Aihe",
        "Vastaanottaja",
        "Kopio",
    ),
    ("et", "---------- Edastatud kiri ----------", "Saatja", "Kuupäev", "Teema", "Saaja", "Koopia"),
    ("lv", "---------- Pārsūtīta ziņa ----------", "No", "Datums", "Temats", "Kam", "Kopija"),
    ("lt", "---------- Persiųstas laiškas ----------", "Nuo", "Data", "Tema", "Kam", "Kopija"),
    (
        "hu",
        "---------- Továbbított üzenet ----------",
        "Feladó",
        "Elküldve",
        "Tárgy",
        "Címzett",
        "Másolatot kap",
    ),
    ("pl", "---------- Przekazana wiadomość ----------", "Od", "Wysłano", "Temat", "Do", "DW"),
    ("cs", "---------- Přeposlaná zpráva ----------", "Od", "Odesláno", "Předmět", "Komu", "Kopie"),
    ("sk", "---------- Preposlaná správa ----------", "Od", "Odoslané", "Predmet", "Komu", "Kópia"),
    ("sl", "---------- Posredovano sporočilo ----------", "Od", "Poslano", "Zadeva", "Za", "Kp"),
    (
        "hr",
        "---------- Proslijeđena poruka ----------",
        "Šalje",
        "Datum",
        "Predmet",
        "Prima",
        "Kopija",
    ),
    (
        "sr",
        "---------- Прослеђена порука ----------",
        "Шаље",
        "Датум",
        "Наслов",
        "Прималац",
        "Копија",
    ),
    (
        "bg",
        "---------- Препратено съобщение ----------",
        "От",
        "Изпратено",
        "Относно",
        "До",
        "Копие",
    ),
    ("ru", "-------- Пересылаемое сообщение --------", "От", "Дата", "Тема", "Кому", "Копия"),
    ("uk", "---------- Переслане повідомлення ----------", "Від", "Дата", "Тема", "Кому", "Копія"),
    ("el", "---------- Προωθημένο μήνυμα ----------", "Από", "Ημερομηνία", "Θέμα", "Προς", "Κοιν."),
    ("tr", "---------- İletilen mesaj ----------", "Kimden", "Tarih", "Konu", "Kime", "Bilgi"),
    ("ja", "---------- 転送メッセージ ----------", "差出人", "日付", "件名", "宛先", "CC"),
    ("zh", "---------- 转发的邮件 ----------", "发件人", "发送时间", "主题", "收件人", "抄送"),
    ("ko", "---------- 전달된 메시지 ----------", "보낸 사람", "날짜", "제목", "받는 사람", "참조"),
    ("vi", "---------- Thư được chuyển tiếp ----------", "Từ", "Ngày", "Chủ đề", "Đến", "Cc"),
    ("id", "---------- Pesan terusan ----------", "Dari", "Tanggal", "Subjek", "Kepada", "Cc"),
    ("he", "---------- הודעה מועברת ----------", "מאת", "תאריך", "נושא", "אל", "עותק"),
    ("ar", "---------- رسالة معاد توجيهها ----------", "من", "التاريخ", "الموضوع", "إلى", "نسخة"),
]


def block(labels, sep=": "):
    sender, date, subject, to, cc = labels
    return (
        f"{sender}{sep}Bob Builder <bob@site.example>\n{date}{sep}2 Mar 2026 "
        f"09:12\n{subject}{sep}Pump drips\n"
        f"{to}{sep}Ada Reader <ada@mail.example>\n{cc}{sep}Cy <cy@x.example>, dee@y.example\n"
    )


def check(found):
    assert found.kind == "forward", found.evidence
    inner = found.forward
    assert inner is not None
    assert inner.sender is not None
    assert (inner.sender.name, inner.sender.address) == ("Bob Builder", "bob@site.example")
    assert inner.subject == "Pump drips"
    assert [box.address for box in inner.to] == ["ada@mail.example"]
    assert [box.address for box in inner.cc] == ["cy@x.example", "dee@y.example"]
    assert inner.text == TEXT
    return inner


@pytest.mark.parametrize(
    ("code", "mark", "labels"),
    [(row[0], row[1], row[2:]) for row in LANGUAGES],
    ids=[row[0] for row in LANGUAGES],
)
def test_a_marked_forward_is_read_in_each_language(read, code, mark, labels):
    """A mark and a header block give the original mail and the comment, in each language."""
    inner = check(read(f"Can you look?\n\n{mark}\n{block(labels)}\n{TEXT}\n", subject="Something"))
    assert inner.comment == "Can you look?"
    assert inner.rule == "forward mark"


@pytest.mark.parametrize(
    ("code", "labels"), [(row[0], row[2:]) for row in LANGUAGES], ids=[row[0] for row in LANGUAGES]
)
def test_a_header_block_under_a_forward_prefix_is_read_in_each_language(read, code, labels):
    """Without a mark, as from Outlook, the subject prefix makes it a forward."""
    check(
        read(
            f"________________________________\n{block(labels)}\n{TEXT}\n", subject="FW: Pump drips"
        )
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "Fwd:",
        "FW:",
        "Fw:",
        "WG:",
        "TR:",
        "RV:",
        "I:",
        "VS:",
        "VB:",
        "Doorst:",
        "ENC:",
        "PD:",
        "VL:",
        "转发:",
        "転送:",
        "İLT:",
        "[team] Fwd:",
        "Fwd[2]:",
    ],
)
def test_forward_prefixes(read, prefix):
    """The prefixes of behaviour.md 2.1 step 8 and similar ones are recognised."""
    assert (
        read(f"{block(LANGUAGES[0][2:])}\n{TEXT}\n", subject=f"{prefix} Pump drips").kind
        == "forward"
    )


@pytest.mark.parametrize(
    "subject",
    ["Re: Pump drips", "AW: Pump drips", "Re: Fwd: Pump drips", "Fwdx: Pump", "Something else"],
)
def test_a_bare_header_block_is_a_reply(read, subject):
    """Without a forward prefix outermost, a header block is the quote of a reply."""
    found = read(
        f"Thanks\n\n-----Original Message-----\n{block(LANGUAGES[0][2:])}\n{TEXT}\n",
        subject=subject,
        extra="In-Reply-To: <zero@mail.example>",
    )
    assert (found.kind, found.forward, found.reply_text) == ("human", None, "Thanks")


def test_a_header_block_with_an_equal_subject_is_a_forward(read):
    """Without prefix and reference, an equal subject inside makes it a forward."""
    found = read(
        f"________________________________\n{block(LANGUAGES[0][2:])}\n{TEXT}\n",
        subject="Pump drips",
    )
    assert found.kind == "forward"
    again = read(
        f"________________________________\n{block(LANGUAGES[0][2:])}\n{TEXT}\n",
        subject="Pump drips",
        extra="In-Reply-To: <zero@mail.example>",
    )
    assert again.kind == "human"


def test_a_mark_inside_a_quote_does_not_count(read):
    """An answer that quotes a forward's mark is no forward."""
    quoted = "\n".join(
        "> " + line for line in f"{LANGUAGES[0][1]}\n{block(LANGUAGES[0][2:])}\n{TEXT}".split("\n")
    )
    assert (
        read(
            f"I will.\n\nOn Mon, 2 Mar 2026 at 10:00, Ada <ada@mail.example> wrote:\n\n{quoted}\n",
            subject="Re: Fwd: Pump",
        ).kind
        == "human"
    )


def test_a_mark_below_an_unquoted_header_block_does_not_count(read):
    """An answer whose client quotes without signs is no forward either."""
    reply = (
        "I will.\n\nFrom: Ada Reader <ada@mail.example>\nSent: Monday\nTo: Desk\nSubject: "
        f"FW: Pump\n\n{LANGUAGES[0][1]}\n{block(LANGUAGES[0][2:])}\n{TEXT}\n"
    )
    assert read(reply, subject="RE: FW: Pump").kind == "human"


def test_a_mark_without_header_block_is_no_forward(read):
    """A mark alone does not make a forward."""
    assert read("Begin forwarded message:\n\nhello\n").kind == "human"


def test_a_forward_quoted_as_a_whole(read):
    """Apple Mail's plain text quotes mark and block alike, without an attribution."""
    quoted = "\n".join(
        "> " + line
        for line in f"Begin forwarded message:\n\n{block(LANGUAGES[0][2:])}\n{TEXT}".split("\n")
    )
    inner = check(read(f"See below.\n\n{quoted}\n"))
    assert inner.comment == "See below."


def test_a_forward_on_a_single_line(read):
    """Yahoo's plain text puts the whole block on one line."""
    labels = LANGUAGES[1][2:]
    line = f"----- Weitergeleitete Nachricht ----- {block(labels).replace(chr(10), '')}"
    check(read(f"{line}\n{TEXT}\n"))


def test_a_forward_of_html(read):
    """Marks and blocks are found in HTML as well."""
    html = f"<div>Can you look?</div><div class=gmail_quote><div>{LANGUAGES[0][1]}<br>" + block(
        LANGUAGES[0][2:]
    ).replace("<", "&lt;").replace(">", "&gt;").replace("\n", "<br>")
    check(
        read(
            html + "</div><br>" + TEXT.replace("\n\n", "<br><br>") + "</div>",
            kind="text/html; charset=utf-8",
        )
    )


def test_addresses_in_their_links(read):
    """Outlook writes addresses twice, in brackets and links."""
    text = (
        "From: Bob Builder [mailto:bob@site.example]\nSent: Monday\nTo: Ada "
        "<ada@mail.example<mailto:ada@mail.example>>; Cy <cy@x.example>\nSubject: Pump "
        "drips\n\nDrip\n"
    )
    inner = read(text, subject="FW: Pump drips").forward
    assert inner is not None
    assert inner.sender is not None
    assert inner.sender.address == "bob@site.example"
    assert [box.address for box in inner.to] == ["ada@mail.example", "cy@x.example"]


def test_a_sender_by_name_alone(read):
    """Exchange names colleagues without an address."""
    inner = read(
        "From: Builder, Bob\nSent: Monday\nTo: Reader, Ada\nSubject: Pump drips\n\nDrip\n",
        subject="FW: Pump drips",
    ).forward
    assert inner is not None
    assert inner.sender is not None
    assert (inner.sender.name, inner.sender.address) == ("Builder, Bob", None)


def test_an_attached_mail_as_the_content(read, multipart):
    """Of a mail forwarded as attachment, the attached mail's own header counts."""
    inner = (
        "Content-Type: message/rfc822\n\nFrom: Bob Builder <bob@site.example>\nTo: Ada "
        "Reader <ada@mail.example>\nCc: cy@x.example, dee@y.example\nSubject: Pump "
        f"drips\n\n{TEXT}"
    )
    found = read(
        multipart("b", "Content-Type: text/plain\n\nCan you look?", inner),
        kind="multipart/mixed; boundary=b",
        subject="Fwd: Pump",
    )
    assert check(found).comment == "Can you look?"


@pytest.mark.parametrize(
    "extra",
    [
        "X-Forwarded-Message-Id: <old@x.example>",
        "Resent-From: <ada@mail.example>\nResent-Date: Mon, 2 Mar 2026 10:00:00 +0000",
    ],
)
def test_header_fields_of_a_forward(read, extra):
    """behaviour.md 2.1, step 8 b: header fields of a resent or forwarded mail are enough."""
    assert read("the text", extra=extra).kind == "forward"


@pytest.mark.parametrize(
    ("code", "mark", "labels"),
    [(row[0], row[1], row[2:]) for row in LANGUAGES],
    ids=[row[0] for row in LANGUAGES],
)
def test_the_shapes_of_one_forward(read, code, mark, labels):
    """One forward is read in each client's form: on one line, bold, with tabs, quoted, HTML."""
    lines = block(labels).strip().split("\n")
    name = mark.strip("- ") + ":"
    bold = [
        f"<b>{line.partition(':')[0]}:</b>{line.partition(':')[2].replace('<', '&lt;')}"
        for line in lines
    ]
    paragraphs = TEXT.replace("\n\n", "</p><p>")
    check(read(f"   {mark} {''.join(lines)}\n {TEXT}\n"))
    check(
        read(
            f"{mark}\n"
            + "\n".join("*" + line.replace(": ", ":* ", 1) for line in lines)
            + f"\n\n{TEXT}\n"
        )
    )
    check(
        read(
            f"{mark}\n"
            + "\n".join(line.replace(": ", ": \t", 1) for line in lines)
            + f"\n\n\n{TEXT}\n"
        )
    )
    check(read("\n".join("> " + line for line in [name, "", *lines, "", *TEXT.split("\n")])))
    check(
        read(
            f"Hi\n\n{name}\n\n" + "\n".join("> " + line for line in [*lines, "", *TEXT.split("\n")])
        )
    )
    check(read("\n\n".join(lines) + f"\n\n{TEXT}\n", subject="Fw: x"))
    check(read(f"________________________________\n{block(labels)}{TEXT}\n", subject="Fw: x"))
    check(
        read(
            f"<div>Hi<p style='border-top:solid'>{'<br>'.join(bold)}</p><p>{paragraphs}</p></div>",
            kind="text/html; charset=utf-8",
            subject="FW: x",
        )
    )
    check(
        read(
            (
                f"Hi<blockquote type=cite><div>{name}</div><br>"
                f"{''.join(f'<div>{line}</div>' for line in bold)}<br>"
                f"<p>{paragraphs}</p></blockquote>"
            ),
            kind="text/html; charset=utf-8",
        )
    )
