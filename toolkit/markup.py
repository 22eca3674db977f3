"""Text that came from a machine, made safe to show: in HTML, in a figure, in a terminal. Nothing here knows what the text says.

Host names, paths, labels, errors: whoever controls a guest controls them. They may hold tags, quotes, line breaks, ten thousand
letters, bytes that are no text, or marks that turn the reading direction round. :func:`visible` makes such text inert anywhere;
:func:`escape` makes it inert inside HTML; :func:`sentence`, :func:`paragraph` and :func:`bullets` build HTML out of it, and a
notebook shows what they return. Never put such text into Markdown: Markdown has no way to quote it.
"""

from __future__ import annotations

import html
import string
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["Fragment", "bullets", "escape", "figure_text", "paragraph", "sentence", "visible"]

#: Letters of a name that are shown; a longer one is cut, and says how long it was.
LIMIT = 200

# Controls, format characters (bidirectional marks, zero-width ones), surrogates (bytes that are no UTF-8), private and
# unassigned ones, line and paragraph separators: whatever changes how its neighbours are shown without being seen itself.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Accents and signs that stand on one letter, one above the other: as many as any script needs. More would cover the lines around.
_MOST_MARKS = 4


class Fragment(str):
    """HTML that is complete and safe as it stands; a notebook shows it as HTML, and nothing here escapes it again.

    It is a class, not a plain string, so that what was escaped already can be told from what still must be.
    """

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return str(self)


def visible(text: object, limit: int | None = LIMIT) -> str:
    r"""Text in which nothing is hidden and nothing acts: for a terminal, a log, a cell of a table.

    Parameters
    ----------
    text : object
        Anything; ``str`` of it is shown.
    limit : int or None
        Letters to show; what is longer is cut and its length told. None shows all.

    Examples
    --------
    >>> print(visible("web1\x1b[31m\u202egnp.exe"))
    web1\x1b[31m\u202egnp.exe
    >>> visible("a" * 10_000, limit=3)
    'aaa… (10,000 characters)'
    """
    whole = str(text)
    shown = whole if limit is None else whole[:limit]
    plain = "".join(_seen_in(shown))
    return plain if len(shown) == len(whole) else f"{plain}… ({len(whole):,} characters)"


def _seen_in(text: str) -> Iterator[str]:
    marks = 0
    for letter in text:
        category = unicodedata.category(letter)
        marks = marks + 1 if category[0] == "M" else 0
        if category == "Zs":  # every width of space, so that none can feign a column
            yield " "
        elif category in _UNSEEN or marks > _MOST_MARKS:
            yield _number(letter)
        else:
            yield letter


def _number(letter: str) -> str:
    point = ord(letter)
    if 0xDC80 <= point <= 0xDCFF:  # what Python makes of a byte that is no UTF-8 (surrogateescape)
        return f"\\x{point - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def escape(text: object, limit: int | None = LIMIT) -> Fragment:
    """The text as HTML, for an element or a quoted attribute. A :class:`Fragment` is given back as it is.

    Examples
    --------
    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return text if isinstance(text, Fragment) else Fragment(html.escape(visible(text, limit), quote=True))


class _Escaping(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Fragment):
            return value
        text = format(value, format_spec)
        return f"<bdi>{escape(text)}</bdi>" if _runs_leftwards(text) else escape(text)


def _runs_leftwards(text: str) -> bool:
    """Whether letters are in it that are read from right to left, and would take the numbers around them along."""
    return not text.isascii() and any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in text)


def sentence(pattern: str, /, *arguments: object, **named: object) -> Fragment:
    """A sentence with values in it, each escaped, for an element. The pattern is HTML of ours, as for ``str.format``.

    Examples
    --------
    >>> sentence("<b>{host}</b> was ready after {seconds:.1f} s.", host="<web1>", seconds=26.42)
    '<b>&lt;web1&gt;</b> was ready after 26.4 s.'
    """
    return Fragment(_Escaping().vformat(pattern, arguments, named))


def paragraph(*sentences: object) -> Fragment:
    """One paragraph of sentences; what is no :class:`Fragment` is escaped.

    Examples
    --------
    >>> paragraph(sentence("From {0}.", "a & b"), "Text < 3.")
    '<p>From a &amp; b. Text &lt; 3.</p>'
    """
    return Fragment(f"<p>{' '.join(escape(each, limit=None) for each in sentences)}</p>")


def bullets(items: Iterable[object]) -> Fragment:
    """A list of items; what is no :class:`Fragment` is escaped.

    Examples
    --------
    >>> bullets(["a", "<b>"])
    '<ul><li>a</li><li>&lt;b&gt;</li></ul>'
    """
    return Fragment(f"<ul>{''.join(f'<li>{escape(each, limit=None)}</li>' for each in items)}</ul>")


def figure_text(text: object, limit: int = 60) -> str:
    r"""Text for a title, a label or a legend of a matplotlib figure, where a ``$`` would begin a formula.

    Examples
    --------
    >>> print(figure_text("cost $1 and $2"))
    cost \$1 and \$2
    """
    return visible(text, limit).replace("$", r"\$")
