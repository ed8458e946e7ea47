"""What an enrolment is known by. Pure."""

from typing import NamedTuple


class EnrolmentKey(NamedTuple):
    """A learner in a batch of a course: the key of a row of ``user_enrolments``.

    It also leads to the learner's attempts, contents and, with the activity type, aggregates of that course.
    """

    user_id: str
    course_id: str
    batch_id: str
