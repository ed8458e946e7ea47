"""Who gets a certificate, and what the message says."""

import pytest

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import USER, HttpServices
from tests.support.certificate_job import (
    AT_LEAST_75,
    COMPLETED,
    COMPLETED_ON_MS,
    Course,
    applied,
    edata,
    failures,
    names,
    template,
)


class TestWhoGetsACertificate:
    async def test_who_fulfils_the_criteria_and_the_message_has_all_that_is_printed(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.user(course.asha, email="a***@example.org", userLocations=[{"type": "state", "name": "Goa"}])
        columns = ["completedOn", "progress", "contentstatus", "issued_certificates", "addedBy"]
        course.templates(
            template(
                {**COMPLETED, **AT_LEAST_75, "user": {"rootOrgId": "org-1"}},
                url="CLOUD_BASE_PATH/t/t.svg",
                issuer={"name": "Goa"},
                signatoryList=[{"name": "S"}],
                additionalProps={
                    "location": ["state"],
                    "enrollment": columns,
                    "assessment": ["score"],
                    "user": ["email"],
                    "course": ["name"],
                },
            )
        )
        other = [{"name": "Other", "identifier": "c-0"}]
        course.enrol(course.asha, progress=4, contentstatus={course.quiz: 2}, issued_certificates=other)
        course.score(course.asha, course.quiz_of_10(7.5))
        messages, _ = await applied(config, course.request())
        assert edata(messages) == {
            "issuedDate": "2024-05-13",
            "data": [{"recipientName": "Asha Rao", "recipientId": course.asha}],
            "criteria": {"narrative": "Completion"},
            "svgTemplate": "https://storage.example.org/sunbird-content-dev/t/t.svg",
            "oldId": "",
            "templateId": "t-id",
            "userId": course.asha,
            "orgId": "org-1",
            "issuer": {"name": "Goa"},
            "signatoryList": [{"name": "S"}],
            "courseName": "Botany",
            "basePath": "https://certificates.example.org/certs",
            "related": {
                "batchId": course.batch_id,
                "courseId": course.course_id,
                "type": "Completion",
                "location": {"state": "Goa"},
                "enrollment": {
                    "completedOn": COMPLETED_ON_MS,
                    "progress": 4,
                    "contentstatus": {course.quiz: 2},
                    "issued_certificates": other,
                    "addedBy": None,
                },
                "assessment": {"score": {course.quiz: 75.0}},
                "email": "a***@example.org",
                "course": {"name": "Botany"},
            },
            "name": "Completion",
            "tag": course.batch_id,
        }

    async def test_a_column_that_the_table_does_not_have_reaches_no_statement(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        evil = 'progress FROM user_enrolments; DROP TABLE user_enrolments; --"'
        course.templates(
            template(name="One"),
            template(additionalProps={"enrollment": [evil]}, name="Evil"),
            template(additionalProps={"enrollment": ["progress"]}, name="Two"),
        )
        course.enrol(course.asha)
        messages, _ = await applied(config, course.request())
        assert names(messages) == ["One", "Two"]
        (failed,) = failures(messages)
        assert failed["metadata"]["validation_error"].endswith("which is no column")

    @pytest.mark.parametrize(
        ("columns", "skipped"),
        [
            ({"active": False}, "not_active"),
            ({"active": None, "status": None, "completedon": None, "lastreadcontentid": "do_1"}, "not_active"),
            ({"status": 1}, "other_status"),
            ({"issued_certificates": [{"name": "COMPLETION", "identifier": "c-1"}]}, "already_issued"),
            (None, "not_enrolled"),
        ],
        ids=["not active", "phantom row", "not completed", "has one", "no row"],
    )
    async def test_is_not_who_does_not_fulfil_the_enrolment_criteria(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        columns: dict[str, object] | None,
        skipped: str,
    ) -> None:
        course.templates(template())
        if columns is not None:
            course.enrol(course.asha, **columns)
        messages, job = await applied(config, course.request())
        assert messages == []
        assert job.of("skipped") == {skipped: 1}
        assert services.requests[USER] == 0

    async def test_a_re_issue_replaces_the_certificate_of_that_name(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template())
        issued = [{"name": "Other", "identifier": "c-0"}, {"name": "COMPLETION", "identifier": "c-1"}]
        course.enrol(course.asha, issued_certificates=issued)
        messages, _ = await applied(config, course.request(reIssue=True))
        assert edata(messages)["oldId"] == "c-1"

    async def test_a_blocked_user_is_passed_over(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template())
        blocked = course.user(f"blocked-{course.asha}", status=0)
        course.enrol(blocked)
        course.enrol(course.asha)
        messages, job = await applied(config, course.request(blocked, course.asha))
        assert edata(messages)["userId"] == course.asha
        assert job.of("skipped") == {"blocked_user": 1}

    @pytest.mark.parametrize("has_row", [True, False])
    async def test_is_nobody_in_a_batch_without_templates(
        self, course: Course, config: CollectionCertPreProcessorConfig, has_row: bool
    ) -> None:
        if has_row:
            course.templates()
        course.enrol(course.asha)
        messages, job = await applied(config, course.request())
        assert messages == []
        assert job.of("skipped") == {"no_template": 1}

    async def test_is_the_same_whenever_the_same_is_asked(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template(), template(name="Bad", criteria="{}"))
        course.enrol(course.asha, contentstatus={"a": 2, "b": 1})
        first, _ = await applied(config, course.request())
        again, _ = await applied(config, course.request())
        assert len(first) == 2
        assert again == first
