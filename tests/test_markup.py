"""Whatever a machine calls itself stays text."""

from __future__ import annotations

import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.markup import Fragment, bullets, escape, figure_text, paragraph, sentence, visible


class _Tags(HTMLParser):
    """The elements, attributes and text of a piece of HTML, as a browser would take it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.said = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.said += data


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("two\nlines\tand\rmore", r"two\nlines\tand\rmore"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        ("line\u2028sep\x85", r"line\u2028sep\x85"),
        ("no\u00a0break\u3000wide", "no break wide"),
        ("größe ☃ 日本", "größe ☃ 日本"),
    ],
)
def test_marks_that_cannot_be_seen_are_made_visible(raw: str, shown: str) -> None:
    assert visible(raw) == shown


@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_becomes_printable(raw: str) -> None:
    shown = visible(raw)
    assert all(unicodedata.category(letter)[0] != "C" for letter in shown)
    shown.encode("utf-8")


def test_ten_thousand_letters_are_cut_and_counted() -> None:
    assert visible("n" * 10_000) == "n" * 200 + "… (10,000 characters)"
    assert visible("n" * 200) == "n" * 200


@given(st.text(alphabet=st.characters(), max_size=150))
def test_escaped_text_is_one_text_and_no_element_in_an_element_and_in_an_attribute(raw: str) -> None:
    parsed = _Tags(f'<p title="{escape(raw)}">{escape(raw)}</p>')
    assert parsed.tags == [("p", [("title", visible(raw))])]
    assert parsed.said == visible(raw)


def test_a_fragment_is_escaped_once_and_shown_by_a_notebook_as_html() -> None:
    made = paragraph(sentence("<b>{0}</b>", "a & b"))
    assert made == "<p><b>a &amp; b</b></p>"
    assert escape(made) is made
    assert made._repr_html_() == str(made)
    assert isinstance(bullets(["<i>", made]), Fragment)
    assert bullets(["<i>", made]) == "<ul><li>&lt;i&gt;</li><li><p><b>a &amp; b</b></p></li></ul>"


def test_a_sentence_formats_numbers_and_escapes_what_formatting_gives() -> None:
    assert sentence("{0:.1f} &times; {name!r}", 2.345, name="<x>") == "2.3 &times; &#x27;&lt;x&gt;&#x27;"


def test_a_dollar_begins_no_formula_in_a_figure() -> None:
    assert figure_text("$x^2$\n") == r"\$x^2\$\n"
