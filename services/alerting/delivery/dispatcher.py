"""Calls to receivers: each receiver has a queue, a circuit and a bounded number of calls under way of its own.

At least once, with the same id and body each time: an attempt is recorded before what follows from it is scheduled, and
a crash between sending and recording repeats the attempt. See docs/alerting/delivery.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.alerting.alert import Attempt, Call, Outcome, Turn
from services.alerting.delivery.circuit import Circuit, Mode
from services.alerting.delivery.lane import Lane, Pending, pending_of
from services.alerting.delivery.limits import Limits
from services.alerting.delivery.ports import Clock, Observer, Sender, Store, SystemClock, Unobserved
from services.alerting.delivery.recorder import Recorder
from services.alerting.delivery.retry import Answer, Verdict, next_attempt

_log: Final = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 60.0
"""A wait is cut to this, so that a step of the clock is noticed."""
LOOK_UP_PAUSE_S: Final = 5.0
GIVE_UP_US: Final = 7 * 86_400_000_000
"""A call that waited this long behind an open circuit is given up: nobody is helped by it any more."""


class UnknownCallError(LookupError):
    """No such call is stored."""


class Dispatcher:
    """Delivers calls. All methods are for one event loop; `run` must be running for anything to happen."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        store: Store,
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        observer: Observer | None = None,
        limits: Limits | None = None,
    ) -> None:
        """``senders`` by the receiver's name (`senders.build_senders`); ``draw`` gives numbers uniform in [0, 1)."""
        self._senders = dict(senders)
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._draw = draw
        self._observer: Observer = observer or Unobserved()
        self._limits = limits or Limits()
        self._lanes = {name: Lane(name, self._limits.at_once) for name in self._senders}
        self._wakes = {name: asyncio.Event() for name in self._senders}
        self._recorder = Recorder(
            store, self._observer, most_unrecorded=self._limits.unrecorded, linger_s=self._limits.linger_s
        )
        self._live: dict[str, Pending] = {}
        self._fates: OrderedDict[str, Outcome] = OrderedDict()
        self._held: dict[str, list[Pending]] = {}
        self._to_look_up: set[str] = set()
        self._look_up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self.announce()

    def announce(self) -> None:
        """Tell the observer how each receiver stands."""
        for name, lane in self._lanes.items():
            self._observer.circuit(name, lane.circuit.mode)
            self._observer.queued(name, len(lane))

    # What comes in

    def submit(self, calls: Sequence[Call]) -> None:
        """Take calls that are stored. Never blocks; a call that is known already is not taken twice."""
        for call in calls:
            self._admit(Pending(call, wanted_us=max(call.made_us, call.not_before_us)), call.not_before_us)

    def resume(self, calls: Sequence[Call], attempts: Sequence[Attempt]) -> None:
        """Take up stored calls where their attempts left them; those that have ended are only remembered."""
        by_call: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            by_call.setdefault(attempt.call_id, []).append(attempt)
        waiting: list[tuple[Pending, int]] = []
        for call in calls:
            made = sorted(by_call.get(call.call_id, ()), key=lambda attempt: attempt.number)
            if made and made[-1].outcome is not Outcome.FAILED:
                self._remember(call.call_id, made[-1].outcome)
            else:
                waiting.append((pending_of(call, made), made[-1].next_us if made else call.not_before_us))
        for pending, due_us in waiting:
            self._admit(pending, due_us)

    async def resend(self, call_id: str) -> None:
        """Send a call again by hand, with a schedule of its own from now on; one that waits is tried at once.

        Raises `UnknownCallError` where no such call is stored or its receiver is not in the rules file any more.
        """
        if call_id in self._live:
            self._hasten(self._live[call_id])
            return
        found = [stored for stored in await self._store.find([call_id]) if stored.call.call_id == call_id]
        if not found:
            raise UnknownCallError(f"no call {call_id}: take its id from view alert_deliveries")
        call = found[0].call
        if call.receiver not in self._lanes:
            raise UnknownCallError(f"call {call_id} is for receiver {call.receiver}: put it into the rules file again")
        if call_id in self._live:  # meanwhile
            self._hasten(self._live[call_id])
            return
        pending = pending_of(call, sorted(found[0].attempts, key=lambda attempt: attempt.number))
        now_us = self._clock.now_us()
        pending.wanted_us = pending.taken_us = now_us
        self._live[call_id] = pending
        self._fates.pop(call_id, None)
        self._set_circuit(self._lanes[call.receiver], self._lanes[call.receiver].circuit.by_hand())
        self._record(pending, Answer(Verdict.RETRY, detail="sent again by hand"), now_us, next_us=now_us)

    # Its life

    async def run(self) -> None:
        """Deliver until `stop`. Cancelling it is like a crash: nothing is lost, the attempts under way are repeated."""
        try:
            await self._deliver()
        finally:
            for sender in self._senders.values():
                await sender.close()

    async def _deliver(self) -> None:
        async with asyncio.TaskGroup() as group:
            lanes = [group.create_task(self._serve(lane, group)) for lane in self._lanes.values()]
            looking = group.create_task(self._look_up_forever())
            recording = group.create_task(self._recorder.run())
            await self._stopping.wait()
            await asyncio.gather(*lanes)
            looking.cancel()
            while self._under_way:
                await asyncio.wait(set(self._under_way))
            self._recorder.close()
            await recording

    def stop(self) -> None:
        """Start no further call; those under way end (20 s at most) and are recorded, then `run` returns."""
        self._stopping.set()
        self._recorder.release()
        for wake in self._wakes.values():
            wake.set()

    async def drain(self) -> None:
        """Wait until nothing is under way and nothing could be sent now: not for retries, not for open circuits."""
        while not self._idle():
            self._changed.clear()
            await self._changed.wait()

    def next_us(self) -> int | None:
        """When a call can start next; None: not before something changes."""
        now_us = self._clock.now_us()
        starts = [start for lane in self._lanes.values() if (start := lane.starts_us(now_us)) is not None]
        return min(starts, default=None)

    def waiting(self) -> Mapping[str, int]:
        """Calls that have not ended, by receiver; resolved notices that wait for their firing call included."""
        counts = {name: len(lane) for name, lane in self._lanes.items()}
        for pending in (pending for held in self._held.values() for pending in held):
            counts[pending.call.receiver] += 1
        return counts

    def circuits(self) -> Mapping[str, Mode]:
        """The state of each receiver's circuit."""
        return {name: lane.circuit.mode for name, lane in self._lanes.items()}

    # Queues

    def _admit(self, pending: Pending, due_us: int) -> None:
        call = pending.call
        if call.call_id in self._live or call.call_id in self._fates:
            return
        self._live[call.call_id] = pending
        pending.taken_us = self._clock.now_us()
        if call.receiver not in self._lanes:
            self._end_unsent(pending, f"no receiver {call.receiver} in the rules file: put it back and send again")
            return
        if call.turn is Turn.RESOLVED and call.about:
            fate = self._fates.get(call.about)
            if fate is Outcome.DEAD:
                self._drop(pending)
                return
            if fate is None:
                self._held.setdefault(call.about, []).append(pending)
                if call.about not in self._live:
                    self._to_look_up.add(call.about)
                    self._look_up.set()
                return
        self._enqueue(pending, due_us)

    def _enqueue(self, pending: Pending, due_us: int) -> None:
        lane = self._lanes[pending.call.receiver]
        if lane.disabled:
            self._end_unsent(pending, "not sent: the receiver had answered 410, gone; mend its address and send again")
            return
        lane.put(pending, due_us)
        self._note(lane)

    def _hasten(self, wanted: Pending) -> None:
        lane = self._lanes.get(wanted.call.receiver)
        if lane is None:
            return
        now_us = self._clock.now_us()
        if lane.hasten(wanted, now_us):
            self._set_circuit(lane, lane.circuit.by_hand())
        self._note(lane)

    def _note(self, lane: Lane) -> None:
        self._wakes[lane.receiver].set()
        self._changed.set()
        self._observer.queued(lane.receiver, len(lane))

    def _set_circuit(self, lane: Lane, circuit: Circuit) -> None:
        if circuit.mode is not lane.circuit.mode:
            if lane.circuit.mode is not Mode.PROBING or circuit.mode is not Mode.OPEN:  # a probe that failed is no news
                _log.warning("circuit of receiver %s: %s", lane.receiver, circuit.mode.value)
            self._observer.circuit(lane.receiver, circuit.mode)
        lane.circuit = circuit

    def _idle(self) -> bool:
        now_us = self._clock.now_us()
        if len(self._recorder) or self._to_look_up or self._under_way:
            return False
        starts = (lane.starts_us(now_us) for lane in self._lanes.values())
        return all(start is None or start > now_us for start in starts)

    # Sending

    async def _serve(self, lane: Lane, group: asyncio.TaskGroup) -> None:
        wake = self._wakes[lane.receiver]
        while not self._stopping.is_set():
            wake.clear()
            now_us = self._clock.now_us()
            start_us = lane.starts_us(now_us)
            if start_us is None:
                await wake.wait()
            elif start_us > now_us:
                await self._wait(wake, start_us - now_us)
            elif self._recorder.full:
                await self._recorder.room()
            else:
                mode = lane.circuit.mode
                pending = lane.take()
                if lane.circuit.mode is not mode:
                    self._observer.circuit(lane.receiver, lane.circuit.mode)
                task = group.create_task(self._attempt(lane, pending))
                self._under_way.add(task)
                task.add_done_callback(self._ended_task)

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._changed.set()

    async def _wait(self, wake: asyncio.Event, us: int) -> None:
        waits = {
            asyncio.ensure_future(self._clock.sleep(min(us / 1e6, LOOK_AGAIN_S))),
            asyncio.ensure_future(wake.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _attempt(self, lane: Lane, pending: Pending) -> None:
        at_us = self._clock.now_us()
        if pending.number == 0:
            self._observer.first_attempt(lane.receiver, max(at_us - pending.wanted_us, 0))
        answer = await self._send(lane.receiver, pending.call, at_us)
        now_us = self._clock.now_us()
        lane.sending -= 1
        lane.recording += 1
        self._set_circuit(lane, lane.circuit.after(answer.verdict, now_us, answer.retry_after_s))
        tries = pending.number + 1 - pending.ended
        delay_s = next_attempt(tries, answer.verdict, answer.retry_after_s, self._draw())
        next_us = 0 if delay_s is None else now_us + round(delay_s * 1e6)
        self._record(pending, answer, at_us, took_us=max(now_us - at_us, 0), next_us=next_us, lane=lane)
        if lane.disabled:
            for waiting in lane.take_all():
                self._enqueue(waiting, 0)
        elif lane.circuit.mode is Mode.OPEN:
            for old in lane.take_older(now_us - GIVE_UP_US):
                self._end_unsent(old, "given up: the receiver has not answered for 7 days; mend it and send again")
        self._note(lane)

    async def _send(self, receiver: str, call: Call, now_us: int) -> Answer:
        try:
            async with asyncio.timeout(self._limits.send_s):
                return await self._senders[receiver].send(call, now_us)
        except TimeoutError:
            return Answer(Verdict.RETRY, detail=f"no answer within {self._limits.send_s:g} s")
        except Exception as error:  # a fault of ours must stop neither the lane nor the others
            frames = "".join(traceback.format_tb(error.__traceback__))
            # Not its message, which may quote an address that is a secret.
            _log.error("call %s to receiver %s failed by %s\n%s", call.call_id, receiver, type(error).__name__, frames)
            return Answer(Verdict.RETRY, detail=f"fault in the sender: {type(error).__name__}; see the log")

    # What follows

    def _record(
        self,
        pending: Pending,
        answer: Answer,
        at_us: int,
        *,
        took_us: int = 0,
        next_us: int = 0,
        lane: Lane | None = None,
    ) -> None:
        call = pending.call
        outcome = Outcome.FAILED if next_us else Outcome.DEAD
        if answer.verdict is Verdict.DELIVERED:
            outcome = Outcome.DELIVERED
        attempt = Attempt(
            call_id=call.call_id,
            receiver=call.receiver,
            number=pending.number + 1,
            at_us=at_us,
            took_us=took_us,
            outcome=outcome,
            status=answer.status,
            detail=answer.detail,
            next_us=next_us,
        )
        pending.number = attempt.number
        if lane is not None or outcome is Outcome.DEAD:
            self._observer.attempted(call.receiver, outcome, took_us)
        if outcome is Outcome.DEAD:
            _log.warning("call %s to receiver %s is given up: %s", call.call_id, call.receiver, answer.detail)
        elif outcome is Outcome.FAILED:
            _log.info(
                "call %s to receiver %s, attempt %d: %s", call.call_id, call.receiver, attempt.number, answer.detail
            )
        self._recorder.add(attempt, lambda: self._recorded(pending, attempt, lane))

    def _recorded(self, pending: Pending, attempt: Attempt, lane: Lane | None) -> None:
        if lane is not None:
            lane.recording -= 1
        if attempt.outcome is Outcome.FAILED:
            self._enqueue(pending, attempt.next_us)
        else:
            self._remember(attempt.call_id, attempt.outcome)
            self._release(attempt.call_id, attempt.outcome)
        if lane is not None:
            self._note(lane)
        self._changed.set()

    def _remember(self, call_id: str, outcome: Outcome) -> None:
        self._live.pop(call_id, None)
        self._fates[call_id] = outcome
        if len(self._fates) > self._limits.fates:
            self._fates.popitem(last=False)

    def _release(self, call_id: str, outcome: Outcome) -> None:
        """Resolved notices about a call that has ended."""
        for pending in self._held.pop(call_id, ()):
            if outcome is Outcome.DEAD:
                self._drop(pending)
            else:
                self._enqueue(pending, pending.call.not_before_us)

    def _drop(self, pending: Pending) -> None:
        self._end_unsent(pending, "not sent: the call that it is about was never delivered")

    def _end_unsent(self, pending: Pending, why: str) -> None:
        self._record(pending, Answer(Verdict.NEVER, detail=why), self._clock.now_us())

    async def _look_up_forever(self) -> None:
        """Find out how calls ended that are not in memory any more."""
        while True:
            await self._look_up.wait()
            self._look_up.clear()
            wanted = sorted(self._to_look_up)
            if not wanted:
                continue
            try:
                found = await self._store.find(wanted)
            except Exception as error:
                _log.warning("%d calls cannot be looked up yet: %s", len(wanted), error)
                self._look_up.set()
                await self._clock.sleep(LOOK_UP_PAUSE_S)
                continue
            self._to_look_up.difference_update(wanted)
            for stored in found:
                last = max(stored.attempts, key=lambda attempt: attempt.number, default=None)
                if last is not None and last.outcome is not Outcome.FAILED and stored.call.call_id not in self._live:
                    self._remember(stored.call.call_id, last.outcome)
                    self._release(stored.call.call_id, last.outcome)
            self._changed.set()
