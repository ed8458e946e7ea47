"""Topics that were created a moment ago, whose partitions have no leader yet."""

import time
import uuid
from contextlib import closing

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from common.servers.kafka import reading_consumer, watermarks
from local.world import World
from tests.integration.doctor.conftest import Ward

TOPICS, PARTITIONS = 20, 50


def test_the_ends_of_partitions_that_get_a_leader_are_waited_for(ward: Ward, world: World) -> None:
    names = [f"{uuid.uuid4().hex[:8]}.new" for _ in range(TOPICS)]
    admin = world.kafka.admin()
    created = admin.create_topics([NewTopic(name, PARTITIONS) for name in names])
    deadline = time.monotonic() + 120
    with closing(reading_consumer(ward.config.kafka, "support-desk")) as consumer:
        for name in reversed(names):
            created[name].result()
            # As the desk does: it asks for the ends of partitions that the metadata has.
            while len(consumer.list_topics(name, 30).topics[name].partitions) < PARTITIONS:
                assert time.monotonic() < deadline
            for number in reversed(range(PARTITIONS)):
                assert watermarks(consumer, TopicPartition(name, number), 30) == (0, 0)
    for deleted in admin.delete_topics(names).values():
        deleted.result()
