"""Shows the results of the demo and compares them with the expected ones."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

import msgspec
from confluent_kafka import Message
from rich.console import Console
from rich.table import Table

from common.domain.aggregates import merge
from local.demo_data import row_key
from local.demo_output import AUDITS, FAILED, REQUESTS, certified_learners
from local.readers import Readers, progress_report
from local.story import Learner, Story
from local.tables import Tables


def show_learners(story: Story, tables: Tables, messages: Mapping[str, list[Message]], console: Console) -> list[str]:
    """Prints the rows of the named learners and the failed events. Returns a line for each wrong result.

    All learners are checked. `messages` are by topic, without the environment.
    """
    certified = certified_learners(messages)
    problems: list[str] = []
    table = Table("learner", "agg (old)", "aggregates (new)", "merged", "completed", "certificate", title="Learners")
    for index, learner in enumerate(story.learners):
        row = _read(tables, story, learner)
        problems += _check_learner(story, learner, row, learner.user_id in certified)
        if index < story.named:
            merged = merge(row["agg"], row["aggregates"])
            table.add_row(
                f"{learner.name}\n[dim]{learner.about}",
                _scores(story, row["agg"]),
                _scores(story, row["aggregates"]),
                _scores(story, merged),
                f"{merged.get('completedCount', 0):g} of {len(story.course.contents)}",
                "[green]yes" if learner.user_id in certified else "no",
            )
    console.print(table)
    problems += _show_failed(story, messages, console)
    console.print(
        f"and {len(story.learners) - story.named} more learners; {len(messages[REQUESTS])} certificate requests, "
        f"{len(messages[AUDITS])} AUDIT events, {len(certified)} learners with a certificate"
    )
    return problems


def show_readers(story: Story, readers: Readers, http_services_url: str, console: Console) -> list[str]:
    """Prints the best scores of the first quiz, as each API and the progress report return them.

    Returns a line for each wrong score. Raises LocalWorldError if an API or the report fails.
    """
    course, quiz = story.course, story.course.quizzes[0]
    report = progress_report(readers.world, http_services_url, course.batch_id)
    readers.wait_until_ready()
    problems: list[str] = []
    table = Table("learner", "content state", "assess read", "group aggregates", "progress report", title="Readers")
    for learner in story.learners[: story.named]:
        best = story.best_score(learner, quiz)
        scores = readers.best_scores(learner.user_id, course.course_id, course.batch_id, quiz, course.batch_id)
        cell = report.get(learner.user_id, {}).get(f"{quiz} - Score", "")
        table.add_row(f"{learner.name}\n[dim]{learner.about}", *(_score_text(score) for score in scores.values()), cell)
        # Content state read returns only contents that the learner has completed.
        expected = dict.fromkeys(scores, best) | ({} if quiz in learner.completed else {"content state": None})
        problems += [
            f"{learner.user_id}: {name} returns {score}, expected {expected[name]}"
            for name, score in scores.items()
            if score != expected[name]
        ]
        # The best score is out of 10. The report shows it as a percentage, rounded up.
        if cell != f"{ceil(best * 10)}%":
            problems.append(f"{learner.user_id}: the progress report has {cell!r}, expected {ceil(best * 10)}%")
    console.print(table)
    return problems


def _score_text(score: float | None) -> str:
    return "[dim]none" if score is None else f"{score:g}"


def _read(tables: Tables, story: Story, learner: Learner) -> dict[str, Any]:
    rows = tables.execute(
        "SELECT agg, aggregates, agg_details FROM user_activity_agg "
        "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
        *row_key(story, learner),
    )
    enrolments = tables.execute(
        "SELECT status, progress FROM user_enrolments WHERE userid = ? AND courseid = ? AND batchid = ?",
        learner.user_id,
        story.course.course_id,
        story.course.batch_id,
    )
    empty = {"agg": None, "aggregates": None, "agg_details": None}
    return (rows[0] if rows else empty) | (enrolments[0] if enrolments else {})


def _check_learner(story: Story, learner: Learner, row: Mapping[str, Any], certified: bool) -> Iterator[str]:
    expected = {
        "agg": dict(learner.old_agg) or None,
        "aggregates": learner.expected_aggregates(story.course) or None,
        "progress": len(learner.completed) or None,
        "status": None if not learner.completed else 2 if learner.completed == set(story.course.contents) else 1,
    }
    for column, value in expected.items():
        if value is not None and (row[column] or None) != value:
            yield f"{learner.user_id}: {column} is {row[column]}, expected {value}"
    details = sum(len(attempts) for attempts in learner.attempts.values())
    if len(row["agg_details"] or ()) != details:
        yield f"{learner.user_id}: agg_details has {len(row['agg_details'] or ())} attempts, expected {details}"
    if certified != learner.gets_certificate:
        yield f"{learner.user_id}: certificate {certified}, expected {learner.gets_certificate}"


def _scores(story: Story, aggregates: Mapping[str, float] | None) -> str:
    """One line per quiz, such as `quiz 1: 7.5/10`. The old job may not have written the maximum: then it is omitted."""
    lines = []
    for number, quiz in enumerate(story.course.quizzes, 1):
        if aggregates and f"score:{quiz}" in aggregates:
            maximum = aggregates.get(f"max_score:{quiz}")
            lines.append(f"quiz {number}: {aggregates[f'score:{quiz}']:g}{f'/{maximum:g}' if maximum else ''}")
    return "\n".join(lines) or "[dim]none"


def _show_failed(story: Story, messages: Mapping[str, list[Message]], console: Console) -> list[str]:
    problems = []
    table = Table("topic", "Kafka key", "reason", title="Failed topics")
    for topic in FAILED:
        for message in messages[topic]:
            event = msgspec.json.decode(message.value())
            key = message.key().decode() if message.key() else ""
            table.add_row(topic, key, event["metadata"]["validation_error"])
        expected = story.failed.get(topic, 0)
        if len(messages[topic]) != expected:
            problems.append(f"{topic}: {len(messages[topic])} messages, expected {expected}")
    console.print(table)
    return problems
