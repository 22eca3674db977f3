"""Views of boots: configurations to choose from, when their guests were ready, and how long early user space waited."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.boots import QUANTITIES
from toolkit.analysis.boots import boots as analysed
from toolkit.explore import findings_lab
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, choice, nothing_chosen
from toolkit.markup import bullets, paragraph
from toolkit.plots import style
from toolkit.plots.boots import WHAT, boots_curve, in_order
from toolkit.plots.boots import boots as strips

__all__ = ["apart", "configurations", "curves", "found"]


def apart(session: Session) -> pd.DataFrame:
    """``boots``, its cells named apart by host and by plan where there are several: boots of two plans are never pooled."""
    rows = session.table("boots")
    for column in ("plan", "host"):
        if rows[column].nunique() > 1:
            rows = rows.assign(cell=rows[column] + ": " + rows["cell"])
    return rows


def configurations(session: Session) -> View:
    """Every boot of each configuration with the median, sorted; which quantity can be chosen."""
    return _chosen(session, strips)


def curves(session: Session) -> View:
    """The share of the boots that were ready by then, a line a configuration."""
    return _chosen(session, boots_curve)


def _chosen(session: Session, figure: Callable[..., style.AltFigure]) -> View:
    rows = apart(session)
    missing = session.lacks("boots")
    if missing is not None:
        return View({}, lambda: [missing])
    names = list(in_order(analysed(rows))["cell"])
    measured = [quantity for quantity in QUANTITIES if analysed(rows, quantity=quantity)["n"].sum()]
    controls = {
        "cells": choice("Configurations", [(name, name) for name in names]),
        "quantity": widgets.Dropdown(
            options=[(WHAT[name][0], name) for name in measured], description="Time", style={"description_width": "initial"}
        ),
    }
    if not measured:
        return View({}, lambda: [paragraph("No boot was ready, and none tells how long it waited."), analysed(rows)])

    def draw(cells: Sequence[str], quantity: str) -> list[Block]:
        if not cells:
            return nothing_chosen("Configurations")
        some = rows[rows["cell"].isin(cells)]
        return [figure(some, quantity=quantity), summary(some, quantity)]

    return View(controls, draw)


def summary(frame: pd.DataFrame, quantity: str = "crng_ready_s") -> pd.DataFrame:
    """The table behind the figures, as :func:`toolkit.boots` has it, the quickest first; its median in words first."""
    table = in_order(analysed(frame, quantity=quantity))
    first = ["cell", "median"]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def found(session: Session) -> View:
    """The findings on readiness, in sentences."""
    missing = session.lacks("boots")
    return View({}, lambda: [missing or bullets(findings_lab.boots(apart(session)))])
