"""Tests that citations of the specification, decisions, files and pages name existing things.

Forms of citation: ``behaviour.md E38`` (a row), ``behaviour.md 2.1`` (a section),
``reliability.md 26`` (an item of its section 1), ``reliability.md section 3``. A row, scenario or
section of behaviour.md may be cited without the name of the page: E38, scenario 12, section 5.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.source import MARKDOWN, ROOT, SOURCES, SPEC, TESTS, place, prose

PAGES = {path.stem: path.read_text() for path in SPEC.glob("*.md")}
SCENARIOS = sorted((ROOT / "tests/replay").glob("*/scenario.toml"))

NUMBERED = re.compile(r"^(\d+[a-z]?)\. ", re.MULTILINE)
HEADING = re.compile(r"^#+ (\d+(?:\.\d+)?)\.? ", re.MULTILINE)
ROW = re.compile(r"\b(?:INV\d{1,2}|[EOP]\d{2}[a-z]?|C\d{1,2}|S\d{1,2}[a-d]?)\b")
PAGE = re.compile(rf"\b({'|'.join(PAGES)})\.md\b")
WORD = r"(?:sections?|rows?|steps?|ties?|items?|scenarios?)"
REFERENCE = re.compile(
    rf"[,;:]? *(?:and |to |-)? *(?P<word>{WORD} )?"
    r"(?P<name>[A-Z]{1,3}\d+[a-z]?|\d+(?:\.\d+)?[a-z]?)(?![\w/%]|\.\d)"
)
SCENARIO = re.compile(r"\b[Ss]cenarios? (\d+[a-z]?)(?:(?:,| and| to) (\d+[a-z]?)\b)*")
SECTION = re.compile(r"(?<!\d )\b[Ss]ection (\d+(?:\.\d+)?)")
DECISION = re.compile(r"\b(?:ADR |adr/)(\d{1,4})\b")
FILE = re.compile(r"(?<![\w./])(?:core|config|gateway|tests|docs|docker)/[\w/.*-]*\w(?:\.\w+)?")
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)")


def section(page: str, number: str) -> str:
    """Return the text of a numbered section of a page, up to the next heading of its level."""
    found = re.search(
        rf"^(#+) {re.escape(number)}\.? .*?(?=^\1 |\Z)", PAGES[page], re.MULTILINE | re.DOTALL
    )
    assert found, f"{page}.md has no section {number}"
    return found[0]


@cache
def rows() -> frozenset[str]:
    """Return the names of every row of behaviour.md: its tables, S1 to S14, C1 to C20 and INV."""
    text = PAGES["behaviour"]
    names = set(re.findall(r"^\| ([A-Z]\d+[a-z]?) \|", text, re.MULTILINE))
    names |= set(re.findall(r"^(?:\*\*)?([SC]\d+)\b", text, re.MULTILINE))
    names |= set(re.findall(r"\bINV\d+", section("behaviour", "2.7")))
    eighth = re.search(r"^S8 .*$", text, re.MULTILINE)
    assert eighth
    return frozenset(names | {f"S8{letter}" for letter in re.findall(r"\(([a-d])\)", eighth[0])})


@cache
def numbered(page: str, number: str = "") -> frozenset[str]:
    """Return the numbers of the list in a section of a page, or in the page."""
    return frozenset(NUMBERED.findall(section(page, number) if number else PAGES[page]))


@cache
def sections(page: str) -> frozenset[str]:
    """Return the numbers of the headings of a page."""
    return frozenset(HEADING.findall(PAGES[page]))


def exists(page: str, word: str, name: str) -> bool:
    """Return whether a page of the specification has the cited row, section or item."""
    if name[0].isalpha():
        return page == "behaviour" and name in rows()
    match page, word:
        case ("behaviour", "step"):
            return name in numbered("behaviour", "2.1") | {"5b"}
        case ("behaviour", "tie"):
            return f"({name})" in section("behaviour", "5")
        case ("reliability", "" | "item"):
            return name in numbered("reliability", "1")
        case ("scenarios", _) | (_, "scenario"):
            return name in numbered("scenarios")
        case ("steps", _):
            return name in numbered("steps")
        case (_, "" | "section"):
            return name in sections(page)
    return False


def listed(page: str, text: str) -> Iterator[str]:
    """Yield the errors in the list of citations that begins at the start of ``text``."""
    word, end = "", 0
    while found := REFERENCE.match(text, end):
        if "." in found["name"] and not found["word"]:
            word = ""  # "2.1, steps 3 and 5; 2.2": after the steps comes a section
        word = (found["word"] or word).strip().rstrip("s")
        if not exists(page, word, found["name"]):
            yield f"{page}.md {word} {found['name']}".replace("  ", " ")
        end = found.end()


def wrong(text: str) -> Iterator[str]:
    """Yield every citation in a piece of prose that leads nowhere."""
    for found in PAGE.finditer(text):
        yield from listed(found[1], text[found.end() :])
    yield from (name for name in ROW.findall(text) if name not in rows())
    for found in SCENARIO.finditer(text):
        numbers = re.findall(r"\d+[a-z]?", found[0])
        yield from (f"scenario {each}" for each in numbers if each not in numbered("scenarios"))
    for number in SECTION.findall(text):
        if number not in sections("behaviour"):
            yield f"section {number}"
    for number in DECISION.findall(text):
        if not list((ROOT / "docs/adr").glob(f"{int(number):04d}-*.md")):
            yield f"ADR {number}"
    for path in FILE.findall(text):
        if not (ROOT / path).exists() and not list(ROOT.glob(f"{path}*")):
            yield path


def test_the_specification_is_read() -> None:
    """Rows, steps, items and scenarios are found, so that the tests below test something."""
    assert {"E01", "E25b", "O16", "C01", "C1", "C20", "P12", "S14", "S8d", "INV14"} <= rows()
    assert {"2.1", "3.8", "5"} <= sections("behaviour")
    assert "2.5" in sections("interfaces")
    assert numbered("reliability", "1") == {str(number) for number in range(1, 37)}
    assert numbered("behaviour", "2.1") == {str(number) for number in range(1, 10)}
    assert {"1", "57b", "105"} <= numbered("scenarios")


@pytest.mark.parametrize(
    "text",
    [
        "behaviour.md E99",
        "behaviour.md 2.9",
        "behaviour.md 2.1, step 10",
        "behaviour.md 3.2, 3.9",
        "interfaces.md 2.6",
        "reliability.md 99",
        "reliability.md 26, section 4",
        "scenario 13",
        "scenarios 12 and 13",
        "section 7",
        "S8e and S15",
        "INV15",
        "rows E01 to E44",
        "ADR 99",
        "gateway/nowhere.py",
    ],
)
def test_a_citation_that_leads_nowhere_is_found(text: str) -> None:
    """A wrong row, section, item, scenario, decision or path is reported."""
    assert list(wrong(f"What it does ({text})."))


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=place)
def test_citations_in_code_resolve(path: Path) -> None:
    """Every citation in a docstring or comment names something that exists."""
    if path.name != "test_citations.py":
        assert [f"{line}: {each}" for line, text in prose(path) for each in wrong(text)] == []


@pytest.mark.parametrize("path", MARKDOWN, ids=place)
def test_citations_in_pages_resolve(path: Path) -> None:
    """Every citation in a Markdown page names something that exists."""
    assert list(wrong(" ".join(path.read_text().split()))) == []


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_rows_of_replayed_scenarios_resolve(path: Path) -> None:
    """The rows of a scenario are examples of scenarios.md or rows of another page."""
    shown = set(tomllib.loads(path.read_text())["rows"]) - numbered("scenarios")
    unknown = [row for row in shown if not (ROW.search(row) or PAGE.search(row))]
    assert unknown + [each for row in shown for each in wrong(row)] == []


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("path", [*MARKDOWN, ROOT / "CHANGELOG.md"], ids=place)
def test_links_between_pages_resolve(path: Path) -> None:
    """A relative link leads to a file of the project, and its anchor to a heading there."""
    broken = []
    for link in LINK.findall(path.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_items_of_reliability_are_cited_in_one_form() -> None:
    """An item is cited as "reliability.md 26", never as "reliability.md 1, item 26"."""
    other = re.compile(r"reliability\.md (?:section )?1, items?\b")
    texts = ((path, line, text) for path in (*SOURCES, *TESTS) for line, text in prose(path))
    found = [f"{place(path)}:{line}" for path, line, text in texts if other.search(text)]
    assert [each for each in found if not each.startswith("tests/architecture/")] == []
