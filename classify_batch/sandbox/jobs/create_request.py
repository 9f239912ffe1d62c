"""What a create asks for, in either version of the API."""

from __future__ import annotations

from typing import NamedTuple

from classify_batch.protocol import v1, v2
from classify_batch.sandbox.documents.project import JobConfig
from classify_batch.settings.job_spec import ParsingConfiguration, Rule


class CreateRequest(NamedTuple):
    """A well-formed create.

    Attributes:
        file_ids: as they were sent, repeated ones too; on v2 there is one.
        transaction_id: v2's idempotency key.
    """

    file_ids: tuple[str, ...]
    config: JobConfig
    mode: str = "FAST"
    transaction_id: str | None = None


def parse_create_request(body: v1.CreateBody | v2.CreateBody) -> CreateRequest:
    """The create request that a well-formed body stands for."""
    if isinstance(body, v1.CreateBody):
        config = JobConfig(tuple(body.rules), body.parsing_configuration)
        return CreateRequest(tuple(body.file_ids), config, body.mode or "FAST")
    configuration = body.configuration
    rules = tuple(Rule(type=rule.type, description=rule.description) for rule in configuration.rules)
    config = JobConfig(rules, _parsing_configuration(configuration.parsing_configuration), "v2")
    return CreateRequest((body.file_input,), config, configuration.mode or "FAST", body.transaction_id)


def _parsing_configuration(configuration: v2.ParsingLimits | None) -> ParsingConfiguration | None:
    if configuration is None:
        return None
    pages = None if configuration.target_pages is None else v2.parse_target_pages(configuration.target_pages)
    return ParsingConfiguration(lang=configuration.lang, max_pages=configuration.max_pages, target_pages=pages)
