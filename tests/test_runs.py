"""A run knows the machine it ran on."""

from __future__ import annotations

import json
import platform
import socket
from pathlib import Path

import pytest

from toolkit import runs
from toolkit.tables import TABLES


def test_a_run_describes_this_machine() -> None:
    row = runs.begin("toolkit watch", {"for_s": 1.5, "directory": Path("x")}, seed=3).row()
    assert list(row.columns) == TABLES["runs"].columns
    (only,) = row.to_dict("records")
    assert only["host"] == socket.gethostname()
    assert only["kernel"] == platform.release()
    assert only["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert json.loads(only["settings_json"]) == {"for_s": 1.5, "directory": "x"}
    assert only["seed"] == 3
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert only["memory_bytes"] == pytest.approx(int(total.split()[1]) * 1024, rel=0.05)


def test_runs_have_ids_of_their_own_that_sort_by_time() -> None:
    many = [runs.begin("x").run_id for _ in range(50)]
    assert len(set(many)) == 50
    assert [each.split("-")[0] for each in many] == sorted(each.split("-")[0] for each in many)


def test_a_row_gets_the_common_columns_and_null_for_what_it_leaves_out() -> None:
    run = runs.begin("x")
    frame = run.frame("capabilities", [{"capability": "fiemap", "available": True}])
    assert frame[["run_id", "host", "boot_id"]].iloc[0].tolist() == [run.run_id, run.host, run.boot_id]
    assert frame[["guest", "detail", "remedy"]].isna().all(axis=None)


def test_no_rows_give_an_empty_frame_of_the_table() -> None:
    assert runs.begin("x").frame("source_reads", []).dtypes.equals(TABLES["source_reads"].empty().dtypes)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({"sys/class/dmi/id/sys_vendor": "QEMU\n"}, "qemu"),
        ({"sys/class/dmi/id/sys_vendor": "Dell Inc.\n", "proc/cpuinfo": "flags\t\t: fpu vme\n"}, None),
        ({"proc/cpuinfo": "flags\t\t: fpu hypervisor lm\n"}, "unknown"),
        ({}, None),
    ],
)
def test_the_hypervisor_is_told_from_what_the_machine_shows(tmp_path: Path, files: dict[str, str], told: str | None) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert runs.hypervisor(tmp_path) == told
