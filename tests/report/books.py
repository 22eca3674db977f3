"""Small notebooks and stores that the tests of the report make for themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

import toolkit
from toolkit.runs import begin
from toolkit.store import Store

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'\n\u202e../../etc\x1b[31m" + "A" * 10_000

PARAMETERS = "store = None\nhost = None\nrun = None"

FIGURE = """
import matplotlib.pyplot as plt
from IPython.display import display
figure, axes = plt.subplots(figsize=(7, 3.2))
axes.plot([1, 2, 3], [3, 1, 2])
axes.set(title={title!r}, xlabel="time, s", ylabel="bits")
plt.close(figure)
display(figure, metadata={{"image/png": {{"alt": {alt!r}}}}})
"""

TABLE = """
import pandas as pd
from itables import init_notebook_mode, show
init_notebook_mode(connected=False)
show(pd.DataFrame({"method": ["write_4k", "fallocate", "mmap_memset"], "median_s": [0.43, 0.0003, 0.17]}), showIndex=False)
show(pd.DataFrame({f"column_{n}": range(40) for n in range(14)}))
"""

MACHINE = """
import toolkit
from toolkit.markup import paragraph, sentence, figure_text
runs = toolkit.open_store(store, create=False).read("runs", host=host, run=run)
paragraph(*(sentence("<b>{0}</b> ran {1}.", row.host, row.command) for row in runs.itertuples()))
"""


def notebook(folder: Path, name: str, *code: str, title: str = "A page", tags: dict[int, str] | None = None) -> Path:
    """Write a notebook: a heading, the parameters, then a cell for each piece of code."""
    cells = [
        v4.new_markdown_cell(f"# {title}\n\nWhat does **this** page answer, and `how`? See [the first](01_first.ipynb)."),
        v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        *(
            v4.new_code_cell(text.strip(), metadata={"tags": [tags[n]] if tags and n in tags else []})
            for n, text in enumerate(code)
        ),
        v4.new_markdown_cell("## What it means\n\nThat a page stands on its own.\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    return path


def figure(title: str = "Entropy", alt: str = "A line that falls and rises") -> str:
    """Code that shows a figure with an alt text."""
    return FIGURE.format(title=title, alt=alt)


def small_store(path: Path, host: str | None = None, **run: Any) -> Store:
    """A store with one run, a few samples and two things that could not be measured."""
    store = toolkit.open_store(path)
    made = begin("toolkit watch --for 1s", {"for_s": 1.0}, 7)
    named = {} if host is None else {"host": host}
    described = made.row().assign(**named, **run)
    store.append("runs", described)
    lacking = [
        {"capability": "getrandom", "available": True, "detail": "the system call answers"},
        {
            "capability": "/dev/hwrng",
            "available": False,
            "detail": run.get("command", "there is none"),
            "remedy": "Add a virtio-rng device.",
        },
    ]
    store.append("capabilities", made.frame("capabilities", lacking).assign(**named))
    reads = [{"t_ns": n, "source": "getrandom", "block_bytes": 64, "read_bytes": 64, "wait_ns": 800 + n} for n in range(20)]
    store.append("source_reads", made.frame("source_reads", reads).assign(**named))
    return store
