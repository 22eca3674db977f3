"""What the axes say: durations, sizes, rates and counts in plain words, logarithmic where the values span decades.

Ticks are ours because matplotlib's own write 10⁻⁴ where people say 100 µs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator, NullFormatter, NullLocator

from toolkit.units import bytes_text, duration_text, rate_text

__all__ = ["bits_ticks", "bytes_ticks", "count_text", "count_ticks", "duration_ticks", "rate_ticks", "round_text", "seconds_text"]

_Which = Literal["x", "y"]
#: From this ratio on an axis is logarithmic: less than one decade is read more easily on a linear one.
_DECADE = 10.0


def duration_ticks(axes: Axes, which: _Which, values_s: Iterable[float], *, room: int = 7, linear: bool = False) -> None:
    """Scale and ticks of an axis of durations in seconds."""
    _scale(axes, which, values_s, seconds_text, room, linear=linear)


def rate_ticks(axes: Axes, which: _Which, values: Iterable[float], *, room: int = 7) -> None:
    """Scale and ticks of an axis of bytes a second."""
    _scale(axes, which, values, rate_text, room)


def count_ticks(axes: Axes, which: _Which, values: Iterable[float], *, room: int = 7, linear: bool = False) -> None:
    """Scale and ticks of an axis of counts: whole numbers."""
    _scale(axes, which, values, count_text, room, whole=True, linear=linear)


def bits_ticks(axes: Axes, which: _Which, highest: float) -> None:
    """A linear axis of bits from 0, with ticks at powers of two: 64, 128, 256 are what people know of the pool."""
    axis = _axis(axes, which)
    axis.set_major_locator(MultipleLocator(2.0 ** max(4, math.floor(math.log2(max(0.99 * highest, 1.0))) - 1)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))
    _limits(axes, which, -0.03 * highest, 1.12 * max(highest, 64.0))


def bytes_ticks(axes: Axes, which: _Which, values: Iterable[float], *, room: int = 7, linear: bool = False) -> None:
    """Scale and ticks of an axis of sizes or positions in bytes, at powers of two; linear where asked for."""
    seen = _finite(values)
    axis = _axis(axes, which)
    if seen and not linear and min(seen) > 0 and max(seen) / min(seen) > 4:
        _set_scale(axes, which, "log", base=2)
        first, last = math.floor(math.log2(min(seen))), math.ceil(math.log2(max(seen)))
        every = max(1, math.ceil((last - first + 1) / room))
        axis.set_major_locator(FixedLocator([2.0**power for power in range(first, last + 1, every)]))
        _limits(axes, which, min(seen) / 1.5, max(seen) * 1.6)
        axis.set_minor_locator(NullLocator())
    else:
        low, high = min(seen, default=0.0), max(seen, default=1.0)
        step = 2.0 ** math.ceil(math.log2(max(high - low, 1.0) / (room - 1)))
        axis.set_major_locator(MultipleLocator(step))
        _limits(axes, which, low - 0.03 * (high - low), high + 0.03 * (high - low))
    axis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value)))


def seconds_text(seconds: float) -> str:
    """A duration on an axis: like :func:`toolkit.units.duration_text`, but never in minutes, so that decades look like decades.

    Examples
    --------
    >>> seconds_text(1e-5), seconds_text(0.1), seconds_text(1000)
    ('10 µs', '100 ms', '1000 s')
    """
    return f"{seconds:g} s" if seconds == 0 or abs(seconds) >= 100 else duration_text(seconds)


def count_text(count: float) -> str:
    """A count as people write it.

    Examples
    --------
    >>> count_text(38), count_text(100_000), count_text(1.5)
    ('38', '100,000', '1.5')
    """
    return f"{count:,.0f}" if count == int(count) else f"{count:g}"


def round_text(factor: float) -> str:
    """A factor in words, two digits of it: more would feign exactness.

    Examples
    --------
    >>> round_text(3.14159), round_text(5817)
    ('3.1', '5,800')
    """
    if factor < 10:
        return f"{factor:.2g}"
    digits = 10 ** (math.floor(math.log10(factor)) - 1)
    return count_text(round(factor / digits) * digits)


def _scale(
    axes: Axes,
    which: _Which,
    values: Iterable[float],
    text: Callable[[float], str],
    room: int,
    *,
    whole: bool = False,
    linear: bool = False,
) -> None:
    axis = _axis(axes, which)
    seen = _finite(values)
    low, high = min((value for value in seen if value > 0), default=1.0), max(seen, default=1.0)
    if high / low >= _DECADE and not linear:
        if whole:  # counts may be 0, which a logarithm does not have: linear up to 1, logarithmic above
            _set_scale(axes, which, "symlog", linthresh=1.0, linscale=0.35)
            axis.set_major_locator(FixedLocator([0.0, *_decades(1.0, high, room)]))
            _limits(axes, which, -0.35, high * 1.4)
        else:
            _set_scale(axes, which, "log")
            axis.set_major_locator(FixedLocator(_decades(low, high, room)))
            margin = (high / low) ** 0.06
            _limits(axes, which, low / margin, high * margin)
    else:
        axis.set_major_locator(MaxNLocator(room - 1, integer=whole))
        _limits(axes, which, min(0.0, *seen, 0.0) - 0.05 * (high or 1.0), (high or 1.0) * 1.1)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _decades(low: float, high: float, room: int) -> list[float]:
    """The decades from low to high, every so many that there is room; with a third of them between where they are few."""
    inside = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if len(inside) <= 2:
        around = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        thirds = [10.0**power * digit for power in around for digit in (1, 3)]
        # Those just outside are there for an axis that goes a little further; they take no room in it.
        if sum(low <= each <= high for each in thirds) <= room:
            return thirds
    step = max(1, math.ceil(len(inside) / room))
    return [10.0**power for power in inside[::step]]


def _finite(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _axis(axes: Axes, which: _Which) -> Axis:
    return axes.xaxis if which == "x" else axes.yaxis


def _set_scale(axes: Axes, which: _Which, scale: str, **options: float) -> None:
    (axes.set_xscale if which == "x" else axes.set_yscale)(scale, **options)


def _limits(axes: Axes, which: _Which, low: float, high: float) -> None:
    if low == high:
        low, high = low - 0.5, high + 0.5
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
