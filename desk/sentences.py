"""What the desk says, in one place so that it can be translated. Pure.

A translation is another table with the same keys and the same placeholders, entered in :data:`LANGUAGES`.
"""

from collections.abc import Mapping
from typing import Any

ENGLISH: Mapping[str, str] = {
    # The questions of the steps.
    "enrolment?": "Is the learner enrolled?",
    "leaf_nodes?": "What does the course consist of?",
    "progress?": "Has the learner completed the course?",
    "attempts?": "Which attempts are stored?",
    "best_score?": "What is the best score?",
    "templates?": "Which certificates does the batch give?",
    "decision?": "Has the learner earned “{template}”?",
    "requests?": "Did all events of the learner get through?",
    "verdict?": "Does the learner have the certificate?",
    # Enrolment.
    "enrolment.none": "The learner is not enrolled in this batch.",
    "enrolment.phantom": "The learner is not enrolled. The row exists only because a content was opened.",
    "enrolment.inactive": "The enrolment is not active.",
    "enrolment.active": "Enrolled since {since}, and active.",
    "enrolment.active.undated": "Enrolled and active.",
    # Leaf nodes.
    "leaf_nodes.known": "{required}, {optional}.",
    "leaf_nodes.none": "The course cannot be used: {reason}.",
    "leaf_nodes.unknown": "The contents of the course could not be read: {reason}.",
    # Progress.
    "progress.complete": "{all_completed}.",
    "progress.complete.dated": "{all_completed}, since {since}.",
    "progress.missing": "{completed}. Missing: {missing}.",
    "progress.completed_before": ("The course was completed on {since}. It has changed since then: {completed} now."),
    "progress.no_enrolment": "{completed}, but progress counts only for enrolled learners.",
    "progress.outdated": "The stored progress does not show this: {what}. A sync puts it right.",
    "progress.unknown": "This cannot be said without the contents of the course.",
    "progress.status": "status is {stored}, {expected} is right",
    "progress.progress": "progress is {stored}, {expected} is right",
    "progress.completed_count": "completedCount is {stored}, {expected} is right",
    "progress.content_status": "contentstatus lacks {number}",
    # Attempts.
    "attempts.none": "No attempt was submitted.",
    "attempts.some": "{attempts} at {contents}.",
    "attempts.drafts": "{drafts} saved but not submitted.",
    "attempts.outdated": "The stored best scores do not match the attempts: {what}. A recomputation puts it right.",
    "attempts.differs": "{key} is {stored}, {expected} is right",
    # Best score.
    "best_score.some": "The best score of the course is {best} percent: {score} of {maximum} in {content}.",
    "best_score.none": "There is no score that counts, so the best score of the course is 0.",
    "best_score.refused": "The best score cannot be computed: {reason}.",
    "best_score.unknown": "The types of the contents could not be read: {reason}.",
    "best_score.only_old": "It is known only from the old column, which holds whole numbers.",
    # Templates.
    "templates.none": "The batch has no certificate template.",
    "templates.no_batch": "There is no such batch of this course.",
    "templates.some": "{templates}.",
    "templates.faults": "{number} cannot be used: {reason}.",
    "template": "“{name}” for {criteria}",
    "criteria.completed": "completing the course",
    "criteria.status": "enrolment status {status:g}",
    "criteria.score.>=": "a best score of at least {limit:g} percent",
    "criteria.score.>": "a best score of more than {limit:g} percent",
    "criteria.score.<=": "a best score of at most {limit:g} percent",
    "criteria.score.<": "a best score of less than {limit:g} percent",
    "criteria.score.=": "a best score of exactly {limit:g} percent",
    "criteria.score.!=": "a best score other than {limit:g} percent",
    "criteria.user": "{field} = {value}",
    "criteria.and": " and ",
    # Decision, by what the job does.
    "decision.earned": "Yes: {comparisons}.",
    "decision.issued": "The certificate was issued{on}.",
    "decision.not_enrolled": "No: the learner is not enrolled.",
    "decision.not_active": "No: the enrolment is not active.",
    "decision.other_status": "No: the course is not completed. The status is {status}, {limit:g} is asked for.",
    "decision.other_score": "No: {comparison} is false.",
    "decision.blocked_user": "No: the account of the learner is blocked.",
    "decision.other_user": "No: {comparison} is false.",
    "decision.failed": "It cannot be decided: {reason}.",
    "decision.unknown": "It cannot be said: {reason}.",
    "decision.other": "No: {kind}.",
    # Requests.
    "requests.none": "No event of the learner is on a failed topic{since}.",
    "requests.failed": "{number} of the learner on failed topics{since}. The latest: {reason}.",
    "requests.unknown": "Kafka could not be read: {reason}.",
    "requests.since": " since {since}",
    "requests.asked": "The certificate was requested from the generator on {on}.",
    "requests.checked": "A check for a certificate was last requested on {on}.",
    # Verdict.
    "verdict.issued": "Certificate: issued{on}.",
    "verdict.requested": "Certificate: earned{by}, and requested from the generator on {on}.",
    "verdict.fulfilled": "No certificate although everything is fulfilled: request it again.",
    "verdict.score": "No certificate: the best score is {best} percent, {limit}.",
    "verdict.limit.>=": "{limit} are asked for",
    "verdict.limit.>": "more than {limit} are asked for",
    "verdict.limit.<=": "at most {limit} are allowed",
    "verdict.limit.<": "less than {limit} are asked for",
    "verdict.limit.=": "exactly {limit} are asked for",
    "verdict.limit.!=": "anything but {limit} is asked for",
    "verdict.limit.>=.one": "{limit} is asked for",
    "verdict.limit.>.one": "more than {limit} is asked for",
    "verdict.limit.<=.one": "at most {limit} is allowed",
    "verdict.limit.<.one": "less than {limit} is asked for",
    "verdict.limit.=.one": "exactly {limit} is asked for",
    "verdict.not_enrolled": "No certificate: the learner is not enrolled in this batch.",
    "verdict.not_active": "No certificate: the enrolment is not active.",
    "verdict.other_status": "No certificate: {completed}.",
    "verdict.other_status.outdated": "No certificate: the course is completed, but the stored status does not say so.",
    "verdict.other_status.unknown": "No certificate: the status of the enrolment is {status}, {limit:g} is asked for.",
    "verdict.blocked_user": "No certificate: the account of the learner is blocked.",
    "verdict.other_user": "No certificate: {comparison} is false for this learner.",
    "verdict.other": "No certificate: {kind}.",
    "verdict.failed": "No certificate: {reason}.",
    "verdict.unknown": "It cannot be said: {reason}.",
    "verdict.no_batch": "No certificate: there is no such batch of this course.",
    "verdict.no_template": "No certificate: the batch has no certificate template.",
    "verdict.sound": "Nothing is broken.",
    "verdict.broken": "But something is wrong: see “{question}”",
    # Parts of sentences.
    "on": " on {on}",
    "score.by": " with a best score of {best} percent",
    "contents.one": "1 content",
    "contents.many": "{number} contents",
    "required.one": "1 content is required",
    "required.many": "{number} contents are required",
    "optional.one": "1 is optional",
    "optional.many": "{number} are optional",
    "completed.one": "{number} of {required} is completed",
    "completed.many": "{number} of {required} are completed",
    "all_completed.one": "The only required content is completed",
    "all_completed.many": "All {number} contents are completed",
    "attempts.one": "1 attempt",
    "attempts.many": "{number} attempts",
    "events.one": "1 event",
    "events.many": "{number} events",
    "templates.one": "1 template",
    "templates.many": "{number} templates",
    "and_more": "{shown} and {number} more",
    "status.none": "unset",
    "content.open": "not opened",
    "content.started": "started",
    "hidden": "(hidden)",
    "best": "best score of the course",
}


class Sentences:
    """The sentences of one language."""

    def __init__(self, table: Mapping[str, str]) -> None:
        """``table`` is one of :data:`LANGUAGES`."""
        self._table = table

    def say(self, key: str, /, **values: Any) -> str:
        """The sentence of a key with its values. Raises KeyError for a key or a value that is missing."""
        return self.template(key).format(**values)

    def template(self, key: str) -> str:
        """The sentence of a key with its placeholders. Raises KeyError."""
        return self._table[key]

    def has(self, key: str) -> bool:
        """Whether there is a sentence of this key."""
        return key in self._table

    def count(self, noun: str, number: int) -> str:
        """``1 content``, ``6 contents``: a noun of the table with its number."""
        return self.say(f"{noun}.one" if number == 1 else f"{noun}.many", number=f"{number:,}")

    def completed(self, number: int, required: int) -> str:
        """``4 of 6 contents are completed``, without a full stop. The verb agrees with ``number``."""
        is_one = number == 1 or (number == 0 and required == 1)
        key = "completed.one" if is_one else "completed.many"
        return self.say(key, number=f"{number:,}", required=self.count("contents", required))


LANGUAGES = {"en": Sentences(ENGLISH)}
