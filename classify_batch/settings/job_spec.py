"""What every create call says besides the files, by the API's own names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_serializer, field_validator

from classify_batch.model import Part

Mode = Literal["FAST", "MULTIMODAL"]

Language = Literal[
    "af", "az", "bs", "cs", "cy", "da", "de", "en", "es", "et", "fr", "ga", "hr", "hu", "id", "is", "it", "ku", "la",
    "lt", "lv", "mi", "ms", "mt", "nl", "no", "oc", "pi", "pl", "pt", "ro", "rs_latin", "sk", "sl", "sq", "sv", "sw",
    "tl", "tr", "uz", "vi", "ar", "fa", "ug", "ur", "bn", "as", "mni", "ru", "rs_cyrillic", "be", "bg", "uk", "mn",
    "abq", "ady", "kbd", "ava", "dar", "inh", "che", "lbe", "lez", "tab", "tjk", "hi", "mr", "ne", "bh", "mai", "ang",
    "bho", "mah", "sck", "new", "gom", "sa", "bgc", "th", "ch_sim", "ch_tra", "ja", "ko", "ta", "te", "kn",
]  # fmt: skip
"""The 86 languages that the API documents for `parsing_configuration.lang`."""


class StrictModel(BaseModel):
    """What a person configures: frozen, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("true and false mean nothing here")  # pydantic would read true as the number 1
        return value


DESCRIPTION_MAX = 2000
"""Characters of a rule's description: what one of the vendor's v1 references allows. Another one, and v2, allow
`DESCRIPTION_SURE_MAX`."""

DESCRIPTION_SURE_MAX = 500


class Rule(StrictModel):
    """One type and the description by which files are recognised as it."""

    type: str = Field(min_length=1, max_length=50, pattern=r"^[A-Za-z0-9 _-]+$")
    description: str = Field(min_length=10, max_length=DESCRIPTION_MAX)


class ParsingConfiguration(StrictModel):
    """How files are read before they are classified. Unset fields are left to the API (5 pages on v1)."""

    lang: Language | None = None
    max_pages: int | None = Field(default=None, ge=1)
    target_pages: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """0-based page numbers."""


class WebhookConfiguration(StrictModel):
    """The URL that the API calls when a job ends. Headers and the signing secret are secrets: masked in every repr,
    stored nowhere.

    Attributes:
        webhook_signing_secret: the API signs what it sends with it (HMAC-SHA256, in the header `LC-Signature`).
        webhook_output_format: of the results in what it sends; None: the API's default, `string`.
    """

    webhook_url: str
    webhook_events: tuple[str, ...] | None = None
    webhook_headers: dict[str, SecretStr] | None = None
    webhook_signing_secret: SecretStr | None = None
    webhook_output_format: Literal["string", "json"] | None = None

    @property
    def secret_values(self) -> tuple[str, ...]:
        """The secret values themselves."""
        signing = () if self.webhook_signing_secret is None else (self.webhook_signing_secret,)
        return tuple(value.get_secret_value() for value in (*(self.webhook_headers or {}).values(), *signing))

    @field_serializer("webhook_headers")
    def _hide_headers(self, headers: dict[str, SecretStr] | None) -> dict[str, str] | None:
        return None if headers is None else dict.fromkeys(headers, "**********")


class JobSpec(StrictModel):
    """The body of every create call, by the API's own names; what decides the answers besides the file itself."""

    mode: Mode = "FAST"
    rules: tuple[Rule, ...] = Field(min_length=1)
    parsing_configuration: ParsingConfiguration | None = None
    webhook_configurations: tuple[WebhookConfiguration, ...] = ()
    webhook_configuration_ids: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """v2 only: webhooks that the API keeps, by their IDs."""


@dataclass(frozen=True, slots=True)
class JobSpecs:
    """What a run's create calls contain: for first answers, and for second ones, where there are any."""

    first: JobSpec
    second: JobSpec | None = None

    def spec_of_part(self, part: Part) -> JobSpec:
        """The specification that a part is sent with."""
        return self.first if part.first is None or self.second is None else self.second
