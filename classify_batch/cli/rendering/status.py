"""A run's status for a person: the summary, and around it when, by whom, why, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

from classify_batch.cli.rendering.summary import format_run_summary
from classify_batch.errors import EXIT_STATUS_MEANINGS, ExitStatus
from classify_batch.protocol.sanitize import printable_line

if TYPE_CHECKING:
    from classify_batch.run_records import StartKeys
    from classify_batch.rundir.manifest_json import Manifest
    from classify_batch.rundir.percentages import Percentiles

LINE_COLUMNS = 80

STARTS_SHOWN = 10
MESSAGES_SHOWN = 10

LIMITS_SHOWN = (
    "jobs_in_flight",
    "requests_in_flight",
    "requests_per_s",
    "creates_per_s",
    "max_credits",
    "attempts",
    "tolerated_failure_percentage",
    "stop_at_failure_percentage",
)
"""The limits that people change; `--json` has all."""


def format_status(status: Manifest) -> list[str]:
    """All that is known, as lines."""
    lines = [*format_run_summary(status), *_format_accounts(status), *_format_messages(status), *_format_times(status)]
    if limits := _format_limits(status.get("limits") or {}):
        lines += wrap(f"limits      {limits}", LINE_COLUMNS, subsequent_indent=12 * " ", break_on_hyphens=False)
    lines += _format_ending(status)
    if hint := status.get("hint"):
        lines.append(f"hint: {hint}")
    return [*lines, f"next: {status['next']}"]


def format_progress_line(status: Manifest) -> str:
    """How far a run is, in one line."""
    counts, done = status["counts"], sum(status["counts"].values())
    words = [f"{done:,} of {status['files']:,} files", *(f"{count:,} {kind}" for kind, count in counts.items())]
    if (left_s := status.get("time_left_s")) is not None:
        words.append(f"{format_seconds(left_s)} left")
    return ", ".join([status["state"], *words])


def format_seconds(seconds: float) -> str:
    """As `1:02:03`; less than a minute with a unit."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _format_accounts(status: Manifest) -> Iterator[str]:
    accounts = status.get("accounts") or {}
    if accounts:
        yield "accounts"
    width = max(map(len, accounts), default=0)
    for name, share in accounts.items():
        words = f"{share['files']:,} files, {share['jobs']:,} jobs, at most {share['credits']:,.10g} credits"
        left = f"; {share['open']:,} open" if share["open"] else ""
        yield f"  {name:<{width}}  {words}{left}"


def _format_messages(status: Manifest) -> Iterator[str]:
    messages, read = status.get("failure_messages") or [], status.get("failures_read", 0)
    failed = status["counts"]["failed"]
    if not messages:
        return
    yield "messages" if read >= failed else f"messages    of the first {read:,} of {failed:,} failures"
    for each in messages[:MESSAGES_SHOWN]:
        yield f"  {each['files']:>10,}  {printable_line(each['code'], 30)}: {printable_line(each['message'], 200)}"
    if len(messages) > MESSAGES_SHOWN:
        yield f"  … and {len(messages) - MESSAGES_SHOWN} more"


def _format_times(status: Manifest) -> Iterator[str]:
    starts = status.get("starts") or []
    first = starts[0]["started_at"] if starts else status["started_at"]
    if first:
        yield f"started     {first}"
    if stopped := status["stopped_at"]:
        yield f"stopped     {stopped}"
    if (left_s := status.get("time_left_s")) is not None:
        yield f"time left   about {format_seconds(left_s)}, at the pace of the process that is at work"
    count = status.get("start_count", len(starts))
    if starts and count > min(len(starts), STARTS_SHOWN):
        yield f"processes   {count:,}; the last {min(len(starts), STARTS_SHOWN)}:"
    elif starts:
        yield "processes"
    for start in starts[-STARTS_SHOWN:]:
        yield f"  {_format_start(start, at_work=start is starts[-1] and 'holder' in status)}"
    for title, name in (("job time", "job_s"), ("waiting", "waiting_s")):
        if values := status.get(name):
            yield f"{title:<12}{_format_percentiles(values)}"  # type: ignore[arg-type]  # one of the two


def _format_start(start: StartKeys, *, at_work: bool) -> str:
    who = f"process {start['pid']} on {printable_line(start['host'] or '')}" if start["host"] else "a process"
    began = _to_second(start["started_at"])
    version = f", {printable_line(start['version'], 40)}" if start["version"] else ""
    version += f", account {printable_line(account)}" if (account := start.get("account")) is not None else ""
    if start["stopped_at"]:
        ended = _to_second(start["stopped_at"])
        same_day = ended[:10] == began[:10]
        end = f"to {ended[11:] if same_day else ended}, status {start['exit_status']}"
        end += f": {printable_line(start['reason'], 120)}" if start["reason"] else ""
    else:
        end = "at work" if at_work else "ended without a word (killed, or the machine stopped)"
    return f"{began} {end} ({who}{version})"


def _to_second(text: str) -> str:
    """An RFC 3339 time without fractions of a second."""
    return f"{printable_line(text)[:19]}Z"


def _format_percentiles(values: Percentiles) -> str:
    shown = ", ".join(f"{name} {format_seconds(values[name])}" for name in ("p50", "p95", "p99"))
    return f"{shown} (of the last {values['count']:,})"


def _format_limits(limits: Mapping[str, object]) -> str:
    known = [(name, limits[name]) for name in LIMITS_SHOWN if limits.get(name) is not None]
    shown = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in known]
    return ", ".join((["paused: no new jobs until `tune --resume`"] if limits.get("paused") else []) + shown)


def _format_ending(status: Manifest) -> Iterator[str]:
    code = status["exit_status"]
    if code is None:
        return
    known = code in list(ExitStatus)
    yield f"exit        {code}{f': {EXIT_STATUS_MEANINGS[ExitStatus(code)]}' if known else ''}"
