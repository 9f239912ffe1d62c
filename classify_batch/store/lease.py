"""Leases of a shard, as files beside its journal: `lease.3.jsonl` is that of its third owner.

The lock on a file belongs to a process for as long as it lives, also where it stands still for an hour; and a process
on another machine may not see it. So a shard has a lease, too:

- An owner claims an epoch by creating its file: of two that race for it, one gets it. Whoever has the highest epoch is
  the owner.
- While it is at work it adds a line to its file, again and again, and looks whether there is a higher epoch. If there
  is none, the shard is its for `lease_s` more, counted from before it looked, by a clock that runs through a suspend.
- Right before a call is written to the socket it asks that clock. Where the time has run out, nothing leaves.
- Who takes a shard over claims first, and then waits for `lease_s`: from its claim on the other renews nothing, so by
  then the other sends nothing. It need not wait where the other gave the shard back, or is known to be dead.

No clock is compared with another machine's. (The wall time in the lines is a hint: where it is old, whoever is refused
by the lock looks for a while whether lines still come.)
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from classify_batch.clock import SystemClock, boot_s, to_iso
from classify_batch.errors import DamagedError, LockedError, StoreError
from classify_batch.ports import RunStore
from classify_batch.run_records import Holder
from classify_batch.store.lock import locked
from classify_batch.store.processes import start_of

NAME = re.compile(r"lease\.(\d+)\.jsonl")

RENEWALS = 4
"""So often a lease is renewed while it lasts."""

MARGIN = 1.02
"""Clocks of two machines may run at different speeds."""

log = logging.getLogger("classify_batch")

_OWNED, _RELEASED = b"owned\n", b"released\n"


def lease_name(epoch: int) -> str:
    """The file of an epoch's lease."""
    return f"lease.{epoch}.jsonl"


@dataclass(frozen=True, slots=True)
class LastLease:
    """The lease of the highest epoch, as its file says.

    Attributes:
        beat_s: the holder's wall time when it was renewed last.
        lease_s: the longest that any lease can last that had not ended when this one was claimed, and this one itself.
        size: of the file, which grows with every renewal.
        owned: whether its owner had waited for the end of the one before it; released: whether it was given back.
        is_dead: whether its process is known to live no more: it was one of this machine's, since its last start.
    """

    epoch: int
    holder: Holder
    lease_s: float
    beat_s: float
    size: int
    owned: bool
    released: bool
    is_dead: bool

    @property
    def needs_no_wait(self) -> bool:
        """Whether nobody can send anything under this lease any more, nor under one before it."""
        return self.owned and (self.released or self.is_dead)


async def read_last_lease(store: RunStore) -> LastLease | None:
    """The latest lease of a shard; None where there was none."""
    epochs = [int(match[1]) for name in await store.names() if (match := NAME.fullmatch(name))]
    if not epochs:
        return None
    try:
        data = await store.read(lease_name(max(epochs)))
    except FileNotFoundError:  # a later owner has just removed it
        return await read_last_lease(store)
    try:
        return _parse_lease(max(epochs), data)
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(
            f"{lease_name(max(epochs))} in {store.where} is damaged: {error!r}",
            hint="remove it when no process works on this shard",
        ) from None


def _parse_lease(epoch: int, data: bytes) -> LastLease:
    first, *rest = data.split(b"\n")
    said = json.loads(first)
    machine = said["machine"]
    is_here = machine is not None and machine == _machine()
    return LastLease(
        epoch,
        Holder(str(said["host"]), int(said["pid"]), str(said["since"])),
        float(said["lease_s"]),
        max(map(_read_beat, rest), default=0.0),
        len(data),
        owned=_OWNED in data,
        released=_RELEASED in data,
        is_dead=is_here and not _lives(int(said["pid"]), str(said["start"])),
    )


def _read_beat(line: bytes) -> float:
    """The time of a renewal; 0 for any other line. No renewal is made durable, as they are hints: a power cut may leave
    one that can't be read."""
    try:
        return float(line) if line[:1].isdigit() else 0.0
    except ValueError:
        return 0.0


async def claim_lease(store: RunStore, lease_s: float, clock_s: Callable[[], float] = boot_s) -> FileLease:
    """Takes a shard whose lock is free, or is held by a process that stands still. Waits for the end of the last lease.

    Raises:
        LockedError: another process was faster.
        StoreError: the medium refuses.
    """
    last = await read_last_lease(store)
    epoch = 1 if last is None else last.epoch + 1
    wait_s = 0.0 if last is None or last.needs_no_wait else last.lease_s
    said = {
        "epoch": epoch,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": to_iso(SystemClock().wall_s()),
        "machine": _machine(),
        "start": start_of(os.getpid()),
        "lease_s": max(lease_s, wait_s),  # if this process dies while it waits, the next one waits as long
    }
    owned = b"" if wait_s else _OWNED  # at once where nobody is waited for, also if this process dies right here
    try:
        await store.create(lease_name(epoch), json.dumps(said).encode() + b"\n" + _beat() + owned)
    except FileExistsError:
        raise locked(store.where, Holder()) from None
    if last is not None and wait_s:
        log.warning("%s: its last owner (%s) may live; its lease is waited for", store.where, last.holder)
    lease = FileLease(store, epoch, lease_s, clock_s)
    try:
        await lease.begin(wait_s * MARGIN)
        for name in await store.names():
            if (match := NAME.fullmatch(name)) and int(match[1]) < epoch:
                await store.remove(name)
    except BaseException:  # nobody has this lease: the next one must not wait for it
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await lease.release()
        raise
    return lease


async def stands_still(store: RunStore, error: LockedError) -> None:
    """Returns where the process that holds the lock has not renewed its lease for so long that it is over.

    Raises:
        LockedError: `error`: it is at work.
    """
    last = await read_last_lease(store)
    # A beat of the future says as little as an old one: its machine's clock is ahead, so whether lines come is seen.
    if last is None or abs(SystemClock().wall_s() - last.beat_s) <= last.lease_s:
        raise error
    with anyio.move_on_after(last.lease_s * 2 / RENEWALS):
        while True:
            await anyio.sleep(min(1.0, last.lease_s / RENEWALS / 5))
            now = await read_last_lease(store)
            if now is None or (now.epoch, now.size) != (last.epoch, last.size):
                raise error


class FileLease:
    """`ports.Lease` in a file of the shard's store.

    Attributes:
        waited: whether the owner before may have lived, so that the end of its lease was waited for.
    """

    def __init__(self, store: RunStore, epoch: int, lease_s: float, clock_s: Callable[[], float] = boot_s) -> None:
        self._store, self._lease_s, self._clock_s = store, lease_s, clock_s
        self._name = lease_name(epoch)
        self._valid_until_s = 0.0
        self._is_unused = False
        self.epoch = epoch
        self.lost = anyio.Event()
        self.waited = False

    @property
    def is_valid(self) -> bool:
        return self._clock_s() < self._valid_until_s and not self.lost.is_set()

    def check_held(self) -> bool:
        if self._clock_s() >= self._valid_until_s:
            self.lost.set()  # at once: whoever ends the run since then must find the store abandoned
        return not self.lost.is_set()

    async def begin(self, wait_s: float) -> None:
        """Waits until nobody sends anything under an earlier lease; from then on the shard is ours.

        Raises:
            LockedError: somebody claimed a later epoch meanwhile.
        """
        self.waited, self._is_unused = wait_s > 0, wait_s == 0
        until_s = anyio.current_time() + wait_s
        while (left_s := until_s - anyio.current_time()) > 0:
            await self._refuse_superseded()
            await self._store.append_undurable(self._name, _beat())  # it doesn't stand still
            await anyio.sleep(min(left_s, self._lease_s / RENEWALS))
        if self.waited:
            with anyio.CancelScope(shield=True):
                await self._store.append_undurable(self._name, _OWNED)
            self._is_unused = True
        await self._renew()
        await self._refuse_superseded()

    async def _refuse_superseded(self) -> None:
        if await self.is_superseded():
            raise locked(self._store.where, Holder())

    async def keep(self) -> None:
        while not self.lost.is_set():
            await anyio.sleep(self._lease_s / RENEWALS)
            if self.check_held():  # else this process stood still: what it had begun is for whoever comes next
                await self._renew()

    async def release(self) -> None:
        if self.is_valid or self._is_unused:
            await self._store.append_undurable(self._name, _RELEASED)
            self._valid_until_s, self._is_unused = 0.0, False

    async def is_superseded(self) -> bool:
        """Whether there is an owner after this one."""
        epochs = [int(match[1]) for name in await self._store.names() if (match := NAME.fullmatch(name))]
        return max(epochs, default=0) > self.epoch

    async def _renew(self) -> None:
        """A disk that refuses renews nothing; the lease then runs out by itself."""
        began_s = self._clock_s()
        try:
            await self._store.append_undurable(self._name, _beat())
            if await self.is_superseded():
                self.lost.set()
            else:
                self._valid_until_s, self._is_unused = began_s + self._lease_s, False
        except StoreError:
            return


def _beat() -> bytes:
    return b"%.3f\n" % SystemClock().wall_s()


def _machine() -> str | None:
    """This start of this machine, and where its processes have their numbers: containers have their own. None: nothing
    tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _lives(pid: int, start: str) -> bool:
    """Whether a process of this machine lives. Where that is unknown (another container's, no /proc) it may."""
    return not start or start_of(pid) == start
