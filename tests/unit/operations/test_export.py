"""What is handed on of a run: as a plain model of dicts would tell it, and never more than is committed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any
from zlib import crc32

import anyio
import pytest
from hypothesis import example, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from classify_batch.errors import DamagedError, UsageError, WorldError
from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment
from classify_batch.operations.export.export_outcomes import OutcomeExport
from classify_batch.operations.export.formats import (
    COLUMNS,
    JsonLines,
    OutputFormat,
    Table,
    TableRow,
    column_names,
    encode_csv,
    escape_formula,
    format_carried_cells,
)
from classify_batch.operations.export.selection import Only, make_selection
from classify_batch.rundir.journal.entry import encode_about_run, encode_facts
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.outcome_lines import encode_line
from classify_batch.rundir.plan import plan_line
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log

TRIAGE = {"accept_above": 0.5, "by_type": {"memo": 0.9}}
CARRY = ("path", "type")
Outcome = Mapping[str, Any]


class Stream(MemoryStore):
    """A store that gives its files in blocks of a few bytes."""

    block_bytes = 40

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = await self.read(name, start, end)
        for place in range(0, len(data), self.block_bytes):
            yield data[place : place + self.block_bytes]


def classified(kind: str, confidence: float | None, **more: object) -> Outcome:
    return {"outcome": "classified", "type": kind, "confidence": confidence, **more}


UNMATCHED: Outcome = {"outcome": "unmatched", "type": None, "confidence": 0.2, "reasoning": "no rule's words"}
FAILED: Outcome = {"outcome": "failed", "code": "rejected", "message": "HTTP 400: no", "job_id": None}


def files_of(outcomes: Sequence[Outcome], triage: object = TRIAGE) -> dict[str, bytes]:
    """The files of a run whose one job brought these outcomes."""
    named = [{"file_id": f"f{number}", **outcome} for number, outcome in enumerate(outcomes)]
    plan = plan_line(0, [each["file_id"] for each in named]).encode()
    settings: dict[str, object] = {"plan": {"carry": CARRY}} | ({} if triage is None else {"triage": triage})
    run = {"format": 1, "run_id": "r", "created_at": "2026-11-22T01:00:00Z", "settings": settings, "identity": {}}
    run |= {"files": len(named), "duplicates": 0, "chunks": 1, "plan_sha256": hashlib.sha256(plan).hexdigest()}
    data = json.dumps(run).encode()
    results = b"".join(encode_line(each) for each in named if each["outcome"] != "failed")
    failures = b"".join(encode_line(each) for each in named if each["outcome"] == "failed")
    key = AttemptKey(0, 1)
    ended = Ended(
        key,
        Kind.COLLECTED,
        Segment(0, len(results), crc32(results)) if results else None,
        Segment(0, len(failures), crc32(failures)) if failures else None,
        tally=Tally(dict(Counter(each["outcome"] for each in named))),
    )
    facts: tuple[Fact, ...] = (
        Submitting(key, Part(0), 1.0),
        Submitted(key, "job", 1.0),
        Finished(key, "SUCCESS", 1.0),
        ended,
    )
    journal = [encode_about_run(1, 1.0, 0, Kind.OPENED, {"run_sha256": hashlib.sha256(data).hexdigest()})]
    journal += [encode_facts(seq, 1.0, 0, [fact]) for seq, fact in enumerate(facts, 2)]
    logs = {Log.RESULTS: results, Log.FAILURES: failures, Log.JOURNAL: b"".join(journal)}
    return {"run.json": data, "plan.jsonl": plan, **{log.value: lines for log, lines in logs.items()}}


async def run_of(store: MemoryStore) -> RunOnDisk:
    run = await read_run(store)
    assert run is not None
    return run


def exported(
    files: Mapping[str, bytes], only: Only | None = None, form: OutputFormat | None = None
) -> tuple[bytes, int]:
    """What is written, and how many files it is said to be."""

    async def main() -> tuple[bytes, int]:
        store = Stream(files)
        run = await run_of(store)
        export = OutcomeExport([replace(run, store=store)], make_selection(only, run.run, "run"), form or JsonLines())
        return b"".join([block async for block in export.encoded_blocks()]), export.files

    return anyio.run(main)


def table(files: Mapping[str, bytes], only: Only | None = None) -> list[dict[str, str]]:
    """The rows, as a reader of CSV reads them."""
    data, _ = exported(files, only, Table(CARRY))
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


# --- Against a plain model --------------------------------------------------------------------------------------------


def plainly(outcome: Outcome, only: Only | None) -> bool:
    """Whether an outcome is taken, as the manual says it."""
    if only not in (Only.ACCEPTED, Only.REVIEW):
        return only is None or outcome["outcome"] == only.value
    if outcome["outcome"] != "classified":
        return False
    least = 0.9 if outcome["type"] == "memo" else 0.5
    accepted = outcome["confidence"] is not None and outcome["confidence"] >= least
    return accepted is (only is Only.ACCEPTED)


def shown(value: object) -> str:
    """A value as its cell."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    formulas = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
    safe = "'" + value if value.startswith(formulas) else value
    return safe.encode("utf-8", "backslashreplace").decode()


texts = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.sampled_from(
        [
            *("=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x"),
            *('a "b", c', "two\nlines\r\n", "lone \ud800", "\u2028", "\x00"),
        ]
    ),
)
confidences = st.one_of(st.none(), st.sampled_from([0, 1, 0.5, 0.9, 0.4999999, 1e-7]))
carries = st.one_of(st.none(), st.fixed_dictionaries({"path": texts.filter(bool), "type": texts.filter(bool)}))
outcomes_ = st.one_of(
    st.builds(
        lambda kind, confidence, text, carried: classified(
            kind, confidence, reasoning=text, mode="FAST", job_id="j", **({"carried": carried} if carried else {})
        ),
        st.sampled_from(["invoice", "memo", "=memo", "\ud800"]),
        confidences,
        texts,
        carries,
    ),
    st.just(UNMATCHED),
    st.builds(lambda text: {**FAILED, "message": text}, texts.filter(bool)),
)


@given(st.lists(outcomes_, min_size=1, max_size=8), st.sampled_from([None, *Only]))
@example([classified("memo", 0.9), classified("memo", 0.8), classified("invoice", None), FAILED], Only.REVIEW)
@tried(max_examples=300, deadline=None)
def test_an_export_equals_that_of_a_plain_model(outcomes: list[Outcome], only: Only | None) -> None:
    """The lines as they stand, and the cells of a table, of those and only those that were asked for; results first."""
    files = files_of(outcomes)
    named = [{"file_id": f"f{number}", **outcome} for number, outcome in enumerate(outcomes)]
    taken = [each for each in named if plainly(each, only)]
    taken.sort(key=lambda each: each["outcome"] == "failed")
    data, count = exported(files, only)
    assert (data, count) == (b"".join(map(encode_line, taken)), len(taken))
    rows = table(files, only)
    assert [{name: row[name] for name in COLUMNS if name != "confidence"} for row in rows] == [
        {name: shown(each.get(name)) for name in COLUMNS if name != "confidence"} for each in taken
    ]
    assert [row["confidence"] and float(row["confidence"]) for row in rows] == [
        "" if each.get("confidence") is None else each["confidence"] for each in taken
    ]
    assert [(row["path"], row["carried.type"]) for row in rows] == [
        tuple(shown(each.get("carried", {}).get(name)) for name in CARRY) for each in taken
    ]


# --- Tables -----------------------------------------------------------------------------------------------------------


def test_a_csv_follows_rfc_4180() -> None:
    """Line ends and quotes of RFC 4180, UTF-8 without a mark, and a header also where there is no row."""
    files = files_of([classified("a", 1.0, reasoning='say "hi", ü')])
    data, _ = exported(files, None, Table(()))
    head, row, end = data.split(b"\r\n")
    assert head.decode() == ",".join(COLUMNS)
    assert row.decode() == 'f0,classified,a,1.0,"say ""hi"", ü",,,,,,,,'
    assert end == b""
    assert exported(files, Only.FAILED, Table(())) == (head + b"\r\n", 0)


cells = st.one_of(texts, st.text("=ab,\"\n\r'", max_size=3))
rows = st.builds(
    TableRow,
    file_id=st.text('=ab,"', max_size=3),
    outcome=st.just("classified"),
    type=cells,
    confidence=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    reasoning=cells,
    job_id=cells,
    message=cells,
    carried=st.none() | st.dictionaries(st.sampled_from(["path", "type"]), cells | st.integers()),
)


@given(st.lists(st.tuples(rows, st.booleans()), max_size=6), st.sampled_from([(), CARRY]))
@tried(deadline=None)
def test_a_table_is_what_the_csv_module_writes(lines: list[tuple[TableRow, bool]], carry: Sequence[str]) -> None:
    """Column by column, to the byte: quotes where they have to be, and nowhere else."""
    expected = [
        [
            *(cell if type(cell) is float else escape_formula(cell) for cell in attrgetter(*COLUMNS)(line)),
            *format_carried_cells(line.carried or {}, carry),
        ]
        for line, included in lines
        if included
    ]
    data = Table(carry).encode_outcomes(b"", [line for line, _ in lines], [included for _, included in lines])
    assert data == encode_csv(expected)


def test_a_confidence_is_spelled_as_it_is_whatever_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.0 and -0.0 are equal, and spelled differently; and so few are remembered that others take their places."""
    monkeypatch.setattr("classify_batch.operations.export.formats._CONFIDENCES_MAX", 2)
    given = [0.0, -0.0, 0.5, None, 0.0, 1.0, 0.25, 0.5, -0.0, None]
    encode, at = Table(()).encode_outcomes, COLUMNS.index("confidence")
    for _ in range(2):
        row_lines = [
            TableRow(file_id=str(number), outcome="classified", confidence=each) for number, each in enumerate(given)
        ]
        cells = [row.split(",")[at] for row in encode(b"", row_lines, [True] * len(given)).decode().splitlines()]
        assert cells == ["" if each is None else repr(each) for each in given]


def test_numbers_are_not_escaped_as_formulas() -> None:
    """A confidence and carried numbers are no formulas, whatever their sign; other carried values are JSON."""
    values = [-5, 10**30, True, {"ü": [1, None]}, "-5", "plain"]
    cells = ["-5", str(10**30), "true", '{"ü":[1,null]}', "'-5", "plain"]
    outcomes = [classified("a", -0.5, carried={"path": value, "type": ""}) for value in values]
    rows = table(files_of(outcomes))
    assert [row["path"] for row in rows] == cells
    assert {row["confidence"] for row in rows} == {"-0.5"}


def test_a_column_name_is_never_a_formula() -> None:
    """A carried column's name comes from the input as well."""
    assert Table(["=x"]).encode_header().endswith(b",'=x\r\n")


@pytest.mark.parametrize("sign", [*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_sign_begins_a_formula(sign: str) -> None:
    """OWASP's list: the signs, what spreadsheets skip in front of them, and their full-width forms."""
    assert escape_formula(f"{sign}1") == f"'{sign}1"


@pytest.mark.parametrize(
    ("carry", "names"),
    [
        (["path"], ["path"]),
        (["type"], ["carried.type"]),
        (["type", "carried.type"], ["carried.carried.type", "carried.type"]),
        (["carried.type", "type"], ["carried.type", "carried.carried.type"]),
    ],
)
def test_every_column_has_a_name_of_its_own(carry: list[str], names: list[str]) -> None:
    """A carried column that is called like another gets a name of its own, and all others keep their names."""
    assert column_names(carry) == [*COLUMNS, *names]


# --- What is committed ------------------------------------------------------------------------------------------------


def test_uncommitted_lines_are_not_exported() -> None:
    """A line behind the committed end, and half a one: a run that is on is writing them."""
    files = files_of([classified("a", 1.0), FAILED])
    longer = {**files, "results.jsonl": files["results.jsonl"] * 2, "failures.jsonl": files["failures.jsonl"] + b'{"fi'}
    assert exported(longer) == exported(files) == (files["results.jsonl"] + files["failures.jsonl"], 2)
    began = {**files, "journal.jsonl": files["journal.jsonl"].split(b"\n")[0] + b"\n"}
    assert exported(began) == (b"", 0)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("results.jsonl", b"", "results.jsonl in memory has 0 bytes, but "),
        ("results.jsonl", b'{"file_id":1}' + b" " * 1000, "results.jsonl in memory, bytes 0 to "),
        ("results.jsonl", b'{"file_id":1}\n' + b" " * 1000, "results.jsonl in memory, line 1: not an outcome"),
        ("failures.jsonl", b"\n" * 1000, "failures.jsonl in memory, line 1: not an outcome"),
    ],
)
def test_damaged_lines_are_named(name: str, data: bytes, words: str) -> None:
    """A committed line that is gone, or is no outcome, is named, and nothing is made up for it."""
    files = {**files_of([classified("a", 1.0), FAILED]), name: data}
    for form in (JsonLines(), Table(CARRY)):
        with pytest.raises(DamagedError) as told:
            exported(files, None, form)
        assert words.replace("memory", MemoryStore().where) in str(told.value)


def test_failures_reopened_during_the_export_are_an_error() -> None:
    """Where failed files were reopened while they were read, the error says so, and no damage."""

    async def main() -> None:
        files = files_of([classified("a", 1.0), FAILED])
        run = await run_of(Stream(files))
        again = {"generation": 1, "again": [{"chunk": 0, "attempts": 1, "ranges": [[1, 2]]}], "looks": []}
        lines = files["journal.jsonl"] + encode_about_run(6, 1.0, 0, Kind.REOPENED, again)
        now = {"journal.jsonl": lines, "failures.1.jsonl": files["failures.jsonl"], "failures.jsonl": b""}
        export = OutcomeExport(
            [replace(run, store=Stream({**files, **now}))], make_selection(None, run.run, "run"), JsonLines()
        )
        with pytest.raises(WorldError, match="took its failed files up again"):
            async for _ in export.encoded_blocks():
                pass

    anyio.run(main)


# --- Triage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("only", [Only.ACCEPTED, Only.REVIEW])
def test_a_run_without_triage_names_the_missing_setting(only: Only) -> None:
    """Nothing says what is accepted: the setting that would is named."""
    with pytest.raises(UsageError) as told:
        exported(files_of([UNMATCHED], triage=None), only)
    assert "[triage] accept_above" in told.value.hint
    assert exported(files_of([UNMATCHED], triage=None), Only.UNMATCHED)[1] == 1


def test_an_invalid_triage_in_run_json_is_damage() -> None:
    """What somebody has made of run.json is damage, named with its file."""
    with pytest.raises(DamagedError, match=r"run\.json in run is damaged: settings\.triage"):
        exported(files_of([UNMATCHED], triage={"accept_above": "much"}), Only.REVIEW)
