"""Makes attempts of what is to be sent: open attempts of earlier processes, parts to send again, and then the plan."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import anyio
from anyio.abc import ObjectSendStream

from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import DamagedError, ExitStatus
from classify_batch.lifecycle import Ended, Recheck, Tally
from classify_batch.limits import JobSlots
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.limits.reader_pace import ReaderPace
from classify_batch.model import AmbiguousCreate, Attempt, AttemptKey, FirstAnswer, Job, Part
from classify_batch.ports import RunStore
from classify_batch.rundir.cost import Price
from classify_batch.rundir.journal.entry import read_part
from classify_batch.rundir.journal.line import DAMAGED_HINT
from classify_batch.rundir.journal.open_attempts import OpenAttempt
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.outcome_lines import read_first_answers
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.retry_file import RetryBatch, pending_retry_batches
from classify_batch.vocabulary import CREDITS, Kind, Log, retry_name


@dataclass(frozen=True, slots=True)
class PlannedFiles:
    """The files that are to be sent.

    Attributes:
        carries: whether the plan has columns of the input beside its file IDs.
        bring_documents: whether its file IDs are contents, which are brought to the project before they are sent.
    """

    plan: PlanReader
    carries: bool = False
    bring_documents: bool = False


class WorkQueue:
    """Makes attempts of parts, each with its slot and its credits.

    Attributes:
        exhausted: whether nothing waits to be sent now.
    """

    def __init__(
        self,
        store: RunStore,
        files: PlannedFiles,
        journal: JournalWriter,
        slots: JobSlots,
        shutdown: Shutdown,
        budget: CreditBudget,
        price: Price,
        pace: ReaderPace | None = None,
    ) -> None:
        """`pace`: holds creates back while the reader of the outcomes is behind; None: nobody reads them."""
        self._pace = pace
        self._store = store
        self._files = files
        self._plan = files.plan
        self._journal = journal
        self._snapshot = journal.snapshot
        self._slots = slots
        self._shutdown = shutdown
        self._budget = budget
        self._price = price
        self._requeued: deque[Part] = deque()
        self._news = anyio.Event()
        self._all_resumed = anyio.Event()
        self.exhausted = False

    def requeue(self, parts: Iterable[Part]) -> None:
        """Queues parts that are sent again, before all that was never sent."""
        self._requeued.extend(parts)
        self.exhausted = False
        self._news.set()

    async def resume_open_attempts(
        self,
        submitted: ObjectSendStream[Job],
        ambiguous: ObjectSendStream[AmbiguousCreate],
        *,
        last_sent_s: float,
        accept_s: float,
        on_all_resumed: Callable[[], None] = lambda: None,
        on_rechecks: Callable[[], None] = lambda: None,
    ) -> None:
        """Sends the attempts that an earlier process left open to the poller or to the reconciler. Those of other
        accounts are left alone: only their keys can ask what became of them.

        There may be more of them than may be in flight now: each waits for a slot, so that memory holds the files of no
        more jobs than that, and nothing new is sent before each has one.

        Args:
            last_sent_s: the event loop's time from which on no call of an earlier process can be sent: when this one
                took the run over.
            accept_s: for how long after that one may still be accepted.
            on_all_resumed: is called when all of them have a slot.
            on_rechecks: is called when old jobs of failed files are in flight again.
        """
        if self._pace is not None:
            self._pace.mark_started()
        async with submitted, ambiguous, aclosing(self._take_over_open_attempts(on_rechecks)) as attempts:
            async for key, open_attempt in attempts:
                await self._slots.acquire()
                attempt = await self._resume_attempt(key, open_attempt)
                if open_attempt.job_id is None:
                    await ambiguous.send(AmbiguousCreate(attempt, last_sent_s, accept_s))
                else:
                    since_s = open_attempt.waits_since_s or open_attempt.since_s
                    await submitted.send(
                        Job(attempt, open_attempt.job_id, since_s, timed=False, is_recheck=open_attempt.is_recheck)
                    )
        self._all_resumed.set()
        on_all_resumed()

    async def _take_over_open_attempts(
        self, on_rechecks: Callable[[], None]
    ) -> AsyncGenerator[tuple[AttemptKey, OpenAttempt], None]:
        """The attempts that an earlier process left open, accepted ones first; then those of failed files that are
        retried, a batch at a time. Those that only named what could not be brought end here."""
        # A copy: while this one waits for slots, attempts end and others begin.
        for key, open_attempt in sorted(self._snapshot.open_attempts.items(), key=accepted_first):
            if not self._snapshot.is_own(open_attempt):
                continue
            if self._files.bring_documents and has_nothing_to_send(open_attempt):
                # Its process was killed between the intent and the end that belongs to it: nothing was sent.
                spent = Tally(sums={CREDITS: -open_attempt.credits})
                self._journal.record(Ended(key, Kind.REJECTED, tally=spent, requeued=(open_attempt.part,)))
            else:
                yield key, open_attempt
        if (generation := self._snapshot.generation) and generation not in self._snapshot.pending_retries:
            await self._store.remove(retry_name(generation))  # a killed process may have left it
        async with aclosing(pending_retry_batches(self._store, self._snapshot, rechecks_only=True)) as batches:
            async for batch in batches:
                keys = await self._begin_retrying(batch)
                on_rechecks()
                for key in keys:
                    if self._snapshot.is_own(open_attempt := self._snapshot.open_attempts[key]):
                        yield key, open_attempt

    async def _begin_retrying(self, batch: RetryBatch) -> list[AttemptKey]:
        """Goes on with some failed files: queues the parts that are sent again, and returns the attempts whose jobs are
        read first."""
        keys: list[AttemptKey] = []
        for recheck in batch.rechecks:
            keys.append(self._renumber_if_open(recheck, keys))
        # In the journal before the queue has any of it: none of these may be sent while the file still names them.
        self._journal.record_about_run(Kind.RETRIED, batch.as_retried())
        self._budget.resume_reserved(sum(self._snapshot.is_own(self._snapshot.open_attempts[key]) for key in keys))
        self._requeued.extend(read_part(item["chunk"], item) for item in batch.requeued)
        if batch.generation not in self._snapshot.pending_retries:
            await self._journal.wait_durable()
            # Not before the last line is durable as taken: until then only the file names those parts.
            await self._store.remove(retry_name(batch.generation))
        return keys

    def _renumber_if_open(self, recheck: Recheck, taken: Sequence[AttemptKey]) -> AttemptKey:
        """Files of one attempt may have failed in several ways, and each of these is an attempt of its own now."""
        key = AttemptKey(recheck["chunk"], recheck["attempt"])
        if key in self._snapshot.open_attempts or key in taken:
            key = AttemptKey(key.chunk, self._journal.allot_attempt(key.chunk))
            recheck["attempt"] = key.attempt
        return key

    async def send_parts_to_submit(self, to_submit: ObjectSendStream[Attempt]) -> None:
        """Sends attempts to the submitters for as long as the run creates jobs."""
        async with to_submit, aclosing(self._parts_to_send()) as parts:
            # What is out already goes first, since it may be paid: nothing new takes its slots.
            await self._all_resumed.wait()
            async for part, chunk_file_ids in parts:
                if self._pace is not None:
                    await self._pace.wait_for_reader(self._snapshot.outcomes.total)
                await self._slots.acquire()
                credits = self._price.cost_of_create(part, part.pick_file_ids(chunk_file_ids))
                if self._shutdown.creating and not await self._budget.reserve_when_free(credits):
                    self._shutdown.request_stop(stop_for_max_credits(credits, self._budget))
                # Asked after both waits: a stop may have come in either.
                if not self._shutdown.creating:
                    self._slots.release()
                    return
                # Numbered last: what a stop gives back has used no number up.
                key = AttemptKey(part.chunk, self._journal.allot_attempt(part.chunk))
                await to_submit.send(await self._new_attempt(key, part, chunk_file_ids, credits))

    async def _parts_to_send(self) -> AsyncGenerator[tuple[Part, list[str]], None]:
        """What is to be sent, with the file IDs of its whole chunk: queued parts first, then the failed files that are
        retried, then the plan."""
        async with aclosing(pending_retry_batches(self._store, self._snapshot)) as batches:
            while self._requeued:
                yield await self._next_requeued()
            async for batch in batches:
                await self._begin_retrying(batch)
                while self._requeued:
                    yield await self._next_requeued()
        async with aclosing(self._plan.stream(wanted=self._snapshot.is_planned)) as chunks:
            async for number, chunk_file_ids in chunks:
                while self._requeued:
                    yield await self._next_requeued()
                yield Part(number), chunk_file_ids
        while True:
            while self._requeued:
                yield await self._next_requeued()
            # Nothing is awaited since the queue was seen empty: a part that comes from now on sets this event.
            self._news, self.exhausted = anyio.Event(), True
            await self._news.wait()

    async def _next_requeued(self) -> tuple[Part, list[str]]:
        part = self._requeued.popleft()
        return part, await self._plan.file_ids(part.chunk)

    async def _resume_attempt(self, key: AttemptKey, open_attempt: OpenAttempt) -> Attempt:
        chunk_file_ids = await self._plan.file_ids(key.chunk)
        attempt = await self._new_attempt(key, open_attempt.part, chunk_file_ids, open_attempt.credits)
        waits_since_s = open_attempt.waits_since_s or 0.0
        return replace(
            attempt,
            since_s=open_attempt.since_s,
            waits_since_s=waits_since_s,
            server_s=open_attempt.server_s,
            ambiguous=True,  # until something proves that no call of the earlier process was accepted
            sent_ids=open_attempt.sent_ids,
        )

    async def _new_attempt(
        self,
        key: AttemptKey,
        part: Part,
        chunk_file_ids: list[str],
        credits: float,
    ) -> Attempt:
        positions = tuple(part.positions(len(chunk_file_ids)))
        file_ids = part.pick_file_ids(chunk_file_ids)
        first_answers = await self._read_first_answers(part, file_ids)
        carried = await self._plan.carried(key.chunk) if self._files.carries else {}
        return Attempt(key, part, file_ids, positions, credits=credits, first_answers=first_answers, carried=carried)

    async def _read_first_answers(self, part: Part, file_ids: tuple[str, ...]) -> dict[str, FirstAnswer]:
        """What the first look said of each file of a second one.

        Raises:
            DamagedError: the first answers are not there as they were written.
        """
        if part.first is None:
            return {}
        await self._journal.wait_durable()  # what was just appended may still be on its way to the disk
        start, end = part.first
        try:
            found = read_first_answers(await self._store.read(Log.PROVISIONAL, start, end))
            return {file_id: found[file_id] for file_id in file_ids}
        except (FileNotFoundError, ValueError, LookupError):
            raise DamagedError(
                f"{Log.PROVISIONAL} in {self._store.where}, bytes {start} to {end}: not the first answers of chunk "
                f"{part.chunk}",
                hint=DAMAGED_HINT,
            ) from None


def has_nothing_to_send(open_attempt: OpenAttempt) -> bool:
    """Whether an open attempt of documents named only what could not be brought: see lifecycle.Submitting."""
    return open_attempt.job_id is None and not open_attempt.sent_ids and not open_attempt.is_recheck


def accepted_first(item: tuple[AttemptKey, OpenAttempt]) -> bool:
    """Sorts accepted attempts first: they were paid, and there may be more of them than slots."""
    return item[1].job_id is None


def stop_for_max_credits(credits: float, budget: CreditBudget) -> Stop:
    of_account = budget.account is not None
    bound = f"max_credits of account {budget.account}" if of_account else "limits.max_credits"
    return Stop(
        f"the next job can cost {credits:,.10g} credits, which {bound} doesn't leave: "
        f"{budget.reserved:,.10g} are spent or set aside",
        ExitStatus.PERSON,
        "give the account more, then the same command"
        if of_account
        else "give more with --max-credits, then the same command",
        collects=True,
        of_account=of_account,
    )
