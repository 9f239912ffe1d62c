"""The numbers of `rate_control`, each with its reason; tried on the cases of `scripts/bench rate-table`, many seeds."""

from __future__ import annotations

FLOOR_SHARE = 0.01
"""Some servers answer 429 whatever the rate: such a one must not bring a run to a halt."""

SETTLE_S = 1.0
SETTLE_REQUESTS = 8
"""So long after going slower answers don't count, or for so many requests where these take longer: a server's window
may be full of what was sent before."""

ALARM_WEIGHT = 4.0
ALARM_ANSWERS_MIN = 12
"""A share that is known from fewer answers is known too badly to be compared with."""

EXCESS_MIN = 0.02
"""A smaller rise of the share of 429s isn't searched for: it costs less than the search."""

HEAVY_SHARE = 0.2
"""From here on slowing down a little shows nothing, and a share that fell needs no second proof."""

NOISE_SHARE_MAX = 0.1
"""A larger share that didn't fall may be that of a limit far below: it is noise if it doesn't fall at a rate either
that is below what was measured to be delivered."""

SLOWER = 0.92
BELOW = 0.96
BELOW_FAR = 0.85
CUT_MAX = 0.5
CUT_MAX_MEASURED = 0.1
"""To what share of the rate an experiment goes: by SLOWER, or to BELOW of what is delivered; to no less than CUT_MAX
unless what is delivered was measured at a rate that had settled. A far lower rate is known less well, and what is still
refused at it would be taken for noise: then to BELOW_FAR."""

MEASURED_ANSWERS = 20
SEEN_S = 2.0
"""For so long requests are sent at a slower rate before it is judged: a window that is full lets some through in a row,
and then none, and a part of that says nothing."""

FELL_TO = 0.25
FELL_TO_RECHECKED = 0.5
ODDS = 10
ODDS_HEAVY = 50
ANSWERS_MAX = 200

REST_MIN = 3
"""So many refusals at a rate at which there are fewer, and more than noise was known for, begin an experiment at
once."""

STEP_MIN = 0.04
STEP_MAX = 0.25
STEP_BACK = 0.25
STEP_BACK_IN_NOISE = 0.35
"""What a probe that fails takes back: more where a probe that succeeds may have done so by chance."""

STEP_ANSWERS = 50
STEP_DEVIATIONS = 3.0
"""A probe goes up by so much that 50 answers can tell the rise from the noise."""

RETURN_DEVIATIONS = 2.0
RETURN_RISE = 0.5
RETURN_ODDS = 200
RETURN_ANSWERS_MAX = 400
"""A few answers at the slower rate may have been lucky: the share must rise beyond that to show a limit. And where
there is noise, chance begins an experiment every minute or so: one in a hundred of them may be wrong, not one in ten,
since what it shows is kept, and remembered for the next process."""

STEP_AFTER_SILENCE = 1.0
PROBE_ODDS = 12
PROBE_RISE = 0.7
"""A probe looks for so much of the rise that it would cause at the limit: the rate held is a little below it."""

HOLD_S_MIN = 1.2
HOLD_S_MAX = 10.0
"""How long a probe lasts at least: a window of a second must have ended in it. A limit that answered later (a token
bucket, which has to be emptied first) triples it."""

REFILLED = 1.5
"""A token bucket fills while the rate is slower: back at the rate as before it takes as long until it is empty."""

LATE_S = 20.0
"""A share that rises so soon after a rate was raised rose because of that."""

RAISE_EVERY_S = 10.0
RAISE_EVERY_REQUESTS = 250
RAISE_SOON_S = 2.0

RECHECK_FROM = 0.01
RECHECK_EVERY_S = 40.0
RECHECK_EVERY_S_MAX = 320.0
RECHECK_EVERY_ANSWERS = 1000
"""Noise is checked again, ever more seldom while it stays noise."""

REFUSED_RUN = 5
SILENCES_AT_RATE = 3
"""So many refusals in a row, with nothing accepted, are waited out; when that was too short so many times, the rate is
far too high, and is halved."""
