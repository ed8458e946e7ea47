"""The servers, a course with its learners, and the jobs that apply what the doctor sends."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from desk.config import DeskConfig
from local.http_services import HttpServices
from local.readers import desk_environment
from local.world import World
from tests.support.activity_model import RelationCache
from tests.support.desk_world import desk_config
from tests.support.patient_rows import JobsOnTopics, publish
from tests.support.patients import course_of


@dataclass
class Ward:
    """A course of its own with the doctor's configuration; topics have a prefix of their own."""

    prefix: str
    course: RelationCache
    environment: dict[str, str]
    config: DeskConfig
    jobs: JobsOnTopics
    services: HttpServices


@pytest.fixture(scope="module")
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture
async def ward(world: World, services: HttpServices) -> Ward:
    prefix = uuid.uuid4().hex[:8]
    variables = {"AGGREGATES__KAFKA__ENV": prefix, "AGGREGATES__SCAN_RANGES": "16", "AGGREGATES__PAGE_SIZE": "100"}
    config = desk_config(world, services, variables)
    course = course_of(prefix)
    await publish(world, config.cassandra, course, prefix)
    environment = {**desk_environment(world, services.base_url), **variables}
    return Ward(prefix, course, environment, config, JobsOnTopics(world, services, prefix), services)
