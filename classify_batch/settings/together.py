"""What settings must be to fit together, beyond what each must be by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from classify_batch.errors import SettingsError
from classify_batch.settings.faults import place
from classify_batch.settings.file import CONFIG_FILE

if TYPE_CHECKING:
    from classify_batch.settings.settings import Settings


class _Misfit(NamedTuple):
    where: tuple[str, ...]
    words: str
    hint: str


def refuse_misfits(settings: Settings, options: Mapping[str, Any]) -> None:
    """Raises SettingsError naming every setting that doesn't fit the others."""
    misfits = list(_misfits(settings))
    said = [f"{place(each.where, CONFIG_FILE.get(), options)}{'.'.join(each.where)}: {each.words}" for each in misfits]
    if misfits:
        words = said[0] if len(said) == 1 else "\n  ".join([f"{len(said)} faults in the settings", *said])
        raise SettingsError(words, hint=misfits[0].hint)


def _misfits(settings: Settings) -> Iterator[_Misfit]:
    v2, job = settings.api.version == "v2", settings.job
    if v2 and job.mode != "FAST":
        yield _Misfit(
            ("job", "mode"),
            f"v2 of the API knows FAST only (given: {job.mode!r})",
            'set job.mode = "FAST", or api.version = "v1", which knows MULTIMODAL',
        )
    if (escalation := settings.escalation) is not None:
        if v2:
            yield _Misfit(
                ("escalation",),
                "v2 of the API knows one mode only, so there is no better one for a second look",
                'leave the section out, or set api.version = "v1"',
            )
        if escalation.below_confidence is None and not escalation.unmatched:
            yield _Misfit(
                ("escalation",), "it names no answer to look at again", "set below_confidence, or unmatched = true"
            )
        if escalation.mode == job.mode:
            yield _Misfit(
                ("escalation", "mode"),
                f"the first look is in this mode already (given: {job.mode!r})",
                "a second look pays in another mode only",
            )
    if (triage := settings.triage) is not None:
        unknown = sorted(set(triage.by_type) - {rule.type for rule in job.rules})
        if unknown:
            yield _Misfit(("triage", "by_type"), f"no rule has the type {unknown[0]!r}", "name types of job.rules")
