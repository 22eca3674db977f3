"""Text as somebody writes it who means harm, or whose file names were made by an accident; and what makes a text inert.

One list for all places where such text may come to: a store's paths, a page, a table, a figure, a terminal.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tests.plots import made
from toolkit.store import Store, open_store
from toolkit.tables import TABLES

#: What Python makes of a name that is no UTF-8; a store's text is, so this is for paths and arguments alone.
NO_UTF_8 = os.fsdecode(b"caf\xe9\xff\xc3(")

TEXTS: dict[str, str] = {
    "script": "<script>document.title='owned';alert(1)</script>",
    "handler": "\"'><img src=x onerror=alert(2)><svg onload=alert(3)>",
    "closing": "--></style></script></title></textarea></table></main><h1>owned</h1>",
    "entity": "&lt;b&gt; &#60;script&#62;alert(4)&#60;/script&#62; &amp",
    "address": "javascript:alert(5)//https://example.invalid/x.png",
    "markdown": "[a](javascript:alert(6)) ![b](https://example.invalid/b.png) **c** `d` | e |",
    "template": "{{ 7*7 }} {% raw %} {0} {host} %s %(x)s ${HOME}",
    "mathtext": r"$\frac{1}{$ \alpha_1 $$ ^_",
    "markup": "[bold red]x[/] [link=https://example.invalid]y[/link] :smile:",
    "lines": "one\nerror: forged\r\nwarning: forged\x0b\x0c\x85\u2028\u2029last",
    "escapes": "\x1b[2J\x1b[31mred\x1b]0;owned\x07\x9b31m\x08\x08\x7f",
    "bidi": "user\u202egnp.exe\u202d\u2066x\u2067y\u2069\u200f\u061c",
    "unseen": "a\u200bb\u200d\ufeffc\u00adtail\u2060\U000e0041",
    "spaces": " \u00a0\u3000\u2003 ",
    "combining": "Z" + "\u0301\u0489" * 300,
    "right to left": "שלום عالم",
    "wide": "名前🦊" * 40,
    "long": "A" * 10_000,
    "long words": "word " * 2_000,
    "up": "../../../../etc/passwd",
    "dots": "..",
    "dot": ".",
    "hidden": ".hidden",
    "root": "/etc/shadow",
    "option": "--help",
    "nul": "a\x00b",
    "percent": "%2e%2e%2f%00",
    "backslash": "\\..\\..\\x \\n \\x1b[31m",
    "tilde": "~root",
    "quotes": "\"';`$(reboot)`\\'",
    "nan": "NaN",
}

#: Those that a file can be named: without a NUL and a slash, and no more than 255 bytes; and one that is no UTF-8.
FILE_NAMES: dict[str, str] = {
    name: text
    for name, text in [*((name, text.replace("/", "\u2215")) for name, text in TEXTS.items()), ("no utf-8", NO_UTF_8)]
    if "\x00" not in text and len(os.fsencode(text)) <= 200 and text not in (".", "..")
}


def unseen(text: str) -> list[str]:
    """What in a text cannot be seen, or acts: controls, format and bidirectional marks, separators of lines, but for line ends."""
    return sorted(
        {f"U+{ord(mark):04X}" for mark in text if unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp") and mark != "\n"}
    )


def inert_output(said: bytes) -> str:
    """What a command wrote, when it is UTF-8 with nothing in it that acts and no line that its text made; gives it."""
    text = said.decode("utf-8")
    assert unseen(text) == []
    assert not [line for line in text.splitlines() if line.startswith(("error: forged", "warning: forged", "last"))]
    return text


#: The same in fewer, for what takes its time with each: several in one text, short enough that none is cut.
TOGETHER: list[str] = [
    TEXTS["script"] + TEXTS["handler"],
    TEXTS["closing"] + TEXTS["entity"],
    TEXTS["address"] + TEXTS["markdown"] + TEXTS["up"],
    TEXTS["template"] + TEXTS["mathtext"] + TEXTS["markup"],
    TEXTS["lines"] + TEXTS["escapes"],
    TEXTS["bidi"] + TEXTS["unseen"] + TEXTS["nul"],
    TEXTS["spaces"],
    TEXTS["combining"],
    TEXTS["right to left"] + TEXTS["wide"],
    TEXTS["long"],
    TEXTS["long words"],
    TEXTS["backslash"] + TEXTS["quotes"] + TEXTS["percent"],
    TEXTS["dots"],
]


#: Hosts of a mixed store, and how far apart their texts are: with its columns they go through all of the texts.
HOSTS, APART = 5, 3


def store(path: Path, texts: Iterable[str], tables: Collection[str]) -> Store:
    """A store all of whose text is hostile: a host a text, and the same text in each other column of its rows."""
    each = [
        {name: frame.assign(**_columns(frame, lambda _, text=text: text)) for name, frame in _frames().items()} for text in texts
    ]
    return _stored(path, each, tables)


def mixed(path: Path) -> Store:
    """A store of a few hosts all of whose text is hostile, each column's another; in every table, so that all that is shown is."""

    def text(number: int, column: str) -> str:
        place = 0 if column == "host" else 1 + sorted(_every_column()).index(column)
        return TOGETHER[(number * APART + place) % len(TOGETHER)]

    each = []
    for number in range(HOSTS):
        # By turns: what the toolkit compares with words of its own stays its own in every other host.
        kept = {"settings_json", *(("regime", "method", "source") if number % 2 else ())}
        frames = _frames().items()
        each.append({name: frame.assign(**_columns(frame, partial(text, number), kept)) for name, frame in frames})
    return _stored(path, each, TABLES)


def _stored(path: Path, each: Iterable[dict[str, pd.DataFrame]], tables: Collection[str]) -> Store:
    opened = open_store(path)
    frames: dict[str, list[pd.DataFrame]] = {}
    for made_of in each:
        for table, frame in made_of.items():
            if table in tables:
                frames.setdefault(table, []).append(frame)
    for table, several in frames.items():
        opened.append(table, pd.concat(several, ignore_index=True))
    return opened


def _frames() -> dict[str, pd.DataFrame]:
    return {
        "runs": made.runs(),
        "capabilities": made.capabilities(),
        "rng_state": made.rng_state(),
        "entropy_samples": made.entropy_samples("blocking", count=60),
        "source_reads": made.source_reads(reads=1).head(6),
        "allocations": made.allocations(
            filesystems=("ext4",), methods=("posix_fallocate", "write_4k"), sizes=(made.MIB,), repeats=2
        ),
        "extents": made.extents(4),
    }


def _columns(frame: pd.DataFrame, text: Callable[[str], str], kept: Collection[str] = ("settings_json",)) -> dict[str, np.ndarray]:
    names = [name for name in frame.columns if frame[name].dtype == "str" and name not in kept]
    return {name: np.full(len(frame), text(name), dtype=object) for name in names}


def _every_column() -> set[str]:
    return {name for table in TABLES for name in text_columns(table)}


def text_columns(table: str) -> list[str]:
    """The columns of a table that hold text."""
    return [name for name, kind in TABLES[table].dtypes.items() if kind == "str"]
