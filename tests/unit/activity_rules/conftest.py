"""The course that the activity rules are tried on."""

import pytest

from tests.support.activity_rules import (
    World,
)


@pytest.fixture
def world() -> World:
    return World()
