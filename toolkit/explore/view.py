"""Controls bound to a drawing: a change of a control draws again, in place. On a page the drawing alone, with all chosen.

What is drawn is the business of each subject's module; this one knows figures, tables and sentences only as things to show.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import pandas as pd

from toolkit.explore.tables import as_html
from toolkit.markup import Fragment, escape, paragraph, sentence, visible
from toolkit.plots import style

__all__ = [
    "Block",
    "View",
    "choice",
    "display",
    "display_html",
    "each_with_heading",
    "nothing_chosen",
    "show",
    "show_blocks",
    "static",
]

#: What a drawing is made of: figures, tables, sentences.
Block = style.AltFigure | pd.DataFrame | Fragment
#: ``draw(**values of the controls)`` gives the blocks.
Draw = Callable[..., Sequence[Block]]

_LIST_ROWS = 7


def static() -> bool:
    """Whether this runs for a page, where nobody can move a control: ``TOOLKIT_STATIC=1``."""
    return os.environ.get("TOOLKIT_STATIC") == "1"


class View:
    """A drawing with its controls, shown by itself as the last value of a cell.

    Why a class: the controls must stay bound to the output for as long as the cell is shown.

    Parameters
    ----------
    controls : mapping
        Widgets by the name under which ``draw`` takes their value.
    draw : callable
        Gives the figures, tables and sentences for the controls' values.

    Attributes
    ----------
    output : ipywidgets.Output
        Where it is drawn; its ``outputs`` are replaced whole at each change, so that nothing flickers or is left over.
    """

    def __init__(self, controls: Mapping[str, widgets.Widget], draw: Draw) -> None:
        self.controls = dict(controls)
        self.output = widgets.Output()
        self._draw = draw
        self.bar = widgets.Box(list(self.controls.values()), layout=widgets.Layout(flex_flow="row wrap", grid_gap="0.5em 1.5em"))
        for control in self.controls.values():
            control.observe(self._changed, names="value")

    def blocks(self) -> Sequence[Block]:
        """What the controls' values give now."""
        return self._draw(**{name: control.value for name, control in self.controls.items()})

    def redraw(self) -> None:
        """Draw again."""
        self.show(self.blocks())

    def show(self, blocks: Sequence[Block]) -> None:
        """Put blocks in the place of what was drawn."""
        self.output.outputs = tuple(_bundle(block) for block in blocks)

    def _changed(self, _change: object) -> None:
        self.redraw()

    def _ipython_display_(self) -> None:
        if static():
            show_blocks(self.blocks())
            return
        self.redraw()
        display(widgets.VBox([self.bar, self.output]))


def show_blocks(blocks: Sequence[Block]) -> None:
    """Display figures, tables and sentences one after the other."""
    for block in blocks:
        if isinstance(block, style.AltFigure):
            display(block)
        else:
            display_html(as_html(block) if isinstance(block, pd.DataFrame) else block)


def show(frame: pd.DataFrame, caption: str = "") -> None:
    """Display a frame as a sortable table (see :func:`toolkit.explore.tables.as_html`)."""
    display(as_html(frame, caption))


def display_html(fragment: Fragment) -> None:
    """Display HTML that is safe as it stands."""
    display(fragment)


def display(thing: object) -> None:
    """Display anything that a notebook can show."""
    from IPython.display import display as show

    show(thing)  # type: ignore[no-untyped-call]


def _bundle(block: Block) -> dict[str, Any]:
    """A block as an output that a widget holds; a figure as an ``img``, because Jupyter would leave its alternative text out."""
    if isinstance(block, style.AltFigure):
        image = base64.b64encode(style.png(block)).decode("ascii")
        text = escape(style.alt(block), limit=None)
        html = f'<img alt="{text}" width="{style.SHOWN_PX}" style="max-width:100%;height:auto" src="data:image/png;base64,{image}">'
        plain = style.alt(block)
    elif isinstance(block, pd.DataFrame):
        html, plain = str(as_html(block)), f"{len(block)} rows"
    else:
        html, plain = str(block), ""
    return {"output_type": "display_data", "data": {"text/html": html, "text/plain": plain}, "metadata": {}}


def choice(words: str, options: Sequence[tuple[str, object]], chosen: Sequence[object] | None = None) -> widgets.SelectMultiple:
    """A list of which several are chosen, all at first; its label stands above it in full."""
    values = [value for _, value in options]
    return widgets.SelectMultiple(
        options=[(visible(label), value) for label, value in options],
        value=tuple(values if chosen is None else chosen),
        description=words,
        rows=min(max(len(options), 2), _LIST_ROWS),
        style={"description_width": "initial"},
        layout=widgets.Layout(width="auto", min_width="16em", max_width="100%"),
        description_allow_html=False,
    )


def each_with_heading(parts: Sequence[tuple[str, Sequence[Block]]]) -> list[Block]:
    """All parts one after the other, for a page where none can be chosen; each under its name where there are several."""
    several = len(parts) > 1
    return [block for name, blocks in parts for block in ([sentence("<h4>{}</h4>", visible(name)), *blocks] if several else blocks)]


def nothing_chosen(what: str) -> list[Block]:
    """The words for an empty selection."""
    return [paragraph(f"Nothing is chosen in {what}: choose at least one.")]
