"""Short words for configurations: from the columns alone, apart where boots differ, the same for all that are alike."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.plots import made_lab
from toolkit.analysis.configurations import named, parts
from toolkit.errors import TableError


def one(**columns: object) -> pd.DataFrame:
    return made_lab.boots((("a", (1.0,), dict(columns)),))


@pytest.mark.parametrize(
    ("columns", "called"),
    [
        ({}, "no source"),
        ({"rdrand": "trusted"}, "RDRAND, credited"),
        ({"rdrand": "trusted", "remedy": "rdrand"}, "RDRAND, credited"),
        ({"rdrand": "untrusted"}, "RDRAND, not credited"),
        ({"rdrand": None}, "RDRAND not known"),
        ({"virtio_rng_backend": "egd"}, "virtio-rng"),
        ({"virtio_rng_backend": "egd", "virtio_rng_max_bytes": 1024, "virtio_rng_period_ms": 1000}, "virtio-rng, 1 KiB a second"),
        ({"virtio_rng_backend": "egd", "virtio_rng_max_bytes": 4, "virtio_rng_period_ms": 4000}, "virtio-rng, 4 B in 4 s"),
        ({"remedy": "haveged"}, "haveged"),
        ({"remedy": "rngd", "virtio_rng_backend": "egd"}, "rngd + virtio-rng"),
    ],
)
def test_a_configuration_is_called_after_what_the_guest_can_draw_on(columns: dict[str, object], called: str) -> None:
    assert named(one(**columns))["configuration"].tolist() == [called]


def test_the_backend_is_named_only_where_boots_differ_in_nothing_else() -> None:
    names = named(made_lab.matrix()).drop_duplicates("cell").set_index("cell")["configuration"]
    assert names["hwrng, nothing"] == "virtio-rng from /dev/hwrng"
    assert names["unlimited, getrandom"] == "virtio-rng from /dev/urandom"
    assert names["4 B, nothing"] == "virtio-rng, 4 B in 4 s"


def test_what_is_asked_stands_in_its_order_and_what_is_not_known_last() -> None:
    frame = made_lab.matrix()
    frame.loc[frame["cell"] == "trusted", "asked"] = None
    assert list(named(frame)["asks"].cat.categories) == [
        "getrandom waits",
        "urandom read first, then getrandom",
        "nothing asks",
        "what is asked is not known",
    ]


def test_two_cells_that_no_column_tells_apart_keep_their_own_text() -> None:
    frame = made_lab.boots((("a", (1.0,), {}), ("b", (2.0,), {})))
    assert named(frame)["configuration"].tolist() == ["a", "b"]


def test_boots_of_two_kernels_are_called_apart_and_parted() -> None:
    frame = pd.concat([made_lab.matrix(kernel="6.1"), made_lab.matrix(kernel="5.10")], ignore_index=True)
    assert {name.split(": ")[0] for name in named(frame)["configuration"]} == {"6.1", "5.10"}
    assert [words for words, _ in parts(frame)] == ["kernel 5.10", "kernel 6.1"]
    assert [len(part) for _, part in parts(frame)] == [65, 65]


def test_an_empty_table_has_its_columns_and_one_without_what_names_it_is_refused() -> None:
    assert {"asks", "kind", "configuration"} <= set(named(made_lab.boots().head(0)))
    with pytest.raises(TableError, match="rdrand"):
        named(made_lab.boots().drop(columns="rdrand"))
