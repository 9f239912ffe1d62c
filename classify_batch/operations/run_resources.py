"""Opens what a run needs: the lock on its directory, an embedded sandbox, the request gate and the client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio import CancelScope
from pydantic import SecretStr

from classify_batch.errors import SettingsError, StoreError
from classify_batch.limits import Gate, GateSource, RequestGate
from classify_batch.ports import Clock, Lease, RunPlace, RunStore
from classify_batch.settings import Settings, read_api_key
from classify_batch.vocabulary import PATHS_JSONL, PLAN_JSONL, RUN_JSON, SANDBOX, SANDBOX_LEDGER, Log

if TYPE_CHECKING:
    from classify_batch.llamacloud.client import ApiClient


def make_request_gate(settings: Settings) -> RequestGate:
    """The request gate with the limits of a run."""
    limits = settings.limits
    return RequestGate(
        requests_in_flight=limits.requests_in_flight,
        requests_per_s=limits.requests_per_s,
        creates_per_s=limits.creates_per_s or settings.api.capabilities.creates_per_s,
    )


class RunResources:
    """Opens the sandbox, the request gate and the client: only when they are needed, and once.

    Attributes:
        lease: without which the client sends nothing; None: none is needed.
    """

    def __init__(
        self,
        settings: Settings,
        key: SecretStr | None,
        folder: Path | None,
        clock: Clock,
        stack: AsyncExitStack,
        shared_limits: GateSource | None = None,
    ) -> None:
        """`key`: the API key; None: it is read when the client is opened, which may never happen. `folder`: where the
        embedded sandbox keeps its jobs; None: nowhere. `shared_limits`: of several runs; None: the run's own."""
        self._shared_limits = shared_limits
        self._settings = settings
        self._key = key
        self._folder = folder
        self._stack = stack
        self._connected: tuple[ApiClient, Gate] | None = None
        self.clock = clock
        self.lease: Lease | None = None

    async def connect_client(self) -> tuple[ApiClient, Gate]:
        """The client and its request gate. `stack` closes them."""
        if self._connected is None:
            # Importing them takes a quarter of a command's start, and a plan of files calls nobody.
            from classify_batch.llamacloud.access import ApiAccess  # noqa: PLC0415
            from classify_batch.llamacloud.client import ApiClient  # noqa: PLC0415
            from classify_batch.protocol.v1 import webhook_secrets  # noqa: PLC0415

            api, limits = self._settings.api, self._settings.limits
            base_url = api.base_url
            if base_url == SANDBOX:
                base_url = await self._stack.enter_async_context(embedded_sandbox(self._settings, self._folder))
            shared = self._shared_limits
            gate: Gate = make_request_gate(self._settings) if shared is None else shared.gate_of_one_run()
            await self._stack.enter_async_context(gate)
            named = {"project_id": api.project_id, "organization_id": api.organization_id}
            client = ApiClient(
                ApiAccess(
                    base_url,
                    read_api_key(self._settings) if self._key is None else self._key,
                    {name: value for name, value in named.items() if value is not None},
                    webhook_secrets(self._settings.job.webhook_configurations),
                ),
                gate,
                self.clock,
                timeout_s=api.timeout_s,
                patience_s=limits.patience_s,
                lease=self.lease,
            )
            # Pushed after the gate, so closed before it: no request is left that waits at a closed gate.
            self._stack.push_async_callback(client.aclose)
            self._connected = client, gate
        return self._connected


@asynccontextmanager
async def embedded_sandbox(settings: Settings, folder: Path | None) -> AsyncIterator[str]:
    """Serves a sandbox that keeps its jobs in `folder`; yields its base URL."""
    from classify_batch.sandbox import Options, open_sandbox, serve_in_loop  # noqa: PLC0415 - importing a server is slow, and rarely needed

    if folder is None:
        raise SettingsError(
            "the embedded sandbox keeps its jobs in the run directory, and this one is on no disk",
            hint="name a run directory on a disk, or start `classify-batch sandbox` and give its URL",
        )
    options = Options.from_values(documents=settings.sandbox.documents, ledger=folder / SANDBOX_LEDGER)
    sandbox = open_sandbox(options)
    app = await anyio.to_thread.run_sync(sandbox.__enter__)  # reads documents and ledger: that may take long
    try:
        async with serve_in_loop(app) as base_url:
            yield base_url
    finally:
        sandbox.__exit__(None, None, None)


def refuse_missing_documents(settings: Settings) -> None:
    """Raises SettingsError where the embedded sandbox has no folder to classify."""
    documents = settings.sandbox.documents
    if settings.api.base_url != SANDBOX or documents is None:
        return
    if not os.path.isdir(documents):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        raise SettingsError(
            f"sandbox.documents: there is no folder {documents}", hint="name a folder that holds text files"
        )


async def lock_run_directory(place: RunPlace, stack: AsyncExitStack) -> RunStore:
    """Opens and locks the run directory, which is created where it isn't there; `stack` closes it.

    If no run was planned in it, what was created is removed again. That happens while the lock is held: a process that
    didn't get the lock must not remove what its holder is creating.
    """
    store = await open_locked(place, stack)
    await finish_writing_before(stack, store)
    return store


async def open_locked(place: RunPlace, stack: AsyncExitStack, *, seize: Lease | None = None) -> RunStore:
    """Opens and locks a directory, which is created where it isn't there; `stack` gives it up. `seize`: as
    `RunStore.lock`."""
    store = await stack.enter_async_context(place.open())
    await store.prepare()
    await stack.enter_async_context(store.lock(seize=seize))
    return store


async def finish_writing_before(stack: AsyncExitStack, store: RunStore) -> None:
    """Lets `stack` write what is left, before it goes on to what was pushed earlier: the next holder reads on from it.
    Where no run was planned, what was created since this call is removed again."""
    stack.push_async_callback(_commit_what_is_left, store)
    stack.push_async_callback(remove_if_unused, store, await store.names())


async def _commit_what_is_left(store: RunStore) -> None:
    with CancelScope(shield=True), suppress(StoreError):  # the error that ended the run counts
        await store.commit()


async def remove_if_unused(store: RunStore, before: frozenset[str]) -> None:
    """Removes what planning has written, unless there is a run. `before`: the files that were there."""
    with CancelScope(shield=True), suppress(StoreError):  # tidying up must not replace the error of the planning
        if RUN_JSON not in await store.names():
            for name in {PLAN_JSONL, PATHS_JSONL, str(Log.RESULTS)} - before:
                await store.remove(name)
