"""Histories with little or odd things in them, all of which can be judged."""

from __future__ import annotations

from tests.integration.learning.shops import FIRST_DAY, Row

AS_OF, AS_OF_DAY = "2022-10-05", FIRST_DAY + 270


def days(customer: str, *at: float, kind: str = "purchase", amount: float | None = 10.0) -> list[Row]:
    return [(customer, AS_OF_DAY + day, kind, amount) for day in at]


JUDGED = {
    "one customer": days("a", -90, -60, -30),
    "one customer, one event, days ago": days("a", -90),
    "everybody comes every day": [row for n in range(110) for row in days(f"c{n}", *range(-120, 0))],
    "nobody ever comes again": [row for n in range(300) for row in days(f"c{n}", -200 + n / 3)],
    "no purchases": [
        row
        for n in range(110)
        for row in days(f"c{n}", *range(-200 + n, 0, 9 + n % 7), kind="interaction", amount=None)
    ],
    "all on one day, long ago": [row for n in range(300) for row in days(f"c{n}", -100 + n / 1000)],
    "refunds alone cost more than was bought": [
        row
        for n in range(110)
        for row in days(f"c{n}", *range(-200 + n, 0, 9 + n % 7))
        + days(f"c{n}", *range(-199 + n, 0, 9), kind="refund", amount=1e9)
    ],
    "clocks of 1970 and 2200": [
        *(row for n in range(110) for row in days(f"c{n}", *range(-200 + n, 0, 9 + n % 7))),
        *((f"c{n}", 0.0, "purchase", 1.0) for n in range(20)),
        *((f"c{n}", 84_005.0, "purchase", 1.0) for n in range(20)),
    ],
}
