"""Secrets are hidden, however a text of the server spells them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.llamacloud import escapes, redaction
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


# --- All spellings, as a regular expression says them ----------------------------------------------------------------

BACKSLASH = r"(?:\\|%(?:25){0,3}5[cC])"
SEMICOLON = "(?:;|%(?:25){0,3}3[bB])"
AMPERSAND = f"(?:&|%(?:25){{0,3}}26)(?:amp{SEMICOLON}){{0,3}}"
HASH = "(?:#|%(?:25){0,3}23)"


def pattern_of_any_escape(character: str) -> str:
    """A character, escaped or not, up to four times over. A pattern of a whole secret takes seconds to compile."""
    if character == "\\":
        return f"{BACKSLASH}{{1,31}}"
    code, utf16 = ord(character), character.encode("utf-16-be", "surrogatepass").hex()
    units = f"{BACKSLASH}{{1,15}}u".join(re.findall("....", utf16))
    behind_backslashes = [f"u{units}", f"U{code:08x}", f"x{code:02x}"]
    if len(short := json.dumps(character)[1:-1]) == 2:
        behind_backslashes.append(re.escape(short[1]))
    in_html = [f"{HASH}0{{0,4}}{code}", f"{HASH}x0{{0,4}}{code:x}", *re.findall("&(.+);", html.escape(character))]
    in_address = "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    others = f"(?i:{in_address}|{AMPERSAND}(?:{'|'.join(in_html)}){SEMICOLON})"
    escaped = f"{BACKSLASH}{{1,15}}(?i:{'|'.join(behind_backslashes)})"
    return f"(?:{BACKSLASH}{{0,15}}(?:{re.escape(character)}|{others})|{escaped})"


PIECES = ["\\", "%", "25", "5C", "26", "amp;", "&", "#39;", "#x27;", "u", "0041", "x41", "n", "%41", "A", "'", "4", "1"]
PIECES += ["ö", "%C3%B6", "\\u00f6", "\U0001f600", "\\ud83d", "\\ude00", "%f0%9f", "%98%80", "quot;", "%3B", "%23"]
patient = settings(deadline=None, max_examples=300)


@patient
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), st.lists(st.sampled_from(PIECES), max_size=16))
def test_what_is_hidden_is_what_may_be_read_as_the_secret(secret: list[str], words: list[str]) -> None:
    """Also where what stands before it, or in it, looks like the beginning of an escape."""
    text, hidden = "".join(words), Secrets(["".join(secret)]).hide("".join(words))
    pattern = re.compile("".join(map(pattern_of_any_escape, "".join(secret))))
    assert (MASK in hidden) >= (pattern.search(text) is not None)
    assert pattern.search(hidden) is None or MASK in hidden


def test_hiding_takes_time_in_proportion_to_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the secret is, and however much the text is like it: no place of it is read more than once."""
    read: list[int] = []
    spelled_at = escapes.spelled_at

    def counted(text: str, start: int) -> object:
        read.append(start)
        return spelled_at(text, start)

    monkeypatch.setattr(redaction, "spelled_at", counted)
    secrets = Secrets(["x" * 4096])
    for text in ("x" * 4095 + "\\", ("x" * 4095 + "%78 ") * 4, "%25" * 5000, "\\" * 15000, "&amp;" * 3000):
        read.clear()
        secrets.hide(text)
        assert len(read) <= len(text)
        assert len(read) == len(set(read))


def test_the_longer_of_two_secrets_is_hidden_first() -> None:
    """Else its end would be left over."""
    assert Secrets(["secret", "secret word"]).hide("a secret word") == f"a {MASK}"


def test_secrets_are_hidden_in_all_of_an_errors_json() -> None:
    """In names as well."""
    body = {"detail": [{"loc": ["body", "SECRET", 3], "msg": "SECRET"}], "SECRET": None, "n": 1.5, "ok": True}
    hidden = Secrets(["SECRET"]).hide_in_json(body)
    assert hidden == {"detail": [{"loc": ["body", MASK, 3], "msg": MASK}], MASK: None, "n": 1.5, "ok": True}


def test_secrets_are_hidden_in_a_jobs_message_but_not_its_fields() -> None:
    """A header's value may be the same word as a status, or as an ID."""
    job = JobView("SECRET", "SECRET", project_id="SECRET", error_message="no SECRET, no job")
    page = Secrets(["SECRET"]).hide_in_page(JobPage((job, JobView("b", "PENDING")), "SECRET"))
    assert page.jobs[0] == JobView("SECRET", "SECRET", project_id="SECRET", error_message=f"no {MASK}, no job")
    assert (page.jobs[1], page.next_page_token) == (JobView("b", "PENDING"), "SECRET")
