"""The course, the HTTP services and the configuration of the certificate pre-processor under test."""

from collections.abc import Iterator

import pytest
from cassandra.cluster import Session

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import HttpServices
from local.world import World
from tests.support.certificate_job import Course, quick_config


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture
def course(world: World, cassandra_session: Session, services: HttpServices, unique: str) -> Course:
    return Course(world, cassandra_session, services, unique)


@pytest.fixture
def config(world: World, services: HttpServices) -> CollectionCertPreProcessorConfig:
    return quick_config(world, services)
