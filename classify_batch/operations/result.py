"""The result of a run: how far it is when `run` returns."""

from __future__ import annotations

from classify_batch.errors import ExitStatus
from classify_batch.operations.run_handle import RunHandle
from classify_batch.ports import RunPlace
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.vocabulary import RunState


class RunResult(RunHandle):
    """A run as `run` left it: `state`, `counts` and the like are of that time, and `status` reads anew.

    Attributes:
        called: False if the run was complete already, so that nothing was called or written.
    """

    def __init__(
        self,
        place: RunPlace,
        state: RunState,
        exit_status: ExitStatus,
        reason: str,
        hint: str,
        manifest: Manifest,
        called: bool = True,
    ) -> None:
        super().__init__(place)
        self._state = state
        self._exit_status = exit_status
        self._reason = reason
        self._hint = hint
        self._manifest = manifest
        self.called = called

    def __repr__(self) -> str:
        return f"<RunResult {self.place.where}: {self._state}, {self.counts}, exit status {int(self._exit_status)}>"

    @property
    def manifest(self) -> Manifest:
        """The keys of manifest.json."""
        return self._manifest

    @property
    def state(self) -> RunState:
        """Complete or incomplete."""
        return self._state

    @property
    def exit_status(self) -> ExitStatus:
        """The status for a scheduler."""
        return self._exit_status

    @property
    def reason(self) -> str:
        """Why it is incomplete; empty when complete."""
        return self._reason

    @property
    def hint(self) -> str:
        """What to do about it; empty when complete."""
        return self._hint
