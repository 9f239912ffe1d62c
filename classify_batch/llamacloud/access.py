"""Where the API is, and who asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

KEY_CHARACTERS_MIN = 12
"""Shorter keys are words (the sandbox's own is), and no secrets."""


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """What every request carries.

    Attributes:
        base_url: the API's, without the paths of the calls.
        key: the API key, which belongs to one region and one project.
        params: query parameters: the project and the organization, where they were given.
        more_secrets: what the server may repeat and nobody may read, beside the key: the webhooks' headers.
    """

    base_url: str
    key: SecretStr
    params: Mapping[str, str] = field(default_factory=dict)
    more_secrets: Collection[str] = ()

    @property
    def secrets(self) -> list[str]:
        """What is hidden in everything that the server says."""
        key = self.key.get_secret_value()
        return [*self.more_secrets, *([key] if len(key) >= KEY_CHARACTERS_MIN else [])]
