"""The certificate pre-processor on a Flink cluster, from topic to topics."""

import json

from local.flink import FlinkCluster
from local.http_services import HttpServices
from local.world import World
from tests.conftest import Topics
from tests.support.certificate_job import (
    Course,
    template,
)


def test_from_topic_to_topics(
    world: World, flink_cluster: FlinkCluster, topics: Topics, course: Course, services: HttpServices, unique: str
) -> None:
    course.templates(template())
    binod = course.user(f"binod-{course.asha}")
    nobody = f"nobody-{unique}"
    for learner in (course.asha, binod, nobody):
        course.enrol(learner)
    requested, issued, failed = (
        f"{unique}.{name}"
        for name in ("issue.certificate.request", "generate.certificate.request", "issue.certificate.failed")
    )
    world.kafka.create_topics([requested, issued, failed])
    values = [
        course.request(course.asha, nobody, binod),
        course.request(action="revoke-certificate"),
        b"no JSON",
        course.request("unknown", batchId=7),
    ]
    topics.produce(requested, values)

    job = world.submit(
        "jobs.collection_cert_pre_processor",
        environment={
            "AGGREGATES__KAFKA__ENV": unique,
            "AGGREGATES__LEARNER_BASE_URL": services.base_url,
            "AGGREGATES__CONTENT_BASE_URL": services.base_url,
        },
    )
    flink_cluster.client.wait_until_running(job)

    certificates = [json.loads(message.value()) for message in topics.wait_for(issued, 2, timeout_seconds=120)]
    assert sorted(certificate["edata"]["userId"] for certificate in certificates) == sorted([course.asha, binod])
    failed_messages = topics.wait_for(failed, 3)
    reasons = {
        json.loads(message.value())["metadata"]["validation_error"]: message.key() for message in failed_messages
    }
    assert reasons[f"user read API answered 404 for user {nobody}"] == nobody.encode()
    assert len(reasons) == len(failed_messages) == 3
