"""The configuration of the certificate pre-processor under test."""

import pytest

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import HttpServices
from local.world import World
from tests.support.certificate_job import quick_config


@pytest.fixture
def config(world: World, services: HttpServices) -> CollectionCertPreProcessorConfig:
    return quick_config(world, services)
