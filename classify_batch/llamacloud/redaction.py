"""The key and the webhooks' headers, which a server, or what stands before it, may repeat.

They are hidden in texts that are shown and kept: errors, and a job's `error_message`. Fields by which code decides (a
status, an ID, a type) stay as they came: a header's value may be the same word.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from classify_batch.model import JobPage, JobView

MASK = "**********"

_KEPT_MAX = 16 * 1024
"""No more of a text of the server is kept anywhere."""

_BACKSLASH = r"(?:\\|%(?:25){0,3}5[cC])"
_SEMICOLON = "(?:;|%(?:25){0,3}3[bB])"
_AMPERSAND = f"(?:&|%(?:25){{0,3}}26)(?:amp{_SEMICOLON}){{0,3}}"
_HASH = "(?:#|%(?:25){0,3}23)"


class Secrets:
    """Hides secrets however a text spells them: as they are, escaped as in JSON, Python, HTML or a URL, or escaped in
    one of these and then in another, as proxies do it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted(set(secrets), key=len, reverse=True)  # one may be a part of another
        written = ("".join(map(pattern_of_any_escape, secret)) for secret in longest_first)
        self._written = re.compile("|".join(written)) if longest_first else None

    def hide(self, words: str) -> str:
        """The text without the secrets. Takes 0.4 µs a character, and 7 for a text that is chosen to make it slow."""
        return words if self._written is None else self._written.sub(MASK, words)

    def hide_in(self, body: Any) -> Any:
        """An error's JSON without the secrets, in its keys too."""
        if isinstance(body, str):
            return self.hide(body[:_KEPT_MAX])
        # Keys too: a server may repeat a header as the key of an object.
        if isinstance(body, dict):
            return {self.hide(name): self.hide_in(value) for name, value in body.items()}
        return [self.hide_in(value) for value in body] if isinstance(body, list) else body

    def hide_in_job(self, job: JobView) -> JobView:
        if job.error_message is None:
            return job
        return replace(job, error_message=self.hide(job.error_message[:_KEPT_MAX]))

    def hide_in_page(self, page: JobPage) -> JobPage:
        if not any(job.error_message for job in page.jobs):
            return page
        return replace(page, jobs=tuple(map(self.hide_in_job, page.jobs)))


def pattern_of_any_escape(character: str) -> str:
    """A regular expression for a character, escaped or not, up to four times over: each time that escaped text is
    escaped again, only backslashes, `25` behind a percent sign and `amp;` behind an ampersand are added."""
    if character == "\\":
        return f"{_BACKSLASH}{{1,31}}"
    code, utf16 = ord(character), character.encode("utf-16-be", "surrogatepass").hex()
    # Characters beyond U+FFFF are two UTF-16 units in JSON, each with its own backslash.
    units = f"{_BACKSLASH}{{1,15}}u".join(re.findall("....", utf16))
    behind_backslashes = [f"u{units}", f"U{code:08x}", f"x{code:02x}"]
    if len(short := json.dumps(character)[1:-1]) == 2:  # a line break, as backslash and n
        behind_backslashes.append(re.escape(short[1]))
    in_html = [f"{_HASH}0{{0,4}}{code}", f"{_HASH}x0{{0,4}}{code:x}", *re.findall("&(.+);", html.escape(character))]
    in_address = "".join(f"%(?:25){{0,3}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    others = f"(?i:{in_address}|{_AMPERSAND}(?:{'|'.join(in_html)}){_SEMICOLON})"
    escaped = f"{_BACKSLASH}{{1,15}}(?i:{'|'.join(behind_backslashes)})"
    return f"(?:{_BACKSLASH}{{0,15}}(?:{re.escape(character)}|{others})|{escaped})"
