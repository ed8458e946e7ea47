"""What the jobs must write, computed from what was sent. It shares no code with the rules that it checks.

The demo, the oracle of `make chaos` and the tests compare rows with it.
"""

from collections.abc import Sequence


def content_aggregates(content_id: str, attempts: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The entries of ``aggregates`` for one content.

    ``attempts`` are score and maximum score of each submitted attempt, in the order of the attempt ids; at least one.
    """
    best_score, max_score = max(attempts, key=lambda score_and_max: score_and_max[0])
    return {
        f"score:{content_id}": best_score,
        f"max_score:{content_id}": max_score,
        f"attempts_count:{content_id}": float(len(attempts)),
    }
