"""The one place where an attempt ends: its lines, its counts, its cost, and what goes out again."""

from classify_batch.outcomes.ending import Outcomes as Outcomes
from classify_batch.outcomes.ending import fail_all as fail_all
