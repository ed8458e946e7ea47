"""The certificate pre-processor on a MiniCluster, from topic to topics."""

import json
from contextlib import closing
from pathlib import Path

from common.domain import topics
from local.http_services import HttpServices
from local.world import World
from tests.support.certificate_job import Course, template
from tests.support.job_topics import JobTopics
from tests.support.minicluster import MiniCluster

REQUESTED, ISSUED = topics.ISSUE_CERTIFICATE_REQUEST, topics.GENERATE_CERTIFICATE_REQUEST
FAILED = topics.ISSUE_CERTIFICATE_FAILED


def test_from_topic_to_topics(
    world: World, course: Course, services: HttpServices, unique: str, tmp_path: Path
) -> None:
    course.templates(template())
    binod = course.user(f"binod-{course.asha}")
    nobody = f"nobody-{unique}"
    for learner in (course.asha, binod, nobody):
        course.enrol(learner)
    variables = {
        "AGGREGATES__LEARNER_BASE_URL": services.base_url,
        "AGGREGATES__CONTENT_BASE_URL": services.base_url,
    }
    with (
        closing(JobTopics(world, (REQUESTED, ISSUED, FAILED))) as topics,
        MiniCluster(world, topics, tmp_path, "jobs.collection_cert_pre_processor", **variables) as cluster,
        cluster.log_on_failure(),
    ):
        values = [
            course.request(course.asha, nobody, binod),
            course.request(action="revoke-certificate"),
            b"no JSON",
            course.request("unknown", batchId=7),
        ]
        topics.produce(REQUESTED, values)
        certificates = [json.loads(message.value()) for message in topics.inbox(ISSUED).wait_for(2)]
        failed = topics.inbox(FAILED).wait_for(3)
        # All has been applied, so a message too many would be there.
        assert (len(topics.inbox(ISSUED).all()), len(topics.inbox(FAILED).all())) == (2, 3)

    assert sorted(certificate["edata"]["userId"] for certificate in certificates) == sorted([course.asha, binod])
    reasons = {json.loads(message.value())["metadata"]["validation_error"]: message.key() for message in failed}
    assert reasons[f"user read API answered 404 for user {nobody}"] == nobody.encode()
    assert len(reasons) == 3
