"""What failures of FIPS 140-2's tests say beside those of good data: rates from the definitions, intervals, verdicts and words."""

from __future__ import annotations

import itertools

import pytest
from scipy.stats import binomtest

from toolkit.analysis.fips import ANY, CONSISTENT, MORE, NONE_SEEN, TESTS, TOO_FEW, _long_runs, good_rates, judge, meaning
from toolkit.errors import UsageError
from toolkit.experiments.fips import MOST_BLOCKS

#: What rngtest counted of good data: ours of 2,000,000 blocks, somebody else's of 3,000,000 (see toolkit.analysis.fips).
SEEN = [
    (2_000_000, {"monobit": 247, "poker": 170, "runs": 637, "long run": 551, "continuous run": 0, ANY: 1596}),
    (3_000_000, {"monobit": 327, "poker": 306, "runs": 865, "long run": 896, "continuous run": 0, ANY: 2379}),
]


def counts(**failures: int) -> dict[str, int]:
    return {**dict.fromkeys((ANY, *TESTS), 0), **{name.replace("_", " "): count for name, count in failures.items()}}


@pytest.mark.parametrize(("blocks", "failures"), SEEN)
def test_the_rates_of_good_data_are_those_that_millions_of_blocks_show(blocks: int, failures: dict[str, int]) -> None:
    for test, failed in failures.items():
        assert binomtest(failed, blocks, good_rates()[test]).pvalue > 0.001, test
    assert 0.0007 < good_rates()[ANY] < 0.0009


def test_the_chance_of_a_long_run_is_that_of_all_sequences_counted() -> None:
    for trials, length in ((2, 2), (5, 2), (9, 3), (12, 4)):
        tossed = ["".join(each) for each in itertools.product("01", repeat=trials)]
        assert _long_runs(trials, length) == sum("1" * length in each for each in tossed) / len(tossed)


def test_the_interval_is_clopper_and_pearsons() -> None:
    row = judge(1000, counts(any=3, runs=3)).set_index("test").loc[ANY]
    # Tables of the exact interval: 3 of 1000.
    assert (round(row["low"], 6), round(row["high"], 6)) == (0.000619, 0.008742)
    none = judge(1000, counts()).set_index("test").loc[ANY]
    assert (none["low"], round(none["high"], 6)) == (0.0, 0.003682)


@pytest.mark.parametrize(
    ("blocks", "failures", "verdict"),
    [
        (0, 0, TOO_FEW),
        (50, 0, TOO_FEW),
        (1000, 0, CONSISTENT),
        (1000, 1, CONSISTENT),
        (1000, 5, TOO_FEW),
        (1000, 8, MORE),
        (50, 5, MORE),
        (1, 1, TOO_FEW),
        (10_000, 8, CONSISTENT),
        (10_000, 30, MORE),
        (100_000, 82, CONSISTENT),
    ],
)
def test_a_verdict_needs_blocks_and_weighs_what_good_data_shows(blocks: int, failures: int, verdict: str) -> None:
    judged = judge(blocks, counts(any=failures, runs=failures))
    assert judged.loc[0, "verdict"] == verdict
    assert len(judged) == 6
    if blocks:
        assert (judged["low"] <= judged["rate"]).all()
        assert (judged["rate"] <= judged["high"]).all()
    else:
        assert judged[["rate", "low", "high"]].isna().to_numpy().all()


def test_one_test_that_fails_too_often_is_told_though_the_sum_is_not() -> None:
    judged = judge(1000, counts(any=4, monobit=4))
    assert judged.set_index("test")["verdict"].loc[[ANY, "monobit"]].tolist() == [TOO_FEW, MORE]
    assert "monobit" in meaning(judged)[0]


def test_a_test_that_good_data_hardly_ever_fails_asks_for_no_more_blocks_than_can_be_tested() -> None:
    for blocks in (50, 1000, MOST_BLOCKS):
        verdicts = judge(blocks, counts()).set_index("test")["verdict"]
        assert verdicts["continuous run"] == NONE_SEEN
        assert NONE_SEEN not in verdicts.drop("continuous run").to_list()
    assert judge(0, counts()).set_index("test").loc["continuous run", "verdict"] == TOO_FEW
    assert judge(1000, counts(any=1, continuous_run=1)).set_index("test").loc["continuous run", "verdict"] == MORE


def test_the_words_never_promise_anything() -> None:
    for blocks, failures in ((0, 0), (50, 0), (1000, 0), (1000, 1000)):
        said = " ".join(meaning(judge(blocks, counts(any=failures, runs=failures)))).lower()
        for word in ("proof", "prove", "random enough", "secure", "certif", "healthy"):
            assert word not in said
        assert ("passing says little" in said) is (failures < 1000)


def test_counts_that_cannot_be_are_refused() -> None:
    for wrong in ({ANY: 1}, counts(any=11), counts(any=-1), {**counts(), "spectral": 0}):
        with pytest.raises(UsageError):
            judge(10, wrong)
