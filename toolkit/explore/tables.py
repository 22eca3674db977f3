"""A table as people read it: sortable, offline, units in its headers, whatever a machine wrote in it made inert.

What is in the table is the caller's business; the names and units of columns come from their suffixes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from toolkit.markup import Fragment, escape, visible

__all__ = ["as_html", "readable"]

#: Rows that a page carries; more would make it heavy, and nobody pages through them.
MOST_ROWS = 2000
_NOTHING = "–"
#: Text of up to so many letters is read as one: in lines of a word or two each it would make rows of eight lines.
_ONE_LINE_CHARACTERS = 130
#: A column of longer text is wide enough for its rows to be read.
_LONG = "virt-toolkit-long"
_STYLE = f"<style>td.{_LONG} {{ min-width: 26em; vertical-align: top }}</style>"
_DURATIONS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
_SIZES = (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("bytes", 1.0))
_RATES = (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3), ("B/s", 1.0))
#: Suffix of a column, what its values are in the units of the scale, and the units to choose from.
_SCALES: tuple[tuple[str, float, Sequence[tuple[str, float]]], ...] = (
    ("bytes_per_second", 1.0, _RATES),
    ("_ns", 1e-9, _DURATIONS),
    ("_ms", 1e-3, _DURATIONS),
    ("_s", 1.0, _DURATIONS),
    ("_bytes", 1.0, _SIZES),
)
#: What stands for a part of a figure: those of one figure are in one unit, so that an interval can be compared with its median.
_PARTS = re.compile(r"_?(?:median|low|high|beyond|p50|p99)$")
_PLAIN = {"_bits": "bits", "_w": "W", "_fraction": "share"}


def as_html(frame: pd.DataFrame, caption: str = "") -> Fragment:
    """A frame as a sortable table for a notebook in which itables was initialised offline, as :func:`toolkit.explore.open` does.

    Parameters
    ----------
    frame : DataFrame
        Columns named with their units, as in the toolkit's tables.
    caption : str, optional
        What the table holds; the number of rows left out is added to it.
    """
    import itables

    left_out = len(frame) - MOST_ROWS
    shown, whole = readable(frame.head(MOST_ROWS)), caption
    if left_out > 0:
        whole = f"{caption} The first {MOST_ROWS:,} of {len(frame):,} rows.".strip()
    texts = [place for place, name in enumerate(shown.columns) if not pd.api.types.is_numeric_dtype(shown[name].dtype)]
    longest = {place: int(shown.iloc[:, place].astype("str").str.len().max() or 0) for place in texts if len(shown)}
    short = [place for place in texts if longest.get(place, 0) <= _ONE_LINE_CHARACTERS]
    long = [place for place in texts if place not in short]
    with pd.option_context("display.float_format", _four_digits):
        html = itables.to_html_datatable(
            shown,
            caption=str(escape(whole)) if whole else None,
            connected=False,
            allow_html=False,
            showIndex=False,
            maxBytes=0,
            display_logo_when_loading=False,
            classes="display compact",
            style="table-layout:auto;width:auto;margin:0;float:none",
            lengthMenu=[15, 50, 500],
            columnDefs=[
                {"className": kind, "targets": places}
                for kind, places in (("dt-left", texts), ("dt-nowrap", short), (_LONG, long))
                if places
            ],
        )
    # itables writes what is missing as NaN and puts links to its own help pages into the copy for pages without scripts.
    html = html.replace('[\\"NaN\\", \\"___NaN___\\"]', f'[\\"{_NOTHING}\\", \\"___NaN___\\"]').replace(
        ">NaN</td>", f">{_NOTHING}</td>"
    )
    html = re.sub(r"<sup><noscript>.*?</sup>", "", html, flags=re.DOTALL)
    html = re.sub(r"\(need <a href=[^>]*>help</a>\?\)", "", html)
    return Fragment(f'{_STYLE if long else ""}<div style="overflow-x:auto;max-width:100%">{html}</div>')


def library() -> Fragment:
    """The tables' own script and styles, which a notebook shows once, before its first table; no address is asked for them.

    Not by ``itables.init_notebook_mode``: of the two scripts that it shows, the first calls what only the second loads, and fails.
    """
    from itables import options
    from itables.javascript import generate_init_offline_itables_html

    return Fragment(generate_init_offline_itables_html(options.dt_bundle))


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a unit in each header, numbers in the unit that suits the column, text inert, and what is missing as missing.

    Examples
    --------
    >>> readable(pd.DataFrame({"size_bytes": [2**20, 2**22], "allocate_ns": [None, 310_000]})).to_dict("list")
    {'size (MiB)': [1.0, 4.0], 'allocate (µs)': [nan, 310.0]}
    """
    known: dict[tuple[str, str], list[pd.Series]] = {}
    for name in frame.columns:
        if (figure := _figure(str(name), frame[name])) is not None:
            stem, scale, _ = figure
            known.setdefault((stem, scale[0]), []).append(frame[name].astype("float64").abs() * scale[1])
    made: dict[str, pd.Series] = {}
    for name in frame.columns:
        header, values = _column(str(name), frame[name], known)
        made[header] = values.reset_index(drop=True)
    return pd.DataFrame(made, index=range(len(frame)))


_Scale = tuple[str, float, Sequence[tuple[str, float]]]


def _figure(name: str, values: pd.Series) -> tuple[str, _Scale, str] | None:
    """What a column of numbers with a unit is a part of, its scale, and its header without the unit."""
    if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(values.dtype):
        return None
    for scale in _SCALES:
        suffix = scale[0]
        for ending in (suffix, *(f"{suffix}{of}" for of in ("_median", "_low", "_high"))):
            if name.endswith(ending):
                base = name.removesuffix(ending)
                words = (base + "rate" if suffix == "bytes_per_second" else base) + ending[len(suffix) :]
                return _PARTS.sub("", base), scale, words
    return None


def _column(name: str, values: pd.Series, known: Mapping[tuple[str, str], Sequence[pd.Series]]) -> tuple[str, pd.Series]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return _words(name), values.map({True: "yes", False: "no"}).astype("object").where(values.notna(), _NOTHING)
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return _words(name), _text(values)
    if (figure := _figure(name, values)) is not None:
        stem, (suffix, factor, units), words = figure
        unit, size = _unit(pd.concat(known[stem, suffix]), units)
        return f"{_words(words)} ({unit})", values.astype("float64") * (factor / size)
    for suffix, unit in _PLAIN.items():
        if name.endswith(suffix):
            return f"{_words(name.removesuffix(suffix))} ({unit})", _number(values)
    return _words(name), _number(values)


def _text(values: pd.Series) -> pd.Series:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    shown: pd.Series = pd.Series([_NOTHING if pd.isna(value) else str(visible(value)) for value in values], dtype="object")
    return shown


def _number(values: pd.Series) -> pd.Series:
    return values.astype("float64") if values.isna().any() else values


def _unit(numbers: pd.Series, units: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """The unit in which the middle of the numbers has one to three digits before the point; of sizes, the least of them.

    A size is a whole number of something: 64 bytes beside 64 KiB must not be 0.0625 KiB.
    """
    known = numbers[numbers > 0]
    if known.empty:
        return next((unit, size) for unit, size in units if size == 1.0)
    told = known.min() if units is _SIZES else known.median()
    return next(((unit, size) for unit, size in units if told >= size), units[-1])


def _words(name: str, known: Mapping[str, str] = {"errno": "error", "run_id": "run"}) -> str:
    return str(visible(known.get(name, name.strip("_").replace("_", " "))))


def _four_digits(value: float) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
