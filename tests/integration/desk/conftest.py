"""The configurations of the desk and of the job that it explains."""

import pytest

from desk.config import DeskConfig
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import HttpServices
from local.world import World
from tests.support.certificate_job import quick_config
from tests.support.desk_world import desk_config


@pytest.fixture
def config(world: World, services: HttpServices) -> DeskConfig:
    return desk_config(world, services)


@pytest.fixture
def job_config(world: World, services: HttpServices) -> CollectionCertPreProcessorConfig:
    return quick_config(world, services)
