"""Ways to break the jobs on purpose, to check that the oracle notices. Each one edits the code before it is shipped."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chaos.cluster import Edit


class Sabotage(NamedTuple):
    """Edits that break the code, the faults that reveal it, and Flink configuration that reveals it sooner."""

    edits: Sequence[Edit] = ()
    faults: Sequence[str] = ()
    options: Mapping[str, str] = {}


SABOTAGES = {
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
