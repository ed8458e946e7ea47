"""The short form of `make chaos`: a TaskManager is killed with all workers, and the oracle has nothing to say.

A worker that is killed alone, in the middle of a batch: test_activity_faults.py.
"""

from chaos.run import start_jobs
from chaos.sabotage import Sabotage
from local.world import World

FAULTS = ("kill -9 TaskManager",)


def test_nothing_is_lost_and_nothing_is_counted_twice(mortal_world: World) -> None:
    with start_jobs(mortal_world, pauses=[0], sabotage=Sabotage(), report=print) as run:
        run.seed(1, FAULTS, len(FAULTS))
    assert run.tolls.keys() == set(FAULTS)
    assert run.problems == []
    assert run.cluster.restarts == 0
