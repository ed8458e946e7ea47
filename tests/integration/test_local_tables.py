"""The synchronous view of the tables that the demo and the chaos runs use."""

import pytest

from common.domain.faults import TaskFault, WorldFault
from local.tables import Tables
from local.world import World


def test_rows_have_names_and_a_table_can_be_made(world: World, unique: str) -> None:
    with Tables(world.cassandra.contact_points, world.cassandra.port) as tables:
        assert tables.execute("CREATE TABLE IF NOT EXISTS for_tables (id text PRIMARY KEY, times map<text, int>)") == []
        assert tables.execute("INSERT INTO for_tables (id, times) VALUES (?, ?)", unique, {"a": 1}) == []
        assert tables.execute("SELECT id, times FROM for_tables WHERE id = ?", unique) == [
            {"id": unique, "times": {"a": 1}}
        ]
        with pytest.raises(TaskFault, match="nothing"):
            tables.execute("SELECT id FROM nothing")


def test_without_a_server_nothing_is_left_running() -> None:
    with pytest.raises(WorldFault, match="refused"):
        Tables(["127.0.0.1"], 1)
