"""What settings must be to fit together, beyond what each must be by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from classify_batch.errors import SettingsError
from classify_batch.settings.config_file import CONFIG_FILE, ConfigFile
from classify_batch.settings.error_places import describe_place, explain_long_description
from classify_batch.vocabulary import SANDBOX

if TYPE_CHECKING:
    from classify_batch.settings.settings import Settings


_Leaf = tuple[tuple[str | int, ...], Any, Any]
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


class _Misfit(NamedTuple):
    where: tuple[str | int, ...]
    words: str
    hint: str


def refuse_misfits(settings: Settings, options: Mapping[str, object]) -> None:
    """Raises SettingsError naming every setting that doesn't fit the others."""
    misfits = [*find_mistyped_values(settings, CONFIG_FILE.get(), options), *find_misfits(settings)]
    said = [
        f"{describe_place(each.where, CONFIG_FILE.get(), options)}{'.'.join(map(str, each.where))}: {each.words}"
        for each in misfits
    ]
    if misfits:
        words = said[0] if len(said) == 1 else "\n  ".join([f"{len(said)} faults in the settings", *said])
        raise SettingsError(words, hint=misfits[0].hint)


def find_mistyped_values(settings: Settings, file: ConfigFile, options: Mapping[str, object]) -> Iterator[_Misfit]:
    """Values of the file that were taken for what they aren't: a number in quotes, 3.0 for 3. The environment has
    nothing but text, so pydantic reads such values; a file says what it means."""
    for where, value, taken_as in single_values(file.values, settings):
        kind = type(taken_as)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if kind in _KINDS and not fits and describe_place(where, file, options).startswith(str(file.path)):
            hint = f"mend {file.path}: numbers, true and false stand without quotes"
            yield _Misfit(where, f"must be {_KINDS[kind]} (given: {value!r})", hint)


def single_values(values: Any, taken_as: Any, where: tuple[str | int, ...] = ()) -> Iterator[_Leaf]:
    """Each single value, where it stands, and what it was taken as."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            inside = taken_as.get(name) if isinstance(taken_as, Mapping) else getattr(taken_as, name, None)
            yield from single_values(value, inside, (*where, name))
    elif isinstance(values, list) and isinstance(taken_as, tuple):
        for number, (value, inside) in enumerate(zip(values, taken_as, strict=False)):
            yield from single_values(value, inside, (*where, number))
    else:
        yield where, values, taken_as


def find_misfits_with_version(settings: Settings) -> Iterator[_Misfit]:
    """What one version of the API takes, and the other doesn't."""
    job = settings.job
    if job.webhook_configuration_ids and not settings.api.capabilities.stored_webhooks:
        yield _Misfit(
            ("job", "webhook_configuration_ids"),
            f"{settings.api.version} of the API keeps no webhooks",
            'give job.webhook_configurations, or set api.version = "v2"',
        )
    description_max = settings.api.capabilities.description_max
    for index, rule in enumerate(job.rules):
        if len(rule.description) > description_max:
            yield _Misfit(
                ("job", "rules", index, "description"),
                explain_long_description(rule.description),
                "say it in fewer words",
            )


def find_misfits_of_accounts(settings: Settings) -> Iterator[_Misfit]:
    """Accounts that can't be distinguished, or have no server of their own."""
    seen: dict[str, int] = {}
    variables: dict[str, int] = {}
    for index, account in enumerate(settings.accounts):
        if (first := seen.setdefault(account.name, index)) != index:
            words = f"account {first} has this name already (given: {account.name!r})"
            yield _Misfit(("accounts", index, "name"), words, "give each account a name of its own")
        if (first := variables.setdefault(account.api_key_env, index)) != index:
            words = f"account {settings.accounts[first].name!r} has its key from this variable already"
            hint = "give each account a key of its own: two with one key would share its rate"
            yield _Misfit(("accounts", index, "api_key_env"), words, hint)
        if account.api_settings_for(settings.api).base_url == SANDBOX:
            where = ("api", "base_url") if account.base_url is None else ("accounts", index, "base_url")
            words = f"the embedded sandbox has one key, and account {account.name!r} needs one of its own"
            hint = "start `classify-batch sandbox --api-key KEY` for each account, and give its URL as base_url"
            yield _Misfit(where, words, hint)


def find_misfits(settings: Settings) -> Iterator[_Misfit]:
    yield from find_misfits_of_accounts(settings)
    modes, job = settings.api.capabilities.modes, settings.job
    if job.mode not in modes:
        yield _Misfit(
            ("job", "mode"),
            f"{settings.api.version} of the API knows {' and '.join(modes)} only (given: {job.mode!r})",
            'set job.mode = "FAST", or api.version = "v1", which knows MULTIMODAL',
        )
    yield from find_misfits_with_version(settings)
    if (escalation := settings.escalation) is not None:
        if len(modes) == 1:
            yield _Misfit(
                ("escalation",),
                f"{settings.api.version} of the API knows one mode only, so there is no better one for a second look",
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
