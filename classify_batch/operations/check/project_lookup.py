"""Whether a key's project has the files of the input: by one key, or by each of several accounts' keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, SettingsError, UsageError
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import FileLookup, LookupRefusedError
from classify_batch.llamacloud.single_calls import CALLS_MAX
from classify_batch.operations.api_version import make_api
from classify_batch.operations.check.assess import FilesInProject, lookup_refused
from classify_batch.operations.check.findings import Finding, finding_from_error
from classify_batch.operations.run_resources import RunResources, refuse_missing_documents
from classify_batch.settings import Account, Settings, read_accounts, read_api_key
from classify_batch.streams.temporary_folder import find_temporary_folder
from classify_batch.vocabulary import SANDBOX

CLOCK_S = 1.0
"""How exactly the server's clock is known: its `Date` header has whole seconds."""


class ProjectLookup:
    """Looks the input's files up by one key.

    Attributes:
        client: of that key, to which the API has answered.
        looked_up: files so far.
    """

    def __init__(self, client: ApiClient, account: str | None = None) -> None:
        """`account`: whose key it is; None: the run's own."""
        self.client = client
        self._account = account
        self._lookup = FileLookup(client)
        self._files: FilesInProject | None = None
        self._failure: Finding | None = None

    @property
    def looked_up(self) -> int:
        return 0 if self._files is None else self._files.looked_up

    def begin_lookup(self, least_s: float) -> None:
        """From here on files are looked up. `least_s`: how long the run takes at least."""
        now_s = SystemClock().wall_s() + (self.client.clock_skew_s or 0.0)
        self._files = FilesInProject(now_s + CLOCK_S, least_s)

    async def look_up_files(self, first: int, file_ids: Sequence[str]) -> None:
        """Looks files up; after a failure nothing more. `first`: the place of the first of them in the input."""
        if self._files is None or self._failure is not None:
            return
        try:
            self._files.add_lookup(first, file_ids, await self._lookup.find_files(file_ids))
        except LookupRefusedError as error:
            self._failure = lookup_refused(str(error))
        except ApiError as error:
            self._failure = finding_from_error("api", error)

    def findings(self) -> Iterator[Finding]:
        """What was found."""
        if self._files is not None:
            yield from (of_account(each, self._account) for each in self._files.findings())
        if self._failure is not None:
            yield of_account(self._failure, self._account)


def of_account(finding: Finding, account: str | None) -> Finding:
    """A finding that says by whose key it was made."""
    return finding if account is None else replace(finding, message=f"account {account}: {finding.message}")


async def connect_with_keys(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[ProjectLookup | Finding]:
    """A lookup for each key that the run would use, or why there is none. `stack` closes the clients."""
    accounts: Sequence[Account | None]
    try:
        accounts = read_accounts(settings) if settings.accounts else [None]
    except SettingsError as error:
        yield finding_from_error("key", error)
        return
    for account in accounts:
        name = None if account is None else account.name
        try:
            yield ProjectLookup(await connect_with_key(settings, account, stack), name)
        except NoKeyError as error:
            yield of_account(finding_from_error("key", error), name)
        except UsageError as error:
            yield of_account(finding_from_error("settings", error), name)
        except ApiError as error:
            yield of_account(finding_from_error("api", error), name)


async def connect_with_key(settings: Settings, account: Account | None, stack: AsyncExitStack) -> ApiClient:
    """A client to whose key the API has answered. An embedded sandbox gets a temporary directory, since there is no run
    directory."""
    refuse_missing_documents(settings)
    if account is not None:
        settings, key = account.settings, account.key
    else:
        try:
            key = read_api_key(settings)
        except SettingsError as error:
            raise NoKeyError(str(error), hint=error.hint) from None
    embedded = settings.api.base_url == SANDBOX
    path = Path(stack.enter_context(_temporary_directory())) if embedded else Path()
    client, _ = await RunResources(settings, key, path, SystemClock(), stack).connect_client()
    api = make_api(settings, client, "check")
    # The cheapest call that needs the key. It also shows the server's clock, with which expiry times are compared.
    await retry_transient(partial(api.list_page, page_size=1), calls_max=CALLS_MAX)
    return client


def _temporary_directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="classify-batch-", dir=find_temporary_folder())


class NoKeyError(SettingsError):
    """There is no API key, or it can't be one."""
