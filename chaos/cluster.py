"""The three jobs on a cluster whose servers fail: submitted, taken up from checkpoints and savepoints, waited for."""

import random
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jobs import JOBS
from local import jars
from local.flink import FREQUENT_CHECKPOINTS
from local.http_services import HttpServices, job_settings
from local.package import build_archive
from local.process import start_ended
from local.world import World

OPTIONS = {
    **FREQUENT_CHECKPOINTS,
    # Faults come every few seconds here: as shipped, the delay would grow to a minute and most of a run be waiting.
    "restart-strategy.exponential-delay.max-backoff": "3 s",
}
RECOVERY_TIMEOUT_SECONDS = 240.0
POLL_SECONDS = 0.2


class Edit(NamedTuple):
    """A change of the shipped code: ``old`` stands exactly once in ``file``; an empty one is its end."""

    file: str
    old: str
    new: str


@dataclass
class Cluster:
    """All servers, and which job runs under which id."""

    world: World
    services: HttpServices
    environment: str
    source: random.Random
    pause_seconds: float
    edits: Sequence[Edit] = ()
    """Of the code of all jobs."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Flink configuration on top of what all runs have."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Job id by name."""
    restarts: int = 0
    """Of TaskManagers that have ended by themselves."""

    def submit(self, name: str, savepoint: str | None = None, parallelism: int = 1, edits: Sequence[Edit] = ()) -> None:
        """`flink run` of one job, with its code changed by `edits`. Raises LocalWorldError."""
        self.jobs[name] = self.world.flink.submit(
            JOBS[name],
            archive=self._archive(name, (*self.edits, *edits)),
            jar=jars.FLINK_CONNECTOR_JAR,
            parallelism=parallelism,
            savepoint=savepoint,
            options={**OPTIONS, **self.options},
            environment={
                **self.world.job_environment(JOBS[name]),
                "AGGREGATES__KAFKA__ENV": self.environment,
                **job_settings(self.services.base_url).get(name, {}),
            },
        )

    def submit_all(self, savepoints: Mapping[str, str | None] | None = None) -> None:
        """All jobs at the same time, each from its savepoint or checkpoint if it has one."""
        with ThreadPoolExecutor() as executor:
            submissions = [executor.submit(self.submit, name, (savepoints or {}).get(name)) for name in JOBS]
        for submission in submissions:
            submission.result()

    def cancel_all(self) -> None:
        """Ends the jobs and waits for it."""
        for job in self.jobs.values():
            self.world.flink.client.cancel(job)

    def stop_with_savepoint(self, name: str) -> str:
        """Ends a job in order; where its savepoint is."""
        return self.world.flink.client.stop_with_savepoint(self.jobs[name], RECOVERY_TIMEOUT_SECONDS)

    def last_checkpoint(self, name: str) -> str | None:
        """Where the last one that was completed is; None if there is none yet."""
        files = (self.world.flink.checkpoint_folder / self.jobs[name]).glob("chk-*/_metadata")
        last = max(files, key=lambda file: int(file.parent.name.removeprefix("chk-")), default=None)
        return last.parent.as_uri() if last else None

    def wait_until_recovered(self, checkpoints: int = 2) -> None:
        """Until every job runs and has completed so many more checkpoints, so that what came before is applied.

        Two of them by default, because one may have been under way. Raises LocalWorldError.
        """
        with ThreadPoolExecutor() as executor:
            waits = [
                executor.submit(
                    self.world.flink.client.wait_until_running, job, RECOVERY_TIMEOUT_SECONDS, checkpoints=checkpoints
                )
                for job in self.jobs.values()
            ]
            while not all(wait.done() for wait in waits):
                self.restarts += len(start_ended(self.world.flink.task_managers))
                time.sleep(POLL_SECONDS)
        for wait in waits:
            wait.result()

    def _archive(self, name: str, edits: Sequence[Edit]) -> Path:
        archive = build_archive(self.world.config.state_folder)
        if not edits:
            return archive
        changed = archive.with_name(f"{name}-changed.zip")
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(changed, "w") as new:
            for entry in old.infolist():
                text = old.read(entry).decode()
                for edit in edits:
                    if edit.file == entry.filename:
                        text = _edited(text, edit)
                new.writestr(entry, text)
        return changed


def _edited(text: str, edit: Edit) -> str:
    if not edit.old:
        return text + edit.new
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.file} has {text.count(edit.old)} times what is to be replaced:\n{edit.old}")
    return text.replace(edit.old, edit.new)
