"""Views of remedies: a plan and a kernel to choose, when guests were ready with each or how long they waited, and what it cost."""

from __future__ import annotations

import ipywidgets as widgets
import pandas as pd

from toolkit.analysis.boots import COSTS, QUANTITIES
from toolkit.analysis.boots import remedies as analysed
from toolkit.analysis.configurations import asks_words, felt
from toolkit.explore import findings_boots
from toolkit.explore.session import Session
from toolkit.explore.view import Block, View, each_with_heading, static
from toolkit.markup import Fragment, bullets, paragraph, sentence, visible
from toolkit.plots.boots import WHAT
from toolkit.plots.remedies import remedies as drawn

__all__ = ["COMMAND", "TIMES", "compared", "found", "in_short", "planned", "plans", "summary"]

COMMAND = "toolkit lab remedies"
#: How long early user space waited, and when its generator was ready.
TIMES = ("longest_wait_s", "crng_ready_s")
_NONE = "none"


def planned(session: Session) -> pd.DataFrame:
    """``boots`` of the plans that compare remedies: those in which each remedy is one configuration of a kernel, and one is none.

    A plan that varies limits has several configurations of one remedy, and no median of all of them means anything.
    """
    rows = session.table("boots").dropna(subset=["remedy"])
    # What early user space asks for decides how long it waits: boots that asked for one thing are a plan of their own.
    asked = rows.groupby("plan")["asked"].transform("nunique")
    rows = rows.assign(plan=rows["plan"].where(asked < 2, rows["plan"] + ", " + rows["asked"].map(asks_words)))
    rows = rows[rows["outcome"] != "left out"]
    whose = ["host", "plan", "kernel"]
    rows = rows.assign(kernel=rows["kernel"].fillna("kernel unknown"))
    cells = rows.groupby([*whose, "remedy"])["cell"].nunique().groupby(whose).max()
    remedies = rows.groupby(whose)["remedy"].agg(lambda found: _NONE in set(found) and found.nunique() > 1)
    kept = remedies.index[remedies.astype(bool) & (cells.reindex(remedies.index) == 1)]
    found: pd.DataFrame = rows[pd.MultiIndex.from_frame(rows[whose]).isin(kept)]
    return found


def plans(session: Session) -> list[tuple[str, str]]:
    """Host and name of each plan that compares remedies, as ``boots`` has them."""
    rows = session.table("boots").loc[planned(session).index, ["host", "plan"]].drop_duplicates()
    return list(rows.itertuples(index=False, name=None))


def compared(session: Session) -> View:
    """When guests were ready with each remedy and what it cost, side by side."""
    rows = planned(session)
    if rows.empty:
        return View({}, lambda: [_missing(session)])
    several = rows["host"].nunique() > 1
    parts = [
        (" · ".join([*([str(host)] if several else []), str(plan), str(kernel)]), part)
        for (host, plan, kernel), part in rows.groupby(["host", "plan", "kernel"], sort=True)
    ]
    costs = [cost for cost in COSTS if rows[cost].notna().any()] or ["guest_cpu_s"]

    def draw(part: int, time: str, cost: str) -> list[Block]:
        some = parts[part][1]
        return [drawn(some, cost=cost, time=time or felt(some)), summary(some)]

    if static():
        return View({}, lambda: each_with_heading([(name, draw(place, "", costs[0])) for place, (name, _) in enumerate(parts)]))
    wide = {"description_width": "initial"}
    times = [("what early user space asked for decides", ""), *((WHAT[time][0], time) for time in TIMES)]
    controls = {
        "part": widgets.Dropdown(
            options=[(visible(name), place) for place, (name, _) in enumerate(parts)], description="Plan and kernel", style=wide
        ),
        "time": widgets.Dropdown(options=times, value="", description="Time", style=wide),
        "cost": widgets.Dropdown(options=[(WHAT[cost][0], cost) for cost in costs], description="Cost", style=wide),
    }
    return View(controls, draw)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The table behind the figure, as :func:`toolkit.remedies` has it: what the figure shows first, then all other quantities."""
    table = analysed(rows)
    first = felt(rows)
    order = [first, *(quantity for quantity in QUANTITIES if quantity != first)]
    table = table.sort_values("quantity", key=lambda found: found.map(order.index), kind="stable", ignore_index=True)
    words = {quantity: WHAT[quantity][0] for quantity in QUANTITIES}
    front = ["quantity", "remedy", "median", "baseline_median", "differs"]
    whole = table.assign(quantity=table["quantity"].map(words))
    return whole[[*front, *(name for name in whole.columns if name not in front)]]


def found(session: Session) -> View:
    """The findings on remedies, in sentences."""
    rows = planned(session)
    if rows.empty:
        return View({}, lambda: [_missing(session)])
    return View({}, lambda: [bullets(findings_boots.remedies(rows))])


def in_short(session: Session) -> View:
    """Which remedies helped, a sentence for each thing that was asked."""
    rows = planned(session)
    return View({}, lambda: [_missing(session) if rows.empty else bullets(findings_boots.remedies_in_short(rows))])


def _missing(session: Session) -> Fragment:
    some = " for the host and run chosen" if session.host or session.run else ""
    return paragraph(sentence("No comparison of remedies is in this store{}: run <code>{}</code>.", some, COMMAND))
