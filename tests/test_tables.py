"""The tables agree with the design and with their documentation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pyarrow as pa
import pytest

from toolkit.errors import UsageError
from toolkit.tables import TABLES, table

ROOT = Path(__file__).parent.parent

#: The columns beside the common ones, as the design names them: a contract, so written down twice.
DESIGNED = {
    "runs": "started_utc, command, settings_json, seed, toolkit_version, kernel, cpu_model, cpu_count, memory_bytes, hypervisor",
    "rng_state": "regime, poolsize_bits, crng_ready, crng_ready_s, urandom_warnings, vm_fork_reseeds, hwrng_available, "
    "hwrng_current, hwrng_quality, cpu_rdrand, cpu_rdseed, trust_cpu, feeders, virtio_rng_backend, virtio_rng_max_bytes, "
    "virtio_rng_period_ms",
    "entropy_samples": "t_ns, utc, entropy_avail_bits, crng_ready, random_readable",
    "system_samples": "t_ns, utc, cpu_busy_fraction, memory_available_bytes, power_watts",
    "source_reads": "t_ns, source, block_bytes, read_bytes, wait_ns, errno",
    "allocations": "filesystem, mkfs_options, mount_options, ageing, method, size_bytes, repeat, position, allocate_ns, "
    "overhead_ns, sync_ns, errno, emulated, allocated_bytes, extents, discontinuities",
    "extents": "file, layer, logical_byte, physical_byte, length_bytes, flags",
    "free_extents": "filesystem, ageing, physical_byte, length_bytes",
    "io_runs": "filesystem, method, job, block_bytes, bytes_per_second, iops, latency_ns_p50, latency_ns_p99",
    "channel_health": "t_ns, frames, records, lost_records, corrupt_frames, dropped_in_guest, "
    "repeated_records, refused_records, refused_frames, bytes, utc",
}


@pytest.mark.parametrize("name", DESIGNED)
def test_a_table_has_the_designed_columns_in_order(name: str) -> None:
    assert table(name).columns == ["run_id", "host", "guest", "boot_id", *DESIGNED[name].split(", ")]


@pytest.mark.parametrize("name", TABLES)
def test_every_column_says_its_unit_and_meaning(name: str) -> None:
    for field in table(name).schema:
        meta = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert meta["meaning"]
        for ending, unit in {"_ns": "ns", "_bytes": "bytes", "_bits": "bits", "_s": "s", "_watts": "W", "_ms": "ms"}.items():
            if field.name.endswith(ending) and not field.name.endswith("bytes_per_second"):
                assert meta["unit"] == unit, field.name


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_frame_has_each_columns_own_dtype(name: str) -> None:
    empty = table(name).empty()
    assert len(empty) == 0
    assert {column: str(kind) for column, kind in empty.dtypes.items()} == table(name).dtypes


def test_a_null_in_a_whole_number_column_stays_null_and_the_rest_exact() -> None:
    big = 2**62 + 1
    frame = table("allocations").frame({"size_bytes": [1, 1], "repeat": [0, 0], "position": [0, 1], "allocate_ns": [big, None]})
    assert frame["allocate_ns"].iloc[0] == big
    assert frame["allocate_ns"].isna().tolist() == [False, True]


def test_a_column_that_is_not_the_tables_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(UsageError, match="no column 'colour'") as caught:
        table("runs").frame({"colour": ["red"]})
    assert "started_utc" in caught.value.remedy


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="2 lengths"):
        table("runs").frame({"seed": [1, 2], "kernel": ["6.1"]})


def test_an_unknown_table_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(UsageError, match="there is no table 'run'") as caught:
        table("run")
    assert "rng_state" in caught.value.remedy


def test_rows_are_sorted_so_that_a_boot_of_a_guest_is_contiguous_and_in_time() -> None:
    for made in TABLES.values():
        assert made.order[:2] == ("guest", "boot_id")
        if "t_ns" in made.columns:
            assert made.order[2] == "t_ns"
        assert set(made.order) <= set(made.columns)


def test_the_documentation_of_the_tables_is_made_from_them() -> None:
    spec = importlib.util.spec_from_file_location("document_tables", ROOT / "scripts" / "document_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == module.page()


def test_schemas_are_arrow_schemas_with_utc_times() -> None:
    for made in TABLES.values():
        for field in made.schema:
            if pa.types.is_timestamp(field.type):
                assert field.type.tz == "UTC"
