"""Plans of boots: what each line of one means, in which order it is booted, and what is refused, with the name of what is wrong."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import UsageError
from toolkit.experiments.boot_plan import ASKED, RDRAND, REMEDIES, BootPlan, Cell, parse_rng, plan_of, read_plan
from toolkit.guests.devices import BACKENDS, RngLimit, Unlimited
from toolkit.share import data, plan_file

KERNELS = {"newest": ["6.1.0"], "all": ["6.1.0", "5.10.0"], "5.10": ["5.10.0"]}


def versions(word: str) -> list[str]:
    return KERNELS.get(word, [word])


def planned(*blocks: dict[str, Any], **more: Any) -> BootPlan:
    return plan_of({"cells": list(blocks), **more}, "mine", versions)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_block_is_every_combination_of_its_values_and_blocks_follow_one_another() -> None:
    plan = planned(
        {"kernel": ["newest", "5.10"], "rdrand": ["trusted", "untrusted"], "asked": "nothing"},
        {"rng": ["none", "unlimited", "1KiB/1s"]},
    )
    assert [(cell.kernel, cell.rdrand, cell.rng) for cell in plan.cells] == [
        *((kernel, rdrand, "none") for kernel in ("6.1.0", "5.10.0") for rdrand in ("trusted", "untrusted")),
        *(("6.1.0", "absent", rng) for rng in ("none", "unlimited", "1KiB/1s")),
    ]
    assert plan.cells[-1] == Cell("6.1.0", "absent", "1KiB/1s", "/dev/urandom", "getrandom", "none")
    assert (plan.boots, plan.budget_s, plan.watch_s) == (5, 90.0, 0.0)


def test_a_word_for_a_kernel_is_all_versions_that_it_means_and_each_once() -> None:
    assert [cell.kernel for cell in planned({"kernel": ["all", "newest", "4.19"]}).cells] == ["6.1.0", "5.10.0", "4.19"]


def test_without_a_device_nothing_feeds_it_and_backends_are_one_cell() -> None:
    plan = planned({"rng": ["none", "unlimited"], "backend": ["egd", "builtin"]})
    assert [(cell.rng, cell.backend) for cell in plan.cells] == [("none", ""), ("unlimited", "egd"), ("unlimited", "builtin")]
    assert [cell.device for cell in plan.cells] == [None, Unlimited(backend="egd"), Unlimited(backend="builtin")]


@pytest.mark.parametrize(
    ("remedy", "rng", "meant"),
    [
        ("none", "none", ("absent", "none")),
        ("virtio-rng", "none", ("absent", "unlimited")),
        ("virtio-rng", "1KiB/1s", ("absent", "1KiB/1s")),
        ("rngd", "none", ("absent", "unlimited")),
        ("rdrand", "none", ("trusted", "none")),
        ("haveged", "none", ("absent", "none")),
        ("jitterentropy-rngd", "4/4s", ("absent", "4/4s")),
    ],
)
def test_a_remedy_decides_over_the_processor_and_the_device(remedy: str, rng: str, meant: tuple[str, str]) -> None:
    (cell,) = planned({"remedy": remedy, "rng": rng}).cells
    assert (cell.rdrand, cell.rng) == meant
    assert cell.remedy == remedy
    assert (cell.backend == "") is (cell.rng == "none")


def test_limits_that_mean_the_same_are_one_cell_and_remedies_that_make_the_same_guest_are_two() -> None:
    assert len(planned({"rng": ["1KiB/1s", "1024/1s", "1024/1000ms", "1k/1"]}).cells) == 1
    plan = planned({"rng": ["none", "unlimited"], "remedy": ["none", "virtio-rng", "rdrand"]})
    assert Counter(cell.remedy for cell in plan.cells) == {"none": 2, "virtio-rng": 1, "rdrand": 2}
    assert len({(str(cell), cell.remedy) for cell in plan.cells}) == len(plan.cells)


def test_a_cell_says_what_it_is() -> None:
    said = [str(cell) for cell in planned({"rng": ["none", "unlimited", "1KiB/1s"], "remedy": ["none", "haveged"]}).cells]
    assert said[0] == "kernel 6.1.0, RDRAND absent, no virtio-rng, getrandom asked"
    assert said[1] == "kernel 6.1.0, RDRAND absent, no virtio-rng, haveged, getrandom asked"
    assert said[2] == "kernel 6.1.0, RDRAND absent, virtio-rng unlimited from /dev/urandom, getrandom asked"
    assert said[4] == "kernel 6.1.0, RDRAND absent, virtio-rng 1024 B/1000 ms from /dev/urandom, getrandom asked"


def test_its_digest_changes_with_all_that_is_measured_and_not_with_its_name() -> None:
    plan = planned({"rng": ["none", "4/4s"]}, boots=2)
    assert dataclasses.replace(plan, name="other").sha256 == plan.sha256
    changed = [
        dataclasses.replace(plan, boots=3),
        dataclasses.replace(plan, budget_s=91.0),
        dataclasses.replace(plan, watch_s=1.0),
        dataclasses.replace(plan, cells=plan.cells[:1]),
        *(
            dataclasses.replace(plan, cells=(plan.cells[0], dataclasses.replace(plan.cells[1], **{axis: "another"})))
            for axis in ("kernel", "rdrand", "rng", "backend", "asked", "remedy")
        ),
    ]
    digests = {each.sha256 for each in [plan, *changed]}
    assert len(digests) == 1 + len(changed)


def test_the_same_seed_gives_the_same_order_and_each_round_has_each_cell_once() -> None:
    plan = planned({"rng": ["none", "unlimited", "1KiB/1s", "4/4s"], "asked": list(ASKED)}, boots=4)
    order = plan.order(5)
    random.seed(1)
    assert plan.order(5) == order
    assert plan.order(6) != order
    assert [boot.position for boot in order] == list(range(48))
    rounds = [[boot.cell for boot in order if boot.repeat == repeat] for repeat in range(4)]
    assert all(sorted(each) == sorted(plan.cells) for each in rounds)
    assert [boot.repeat for boot in order] == sorted(boot.repeat for boot in order)
    assert rounds[0] != rounds[1]


@pytest.mark.parametrize("path", sorted((data() / "plans").glob("*.toml")), ids=lambda path: path.stem)
def test_the_plans_that_come_with_the_toolkit_can_be_read(path: Path) -> None:
    plan = read_plan(path, versions)
    assert plan.name == path.stem
    assert plan_file(path.stem) == path
    assert 1 < len(plan.cells) * plan.boots < 1000


def test_the_reference_has_at_least_five_boots_of_two_kernels_and_each_kind_of_limit() -> None:
    plan = read_plan(plan_file("reference"), versions)
    assert plan.boots >= 5
    assert len({cell.kernel for cell in plan.cells}) >= 2
    assert {cell.rdrand for cell in plan.cells} == set(RDRAND)
    assert {cell.asked for cell in plan.cells} == set(ASKED)
    assert {"none", "unlimited"} < {cell.rng for cell in plan.cells}
    assert {cell.backend for cell in plan.cells} >= {"/dev/random", "/dev/urandom", "/dev/hwrng", "builtin", "egd", ""}


def test_the_remedies_are_all_and_are_watched_for_as_long() -> None:
    plan = read_plan(plan_file("remedies"), versions)
    assert {cell.remedy for cell in plan.cells} == set(REMEDIES)
    assert plan.watch_s > 0


REFUSED = [
    ({}, r"no block \[\[cells\]\]"),
    ({"cells": []}, r"no block \[\[cells\]\]"),
    ({"cells": {"rng": "none"}}, r"no block \[\[cells\]\]"),
    ({"cells": [1]}, r"no block \[\[cells\]\]"),
    ({"cells": [{}], "boot": 3}, "'boot' is nothing that a plan says"),
    ({"cells": [{"rnd": "none"}]}, "'rnd' is nothing that a block of cells says"),
    ({"cells": [{}], "boots": 0}, "booted '0' times"),
    ({"cells": [{}], "boots": True}, "booted 'True' times"),
    ({"cells": [{}], "boots": 2.0}, r"booted '2\.0' times"),
    ({"cells": [{}], "boots": 10_001}, "booted '10001' times"),
    ({"cells": [{}], "boots": "five\033[2J"}, r"booted 'five\\+x1b\[2J' times"),
    ({"cells": [{"asked": list(ASKED)}], "boots": 4000}, "is 12,000 boots"),
    ({"cells": [{"kernel": [f"6.{n}" for n in range(10_001)]}]}, "10,001 configurations"),
    ({"cells": [{}], "budget": 90}, "budget in a plan is no time"),
    ({"cells": [{}], "budget": "soon"}, "'soon' is not a duration"),
    ({"cells": [{}], "budget": "0s"}, "above zero"),
    ({"cells": [{}], "budget": "25h"}, "budget in a plan is longer than a day"),
    ({"cells": [{}], "watch": "9" * 400}, "above zero|longer than a day"),
    ({"cells": [{}], "watch": False}, "watch in a plan is no time"),
    ({"cells": [{"rng": []}]}, "there are no rng"),
    ({"cells": [{"rng": 4}]}, "rng in a plan is no list of words"),
    ({"cells": [{"rng": ["none", 4]}]}, "rng in a plan is no list of words"),
    ({"cells": [{"rng": "4"}]}, "'4' is no limit"),
    ({"cells": [{"rng": "4/4s/4"}]}, "is no limit"),
    ({"cells": [{"rng": "0/1s"}]}, "above zero"),
    ({"cells": [{"rng": "4/1us"}]}, "at least 1 byte in at least 1 ms"),
    ({"cells": [{"rng": "4/100d"}]}, "QEMU cannot count"),
    ({"cells": [{"rng": f"4/{'9' * 308}"}]}, "QEMU cannot count"),
    ({"cells": [{"rng": "9999999TiB/1s"}]}, "QEMU cannot count"),
    ({"cells": [{"rng": f"{'9' * 400}/1s"}]}, "whole number of bytes"),
    ({"cells": [{"rng": "unlimited", "backend": "telepathy"}]}, "'telepathy' is no backend"),
    ({"cells": [{"backend": "telepathy"}]}, "'telepathy' is no backend"),
    ({"cells": [{"rdrand": "maybe"}]}, "'maybe' is no rdrand"),
    ({"cells": [{"asked": "politely"}]}, "'politely' is no asked"),
    ({"cells": [{"remedy": ["none", "prayer"]}]}, "'prayer' is no remedy"),
]


@pytest.mark.parametrize(("said", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_cannot_be_meant_is_refused_and_named(said: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        plan_of(said, "mine", versions)
    assert caught.value.remedy
    assert "\033" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"boots = ", "is no plan in TOML"),
        (b"a = " + b"[" * 5000, "is no plan in TOML"),
        (b"\xff\xfe", "is no plan in TOML"),
        (b"#" * (1 << 21), "it is too long"),
    ],
    ids=["half", "deep", "no text", "long"],
)
def test_a_file_that_is_no_plan_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        read_plan(path)


def test_a_plan_that_is_not_there_is_refused_and_those_that_are_there_are_named(tmp_path: Path) -> None:
    for named in ("nope", str(tmp_path), "a" * 300, f"{tmp_path}/none/x.toml"):
        with pytest.raises(UsageError, match="readiness, reference, remedies"):
            plan_file(named)
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_plan(tmp_path)


def test_a_plan_has_the_name_it_gives_itself_else_that_of_its_file(tmp_path: Path) -> None:
    assert read_plan(written(tmp_path, "[[cells]]\n")).name == "mine"
    assert read_plan(written(tmp_path, 'name = "a\\u001b[2J"\n[[cells]]\n')).name == "a\\x1b[2J"


def test_a_limit_is_read_as_people_write_it() -> None:
    assert parse_rng("none", "") is None
    assert parse_rng("16/1s", "builtin") == RngLimit(max_bytes=16, period_ms=1000, backend="builtin")
    assert parse_rng("1MB/100ms", "random") == RngLimit(max_bytes=10**6, period_ms=100, backend="random")


WORD = st.sampled_from(
    ["none", "unlimited", "4/4s", "1KiB/1s", "trusted", "getrandom", "rngd", "virtio-rng", "egd", "all", "90s", ""]
)
ANY = st.recursive(
    WORD | st.text(max_size=8) | st.booleans() | st.integers(-3, 20_000) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
AXIS = st.sampled_from(["kernel", "rdrand", "rng", "backend", "asked", "remedy"])
BLOCK = st.dictionaries(AXIS, ANY | WORD | st.lists(WORD, min_size=1, max_size=3), max_size=4)
NAME = st.sampled_from(["name", "boots", "budget", "watch"])


@settings(max_examples=400)
@given(st.dictionaries(NAME | st.text(max_size=4), ANY, max_size=3), st.lists(BLOCK, max_size=3) | ANY)
def test_whatever_a_file_says_is_a_plan_or_is_refused(said: dict[str, Any], cells: Any) -> None:
    try:
        plan = plan_of({**said, "cells": cells}, "mine", versions)
    except UsageError:
        return
    assert 1 <= len(plan.order(1)) <= 10_000
    for cell in plan.cells:
        assert cell.rdrand in RDRAND
        assert (cell.device is None) is (cell.backend == "")
        assert cell.backend in {"", *BACKENDS}
