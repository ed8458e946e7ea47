"""The fixtures of the reports."""

from tests.support.report_fixtures import *  # noqa: F403 - pytest finds fixtures by their names in this module
