"""Tests of the one place that prints: nothing a stranger wrote steers the terminal."""

from __future__ import annotations

import io
import json
import tomllib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import output
from gateway.cli.pipeline_file import toml_of
from tests.unit.core.workflow.test_references import pipeline

ESCAPES = {
    "escape sequence": ("\x1b[31m", "\\u001b[31m"),
    "window title": ("\x1b]0;owned\x07", "\\u001b]0;owned\\u0007"),
    "link": ("\x1b]8;;http://evil.example\x1b\\", "\\u001b]8;;http://evil.example\\u001b\\"),
    "C1 control": ("\x9b31m", "\\u009b31m"),
    "C1 OSC": ("\x9d0;x\x9c", "\\u009d0;x\\u009c"),
    "next line": ("a\x85b", "a\\u0085b"),
    "bidi override": ("\u202egpj.exe", "\\u202egpj.exe"),
    "bidi isolate": ("\u2066x\u2069", "\\u2066x\\u2069"),
    "Arabic mark": ("\u061c", "\\u061c"),
    "line separator": ("a\u2028b\u2029", "a\\u2028b\\u2029"),
    "backspace": ("yes\b\b\bno", "yes\\u0008\\u0008\\u0008no"),
    "carriage return": ("yes\rno", "yes\\u000dno"),
    "delete": ("\x7f", "\\u007f"),
    "invisible": ("a\u200bb\ufeffc\u00ad", "a\\u200bb\\ufeffc\\u00ad"),
    "tags": ("\U000e0041", "\\U000e0041"),
    "lone surrogate": ("\udc9b", "\\udc9b"),
}
GOOD = ["Grüße", "日本語\u3000空白", "مرحبا", "क्‍ष", "👩\u200d💻", "5\u00a0€", "tab\there", "a\nb"]


@pytest.mark.parametrize("name", ESCAPES)
def test_controls_are_visible(capsys, name):
    """Every control, C1, bidi and OSC sequence is printed as an escape, on both streams."""
    raw, shown = ESCAPES[name]
    output.say(raw)
    output.say(raw, error=True)
    output.table(("Name",), [(raw,)])
    output.facts([("Name", raw)])
    out, err = capsys.readouterr()
    assert (out.splitlines()[0], err) == (shown, shown + "\n")
    assert out.count(shown) == 3
    assert raw not in out + err


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_is_printed_as_it_is(capsys, text):
    """Letters, spaces, joiners, line ends and tabs of any script stay."""
    output.say(text)
    assert capsys.readouterr().out == text + "\n"


@given(st.text())
def test_json_has_the_same_value_and_no_control(text):
    """A JSON document reads back as what it was, whatever its texts hold."""
    stream = io.StringIO()
    output.emit({"text": text, text: [text]}, to=stream)
    printed = stream.getvalue().removesuffix("\n")
    assert json.loads(printed) == {"text": text, text: [text]} | {text: [text]}
    assert not [each for each in printed if unicodedata.category(each) in ("Cc", "Cs")]
    assert "\u202e" not in printed


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_an_exported_file_has_the_same_value(text):
    """TOML reads back as what was exported, although controls are printed as escapes."""
    stream = io.StringIO()
    output.say(toml_of([pipeline(1, text, "x")]), to=stream, end="")
    assert tomllib.loads(stream.getvalue())["pipeline"][0]["name"] == text


def test_bytes_are_raw_in_a_pipe_and_visible_on_a_terminal(monkeypatch):
    """`mail raw` gives every byte to a file or pipe, and text to a terminal."""
    for terminal, printed in ((False, b"\x1b[1m\xff"), (True, "\\u001b[1m\ufffd\n".encode())):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, "utf-8")
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr("sys.stdout", stream)
        output.say_bytes(b"\x1b[1m\xff")
        assert raw.getvalue() == printed
