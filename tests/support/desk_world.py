"""The desk on real servers: its configuration, and learners in the tables as the certificate tests make them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from common.config.loader import load
from common.domain.enrolments import EnrolmentKey
from desk.config import DeskConfig, settings_of, wording_of
from desk.explanation import explain
from desk.explanation.steps import Explanation
from desk.reader import open_reader
from local.http_services import HttpServices
from local.readers import desk_environment
from local.world import World

REPOSITORY = Path(__file__).parents[2]


def desk_config(world: World, services: HttpServices, variables: Mapping[str, str] | None = None) -> DeskConfig:
    """The configuration of a desk in this process."""
    patient = {
        # A busy machine must not look like a server that is down.
        "AGGREGATES__HTTP__REQUEST_TIMEOUT_MS": "20000",
        "AGGREGATES__HTTP__CALL_TIMEOUT_MS": "21000",
        "AGGREGATES__KAFKA__SEARCH_SECONDS": "60",
    }
    return load(DeskConfig, environ={**desk_environment(world, services.base_url), **patient, **(variables or {})})


async def explanation_of(config: DeskConfig, key: EnrolmentKey) -> Explanation:
    """What the desk says about a learner, read anew."""
    async with open_reader(config) as reader:
        return explain(await reader.learner(key), settings_of(config), wording_of(config))


def run_desk(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m desk`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "desk", *arguments],
        env={**os.environ, **environment, "COLUMNS": "200"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
