"""The back-fill beside a writer: it fills what is missing, and never covers what a job has written."""

import asyncio
import random
import re
from collections.abc import Sequence

from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.enrolments import EnrolmentKey
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, Write
from desk.doctor.backfill import CLOCK_MARGIN_US, AggregatesRow, Backfill, now_us
from desk.doctor.charts import doctor_settings
from tests.integration.doctor.conftest import Ward
from tests.support.desk_world import run_desk
from tests.support.patient_rows import admit
from tests.support.patients import CERTIFIED, Patient, healthy

LEARNERS = 200


def learners_of_the_old_job(ward: Ward, number: int) -> list[Patient]:
    """What the Scala jobs leave: integers in ``agg``, nothing in ``aggregates``."""
    source = random.Random(ward.prefix)
    made: list[Patient] = []
    while len(made) < number:
        key = EnrolmentKey(f"{ward.prefix}-{len(made)}", ward.course.course_id, f"{ward.prefix}{CERTIFIED}")
        patient = healthy(source, key, ward.course)
        if patient.attempts:
            patient.agg = {
                activity: {k: int(v) for k, v in row.items()} for activity, row in patient.aggregates.items()
            }
            patient.agg[ward.course.course_id]["score:archived"] = 4
            patient.exact = {activity: dict(row) for activity, row in patient.aggregates.items()}
            patient.aggregates, patient.details = {}, []
            made.append(patient)
    return made


class Table:
    """``user_activity_agg``, as a job writes it and a reader reads it."""

    def __init__(self, cassandra: Cassandra) -> None:
        self.cassandra = cassandra

    async def prepare(self) -> None:
        where = "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
        table = "sunbird_courses.user_activity_agg"
        self._add = await self.cassandra.prepare(f"UPDATE {table} SET aggregates = aggregates + ? {where}")
        self._read = await self.cassandra.prepare(f"SELECT aggregates FROM {table} {where}")

    async def add(self, patient: Patient, entries: dict[str, float]) -> None:
        await self.cassandra.write([[Write(self._add, (entries, *row_of(patient)))]])

    async def aggregates(self, patients: Sequence[Patient]) -> list[dict[str, float]]:
        found = await self.cassandra.read(self._read, [row_of(patient) for patient in patients])
        return [dict(rows[0][0] or {}) if rows else {} for rows in found]


def row_of(patient: Patient) -> tuple[str, str, str, str]:
    return ACTIVITY_TYPE, patient.course.course_id, patient.key.user_id, context_id(patient.key.batch_id)


async def opened(ward: Ward) -> Table:
    cassandra = Cassandra(ward.config.cassandra, Metrics())
    await cassandra.open()
    table = Table(cassandra)
    await table.prepare()
    return table


async def prepared(ward: Ward, table: Table, **options: object) -> Backfill:
    backfill = Backfill(table.cassandra, "sunbird_courses", doctor_settings(ward.config), **options)  # type: ignore[arg-type]
    await backfill.prepare()
    return backfill


async def test_it_fills_what_is_missing_with_the_exact_values_and_a_second_run_nothing(ward: Ward) -> None:
    patients = learners_of_the_old_job(ward, 50)
    # Somebody has one entry already, which stays, though it is not what the attempts give.
    await admit(ward.config.cassandra, patients)
    table = await opened(ward)
    await table.add(patients[0], {"score:archived": 3.5})
    backfill = await prepared(ward, table)
    await backfill.run(16, 50)
    assert backfill.filled.rows >= len(patients)
    for patient, found in zip(patients, await table.aggregates(patients), strict=True):
        expected = {**patient.exact[patient.course.course_id], "score:archived": 4.0}
        assert found == expected | ({"score:archived": 3.5} if patient is patients[0] else {})
    assert sum(row.user_id.startswith(ward.prefix) for row in await rows_to_fill(ward, table)) == 0
    await table.cassandra.close()


async def rows_to_fill(ward: Ward, table: Table) -> list[AggregatesRow]:
    """Also those of other tests: what they wrote as a whole map hides, for :data:`CLOCK_MARGIN_US`, what is filled."""
    backfill = await prepared(ward, table)
    write_page = backfill._fill_page
    found: list[AggregatesRow] = []

    async def note(timestamp_us: int, rows: Sequence[Row]) -> None:
        found.extend(row for row in (AggregatesRow(*values) for values in rows) if row.missing)
        await write_page(timestamp_us, rows)

    backfill._fill_page = note  # type: ignore[method-assign]
    await backfill.run(16, 50)
    assert backfill.filled.rows == len(found)
    return found


async def test_beside_a_running_writer_it_covers_nothing(ward: Ward) -> None:
    patients = learners_of_the_old_job(ward, LEARNERS)
    await admit(ward.config.cassandra, patients)
    table = await opened(ward)
    written: dict[str, dict[str, float]] = {}
    is_over = False

    async def write() -> None:
        source, value = random.Random(1), 100.0
        while not is_over:
            patient = source.choice(patients)
            key = source.choice(sorted(patient.agg[patient.course.course_id]))
            value += 0.25
            await table.add(patient, {key: value})
            written.setdefault(patient.key.user_id, {})[key] = value

    writer = asyncio.create_task(write())
    for _ in range(3):
        backfill = await prepared(ward, table)
        await backfill.run(16, 20)
    is_over = True
    await writer
    assert sum(map(len, written.values())) > 100
    for patient, found in zip(patients, await table.aggregates(patients), strict=True):
        exact = {**patient.exact[patient.course.course_id], "score:archived": 4.0}
        assert found == exact | written.get(patient.key.user_id, {})
    await table.cassandra.close()


async def test_a_value_written_between_its_read_and_its_write_wins(ward: Ward) -> None:
    assert await between(ward, now_us) == 99.5


async def test_without_the_old_timestamp_that_value_would_be_covered(ward: Ward) -> None:
    """What the test above relies on: with a timestamp of now the back-fill covers a newer value."""
    assert await between(ward, lambda: now_us() + CLOCK_MARGIN_US + 60_000_000) == 4.0


async def between(ward: Ward, clock_us: object) -> float:
    """The value of a key that a job has written while the back-fill was between its read and its write."""
    (patient,) = learners_of_the_old_job(ward, 1)
    await admit(ward.config.cassandra, [patient])
    table = await opened(ward)
    backfill = await prepared(ward, table, clock_us=clock_us)
    write_page = backfill._fill_page

    async def job_is_first(timestamp_us: int, rows: Sequence[Row]) -> None:
        # Not at a page with a unit's row: if that came first, the back-fill would find nothing missing in the course's.
        if any(AggregatesRow(*row)[:4] == row_of(patient) for row in rows):
            await table.add(patient, {"score:archived": 99.5})
        await write_page(timestamp_us, rows)

    backfill._fill_page = job_is_first  # type: ignore[method-assign]
    await backfill.run(4, 5_000)
    ((found),) = await table.aggregates([patient])
    await table.cassandra.close()
    return found["score:archived"]


async def test_the_command_says_what_it_has_filled(ward: Ward) -> None:
    patients = learners_of_the_old_job(ward, 3)
    await admit(ward.config.cassandra, patients)
    ended = run_desk(ward.environment, "backfill")
    assert ended.returncode == 0, ended.stderr
    numbers = re.fullmatch(r"(\d+) rows read, (\d+) rows filled with (\d+) keys\n", ended.stdout)
    assert numbers is not None
    assert int(numbers[2]) >= len(patients)
    table = await opened(ward)
    try:
        assert all(found["score:archived"] == 4.0 for found in await table.aggregates(patients))
    finally:
        await table.cassandra.close()
