"""The one error behind a group of them."""

from __future__ import annotations

from classify_batch.errors import ClassifyBatchError, StoreError


def the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a person should hear of: the world's before ours before anything else."""
    errors = _leaves(group)
    for kind in (StoreError, ClassifyBatchError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
