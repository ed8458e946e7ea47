"""One user's events are spread over the partitions of the topic, and read by different subtasks."""

from tests.support.activity_job import INPUT, PARTITIONS, REQUESTS, Job
from tests.support.activity_learner import Learner
from tests.support.activity_model import T0
from tests.support.activity_servers import value

CONTENTS = "ABCD"


def test_the_completions_of_one_user_are_all_counted_once(job: Job) -> None:
    """Each event is in two partitions. Two subtasks would both read the row, and neither would see what the other
    has counted.
    """
    learners = [Learner(job.servers) for _ in range(25)]
    for partition in range(PARTITIONS):
        job.topics.produce(
            INPUT,
            [
                value(learner.completed(content, at=T0 + number))
                for learner in learners
                for number, content in enumerate(CONTENTS)
                if partition in (number % PARTITIONS, (number + 1) % PARTITIONS)
            ],
            partition=partition,
        )
    for learner in learners:
        learner.wait_until_counted(*CONTENTS)
        assert learner.completed_counts() == [4, 2, 2]
        assert [learner.counts(content) for content in CONTENTS] == [(1, 1)] * len(CONTENTS)
        enrolment = job.servers.enrolment(learner.enrolment)
        assert (enrolment.status, enrolment.progress) == (2, 4)
        assert len({message.value() for message in job.messages(REQUESTS, learner.batch_id, 1)}) == 1
