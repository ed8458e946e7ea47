"""The steps about enrolment, course and progress. What is completed, the activity aggregate updater says. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.events import Refused
from common.domain.relations import leaf_nodes_key, optional_nodes_key
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Evidence, Next, Step, Verdict
from desk.explanation.wording import Wording, content_name, shown
from desk.records import LearnerRecord, Unknown
from desk.remedies import Remedy, command
from jobs.activity_aggregate_updater import relations, rules
from jobs.activity_aggregate_updater.events import COMPLETED, EnrolmentSync
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow
from jobs.activity_aggregate_updater.relations import LeafNodes, Relations

_ENROLMENTS, _CONTENTS = "user_enrolments", "user_content_consumption"


def enrolment(record: LearnerRecord, wording: Wording) -> Step:
    """Whether the learner is enrolled and active."""
    row, say = record.enrolment, wording.sentences.say
    if row is None:
        key, verdict, since = "enrolment.none", Verdict.NO, ""
    elif row.is_phantom:
        key, verdict, since = "enrolment.phantom", Verdict.NO, ""
    elif not row.active:
        key, verdict, since = "enrolment.inactive", Verdict.NO, ""
    elif row.enrolled_on is None:
        key, verdict, since = "enrolment.active.undated", Verdict.YES, ""
    else:
        key, verdict, since = "enrolment.active", Verdict.YES, wording.day(row.enrolled_on)
    evidence: tuple[Evidence, ...] = ()
    if row is not None:
        evidence = (
            Evidence("active", {True: "yes", False: "no", None: "unset"}[row.active], f"{_ENROLMENTS}.active"),
            Evidence("status", shown(row.status), f"{_ENROLMENTS}.status", is_technical=True),
            *(
                [Evidence("enrolled on", wording.time(row.enrolled_on), f"{_ENROLMENTS}.enrolled_date")]
                if row.enrolled_on
                else []
            ),
        )
    return Step("enrolment", say("enrolment?"), verdict, say(key, since=since), evidence)


def leaf_nodes(record: LearnerRecord, wording: Wording) -> Step:
    """What the course consists of, and which cache says so."""
    say, course = wording.sentences.say, record.course
    nodes = course.leaf_nodes
    source = f"Redis set {leaf_nodes_key(course.course_id, course.course_id)}"
    if isinstance(nodes, LeafNodes):
        optional = nodes.all - nodes.required
        sentence = say(
            "leaf_nodes.known",
            required=wording.sentences.count("required", len(nodes.required)),
            optional=wording.sentences.count("optional", len(optional)),
        )
        unnamed = sorted(nodes.all - record.names.keys())
        evidence = [
            Evidence("contents in all", str(len(nodes.all)), source),
            Evidence(
                "optional contents",
                str(len(optional)),
                f"Redis set {optional_nodes_key(course.course_id, course.course_id)}",
            ),
            *(
                [Evidence("without a name", wording.some(unnamed), "content cache, content read API")]
                if unnamed and record.names
                else []
            ),
        ]
        return Step("leaf_nodes", say("leaf_nodes?"), Verdict.YES, sentence, tuple(evidence), is_fact=True)
    reason = _why_unusable(record)
    is_known = not isinstance(reason, Unknown)
    return Step(
        "leaf_nodes",
        say("leaf_nodes?"),
        Verdict.NO if is_known else Verdict.UNKNOWN,
        say("leaf_nodes.none" if is_known else "leaf_nodes.unknown", reason=reason.reason),
        (Evidence("contents", "none" if nodes is None else reason.reason, source, is_technical=True),),
        is_broken=is_known,
    )


def _why_unusable(record: LearnerRecord) -> Refused | Unknown:
    nodes, status = record.course.leaf_nodes, record.course.status
    if isinstance(nodes, Refused | Unknown):
        return nodes
    if isinstance(status, Refused | Unknown):
        return status
    return relations.no_leaf_nodes(record.course.course_id, status or relations.CourseStatus(None))


@dataclass(frozen=True, slots=True)
class Completion:
    """What the job makes of the learner's contents, whatever the enrolment says now."""

    required: frozenset[str]
    statuses: Mapping[str, int]
    completed: int
    is_complete: bool

    @property
    def missing(self) -> list[str]:
        """The required contents that are not completed, in order."""
        return sorted(content_id for content_id in self.required if self.statuses.get(content_id, 0) < COMPLETED)


def completion(record: LearnerRecord, settings: JobSettings) -> Completion | None:
    """What the job's sync makes of an enrolment that has just begun; None if the course cannot be used.

    The status of each content, their number and whether the course is complete all come from the job's own rule.
    """
    nodes = record.course.leaf_nodes
    if not isinstance(nodes, LeafNodes):
        return None
    begun = EnrolmentRow(active=True, status=0, completed_on_ms=None, content_status=None, progress=0)
    changes = _sync(record, begun, nodes, settings).enrolment_changes
    if not changes:
        return Completion(nodes.required, {}, 0, is_complete=False)  # the learner has not opened anything
    (change,) = changes
    return Completion(nodes.required, change.content_status, change.progress, change.status == COMPLETED)


@dataclass(frozen=True, slots=True)
class _Sync:
    enrolment_changes: tuple[EnrolmentChange, ...]
    completed_count: float | None


def _sync(record: LearnerRecord, row: EnrolmentRow | None, nodes: LeafNodes, settings: JobSettings) -> _Sync:
    """What a sync would write now: to the enrolment, and as ``completedCount`` of the course."""
    stored = rules.Stored(
        contents=[content.content for content in record.contents],
        enrolment=row,
        is_known=COMPLETED_COUNT in record.aggregates.aggregates,
    )
    sync = EnrolmentSync(record.key, record.now_ms)
    decision = rules.decide(record.key, [sync], stored, Relations(nodes.required), settings.progress)
    counts = [count.value for stage in decision.aggregates for count in stage]
    changes = tuple(write for write in decision.learner if isinstance(write, EnrolmentChange))
    return _Sync(changes, counts[0] if counts else None)


def progress(record: LearnerRecord, settings: JobSettings, wording: Wording) -> Step:
    """What is completed, what is missing, and whether the stored progress agrees."""
    say = wording.sentences.say
    done = completion(record, settings)
    if done is None:
        return Step("progress", say("progress?"), Verdict.UNKNOWN, say("progress.unknown"))
    differences = _differences(record, settings, wording)
    row, is_counted_higher = record.enrolment, _is_counted_higher(record, settings)
    sentences = [_progress_sentence(record, done, wording)]
    if differences:
        sentences.append(say("progress.outdated", what=wording.some(differences)))
        sentences.append(say("progress.would_lower" if is_counted_higher else "progress.sync"))
    is_over = row is not None and row.status == COMPLETED
    return Step(
        "progress",
        say("progress?"),
        Verdict.YES if done.is_complete or is_over else Verdict.NO,
        " ".join(sentences),
        _progress_evidence(record, done, wording),
        Next(command(Remedy.SYNC, record.key), Remedy.SYNC) if differences and not is_counted_higher else None,
        is_broken=bool(differences),
    )


def _progress_sentence(record: LearnerRecord, done: Completion, wording: Wording) -> str:
    say, row = wording.sentences.say, record.enrolment
    completed = wording.sentences.completed(done.completed, len(done.required))
    since = "" if row is None or row.completed_on is None else wording.day(row.completed_on)
    if row is None or row.is_phantom:
        return say("progress.no_enrolment", completed=completed)
    if done.is_complete:
        all_completed = wording.sentences.count("all_completed", len(done.required))
        return say(
            "progress.complete.dated" if since else "progress.complete", all_completed=all_completed, since=since
        )
    if row.status == COMPLETED:
        return say("progress.completed_before", since=since or say("status.none"), completed=completed)
    missing = wording.some([content_name(record, content_id) for content_id in done.missing])
    return say("progress.missing", completed=completed, missing=missing)


def _differences(record: LearnerRecord, settings: JobSettings, wording: Wording) -> list[str]:
    """What a sync would change. Nothing is said of an enrolment that does not exist."""
    say, row, nodes = wording.sentences.say, record.enrolment, record.course.leaf_nodes
    if row is None or row.is_phantom or not isinstance(nodes, LeafNodes):
        return []
    sync = _sync(record, row.for_progress(), nodes, settings)
    done = completion(record, settings)
    # Before the first completion the job has not looked at the enrolment, so a sync would only begin it.
    is_looked_at = done is not None and any(status >= COMPLETED for status in done.statuses.values())
    differences = []
    for change in sync.enrolment_changes if is_looked_at else ():
        if change.status != row.status:
            differences.append(say("progress.status", stored=shown(row.status), expected=change.status))
        if change.progress != (row.progress or 0):
            differences.append(say("progress.progress", stored=shown(row.progress), expected=change.progress))
        # A content that was opened since the last completion is not in the map yet.
        lacking = [status for status in change.content_status.values() if status >= COMPLETED]
        if lacking:
            number = wording.sentences.count("contents", len(lacking))
            differences.append(say("progress.content_status", number=number))
    count = record.aggregates.merged.get(COMPLETED_COUNT)
    # A count that is too high is no fault: the course may have been published anew since.
    if sync.completed_count is not None and sync.completed_count > (count or 0.0):
        stored = shown(None if count is None else f"{count:g}")
        differences.append(say("progress.completed_count", stored=stored, expected=f"{sync.completed_count:g}"))
    return differences


def would_complete(record: LearnerRecord, settings: JobSettings) -> bool:
    """Whether a sync would complete the enrolment, after which the certificate is checked (rule U7)."""
    row, nodes = record.enrolment, record.course.leaf_nodes
    if row is None or row.status == COMPLETED or not isinstance(nodes, LeafNodes):
        return False
    changes = _sync(record, row.for_progress(), nodes, settings).enrolment_changes
    return any(change.status == COMPLETED for change in changes)


def _is_counted_higher(record: LearnerRecord, settings: JobSettings) -> bool:
    """Whether a sync would lower ``completedCount``."""
    nodes = record.course.leaf_nodes
    if not isinstance(nodes, LeafNodes):
        return False
    row = None if record.enrolment is None else record.enrolment.for_progress()
    count = _sync(record, row, nodes, settings).completed_count
    return count is not None and count < record.aggregates.merged.get(COMPLETED_COUNT, 0.0)


def _progress_evidence(record: LearnerRecord, done: Completion, wording: Wording) -> tuple[Evidence, ...]:
    say, row = wording.sentences.say, record.enrolment
    rows = {content.content.content_id: content for content in record.contents}
    evidence = []
    for content_id in done.missing:
        found = rows.get(content_id)
        state = say("content.open") if found is None else say("content.started")
        source = f"{_CONTENTS}.status" if found is None else f"{_CONTENTS}.status = {shown(found.content.status)}"
        evidence.append(Evidence(content_name(record, content_id), state, source))
    if row is not None:
        evidence.append(Evidence("contents completed, as stored", shown(row.progress), f"{_ENROLMENTS}.progress"))
        if row.completed_on is not None:
            evidence.append(Evidence("completed on", wording.time(row.completed_on), f"{_ENROLMENTS}.completedon"))
    for column, values in (("agg", record.aggregates.agg), ("aggregates", record.aggregates.aggregates)):
        if COMPLETED_COUNT in values:
            value, source = f"{values[COMPLETED_COUNT]:g}", f"user_activity_agg.{column}"
            evidence.append(Evidence(COMPLETED_COUNT, value, source, is_technical=True))
    return tuple(evidence)
