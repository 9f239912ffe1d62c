"""Secrets are hidden, however a text of the server spells them."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.llamacloud.redaction import MASK, Secrets
from classify_batch.model import JobPage, JobView

SECRETS = [
    "Bearer SECRET",
    '{"token": "SECRET"}',
    'Digest username="x", response="SECRET"',
    "tök'SECRET'\\",
    "a=1&b=SECRET",
]
WRITTEN: list[Callable[[str], str]] = [
    str,
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
    repr,
    html.escape,
    lambda text: quote(text, safe=""),
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("first", WRITTEN)
@pytest.mark.parametrize("then", WRITTEN)
def test_a_secret_is_hidden_in_every_escaped_form(
    secret: str, first: Callable[[str], str], then: Callable[[str], str]
) -> None:
    """As a proxy that repeats a request may do it: JSON as text within JSON, or as Python shows it."""
    words = f"you sent {then(first(secret))}, and that is wrong"
    hidden = Secrets([secret, "another one"]).hide(words)
    assert MASK in hidden
    assert "SECRET" not in hidden


@given(st.text())
def test_text_without_a_secret_is_unchanged(words: str) -> None:
    """Whatever they are."""
    assert Secrets([]).hide(words) == words
    assert Secrets(["\x00nobody says this\x00"]).hide(words) == words


@given(st.text(min_size=6), st.sampled_from(WRITTEN), st.sampled_from(WRITTEN))
def test_any_secret_is_hidden(secret: str, first: Callable[[str], str], then: Callable[[str], str]) -> None:
    """Whatever it is made of."""
    try:
        words = then(first(secret))
    except UnicodeEncodeError:
        return  # an address has no lone surrogates
    assert MASK in Secrets([secret]).hide(words)


def test_the_longer_of_two_secrets_is_hidden_first() -> None:
    """Else its end would be left over."""
    assert Secrets(["secret", "secret word"]).hide("a secret word") == f"a {MASK}"


def test_secrets_are_hidden_in_all_of_an_errors_json() -> None:
    """In names as well."""
    body = {"detail": [{"loc": ["body", "SECRET", 3], "msg": "SECRET"}], "SECRET": None, "n": 1.5, "ok": True}
    hidden = Secrets(["SECRET"]).hide_in(body)
    assert hidden == {"detail": [{"loc": ["body", MASK, 3], "msg": MASK}], MASK: None, "n": 1.5, "ok": True}


def test_secrets_are_hidden_in_a_jobs_message_but_not_its_fields() -> None:
    """A header's value may be the same word as a status, or as an ID."""
    job = JobView("SECRET", "SECRET", project_id="SECRET", error_message="no SECRET, no job")
    page = Secrets(["SECRET"]).hide_in_page(JobPage((job, JobView("b", "PENDING")), "SECRET"))
    assert page.jobs[0] == JobView("SECRET", "SECRET", project_id="SECRET", error_message=f"no {MASK}, no job")
    assert (page.jobs[1], page.next_page_token) == (JobView("b", "PENDING"), "SECRET")
