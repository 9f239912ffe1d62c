"""Which rate the API allows: an experiment, not a reflex. Pure: no clock, times are given.

A 429 has two causes that look alike: we are too fast, or it has nothing to do with us (a shared organisation, a proxy).
Only the first is cured by slowing down, and that is the test: **does the share of 429s fall when we slow down, and rise
again when we go back?** Congestion control met the same question when links began to lose packets by chance:

- TCP Reno halves at each loss, so that its rate goes with 1/sqrt(loss): 1 % of noise costs nearly all of a fast link.
  So did additive increase, multiplicative decrease here: 2 % of noise left a fifth of the rate.
- Westwood and BBR don't take a loss for congestion; they go by what is delivered, and probe upwards from time to time,
  a little, with most of the time spent below the limit. Taken: the cut to what is delivered when a limit is far
  exceeded, the rhythm of probes, and a tolerated loss.
- PCC (Dong et al., NSDI 2015) runs experiments: some time at one rate, some at another, each answer credited to the
  rate at which its request was *sent*, and the rates are judged by what came of them. Taken: the experiment.
- CUBIC and the up-down staircase of psychophysics (Kaernbach 1991) stay near a threshold that answers by chance: a
  probe that fails takes a quarter of a step back, one that succeeds a whole step forward, and steps in a row grow.
  CUBIC's memory of where it last failed (W_max) is taken as well: near it steps don't grow.
- Adaptive client throttling (Google's SRE book, AWS SDKs) sheds by the share of refusals, whatever their cause, and
  Netflix's concurrency-limits go by latency, which a rate limiter doesn't change. Neither knows noise. Not taken.

How it is decided is sequential analysis (`sequential_test`), since each request that is spent on knowing is one that is
sent too slowly, or is refused. The life of a rate:

    HELD ── share of 429s rose ──▶ SLOWED ── it didn't fall: noise, learned ──▶ HELD (as before)
      ▲                              ├─ it fell, and was large, or we had just gone faster: a limit ──▶ HELD (slower)
      │                              └─ it fell ──▶ RETURNED ── it rises again: a limit ──▶ HELD (slower)
      │                                                └─ it doesn't: chance ──▶ HELD (as before)
      └── RAISED ◀── below what was given, and long enough since the last probe: each success goes on, faster
             └─ the share rises: a limit ──▶ HELD (a little slower)

The share that doesn't depend on the rate (`noise`) is learned from what is refused while nothing is suspected; it is no
more than a slower rate showed, and is checked again by slowing down while it isn't negligible. If an experiment ends
with "noise", all of its answers count, whichever way they went: to count only those that agree would bias the share.
Where chance begins an experiment every minute, being wrong once in ten times would soon leave a false limit: so the
second half, RETURNED, asks for far better odds. Only while nothing at all is accepted, nothing is sent.
"""

from __future__ import annotations

import math
from copy import copy
from enum import Enum, auto

from classify_batch.limits.noise_share import NoiseShare
from classify_batch.limits.rate_constants import (
    ALARM_ANSWERS_MIN,
    ALARM_WEIGHT,
    ANSWERS_MAX,
    BELOW,
    BELOW_FAR,
    CUT_MAX,
    CUT_MAX_MEASURED,
    EXCESS_MIN,
    FELL_TO,
    FELL_TO_RECHECKED,
    FLOOR_SHARE,
    HEAVY_SHARE,
    HOLD_S_MAX,
    HOLD_S_MIN,
    LATE_S,
    MEASURED_ANSWERS,
    NOISE_SHARE_MAX,
    ODDS,
    ODDS_HEAVY,
    PROBE_ODDS,
    PROBE_RISE,
    RAISE_EVERY_REQUESTS,
    RAISE_EVERY_S,
    RAISE_SOON_S,
    RECHECK_EVERY_ANSWERS,
    RECHECK_EVERY_S,
    RECHECK_EVERY_S_MAX,
    RECHECK_FROM,
    REFILLED,
    REFUSED_RUN,
    REST_MIN,
    RETURN_ANSWERS_MAX,
    RETURN_DEVIATIONS,
    RETURN_ODDS,
    RETURN_RISE,
    SEEN_S,
    SETTLE_REQUESTS,
    SETTLE_S,
    SILENCES_AT_RATE,
    SLOWER,
    STEP_AFTER_SILENCE,
    STEP_ANSWERS,
    STEP_BACK,
    STEP_BACK_IN_NOISE,
    STEP_DEVIATIONS,
    STEP_MAX,
    STEP_MIN,
)
from classify_batch.limits.sequential_test import Cusum, SequentialTest, Verdict


class Phase(Enum):
    """What the rate is doing."""

    HELD = auto()
    SLOWED = auto()
    RETURNED = auto()
    RAISED = auto()


class RateControl:
    """Rates in requests a second, times in seconds of any one clock.

    Attributes:
        limit_per_s: the rate that was given, never exceeded.
        held_per_s: the rate outside of experiments.
        per_s: the rate now.
        limited: whether an experiment showed that the API allows no more than `held_per_s`.
        demand_per_s: what is sent while the rate doesn't hold anybody back; infinite while it does.
        silences: how often in a row nothing was accepted.
    """

    def __init__(self, limit_per_s: float) -> None:
        self.limit_per_s = self.held_per_s = self.per_s = limit_per_s
        self.limited = False
        self.demand_per_s = math.inf
        self.silences = 0
        self.noise = NoiseShare()
        self.noise_shown = False
        self._phase = Phase.HELD
        self._began_s = self._counts_from_s = -math.inf
        self._sent = self._sent_limited = 0
        self._refused_run, self._any_accepted = 0, False
        self._raise_at_s, self._raised_at_s = 0.0, -math.inf
        self._hold_s = HOLD_S_MIN
        self._step = self._first_step = 0.0
        self._checked_s, self._since_check, self._recheck_every_s = 0.0, 0, RECHECK_EVERY_S
        self._ceiling_per_s = math.inf
        self._learns, self._shown_bound, self._returned_until_s = True, 1.0, 0.0
        self._noise_before = self.noise
        self._used_per_s = limit_per_s
        self._suspected = (0, 0)
        self._measured = False
        self._watch_anew()
        self._test = SequentialTest(0.0, 1.0, odds=ODDS, answers_max=ANSWERS_MAX)

    def set_limit(self, limit_per_s: float) -> None:
        """Another rate is given. What was shown to be allowed holds where it is less."""
        at_limit = self.held_per_s >= self.limit_per_s
        self.limit_per_s = limit_per_s
        self.held_per_s = limit_per_s if at_limit else min(limit_per_s, self.held_per_s)
        self.limited = self.limited and self.held_per_s < limit_per_s
        self.per_s = self.held_per_s
        self._phase = Phase.HELD
        self._watch_anew()

    def restore(self, per_s: float) -> None:
        """Begins with what an earlier process was shown; it is tried upwards as soon as requests wait for it."""
        self.held_per_s = self.per_s = max(FLOOR_SHARE * self.limit_per_s, min(self.limit_per_s, per_s))
        self.limited = self.held_per_s < self.limit_per_s

    def record_sent(self, *, waited: bool) -> None:
        """A request was sent. `waited`: for the rate."""
        self._sent += 1
        self._sent_limited += waited

    def silent_until(self, until_s: float) -> None:
        """What was sent before doesn't count: nothing is sent until then."""
        self._counts_from_s = max(self._counts_from_s, until_s)

    def record_answer(self, *, refused: bool, sent_s: float, now_s: float) -> bool:
        """An answer to a request that was sent at `sent_s`; whether nothing should be sent for a while."""
        if sent_s < self._counts_from_s:
            return False  # it was sent at another rate
        if refused and not self._any_accepted:
            self._refused_run += 1
            if self._refused_run >= REFUSED_RUN:
                self._wait_for_any(now_s)
                return True
            if self.silences:
                return False  # while nothing at all is accepted there is nothing to compare
        if not refused:
            self._any_accepted, self.silences = True, 0
        match self._phase:
            case Phase.HELD:
                self._while_held(refused, now_s)
            case Phase.SLOWED:
                self._while_slowed(refused, sent_s, now_s)
            case Phase.RETURNED:
                self._while_returned(refused, now_s)
            case Phase.RAISED:
                self._while_raised(refused, now_s)
        return False

    # --- Rates ------------------------------------------------------------------------------------------------------

    def _enter_phase(self, phase: Phase, per_s: float, now_s: float, settle_s: float = 0.0) -> None:
        self._phase = phase
        self.per_s = max(FLOOR_SHARE * self.limit_per_s, min(self.limit_per_s, per_s))
        self._began_s, self._counts_from_s = now_s, now_s + max(settle_s, settle_s * SETTLE_REQUESTS / self.per_s)
        self._sent = self._sent_limited = 0
        self._refused_run, self._any_accepted = 0, False

    def _hold_rate(self, per_s: float, now_s: float, settle_s: float = 0.0) -> None:
        self._enter_phase(Phase.HELD, per_s, now_s, settle_s)
        self.held_per_s = self.per_s
        self._watch_anew()

    def _hold_limited(self, per_s: float, now_s: float, settle_s: float = 0.0) -> None:
        self.limited = True
        self._hold_rate(per_s, now_s, settle_s)
        self._raise_at_s = now_s + self._raise_every_s

    @property
    def _raise_every_s(self) -> float:
        return max(RAISE_EVERY_S, RAISE_EVERY_REQUESTS / self.held_per_s)

    @property
    def _is_rate_used(self) -> bool:
        """A rate that nobody uses can't be known to be allowed."""
        return 2 * self._sent_limited >= self._sent

    def _wait_for_any(self, now_s: float) -> None:
        self.silences += 1
        self._refused_run = 0
        if self.silences > SILENCES_AT_RATE:
            self._raise_at_s, self._first_step = now_s + RAISE_SOON_S, STEP_AFTER_SILENCE
            self._hold_rate(CUT_MAX * self.per_s, now_s)

    # --- HELD -------------------------------------------------------------------------------------------------------

    def _watch_anew(self) -> None:
        low = self._noise_bound(1)
        self._cusum = Cusum(low, low + max(EXCESS_MIN, low), decisive=ALARM_WEIGHT)

    def _noise_bound(self, deviations: float) -> float:
        """No more than an experiment showed: at a rate that is a little too fast it would be learned as noise."""
        bound = self.noise.upper_bound(deviations)
        return bound if self._learns else min(bound, self._shown_bound)

    def _while_held(self, refused: bool, now_s: float) -> None:
        if refused and not self._cusum.weight:  # with what is known of the noise by now
            self._watch_anew()
        cusum = self._cusum
        if refused or cusum.weight:
            cusum.add_answer(refused=refused)
        self.noise.add_answers(refused, 1)
        self._since_check += 1
        if cusum.has_alarm and self.per_s <= FLOOR_SHARE * self.limit_per_s:
            self._raise_at_s = min(self._raise_at_s, now_s + RAISE_SOON_S)  # no slower rate to compare with
            self._watch_anew()
        elif cusum.has_alarm and cusum.answered >= ALARM_ANSWERS_MIN:
            self._suspected = cusum.refused, cusum.answered
            self.noise.add_answers(-cusum.refused, -cusum.answered)
            self._slow_down((cusum.refused - 1) / cusum.answered, FELL_TO, now_s)  # the last one made it an alarm
            return
        rising = 2 * cusum.weight > ALARM_WEIGHT  # then it is seen first what comes of that
        if self.held_per_s < self.limit_per_s and now_s >= self._raise_at_s and self._is_rate_used and not rising:
            self._raise_rate(max(self._first_step, self._smallest_step), now_s)
            self._first_step = 0.0
        elif (
            self.noise.mean > RECHECK_FROM
            and now_s > self._checked_s + self._recheck_every_s
            and self._since_check > RECHECK_EVERY_ANSWERS
        ):
            self._suspected = 0, 0
            self._slow_down(self.noise.mean, FELL_TO_RECHECKED, now_s)

    # --- SLOWED, RETURNED -------------------------------------------------------------------------------------------

    def _slow_down(self, share: float, fell_to: float, now_s: float) -> None:
        self._checked_s, self._since_check = now_s, 0
        self._measured = share < HEAVY_SHARE
        self._used_per_s = min(self.per_s, self.demand_per_s)
        self._begin_slowed_rate(
            self._used_per_s * max(CUT_MAX, min(SLOWER, BELOW * (1 - share))), share, fell_to, now_s
        )

    def _begin_slowed_rate(self, per_s: float, share: float, fell_to: float, now_s: float) -> None:
        low = fell_to * share
        if self.noise.mean < share / 2:
            low = max(low, self.noise.mean)
        odds = ODDS if share < HEAVY_SHARE else ODDS_HEAVY
        self._test = SequentialTest(low, share, odds=odds, answers_max=ANSWERS_MAX)
        self._enter_phase(Phase.SLOWED, per_s, now_s, SETTLE_S)

    def _while_slowed(self, refused: bool, sent_s: float, now_s: float) -> None:
        test = self._test
        test.add_answer(refused=refused)
        if sent_s < self._counts_from_s + SEEN_S:
            return
        if test.verdict is Verdict.LOW and (test.share <= NOISE_SHARE_MAX or self._is_measured(test.share)):
            self._slower_helped(now_s)
        elif test.verdict is Verdict.HIGH and (test.share <= NOISE_SHARE_MAX or self._is_measured(test.share)):
            known = self.noise.mean
            self._recheck_every_s = min(RECHECK_EVERY_S_MAX, 2 * self._recheck_every_s)
            self._learn_noise(test)
            if self.noise.mean > 2 * known:  # what was shown before was shown under another assumption
                self._raise_at_s = min(self._raise_at_s, now_s + RAISE_SOON_S)
            self._hold_rate(self.held_per_s, now_s)
        elif test.verdict is not None and test.answered >= MEASURED_ANSWERS:
            self._measured = True
            delivered = BELOW_FAR * (1 - test.share)
            self._begin_slowed_rate(self.per_s * max(CUT_MAX_MEASURED, delivered), test.share, FELL_TO, now_s)

    def _learn_noise(self, *tests: SequentialTest) -> None:
        """It was noise: what began the experiment and what came of it counts, whichever way it went. Were only those
        counted that agreed, the share would be wrong by that."""
        for refused, answered in (self._suspected, *((test.refused, test.answered) for test in tests)):
            self.noise.add_answers(refused, answered)
        self.noise_shown = self._learns = True

    def _is_measured(self, share: float) -> bool:
        """Whether the share that is compared with was itself measured, and is about the same."""
        return self._measured and share < 1.5 * self._test.high

    def _slower_helped(self, now_s: float) -> None:
        test = self._slowed = self._test
        self._noise_before = copy(self.noise)
        rest = test.refused >= REST_MIN and test.share > self._noise_bound(RETURN_DEVIATIONS)
        if not rest:
            self.noise.begin_anew(test.refused, test.answered)
        self._learns, self._shown_bound = False, self.noise.upper_bound(RETURN_DEVIATIONS)
        soon_after_raise = now_s < self._raised_at_s + LATE_S
        in_noise = test.refused or (self.noise_shown and self._noise_before.mean >= RECHECK_FROM)
        late, first = soon_after_raise and not in_noise, not self.limited
        if soon_after_raise:
            self._hold_s = min(HOLD_S_MAX, 3 * self._hold_s)
        if (late and not rest) or test.high >= HEAVY_SHARE:
            self._ceiling_per_s = self._used_per_s
            self._hold_limited(self.per_s, now_s)
            if rest:  # not noise yet: the limit may be lower still
                self._suspected = test.refused, test.answered
                self._slow_down(test.share, FELL_TO, now_s)
            elif first:  # how much is allowed isn't known well yet
                self._raise_at_s, self._first_step = now_s + RAISE_SOON_S, 2 * STEP_MIN
        else:
            if rest:
                self.noise.begin_anew(test.refused, test.answered)
            self._returned_until_s = now_s + max(self._hold_s, REFILLED * (now_s - self._began_s))
            low, high = self._expect_rise(self._used_per_s / self.per_s - 1, RETURN_DEVIATIONS, RETURN_RISE)
            self._test = SequentialTest(low, high, odds=RETURN_ODDS, answers_max=RETURN_ANSWERS_MAX, revisable=True)
            self._enter_phase(Phase.RETURNED, self.held_per_s, now_s)

    def _while_returned(self, refused: bool, now_s: float) -> None:
        test = self._test
        test.add_answer(refused=refused)
        if test.verdict is Verdict.HIGH:
            self._ceiling_per_s = self._used_per_s
            self._hold_limited(self._used_per_s / (1 + self._step), now_s, SETTLE_S)
        elif test.verdict is Verdict.LOW and now_s >= self._returned_until_s:
            self.noise = self._noise_before
            self._learn_noise(self._slowed, test)
            self._raised_at_s = now_s
            self._hold_rate(self.held_per_s, now_s)

    # --- RAISED -----------------------------------------------------------------------------------------------------

    @property
    def _smallest_step(self) -> float:
        share, answers = self.noise.mean, max(STEP_ANSWERS, 2.0 * self.held_per_s)
        return max(STEP_MIN, STEP_DEVIATIONS * math.sqrt(share * (1 - share) / answers))

    def _expect_rise(self, step: float, deviations: float, rise: float) -> tuple[float, float]:
        """The share of 429s without a limit, and with as many more as a rate that is faster by `step` would cause."""
        self._step, low = step, self._noise_bound(deviations)
        return low, low + rise * step / (1 + step)

    def _raise_rate(self, step: float, now_s: float) -> None:
        low, high = self._expect_rise(step, 1, PROBE_RISE)
        self._test = SequentialTest(low, high, odds=PROBE_ODDS, answers_max=ANSWERS_MAX, undecided=Verdict.HIGH)
        self._enter_phase(Phase.RAISED, self.held_per_s * (1 + step), now_s)

    def _while_raised(self, refused: bool, now_s: float) -> None:
        test = self._test
        test.add_answer(refused=refused)
        if test.verdict is Verdict.HIGH:
            back = STEP_BACK if self.noise.mean < RECHECK_FROM else STEP_BACK_IN_NOISE
            coarse = self._step > 1.5 * self._smallest_step and self._hold_s == HOLD_S_MIN
            self._ceiling_per_s = self.per_s
            self._hold_limited(self.held_per_s * (1 - back * self._smallest_step), now_s, SETTLE_S)
            if coarse:  # there may be room for a smaller step
                self._raise_at_s = now_s + max(RAISE_SOON_S, STEP_ANSWERS / self.held_per_s)
        elif test.verdict is Verdict.LOW and now_s - self._began_s >= self._hold_s:
            self._raised_at_s = now_s
            if not self._is_rate_used:
                self._raise_rate(self._step, now_s)
            else:
                self._go_on_from(self.per_s, now_s)

    def _go_on_from(self, per_s: float, now_s: float) -> None:
        """A probe succeeded: the next one goes further, but not twice as far into what refused the last one."""
        step = min(STEP_MAX, self._step * (2 if self._hold_s == HOLD_S_MIN else 1.5))
        self._hold_rate(per_s, now_s)
        if self.held_per_s >= self.limit_per_s:
            self.limited, self._hold_s = False, HOLD_S_MIN
        elif self.held_per_s >= self._ceiling_per_s or self.held_per_s * (1 + step) < self._ceiling_per_s:
            self._raise_rate(step, now_s)
        elif self.noise.mean < RECHECK_FROM:
            self._raise_rate(self._smallest_step, now_s)
        else:
            self._raise_at_s = now_s + self._raise_every_s / 2
