"""Processors, memory and power, on recorded machines and on this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sensors.interpreters import as_nobody
from tests.trees import TREES, copied
from toolkit.sensors.system import Energy, SystemLook, busy_fraction, power_watts, read_energy

_RAPL = "sys/class/powercap"


def test_the_first_look_knows_no_fraction_and_no_power() -> None:
    sample = SystemLook(TREES / "power")()
    assert (sample.cpu_busy_fraction, sample.power_watts) == (None, None)
    assert sample.memory_available_bytes == 8192000 * 1024


def test_waiting_for_io_is_idle_and_stolen_time_is_not(tmp_path: Path) -> None:
    root = copied("power", tmp_path)
    look = SystemLook(root)
    look()
    #                                   user nice system idle iowait irq softirq steal guest guest_nice
    (root / "proc/stat").write_text("cpu  1010 200 310 8050 420 50 50 110 610 20\n")
    assert look().cpu_busy_fraction == 30 / 100


def test_guest_time_is_not_counted_twice() -> None:
    before = (0,) * 10
    after = (60, 0, 0, 40, 0, 0, 0, 0, 60, 0)
    assert busy_fraction(before, after) == 0.6


def test_a_counter_that_went_backwards_did_not_move() -> None:
    assert busy_fraction((0, 0, 0, 100, 50, 0, 0, 0), (10, 0, 0, 190, 40, 0, 0, 0)) == 0.1


def test_no_time_gives_no_fraction() -> None:
    assert busy_fraction((5,) * 8, (5,) * 8) is None


def test_an_older_kernel_with_fewer_fields_is_read(tmp_path: Path) -> None:
    root = copied("power", tmp_path)
    look = SystemLook(root)
    (root / "proc/stat").write_text("cpu  10 0 0 90\n")
    look()
    (root / "proc/stat").write_text("cpu  35 0 0 165\n")
    assert look().cpu_busy_fraction == 0.25


def test_only_whole_packages_count_and_each_once() -> None:
    assert read_energy(TREES / "power") == {
        "intel-rapl:0": Energy(5_000_000, 262_143_328_850),
        "intel-rapl:1": Energy(262_143_328_000, 262_143_328_850),
    }


def test_a_counter_that_began_again_goes_on() -> None:
    before = read_energy(TREES / "power")
    after = {"intel-rapl:0": Energy(8_000_000, 262_143_328_850), "intel-rapl:1": Energy(2_999_150, 262_143_328_850)}
    assert power_watts(before, after, 2_000_000_000) == pytest.approx(3.0)


def test_another_set_of_packages_gives_no_power() -> None:
    before = read_energy(TREES / "power")
    assert power_watts(before, {"intel-rapl:0": before["intel-rapl:0"]}, 1_000_000_000) is None
    assert power_watts({}, {}, 1_000_000_000) is None


def test_one_package_that_cannot_be_read_makes_the_power_null(tmp_path: Path) -> None:
    root = copied("power", tmp_path)
    (root / _RAPL / "intel-rapl:1/energy_uj").unlink()
    assert read_energy(root) == {}
    look = SystemLook(root)
    look()
    assert look().power_watts is None


@pytest.mark.root
def test_counters_for_root_alone_are_null_to_an_ordinary_user() -> None:
    code = """
import pathlib, tempfile
from toolkit.sensors.system import read_energy
with tempfile.TemporaryDirectory() as name:
    zone = pathlib.Path(name, "sys/class/powercap/intel-rapl:0")
    zone.mkdir(parents=True)
    for file, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "9")):
        (zone / file).write_text(text)
    print(len(read_energy(pathlib.Path(name))))
    (zone / "energy_uj").chmod(0)
    print(len(read_energy(pathlib.Path(name))))
"""
    assert as_nobody(code).split() == ["1", "0"]


def test_this_machine_is_busy_between_nothing_and_all() -> None:
    look = SystemLook()
    look()
    sum(range(3_000_000))
    sample = look()
    assert sample.cpu_busy_fraction is None or 0 <= sample.cpu_busy_fraction <= 1
    assert sample.memory_available_bytes is not None
    assert sample.memory_available_bytes > 0
