"""Reading a figure back: what was drawn, and whether its words overlap or leave the page."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def lines(axes: Axes, gid: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid() == gid]


def points(axes: Axes, gid: str) -> list[tuple[float, float]]:
    """The points of all lines of that name."""
    return [(float(x), float(y)) for line in lines(axes, gid) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def spans(axes: Axes, gid: str = "interval") -> list[tuple[float, float]]:
    """The ends of every interval drawn along the x axis."""
    found = [each for each in axes.collections if isinstance(each, LineCollection) and each.get_gid() == gid]
    return [(float(path.vertices[0][0]), float(path.vertices[-1][0])) for each in found for path in each.get_paths()]


def words(figure: Figure) -> list[Text]:
    """Every text that is seen."""
    FigureCanvasAgg(figure).draw()
    ticks = {
        label
        for axes in figure.axes
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim())))
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not low <= tick.get_loc() <= high
    }
    found = figure.findobj(lambda artist: isinstance(artist, Text))
    return [
        text for text in found if isinstance(text, Text) and text not in ticks and text.get_visible() and text.get_text().strip()
    ]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other by more than a hair."""
    texts = words(figure)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [
        (one, other)
        for place, (one, box) in enumerate(boxes)
        for other, beside in boxes[place + 1 :]
        if _area(Bbox.intersection(box, beside)) > 0.02 * min(_area(box), _area(beside))
    ]


def outside(figure: Figure, slack_px: float = 12.0) -> list[str]:
    """Texts that leave the figure: they would make it wider than the page."""
    return [
        text.get_text()
        for text in words(figure)
        if text.get_window_extent().x0 < -slack_px or text.get_window_extent().x1 > figure.bbox.width + slack_px
    ]


def _area(box: Bbox | None) -> float:
    return 0.0 if box is None else float(max(box.width, 0.0) * max(box.height, 0.0))


def texts(figure: Figure) -> str:
    """All that can be read, with plain spaces where lines may not end."""
    return "\n".join(text.get_text() for text in words(figure)).replace("\u00a0", " ")
