"""Accounts from Python: what can't go together with them, and that nothing is written or sent then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from classify_batch import Settings, SharedLimits, UsageError, arun, run, stream
from classify_batch.engine.shutdown import Shutdown
from classify_batch.operations.run import carry_out_request
from classify_batch.operations.run_request import RunRequest
from classify_batch.store import place_of
from tests.support.accounts import KEYS, two_accounts
from tests.support.sandbox_settings import IDS, RULES

ACCOUNTS: Sequence[dict[str, Any]] = (
    {"name": "east", "api_key_env": "EAST_KEY"},
    {"name": "west", "api_key_env": "WEST_KEY"},
)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("EAST_KEY", "WEST_KEY"):
        monkeypatch.setenv(name, f"llx-{name}")
    return Settings(api={"base_url": "http://127.0.0.1:9"}, job={"rules": RULES}, accounts=ACCOUNTS)


class Elsewhere:
    """An executor that must not be asked."""

    async def run(self, *_: object) -> Any:
        raise AssertionError("it was asked")


def test_an_executor_has_one_key(settings: Settings, tmp_path: Path) -> None:
    """Accounts are carried out by their own executor: another one is refused."""
    with pytest.raises(UsageError, match="an executor has one key"):
        run(settings, IDS, tmp_path / "run", shards=2, executor=Elsewhere())
    assert not (tmp_path / "run").exists()


def test_limits_are_not_shared_with_other_runs(settings: Settings, tmp_path: Path) -> None:
    """Limits that several runs share are those of one key: together with accounts they are refused."""

    async def share() -> None:
        async with SharedLimits() as limits:
            await arun(settings, IDS, tmp_path / "run", shared_limits=limits)

    with pytest.raises(UsageError, match="accounts share no limits"):
        asyncio.run(share())
    assert not (tmp_path / "run").exists()


def test_one_process_for_all_has_no_account(settings: Settings, tmp_path: Path) -> None:
    """What carries a run out without shards says that accounts need some."""
    request = RunRequest(settings, IDS, place_of(tmp_path / "run"))
    with pytest.raises(UsageError, match="accounts carry out shards"):
        asyncio.run(carry_out_request(request, Shutdown()))
    assert not (tmp_path / "run").exists()


def test_a_stream_reads_what_all_accounts_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stream` yields each outcome once while two accounts are at work side by side, however little they may be ahead
    of who reads."""
    for name, key in KEYS.items():
        monkeypatch.setenv(f"{name.upper()}_KEY", key)
    with two_accounts(tmp_path, files=120) as place:
        settings = Settings.load(tmp_path / "job.toml")

        async def read() -> Counter[str]:
            seen = Counter[str]()
            async with asyncio.timeout(60):
                async with stream(settings, place.file_ids, place.run_dir, ahead=6) as outcomes:
                    async for outcome in outcomes:
                        seen[outcome.file_id] += 1
            return seen

        assert asyncio.run(read()) == Counter(place.file_ids)
        place.judge()
        assert all(server.paid() for server in place.servers.values())
