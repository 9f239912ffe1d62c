"""Creating jobs by single calls: one on v1, one for each file on v2.

Whoever gives a command again pays for its jobs again, unless a transaction ID says that they are the same. So where it
ends in the middle, it says what was made and what is in doubt, and no scheduler may give it again unasked.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from uuid import uuid4

from classify_batch.errors import (
    ApiError,
    ClassifyBatchError,
    ExitStatus,
    InterruptedEarlyError,
    SourceError,
    UsageError,
    Verdict,
    WorldError,
)
from classify_batch.file_keys import file_keys
from classify_batch.inputs.open import PROJECT, open_source
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import FileList
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.llamacloud.single_calls import CreateRequest
from classify_batch.operations.jobs.single_calls import (
    LOOK_FIRST,
    PERHAPS_ACCEPTED,
    connected,
    ended,
    require,
    verbs_of,
)
from classify_batch.operations.own_task import in_own_task
from classify_batch.settings import Settings
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import FILES_PER_JOB_MAX


class CreateJobs:
    """One command's creates, and how far they came.

    Args:
        transaction_id: v2's idempotency key, for one file; None: a new one for each.
        tell: is given each job as it is made.

    Raises:
        UsageError: v1 has no transaction IDs.
    """

    def __init__(self, settings: Settings, transaction_id: str | None, tell: Callable[[Body], None]) -> None:
        if transaction_id is not None:
            version = settings.api.version
            require(settings.api.capabilities.idempotent_creates, f"{version} of the API has no transaction IDs")
        self._settings = settings
        self._transaction_id = transaction_id
        self._tell = tell
        self._out: CreateRequest | None = None
        self._made = 0

    async def run(self, file_ids: Sequence[str], source: str | None = None, column: str | None = None) -> None:
        """Creates the job of `file_ids` and what `source` holds, on v2 one for each; repeated IDs are sent once.

        Raises:
            UsageError: settings or IDs don't fit; nothing was sent.
            ApiError, WorldError: the message tells what was made before, and what may have been accepted.
        """
        await in_own_task(partial(self._work, file_ids, source, column))

    async def _work(self, file_ids: Sequence[str], source: str | None, column: str | None) -> None:
        async with connected(self._settings) as http:
            orders = self._orders(await _gather(self._settings, http, file_ids, source, column))
            verbs = verbs_of(self._settings, http)
            for order in orders:
                try:
                    job = await verbs.create_job(self._settings.job, order, partial(self._about_to_send, order))
                except ApiError as error:
                    raise self._ended(error, order, len(orders)) from None
                self._out = None
                self._made += 1
                self._tell(job)

    async def _about_to_send(self, order: CreateRequest) -> None:
        self._out = order

    def _orders(self, file_ids: list[str]) -> list[CreateRequest]:
        if self._settings.api.capabilities.files_per_job_max > 1:
            return [CreateRequest(tuple(file_ids))]
        if self._transaction_id is not None and len(file_ids) > 1:
            raise UsageError(
                f"--transaction-id stands for one job, so for one file, and {len(file_ids)} were given",
                hint="leave it out: each job then gets its own",
            )
        return [CreateRequest((file_id,), self._transaction_id or uuid4().hex) for file_id in file_ids]

    # --- Ends that are none --------------------------------------------------------------------------------------

    def interrupted(self, signal_name: str) -> ClassifyBatchError:
        """What the first signal means, by how far it came."""
        words = f"create: interrupted by {signal_name}"
        if self._out is not None:
            return self._after_some(self._in_doubt(words, self._out))
        if self._made:
            return self._after_some(WorldError(words, hint="give the command again for the rest"))
        return InterruptedEarlyError(f"interrupted by {signal_name}", hint="the same command begins again")

    def _ended(self, error: ApiError, order: CreateRequest, orders: int) -> ClassifyBatchError:
        if order.transaction_id and error.verdict is Verdict.DOUBTFUL:
            doubt = self._in_doubt(str(error), order)
            if self._transaction_id is None:  # the same command would come with another one, and pay again
                doubt.exit_status = ExitStatus.PERSON
            return self._after_some(doubt)
        if orders == 1:
            return error
        last = ended(error)
        several = WorldError(f"{last}; this was the file {order.file_ids[0]}", hint=last.hint)
        several.exit_status = last.exit_status
        return self._after_some(several)

    def _in_doubt(self, words: str, order: CreateRequest) -> WorldError:
        """A create that may have been accepted; on v2 it can be made again under its transaction ID."""
        if not order.transaction_id:
            return WorldError(f"{words}; {PERHAPS_ACCEPTED}", hint=LOOK_FIRST)
        words = f"{words}; the job may have been accepted, under the transaction ID {order.transaction_id}"
        if self._transaction_id is not None:
            return WorldError(words, hint="the same command makes the job, or shows the one that is there")
        again = f"--file-id {shlex.quote(order.file_ids[0])} --transaction-id {order.transaction_id}"
        return WorldError(words, hint=f"the command with {again} makes the job, or shows the one that is there")

    def _after_some(self, error: WorldError) -> WorldError:
        """The error, where jobs had been made before: the same command would make them again."""
        if not self._made:
            return error
        hint = f"{error.hint}; leave out the files whose jobs are printed, or they are paid twice"
        after = WorldError(f"{error}; {self._made} jobs had been made", hint=hint)
        after.exit_status = ExitStatus.PERSON
        return after


async def _gather(
    settings: Settings, http: ApiClient, file_ids: Sequence[str], source: str | None, column: str | None
) -> list[str]:
    """The IDs to classify, each once, as it is spelled first. Reads no further than a job can hold."""
    wanted: dict[str, str] = {}
    pages = FileList(http).read_page if source == PROJECT else None
    sources = [open_source(file_ids)] if file_ids else []
    sources += [open_source(source, column=column, pages=pages)] if source is not None else []
    for each in sources:
        async with closing(each) as batches:
            async for batch in batches:
                for key, file_id in zip(file_keys(batch), batch, strict=True):
                    wanted.setdefault(key, file_id)
                if len(wanted) > FILES_PER_JOB_MAX:
                    several = settings.api.capabilities.files_per_job_max > 1
                    what = "a job holds" if several else "one command makes jobs for"
                    raise UsageError(
                        f"{what} at most {FILES_PER_JOB_MAX} files, and more were given",
                        hint="`classify-batch run` makes as many jobs as it takes",
                    )
    if not wanted:
        raise SourceError("no file was named", hint="name files by --file-id ID, or by --input SOURCE")
    return list(wanted.values())
