"""Ways to break the jobs on purpose, to check that the oracle notices. Each one edits the code before it is shipped."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from chaos.cluster import Edit
from chaos.oracle import Kind, Problem


class Sabotage(NamedTuple):
    """Edits that break the code, what the oracle must say about it, the faults that reveal it, and what reveals it
    sooner."""

    edits: Sequence[Edit] = ()
    kinds: Sequence[Kind] = ()
    """It is noticed if there is a problem of one of these kinds..."""
    about: str = ""
    """... whose description has this text."""
    faults: Sequence[str] = ("kill -9 Python worker",)
    options: Mapping[str, str] = {}
    """Flink configuration."""
    pauses: Sequence[float] = ()
    """How long a fault that lasts takes (s); those of the command line if empty."""

    def noticed_by(self, problems: Iterable[Problem]) -> list[Problem]:
        """What the oracle has said of this. A run that is only wrong in another way has not noticed it."""
        return [problem for problem in problems if problem.kind in self.kinds and self.about in problem.what]


ASSESSMENT_STORE = "jobs/assessment_aggregator/store.py"
MESSAGES = "common/domain/messages.py"
_REQUEST_ID = '''"mid": f"LP.{time_ms}.{identity}",
        "actor": {"id": "Course Certificate Generator"'''
CERTIFICATE = "jobs/collection_cert_pre_processor/message.py"
CERTIFICATE_RULES = "jobs/collection_cert_pre_processor/rules.py"

_LOST, _TWICE, _WRONG = Kind.LOST, Kind.TWICE, Kind.WRONG

_UNTIL_A_COHORT_HAS_FINISHED = ("kill -9 Python worker",) * 3
"""A learner completes the course near the end of the cohort, and only then has certificates and their repeats."""

_IGNORE_PAUSES = Edit("common/flink/pauses.py", "        if seconds is not None:\n", "        if False:\n")
_IGNORE_END_OF_TASK = (
    # Late instead of never: nothing else ends such a worker.
    Edit("common/flink/worker_watch.py", "    os._exit(1)\n", '    __import__("time").sleep(120)\n    os._exit(1)\n'),
    Edit("common/flink/pauses.py", "        if has_task_ended():\n", "        if False:\n"),
    # A TaskManager that is gone counts as one that stands still.
    Edit("common/flink/pauses.py", "is_running=lambda: task_manager is None or _runs(task_manager)", ""),
)

# Between the read of the rows and the write of what was decided.
_DECISIONS = (
    Edit("jobs/assessment_aggregator/job.py", "        decisions = await self._decide(checked, now_ms)\n", ""),
    Edit(
        "jobs/activity_aggregate_updater/job.py",
        "        checked, decisions = await self._decide(events_by_enrolment)\n",
        "",
    ),
)
# For up to 2 s: so that a pause, or a later decision in another place, is more likely to come in between.
_WAIT = '        await __import__("asyncio").sleep(__import__("random").uniform(0, 2))\n'
# A worker whose task has ended writes 90 s after the decision: until then its successor has started, with a TaskManager
# that has just been started, too, and has applied later events.
_WAIT_FOR_THE_SUCCESSOR = (
    "        decided_at = time.monotonic()\n"
    f"{_WAIT}"
    '        if __import__("common.flink.worker_watch", fromlist=["end_of_task"]).end_of_task()():\n'
    '            await __import__("asyncio").sleep(max(0, decided_at + 90 - time.monotonic()))\n'
)
_DECIDE_SLOWLY = _DECISIONS[0]._replace(new=_DECISIONS[0].old + _WAIT)

SABOTAGES = {
    # Each column and each kind of message, written wrongly.
    "double questions": Sabotage(
        [Edit(ASSESSMENT_STORE, "        row.questions,\n", "        (*row.questions, *row.questions),\n")],
        [_TWICE],
        " question ",
    ),
    "double details": Sabotage(
        [Edit(ASSESSMENT_STORE, "change.agg_details, *row", "[*change.agg_details, *change.agg_details], *row")],
        [_TWICE],
        " agg_details ",
    ),
    "no agg_last_updated": Sabotage(
        [Edit(ASSESSMENT_STORE, "times = dict.fromkeys(change.aggregates, now)", "times: dict[str, datetime] = {}")],
        [_LOST],
        " agg_last_updated ",
    ),
    "no contentstatus": Sabotage(
        [Edit("jobs/activity_aggregate_updater/store.py", "change.content_status, now)", "{}, now)")],
        [_LOST],
        " contentstatus ",
    ),
    "other requests": Sabotage(
        [Edit(MESSAGES, '"reIssue": False', '"reIssue": True')], [_WRONG], "certificate request "
    ),
    "other AUDIT events": Sabotage(
        [Edit(MESSAGES, '"channel": "in.sunbird"', '"channel": "another"')], [_WRONG], "AUDIT "
    ),
    "other certificates": Sabotage(
        [Edit(CERTIFICATE, '"courseName": course_name', '"courseName": template.name')], [_WRONG], "courseName"
    ),
    "other reasons": Sabotage(
        [
            Edit(
                "common/flink/stage.py", "return Refused(error.kind, error.reason)", 'return Refused(error.kind, "bad")'
            )
        ],
        [_WRONG],
        "reason='bad'",
    ),
    "no keys of failed events": Sabotage(
        [Edit(MESSAGES, "return user_id.encode() if user_id else None", "return None")], [_WRONG], "key=None"
    ),
    "no metadata of failed events": Sabotage(
        [Edit(MESSAGES, "metadata = {**_existing_metadata(members), **ours}", "metadata = ours")], [_LOST], "metadata"
    ),
    # Ids that are new for each repeat, and such that several messages share.
    "new ids for repeats": Sabotage(
        [Edit(MESSAGES, 'f"LP.AUDIT.{_uuid5(identity)}"', 'f"LP.AUDIT.{uuid.uuid4()}"')],
        [_TWICE],
        "several ids: [('LP.AUDIT.",
    ),
    "new request ids for repeats": Sabotage(
        [Edit(MESSAGES, _REQUEST_ID, _REQUEST_ID.replace("{identity}", "{uuid.uuid4()}"))],
        [_TWICE],
        "several ids: [('LP.1",
    ),
    "new certificate ids for repeats": Sabotage(
        [Edit(CERTIFICATE, '"mid": f"LMS.{uuid}"', '"mid": f"LMS.{__import__(\'uuid\').uuid4()}"')],
        [_TWICE],
        "several ids: [('LMS.",
        _UNTIL_A_COHORT_HAS_FINISHED,
    ),
    "AUDIT ids without the time": Sabotage(
        [Edit(MESSAGES, 'f"LP.AUDIT.{_uuid5(identity)}"', 'f"LP.AUDIT.{user_id}"')], [_LOST], "has the id of"
    ),
    "request ids without the time": Sabotage(
        [Edit(MESSAGES, _REQUEST_ID, _REQUEST_ID.replace("{time_ms}.{identity}", "{user_id}"))],
        [_LOST],
        "has the id of",
    ),
    "certificate ids without the time": Sabotage(
        [Edit(CERTIFICATE, "template.key, request.time_ms)", "template.key)")],
        [_LOST],
        "has the id of",
        _UNTIL_A_COHORT_HAS_FINISHED,
    ),
    # The message of every second request is missing.
    "lost certificates": Sabotage(
        [
            Edit(
                CERTIFICATE_RULES,
                "if not earned.template.criteria.met_by_user(fields):",
                "if request.time_ms // 1_000 % 2:",
            )
        ],
        [Kind.MISSING_CERTIFICATE],
        faults=_UNTIL_A_COHORT_HAS_FINISHED,
    ),
    "certificates without a score": Sabotage(
        [
            Edit(
                CERTIFICATE_RULES,
                "if not earned.template.criteria.met_by_score(overall_best_score(found)):",
                "if not found:",
            )
        ],
        [Kind.WRONG_CERTIFICATE],
        faults=_UNTIL_A_COHORT_HAS_FINISHED,
    ),
    # A user's events are applied in several places at the same time.
    "no keyBy": Sabotage(
        [
            Edit(
                "common/flink/stage.py",
                "stream._j_data_stream.keyBy(jvm.KeyByKeySelector(), key_type)",
                "stream._j_data_stream.rebalance()",
            ),
            Edit("common/flink/stage.py", "    key_type = Types.ROW([Types.STRING()]).get_java_type_info()\n", ""),
            _DECIDE_SLOWLY,
        ],
        [_LOST, _WRONG],
        faults=("kill -9 Python worker",) * 3,
    ),
    # A worker that was frozen writes what it had decided, although its successor has gone on. Its task has not ended
    # when it goes on: the TaskManager was frozen, too, and nobody could end it. So the watch of the task does not help.
    # The pause is long enough for the successor to be started and to apply what the learners did meanwhile.
    "zombies after a pause": Sabotage(
        [_IGNORE_PAUSES, _DECIDE_SLOWLY],
        [_LOST, _WRONG],
        faults=("SIGSTOP TaskManager and workers",) * 3,
        pauses=(90,),
    ),
    # A worker whose task has failed writes what it had decided, although its successor has gone on. The TaskManager is
    # killed: while it runs, a worker whose task fails ends by itself within a second. No worker stands still, so the
    # limit of its own pauses does not help.
    "zombies after a failure": Sabotage(
        [*_IGNORE_END_OF_TASK, *(edit._replace(new=edit.old + _WAIT_FOR_THE_SUCCESSOR) for edit in _DECISIONS)],
        [_LOST, _WRONG],
        # Several, because most workers that are left end by themselves.
        faults=("kill -9 TaskManager",) * 4,
    ),
    # One batch in five writes its attempts, but not its aggregates.
    "skip-write": Sabotage(
        [
            Edit(
                "jobs/assessment_aggregator/store.py",
                "for enrolment, change in changes.items()\n        )",
                "for enrolment, change in changes.items() if now.microsecond // 1000 % 5\n        )",
            )
        ],
        [_LOST],
        " aggregates ",
    ),
    # A repeated completion is counted as a new one.
    "count-replay": Sabotage(
        [
            Edit(
                "jobs/activity_aggregate_updater/rules.py",
                "        return Effect.REPLAYED\n",
                "        return Effect.WRITTEN\n",
            )
        ],
        [_TWICE],
        " viewcount ",
        ["kill -9 Python worker", "kill -9 TaskManager"],
    ),
    # Removes our guard of PyFlink's operator, and makes the stage raise for an event that arrives alone, at most every
    # 3 seconds. The bundle starts to finish a little later, as on a busy machine. It then finishes without an error.
    # The error is seen a second later, as if the next event had come then, so that the next checkpoint completes: the
    # event is lost.
    "no-guard": Sabotage(
        [
            Edit(
                "common/flink/stage.py",
                '        counts["events_in"] += 1\n',
                '        counts["events_in"] += 1\n'
                '        now = __import__("time").monotonic()\n'
                '        last, globals()["_last"] = globals().get("_last", now), now\n'
                '        if now - last > 0.2 and now > globals().setdefault("_raise_at", now + 3):\n'
                '            globals()["_raise_at"] = now + 3\n'
                '            raise RuntimeError("sabotage")\n',
            ),
            Edit(
                "common/flink/patches/async_guard.py",
                '    if hasattr(wait, "unguarded"):\n',
                "    def wait_later(operation: Any) -> None:\n"
                '        __import__("time").sleep(0.05)\n'
                "        wait(operation)\n\n"
                "    AsyncOperation._wait_for_in_flight_inputs_finished = wait_later\n"
                "    look = AsyncOperation._raise_exception_if_exists\n\n"
                "    def look_later(operation: Any) -> None:\n"
                "        if operation._exception is not None:\n"
                '            __import__("time").sleep(1)\n'
                "        look(operation)\n\n"
                "    AsyncOperation._raise_exception_if_exists = look_later\n"
                "    if True:\n",
            ),
            Edit(
                "common/flink/patches/async_guard.py",
                "gateway().jvm.org.sunbird.aggregates.PythonStageOperator(operator)",
                "gateway().jvm.java.util.Objects.requireNonNull(operator)",
            ),
        ],
        [_LOST],
        "",
        ["kill -9 Redis", "kill -9 Python worker", "SIGSTOP Redis"],
        {"execution.checkpointing.interval": "200 ms"},
    ),
}
