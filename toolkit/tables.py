"""Every table of the toolkit: columns, types, units, meaning. The one place where they are said.

A table is a pyarrow schema whose field metadata carry ``unit`` and ``meaning``; the documentation of the tables is made from
them (:func:`describe`). Frames are pandas with one fixed dtype a column, whatever the data: see :attr:`Table.dtypes`.
Checking a frame against its table is :mod:`toolkit.conform`'s work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from toolkit.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCHEMA_VERSION", "TABLES", "Table", "describe", "table"]

#: Written into every file of a store; a file of another version is named and left out. Raised when a column changes its meaning.
SCHEMA_VERSION = 1

_UTC = pa.timestamp("ns", tz="UTC")


def _column(name: str, kind: pa.DataType, meaning: str, unit: str = "", *, null: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"unit": unit, "meaning": meaning})


def _text(name: str, meaning: str, *, null: bool = True) -> pa.Field:
    return _column(name, pa.string(), meaning, null=null)


def _whole(name: str, unit: str, meaning: str, *, null: bool = True) -> pa.Field:
    return _column(name, pa.int64(), meaning, unit, null=null)


def _real(name: str, unit: str, meaning: str) -> pa.Field:
    return _column(name, pa.float64(), meaning, unit)


def _truth(name: str, meaning: str) -> pa.Field:
    return _column(name, pa.bool_(), meaning)


_COMMON = (
    _text("run_id", "the run that measured it", null=False),
    _text("host", "the host's name", null=False),
    _text("guest", "the guest's name; null for the host itself"),
    _text("boot_id", "the kernel's boot_id: one value a boot", null=False),
)
_T_NS = _whole("t_ns", "ns", "CLOCK_BOOTTIME: since boot, sleep included", null=False)
_WHEN = (_T_NS, _column("utc", _UTC, "the same moment, UTC", null=False))


@dataclass(frozen=True)
class Table:
    """A table: its name, what a row is, its schema and the order its files are sorted in.

    Attributes
    ----------
    name : str
        As in the store's folder.
    row : str
        What one row is.
    schema : pyarrow.Schema
        Columns in order; each field's metadata has ``unit`` and ``meaning``.
    order : tuple of str
        Columns that a file is sorted by: a boot of a guest is contiguous, and in time.
    """

    name: str
    row: str
    schema: pa.Schema
    order: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.schema.names)

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """The pandas dtype of each column: ``Int64`` and ``boolean`` where null is possible, so that no null becomes 0 or NaN."""
        return {field.name: _dtype(field) for field in self.schema}

    def empty(self) -> pd.DataFrame:
        """A frame with all columns, their dtypes, and no row."""
        return self.frame({})

    def frame(self, columns: dict[str, Any]) -> pd.DataFrame:
        """A frame of this table from columns, each a sequence of as many values; a column that is not given is null.

        Raises
        ------
        UsageError
            If a column is not one of the table's, or one is longer than another.
        """
        import pandas as pd

        unknown = sorted(set(columns) - set(self.columns))
        if unknown:
            raise UsageError(f"table {self.name} has no column {unknown[0]!r}", f"It has: {', '.join(self.columns)}.")
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            detail = f"the columns given for table {self.name} are of {len(lengths)} lengths"
            raise UsageError(detail, "Give as many values in each.")
        # Column by column, each straight to its dtype: a list with a None would pass through float64 and lose nanoseconds.
        made = {name: pd.Series(values, dtype=self.dtypes[name]) for name, values in columns.items()}
        return pd.DataFrame(made).reindex(columns=self.columns).astype(self.dtypes)


def _dtype(field: pa.Field) -> str:
    if pa.types.is_string(field.type):
        return "str"
    if pa.types.is_boolean(field.type):
        return "boolean"
    if pa.types.is_floating(field.type):
        return "float64"
    if pa.types.is_timestamp(field.type):
        return "datetime64[ns, UTC]"
    return "Int64" if field.nullable else "int64"


def _table(name: str, row: str, *columns: pa.Field, order: tuple[str, ...] = ()) -> Table:
    timed = ("t_ns",) if any(column.name == "t_ns" for column in columns) else ()
    return Table(name, row, pa.schema((*_COMMON, *columns)), ("guest", "boot_id", *timed, *order))


TABLES: dict[str, Table] = {
    made.name: made
    for made in (
        _table(
            "runs",
            "one run",
            _column("started_utc", _UTC, "when the run began", null=False),
            _text("command", "the command or function that was called"),
            _text("settings_json", "its settings, as JSON"),
            _whole("seed", "", "the seed of every random choice in it"),
            _text("toolkit_version", "the toolkit's version"),
            _text("kernel", "the kernel's release"),
            _text("cpu_model", "the processor, as it names itself"),
            _whole("cpu_count", "", "processors that were online"),
            _whole("memory_bytes", "bytes", "memory of the machine"),
            _text("hypervisor", "what the machine runs under; null on bare metal or where it cannot be told"),
        ),
        _table(
            "capabilities",
            "one thing a run could or could not measure, and why",
            _text("capability", "what could be measured", null=False),
            _column("available", pa.bool_(), "whether this machine could, in this run", null=False),
            _text("detail", "what was found"),
            _text("remedy", "how to get it; null where it is there or cannot be had"),
        ),
        _table(
            "rng_state",
            "a target's random number generator, once a run",
            _text("regime", "what the kernel's numbers mean: blocking, estimating, draining or latched"),
            _whole("poolsize_bits", "bits", "size of the entropy pool"),
            _truth("crng_ready", "whether getrandom would return at once"),
            _real("crng_ready_s", "s", "when the kernel said 'crng init done', since boot; null where its log does not tell"),
            _whole(
                "urandom_warnings", "", "reads of urandom before ready, logged or counted as missed; before 5.19 it stops at ten"
            ),
            _whole("vm_fork_reseeds", "", "reseeds after the virtual machine was forked or restored (vmgenid)"),
            _text("hwrng_available", "hardware sources with a driver bound, separated by spaces; empty when there is none"),
            _text("hwrng_current", "the hardware source in use"),
            _whole("hwrng_quality", "bits/1024 bits", "entropy credited for 1024 bits of the hardware source"),
            _truth("cpu_rdrand", "RDRAND (x86) or RNDR (arm64) offered by the processor"),
            _truth("cpu_rdseed", "RDSEED (x86) or RNDRRS (arm64) offered by the processor"),
            _truth("trust_cpu", "whether the processor's seed is credited (random.trust_cpu)"),
            _text("feeders", "running user-space feeders (rngd, haveged, …), separated by spaces; empty when there is none"),
            _text("virtio_rng_backend", "backend of the guest's virtio-rng, as the host configured it"),
            _whole("virtio_rng_max_bytes", "bytes", "its limit a period; null when unlimited or unknown"),
            _whole("virtio_rng_period_ms", "ms", "its period"),
        ),
        _table(
            "entropy_samples",
            "one look at the pool",
            *_WHEN,
            _whole("entropy_avail_bits", "bits", "/proc/sys/kernel/random/entropy_avail; its meaning depends on the regime"),
            _truth("crng_ready", "getrandom(GRND_NONBLOCK) gave bytes"),
            _truth("random_readable", "poll on /dev/random said readable"),
        ),
        _table(
            "system_samples",
            "one look at the machine",
            *_WHEN,
            _real("cpu_busy_fraction", "1", "share of all processors' time not idle since the look before; null at the first"),
            _whole("memory_available_bytes", "bytes", "MemAvailable"),
            _real("power_watts", "W", "mean power since the look before, from RAPL; null where the machine shows none"),
        ),
        _table(
            "source_reads",
            "one read of a source",
            _T_NS,
            _text("source", "getrandom, /dev/random, /dev/urandom or /dev/hwrng", null=False),
            _whole("block_bytes", "bytes", "bytes asked for", null=False),
            _whole("read_bytes", "bytes", "bytes that came; null when the read failed"),
            _whole("wait_ns", "ns", "from the call to its end, or to the end of the budget"),
            _whole("errno", "", "the error's number; null when the read succeeded"),
            order=("source", "block_bytes"),
        ),
        _table(
            "allocations",
            "one file allocated",
            _text("filesystem", "the file system it was made on", null=False),
            _text("mkfs_options", "how the file system was made; null for a folder that was there"),
            _text("mount_options", "how it was mounted"),
            _text("ageing", "how the file system was aged first; null when it was not"),
            _text("method", "the allocation method", null=False),
            _whole("size_bytes", "bytes", "the size asked for", null=False),
            _whole("repeat", "", "which repeat, from 0", null=False),
            _whole("position", "", "its place in the experiment's random order, from 0", null=False),
            _whole("allocate_ns", "ns", "the method alone, the instrument's own cost included"),
            _whole("overhead_ns", "ns", "the instrument's own cost: the same loop over a call that does nothing; not subtracted"),
            _whole("sync_ns", "ns", "fsync, after the method"),
            _whole("errno", "", "the error's number; null when it succeeded"),
            _truth("emulated", "posix_fallocate wrote the blocks itself, because the file system has no fallocate"),
            _whole("allocated_bytes", "bytes", "what the file system truly gave (st_blocks)"),
            _whole("extents", "", "extents that FIEMAP listed; null where it cannot"),
            _whole("discontinuities", "", "physical discontinuities, as filefrag counts them; null where they cannot be compared"),
            order=("position",),
        ),
        _table(
            "extents",
            "one extent of a file",
            _text("file", "the file", null=False),
            _whole("layer", "", "0 for the file itself, 1 for the file below it, …", null=False),
            _whole("logical_byte", "bytes", "where it begins in the file", null=False),
            _whole("physical_byte", "bytes", "where it begins on the layer below; null where the file system cannot say"),
            _whole("length_bytes", "bytes", "its length", null=False),
            _text("flags", "FIEMAP's flags by name, separated by commas", null=False),
            order=("file", "layer", "logical_byte"),
        ),
        _table(
            "free_extents",
            "one free extent",
            _text("filesystem", "the file system", null=False),
            _text("ageing", "how it was aged first; null when it was not"),
            _whole("physical_byte", "bytes", "where it begins on the device", null=False),
            _whole("length_bytes", "bytes", "its length", null=False),
            order=("filesystem", "physical_byte"),
        ),
        _table(
            "io_runs",
            "one fio job",
            _text("filesystem", "the file system", null=False),
            _text("method", "how the file was allocated"),
            _text("job", "the job's name", null=False),
            _whole("block_bytes", "bytes", "the size of a request"),
            _real("bytes_per_second", "bytes/s", "throughput"),
            _real("iops", "1/s", "requests a second"),
            _whole("latency_ns_p50", "ns", "median latency"),
            _whole("latency_ns_p99", "ns", "99th percentile of latency"),
        ),
        _table(
            "boots",
            "one boot of a guest made to see when its random number generator is ready",
            _text("plan", "the plan that asked for it", null=False),
            _text("plan_sha256", "what the plan asks for, digested: boots of one plan can be counted together", null=False),
            _text("cell", "the configuration, in words: boots of one cell differ in nothing that was chosen", null=False),
            _whole("repeat", "", "which boot of its cell, from 0", null=False),
            _whole("position", "", "its place in the plan's random order, from 0", null=False),
            _text("kernel", "the guest's kernel, as uname -r says it"),
            _text("regime", "what its numbers mean: blocking, estimating, draining or latched"),
            _text("accelerator", "kvm or tcg"),
            _text("cpu", "QEMU's name of the processor"),
            _text("rdrand", "trusted: the guest has RDRAND and credits it; untrusted: it has it and does not; absent"),
            _text("virtio_rng_backend", "what feeds its virtio-rng; null when it has none"),
            _whole("virtio_rng_max_bytes", "bytes", "its limit a period; null when unlimited, or when there is none"),
            _whole("virtio_rng_period_ms", "ms", "its period"),
            _text("remedy", "what was done against starvation: none, virtio-rng, rdrand, rngd, haveged or jitterentropy-rngd"),
            _text("asked", "what early user space asked for: nothing, getrandom, or urandom (reads of it, then getrandom)"),
            _text(
                "outcome",
                "ready; censored: not ready at the end of the budget; failed: ended before; left out: it cannot be had here",
                null=False,
            ),
            _text("detail", "why it is censored, failed or left out; null when ready"),
            _real("budget_s", "s", "how long after its boot a guest was given to become ready"),
            _real("user_space_s", "s", "when its first process began, since boot"),
            _real("crng_ready_s", "s", "when its kernel said 'crng init done', since boot; null when it did not within the budget"),
            _whole("waits", "", "calls of getrandom that early user space made; null when it asked for nothing"),
            _whole(
                "longest_wait_ns", "ns", "the longest of them; of one that had not returned at the end, what it had waited by then"
            ),
            _truth("wait_censored", "whether the longest had not returned at the end"),
            _whole("urandom_warnings", "", "reads of urandom before ready, logged or counted as missed"),
            _real("guest_cpu_s", "s", "processor time that the guest was busy, from its boot to the end of the watch"),
            _real("feeder_cpu_s", "s", "of that, the feeder's own process; null when there was none"),
            _real("qemu_cpu_s", "s", "processor time of QEMU on the host in the same time"),
            _real("watched_s", "s", "the end of the watch, since the guest's boot"),
            order=("position",),
        ),
        _table(
            "drain_reads",
            "one read of one of several readers at once",
            _T_NS,
            _text("scenario", "readers: several in one guest; fairness: guests that share a source of the host", null=False),
            _text("reader", "which reader of its guest", null=False),
            _text("source", "getrandom, /dev/random, /dev/urandom or /dev/hwrng", null=False),
            _whole("guests_at_once", "", "guests that read at the same time", null=False),
            _whole("readers_at_once", "", "readers in this guest", null=False),
            _whole("repeat", "", "which repeat, from 0", null=False),
            _text("virtio_rng_backend", "what feeds the guest's virtio-rng; null when it has none"),
            _whole("virtio_rng_max_bytes", "bytes", "its limit a period; null when unlimited"),
            _whole("virtio_rng_period_ms", "ms", "its period"),
            _whole("block_bytes", "bytes", "bytes asked for", null=False),
            _whole("read_bytes", "bytes", "bytes that came; null when the read failed or had not returned"),
            _whole("wait_ns", "ns", "from the call to its end, or to the end of the experiment"),
            _truth("wait_censored", "whether it had not returned at the end"),
            _whole("errno", "", "the error's number; null when there was none"),
            order=("reader",),
        ),
        _table(
            "moves",
            "one guest moved to another QEMU while it read its source",
            _whole("t_ns", "ns", "when it was stopped at its source, by its own CLOCK_BOOTTIME to within some ms", null=False),
            _whole("begun_t_ns", "ns", "when the move began, by the same clock", null=False),
            _whole(
                "resumed_t_ns", "ns", "when it went on at its destination, by the same clock, which may have stood still meanwhile"
            ),
            _real("stopped_ms", "ms", "from its stop to its going on, by the host's clock"),
            _whole("downtime_ms", "ms", "how long it stood still, as QEMU says it"),
            _whole("total_ms", "ms", "how long the move took, as QEMU says it"),
            _whole("sent_bytes", "bytes", "of its memory that QEMU sent"),
            _text("source_backend", "what fed its virtio-rng at the source of the move"),
            _whole("source_max_bytes", "bytes", "the limit a period there; null when unlimited"),
            _whole("source_period_ms", "ms", "the period there"),
            _text("destination_backend", "what fed its virtio-rng at the destination"),
            _whole("destination_max_bytes", "bytes", "the limit a period there; null when unlimited"),
            _whole("destination_period_ms", "ms", "the period there"),
            _truth("kernel_drew", "whether the guest's kernel drew from the same device meanwhile, 64 bytes at a time"),
        ),
        _table(
            "audits",
            "what was found of one domain, and the verdict; boot_id is the guest's where it said it, else the asking machine's",
            _column("utc", _UTC, "when it was looked at", null=False),
            _text("uri", "the libvirt connection; host is the machine behind it", null=False),
            _text("domain_uuid", "the domain's UUID; null, as guest, where its host did not answer"),
            _text("verdict", "sound, at risk, starving or cannot tell", null=False),
            _text("causes", "the causes, separated by spaces", null=False),
            _text("evidence", "what was seen, and where: a sentence a line", null=False),
            _text("remedy", "what to do: a sentence a line, and the command below it; null where it is sound"),
            _text("remedy_xml", "the files that those commands name, and what goes into a definition; null where there is none"),
            _text("regime", "of the guest's kernel; null where the guest did not say"),
            _truth("crng_ready", "whether the guest's getrandom would return at once; null where the guest did not say"),
            _text("virtio_rng_backend", "what feeds its virtio-rng; null when it has none"),
            _whole("virtio_rng_max_bytes", "bytes", "its limit a period; null when unlimited"),
            _whole("virtio_rng_period_ms", "ms", "its period"),
            _truth(
                "driver_bound", "whether the guest has bound a driver to it; null where there is none, or the guest did not say"
            ),
            _truth("cpu_rdrand", "whether the guest sees RDRAND; null where it cannot be told"),
            _text(
                "rdrand_lacking_on", "hosts of the set without the instruction, to which a move fails or takes it away; empty: none"
            ),
        ),
        _table(
            "channel_health",
            "a guest's channel, once a second",
            _whole("t_ns", "ns", "CLOCK_BOOTTIME of the host, whose boot_id it is too: the host measured it", null=False),
            _whole("frames", "", "frames received", null=False),
            _whole("records", "", "records received, and stored; the end of a request is one too, and no row", null=False),
            _whole("lost_records", "", "records that the sequence shows missing, lost on the way", null=False),
            _whole("corrupt_frames", "", "stretches of bytes that were no frame, by their checksum", null=False),
            _whole("dropped_in_guest", "", "records that the agent dropped, its host being away for too long", null=False),
            _whole("repeated_records", "", "records that came once more, and were in the store already", null=False),
            _whole("refused_records", "", "records that cannot be, as of a time that runs backwards", null=False),
            _whole("refused_frames", "", "frames that are whole and must not be, as a second hello", null=False),
            _whole("bytes", "bytes", "bytes received", null=False),
            _column("utc", _UTC, "the same moment, UTC", null=False),
        ),
        _table(
            "channel_events",
            "something that happened to a guest's channel",
            _whole("t_ns", "ns", "CLOCK_BOOTTIME of the host, whose boot_id it is too", null=False),
            _column("utc", _UTC, "the same moment, UTC", null=False),
            _text("event", "connected, closed, ended, refused, anomaly or done", null=False),
            _text("detail", "what and why; a guest's own words are in it"),
        ),
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
