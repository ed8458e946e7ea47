"""How pytest-xdist deals the tests out to its two processes. Each starts the servers that its tests ask for."""

from xdist.scheduler.loadscope import LoadScopeScheduling

_WITH_A_FLINK_CLUSTER = (
    "tests/faults/",
    "tests/integration/test_cluster_logs.py",
    "tests/integration/test_flink_cluster.py",
    "tests/integration/test_patience.py",
    "tests/integration/test_pipeline.py",
    "tests/integration/test_security.py",
)
"""And with servers that may be killed."""


class ByServers(LoadScopeScheduling):
    """Tests that use the same servers stay together: those with a Flink cluster, those on three nodes, and the rest.

    These groups mostly wait for servers. Files of unit tests follow, one by one, to whoever is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_WITH_A_FLINK_CLUSTER):
            return "with a Flink cluster"
        if nodeid.startswith("tests/clusters/"):
            return "on three nodes"
        if nodeid.startswith("tests/integration/"):
            return "without"
        return nodeid.partition("::")[0]
