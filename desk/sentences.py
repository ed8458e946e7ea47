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
    "progress.complete.dated": "{all_completed}. The course was completed on {since}.",
    "progress.missing": "{completed}. Missing: {missing}.",
    "progress.completed_before": ("The course was completed on {since}. It has changed since then: {completed} now."),
    "progress.no_enrolment": "{completed}, but progress counts only for enrolled learners.",
    "progress.outdated": "The stored progress does not show this: {what}.",
    "progress.sync": "A sync puts it right.",
    "progress.would_lower": (
        "A sync would also lower completedCount. Perhaps the course was published anew, so an operator has to decide."
    ),
    "progress.unknown": "This cannot be said without the contents of the course.",
    "progress.status": "status is {stored}, {expected} is right",
    "progress.progress": "progress is {stored}, {expected} is right",
    "progress.completed_count": "completedCount is {stored}, {expected} is right",
    "progress.content_status": "contentstatus lacks {number}",
    # Attempts.
    "attempts.none": "No attempt was submitted.",
    "attempts.some": "{attempts} at {contents}.",
    "attempts.drafts": "{drafts} saved but not submitted.",
    "attempt": "{score} of {maximum}",
    "attempt.dated": "{attempt} on {on}",
    "attempt.best": "{attempt} (the best)",
    "attempt.more": "and {number} earlier ones",
    "attempts.outdated": "The stored best scores do not match the attempts: {what}.",
    "attempts.recompute": "A recomputation puts it right.",
    "attempts.would_lose": (
        "A recomputation would also lower or remove what comes from attempts that are not stored any more. Perhaps "
        "they were archived, so an operator has to decide."
    ),
    "attempts.outnumbered": "More is stored than these attempts give: {what}. Perhaps older attempts were archived.",
    "attempts.gives": "{key} is {stored}, they give {expected}",
    "attempts.differs": "{key} is {stored}, {expected} is right",
    # Best score.
    "best_score.some": "The best score of the course is {best} percent: {score} of {maximum} in {content}.",
    "best_score.none": "There is no score that counts, so the best score of the course is 0.",
    "best_score.refused": "The best score cannot be computed: {reason}.",
    "best_score.unknown": "The types of the contents could not be read: {reason}.",
    "best_score.only_old": "It is known only from the old column, which holds whole numbers.",
    "score.percent": "{score} of {maximum} are {percent} percent",
    "score.ignored": "{score}; contents of this type do not count for the certificate",
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
    "decision.other_status": "No: {comparison}.",
    "decision.other_score": "No: {comparison}.",
    "decision.blocked_user": "No: the account of the learner is blocked.",
    "decision.other_user": "No: {comparison}.",
    "decision.failed": "It cannot be decided: {reason}.",
    "decision.unknown": "It cannot be said: {reason}.",
    "decision.other": "No: {kind}.",
    # A comparison in words, whether it holds or not, and in evidence.
    "words.completed": "the course is marked as completed",
    "words.not_completed": "the course is not marked as completed",
    "words.status": "the status of the enrolment is {status}, {limit} is asked for",
    "words.score": "the best score is {best} percent, {limit}",
    "words.user": "{field} is {value}, {demanded} is asked for",
    "limit.>=": "{limit} are asked for",
    "limit.>": "more than {limit} are asked for",
    "limit.<=": "at most {limit} are allowed",
    "limit.<": "less than {limit} are asked for",
    "limit.=": "exactly {limit} are asked for",
    "limit.!=": "anything but {limit} is asked for",
    "limit.>=.one": "{limit} is asked for",
    "limit.>.one": "more than {limit} is asked for",
    "limit.<=.one": "at most {limit} is allowed",
    "limit.<.one": "less than {limit} is asked for",
    "limit.=.one": "exactly {limit} is asked for",
    "compared.status": "completed",
    "compared.score": "best score",
    "compared.user": "field of the learner",
    # Requests.
    "requests.none": "No event of the learner has failed{since}.",
    "requests.failed": (
        "{number}{since}. The latest is a {kind}, received on {on}. The learner did nothing wrong. The desk does not "
        "see whether an operator has sent it again since."
    ),
    "requests.unknown": "The desk could not see whether an event has failed: {reason}.",
    "event.AssessmentAggregator": "quiz result",
    "event.ActivityAggregateUpdater": "completed content",
    "event.CollectionCertPreProcessor": "check for a certificate",
    "event.other": "message",
    "certificate.asked": "“{name}” requested from the generator",
    "certificate.checked": "check for a certificate requested",
    "requests.since": " since {since}",
    "requests.asked": "The certificate was requested from the generator on {on}.",
    "requests.checked": "A check for a certificate was last requested on {on}.",
    # Verdict.
    "verdict.issued": "Certificate: issued{on}.",
    "verdict.issued.one": "Certificate “{name}”: issued{on}.",
    "verdict.requested": "Certificate: earned{by}, and requested from the generator on {on}.",
    "verdict.fulfilled": (
        "No certificate although everything is fulfilled. Something is wrong: no request for it was found."
    ),
    "verdict.fulfilled.one": (
        "No certificate “{name}” although everything for it is fulfilled. Something is wrong: no request for it was "
        "found."
    ),
    "verdict.request": "Request it again.",
    "verdict.fulfilled.unread": (
        "It cannot be said whether the certificate was requested. Everything is fulfilled, but the desk could not look "
        "for the request: {reason}."
    ),
    "verdict.fulfilled.cut": (
        "It cannot be said whether the certificate was requested. Everything is fulfilled, but the desk has looked at "
        "requests since {since} only."
    ),
    "verdict.checked": (
        "Everything is fulfilled. A check for the certificate was requested on {on}, and the jobs may still be working "
        "on it."
    ),
    "verdict.holds": "The certificate “{name}” is there, issued{on}.",
    "verdict.score": "No certificate: {comparison}.",
    "verdict.not_enrolled": "No certificate: the learner is not enrolled in this batch.",
    "verdict.not_active": "No certificate: the enrolment is not active.",
    "verdict.other_status": "No certificate: {completed}.",
    "verdict.other_status.outdated": "No certificate: the course is completed, but the stored status does not say so.",
    "verdict.other_status.unknown": "No certificate: the status of the enrolment is {status}, {limit:g} is asked for.",
    "verdict.blocked_user": "No certificate: the account of the learner is blocked.",
    "verdict.other_user": "No certificate: {comparison}.",
    "verdict.other": "No certificate: {kind}.",
    "verdict.failed": "No certificate: {reason}.",
    "verdict.unknown": "It cannot be said: {reason}.",
    "verdict.no_batch": "No certificate: there is no such batch of this course.",
    "verdict.no_template": "No certificate: the batch has no certificate template.",
    "verdict.sound": "Nothing is broken.",
    "verdict.unread": "Whether something is wrong is not known: the desk could not read everything.",
    "verdict.broken": "Something is wrong: {problems}. See {questions}",
    "wrong.leaf_nodes": "it is not known what the course consists of",
    "wrong.progress": "the stored progress does not match what the learner has completed",
    "wrong.attempts": "the stored best scores do not match the attempts",
    "wrong.best_score": "the best score cannot be computed",
    "wrong.templates": "a certificate of the batch is set up wrongly",
    "wrong.decision": "the certificate cannot be decided",
    "wrong.see": "“{question}”",
    # What to tell the learner.
    "tell.issued": "The certificate is there. It is where the app shows certificates.",
    "tell.requested": "The certificate is being made. Please look again in an hour.",
    "tell.fulfilled": "You have done everything. The fault is ours, and the certificate will be requested again.",
    "tell.broken": "We have found a fault on our side. Please wait: the answer may change when it is mended.",
    "tell.unknown": "We cannot see it at the moment. Please ask again in an hour.",
    "tell.other_score": "There is no certificate yet: {comparison}. Please try the quiz again.",
    "tell.other_status": "The course is not finished yet. Missing: {missing}.",
    "tell.not_enrolled": "You are not enrolled in this batch. Which batch did you join?",
    "tell.not_active": "Your enrolment in this batch has ended. Please ask the people who run the course.",
    "tell.blocked_user": "Your account is blocked. Please ask the people who run the app.",
    "tell.no_batch": "We do not find this batch. Which batch did you join?",
    "tell.no_template": "This batch gives no certificate.",
    "issued_again": (
        "Doing so would issue {names} again, which asks for no status of the enrolment, so an operator has to decide."
    ),
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
    "not_processed.one": "1 event of the learner could not be processed",
    "not_processed.many": "{number} events of the learner could not be processed",
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
