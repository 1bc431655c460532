"""Decode bytes to text in the charset of their label, or in a more likely charset.

A charset label is a claim by the sender. Only labels in the tables are passed to a codec
(``punycode`` of 400 KB takes eight seconds, reliability.md 16). If the bytes are not in the charset
of the label, the charset is guessed from a sample. Nothing here raises, and the text never contains
NUL or a lone surrogate.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from core.normal_form import nfc_and_rest
from gateway.reading.mime import limits

_SINGLE_BYTE: Final[dict[str, str]] = {
    "usascii": "cp1252", "ascii": "cp1252", "ansix341968": "cp1252", "646": "cp1252",
    "iso646us": "cp1252", "iso88591": "cp1252", "latin1": "cp1252", "l1": "cp1252",
    "88591": "cp1252", "iso885911987": "cp1252", "cp819": "cp1252", "iso88592": "iso8859_2",
    "latin2": "iso8859_2", "iso88593": "iso8859_3", "iso88594": "iso8859_4",
    "iso88595": "iso8859_5", "iso88596": "iso8859_6", "iso88597": "iso8859_7",
    "iso88598": "iso8859_8", "iso88598i": "iso8859_8", "iso88598e": "iso8859_8",
    "iso88599": "cp1254", "latin5": "cp1254", "iso885910": "iso8859_10", "iso885911": "cp874",
    "iso885913": "iso8859_13", "iso885914": "iso8859_14", "iso885915": "iso8859_15",
    "latin9": "iso8859_15", "iso885916": "iso8859_16", "tis620": "cp874", "windows874": "cp874",
    "cp874": "cp874", "koi8r": "koi8_r", "koi8": "koi8_r", "koi8u": "koi8_u", "koi8ru": "koi8_u",
    "macintosh": "mac_roman", "mac": "mac_roman", "xmacroman": "mac_roman",
    "macroman": "mac_roman", "xmaccyrillic": "mac_cyrillic", "xmacgreek": "mac_greek",
    "xmacturkish": "mac_turkish", "xmaccentraleurroman": "mac_latin2", "xmacce": "mac_latin2",
    "ansi": "cp1252", "default": "cp1252", "xansi": "cp1252", "westerneuropean": "cp1252",
    "kz1048": "kz1048", "ptcp154": "ptcp154", "hproman8": "hp_roman8", "roman8": "hp_roman8",
}  # fmt: skip
_MULTI_BYTE: Final[dict[str, str]] = {
    "utf8": "utf-8", "utf8mb4": "utf-8", "unicode11utf8": "utf-8", "cp65001": "utf-8",
    "utf7": "utf-7", "unicode11utf7": "utf-7", "utf16": "utf-16", "utf16le": "utf-16-le",
    "utf16be": "utf-16-be", "utf32": "utf-32", "utf32le": "utf-32-le", "utf32be": "utf-32-be",
    "gb2312": "gb18030", "gb231280": "gb18030", "xgbk": "gb18030", "gbk": "gb18030",
    "gb18030": "gb18030", "euccn": "gb18030", "chinese": "gb18030", "cp936": "gb18030",
    "ms936": "gb18030", "csgb2312": "gb18030", "hz": "hz", "hzgb2312": "hz", "big5": "big5hkscs",
    "big5hkscs": "big5hkscs", "xxbig5": "big5hkscs", "cnbig5": "big5hkscs", "cp950": "cp950",
    "shiftjis": "cp932", "sjis": "cp932", "xsjis": "cp932", "mskanji": "cp932", "cp932": "cp932",
    "windows31j": "cp932", "eucjp": "euc_jp", "xeucjp": "euc_jp", "iso2022jp": "iso2022_jp_ext",
    "iso2022jp1": "iso2022_jp_ext", "iso2022jp2": "iso2022_jp_2", "iso2022jp3": "iso2022_jp_3",
    "iso2022jpms": "iso2022_jp_ext", "cp50220": "iso2022_jp_ext", "cp50221": "iso2022_jp_ext",
    "euckr": "cp949", "ksc5601": "cp949", "ksc56011987": "cp949", "ksc56011989": "cp949",
    "cp949": "cp949", "uhc": "cp949", "korean": "cp949", "iso2022kr": "iso2022_kr",
    "johab": "johab",
}  # fmt: skip
_CODE_PAGES: Final = frozenset(
    "037 273 424 437 500 720 737 775 850 852 855 856 857 858 860 861 862 863 864 865 866 869 "
    "875 1006 1026 1125 1140 "
    "1250 1251 1252 1253 1254 1255 1256 1257 1258".split()
)
_CODE_PAGE_LABEL: Final = re.compile(
    r"(?:windows|win|cp|ibm|xcp|xwindows|ansi|cswindows|oem|ms|dos|ccsid)0*(\d{2,5})"
)
_LABEL_PUNCTUATION: Final = str.maketrans("", "", "-_ .:()/\\'\"")
_NOT_STORABLE: Final = re.compile("[\x00\ud800-\udfff\ufffe\uffff]")
_UTF8_LONG: Final = re.compile(rb"[\xe0-\xf4][\x80-\xbf][\x80-\xbf]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ISO2022: Final = re.compile(rb"\x1b\$[@B]|\x1b\$\(D|\x1b\([JB]")


@lru_cache(maxsize=512)
def codec(label: str) -> str | None:
    """Return the Python codec for a charset label; None for a label outside the allow-list."""
    squashed = label[:60].split("*")[0].lower().translate(_LABEL_PUNCTUATION)
    found = _MULTI_BYTE.get(squashed) or _SINGLE_BYTE.get(squashed)
    if found is None and (page := _CODE_PAGE_LABEL.fullmatch(squashed)):
        number = page[1].zfill(3)
        found = (
            _MULTI_BYTE.get("cp" + number)
            or _SINGLE_BYTE.get("cp" + number)
            or (f"cp{number}" if number in _CODE_PAGES else None)
        )
    if found is None and squashed[:2] == "cs":
        return codec(squashed[2:]) if len(squashed) > 2 else None
    return found


def decode(
    data: bytes, label: str | None = None, hint: str | None = None
) -> tuple[str, str | None]:
    """Return (text, defect) of ``data``; the defect is None unless the charset label is wrong.

    ``label`` is the declared charset; ``hint`` is a second guess (for raw 8-bit headers, the
    charset of the body). Valid multi-byte UTF-8 overrules a wrong label (interfaces.md 3). CR, LF
    and tabs stay, NUL and surrogates are removed, and the text is NFC.
    """
    name = codec(label) if label else None
    if data.isascii():
        if b"\x1b" not in data and name not in _WIDE and name not in {"hz", "utf-7"}:
            text = data.decode(name if name in _EBCDIC else "ascii", "replace")
            defect = f"unknown charset {_printable(label)}" if label and not name else None
            return _NOT_STORABLE.sub("", text) if "\x00" in text else text, defect
        if name is None and _ISO2022.search(data):
            name = "iso2022_jp_ext"
    text, defect = _decode(data, name, label, hint)
    return clean(text), defect


def _printable(label: str | None) -> str:
    return _CONTROL.sub("", (label or "")[:40]).encode("ascii", "replace").decode("ascii")


def _decode(
    data: bytes, name: str | None, label: str | None, hint: str | None
) -> tuple[str, str | None]:
    if name == "utf-8":
        return _utf8(data)
    wrong = f"unknown charset {_printable(label)}" if label and not name else None
    utf8 = _strict(data, "utf-8") if not data.isascii() else None
    if utf8 is not None and (
        name is None or name in _SINGLE_BYTE_CODECS or _UTF8_LONG.search(data) and name not in _WIDE
    ):
        return utf8, wrong or (
            None if name is None else f"the bytes are UTF-8, not {_printable(label)}"
        )
    if name is not None:
        text = _strict(data, name)
        if text is not None and not (name in _WIDE and _mostly_unassigned(text)):
            return text, None
        if name == "cp1252":
            return _cp1252(data), None
        if utf8 is not None:
            return utf8, f"the bytes are UTF-8, not {_printable(label)}"
        if text is None and (loose := _loose(data, name)) is not None:
            return loose, f"bytes that are no {_printable(label)}"
        wrong = f"bytes that are no {_printable(label)}"
    return _guess(data, hint), wrong or "8-bit text without a charset"


_SINGLE_BYTE_CODECS: Final = frozenset(_SINGLE_BYTE.values()) | {
    f"cp{page}" for page in _CODE_PAGES
}
_WIDE: Final = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"})
_EBCDIC: Final = frozenset({"cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"})


def _strict(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except (UnicodeError, LookupError, ValueError):
        return None


def _loose(data: bytes, name: str) -> str | None:
    """Return the text decoded by codec ``name``; None if more than a few bytes are invalid."""
    try:
        text = data.decode(name, "replace")
    except (UnicodeError, LookupError, ValueError):
        return None
    return text if text.count("\ufffd") * 20 <= len(text) + 20 else None


def _utf8(data: bytes) -> tuple[str, str | None]:
    if (text := _strict(data, "utf-8")) is not None:
        return text.removeprefix("\ufeff"), None
    loose = data.decode("utf-8", "replace")
    broken, high = loose.count("\ufffd"), _count_high(data)
    if not (broken * 4 <= high or broken <= 1 and high > 2):
        loose = _guess(data, None)
    return loose, "bytes that are no UTF-8"


_HIGH_BYTES: Final = bytes(range(128, 256))


def _count_high(data: bytes) -> int:
    """Count the bytes that are not ASCII."""
    return len(data) - len(data.translate(None, delete=_HIGH_BYTES))


def _cp1252(data: bytes) -> str:
    """Decode Windows-1252; data with one of its five undefined bytes is decoded as Latin-1."""
    return data.decode("latin-1") if _strict(data, "cp1252") is None else data.decode("cp1252")


def _mostly_unassigned(text: str) -> bool:
    """Tell whether over a quarter of the characters are unassigned, a sign of a wrong label."""
    sample = text[:100]
    return bool(sample) and sum(
        unicodedata.category(c) in {"Cn", "Co", "Cs"} for c in sample
    ) * 4 > len(sample)


def _guess(data: bytes, hint: str | None) -> str:
    """Return the likeliest text of unlabelled bytes: as UTF-8, as ``hint``, or by statistics."""
    text = _strict(data, "utf-8")
    if text is not None:
        return text
    name = codec(hint) if hint else None
    if name and name not in {"utf-8", "cp1252"} and (text := _strict(data, name)) is not None:
        return text
    high = _count_high(data)
    if high >= 3 and (cyrillic := _cyrillic(data)) is not None:
        return cyrillic
    if (
        high >= 4
        and (best := _by_shape(data[: limits.CHARSET_SAMPLE], high)) is not None
        and (text := _loose(data, best)) is not None
    ):
        return text
    return _cp1252(data)


def _cyrillic(data: bytes) -> str | None:
    """Return the text as Windows-1251 or KOI8-R if nearly all high bytes form Cyrillic words.

    A letter that is upper case in one code page is lower case in the other. So only the right code
    page gives Cyrillic words in lower case or capitalised. Text of another script gives words of
    mixed case with both.
    """
    sample = data[: limits.CHARSET_SAMPLE]
    best, reading = 0.0, None
    for name in ("cp1251", "koi8_r"):
        text = sample.decode(name, "replace")
        letters = sum(c > "\x7f" for c in text)
        wild = sum(c > "\x7f" for c in _CYRILLIC_WORD.sub("", text))
        score = 1 - wild / letters if letters else 0.0
        if score > best:
            best, reading = score, name
    return data.decode(reading, "replace") if reading and best >= 0.9 else None


_CYRILLIC_WORD: Final = re.compile("(?<![а-яёА-ЯЁ])[А-ЯЁ]?[а-яё]+")


def _by_shape(sample: bytes, high: int) -> str | None:
    """Return the codec that charset-normalizer guesses, or None.

    The result is None for text in Latin letters with only a few accents.
    """
    letters = len(sample) - len(
        sample.translate(None, delete=bytes(range(65, 91)) + bytes(range(97, 123)))
    )
    if high * 3 < letters:
        return None
    from charset_normalizer import from_bytes  # 30 ms to import, and few mails need it

    found = from_bytes(
        sample,
        cp_isolation=[
            "cp1251",
            "koi8_r",
            "gb18030",
            "big5",
            "cp932",
            "euc_jp",
            "cp949",
            "cp1253",
            "cp1255",
            "cp1256",
        ],
    )
    best = found.best()
    return best.encoding if best is not None else None


def clean(text: str, limit: int | None = None) -> str:
    """Return text that can be stored: no NUL or lone surrogate, NFC, up to ``limit`` characters.

    Combining marks that are too many for a letter are left out (:mod:`core.normal_form`).
    """
    text = text[:limit]
    if text.isascii():
        return _NOT_STORABLE.sub("", text) if "\x00" in text else text
    text, left_out = nfc_and_rest(_NOT_STORABLE.sub("", text))
    if left_out:
        limits.leave_out("more combining marks than are kept")
    return text[:limit]


def one_line(text: str, limit: int) -> str:
    """Return text on one line, with runs of blanks squeezed and control characters removed."""
    return clean(" ".join(_CONTROL.sub("", text[: limit * 4]).split()), limit)
