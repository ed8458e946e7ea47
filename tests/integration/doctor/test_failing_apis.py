"""An API that fails for one learner or one content, and an API that does not answer at all."""

import random
from collections.abc import Iterator

import pytest

from common.domain.faults import WorldFault
from desk.doctor.charts import open_doctor
from desk.doctor.findings import Check, Finding
from local.http_services import USER, Switch
from tests.integration.doctor.conftest import Ward
from tests.support.patient_rows import admit
from tests.support.patients import Patient, certificate_missing, sick


@pytest.fixture
def patients(ward: Ward) -> Iterator[list[Patient]]:
    """Two learners who have earned a certificate that nobody has requested."""
    made = [
        sick(random.Random(n), certificate_missing, ward.course, f"{ward.prefix}-{n}", ward.prefix) for n in range(2)
    ]
    for patient in made:
        ward.services.users[patient.key.user_id] = {"firstName": "Asha", "rootOrgId": "org-1", "status": 1}
    yield made
    ward.services.failing.clear()


async def examined(ward: Ward, patients: list[Patient]) -> list[Finding]:
    await admit(ward.config.cassandra, patients)
    async with open_doctor(ward.config, [Check.CERTIFICATES]) as doctor:
        return await doctor.examine_keys(patient.key for patient in patients)


async def test_an_account_that_the_api_always_fails_for_does_not_stop_the_check(
    ward: Ward, patients: list[Patient]
) -> None:
    ward.services.failing.add(patients[0].key.user_id)
    found = {finding.user_id: (finding.kind, finding.remedy) for finding in await examined(ward, patients)}
    assert found[patients[0].key.user_id] == ("account_unknown", None)
    assert found[patients[1].key.user_id][0] == "certificate_missing"


async def test_an_api_that_does_not_answer_stops_the_check(ward: Ward, patients: list[Patient]) -> None:
    """What was not examined is not passed over."""
    ward.services.switch(USER, Switch(status=500))
    try:
        with pytest.raises(WorldFault):
            await examined(ward, patients)
    finally:
        ward.services.switch(USER, Switch())


async def test_a_content_that_the_api_always_fails_for_does_not_stop_the_check(
    ward: Ward, patients: list[Patient]
) -> None:
    other = patients[1]
    other.of_course["score:uncached"] = 5.0
    ward.services.failing.add("uncached")
    found = {finding.user_id: (finding.kind, finding.remedy) for finding in await examined(ward, patients)}
    assert found[patients[0].key.user_id][0] == "certificate_missing"
    assert found[other.key.user_id] == ("certificate_undecided", None)
