"""Every table of the toolkit: columns, types, units, meaning. The one place, with :mod:`toolkit.tables_of_guests`.

A table is a pyarrow schema whose field metadata carry ``unit`` and ``meaning``; the documentation of the tables is made from
them (:func:`describe`). Frames are pandas with one fixed dtype a column, whatever the data: see :attr:`Table.dtypes`.
Checking a frame against its table is :mod:`toolkit.conform`'s work.
"""

from __future__ import annotations

from toolkit.errors import UsageError
from toolkit.table_kinds import T_NS, UTC, WHEN, Table, column, made_table, real, text, truth, whole
from toolkit.tables_of_guests import GUEST_TABLES

__all__ = ["SCHEMA_VERSION", "TABLES", "Table", "describe", "table"]

#: Written into every file of a store; a file of another version is named and left out. Raised when a column changes its meaning.
SCHEMA_VERSION = 1

TABLES: dict[str, Table] = {
    made.name: made
    for made in (
        made_table(
            "runs",
            "one run",
            column("started_utc", UTC, "when the run began", null=False),
            text("command", "the command or function that was called"),
            text("settings_json", "its settings, as JSON"),
            whole("seed", "", "the seed of every random choice in it"),
            text("toolkit_version", "the toolkit's version"),
            text("kernel", "the kernel's release"),
            text("cpu_model", "the processor, as it names itself"),
            whole("cpu_count", "", "processors that were online"),
            whole("memory_bytes", "bytes", "memory of the machine"),
            text("hypervisor", "what the machine runs under; null on bare metal or where it cannot be told"),
        ),
        made_table(
            "capabilities",
            "one thing a run could or could not measure, and why",
            text("capability", "what could be measured", null=False),
            truth("available", "whether this machine could, in this run", null=False),
            text("detail", "what was found"),
            text("remedy", "how to get it; null where it is there or cannot be had"),
        ),
        made_table(
            "rng_state",
            "a target's random number generator, once a run",
            text("regime", "what the kernel's numbers mean: blocking, estimating, draining or latched"),
            whole("poolsize_bits", "bits", "size of the entropy pool"),
            truth("crng_ready", "whether getrandom would return at once"),
            real("crng_ready_s", "s", "when the kernel said 'crng init done', since boot; null where its log does not tell"),
            whole(
                "urandom_warnings", "", "reads of urandom before ready, logged or counted as missed; before 5.19 it stops at ten"
            ),
            whole("vm_fork_reseeds", "", "reseeds after the virtual machine was forked or restored (vmgenid)"),
            text("hwrng_available", "hardware sources with a driver bound, separated by spaces; empty when there is none"),
            text("hwrng_current", "the hardware source in use"),
            whole("hwrng_quality", "bits/1024 bits", "entropy credited for 1024 bits of the hardware source"),
            truth("cpu_rdrand", "RDRAND (x86) or RNDR (arm64) offered by the processor"),
            truth("cpu_rdseed", "RDSEED (x86) or RNDRRS (arm64) offered by the processor"),
            truth("trust_cpu", "whether the processor's seed is credited (random.trust_cpu)"),
            text("feeders", "running user-space feeders (rngd, haveged, …), separated by spaces; empty when there is none"),
            text("virtio_rng_backend", "backend of the guest's virtio-rng, as the host configured it"),
            whole("virtio_rng_max_bytes", "bytes", "its limit a period; null when unlimited or unknown"),
            whole("virtio_rng_period_ms", "ms", "its period"),
        ),
        made_table(
            "entropy_samples",
            "one look at the pool",
            *WHEN,
            whole("entropy_avail_bits", "bits", "/proc/sys/kernel/random/entropy_avail; its meaning depends on the regime"),
            truth("crng_ready", "getrandom(GRND_NONBLOCK) gave bytes"),
            truth("random_readable", "poll on /dev/random said readable"),
        ),
        made_table(
            "system_samples",
            "one look at the machine",
            *WHEN,
            real("cpu_busy_fraction", "1", "share of all processors' time not idle since the look before; null at the first"),
            whole("memory_available_bytes", "bytes", "MemAvailable"),
            real("power_watts", "W", "mean power since the look before, from RAPL; null where the machine shows none"),
        ),
        made_table(
            "source_reads",
            "one read of a source",
            T_NS,
            text("source", "getrandom, /dev/random, /dev/urandom or /dev/hwrng", null=False),
            whole("block_bytes", "bytes", "bytes asked for", null=False),
            whole("read_bytes", "bytes", "bytes that came; null when the read failed"),
            whole("wait_ns", "ns", "from the call to its end, or to the end of the budget"),
            whole("errno", "", "the error's number; null when the read succeeded"),
            order=("source", "block_bytes"),
        ),
        made_table(
            "allocations",
            "one file allocated",
            text("filesystem", "the file system it was made on", null=False),
            text("mkfs_options", "how the file system was made; null for a folder that was there"),
            text("mount_options", "how it was mounted"),
            text("ageing", "how the file system was aged first; null when it was not"),
            text("method", "the allocation method", null=False),
            whole("size_bytes", "bytes", "the size asked for", null=False),
            whole("repeat", "", "which repeat, from 0", null=False),
            whole("position", "", "its place in the experiment's random order, from 0", null=False),
            whole("allocate_ns", "ns", "the method alone, the instrument's own cost included"),
            whole("overhead_ns", "ns", "the instrument's own cost: the same loop over a call that does nothing; not subtracted"),
            whole("sync_ns", "ns", "fsync, after the method"),
            whole("errno", "", "the error's number; null when it succeeded"),
            truth("emulated", "posix_fallocate wrote the blocks itself, because the file system has no fallocate"),
            whole("allocated_bytes", "bytes", "what the file system truly gave (st_blocks)"),
            whole("extents", "", "extents that FIEMAP listed; null where it cannot"),
            whole("discontinuities", "", "physical discontinuities, as filefrag counts them; null where they cannot be compared"),
            order=("position",),
        ),
        made_table(
            "extents",
            "one extent of a file",
            text("file", "the file", null=False),
            whole("layer", "", "0 for the file itself, 1 for the file below it, …", null=False),
            whole("logical_byte", "bytes", "where it begins in the file", null=False),
            whole("physical_byte", "bytes", "where it begins on the layer below; null where the file system cannot say"),
            whole("length_bytes", "bytes", "its length", null=False),
            text("flags", "FIEMAP's flags by name, separated by commas", null=False),
            order=("file", "layer", "logical_byte"),
        ),
        made_table(
            "free_extents",
            "one free extent",
            text("filesystem", "the file system", null=False),
            text("ageing", "how it was aged first; null when it was not"),
            whole("physical_byte", "bytes", "where it begins on the device", null=False),
            whole("length_bytes", "bytes", "its length", null=False),
            order=("filesystem", "physical_byte"),
        ),
        made_table(
            "io_runs",
            "one fio job",
            text("filesystem", "the file system", null=False),
            text("method", "how the file was allocated"),
            text("job", "the job's name", null=False),
            whole("block_bytes", "bytes", "the size of a request"),
            real("bytes_per_second", "bytes/s", "throughput"),
            real("iops", "1/s", "requests a second"),
            whole("latency_ns_p50", "ns", "median latency"),
            whole("latency_ns_p99", "ns", "99th percentile of latency"),
        ),
        *GUEST_TABLES,
    )
}


def table(name: str) -> Table:
    """The table of that name.

    Raises
    ------
    UsageError
        If there is none; the message lists those there are.
    """
    try:
        return TABLES[name]
    except KeyError:
        raise UsageError(f"there is no table {name!r}", f"The tables are: {', '.join(TABLES)}.") from None


def describe() -> str:
    """The documentation of all tables, in Markdown, made from the schemas."""
    lines = []
    for made in TABLES.values():
        lines += [f"### {made.name}", "", f"A row is {made.row}.", ""]
        lines += ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        for field in made.schema:
            meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
            kind = made.dtypes[field.name] + ("" if field.nullable else ", never null")
            lines.append(f"| {field.name} | {kind} | {meta['unit']} | {meta['meaning']} |")
        lines.append("")
    return "\n".join(lines)
