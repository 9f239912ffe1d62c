"""A run of two accounts, with a sandbox each: its processes have both keys, or only one of them."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from classify_batch.sandbox import read_billed
from crash_suite.case import PROCESSES_MAX, Case, Shape, lines_of
from crash_suite.forks import Forks
from crash_suite.sandbox import Server

WEST_KEY = "sandbox-west"
WEST_OPTIONS = ("--api-key", WEST_KEY)

ACCOUNT = '[[accounts]]\nname = "{name}"\napi_key_env = "CRASH_{variable}_KEY"\nbase_url = "{base_url}"\n'


class AccountsCase(Case):
    """See `Case`. `west`: the second account's sandbox."""

    def __init__(
        self, folder: Path, east: Server, west: Server, shape: Shape, name: str, *, forks: Forks | None = None
    ) -> None:
        super().__init__(folder, east, shape, name, forks=forks)
        self._text = self.config.read_text()
        self._servers = {"east": east, "west": west}
        self.take("east", "west")

    def take(self, *accounts: str) -> None:
        """The next processes have these accounts' keys."""
        self.config.write_text(self._text + "".join(self._table(name) for name in accounts))

    def _table(self, name: str) -> str:
        return ACCOUNT.format(name=name, variable=name.upper(), base_url=self._servers[name].base_url)

    def lines(self, name: str) -> Iterable[dict[str, Any]]:
        """Those of all shards."""
        for path in sorted(self.run_dir.glob(f"shards/*/{name}")):
            yield from lines_of(path)

    def _count_billed(self) -> Counter[str]:
        return sum((read_billed(server.ledger) for server in self._servers.values()), Counter[str]())

    async def _judge_directory(self, *, by_command: bool) -> None:  # noqa: ARG002 - the command reads the same
        await self._judge_by_verify()


async def with_changing_keys(case: Case, rng: random.Random, *, expected_s: float, steps: int) -> None:
    """Killed at random moments and at random steps, by processes that have both keys or one of them, until one with
    both gets through."""
    assert isinstance(case, AccountsCase)
    for turn in range(PROCESSES_MAX // 2):
        accounts = rng.choice([("east", "west"), ("west", "east"), ("east",), ("west",)])
        case.take(*accounts)
        if rng.random() < 0.5:
            status = await case.start(after_s=rng.uniform(0.0, expected_s * (1 + turn / 5)))
        else:
            how = rng.choice(("before", "after", "partial", "power"))
            status = await case.start(order={"step": rng.randint(1, steps), "how": how, "seed": rng.random()})
        if status != -signal.SIGKILL and len(accounts) == 2:
            break
    case.take("east", "west")
    await case.to_end()
