"""Exports, reports and configs into a directory that takes no file: told before anything is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from classify_batch.cli.init import refuse_bad_target as refuse_bad_config
from classify_batch.errors import UsageError
from classify_batch.operations.export.target import refuse_bad_target

REFUSE = pytest.mark.parametrize("refuse", [refuse_bad_target, refuse_bad_config], ids=["export", "init"])


@REFUSE
def test_a_read_only_directory_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[Path], None]
) -> None:
    """As on a read-only mount, where root may not write, either. The target is named, not what is written beside it."""
    target, access = tmp_path / "new.csv", os.access
    refuse(target)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    with pytest.raises(UsageError, match=rf"{target} can't be written: .* read-only") as caught:
        refuse(target)
    assert caught.value.hint is not None
    assert list(tmp_path.iterdir()) == []
