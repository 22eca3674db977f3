"""What the failures of FIPS 140-2's statistical tests say, beside those that good data shows. Counts in, a table and words out.

The tests look at blocks of 20,000 bits and were written to find a generator that broke (FIPS PUB 140-2, 2001, section 4.9.1 with
change notice 1 of October 2001; taken out by change notice 2 of December 2002). Good data fails them too, by chance, about once in
1,250 blocks; and data that anybody could foretell passes them, if only its bits look even. So the count of failures is compared
with what chance gives, and nothing is concluded from passing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import pandas as pd
from scipy.stats import binom, binomtest, chi2

from toolkit.errors import UsageError

__all__ = ["ANY", "CONSISTENT", "MORE", "NONE_SEEN", "TESTS", "TOO_FEW", "good_rates", "judge", "meaning"]

BLOCK_BITS = 20_000
#: As rngtest names them.
TESTS = ("monobit", "poker", "runs", "long run", "continuous run")
#: A block that failed one or more of them.
ANY = "any"

CONSISTENT = "consistent with good data"
MORE = "more failures than good data gives"
TOO_FEW = "too few blocks to tell"
#: Of a test that good data fails so seldom that no number of blocks that is tested here would bound it.
NONE_SEEN = "no failure, and none is expected"

CONFIDENCE = 0.95
#: Good data is accused in one of so many tests of a source, over all rows together (Bonferroni's correction).
ONE_IN = 1000
#: Where the failures might be this many times those of good data, they do not tell that they are not.
TIMES = 10.0

#: Of the most blocks that are tested (MOST_BLOCKS of toolkit.experiments.fips), the least upper end of an interval: none failed.
_MOST_BLOCKS = 100_000
_LEAST_HIGH = 1 - ((1 - CONFIDENCE) / 2) ** (1 / _MOST_BLOCKS)

# The limits of change notice 1; rngtest has the same.
_MONOBIT_LOW = 9725
_POKER_LOW, _POKER_HIGH, _POKER_FREEDOM = 2.16, 46.17, 15
_LONG_RUN_BITS = 26
_WORD_BITS = 32
#: Blocks that failed rngtest's test of runs, and of how many: 637 of 2,000,000 of AES-128 in counter mode (key 5, counter from 0),
#: and 865 of 3,000,000 of somebody else's /dev/random (trezor/rng-test on GitHub, issue 4).
RUNS_FAILED, RUNS_BLOCKS = 637 + 865, 5_000_000


@functools.cache
def good_rates() -> Mapping[str, float]:
    """The share of blocks of good data that fails each test, and any of them.

    Returns
    -------
    mapping of str to float
        A share for each of ``TESTS`` and for ``ANY``.

    Notes
    -----
    Monobit: 9,725 ones or fewer, or as many zeroes (binomial, exact). Poker: the 5,000 groups of four bits, a chi-square of 15
    degrees of freedom outside of 2.16 to 46.17 (asymptotic). Long run: 26 equal bits or more in a row, by the recurrence for
    25 successes in a row among 19,999 comparisons of neighbours (exact). Continuous run: a word of 32 bits that equals the one
    before, 625 chances of 2**-32. Runs: twelve counts that hang together, each with an interval of its own, have no such formula,
    and rngtest counts runs at the edge of a block in its own way (Debian bug 847962); so this one is what rngtest itself counted:
    see ``RUNS_FAILED``. The same blocks bear out the others: of the first 2,000,000, 1,596 failed any test, of the next 3,000,000
    2,379. rng-tools' own README says only that with a good generator one will probably see no failure in 50 blocks.

    Examples
    --------
    >>> {test: round(1000 * share, 2) for test, share in good_rates().items()}["any"]
    0.8
    """
    found = {
        "monobit": float(2 * binom.cdf(_MONOBIT_LOW, BLOCK_BITS, 0.5)),
        "poker": float(chi2.cdf(_POKER_LOW, _POKER_FREEDOM) + chi2.sf(_POKER_HIGH, _POKER_FREEDOM)),
        "runs": RUNS_FAILED / RUNS_BLOCKS,
        "long run": _long_runs(BLOCK_BITS - 1, _LONG_RUN_BITS - 1),
        "continuous run": BLOCK_BITS // _WORD_BITS * 2.0**-_WORD_BITS,
    }
    return {**found, ANY: 1 - math.prod(1 - share for share in found.values())}


def judge(blocks: int, failures: Mapping[str, int]) -> pd.DataFrame:
    """What failures say, test by test.

    Parameters
    ----------
    blocks : int
        Blocks of 20,000 bits that were tested.
    failures : mapping of str to int
        Blocks that failed each of ``TESTS``, and those that failed one or more, as ``ANY``.

    Returns
    -------
    pandas.DataFrame
        A row a test, ``ANY`` first: ``test``, ``blocks``, ``failures``, ``rate`` (failures of blocks), ``low`` and ``high`` (its
        95 % interval, exact: Clopper and Pearson, Biometrika 26, 1934), ``good_rate`` (of good data), ``chance`` (that good data
        shows as many failures or more), ``verdict``. Rates and intervals are null where nothing was tested.

    Raises
    ------
    UsageError
        If a count is missing or cannot be.

    Examples
    --------
    >>> counts = {"any": 1, "monobit": 0, "poker": 0, "runs": 1, "long run": 0, "continuous run": 0}
    >>> judge(1000, counts).loc[0, "verdict"]
    'consistent with good data'
    """
    wanted = (ANY, *TESTS)
    if set(failures) != set(wanted) or not all(0 <= count <= blocks for count in failures.values()):
        raise UsageError(
            f"{dict(failures)} are no failures of {blocks} blocks", f"Give a count from 0 to {blocks} for each of {wanted}."
        )
    return pd.DataFrame([{"test": test, **_row(blocks, failures[test], good_rates()[test])} for test in wanted])


def _row(blocks: int, failed: int, good: float) -> dict[str, object]:
    if blocks == 0:
        nothing = dict.fromkeys(("rate", "low", "high"), math.nan)
        return {"blocks": 0, "failures": 0, **nothing, "good_rate": good, "chance": math.nan, "verdict": TOO_FEW}
    interval = binomtest(failed, blocks).proportion_ci(CONFIDENCE, method="exact")
    chance = float(binom.sf(failed - 1, blocks, good))
    few = NONE_SEEN if failed == 0 and TIMES * good < _LEAST_HIGH else TOO_FEW
    verdict = MORE if chance < 1 / (ONE_IN * (len(TESTS) + 1)) else few if interval.high > TIMES * good else CONSISTENT
    return {
        "blocks": blocks, "failures": failed, "rate": failed / blocks, "low": float(interval.low), "high": float(interval.high),
        "good_rate": good, "chance": chance, "verdict": verdict,
    }  # fmt: skip


def meaning(judged: pd.DataFrame) -> list[str]:
    """What a table of :func:`judge` means, in sentences for people."""
    every = judged.set_index("test").loc[ANY]
    good = 1000 * good_rates()[ANY]
    guilty = judged.loc[judged["verdict"] == MORE, "test"].tolist()
    if guilty:
        which = "" if guilty == [ANY] else f" ({', '.join(test for test in guilty if test != ANY)})"
        said = (
            f"More failures than good data gives{which}: chance alone does this in fewer than one of {ONE_IN:,} such tests. "
            "Test again; if it stays so, the source is broken or is no source of even bits, and must not be used."
        )
    elif every["verdict"] == CONSISTENT:
        said = f"Consistent with good data, of which about {good:.1f} in 1,000 blocks fail: these failures, or none, are no alarm."
    else:
        said = (
            f"Too few blocks to tell: of good data about {good:.1f} in 1,000 fail, and up to {TIMES:.0f} times that is possible "
            "here. Test more blocks, or allow more time."
        )
    little = "Passing says little: these tests find a source that broke; data that anybody could foretell passes them too."
    return [said] if guilty else [said, little]


def _long_runs(trials: int, length: int) -> float:
    """The chance of a run of so many successes or more among tosses of a fair coin (Feller, volume 1, chapter XIII.7)."""
    # A first run that ends at n: the toss before it failed, and there was none until then.
    none = [1.0] * length + [1 - 0.5**length]
    for _ in range(length + 1, trials + 1):
        none.append(none[-1] - 0.5 ** (length + 1) * none[-length - 1])
    return 1 - none[trials]
