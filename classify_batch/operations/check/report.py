"""The report of a check: lines for a person, one object for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from classify_batch.errors import ExitStatus
from classify_batch.inputs.ids import shorten
from classify_batch.operations.check.check_input import Report
from classify_batch.operations.check.estimate import PlanSize, format_uploads
from classify_batch.operations.check.findings import INPUT, Finding, Severity
from classify_batch.rundir.cost import format_cost
from classify_batch.rundir.disk_space import format_disk_space

_VERDICTS = {
    ExitStatus.COMPLETE: "nothing stops a run",
    ExitStatus.USAGE: "fix the input or the settings first",
    ExitStatus.PERSON: "a person must act first",
    ExitStatus.INCOMPLETE: "the API is down; try again later",
}


def format_report(report: Report) -> Iterator[str]:
    """The report as lines."""
    if report.files is not None:
        yield f"files       {report.files:,}  ({report.duplicates:,} repeated IDs left out)"
    if report.size is not None:
        yield from format_size(report.size)
        yield from format_disk_space(report.size.disk, report.size.files, report.free)
        yield f"looked up   {report.looked_up:,} of {report.size.files:,} files in the project"
    for finding in sorted(report.findings, key=lambda each: list(Severity).index(each.severity)):
        yield f"{finding.severity:<12}{finding.message}{format_examples(finding)}"
        yield f"  hint: {finding.hint}"
    yield f"result      {_VERDICTS[report.exit_status]}"


def format_size(size: PlanSize) -> Iterator[str]:
    """The size, time and cost of the plan, as lines."""
    each = "file" if size.files_per_job == 1 else "files"
    yield f"chunks      {size.chunks:,}  (of up to {size.files_per_job} {each})"
    if size.uploads is not None:
        yield format_uploads(size.uploads)
    yield f"requests    {size.requests:,}  at least; polls{' and uploads' if size.uploads else ''} come on top"
    yield f"time        at least {format_duration(size.least_s)}  ({size.follows_from})"
    if size.times_a_job > 1:
        yield f"            and at least {size.times_a_job:,.4g} times as long as a job takes  (limits.jobs_in_flight)"
    yield from format_cost(size.cost)


def format_examples(finding: Finding) -> str:
    """The first few IDs, or lines, that a finding is about."""
    if not finding.examples:
        return ""
    more = finding.count is not None and finding.count > len(finding.examples)
    if finding.code == INPUT:  # a single bad line is the message itself
        return "" if finding.count == 1 else f": {'; '.join(finding.examples)}{'; …' if more else ''}"
    return f": {', '.join(map(shorten, finding.examples))}{', …' if more else ''}"


def format_duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{max(1, whole)} s"
    minutes, hours = divmod(whole, 60), divmod(whole // 60, 60)
    if whole < 3600:
        return f"{minutes[0]} min {minutes[1]} s"
    return f"{hours[0]:,} h {hours[1]} min"


def summarize_report(report: Report) -> Mapping[str, object]:
    """The report as one object."""
    size = report.size
    return {
        "exit_status": int(report.exit_status),
        "files": report.files,
        "duplicates": report.duplicates,
        "chunks": None if size is None else size.chunks,
        "requests_at_least": None if size is None else size.requests,
        "uploads": None
        if size is None or size.uploads is None
        else {
            "documents": size.uploads.documents,
            "bytes": size.uploads.bytes,
            "requests_at_most": size.uploads.requests,
        },
        "least_s": None if size is None else round(size.least_s, 3),
        "cost": None
        if size is None
        else {
            "pages": size.cost.pages,
            "credits": size.cost.credits,
            "dollars": round(size.cost.dollars, 6),
            "parse_jobs": size.cost.parse_jobs,
        },
        "disk": None
        if size is None
        else {"bytes": size.disk.total_bytes, "free_bytes": None if report.free is None else report.free.bytes},
        "looked_up": report.looked_up,
        "findings": [
            {
                "severity": finding.severity,
                "code": finding.code,
                "message": finding.message,
                "hint": finding.hint,
                "count": finding.count,
                "examples": finding.examples,
            }
            for finding in report.findings
        ],
    }
