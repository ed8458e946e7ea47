"""Ways to break the jobs on purpose, to check that the oracle notices. Each one edits the code before it is shipped."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chaos.cluster import Edit


class Sabotage(NamedTuple):
    """Edits that break the code, the faults that reveal it, and what reveals it sooner."""

    edits: Sequence[Edit] = ()
    faults: Sequence[str] = ("kill -9 Python worker",)
    options: Mapping[str, str] = {}
    """Flink configuration."""
    pauses: Sequence[float] = ()
    """How long a fault that lasts may last (s); those of the command line if empty."""


ASSESSMENT_STORE = "jobs/assessment_aggregator/store.py"
MESSAGES = "common/domain/messages.py"

_IGNORE_PAUSES = Edit("common/flink/pauses.py", "        if seconds is not None:\n", "        if False:\n")
_IGNORE_END_OF_TASK = (
    Edit("common/flink/stage.py", "        worker_watch.end_with_task()\n", ""),
    Edit("common/flink/pauses.py", "        if has_task_ended():\n", "        if False:\n"),
)

# For up to 2 s between the read of the rows and the write of what was decided: so that a pause, or a later decision in
# another place, is more likely to come in between.
_DECIDE = "        decisions = await self._decide(checked, now_ms)\n"
_DECIDE_SLOWLY = Edit(
    "jobs/assessment_aggregator/job.py",
    _DECIDE,
    f'{_DECIDE}        await __import__("asyncio").sleep(__import__("random").uniform(0, 2))\n',
)

SABOTAGES = {
    # Each column and each kind of message, written wrongly.
    "double questions": Sabotage(
        [Edit(ASSESSMENT_STORE, "        row.questions,\n", "        (*row.questions, *row.questions),\n")]
    ),
    "double details": Sabotage(
        [Edit(ASSESSMENT_STORE, "change.agg_details, *row", "[*change.agg_details, *change.agg_details], *row")]
    ),
    "no agg_last_updated": Sabotage(
        [Edit(ASSESSMENT_STORE, "times = dict.fromkeys(change.aggregates, now)", "times: dict[str, datetime] = {}")]
    ),
    "no contentstatus": Sabotage(
        [Edit("jobs/activity_aggregate_updater/store.py", "change.content_status, now)", "{}, now)")]
    ),
    "other requests": Sabotage([Edit(MESSAGES, '"reIssue": False', '"reIssue": True')]),
    "other AUDIT events": Sabotage([Edit(MESSAGES, '"channel": "in.sunbird"', '"channel": "another"')]),
    "new ids for repeats": Sabotage([Edit(MESSAGES, 'f"LP.AUDIT.{_uuid5(identity)}"', 'f"LP.AUDIT.{uuid.uuid4()}"')]),
    "other certificates": Sabotage(
        [
            Edit(
                "jobs/collection_cert_pre_processor/message.py",
                '"courseName": course_name',
                '"courseName": template.name',
            )
        ]
    ),
    "other reasons": Sabotage(
        [Edit("common/flink/stage.py", "return Refused(error.kind, error.reason)", 'return Refused(error.kind, "bad")')]
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
        ("kill -9 Python worker",) * 3,
    ),
    # A worker that was frozen writes what it had decided, although its successor has gone on.
    # The pause is long enough for the successor to be started and to apply what the learners did meanwhile.
    "zombies": Sabotage(
        [_IGNORE_PAUSES, *_IGNORE_END_OF_TASK, _DECIDE_SLOWLY],
        ("SIGSTOP TaskManager and workers",) * 3,
        pauses=(90,),
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
        ["kill -9 Python worker"],
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
        ["kill -9 Python worker", "kill -9 TaskManager"],
    ),
    # Removes our guard of PyFlink's operator, and makes the stage raise for an event that arrives alone, at most every
    # 6 seconds. The bundle starts to finish a little later, as on a busy machine. It then finishes without an error,
    # and so does the next checkpoint: the event is lost.
    "no-guard": Sabotage(
        [
            Edit(
                "common/flink/stage.py",
                '        counts["events_in"] += 1\n',
                '        counts["events_in"] += 1\n'
                '        now = __import__("time").monotonic()\n'
                '        last, globals()["_last"] = globals().get("_last", now), now\n'
                '        if now - last > 0.4 and now > globals().setdefault("_raise_at", now + 6):\n'
                '            globals()["_raise_at"] = now + 6\n'
                '            raise RuntimeError("sabotage")\n',
            ),
            Edit(
                "common/flink/patches/async_guard.py",
                '    if hasattr(wait, "unguarded"):\n',
                "    def wait_later(operation: Any) -> None:\n"
                '        __import__("time").sleep(0.05)\n'
                "        wait(operation)\n\n"
                "    AsyncOperation._wait_for_in_flight_inputs_finished = wait_later\n"
                "    if True:\n",
            ),
            Edit(
                "common/flink/patches/async_guard.py",
                "gateway().jvm.org.sunbird.aggregates.PythonStageOperator(operator)",
                "gateway().jvm.java.util.Objects.requireNonNull(operator)",
            ),
        ],
        ["kill -9 Redis", "kill -9 Python worker", "SIGSTOP Redis"],
        {"execution.checkpointing.interval": "200 ms"},
    ),
}
