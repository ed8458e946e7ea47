"""A course whose name the content read API cannot read, and an API that does not answer at all."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from common.domain.events import Refused
from common.domain.faults import WorldFault
from common.servers.http import UNKNOWN_ID
from desk.doctor.certificate_checks import certificates
from desk.doctor.chart import Chart
from desk.doctor.charts import Doctor
from desk.doctor.findings import Check
from desk.records import Batch
from desk.sources import Sources
from jobs.collection_cert_pre_processor.answers import User
from tests.support import patients
from tests.support.desk_records import SETTINGS
from tests.support.patients import course_of, sick

BAD, GOOD = "do_bad", "do_good"
ACCOUNT: User = {"firstName": "Asha", "rootOrgId": "org-1"}


class Answers(Sources):
    """All courses have a name, but for those in ``failing``; nobody looks at anything else."""

    def __init__(self, failing: set[str], times: int | None = None) -> None:
        self.failing = failing
        self.asked: list[str] = []
        self._left = times

    async def _course_name(self, course_id: str) -> str | Refused:
        self.asked.append(course_id)
        if course_id in self.failing and self._left != 0:
            self._left = None if self._left is None else self._left - 1
            raise WorldFault(f"content_read answers 500 for {course_id}")
        return Refused("content_api", "unknown") if course_id == UNKNOWN_ID else "Botany"

    async def users(self, user_ids: Sequence[str], others: Sequence[str] = ()) -> list[User | Refused]:  # type: ignore[override]
        return [ACCOUNT for _ in user_ids]


def chart(course_id: str) -> Chart:
    """Of a learner who has earned a certificate that nobody has requested."""
    found = sick(random.Random(5), patients.certificate_missing, course_of("c"), "asha").chart()
    key = found.record.key._replace(course_id=course_id)
    batch = Batch(course_id, key.batch_id, found.record.batch.templates)
    return replace(found, record=replace(found.record, key=key, batch=batch, user=None))


async def kinds(sources: Sources) -> dict[str, str]:
    """The kind of the finding about the learner of each course."""
    doctor = object.__new__(Doctor)
    doctor.checks, doctor._settings, doctor._sources = frozenset({Check.CERTIFICATES}), SETTINGS, sources
    completed = await doctor._with_accounts([chart(BAD), chart(GOOD)])
    findings = [finding for one in completed for finding in certificates(one, SETTINGS)]
    return {finding.course_id: finding.kind for finding in findings}


async def test_a_course_that_the_api_always_fails_for_does_not_stop_the_check() -> None:
    found = await kinds(Answers({BAD}))
    assert found == {BAD: "certificate_undecided", GOOD: "certificate_missing"}


async def test_an_api_that_does_not_answer_stops_the_check() -> None:
    """What was not examined is not passed over."""
    with pytest.raises(WorldFault, match=f"500 for {UNKNOWN_ID}"):
        await kinds(Answers({BAD, GOOD, UNKNOWN_ID}))


async def test_a_fault_of_the_moment_leaves_nothing_undecided() -> None:
    sources = Answers({BAD}, times=1)
    assert await kinds(sources) == {BAD: "certificate_missing", GOOD: "certificate_missing"}
    assert sources.asked == [BAD, GOOD, UNKNOWN_ID, BAD]


async def test_where_all_names_are_known_nothing_else_is_asked_for() -> None:
    sources = Answers(set())
    await kinds(sources)
    assert sources.asked == [BAD, GOOD]
