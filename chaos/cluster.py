"""The jobs on a cluster whose servers fail: submits them, restores them, and waits for their recovery."""

import random
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jobs import JOBS
from local import jars
from local.flink import ALIGNED_CHECKPOINTS, FREQUENT_CHECKPOINTS, submit_all
from local.http_services import HttpServices, job_settings
from local.package import build_archive
from local.process import start_ended
from local.world import World

OPTIONS = {
    **FREQUENT_CHECKPOINTS,
    # Faults are injected every few seconds. With the usual maximum of a minute, a run would mostly wait for restarts.
    "restart-strategy.exponential-delay.max-backoff": "3 s",
}
EXACTLY_ONCE = "exactly_once"
OPTIONS_OF_DELIVERY = {"at_least_once": {}, EXACTLY_ONCE: ALIGNED_CHECKPOINTS}
"""What Flink needs for each value of ``kafka.delivery``."""
RECOVERY_TIMEOUT_SECONDS = 240.0
PARALLELISM = 2
"""With one subtask, events that are not grouped by user would still be applied in one place."""
POLL_SECONDS = 0.2


class Edit(NamedTuple):
    """Replaces ``old``, which must occur exactly once in ``file``, with ``new``. An empty ``old`` appends ``new``.

    ``file`` is a path in the archive of the jobs, which is also its path in the repository.
    """

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The changed content of ``file``. Raises ValueError if ``old`` does not occur exactly once in ``text``."""
        if not self.old:
            return text + self.new
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} contains this {text.count(self.old)} times instead of once:\n{self.old}")
        return text.replace(self.old, self.new)


@dataclass
class Cluster:
    """The servers and the ids of the running jobs."""

    world: World
    services: HttpServices
    environment: str
    source: random.Random
    edits: Sequence[Edit] = ()
    """Changes to the code of all jobs."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Flink configuration for all jobs, on top of OPTIONS."""
    delivery: str = "at_least_once"
    """The jobs' ``kafka.delivery``."""
    pause_seconds: float = 0
    """How long a fault that lasts takes. The run sets it for each fault."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Job ids by the name of the job."""
    restarts: int = 0
    """How often a TaskManager ended by itself and was restarted."""

    def submit(
        self, name: str, savepoint: str | None = None, parallelism: int = PARALLELISM, edits: Sequence[Edit] = ()
    ) -> None:
        """Submits one job with `flink run`, with its code changed by `edits`. Raises LocalWorldError."""
        self.jobs[name] = self._submit(name, savepoint, parallelism, edits)

    def _submit(self, name: str, savepoint: str | None, parallelism: int, edits: Sequence[Edit]) -> str:
        archive = build_archive(self.world.config.state_folder)
        return self.world.flink.submit(
            JOBS[name],
            archive=apply_edits(archive, archive.with_name(f"{name}-changed.zip"), (*self.edits, *edits)),
            jar=jars.FLINK_CONNECTOR_JAR,
            parallelism=parallelism,
            savepoint=savepoint,
            options={**OPTIONS, **OPTIONS_OF_DELIVERY[self.delivery], **self.options},
            environment={
                **self.world.job_environment(JOBS[name]),
                "AGGREGATES__KAFKA__ENV": self.environment,
                "AGGREGATES__KAFKA__DELIVERY": self.delivery,
                **job_settings(self.services.base_url)[name],
            },
        )

    def submit_all(self, savepoints: Mapping[str, str | None] | None = None) -> None:
        """Submits all jobs at the same time, each from its path in `savepoints` if it has one.

        Raises LocalWorldError if one of them cannot be submitted. None of the others is left running then.
        """
        submissions = {
            name: partial(self._submit, name, (savepoints or {}).get(name), PARALLELISM, ()) for name in JOBS
        }
        self.jobs |= submit_all(submissions, self.world.flink.client.cancel_all)

    def cancel_all(self) -> None:
        """Cancels all jobs that still run and waits until they have ended."""
        self.world.flink.client.cancel_all(self.jobs.values())

    def stop_with_savepoint(self, name: str) -> str:
        """Stops a job with a savepoint and returns the path of the savepoint. Raises LocalWorldError."""
        return self.world.flink.client.stop_with_savepoint(self.jobs[name], RECOVERY_TIMEOUT_SECONDS)

    def last_checkpoint(self, name: str) -> str | None:
        """The URI of the job's latest completed checkpoint; None if there is none yet."""
        files = (self.world.flink.checkpoint_folder / self.jobs[name]).glob("chk-*/_metadata")
        last = max(files, key=lambda file: int(file.parent.name.removeprefix("chk-")), default=None)
        return last.parent.as_uri() if last else None

    def wait_until_recovered(self, checkpoints: int = 2) -> None:
        """Waits until every job runs and has completed `checkpoints` more checkpoints.

        Two are needed to be sure that all earlier events have been applied, because the first may already be in
        progress. Restarts TaskManagers that have ended. Raises LocalWorldError.
        """
        with ThreadPoolExecutor() as executor:
            waits = [
                executor.submit(
                    self.world.flink.client.wait_until_running,
                    job_id,
                    RECOVERY_TIMEOUT_SECONDS,
                    checkpoints=checkpoints,
                )
                for job_id in self.jobs.values()
            ]
            while not all(wait.done() for wait in waits):
                self.restarts += len(start_ended(self.world.flink.task_managers))
                time.sleep(POLL_SECONDS)
        for wait in waits:
            wait.result()


def apply_edits(archive: Path, changed: Path, edits: Sequence[Edit]) -> Path:
    """Writes `archive` with its files changed by `edits` to `changed`, and returns the path of the result.

    Without edits that is `archive` itself. Raises ValueError if the file of an edit is not in the archive, or does not
    contain the old text exactly once.
    """
    if not edits:
        return archive
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(changed, "w") as new:
        if missing := {edit.file for edit in edits} - set(old.namelist()):
            raise ValueError(f"{archive} does not contain the files of these edits: {', '.join(sorted(missing))}")
        for entry in old.infolist():
            text = old.read(entry).decode()
            for edit in edits:
                if edit.file == entry.filename:
                    text = edit.apply(text)
            new.writestr(entry, text)
    return changed
