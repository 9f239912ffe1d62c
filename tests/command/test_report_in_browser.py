"""The page of a report in a real browser, Debian's Chromium without a window: what a person would see, in both themes.

`scripts/integration` installs Chromium where apt can; without it these tests are left out, and say so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from classify_batch.operations.report.shard_rows import SHARDS_SHOWN_MAX
from tests.support.command_line import command
from tests.support.complete_run import write_complete_shards

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium on this machine"),
]

OLD_RUNS = Path(__file__).parents[1] / "old_runs"
OWN_REQUEST = re.compile(rb"(GET|POST|CONNECT) (https?://)?[\w.-]*\.(google|googleapis|gvt1)\.com[:/ ]")
"""What Chromium itself asks its maker, whatever page it shows; here it reaches the counting proxy only."""
LAST_LABEL = re.compile(r'(<p class="ticks".*<span style="left:)[\d.]+%(">)[^<]*(</span></p>)')
PROBE = """
<script>
const channel = value => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const behind = each => {
  for (; each; each = each.parentElement) {
    const found = rgb(getComputedStyle(each).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const texts = [...document.querySelectorAll("body *")].filter(each =>
  !each.closest("svg, script") && [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
const worst = Math.min(...texts.map(each => contrast(rgb(getComputedStyle(each).color), behind(each))));
const shapes = [...document.querySelectorAll("rect.good, rect.plain, div.lane rect")];
const faintest = Math.min(99, ...shapes.map(each =>
  contrast(rgb(getComputedStyle(each).fill), behind(each.ownerSVGElement.parentElement))));
const unnamed = [...document.querySelectorAll("svg")].filter(each =>
  each.getAttribute("aria-hidden") !== "true" &&
  !(each.getAttribute("role") === "img" && each.querySelector(":scope > title"))).length;
const levels = [...document.querySelectorAll("h1,h2,h3")].map(each => each.tagName[1]).join("");
const reached = [...document.querySelectorAll("a[href], [tabindex]")].filter(each => {
  each.focus();
  return document.activeElement === each;
}).length;
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const drawn = shapes.filter(each => each.getBoundingClientRect().width > 0).length;
document.title = JSON.stringify({worst, faintest, unnamed, levels, reached, wide, drawn});
</script>
"""
"""Measures the page from inside; only the test's copy has it, and a policy that lets it run."""


def browse(page: Path, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What Chromium says about a page: its tree on stdout, its console on stderr."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    call = ["chromium", "--headless", "--disable-gpu", *sandbox, f"--user-data-dir={tmp_path / 'profile'}"]
    quiet = ["--enable-logging=stderr", "--disable-background-networking", "--no-first-run"]
    call += [*quiet, "--virtual-time-budget=1000", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=True)


EVENTS = ("rate_limited", "outage", "waiting", "waiting", "waiting")
REASONS = ("cool_down", "credits", "paused")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with failures of every kind, which everything held up that can."""
    target = tmp_path / "run"
    shutil.copytree(OLD_RUNS / "failures_v1" / "run", target)
    at = json.loads((target / "journal.jsonl").read_text().splitlines()[-1])["at"]
    spans = [{"at": at, "event": event, "from": at, "to": at, "answers": 1} for event in EVENTS]
    for span, reason in zip(spans[-3:], REASONS, strict=True):
        span["reason"] = reason
    found = {"at": at, "event": "limit_discovered", "name": "requests_per_s", "value": 7.5}
    (target / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (*spans, found)))
    return target


@pytest.fixture
def page(run_dir: Path, tmp_path: Path) -> Path:
    """Its report."""
    target = tmp_path / "report.html"
    command("report", run_dir, "--output", target, status=0)
    return target


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A port that counts who calls."""
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                try:
                    caller, _ = server.accept()
                except TimeoutError:
                    continue
                with caller:
                    calls.append(caller.recv(1000))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], calls
        finally:
            over.set()
            thread.join()


def test_the_console_is_silent_and_no_request_leaves(page: Path, tmp_path: Path) -> None:
    """Every address goes to a proxy that counts: none is asked for by the page, and the console has no word."""
    with listening() as (port, calls):
        proxy = f"--proxy-server=http://127.0.0.1:{port}"
        done = browse(page, tmp_path, proxy, "--proxy-bypass-list=<-loopback>")
        assert "CONSOLE" not in done.stderr
        assert "with an outcome" in done.stdout
        assert [call for call in calls if not OWN_REQUEST.match(call)] == []
        tempting = page.with_name("tempting.html")
        tempting.write_text(page.read_text().replace("</main>", '<img src="http://example.invalid/x"></main>'))
        done = browse(tempting, tmp_path, proxy, "--proxy-bypass-list=<-loopback>")
        assert "CONSOLE" in done.stderr, "the policy is in force, and this test sees what it says"
        assert [call for call in calls if b"example.invalid" in call] == []
        tempting.write_text(tempting.read_text().replace("default-src 'none'", "default-src *").replace("img-src", "x"))
        browse(tempting, tmp_path, proxy, "--proxy-bypass-list=<-loopback>")
        assert [call for call in calls if b"example.invalid" in call], "without the policy the request would be seen"


def test_what_the_policy_forbids_does_not_run(page: Path, tmp_path: Path) -> None:
    """Should markup ever get onto the page, its script would still not run."""
    page.write_text(page.read_text().replace("</main>", "<script>document.title = 'ran'</script></main>"))
    assert "<title>Report of a run" in browse(page, tmp_path).stdout


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("columns", [500, 1200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_legible_in_both_themes(
    theme: str, columns: int, runs: int, page: Path, run_dir: Path, tmp_path: Path
) -> None:
    """Contrasts, names of pictures, order of headings, and what the keyboard reaches, measured by the browser; of one
    run and of two, on a narrow screen and on a wide one."""
    if runs == 2:
        command("report", OLD_RUNS / "complete_v1" / "run", run_dir, "--output", page, status=0)
    assert measured(page, tmp_path, theme, columns)["drawn"] > 10
    assert page.read_text().count('<div class="lane plot">') == len(EVENTS)


@pytest.mark.parametrize("columns", [500, 1200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_rows_of_shards_are_legible_in_both_themes(theme: str, columns: int, tmp_path: Path) -> None:
    """Likewise the page of a run with more shards than it has rows for."""
    write_complete_shards(tmp_path / "run", 1000, 10, SHARDS_SHOWN_MAX + 1)
    page = tmp_path / "report.html"
    command("report", tmp_path / "run", "--output", page, status=0)
    assert measured(page, tmp_path, theme, columns)["drawn"] > SHARDS_SHOWN_MAX
    assert page.read_text().count("Processes on shard") == SHARDS_SHOWN_MAX


def measured(page: Path, tmp_path: Path, theme: str, columns: int) -> dict[str, Any]:
    """What the browser measures on a page; asserts what holds of every one."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    # The last label of the axis of time may stand at its very end.
    text = re.sub(LAST_LABEL, r"\g<1>99.9%\g<2>00:00:00\3", text)
    page.write_text(text.replace("</body>", f"{PROBE}</body>"))
    chosen = "0" if theme == "dark" else "1"
    dom = browse(
        page, tmp_path, f"--blink-settings=preferredColorScheme={chosen}", f"--window-size={columns},600"
    ).stdout
    found = re.search(r"<title>(\{.*?\})</title>", dom)
    assert found is not None, dom[:500]
    seen: dict[str, Any] = json.loads(found[1])
    assert seen["worst"] >= 4.5
    assert seen["faintest"] >= 3, "graphics need less contrast than text (WCAG 1.4.11)"
    assert seen["unnamed"] == 0
    assert re.fullmatch(r"12[23]*", seen["levels"])
    reachable = len(re.findall(r'<a href="#|<pre tabindex="0"', text))
    assert seen["reached"] == reachable >= 6, "the links of the list of sections and every command"
    assert not seen["wide"], "nothing has to be scrolled sideways"
    return seen
