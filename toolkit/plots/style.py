"""How every figure looks and how it is said in words: palette, markers, labels, the figure with its alternative text.

What the axes say (units, ticks) lives in :mod:`toolkit.plots.axes`; what is drawn lives in the module of each subject.
Figures are made without pyplot, so that none stays open in a global list, and carry their alternative text themselves.
"""

from __future__ import annotations

import base64
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text

from toolkit.markup import visible

__all__ = [
    "FILESYSTEM_LOOKS",
    "GREY",
    "LABEL_CHARACTERS",
    "SHOWN_PX",
    "SOURCE_LOOKS",
    "WIDTH_IN",
    "AltFigure",
    "alt",
    "drawing",
    "finish",
    "key",
    "label",
    "looks",
    "mark",
    "new_figure",
    "png",
    "says",
]

#: Width of every figure: full width of a page of 900 px, and text that is still read when a phone shows it at 380 px.
WIDTH_IN = 6.6
_DPI = 200
#: CSS pixels that a page shows the figure at; it has more than twice as many, for dense screens.
SHOWN_PX = 760
_TITLE_CHARACTERS, _NOTE_CHARACTERS, _LEGEND_CHARACTERS = 64, 106, 84
_TITLE_LINE_IN, _LEGEND_LINE_IN, _NOTE_LINE_IN = 0.215, 0.2, 0.165
#: The space between a number and its unit, or between its digits: no line ends there.
_NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=(?:[nµm]?s|min|B|[KMGT]iB|[kMGT]?B/s|bits|\d{3})\b)")
#: Longer labels are cut: the table beside a figure has them whole.
LABEL_CHARACTERS = 28

# Okabe and Ito, "Color Universal Design" (2008). Its yellow is left out: on white it has too little contrast.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#595959"
FAINT = "#D9D9D9"

#: Colour and marker: the marker says the same as the colour, for whoever does not see the colour.
Look = tuple[str, str]
FILESYSTEM_LOOKS: dict[str, Look] = {
    "ext2": (SKY, "s"),
    "ext3": (ORANGE, "^"),
    "ext4": (BLUE, "o"),
    "ext4-noextents": (PURPLE, "v"),
    "xfs": (GREEN, "D"),
    "btrfs": (VERMILLION, "P"),
    "tmpfs": (BLACK, "*"),
}
SOURCE_LOOKS: dict[str, Look] = {
    "getrandom": (BLUE, "o"),
    "/dev/random": (ORANGE, "^"),
    "/dev/urandom": (GREEN, "s"),
    "/dev/hwrng": (VERMILLION, "D"),
}
_CYCLE: tuple[Look, ...] = (
    (BLUE, "o"),
    (VERMILLION, "D"),
    (GREEN, "s"),
    (PURPLE, "v"),
    (ORANGE, "^"),
    (SKY, "P"),
    (BLACK, "X"),
)
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.which": "major",
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "xtick.minor.visible": False,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,
    "text.usetex": False,
}


class AltFigure(Figure):
    """A figure that carries its alternative text and shows itself with it.

    Why a class: whatever shows a figure (a cell, a widget, a report) must find the text on the figure, and IPython's own way of
    showing a matplotlib figure would leave it out.

    Attributes
    ----------
    alt : str
        What the figure shows, in one or a few sentences with the numbers. Plain text, made inert by whoever writes it into a page.
    """

    alt: str = ""

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        bundle = self.bundle()
        publish_display_data(bundle["data"], bundle["metadata"])  # type: ignore[no-untyped-call]

    def bundle(self) -> dict[str, dict[str, Any]]:
        """``data`` and ``metadata`` by MIME type, as a notebook wants them; ``metadata['image/png']['alt']`` is the text."""
        data = {"image/png": base64.b64encode(png(self)).decode("ascii"), "text/plain": self.alt}
        return {"data": data, "metadata": {"image/png": {"alt": self.alt, "width": SHOWN_PX}}}


def alt(figure: Figure) -> str:
    """The alternative text of a figure; empty for a figure that is none of ours.

    Examples
    --------
    >>> alt(says("No extents in this selection."))
    'No extents in this selection.'
    """
    return getattr(figure, "alt", "")


def png(figure: Figure) -> bytes:
    """The figure as PNG: crisp on dense screens, cut to what is drawn, without date or version, so that equal figures are equal."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def drawing() -> Iterator[None]:
    """Our style, for the time of drawing only: the caller's settings are left as they were."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        yield


def new_figure(body_in: float, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[AltFigure, list[list[Axes]]]:
    """A figure of the page's width with its axes as a list of rows. To be called inside :func:`drawing`.

    ``body_in`` is the height of the axes with their labels; :func:`finish` adds what title, legend and note need.
    """
    figure = AltFigure(figsize=(WIDTH_IN, body_in), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, [list(row) for row in axes]


def finish(figure: AltFigure, title: str, text: str, note: str = "", entries: Sequence[Artist] = ()) -> AltFigure:
    """Put title and legend above the axes, a note below, the alternative text into the figure, and take ``$`` its meaning.

    The room is counted in lines, so that title, legend, axes and note cannot overlap whatever their length.
    """
    titles = textwrap.wrap(_NUMBER_AND_UNIT.sub("\u00a0", title), _TITLE_CHARACTERS, break_on_hyphens=False)
    notes = [line for part in note.split("\n") for line in textwrap.wrap(part, _NOTE_CHARACTERS)]
    columns = _legend_columns(entries)
    legend_rows = -(-len(entries) // columns)
    head_in = 0.06 + len(titles) * _TITLE_LINE_IN + legend_rows * _LEGEND_LINE_IN + 0.08
    foot_in = len(notes) * _NOTE_LINE_IN + (0.1 if notes else 0.0)
    height = float(figure.get_figheight()) + head_in + foot_in
    figure.set_size_inches(WIDTH_IN, height)
    rect = (0.0, foot_in / height, 1.0, 1 - (head_in + foot_in) / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect, w_pad=0.03, h_pad=0.04))
    figure.text(0.008, 1 - 0.06 / height, "\n".join(titles), ha="left", va="top", fontsize=12, fontweight="bold", linespacing=1.2)
    if entries:
        top = 1 - (0.06 + len(titles) * _TITLE_LINE_IN) / height
        figure.legend(
            handles=list(entries),
            loc="upper left",
            bbox_to_anchor=(0.0, top),
            ncols=columns,
            handletextpad=0.35,
            columnspacing=1.2,
            borderaxespad=0.1,
            labelspacing=0.35,
        )
    if notes:
        figure.text(0.008, 0.03 / height, "\n".join(notes), ha="left", va="bottom", fontsize=8.5, color=GREY, linespacing=1.35)
    figure.alt = " ".join(text.split())
    for found in figure.findobj(lambda artist: isinstance(artist, Text)):
        found.set_parse_math(False)  # type: ignore[attr-defined]
    return figure


def _legend_columns(entries: Sequence[Artist]) -> int:
    longest = max((len(str(entry.get_label())) for entry in entries), default=1)
    return max(1, min(len(entries) or 1, int(_LEGEND_CHARACTERS // (longest + 4))))


def says(sentence: str) -> AltFigure:
    """A figure that has nothing to draw and says so in words."""
    with drawing():
        figure = AltFigure(figsize=(WIDTH_IN, 1.1), layout="constrained")
        figure.text(0.5, 0.5, "\n".join(textwrap.wrap(sentence, 70)), ha="center", va="center", fontsize=11, parse_math=False)
        figure.alt = " ".join(sentence.split())
    return figure


def label(text: object, limit: int = LABEL_CHARACTERS) -> str:
    """Text from a machine as a label: one line, nothing hidden, only glyphs that the font has, its middle cut out where it is long.

    Examples
    --------
    >>> label("web-01")
    'web-01'
    >>> label("a" * 40 + "z", limit=9)
    'aaaa…aaaz'
    """
    clean = "".join(letter if ord(letter) in _glyphs() else "□" for letter in visible(text, limit=None)).strip() or "(no name)"
    if len(clean) <= limit:
        return clean
    head = (limit - 1) // 2
    return clean[:head] + "…" + clean[-(limit - 1 - head) :]


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def looks(names: Iterable[str], known: dict[str, Look] | None = None) -> dict[str, Look]:
    """Colour and marker of each name, no two alike: its own where it has one, else the next that none of these names has.

    Examples
    --------
    >>> found = looks(["ext4", "ext4 (folder)"], FILESYSTEM_LOOKS)
    >>> found["ext4"] == FILESYSTEM_LOOKS["ext4"], found["ext4 (folder)"] == found["ext4"]
    (True, False)
    """
    wanted, own = list(names), known or {}
    taken = {own[name] for name in wanted if name in own}
    count = len(_CYCLE)
    every = [(_CYCLE[place][0], _CYCLE[(place + turn) % count][1]) for turn in range(count) for place in range(count)]
    free = cycle([each for each in every if each not in taken] or every)
    return {name: own[name] if name in own else next(free) for name in wanted}


def key(entries: dict[str, Look]) -> list[Line2D]:
    """Entries of a legend: a marker in its colour for each name."""
    return [mark(name, *seen) for name, seen in entries.items()]


def mark(text: str, colour: str, marker: str, *, hollow: bool = False) -> Line2D:
    """One entry of a legend."""
    face = "white" if hollow else colour
    return Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face, markersize=7, label=label(text, 44))
