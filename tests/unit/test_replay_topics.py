"""A replay of a failed topic that cannot be read."""

import pytest

from common.config.loader import load
from common.domain import topics
from common.domain.faults import TaskFault
from jobs import config_class, replay
from tests.support.required_keys import REQUIRED
from tests.support.unseen_topics import HIDDEN, MISSING, REASONS, EmptyTopics

CONFIG = config_class("assessment_aggregator")


@pytest.mark.parametrize("error", [HIDDEN, MISSING])
def test_a_replay_says_what_is_to_be_done_about_a_topic(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    monkeypatch.setattr(replay, "Consumer", lambda _: EmptyTopics({topics.ASSESS_FAILED: error}))
    monkeypatch.setattr(replay, "Producer", lambda _: None)
    with pytest.raises(TaskFault, match=REASONS[error]):
        replay.replay(load(CONFIG, environ=REQUIRED[CONFIG]))
