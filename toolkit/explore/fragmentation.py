"""Views of file allocation: file systems, methods and sizes to choose from, the figure, and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets
import pandas as pd

from toolkit import share
from toolkit.analysis.stats import medians
from toolkit.explore import apart, findings
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen, static
from toolkit.markup import paragraph, visible
from toolkit.plots.fragmentation import METHODS, allocation_time, extent_map, ordered, pieces, succeeded
from toolkit.plots.published import beside_2009
from toolkit.plots.style import FILESYSTEM_LOOKS
from toolkit.units import bytes_text

__all__ = ["beside", "found", "layout", "methods"]

_QUANTITIES = (("time to allocate", "time"), ("discontinuities", "discontinuities"), ("extents", "extents"))


def methods(session: Session, quantity: str = "time") -> View:
    """Time, discontinuities or extents by method and file system, with controls for file systems, methods, sizes and the quantity.

    Parameters
    ----------
    session : Session
        The store and rows to show.
    quantity : {'time', 'discontinuities', 'extents'}
        What is drawn first.
    """
    allocations = apart.allocations(session)
    missing = session.lacks("allocations")
    if missing is not None:
        return View({}, lambda: [missing])
    names = ordered(allocations["filesystem"], FILESYSTEM_LOOKS)
    ways = ordered(allocations["method"], METHODS)
    sizes = sorted(int(size) for size in allocations["size_bytes"].unique())
    controls: dict[str, widgets.Widget] = {
        "filesystems": choice("File systems", [(name, name) for name in names]),
        "ways": choice("Methods", [(way, way) for way in ways]),
        "sizes": choice("Sizes", [(bytes_text(size), size) for size in sizes]),
        "quantity": widgets.ToggleButtons(
            options=_QUANTITIES, value=quantity, description="Show", style={"description_width": "initial", "button_width": "auto"}
        ),
    }

    def draw(filesystems: Sequence[str], ways: Sequence[str], sizes: Sequence[int], quantity: str) -> list[Block]:
        for chosen, what in ((filesystems, "File systems"), (ways, "Methods"), (sizes, "Sizes")):
            if not chosen:
                return nothing_chosen(what)
        rows = allocations[
            allocations["filesystem"].isin(filesystems) & allocations["method"].isin(ways) & allocations["size_bytes"].isin(sizes)
        ]
        if rows.empty:
            return [paragraph("Nothing was measured in this selection: choose more file systems, methods or sizes.")]
        figure = allocation_time(rows) if quantity == "time" else pieces(rows, quantity)
        return [figure, summary(rows)]

    return View(controls, draw)


def summary(allocations: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figures: a row for each file system, method and size.

    Returns
    -------
    DataFrame
        filesystem, method, size_bytes, repeats, allocate_s_median with _low and _high (95 % interval), sync_s_median,
        extents, discontinuities (medians), allocated_bytes (median), emulated, failed (number of repeats with an error).
    """
    by = ["filesystem", "method", "size_bytes"]
    done = succeeded(allocations)
    counted = allocations.groupby(by).agg(repeats=("repeat", "size"), failed=("errno", "count"), emulated=("emulated", "max"))
    figures = ["sync_ns", "extents", "discontinuities", "allocated_bytes"]
    middle = done.groupby(by)[figures].median()
    times = medians(done.assign(seconds=done["allocate_ns"].astype("float64") / 1e9), "seconds", by)
    times = times.rename(columns={name: f"allocate_s_{name}" for name in ("median", "low", "high")}).drop(columns="n")
    frame = counted.join(middle).reset_index().merge(times, on=by, how="left")
    first = [*by, "repeats", "allocate_s_median", "allocate_s_low", "allocate_s_high"]
    return frame[[*first, *(name for name in frame.columns if name not in first)]]


def found(session: Session) -> View:
    """The findings on allocation, in sentences."""
    said = findings.fragmentation(apart.allocations(session))
    return View({}, lambda: [findings.shown(said, session.lacks("allocations"), "allocations")])


def beside(session: Session) -> View:
    """The figures published in 2009 beside those of one machine, on its scratch file systems or in a folder: one figure each."""
    published = pd.read_csv(share.data() / "published" / "allocation-2009.csv")
    places = apart.places(session)

    def draw(place: int) -> list[Block]:
        where, rows = places[place]
        return [beside_2009(published, rows, where), published]

    if not places:
        return View({}, lambda: [beside_2009(published, session.table("allocations")), published])
    if len(places) == 1:
        return View({}, lambda: draw(0))
    if static():
        return View({}, lambda: [*(draw(place)[0] for place in range(len(places))), published])
    options = [(visible(where), place) for place, (where, _) in enumerate(places)]
    return View({"place": widgets.Dropdown(options=options, description="Today", style={"description_width": "initial"})}, draw)


def layout(session: Session) -> View:
    """Where the pieces of a file lie, for a file to choose."""
    extents = session.table("extents")
    missing = session.lacks("extents")
    if missing is not None:
        return View({}, lambda: [missing])
    files = sorted(extents["file"].unique())
    layout = widgets.Layout(width="28em", max_width="100%")
    options = [(visible(file), file) for file in files]
    controls = {
        "file": widgets.Dropdown(options=options, description="File", style={"description_width": "initial"}, layout=layout)
    }

    def draw(file: str) -> list[Block]:
        rows = extents[extents["file"] == file]
        return [extent_map(rows), rows[["file", "layer", "logical_byte", "physical_byte", "length_bytes", "flags"]]]

    return View(controls, draw)
