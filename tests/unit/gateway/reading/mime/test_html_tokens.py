"""Tests of HTML that is written anew: it shows the same, and has few of everything."""

from __future__ import annotations

import re

import nh3
import pytest

from gateway.reading.mime import html, limits
from gateway.reading.mime.html_tokens import TooDeep, rewrite

TAGS = html._TAGS


@pytest.mark.parametrize(
    "source",
    [
        '<p>a <b>b</b> <a href="http://x.example/?a=1&amp;b=2">c</a></p>',
        "<P>a<BR>b<hr/>c<img alt='it&#39;s' src=cid:x>",
        "<p>1 &lt; 2 &amp;&amp; 3 &gt; 2, &nbsp;&euro;5 &notit; &copy &#8364;</p>",
        "<table><tr><td align=center>a</td><td>b</table>",
        "<ul><li>a<li>b</ul><dl><dt>c<dd>d</dl>",
        '<a href="http://x.example/?a=1&copy=2&lt3">a</a>',
        "<a href=http://x.example/>a</a>",
        "<p title='a>b' lang=\"de\">x < y > z</p>",
        "<!-- a --><p>b<!--> c <!-- d --!>e</p><![if x]>f<![endif]><?xml g?>",
        "<style>p > b {}</style><p>a</p><script>'<p>'</script>b",
        "<div><b><p>a</b>b</p></div>",
        "<o:p>a</o:p><svg><p>b</svg><textarea>c</textarea>",
        "<p>a<",
        "<p>a<b",
        "a</p>b</br>c",
        '<p id="a"id="b" =x y>c',
    ],
)
def test_ordinary_html_shows_the_same(source):
    """What is shown of ordinary, sloppy and odd HTML does not depend on its being rewritten."""
    assert nh3.clean(rewrite(source, TAGS)) == nh3.clean(source)


def test_an_empty_element_is_empty():
    """An element that its sender closed at once, as in XHTML, holds nothing."""
    assert rewrite("<div/>a<span />b", TAGS) == "<div></div>a<span></span>b"


def test_attributes_are_counted_wherever_they_hide():
    """A tag keeps its first hundred attributes, also where quotes and brackets mislead."""
    for head in ("<p ", '<p =" x=">', "<script></script><p x='>' ", "<!--><p "):
        found = rewrite(head + "".join(f'a{i}=">" ' for i in range(5000)) + ">x", TAGS)
        counts = [tag.count('="') for tag in re.findall("<[^<>]*>", found)]
        assert max(counts) <= limits.HTML_ATTRIBUTES


def test_a_long_number_is_no_entity():
    """An entity with thousands of digits stays as it is written."""
    assert rewrite(f"&#{'9' * 5000};", TAGS).startswith("&amp;#999")
    assert html.to_text("<div>" * 300 + f"&#{'9' * 5000};")[0].startswith("&#999")


@pytest.mark.parametrize(
    "source",
    [
        "<div>" * 300,
        "<dt><li>" * 300,
        "<p>" + "".join(f"<font color={i}>" for i in range(200)) + "<p>" * 9000,
        "<div>" * 300 + "</span>" * 300,
    ],
    ids=["blocks", "items", "formats", "wrong ends"],
)
def test_too_deep_a_tree_is_refused(source):
    """HTML that would nest too deeply, or carry formats over too often, is not shown."""
    with pytest.raises(TooDeep):
        rewrite(source, TAGS)
    assert html.sanitise(source) == ("", "HTML nested too deeply to be shown")


def test_long_lists_are_not_deep():
    """A thousand list items, paragraphs and rows without end tags are shown."""
    for unit, around in (("<li>x", "ul"), ("<p>x", "div"), ("<tr><td>x", "table")):
        assert html.sanitise(f"<{around}>" + unit * 1000 + f"</{around}>")[0].count("x") == 1000
