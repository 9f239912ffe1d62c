"""Brings an attempt's documents to the project before its create: the file IDs that are sent are fixed here.

Only where the input is a folder. The window is as wide as `limits.requests_in_flight`, and ahead of the creates by as
many attempts: uploads wait for a slot like everything else. An attempt that was sent before keeps the IDs that it was
sent with, so that a repeated create and the search for its job speak of exactly these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from classify_batch.engine.context import EngineContext
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ApiError, FolderGoneError, NotUploadableError
from classify_batch.file_keys import file_key
from classify_batch.inputs.folder import PATH_COLUMN
from classify_batch.lifecycle import Submitting, remainder
from classify_batch.model import Attempt, Carried, Failure
from classify_batch.ports import Documents
from classify_batch.vocabulary import FailureCode, Kind

UPLOADS_PER_ATTEMPT = 4


@dataclass(slots=True)
class _Brought:
    sent_ids: dict[str, str]
    failures: dict[str, str]
    error: ApiError | FolderGoneError | None = None


class Uploader:
    """One for all uploading tasks of a run: each runs `work` over its own clones of the streams."""

    def __init__(self, context: EngineContext, documents: Documents, column: str) -> None:
        """`column`: the carried column that has the documents' paths."""
        self._context = context
        self._documents = documents
        self._column = column
        self._shutdown = context.shutdown

    async def bring_documents(self, attempts: ObjectReceiveStream[Attempt], ready: ObjectSendStream[Attempt]) -> None:
        """Hands on attempts whose documents are in the project, until the stream ends."""
        async with attempts, ready:
            async for attempt in attempts:
                if attempt.sent_ids:
                    await ready.send(attempt)
                elif (brought := await self._bring_all(attempt)) is not None:
                    await ready.send(brought)

    async def _bring_all(self, attempt: Attempt) -> Attempt | None:
        """The attempt with the IDs that it sends. None: it isn't sent, and has given its slot back."""
        found = _Brought({}, {})
        async with anyio.create_task_group() as tasks:
            waiting = iter(attempt.file_ids)
            tasks.start_soon(self._give_up_with, tasks.cancel_scope)
            async with anyio.create_task_group() as uploads:
                for _ in range(min(UPLOADS_PER_ATTEMPT, len(attempt.file_ids))):
                    uploads.start_soon(self._bring_some, attempt, waiting, found)
            tasks.cancel_scope.cancel()
        if found.error is not None:
            self._shutdown.request_stop(Stop.from_error(found.error, collects=True))
        if not self._shutdown.creating:
            self._context.slots.release()
            return None
        found.failures |= refuse_shared_ids(found.sent_ids)
        if found.failures:
            self._end_unsent_attempt(attempt, found.failures)
            return None
        return replace(attempt, sent_ids=tuple(found.sent_ids[file_id] for file_id in attempt.file_ids))

    async def _give_up_with(self, scope: anyio.CancelScope) -> None:
        await self._shutdown.creating_ended.wait()
        scope.cancel()

    async def _bring_some(self, attempt: Attempt, waiting: Iterable[str], found: _Brought) -> None:
        for file_id in waiting:
            if found.error is not None:
                return
            try:
                paths = carried_paths(attempt.carried[file_id], self._column)
                found.sent_ids[file_id] = await self._documents.bring(file_id, paths)
            except NotUploadableError as error:
                found.failures[file_id] = str(error)
            except (ApiError, FolderGoneError) as error:
                found.error = error

    def _end_unsent_attempt(self, attempt: Attempt, failures: dict[str, str]) -> None:
        """Ends an attempt that was never sent: what can't be brought fails, and the rest goes out again."""
        context = self._context
        context.journal.record(Submitting(attempt.key, attempt.part, context.clock.wall_s(), attempt.credits))
        places = list(zip(attempt.positions, attempt.file_ids, strict=True))
        failed = [
            Failure(position, FailureCode.NOT_UPLOADABLE, failures[file_id])
            for position, file_id in places
            if file_id in failures
        ]
        rest = remainder(attempt.part, [position for position, file_id in places if file_id not in failures])
        context.recorder.end_attempt(attempt, Kind.REJECTED, failures=failed, requeued=rest, free=True)
        context.slots.release()


def refuse_shared_ids(sent_ids: Mapping[str, str]) -> dict[str, str]:
    """Contents that have the project's file ID of another one before them, each with the reason: one answer would be
    theirs together."""
    first: dict[str, str] = {}
    for content, sent_id in sent_ids.items():
        first.setdefault(file_key(sent_id), content)
    return {
        content: "the API gave it the file ID of another document"
        for content, sent_id in sent_ids.items()
        if first[file_key(sent_id)] != content
    }


def carried_paths(carried: Carried, column: str) -> list[str]:
    """The paths that a content carries."""
    objects = carried if isinstance(carried, list) else [carried]
    return [str(each[column]) for each in objects if column in each]


def start_uploading(
    tasks: TaskGroup, context: EngineContext, documents: Documents | None, attempts: MemoryObjectReceiveStream[Attempt]
) -> MemoryObjectReceiveStream[Attempt]:
    """The stream of attempts that can be submitted; where there are no documents, the very stream."""
    if documents is None:
        return attempts
    ready_send, ready = anyio.create_memory_object_stream[Attempt](0)
    uploader = Uploader(context, documents, PATH_COLUMN)
    for _ in range(context.settings.limits.requests_in_flight):
        tasks.start_soon(uploader.bring_documents, attempts.clone(), ready_send.clone())
    attempts.close()
    ready_send.close()
    return ready
