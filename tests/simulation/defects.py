"""Defects that were mended, or that might be made: each is put back, and has to be seen.

A text of a file is replaced. `python -m tests.simulation.defects` plays nights over a copy of the
code with each in turn (`make simulate-proof`): of the kind in which it shows soonest. First comes
the night that saw it last (`seen.json`; `--keep` writes down each that is found, at once, so that a
proof which was ended goes on where it stood); only when that sees it no more, others are searched.

Not among them: that an object is removed which a successor has made. Who sees a wrong object there
has lost its lease, and its work is ended before it could (`tests/store/test_transaction.py` shows
that it would not).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.simulation.plan import FORMATS_FROM, PARTS_FROM, RETENTION_FROM, WEBHOOKS_FROM

ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("app", "streams", "sinks", "web", "tests", "compose")
SEEN = Path(__file__).parent / "seen.json"  # by a defect's name, the seed of a night that saw it
_SEEDS = 2000
_FAILED = re.compile(r"^SEED=(?P<seed>\d+)\b.* fails:\n *(?P<how>.*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Defect:
    """What is replaced by what, and where; and in which nights it shows soonest."""

    name: str
    path: str
    before: str
    after: str
    kind: str = ""  # of `plan.KINDS`; any, if none is given
    since: int = 0  # the first seed whose night can meet it

    def is_there(self, root: Path = ROOT) -> bool:
        """Whether the text that it replaces stands once in its file."""
        return (root / self.path).read_text().count(self.before) == 1

    def put_back(self, root: Path) -> None:
        """Replace it."""
        (root / self.path).write_text(self.code())

    def code(self) -> str:
        """Return its file as it is with the defect."""
        return (ROOT / self.path).read_text().replace(self.before, self.after)


DEFECTS: tuple[Defect, ...] = (
    Defect(
        name="a file is left out as soon as it is refused",
        path="app/usecases/leaving_out.py",
        before="        elif await self._times(position) < self.attempts:\n",
        after="        elif False:\n",
        since=PARTS_FROM,
    ),
    Defect(
        name="what is missing is not told",
        path="app/usecases/transfer.py",
        before="            missing = (await self.store.missing_so_far(delivery)).files\n",
        after="            missing = 0\n",
        since=PARTS_FROM,
    ),
    Defect(
        name="what was never listed is not looked for",
        path="app/usecases/never_listed.py",
        before="    missing = [each for each in unlisted if not each.can_be_read]\n",
        after="    missing: list[OrderFile] = []\n",
        since=PARTS_FROM,
    ),
    Defect(
        name="a manifest stays that tells of an archive which is replaced",
        path="app/usecases/completion.py",
        before="            await self.clear()\n",
        after="            pass\n",
        since=PARTS_FROM,
    ),
    Defect(
        name="a compare without the attempt",
        path="app/store/memory/transaction.py",
        before="return (row.state, row.delivery.attempt) == (delivery.state, delivery.attempt)",
        after="return row.state == delivery.state",
        kind="takeovers",
    ),
    Defect(
        name="a lease of another attempt is believed",
        path="app/store/memory/leases.py",
        before="return (row.delivery.attempt, row.lease_owner) == (delivery.attempt, self._owner)",
        after="return row.lease_owner is not None",
    ),
    Defect(
        name="acknowledged before it is saved",
        path="streams/bridge.py",
        before="                await self._save_and_publish(arrival, came)\n",
        after="                await message.ack()\n                await self._save_and_publish(arrival, came)\n",
    ),
    Defect(
        name="appended and not saved",
        path="streams/bridge.py",
        before="            await self._arrivals.save(arrival, since=came)\n            await self._append(arrival)\n",
        after="            await self._append(arrival)\n",
    ),
    Defect(
        name="a return is not recorded",
        path="streams/bridge.py",
        before="        if arrival is not None and message.delivery_mode == DeliveryMode.PERSISTENT:\n",
        after="        if False:\n",
        kind="acknowledgements",
    ),
    Defect(
        name="a message is handed on before it is noted what comes again",
        path="streams/bridge.py",
        before="            await self._all_is_noted(until)\n",
        after="",
        kind="returns",
    ),
    Defect(
        name="what was handled and saved once more takes the note of its copy along",
        path="app/store/memory/arrivals.py",
        before="                if noted is None or session.get(self._database.inbox, ingress_id) is not None:\n",
        after="                if noted is None:\n",
        kind="returns",
    ),
    Defect(
        name="a relay forgets the order",
        path="app/store/memory/outbox.py",
        before="                first\n                and row.due_at",
        after="                row.due_at",
    ),
    Defect(
        name="an order request that may be out is taken back",
        path="app/store/memory/transaction.py",
        before="            lambda row: row.message.delivery_id == delivery.id and row.not_sent,\n",
        after="            lambda row: row.message.delivery_id == delivery.id,\n",
        kind="answers",
    ),
    Defect(
        name="an order request is sent before it is noted",
        path="app/store/memory/outbox.py",
        before="        begun = replace(row, not_sent=False, begun_by=by, due_at=session.now)\n",
        after="        begun = replace(row, begun_by=by, due_at=session.now)\n",
    ),
    Defect(
        name="a later order request overtakes an earlier one",
        path="app/store/memory/outbox.py",
        before="{row.message.delivery_id}\n    if row.message.kind is Kind.ORDER:\n",
        after="{row.message.delivery_id}\n    if False:\n",
    ),
    Defect(
        name="a later answer is applied before an earlier one",
        path="app/usecases/order_progress.py",
        before="        raise _TooEarlyError",
        after="        pass",
        kind="answers",
    ),
    Defect(
        name="a sweep does not wait for another's completion",
        path="app/store/memory/store.py",
        before="                    and not is_made_by_another(row)\n",
        after="",
        kind="shares",
    ),
    Defect(
        name="no fence before an attempt",
        path="app/usecases/transfer.py",
        before="            await self._ask(lease, partial(self.uploads.abort_last, delivery, check=check))\n        if delivery.attempt > 1:\n",
        after="            pass\n        if False:\n",
    ),
    Defect(
        name="orphans of a predecessor are left",
        path="app/usecases/transfer.py",
        before="        if delivery.attempt > 1:\n            # A predecessor",
        after="        if False:\n            # A predecessor",
    ),
    Defect(
        name="an opening that was not answered is asked for again",
        path="app/usecases/transfer.py",
        before="        opening = asyncio.ensure_future(create())\n",
        after="        opening = asyncio.ensure_future(self._ask(lease, create))\n",
        kind="takeovers",
    ),
    Defect(
        name="an abort does not look whose it is",
        path="app/usecases/uploads.py",
        before="            if upload.upload_id not in kept:\n",
        after="            if True:\n",
        kind="resumes",
    ),
    Defect(
        name="completed without asking the database",
        path="app/usecases/completion.py",
        before="            return await until_answered(note, good=self.lease.safe_to_complete)\n",
        after="            return Allowed()\n",
    ),
    Defect(
        name="completed without a lease",
        path="app/usecases/completion.py",
        before="        if not self.lease.safe_to_complete():\n            return None\n",
        after="",
        kind="takeovers",
    ),
    Defect(
        name="an answer to the end that was lost is a defeat",
        path="app/usecases/transfer.py",
        before="                return finished or (again and await self.store.done_by(delivery))\n",
        after="                return finished\n",
        kind="completions",
    ),
    Defect(
        name="what was completed before is not looked for",
        path="app/usecases/transfer.py",
        before="        unfinished = await self._fence(delivery, target, key, lease)\n"
        "        result = await self._completed_before(delivery, target, key, lease)\n",
        after="        unfinished = await self._fence(delivery, target, key, lease)\n"
        "        result = None\n",
        kind="completions",
    ),
    Defect(
        name="how far an archive is, is saved without a look at the attempt",
        path="app/store/memory/checkpoints.py",
        before="                row.delivery.attempt == delivery.attempt\n"
        "                and row.lease_owner == self._owner\n"
        "                and row.state",
        after="                row.state",
        kind="resumes",
    ),
    Defect(
        name="parts that were sent are not compared with those that are there",
        path="app/usecases/resume.py",
        before="        same = _same(checkpoint, there)\n",
        after="        same = len(checkpoint.parts)\n",
        kind="resumes",
    ),
    Defect(
        name="a failed attempt leaves its upload",
        path="app/usecases/transfer.py",
        before="            with suppress(DeliveryError):\n                await self.objects.abort(target, upload)\n            if isinstance(error, WrongObjectError):\n",
        after="            if isinstance(error, WrongObjectError):\n",
        kind="ends",
    ),
    Defect(
        name="a sweep forgets what it could not ask",
        path="app/usecases/sweep.py",
        before="                passing, pause = passing or error, max(pause, _BACKOFF.first)\n",
        after="                passing = passing or error\n",
        kind="waits",
    ),
    Defect(
        name="a sweep does not wait for completions",
        path="app/store/memory/store.py",
        before="                return row.completing_until is None or row.completing_until < then\n",
        after="                return True\n",
        kind="shares",
    ),
    Defect(
        name="late objects stay",
        path="app/usecases/sweep.py",
        before="            await removal.remove_late(delivery, leftover.recorded)\n",
        after="            del removal\n",
        kind="outages",
    ),
    Defect(
        name="the answer to an order that ended is not awaited",
        path="app/usecases/fail.py",
        before="        await tx.await_order(delivery)\n",
        after="        pass\n",
    ),
    Defect(
        name="an order that is named late is not cancelled",
        path="app/usecases/order_progress.py",
        before="        await tx.enqueue(outgoing.cancel(ended, event.order_id))\n",
        after="        pass\n",
    ),
    Defect(
        name="a new order is anybody's",
        path="app/usecases/order_progress.py",
        before="    if not _waits(active) or any(ended.order != active.order for ended in awaited):\n",
        after="    if not _waits(active):\n",
        kind="answers",
    ),
    Defect(
        name="an order request does not wait for the answer to another",
        path="app/store/memory/outbox.py",
        before="        if row.message.kind is not Kind.ORDER or not row.not_sent or own is None:\n            return False\n        since",
        after="        if True:\n            return False\n        since",
        kind="orders",
    ),
    Defect(
        name="an answer that may be either's is waited for",
        path="app/usecases/order_progress.py",
        before="            if _waits(active) and not await tx.order_is_unsent(active):\n",
        after="            if False:\n",
        kind="orders",
    ),
    Defect(
        name="an answer that was overtaken belongs to no delivery",
        path="app/usecases/order_progress.py",
        before="    if not awaited and active is None:\n",
        after="    if False:\n",
        kind="overtaken",
    ),
    Defect(
        name="an order of an earlier delivery is taken",
        path="app/usecases/order_progress.py",
        before="        if awaited is None:\n            return None, False\n",
        after="        if awaited is None:\n            awaited = await tx.awaited_orders(*key, arrived_at)\n",
    ),
    Defect(
        name="an old event is about a new delivery",
        path="app/usecases/order_progress.py",
        before="        if active is not None and arrived_at is not None and arrived_at < active.requested_at:\n            active = None\n",
        after="",
        kind="overtaken",
    ),
    Defect(
        name="the failed order is not cancelled",
        path="app/usecases/fail.py",
        before="    if cancel and known is not None:\n",
        after="    if False:\n",
    ),
    Defect(
        name="repeats count",
        path="app/store/memory/transaction.py",
        before="            counted=not copy,\n",
        after="            counted=True,\n",
    ),
    Defect(
        name="events are acknowledged past others",
        path="streams/kafka/dispatch.py",
        before="        while partition and partition[0].done:\n            self._acknowledge(partition.popleft())\n",
        after="        partition.remove(event)\n        self._acknowledge(event)\n",
    ),
    Defect(
        name="an event that fails is skipped",
        path="streams/kafka/agents.py",
        before='            log.warning("events_wait", topic=topic, events=len(batch), cause=str(error))\n',
        after="            return\n",
    ),
    Defect(
        name="a lost lease goes on",
        path="streams/work/slots.py",
        before="                    if not await ask(delivery) and lease.ends_when_gone():\n                        return False\n",
        after="                    await ask(delivery)\n",
        kind="takeovers",
    ),
    Defect(
        name="lost events are not looked for",
        path="app/usecases/reconcile.py",
        before="        overdue = await arrivals.overdue(limit)\n",
        after="        overdue = []\n",
    ),
    Defect(
        name="expiry does not look which delivery it is",
        path="app/usecases/expire.py",
        before="                if current is None or current.id != delivery.id:\n                    continue\n",
        after="                if current is None:\n                    continue\n",
        kind="expiries",
    ),
    Defect(
        name="a user's answer is not waited for",
        path="app/usecases/submit.py",
        before="            if await tx.advance(delivery, State.GRANTED):\n                await _granted(tx, [delivery], tenants=tenants)\n",
        after="            await tx.advance(delivery, State.GRANTED)\n            await _granted(tx, [delivery], tenants=tenants)\n",
        kind="checks",
    ),
    Defect(
        name="a wrong file passes",
        path="tests/simulation/archives.py",
        before=(
            "        if any(one not in (None, other) for one, other in "
            "zip(told, found, strict=True)):\n"
        ),
        after="        if False:\n",
    ),
    Defect(
        name="a lease of the same worker's earlier attempt is believed",
        path="app/store/memory/leases.py",
        before="return (row.delivery.attempt, row.lease_owner) == (delivery.attempt, self._owner)",
        after="return row.lease_owner == self._owner",
        kind="takeovers",
    ),
    Defect(
        name="another worker's lease is believed",
        path="app/store/memory/leases.py",
        before="return (row.delivery.attempt, row.lease_owner) == (delivery.attempt, self._owner)",
        after="return row.delivery.attempt == delivery.attempt",
        kind="takeovers",
    ),
    Defect(
        name="what is leased is claimed",
        path="app/store/memory/leases.py",
        before="            if row.is_leased(now):\n                running[tenant] += 1\n                continue\n",
        after="",
    ),
    Defect(
        name="the end by another attempt is taken for one's own",
        path="app/store/memory/store.py",
        before="            row is not None and row.state is State.DONE and row.delivery.attempt == delivery.attempt\n",
        after="            row is not None and row.state is State.DONE\n",
        kind="completions",
    ),
    Defect(
        name="an object is removed that a client was told",
        path="app/usecases/remove.py",
        before="            if await tx.relied_on(delivery, url, found.etag, namespace=target.namespace):\n                return False\n",
        after="",
        kind="late",
    ),
    Defect(
        name="what is removed is not looked at",
        path="app/usecases/remove.py",
        before="    return found is not None and found.has(marks_of(delivery))\n",
        after="    return found is not None\n",
        kind="late",
    ),
    Defect(
        name="acknowledged before Kafka has it",
        path="streams/bridge.py",
        before="            await self._arrivals.save(arrival, since=came)\n            await self._append(arrival)\n",
        after="            await self._arrivals.save(arrival, since=came)\n",
        kind="returns",
    ),
    Defect(
        name="a dead letter is acknowledged before it is copied",
        path="streams/bridge.py",
        before='        await self._insist(copy_it, example=f"{queue}, to be buried: {reason}")\n',
        after='        await message.ack()\n        await self._insist(copy_it, example="")\n        return\n',
    ),
    Defect(
        name="a dead letter is not copied",
        path="streams/bridge.py",
        before='        await self._insist(copy_it, example=f"{queue}, to be buried: {reason}")\n',
        after="        del copy_it\n",
    ),
    Defect(
        name="a message that is cut off is not noted",
        path="streams/bridge.py",
        before="            # So aio-pika ends what it called when the channel of its message is closed.\n            self._comes_again(arrival, message)\n",
        after="",
        kind="returns",
    ),
    Defect(
        name="a lost acknowledgement is not noted",
        path="streams/bridge.py",
        before="                    self._unheard.sent(arrival.ingress_id)\n",
        after="                    pass\n",
        kind="acknowledgements",
    ),
    Defect(
        name="an event is acknowledged before it is handled",
        path="streams/kafka/dispatch.py",
        before="            await self._handle(batch)\n            for event in batch:\n                self._done(event)\n",
        after="            for event in batch:\n                self._done(event)\n            await self._handle(batch)\n            for event in batch:\n",
        kind="returns",
    ),
    Defect(
        name="events of one delivery are handled at once",
        path="streams/kafka/agents.py",
        before='                            key=event.key or b"",\n',
        after='                            key=(event.key or b"") + __import__("os").urandom(4),\n',
        kind="orders",
    ),
    Defect(
        name="a message that was not confirmed counts as sent",
        path="app/store/memory/outbox.py",
        before="            if outcome is None:\n",
        after="            if True:\n",
        kind="orders",
    ),
    Defect(
        name="a message that waits holds up none behind it",
        path="app/store/memory/outbox.py",
        before="            behind |= names\n",
        after="            if row.due_at <= session.now:\n                behind |= names\n",
        kind="orders",
    ),
    Defect(
        name="a message that another relay sends holds up none behind it",
        path="app/store/memory/outbox.py",
        before="            behind |= names\n",
        after="            if not session.skips(self._database.outbox, row.id):\n                behind |= names\n",
        kind="orders",
    ),
    Defect(
        name="the newest message goes first",
        path="app/store/memory/outbox.py",
        before="in sorted(session.rows(self._database.outbox, lane)):\n            of_tenant",
        after="in sorted(session.rows(self._database.outbox, lane), reverse=True):\n            of_tenant",
        kind="orders",
    ),
    Defect(
        name="whatever fails was not sent",
        path="app/store/memory/outbox.py",
        before="            not_sent=surely and not repeated,\n",
        after="            not_sent=True,\n",
        kind="orders",
    ),
    Defect(
        name="an answer is for the newest order that has none",
        path="app/store/memory/transaction.py",
        before="        found.sort(key=lambda row: (row[1].delivery.requested_at, row[0]))\n",
        after="        found.sort(key=lambda row: (row[1].delivery.requested_at, row[0]), reverse=True)\n",
        kind="answers",
    ),
    Defect(
        name="others' uploads are looked up before the open ones are listed",
        path="app/usecases/uploads.py",
        before="        found = await self.objects.open_uploads(target, key)\n        if not found:\n            return True\n        others = await self.store.uploads_of_others(delivery, container=target.container, key=key)\n",
        after="        others = await self.store.uploads_of_others(delivery, container=target.container, key=key)\n        found = await self.objects.open_uploads(target, key)\n",
        kind="shares",
    ),
    Defect(
        name="uploads are aborted in doubt",
        path="app/usecases/uploads.py",
        before="        if others is None:\n            return False\n",
        after="        others = others or frozenset()\n",
        kind="shares",
    ),
    Defect(
        name="the last upload is not aborted, nor orphans",
        path="app/usecases/sweep.py",
        before="                pause = max(pause, await step(leftover))\n",
        after="                pass\n",
        kind="takeovers",
    ),
    Defect(
        name="an archive of an earlier attempt is not looked at",
        path="app/usecases/transfer.py",
        before="        if found is None or (found.size, found.etag) != (completed.size, completed.etag):\n            return None\n        if not found.has(marks_of(delivery)):\n            return None\n",
        after="",
        kind="takeovers",
    ),
    Defect(
        name="another's object is replaced",
        path="sinks/stores/memory.py",
        before="            expected.check_replaceable(found, target, upload.key)\n",
        after="            pass\n",
        kind="shares",
    ),
    Defect(
        name="what was being completed is forgotten at the end",
        path="app/store/memory/transaction.py",
        before="                completing=None if done else old.completing,\n",
        after="                completing=None,\n",
        kind="shares",
    ),
    Defect(
        name="what was cancelled meanwhile is denied",
        path="app/usecases/submit.py",
        before="        if await tx.delete_ungranted(delivery):\n            await _denied",
        after="        await tx.delete_ungranted(delivery)\n        if True:\n            await _denied",
        kind="checks",
    ),
    Defect(
        name="a copy is not known by its flag",
        path="app/store/memory/transaction.py",
        before="            if known.counted and (ingress.redelivered or (known.flagged and overtook)):\n",
        after="            if known.counted and known.flagged and overtook:\n",
        kind="returns",
    ),
    Defect(
        name="an old cancel ends a new delivery",
        path="app/usecases/intervene.py",
        before="    if arrived_at < active.requested_at:\n",
        after="    if False:\n",
        kind="returns",
    ),
    Defect(
        name="an end is told whichever it is",
        path="app/usecases/fail.py",
        before="        order_id=known,\n    ):\n        return None\n",
        after="        order_id=known,\n    ):\n        pass\n",
        kind="plans",
    ),
    Defect(
        name="a bridge takes all there is",
        path="streams/bridge.py",
        before="        await channel.set_qos(prefetch_count=self._per_consumer)\n",
        after="",
    ),
    Defect(
        name="an agent takes all there is",
        path="streams/kafka/dispatch.py",
        before="            await self._room.wait()\n",
        after="",
    ),
    Defect(
        name="a relay takes all there is",
        path="app/store/memory/outbox.py",
        before="for row in waiting[tenant][:share]]",
        after="for row in waiting[tenant]]",
    ),
    Defect(
        name="a slot is given up twice",
        path="app/delivery/lease.py",
        before="        if self._in_place:\n            self._in_place = False\n",
        after="        if True:\n            self._in_place = False\n",
    ),
    Defect(
        name="a slot is not given up",
        path="streams/work/slots.py",
        before="        self._running.pop(task).leave()\n",
        after="        self._running.pop(task)\n",
    ),
    Defect(
        name="memory is not waited for",
        path="sinks/pipeline/budget.py",
        before="            while self._free < size:\n",
        after="            while False:\n",
    ),
    Defect(
        name="memory is not given back after a failure",
        path="sinks/pipeline/budget.py",
        before="        try:\n            yield\n        finally:\n            self._free += size\n",
        after="        if True:\n            yield\n            self._free += size\n",
    ),
    Defect(
        name="memory without work has no bound",
        path="sinks/pipeline/budget.py",
        before="        if self._lent and self._lent + size > self.size // 2:\n",
        after="        if False:\n",
        kind="waits",
    ),
    Defect(
        name="each wait leaves a waiter",
        path="streams/work/slots.py",
        before="            await self._waiter.wait(self._interval)\n",
        after="            await self._wake.waiter().wait(self._interval)\n",
    ),
    Defect(
        name="a lease is renewed after its work",
        path="streams/work/slots.py",
        before="        finally:\n            renewal_task.cancel()\n",
        after="        finally:\n            pass\n",
    ),
    Defect(
        name="each process sweeps",
        path="streams/work/timers.py",
        before="        if leads:\n",
        after="        if True:\n",
        kind="ends",
    ),
    Defect(
        name="an upload that is gone on with is aborted",
        path="app/usecases/transfer.py",
        before="            if await self.resumption.is_kept(delivery, upload, for_another=ends):\n                raise\n",
        after="",
        kind="takeovers",
    ),
    Defect(
        name="what is removed in time may be another delivery's",
        path="app/usecases/retention.py",
        before="        return found if ours else None\n",
        after="        return found if ours or found else None\n",
        since=RETENTION_FROM,
    ),
    Defect(
        name="what was delivered is removed before its time",
        path="app/store/memory/rows.py",
        before="and (self.asked_at is not None or at <= now)",
        after="and (self.asked_at is not None or at > now)",
        since=RETENTION_FROM,
    ),
    Defect(
        name="what another has locked is claimed",
        path="app/store/memory/leases.py",
        before="            if not session.skips(self._database.deliveries, delivery_id):\n                first[tenant] = row\n",
        after="            first[tenant] = row\n",
        kind="takeovers",
    ),
    Defect(
        name="a lease is renewed, whose ever it is",
        path="app/store/memory/leases.py",
        before="            renewed = await self._change(\n                session, delivery, lambda row: replace(row, lease_until=until)\n            )\n",
        after="            renewed = await deliveries.update(self._database, session, delivery.id, lambda row: replace(row, lease_until=until)) is not None\n",
        kind="takeovers",
    ),
    Defect(
        name="an end does not wait for a completion",
        path="app/store/memory/store.py",
        before="                return row.completing_until is None or row.completing_until <= session.now\n            if row.delivery.expires_at",
        after="                return True\n            if row.delivery.expires_at",
        kind="completions",
    ),
    Defect(
        name="an expiry does not look at the time",
        path="app/store/memory/store.py",
        before="            if row.delivery.expires_at > session.now:\n                return False\n            # What waits",
        after="            # What waits",
    ),
    Defect(
        name="what is appended again is forgotten",
        path="app/usecases/reconcile.py",
        before="        appended = await _append(overdue, arrivals, append)\n",
        after="        appended = await _append(overdue, arrivals, append)\n        await arrivals.forget([arrival.ingress_id for arrival in overdue])\n",
        kind="answers",
    ),
    Defect(
        name="what may come late is forgotten",
        path="app/store/memory/checkpoints.py",
        before="                if row.until < session.now - took:\n",
        after="                if True:\n",
        kind="takeovers",
        since=FORMATS_FROM,
    ),
    Defect(
        name="files are put before it is noted where",
        path="app/usecases/transfer.py",
        before="                await self._ask(lease, partial(folder.begin, upload, goes_on=after is not None))\n",
        after="                pass\n",
        since=FORMATS_FROM,
    ),
    Defect(
        name="an event is forgotten before it is sent",
        path="app/usecases/webhooks.py",
        before="        answer = await post(event, owed.happened_at)\n",
        after="        await self.outbox.sent(owed)\n        answer = await post(event, owed.happened_at)\n",
        since=WEBHOOKS_FROM,
    ),
    Defect(
        name="what a webhook refuses counts as taken",
        path="app/usecases/webhooks.py",
        before="        if answer.taken:\n            await self.outbox.sent(owed)\n",
        after="        await self.outbox.sent(owed)\n        if answer.taken:\n",
        since=WEBHOOKS_FROM,
    ),
    Defect(
        name="two workers send to a webhook",
        path="app/store/memory/webhooks.py",
        before="                lambda row: (row.claimed_until or _NEVER) <= session.now,\n            )\n            if taken_row is None:\n",
        after="                lambda _row: True,\n            )\n            if taken_row is None:\n",
        since=WEBHOOKS_FROM,
    ),
    Defect(
        name="a webhook hears of a delivery in any order",
        path="app/store/memory/webhooks.py",
        before="            if row.due_at <= session.now and delivery not in held:\n",
        after="            if row.due_at <= session.now:\n",
        since=WEBHOOKS_FROM,
    ),
    Defect(
        name="no webhook is owed what its client is",
        path="app/store/memory/transaction.py",
        before="        await self._tell([event for event in map(event_of, messages) if event is not None])\n",
        after="        pass\n",
        since=WEBHOOKS_FROM,
    ),
    Defect(
        name="what is removed in time is told to no webhook",
        path="app/usecases/content_news.py",
        before="    await tx.tell(_event_of(content, news))\n",
        after="    pass\n",
        since=WEBHOOKS_FROM,
    ),
)


def _copy(folder: Path) -> None:
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def _play(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def _fails_without(seed: int, kind: str) -> bool:
    """Whether a night fails of itself, with no defect put back."""
    return _play(ROOT, f"--seed={seed}", *_of(kind)).returncode != 0


def _of(kind: str) -> list[str]:
    return [f"--kind={kind}"] if kind else []


def seen_by() -> dict[str, int]:
    """Return by which seeds defects were seen, by their names."""
    seeds: dict[str, int] = json.loads(SEEN.read_text())
    return seeds


def keep(defect: Defect, seed: int) -> None:
    """Write down which seed a defect was seen by."""
    kept = seen_by() | {defect.name: seed}
    SEEN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a defect showed."""

    seed: int
    how: str


def find(
    defect: Defect, *, seeds: int = _SEEDS, jobs: int = 1, known: int | None = None
) -> Sight | str:
    """Return how a defect shows, first in the night of a `known` seed; why not, if none sees it."""
    with tempfile.TemporaryDirectory(prefix="rs-delivery-defect-") as name:
        folder = Path(name)
        _copy(folder)
        defect.put_back(folder)
        if known is not None:
            sight = _search(folder, defect, range(known, known + 1), jobs=1)
            if isinstance(sight, Sight):
                return sight
        return _search(folder, defect, range(defect.since, defect.since + seeds), jobs=jobs)


def _search(folder: Path, defect: Defect, seeds: range, *, jobs: int) -> Sight | str:
    options = [*_of(defect.kind), f"--jobs={jobs}"]
    first = seeds.start
    while (left := seeds.stop - first) > 0:
        played = _play(folder, "--plain", f"--first={first}", f"--seeds={left}", *options)
        if played.returncode == 0:
            break
        failed = _FAILED.search(played.stdout)
        if failed is None:
            return f"it does not run: {played.stderr[-500:]}"
        seed = int(failed["seed"])
        if not _fails_without(seed, defect.kind):
            return Sight(seed=seed, how=failed["how"])
        first = seed + 1  # what fails of itself shows nothing
    return "NOT SEEN"


def main() -> int:
    """Put each back in turn; tell how it shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="of defects' names; all, if none is given")
    parser.add_argument("--seeds", type=int, default=_SEEDS, help="at most (%(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="how many at a time (%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="write down by which seeds they show")
    parser.add_argument("--new", action="store_true", help="only those that no seed is kept of")
    options = parser.parse_args()
    began, seen, known = time.monotonic(), 0, seen_by()
    chosen = [
        each
        for each in DEFECTS
        if (not options.parts or any(part in each.name for part in options.parts))
        and not (options.new and each.name in known)
    ]

    def look(defect: Defect) -> Sight | str:
        return find(defect, seeds=options.seeds, known=known.get(defect.name))

    with ThreadPoolExecutor(options.jobs) as threads:
        for defect, sight in zip(chosen, threads.map(look, chosen), strict=True):
            if not isinstance(sight, Sight):
                _say(f"{defect.name:60} {sight}")
                continue
            seen += 1
            named = f" KIND={defect.kind}" if defect.kind else ""
            _say(f"{defect.name:60} SEED={sight.seed}{named}: {sight.how[:110]}")
            if options.keep:
                keep(defect, sight.seed)
    _say(f"{seen} of {len(chosen)} are seen, in {time.monotonic() - began:.0f} s")
    return 0 if seen == len(chosen) else 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
