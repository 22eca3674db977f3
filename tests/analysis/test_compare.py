"""Groups against a baseline: how much, how sure, and null where it is not known."""

from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from toolkit import compare
from toolkit.errors import UsageError


def times() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    groups = {
        ("ext4", "a"): rng.normal(10, 1, 12),
        ("ext4", "b"): rng.normal(30, 1, 8),
        ("xfs", "a"): rng.normal(10, 1, 20),
        ("xfs", "b"): [9.0, 8.0],
    }
    rows = [{"filesystem": f, "method": m, "allocate_ns": v} for (f, m), values in groups.items() for v in values]
    rows += [
        {"filesystem": "ext4", "method": "b", "allocate_ns": None},
        {"filesystem": "btrfs", "method": None, "allocate_ns": 10.0},
    ]
    return pd.DataFrame(rows)


def test_each_other_group_is_set_against_the_baseline() -> None:
    found = compare(times(), "allocate_ns", ["filesystem", "method"], ("ext4", "a")).set_index(["filesystem", "method"])
    assert len(found) == 4
    slower = found.loc[("ext4", "b")]
    assert slower["ratio_low"] < 3 < slower["ratio_high"]
    assert slower["cliffs_delta"] == 1
    assert slower["differs"]
    assert (slower["n"], slower["missing"], slower["baseline_n"]) == (8, 1, 12)
    same = found.loc[("xfs", "a")]
    assert not same["differs"]
    assert same["cliffs_delta_low"] < 0 < same["cliffs_delta_high"]


def test_too_few_values_are_not_called_equal() -> None:
    found = compare(times(), "allocate_ns", ["filesystem", "method"], ("ext4", "a")).set_index(["filesystem", "method"])
    few = found.loc[("xfs", "b")]
    assert few["n"] == 2
    assert pd.isna(few["differs"])
    assert np.isnan(few["ratio_low"])
    assert np.isfinite(few["ratio"])


def test_the_same_from_dask() -> None:
    frame = times()
    assert_frame_equal(
        compare(dd.from_pandas(frame, npartitions=3), "allocate_ns", "filesystem", "xfs"),
        compare(frame, "allocate_ns", "filesystem", "xfs"), check_dtype=False,
    )  # fmt: skip


def test_null_is_a_group_like_any_other() -> None:
    found = compare(times(), "allocate_ns", "method", None)
    assert found["method"].tolist() == ["a", "b"]
    assert found["baseline_n"].tolist() == [1, 1]


def test_a_baseline_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(UsageError, match="There are: btrfs; ext4; xfs"):
        compare(times(), "allocate_ns", "filesystem", "zfs")
