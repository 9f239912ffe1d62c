"""Two bounds of credits: the run's, and an account's."""

from __future__ import annotations

import pytest

from classify_batch.limits.credit_budget import CreditBudget

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("run", "account", "bound", "whose"),
    [(None, 5.0, 5.0, "east"), (9.0, 5.0, 5.0, "east"), (4.0, 5.0, 4.0, None), (5.0, 5.0, 5.0, None)],
)
async def test_the_lower_bound_holds_and_is_named(
    run: float | None, account: float, bound: float, whose: str | None
) -> None:
    """Of the run's bound and the account's the lower one holds, and it is known whose it is."""
    budget = CreditBudget(run)
    budget.bound_by_account("east", account)
    assert (budget.as_credits.bound, budget.account) == (bound, whose)
    assert await budget.reserve_when_free(bound)
    assert await CreditBudget(None).reserve_when_free(1e9)
    budget.release_unspent(0.0)
    assert not await budget.reserve_when_free(1.0)


async def test_a_changed_bound_of_the_run_leaves_the_accounts() -> None:
    """`tune` gives the run more credits: the account may spend what it was given, and no more."""
    budget = CreditBudget(2.0)
    budget.bound_by_account("east", 5.0)
    budget.set_limit(100.0)
    assert (budget.as_credits.bound, budget.account) == (5.0, "east")
