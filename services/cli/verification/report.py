"""What a check found, told as it is found, summed up at the end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from services.cli.console import paint, print_table, say
from services.cli.verification.against import BY_LOG, BY_SQL, Compared
from services.cli.verification.deployment import Deployment
from services.cli.verification.sums import Account
from services.cli.visible import visible
from services.scoring.verify.compare import STATE, TOLERANCES, Difference
from services.scoring.verify.rows import readable

AGAINST = {BY_SQL: "recomputed by SQL over table touchpoints", BY_LOG: "folded from the log, from offset 0"}


@dataclass(slots=True)
class Tally:
    """One check so far."""

    customers: int = 0
    differing: int = 0
    differences: int = 0
    moved: int = 0
    kept: list[Difference] = field(default_factory=list)
    """The first of them."""


class Report:
    """Takes what checks find and prints it at once, unless ``quiet``: so many differences of each check."""

    def __init__(self, limit: int, *, quiet: bool, left_out: Collection[str] = ()) -> None:
        self.accounts: list[Account] = []
        self.tallies: dict[str, Tally] = {}
        self.left_out = sorted(left_out)
        self._limit = limit
        self._quiet = quiet

    def begin(self, against: str) -> None:
        self.tallies[against] = Tally()

    def take(self, compared: Compared) -> None:
        tally = self.tallies.setdefault(compared.against, Tally())
        room = max(0, self._limit - len(tally.kept))
        fresh = compared.differences[:room]
        if fresh and not tally.kept and not self._quiet:
            print(f"\n{paint('differs', 'red')}: the stream's state, and {AGAINST[compared.against]}")
        tally.customers += compared.customers
        tally.moved += compared.moved
        tally.differences += len(compared.differences)
        tally.differing += len({difference.customer for difference in compared.differences})
        tally.kept += fresh
        if not self._quiet:
            _print(fresh)

    @property
    def customers(self) -> int:
        return max((tally.customers for tally in self.tallies.values()), default=0)

    @property
    def equal(self) -> bool:
        return not any(tally.differing for tally in self.tallies.values()) and all(a.balanced for a in self.accounts)


def _print(differences: list[Difference]) -> None:
    customer = None
    for difference in differences:
        if difference.customer != customer:
            customer = difference.customer
            print(f"  {visible(customer)}")
        stream, recomputed = told(difference)
        print(f"    {difference.column}: stream {_text(stream)}, recomputed {_text(recomputed)}")


def told(difference: Difference) -> tuple[Any, Any]:
    """Both values for a person, the stream's first."""
    if difference.column == STATE:
        return _events(difference.stream), _events(difference.recomputed)
    return readable(difference.column, difference.stream), readable(difference.column, difference.recomputed)


def _events(count: int | None) -> str:
    return "none" if count is None else f"of {count:,} events"


def _text(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else visible(repr(value) if value == "" else str(value))


def print_sums(accounts: list[Account]) -> None:
    """One line a partition, and what is wrong with it."""
    head = ["partition", "received", "stored", "duplicate", "rejected", "models", "missing", "surplus"]
    numbers = [[a.received, a.stored, a.duplicate, a.rejected, a.activations, a.missing, a.surplus] for a in accounts]
    rows = [[str(a.partition), *(f"{n:,}" for n in line)] for a, line in zip(accounts, numbers, strict=True)]
    rows.append(["all", *(f"{sum(line[at] for line in numbers):,}" for at in range(len(head) - 1))])
    print_table(head, rows)
    for account in accounts:
        if account.missing_at:
            print(f"partition {account.partition}: in no table: offset {_offsets(account.missing_at, account.missing)}")
        if account.surplus_at:
            print(f"partition {account.partition}: more than once: offset {_offsets(account.surplus_at, 0)}")


def _offsets(offsets: list[int], count: int) -> str:
    more = f" and {count - len(offsets):,} more" if count > len(offsets) else ""
    return ", ".join(map(str, offsets)) + more


def print_summary(found: Deployment, report: Report) -> None:
    """The counts, and what was compared how."""
    print()
    for against, tally in report.tallies.items():
        verdict = f"{tally.differing:,} differ" if tally.differing else "equal"
        shown = f", {len(tally.kept):,} of {tally.differences:,} differences shown" if tally.differing else ""
        print(f"{tally.customers:,} customers {AGAINST[against]}: {verdict}{shown}")
    unbalanced = sum(not account.balanced for account in report.accounts)
    holds = f"not in {unbalanced} partitions" if unbalanced else "holds"
    print(f"received = stored + duplicate + rejected + activations of models: {holds}")
    say(
        f"while this ran the stream moved on for {max((t.moved for t in report.tallies.values()), default=0):,} of them"
    )
    say(TOLERANCES)
    if report.left_out:
        say(
            f"{', '.join(found.unlogged)} judged before models were activated by events, and the log does not say "
            f"where: {', '.join(report.left_out)} were not compared"
        )


def document(found: Deployment, report: Report) -> dict[str, Any]:
    """Everything, for a script."""
    return {
        "equal": report.equal,
        "customers": report.customers,
        "log_begins_at": found.begins,
        "committed": found.committed,
        "checks": {
            against: {
                "customers": tally.customers,
                "differing": tally.differing,
                "moved_meanwhile": tally.moved,
                "differences": tally.differences,
                "shown": [_difference(difference) for difference in tally.kept],
            }
            for against, tally in report.tallies.items()
        },
        "not_compared": report.left_out,
        "sums": [{**asdict(account), "balanced": account.balanced} for account in report.accounts],
        "tolerance": TOLERANCES,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    stream, recomputed = told(difference)
    return {
        "customer": difference.customer,
        "column": difference.column,
        "stream": stream,
        "recomputed": recomputed,
    }
