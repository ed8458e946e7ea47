"""Fills the caches, tables and HTTP services with what other parts of Sunbird would have written before the demo."""

import msgspec

from common.domain import redis_databases
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.events import to_datetime
from local import generator
from local.http_services import HttpServices
from local.readers import HIERARCHY_KEYSPACE, HIERARCHY_TABLES
from local.story import ENROLLED_MS, Learner, Story
from local.tables import Tables
from local.world import World


def prepare(story: Story, world: World, tables: Tables, services: HttpServices) -> None:
    """Writes the course to the caches, and the batch, the enrolments and the rows of the old job to the tables.

    Adds the course, the learners and their group to the HTTP services.
    """
    course = story.course
    world.publish_relations(course)
    with world.redis.client(db=redis_databases.CONTENTS) as contents:
        for unit_number, (_, content_ids) in enumerate(course.units, 1):
            *lessons, quiz = content_ids
            for number, content_id in enumerate(lessons, 1):
                lesson = {"name": f"Lesson {unit_number}.{number}", "contentType": "Resource"}
                contents.set(content_id, msgspec.json.encode(lesson))
            metadata = {"name": f"Quiz {unit_number}", "contentType": "SelfAssess", "totalQuestions": 10}
            contents.set(quiz, msgspec.json.encode(metadata))
    services.contents[course.course_id] = {
        "name": "Flowers, Planets and \\u00bd Numbers",
        "contentType": "Course",
        "channel": "0126632859575746566",
        "status": "Live",
    }
    services.groups[course.batch_id] = [{"userId": learner.user_id} for learner in story.learners]
    _prepare_report(story, world, tables)
    tables.execute(
        "INSERT INTO course_batch (courseid, batchid, name, status, cert_templates) VALUES (?, ?, ?, ?, ?)",
        course.course_id,
        course.batch_id,
        "Demo",
        1,
        generator.certificate_templates(75),
    )
    for learner in story.learners:
        first_name, _, last_name = learner.name.partition(" ")
        services.users[learner.user_id] = {
            "firstName": first_name,
            "lastName": last_name,
            "rootOrgId": "0126632859575746566",
            "status": 1,
        }
        tables.execute(
            "INSERT INTO user_enrolments (userid, courseid, batchid, enrolled_date, active, status) "
            "VALUES (?, ?, ?, ?, true, 0)",
            learner.user_id,
            course.course_id,
            course.batch_id,
            to_datetime(ENROLLED_MS),
        )
        if learner.old_agg:
            tables.execute(
                "UPDATE user_activity_agg SET agg = ? "
                "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
                dict(learner.old_agg),
                *row_key(story, learner),
            )


def _prepare_report(story: Story, world: World, tables: Tables) -> None:
    """Writes what only the progress report reads: the tree of the course and the learners' profiles."""
    for statement in HIERARCHY_TABLES:
        tables.execute(statement)
    quizzes = [{"identifier": quiz, "contentType": "SelfAssess"} for quiz in story.course.quizzes]
    tree = {"identifier": story.course.course_id, "leafNodesCount": len(story.course.contents), "children": quizzes}
    tables.execute(
        f"INSERT INTO {HIERARCHY_KEYSPACE}.content_hierarchy (identifier, hierarchy) VALUES (?, ?)",
        story.course.course_id,
        msgspec.json.encode(tree).decode(),
    )
    with world.redis.client(db=redis_databases.USERS) as profiles:
        for learner in story.learners:
            profiles.hset(f"user:{learner.user_id}", mapping={"userid": learner.user_id, "state": "Kerala"})


def row_key(story: Story, learner: Learner) -> tuple[str, str, str, str]:
    """The primary key of the learner's row for the course in `user_activity_agg`."""
    return ACTIVITY_TYPE, story.course.course_id, learner.user_id, context_id(story.course.batch_id)
