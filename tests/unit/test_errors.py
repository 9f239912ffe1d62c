"""Errors of this package, as other processes get them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest

from classify_batch.errors import (
    ApiError,
    ChildOfRunError,
    ClassifyBatchError,
    LeaseLostError,
    SourceError,
    Verdict,
)


def through_pickle(error: ClassifyBatchError, protocol: int) -> ClassifyBatchError:
    """The error as another process gets it."""
    restored: ClassifyBatchError = pickle.loads(pickle.dumps(error, protocol))
    return restored


COPIES: list[Callable[[ClassifyBatchError], ClassifyBatchError]] = [
    *(partial(through_pickle, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    copy.copy,
    copy.deepcopy,
]


@pytest.mark.parametrize(
    "error",
    [
        ApiError("get", Verdict.KEY_REFUSED, "HTTP 401", status=401, detail="no", hint="check the key"),
        ApiError("create", Verdict.LATER, "no answer", ambiguous=True, file_indexes=(1, 2)),
        LeaseLostError(),
        ChildOfRunError(),
        SourceError("ids.txt, line 1: 'a b'", hint="one file ID on each line"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("make_copy", COPIES)
def test_an_error_arrives_whole_in_another_process(
    error: ClassifyBatchError, make_copy: Callable[[ClassifyBatchError], ClassifyBatchError]
) -> None:
    """A pool of processes pickles what its work raises: an error that can't be unpickled breaks the whole pool."""
    arrived = make_copy(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.exit_status is error.exit_status
    assert vars(arrived) == vars(error)


def test_every_error_can_be_copied() -> None:
    """Also those that nobody has thought of yet: with whatever arguments they are made."""
    kinds: list[type[ClassifyBatchError]] = [ClassifyBatchError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        error = kind.__new__(kind, "what happened")
        error.hint = "what to do"
        arrived = through_pickle(error, pickle.DEFAULT_PROTOCOL)
        assert (type(arrived), str(arrived), arrived.hint) == (kind, "what happened", "what to do")
    assert ApiError.__name__ in {kind.__name__ for kind in kinds}
