"""The HTTP services with a user and a content."""

from collections.abc import Iterator

import pytest

from local.http_services import HttpServices


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        services.users["u-1"] = {"firstName": "Asha", "rootOrgId": "org-1", "userLocations": []}
        services.contents["do_1"] = {"name": "Botany", "contentType": "SelfAssess", "totalQuestions": 2}
        yield services
