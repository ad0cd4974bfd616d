"""Who is due for a review, asked for each model that judges: as SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.scoring.as_of import crossing_sql


def due_sql(
    partitions: Sequence[int], active: Mapping[int, str], limit: int, literal: Callable[[str], str], base: str
) -> list[str]:
    """`crossing_sql` of partitions, one statement for each model that judges in some of them.

    ``active``: parameters by partition, of those whose log activated a model; ``base``: of the model that judges in
    the others. ``literal``: a text as SQL. By a model
    that does not judge in a partition, customers there would be due again after each review, for ever.
    """
    by_model: dict[str, list[int]] = {}
    for partition in partitions:
        by_model.setdefault(active.get(partition) or base, []).append(partition)
    return [crossing_sql(tuple(some), limit, model=literal(parameters)) for parameters, some in by_model.items()]
