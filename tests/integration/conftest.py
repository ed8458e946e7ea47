"""The HTTP services with a course."""

from collections.abc import Iterator

import pytest
from cassandra.cluster import Session

from local.http_services import HttpServices
from local.world import World
from tests.support.certificate_job import Course


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture
def course(world: World, cassandra_session: Session, services: HttpServices, unique: str) -> Course:
    return Course(world, cassandra_session, services, unique)
