"""Views of boots: a plan and kernel to choose, when its guests were ready, and how long early user space waited.

Plans that compare remedies are :mod:`toolkit.explore.remedies`' business and not shown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.boots import QUANTITIES
from toolkit.analysis.boots import boots as analysed
from toolkit.analysis.configurations import most_warnings, named, parts
from toolkit.explore import findings_boots
from toolkit.explore.remedies import plans
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, each_with_heading, nothing_chosen, static
from toolkit.markup import Fragment, bullets, paragraph, visible
from toolkit.plots import style
from toolkit.plots.boots import WHAT, boots_curve, in_order
from toolkit.plots.boots import boots as strips

__all__ = ["apart", "configurations", "curves", "found", "in_short", "summary"]

_ALL_REMEDIES = "All boots in this store compare remedies: see there."
#: What a column of the table is called for people; the others keep their names.
_CALLED = {"asks": "asked", "censored": "not in time", "left_out": "left out"}
_FIRST = ["asks", "configuration", "median", "boots", "ready", "censored", "failed", "left_out", "urandom_warnings"]


def apart(session: Session) -> pd.DataFrame:
    """``boots`` of the plans that do not compare remedies."""
    rows, of_remedies = session.table("boots"), plans(session)
    whose = pd.MultiIndex.from_frame(rows[["host", "plan"]])
    return rows[~whose.isin(of_remedies)] if len(of_remedies) else rows


def configurations(session: Session) -> View:
    """Every boot of each configuration of a kernel with the median, by what is asked; which quantity can be chosen.

    A page shows both times: when the generator was ready, which counts from boot, and how long ``getrandom`` waited for it.
    """
    return _chosen(session, strips, ("crng_ready_s", "longest_wait_s"))


def curves(session: Session) -> View:
    """The share of the boots that were ready by then, a line a configuration."""
    return _chosen(session, boots_curve, ("crng_ready_s",))


def _chosen(session: Session, figure: Callable[..., style.AltFigure], on_a_page: Sequence[str]) -> View:
    missing = _lacks(session)
    if missing is not None:
        return View({}, lambda: [missing])
    rows = named(apart(session))
    of_kernels = [(re.sub("^kernel ", "Kernel ", name), part) for name, part in parts(apart(session))]
    asked = list(rows["asks"].cat.categories)
    measured = [quantity for quantity in QUANTITIES if analysed(rows, quantity=quantity)["n"].sum()]
    if not measured:
        words = paragraph("No boot was ready, and none tells how long it waited.")
        return View({}, lambda: each_with_heading([(name, [words, summary(part)]) for name, part in of_kernels]))

    def draw(part: int, asks: Sequence[str], quantity: str) -> list[Block]:
        if not asks:
            return nothing_chosen("Early user space")
        of_kernel = of_kernels[part][1]
        some = of_kernel[rows.loc[of_kernel.index, "asks"].isin(asks)]
        if some.empty:
            return [paragraph("No boot of this plan and kernel asked for that.")]
        return [figure(some, quantity=quantity), summary(some, quantity)]

    if static():
        each = []
        for place, (kernel, part) in enumerate(of_kernels):
            quantities = [name for name in on_a_page if analysed(part, quantity=name)["n"].sum()] or measured[:1]
            each.append((kernel, [block for quantity in quantities for block in draw(place, asked, quantity)]))
        return View({}, lambda: each_with_heading(each))
    wide = {"description_width": "initial"}
    controls = {
        "part": widgets.Dropdown(
            options=[(visible(name), place) for place, (name, _) in enumerate(of_kernels)],
            description="Plan and kernel",
            style=wide,
            layout=widgets.Layout(width="auto"),
        ),
        "asks": choice("Early user space", [(name, name) for name in asked]),
        "quantity": widgets.Dropdown(options=[(WHAT[name][0], name) for name in measured], description="Time", style=wide),
    }
    return View(controls, draw)


def summary(frame: pd.DataFrame, quantity: str = "crng_ready_s") -> pd.DataFrame:
    """The table behind the figures, as :func:`toolkit.boots` has it: the quickest first within what is asked; the cell last."""
    rows = named(frame)
    order = list(rows["asks"].cat.categories)
    table = in_order(analysed(rows.astype({"asks": "str"}), ["asks", "configuration", "cell"], quantity))
    table = table.sort_values("asks", key=lambda asks: asks.map(order.index), kind="stable", ignore_index=True)
    warned = most_warnings(rows, ["asks", "configuration", "cell"]).reset_index()
    table = table.merge(warned, on=["asks", "configuration", "cell"], how="left")
    between = [name for name in table.columns if name not in {*_FIRST, "cell"}]
    return table[[*_FIRST, *between, "cell"]].rename(columns=_CALLED)


def found(session: Session) -> View:
    """The findings on readiness, in sentences."""
    missing = _lacks(session)
    return View({}, lambda: [missing or bullets(findings_boots.boots(apart(session)))])


def in_short(session: Session) -> View:
    """What guests of each kernel had with a source and without one, a sentence a kernel, and how the guests ran."""
    missing = _lacks(session)
    return View({}, lambda: [missing or bullets(findings_boots.boots_in_short(apart(session)))])


def _lacks(session: Session) -> Fragment | None:
    missing = session.lacks("boots")
    return missing or (paragraph(_ALL_REMEDIES) if apart(session).empty else None)
