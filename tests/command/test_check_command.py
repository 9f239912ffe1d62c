"""`classify-batch check`: what would go wrong later is found before; nothing is created, nothing is left behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

import pytest

from tests.support.command_line import calling, sandbox, served

JOBS = "/api/v1/classifier/jobs"
JOBS_V2 = "/api/v2/classify"
FILES = "/api/v1/beta/files"
LONG_AGO, FAR_AWAY = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"

CONFIG = """
[api]
base_url = "{base_url}"
version = "{version}"

[job]
rules = [
  {{ type = "invoice", description = "has an invoice number, line items and a total" }},
  {{ type = "contract", description = "an agreement between parties with terms" }},
]
"""


class Done(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        assert found["exit_status"] == self.status
        return found

    @property
    def codes(self) -> dict[str, tuple[str, int | None]]:
        """Severity and count of each finding, by its code."""
        return {each["code"]: (each["severity"], each["count"]) for each in self.report["findings"]}

    def finding(self, code: str) -> dict[str, Any]:
        (found,) = (each for each in self.report["findings"] if each["code"] == code)
        assert isinstance(found, dict)
        return found


class Check(NamedTuple):
    """The command line, in this process and in a folder of its own: `check(server, ["a"], "--requests-per-s", "9")`."""

    folder: Path
    run: Callable[..., Done]

    def __call__(self, base_url: str, file_ids: list[str], *options: str, version: str = "v1", more: str = "") -> Done:
        (self.folder / "job.toml").write_text(CONFIG.format(base_url=base_url, version=version) + more)
        (self.folder / "ids.txt").write_text("\n".join([*file_ids, ""]))
        before = sorted(self.folder.rglob("*"))
        done = self.run("check", "job.toml", "--input", "ids.txt", "--json", *options)
        assert sorted(self.folder.rglob("*")) == before, "a check writes nothing"
        return done


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Check:
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    call = calling(capsys, monkeypatch, folder, patience_s="0")

    def run(*arguments: str) -> Done:
        done = Done(*call(None, *arguments))
        assert list(temporary.iterdir()) == [], "temporary files are taken away"
        return done

    return Check(folder, run)


def named(*names: object) -> list[str]:
    return [str(uuid5(NAMESPACE_URL, str(name))) for name in names]


# --- A project with habits --------------------------------------------------------------------------------------------


@dataclass
class Habits:
    """What a server holds and how it takes the list of IDs; it shares no code with the program or its sandbox."""

    expires: dict[str, str | None] = field(default_factory=dict)
    """The files that there are, and until when."""
    jobs_status: int = 200
    files_status: int = 200
    heeds_filter: bool = True
    ids_max: int = 1000
    """More in one request are answered with …"""
    too_many_status: int = 414
    uuids_only: bool = False
    """An ID that is none is refused: by its index in the list, or …"""
    names_the_index: bool = True
    in_any_case: bool = False
    """UUIDs are looked up by value, and listed in lower case, as the API does it."""
    page_max: int = 1000


class Project(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, habits: Habits) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.habits = habits
        self.calls: Counter[str] = Counter()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: Project
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        pass

    def do_POST(self) -> None:
        self.server.calls["POST"] += 1
        self._say(500, {"detail": "a check creates nothing"})

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        self.server.calls[path] += 1
        habits = self.server.habits
        if path in (JOBS, JOBS_V2):
            assert query["page_size"] == ["1"]
            self._page(habits.jobs_status, [])
        elif habits.files_status != 200:
            self._page(habits.files_status, [])
        else:
            self._files(habits, query.get("file_ids", []), query)

    def _files(self, habits: Habits, asked: list[str], query: dict[str, list[str]]) -> None:
        odd = [at for at, each in enumerate(asked) if len(each) != 36]
        if len(asked) > habits.ids_max:
            self.server.calls["too many"] += 1
            self._say(habits.too_many_status, {"detail": "too long"})
        elif habits.uuids_only and odd and habits.names_the_index:
            faults = [{"loc": ["query", "file_ids", at], "msg": "not a UUID", "type": "uuid_parsing"} for at in odd]
            self._say(422, {"detail": faults})
        elif habits.uuids_only and odd:
            self._say(400, {"detail": "badly formed hexadecimal UUID string"})
        else:
            asked = [each.lower() for each in asked] if habits.in_any_case else asked
            wanted = set(asked) if asked and habits.heeds_filter else habits.expires.keys()
            there = [each for each in habits.expires if each in wanted]
            start = int(query.get("page_token", ["0"])[0])
            stop = start + min(int(query["page_size"][0]), habits.page_max)
            items = [{"id": each, "name": "n", "expires_at": habits.expires[each]} for each in there[start:stop]]
            self._page(200, items, str(stop) if stop < len(there) else None)

    def _page(self, status: int, items: list[dict[str, Any]], token: str | None = None) -> None:
        self._say(status, {"items": items, "next_page_token": token} if status == 200 else {"detail": "no"})

    def _say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def project(habits: Habits) -> Iterator[Project]:
    with served(Project(habits)) as server:
        yield server
        assert server.calls["POST"] == 0, "nothing is created"


# --- What is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "path"), [("v1", JOBS), ("v2", JOBS_V2)])
def test_a_sound_run_has_no_findings_and_status_0(check: Check, version: str, path: str) -> None:
    """Everything is there: status 0, no finding, the plan's size, one cheap look at the jobs of the right version."""
    file_ids = named(*range(2500))
    with project(Habits(dict.fromkeys(file_ids))) as server:
        done = check(server.base_url, file_ids, "--requests-per-s", "500", version=version)
    assert (done.status, done.codes) == (0, {})
    size = {"v1": (25, 50, 0.1), "v2": (2500, 2500, 62.5)}[version]
    assert (done.report["chunks"], done.report["requests_at_least"], done.report["least_s"]) == size
    assert (done.report["files"], done.report["looked_up"]) == (2500, 2500)
    assert done.report["cost"] == {"pages": 12500, "credits": 12500, "dollars": 15.625, "parse_jobs": 0}
    assert (server.calls[path], server.calls[FILES]) == (1, 3)


def test_absent_expired_and_expiring_files_are_findings(check: Check) -> None:
    """Absent and expired IDs are errors; those that expire before the run can end, a warning. All with examples."""
    there, gone, old, soon = (named(*(f"{kind}{n}" for n in range(7))) for kind in ("there", "gone", "old", "soon"))
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    expires: dict[str, str | None] = {**dict.fromkeys(there, FAR_AWAY), **dict.fromkeys(old, LONG_AGO)}
    expires |= {**dict.fromkeys(soon, in_an_hour), there[0]: None, there[1]: "no time at all"}
    with project(Habits(expires)) as server:
        fast = check(server.base_url, there + gone + old + soon)
        slow = check(server.base_url, there + gone + old + soon, more="[limits]\ncreates_per_s = 0.0001\n")
        only_slow = check(server.base_url, there + soon, more="[limits]\ncreates_per_s = 0.0001\n")
    errors = {"not_in_project": ("error", 7), "expired": ("error", 7)}
    assert (fast.status, fast.codes) == (2, errors)
    assert (slow.status, slow.codes) == (2, {**errors, "expiring": ("warning", 7)})
    assert (only_slow.status, only_slow.codes) == (0, {"expiring": ("warning", 7)})
    assert [slow.finding(code)["examples"] for code in slow.codes] == [gone[:5], old[:5], soon[:5]]
    assert in_an_hour[:16] in slow.finding("expiring")["message"]


def test_repeated_and_odd_ids_are_notes(check: Check) -> None:
    """They are counted, with examples in the order of the input, and stop nothing."""
    file_ids = named(*range(40))
    given = ["heading", *file_ids, *file_ids[3:10], file_ids[3]]
    with project(Habits(dict.fromkeys(["heading", *file_ids]))) as server:
        done = check(server.base_url, given)
        names = check(server.base_url, ["a", "b", *file_ids[:5]])
    assert done.status == 0
    assert done.codes == {"duplicates": ("note", 8), "odd_ids": ("note", 1)}
    assert (done.report["files"], done.report["duplicates"]) == (41, 8)
    assert done.finding("duplicates")["examples"] == file_ids[3:8]
    assert done.finding("odd_ids")["examples"] == ["heading"]
    assert names.codes == {"not_in_project": ("error", 2)}, "where many IDs are no UUIDs, none is odd"


def test_a_uuid_in_another_spelling_counts_as_repeated(check: Check) -> None:
    """It is counted and shown as it is spelled there, and the file is looked up once."""
    file_ids = named("a", "b")
    with project(Habits(dict.fromkeys(file_ids))) as server:
        done = check(server.base_url, [*file_ids, file_ids[0].upper(), f"{{{file_ids[0]}}}"])
    assert (done.status, done.codes) == (0, {"duplicates": ("note", 2)})
    assert done.finding("duplicates")["examples"] == [file_ids[0].upper()]
    assert (done.report["files"], done.report["looked_up"]) == (2, 2)


def test_files_are_found_in_another_spelling_of_their_id(check: Check) -> None:
    """An export in upper case is looked up like any other; what is missing is named as it was given."""
    file_ids = named(*range(1500))
    with project(Habits(dict.fromkeys(file_ids[1:]), in_any_case=True, page_max=400)) as server:
        done = check(server.base_url, [file_id.upper() for file_id in file_ids])
    assert (done.status, done.codes) == (2, {"not_in_project": ("error", 1)})
    assert done.finding("not_in_project")["examples"] == [file_ids[0].upper()]
    assert done.report["looked_up"] == 1500


def test_unwise_settings_and_costs_are_warnings(check: Check) -> None:
    """What is legal and unwise is a warning; the most that it can cost is held against the run's own limit."""
    more = """
[job.parsing_configuration]
target_pages = [0, 7]

[limits]
tolerated_failure_percentage = 50
stop_at_failure_percentage = 10
max_credits = 9
"""
    with project(Habits(dict.fromkeys(["a", "b", "c", "d", "e"]))) as server:
        done = check(server.base_url, ["a", "b", "c", "d", "e"], more=more)
    assert done.status == 0
    assert {code: severity for code, (severity, _) in done.codes.items()} == dict.fromkeys(
        ("pages_not_read", "stops_too_early", "max_credits"), "warning"
    )
    assert "10 credits" in done.finding("max_credits")["message"]


def test_errors_of_settings_and_input_are_reported_together(check: Check) -> None:
    """All errors of the settings at once; a bad ID with its line, beside what else was found."""
    with project(Habits(jobs_status=401)) as server:
        settings = check.run("check", "nowhere.toml", "--input", "x")
        done = check(server.base_url, ["good", "two words"])
        empty = check(server.base_url, ["# nothing"])
    assert (settings.status, done.status, empty.status) == (2, 2, 2)
    assert "nowhere.toml" in settings.out
    assert "ids.txt, line 2" in done.finding("input")["message"]
    assert "HTTP 401" in done.finding("api")["message"]
    assert done.report["files"] == 1
    assert "no file IDs" in empty.finding("input")["message"]


def test_a_missing_carried_column_is_a_finding(check: Check) -> None:
    """A missing column to carry is an error of the input; one that exists changes nothing."""
    (check.folder / "ids.csv").write_text("file_id,customer\na,1\na,1\nb,2\n")
    with project(Habits(dict.fromkeys(["a", "b"]))) as server:
        check(server.base_url, ["a"])
        there = check.run("check", "job.toml", "--input", "ids.csv", "--carry", "customer", "--json")
        missing = check.run("check", "job.toml", "--input", "ids.csv", "--carry", "contract", "--json")
    assert (there.status, there.codes) == (0, {"duplicates": ("note", 1)})
    assert (missing.status, missing.codes) == (2, {"input": ("error", None)})


@pytest.mark.parametrize(
    ("jobs_status", "status"), [(401, 77), (403, 77), (402, 77), (404, 77), (422, 77), (301, 77), (503, 75)]
)
def test_a_refused_key_has_the_exit_status_of_a_run(check: Check, jobs_status: int, status: int) -> None:
    """Leaves with what a run would leave with, and still tells what the input alone can tell."""
    with project(Habits(jobs_status=jobs_status)) as server:
        done = check(server.base_url, ["a", "a"])
    assert done.status == status
    assert done.codes == {"api": ("error", None), "duplicates": ("note", 1)}
    assert server.calls[FILES] == 0
    assert done.finding("api")["hint"]


def test_a_missing_key_is_reported_beside_the_other_findings(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported beside the rest, with status 2 as for a run."""
    monkeypatch.delenv("LLAMA_CLOUD_API_KEY")
    with project(Habits()) as server:
        done = check(server.base_url, ["a", "a"])
        listed = check.run("check", "job.toml", "--input", "project:", "--json")
    assert (done.status, done.codes) == (2, {"key": ("error", None), "duplicates": ("note", 1)})
    assert (listed.status, listed.codes) == (2, {"key": ("error", None)})
    assert server.calls.total() == 0


# --- Servers that don't look files up, or not as asked ----------------------------------------------------------------


@pytest.mark.parametrize(
    "habits",
    [
        Habits(files_status=404),
        Habits(files_status=403),
        Habits(files_status=400),
        Habits({"other": None}, heeds_filter=False),
        Habits(ids_max=0, too_many_status=422),
    ],
    ids=["404", "403", "400", "ignores the filter", "refuses the filter"],
)
def test_a_server_that_refuses_lookups_is_a_warning(check: Check, habits: Habits) -> None:
    """A server that doesn't look files up is no error of the input: a warning, and nothing is made up."""
    with project(habits) as server:
        done = check(server.base_url, named(*range(3000)))
    assert (done.status, done.codes) == (0, {"not_looked_up": ("warning", None)})
    assert "could not be checked" in done.finding("not_looked_up")["message"]
    assert done.report["looked_up"] == 0


@pytest.mark.parametrize("status", [400, 413, 414, 422, 431])
def test_lookups_adapt_to_a_server_that_takes_fewer_ids(check: Check, status: int) -> None:
    """How many it takes at once is found out and kept to, whatever it says to more."""
    file_ids = named(*range(20_000))
    habits = Habits(dict.fromkeys(file_ids[1:]), ids_max=260, too_many_status=status, page_max=100)
    with project(habits) as server:
        done = check(server.base_url, file_ids)
    assert done.codes == {"not_in_project": ("error", 1)}
    assert done.finding("not_in_project")["examples"] == file_ids[:1]
    assert server.calls["too many"] <= 8 * 3, "refused are only those that are out at once when it is found out"


@pytest.mark.parametrize("names_the_index", [True, False])
def test_ids_that_a_server_refuses_to_look_up_are_not_in_the_project(check: Check, *, names_the_index: bool) -> None:
    """They are not in the project, and the others are looked up all the same."""
    file_ids = named(*range(3000))
    habits = Habits(dict.fromkeys(file_ids), uuids_only=True, names_the_index=names_the_index)
    with project(habits) as server:
        done = check(server.base_url, [*file_ids[:1500], "file_id", *file_ids[1500:], "x" * 200])
    assert done.status == 2
    assert done.codes == {"not_in_project": ("error", 2), "odd_ids": ("note", 2)}
    assert done.finding("not_in_project")["examples"] == ["file_id", "x" * 200]
    assert not names_the_index or server.calls[FILES] == 4 + 2, "two requests of four are made again, without them"


def test_lookups_of_long_ids_are_split_over_requests(check: Check) -> None:
    """IDs of 200 characters that are written as 2,400 in an address are asked for in as many requests as it takes."""
    file_ids = [f"{number:04}" + "😀" * 196 for number in range(50)]
    with project(Habits(dict.fromkeys(file_ids[1:]))) as server:
        done = check(server.base_url, file_ids)
    assert done.codes == {"not_in_project": ("error", 1)}


# --- The sandbox ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expire_in_s", "expected"),
    [("0", {"expired": ("error", 3)}), ("600", {"expiring": ("warning", 3)}), ("1e9", {})],
)
def test_the_sandbox_shows_and_refuses_expired_files(
    check: Check, expire_in_s: str, expected: dict[str, tuple[str, int]], tmp_path: Path
) -> None:
    """It shows expired files, those that will be before a slow run is through, and those that last; and what is
    expired it refuses in a create."""
    with sandbox("--files", "3", "--files-expire-in-s", expire_in_s) as base_url:
        listed = check.run("files", "list", "--base-url", base_url, "--json")
        file_ids = [each["id"] for each in json.loads(listed.out)["items"]]
        done = check(base_url, file_ids, more="[limits]\ncreates_per_s = 0.0001\n")
        check(base_url, file_ids, more="[limits]\nsettle_s = 0.1\n")
        run = check.run("run", "job.toml", "--input", "ids.txt", "--run-dir", str(tmp_path / "run"), "--json")
    assert done.codes == expected
    assert json.loads(run.out.splitlines()[-1])["counts"]["failed"] == (3 if expire_in_s == "0" else 0)


def test_a_check_of_the_embedded_sandbox_knows_its_documents(check: Check) -> None:
    """`base_url = "sandbox"` opens one for as long as the check takes: its documents are known, others are not."""
    documents = check.folder / "documents"
    documents.mkdir()
    (documents / "a.txt").write_text("an invoice")
    held = f'[sandbox]\ndocuments = "{documents}"\n'
    done = check("sandbox", [*named("a.txt"), "stranger"], more=held)
    assert (done.status, done.codes) == (2, {"not_in_project": ("error", 1)})
    assert check("sandbox", ["a", "b"]).status == 0, "without documents every file ID is known"


def test_a_report_has_aligned_lines_and_ends_with_the_result(check: Check) -> None:
    """Plain aligned lines on stdout, each finding with its hint, and a last line with the result."""
    with project(Habits(dict.fromkeys(["a"]))) as server:
        check(server.base_url, ["a", "a", "b"])
        done = check.run("check", "job.toml", "--input", "ids.txt")
    lines = done.out.splitlines()
    assert done.status == 2
    assert [line.split()[0] for line in lines] == [
        *("files", "chunks", "requests", "time", "cost", "disk", "(estimated;"),
        *("looked", "error", "hint:", "note", "hint:", "result"),
    ]
    assert lines[8].endswith("1 file ID is not in the project: 'b'")
    assert all(line.startswith("  hint: ") or line[11] == " " != line[12] for line in lines)


def test_the_project_is_checked_as_an_input(check: Check) -> None:
    """`project:` is read as a run reads it, and its files are looked up like any others."""
    with project(Habits({"a": None, "b": LONG_AGO}, page_max=1)) as server:
        check(server.base_url, ["a"])
        done = check.run("check", "job.toml", "--input", "project:", "--json")
    assert (done.report["files"], done.codes) == (2, {"expired": ("error", 1)})


def test_a_long_lookup_reports_progress_on_stderr(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long look-up is no silence: on stderr, and so as not to disturb what is read from stdout."""
    monkeypatch.setattr("classify_batch.operations.check.check_input.REPORT_EVERY_S", 0.02)
    with sandbox() as base_url:
        done = check(base_url, [f"file-{number}" for number in range(9000)], "--requests-per-s", "20")
    assert done.status == 0
    counted = [line for line in done.err.splitlines() if line.endswith(" of 9,000 files …")]
    assert any(not line.startswith(("looked up 0 ", "looked up 9,000 ")) for line in counted)
