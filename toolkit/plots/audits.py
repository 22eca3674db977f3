"""The figure of an audit: a row a guest, its verdict as a mark and a word, and what was seen of it."""

from __future__ import annotations

import pandas as pd

from toolkit.plots import style

__all__ = ["MOST_GUESTS", "VERDICTS", "audits", "newest", "worst_first"]

#: The worst first: colour and marker of each verdict, and the sign that stands before its word in a table.
VERDICTS: dict[str, tuple[style.Look, str]] = {
    "starving": ((style.VERMILLION, "X"), "✘"),
    "at risk": ((style.ORANGE, "^"), "▲"),
    "cannot tell": ((style.GREY, "s"), "?"),
    "sound": ((style.GREEN, "o"), "●"),
}
#: More rows do not fit on a page; the table beside the figure has them all.
MOST_GUESTS = 20
_NAME_CHARACTERS, _SEEN_CHARACTERS = 22, 54
#: Where the columns begin, as shares of the width.
_MARK, _VERDICT, _GUEST, _SEEN = 0.015, 0.04, 0.185, 0.43


def audits(frame: pd.DataFrame) -> style.AltFigure:
    """The newest verdict of each guest, the worst on top.

    Parameters
    ----------
    frame : DataFrame
        Table ``audits``.
    """
    last = worst_first(newest(frame))
    if last.empty:
        return style.says("No guest was audited in this selection.")
    shown = last.head(MOST_GUESTS)
    with style.drawing():
        figure, [[axes]] = style.new_figure(0.3 + 0.27 * len(shown))
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(len(shown) - 0.5, -1.2)
        for at, words in ((_VERDICT, "verdict"), (_GUEST, "guest"), (_SEEN, "what was seen")):
            axes.text(at, -0.85, words, va="center", fontsize=9, color=style.GREY)
        columns = ["verdict", "guest", "host", "evidence"]
        several = last["host"].nunique() > 1
        for place, (verdict, guest, host, evidence) in enumerate(shown[columns].itertuples(index=False)):
            (colour, marker), _ = VERDICTS.get(verdict, VERDICTS["cannot tell"])
            if place % 2 == 0:
                axes.axhspan(place - 0.5, place + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
            axes.plot([_MARK], [place], marker, color=colour, markersize=7.5, linestyle="none", gid="verdict")
            axes.text(_VERDICT, place, style.label(verdict), va="center", fontsize=9.5, fontweight="bold", gid="word")
            name = f"{guest} on {host}" if several else guest
            axes.text(_GUEST, place, style.label(name, _NAME_CHARACTERS), va="center", fontsize=9.5, gid="guest")
            axes.text(_SEEN, place, style.label(evidence, _SEEN_CHARACTERS), va="center", fontsize=8.5, gid="seen")
        counts = last["verdict"].value_counts()
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
        title = f"Of {len(last)} guest{'s' if len(last) > 1 else ''}: {said}"
        each = " ".join(
            f"{style.label(guest, _NAME_CHARACTERS)}: {style.label(verdict)}, {style.label(evidence, 120)}."
            for verdict, guest, evidence in shown[["verdict", "guest", "evidence"]].itertuples(index=False)
        )
        note = "What to do about each stands in the table."
        if len(last) > len(shown):
            note += f" {len(last) - len(shown)} more guests are not drawn: they stand there too."
        return style.finish(figure, title, f"{title}. {each}", note)


def newest(frame: pd.DataFrame) -> pd.DataFrame:
    """The last audit of each domain."""
    found: pd.DataFrame = frame.sort_values("utc", kind="stable").drop_duplicates(["host", "domain_uuid"], keep="last")
    return found


def worst_first(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows by how bad their verdict is, then by host and guest."""
    order = {verdict: place for place, verdict in enumerate(VERDICTS)}
    worst = frame.assign(_order=frame["verdict"].map(order).fillna(len(order)))
    found: pd.DataFrame = worst.sort_values(["_order", "host", "guest"], kind="stable", ignore_index=True).drop(columns="_order")
    return found
