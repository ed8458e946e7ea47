"""Services, a course and the configurations of the desk and of the job that it explains."""

from collections.abc import Iterator

import pytest
from cassandra.cluster import Session

from desk.config import DeskConfig
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import HttpServices
from local.world import World
from tests.support.certificate_job import Course, quick_config
from tests.support.desk_world import desk_config


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture
def course(world: World, cassandra_session: Session, services: HttpServices, unique: str) -> Course:
    return Course(world, cassandra_session, services, unique)


@pytest.fixture
def config(world: World, services: HttpServices) -> DeskConfig:
    return desk_config(world, services)


@pytest.fixture
def job_config(world: World, services: HttpServices) -> CollectionCertPreProcessorConfig:
    return quick_config(world, services)
