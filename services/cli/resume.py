"""``touchstone rejected resume``: let partitions go on that stopped under a flood of rejections."""

from __future__ import annotations

from collections.abc import Sequence

from infra.kafka.admin import KafkaAdmin
from infra.kafka.stops import StopRegister
from schemas.topics import TOUCHPOINTS
from services.cli.addresses import locate
from services.cli.console import CommandError, ExitCode, print_json, say
from services.cli.settings import StackSettings

ALL = "all"


def resume(settings: StackSettings, named: Sequence[str], *, as_json: bool) -> None:
    """Let what is in the log of the named partitions pass, whatever of it is rejected.

    What comes after it is counted anew. Workers learn of it within seconds, and so does one that starts later.
    """
    bootstrap = locate(settings).kafka_bootstrap
    if not named or (ALL in named and len(named) > 1) or not all(name == ALL or name.isdecimal() for name in named):
        raise CommandError(
            "resume takes the numbers of partitions, or all; touchstone status names them", ExitCode.WRONG_USE
        )
    register = StopRegister(bootstrap)
    stopped = {stop.partition: stop for stop in register.stops()}
    chosen = sorted(stopped) if ALL in named else sorted({int(name) for name in named})
    absent = [partition for partition in chosen if partition not in stopped]
    if absent or not chosen:
        which = (
            f"partition {', '.join(map(str, absent))} does not stand still" if absent else "no partition stands still"
        )
        raise CommandError(f"{which}; touchstone status names those that do", ExitCode.NO)
    with KafkaAdmin(bootstrap) as admin:
        ends = admin.end_offsets(TOUCHPOINTS)
    until = {partition: ends[partition] for partition in chosen}
    register.release(until)
    if as_json:
        print_json([{"partition": at, "stopped_at": stopped[at].offset, "released_until": until[at]} for at in chosen])
        return
    for partition in chosen:
        say(
            f"partition {partition} goes on at offset {stopped[partition].offset:,}; rejections below "
            f"{until[partition]:,}, the present end of its log, will not stop it again"
        )
