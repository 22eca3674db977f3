"""What the doctor says of this machine and of recorded ones, as root and as an ordinary user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import toolkit
from tests.needs import require_root
from tests.sensors.interpreters import NOBODY
from tests.trees import TREES, copied
from toolkit.doctor import doctor
from toolkit.filesystems import FILESYSTEMS, can_make
from toolkit.lab_needs import can_boot
from toolkit.runs import begin


def found(frame: pd.DataFrame, capability: str) -> tuple[bool, str, str | None]:
    row = frame.set_index("capability").loc[capability]
    return bool(row["available"]), str(row["detail"]), None if pd.isna(row["remedy"]) else str(row["remedy"])


def test_the_columns_are_those_of_the_contract() -> None:
    frame = doctor()
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "capability": "str",
        "available": "boolean",
        "detail": "str",
        "remedy": "str",
    }
    assert not frame[["capability", "available", "detail"]].isna().to_numpy().any()
    assert frame["capability"].is_unique


def test_every_file_system_is_listed_as_the_table_judges_it() -> None:
    frame = doctor()
    for name in FILESYSTEMS:
        assert found(frame, f"file system {name}") == tuple(can_make(name))


def test_a_run_can_keep_it() -> None:
    run = begin("a test")
    kept = run.frame("capabilities", doctor().to_dict("records"))
    pd.testing.assert_frame_equal(kept[["capability", "available", "detail", "remedy"]], doctor(), check_like=True)


def test_what_is_there_has_no_remedy_and_asks_for_none() -> None:
    frame = doctor()
    there = frame[frame["available"].astype(bool) & (frame["capability"] != "kernel log")]
    assert there["remedy"].isna().all()


def test_a_device_without_a_driver_is_named_with_the_module_to_load() -> None:
    available, detail, remedy = found(doctor(TREES / "unbound"), "hardware source")
    assert not available
    assert "without a driver" in detail
    assert "modprobe virtio_rng" in (remedy or "")


def test_a_guest_without_a_source_is_told_how_to_be_given_one(tmp_path: Path) -> None:
    root = copied("unbound", tmp_path)
    (root / "sys/bus/virtio/devices/virtio1/device").write_text("0x0002\n")
    available, detail, remedy = found(doctor(root), "hardware source")
    assert (available, "rng_available is empty" in detail) == (False, True)
    assert "virtio-rng-pci" in (remedy or "")


def test_a_source_without_its_device_file_is_not_there(tmp_path: Path) -> None:
    root = copied("latched", tmp_path)
    assert found(doctor(root), "hardware source")[2] == "Run as root: mknod -m 600 /dev/hwrng c 10 183"
    (root / "dev/hwrng").touch()
    assert found(doctor(root), "hardware source")[0]


def test_an_overwritten_log_is_said_to_be_so() -> None:
    available, detail, remedy = found(doctor(TREES / "overwritten"), "kernel log")
    assert not available
    assert "overwritten" in detail
    assert "log_buf_len" in (remedy or "")


def test_a_complete_log_tells_readiness() -> None:
    assert "65.313 s" in found(doctor(TREES / "blocking"), "kernel log")[1]


@pytest.mark.parametrize("name", ["blocking", "estimating", "draining", "latched"])
def test_the_regime_is_said_with_its_evidence(name: str) -> None:
    assert f"regime {name} (" in found(doctor(TREES / name), "entropy pool")[1]


def test_power_counters_are_listed_without_their_parts() -> None:
    assert found(doctor(TREES / "power"), "power")[:2] == (True, "RAPL: intel-rapl:0 intel-rapl:1")


def test_a_virtual_machine_without_power_counters_gets_no_remedy_that_cannot_help() -> None:
    assert found(doctor(TREES / "blocking"), "power")[2] is None
    assert "modprobe" in (found(doctor(TREES / "estimating"), "power")[2] or "")


def test_a_machine_without_anything_is_told_so_and_nothing_fails(tmp_path: Path) -> None:
    frame = doctor(tmp_path)
    lacking = frame[frame["capability"] != "JupyterLab"]
    assert not lacking["available"].any()


@pytest.mark.root
def test_an_ordinary_user_gets_every_row_and_a_remedy_for_what_needs_root() -> None:
    require_root()
    # The interpreter may live where only root may look, so the rights go after it has loaded what it needs.
    code = f"""
import os, toolkit
as_root = toolkit.doctor()
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
found = toolkit.doctor()
assert list(found["capability"]) == list(as_root["capability"])
found = found.set_index("capability")
assert not found.loc["root", "available"]
for capability in ("root", "file system ext4", "file system tmpfs"):
    assert "--directory" in found.loc[capability, "remedy"], capability
for capability in ("entropy pool", "CRNG readiness"):
    assert found.loc[capability, "available"], capability
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_lab_guests_are_listed_as_they_are_judged_and_only_for_this_machine() -> None:
    assert found(doctor(), "lab guests") == tuple(can_boot())
    assert "lab guests" not in set(doctor(TREES / "blocking")["capability"])


def test_it_is_the_public_name() -> None:
    assert toolkit.doctor is doctor
