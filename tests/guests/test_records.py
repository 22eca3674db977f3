"""Records become rows whatever bytes they are made of: no exception, nothing that their table does not hold, all accounted for."""

from __future__ import annotations

import math
import time

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.guests.peers import BOOT
from toolkit import conform
from toolkit.guests import wire
from toolkit.guests.channel import Received, Session
from toolkit.guests.records import rows_of, state_rows
from toolkit.guests.wire import LAYOUTS
from toolkit.tables import TABLES

KINDS = [wire.SAMPLES, wire.SYSTEM, wire.SOURCE_READS, wire.ALLOCATIONS]
_EDGES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01"]


class _Nothing:
    """A store that has nothing of the guest."""

    def latest_t_ns(self, boot_id: str, table: str) -> int:
        return -1

    def allocations(self, boot_id: str) -> set[tuple[int, ...]]:
        return set()


def _record(kind: int) -> st.SearchStrategy[bytes]:
    """Bytes of a record: any, or such as numbers' ends are made of."""
    size = LAYOUTS[kind].struct.size
    edges = st.lists(st.sampled_from(_EDGES), min_size=size // 4 + 1, max_size=size // 4 + 1)
    return st.one_of(st.binary(min_size=size, max_size=size), edges.map(lambda parts: b"".join(part * 4 for part in parts)[:size]))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_become_rows_that_their_table_holds_or_are_refused(kind: int, data: st.DataObject) -> None:
    records = data.draw(st.lists(_record(kind), min_size=1, max_size=6))
    session = Session(1, BOOT, {}, 0, 0, data.draw(st.sampled_from([0, 3, 100])))
    received = Received(session, kind, 0, len(records), b"".join(records), time.time_ns())
    made = rows_of([received], _Nothing(), frozenset(data.draw(st.sampled_from([[], [0], [2**64 - 1]]))))
    rows = [table for boots in made.rows.values() for tables in boots.values() for table in tables]
    assert sum(table.num_rows for table in rows) + made.refused + made.repeated == len(records)
    (name,) = made.rows or [None]
    for table in rows:
        table.validate(full=True)
        assert table.schema.equals(TABLES[str(name)].schema.remove(0).remove(0).remove(0).remove(0), check_metadata=False)
        for field in table.schema:
            assert field.nullable or table[field.name].null_count == 0
        frame = conform.to_pandas(str(name), table)
        if "utc" in frame:
            assert (abs(frame["utc"] - pd.Timestamp.now("UTC")) < pd.Timedelta("4D")).all()


@settings(deadline=None)
@given(st.binary(min_size=LAYOUTS[wire.STATE].struct.size, max_size=LAYOUTS[wire.STATE].struct.size))
def test_any_bytes_become_a_generators_state(payload: bytes) -> None:
    row = state_rows(next(LAYOUTS[wire.STATE].unpack(payload)), {"virtio_rng_backend": "random"})
    row.validate(full=True)
    assert row.num_rows == 1
    ready_s = row["crng_ready_s"].to_pylist()[0]
    assert ready_s is None or 0 <= ready_s < math.inf
    assert conform.to_pandas("rng_state", row)["virtio_rng_backend"].tolist() == ["random"]
