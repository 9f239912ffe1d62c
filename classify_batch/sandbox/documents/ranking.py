"""Which rule's words a text holds most of: BM25 over SQLite's FTS5, rule by rule.

It is a stand-in for the real classifier. It counts words, and is no language model.

Each text is a row of a contentless FTS5 table. A rule is the OR of the significant words of its type and
description (words joined by `-`, `_`, `.` or `/`, and whatever stands in double quotes, are matched as
phrases). FTS5's bm25() of an OR query is a sum over its phrases, so each phrase is asked for once, for all
rules together; that also says which words matched. Two things are changed, because the texts of one kind may
be most of the folder:

- FTS5 gives a phrase that more than half of the rows hold a weight of nearly nothing. Its saturation part,
  bm25 ÷ idf, is kept and weighed by 1 + log(1 + (N - n + ½) / (n + ½)): one more than Lucene's idf.
- Rules have few words or many. A score is divided by the geometric mean of the most that the rule's words
  could give and the most that any text here got.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from classify_batch.settings.job_spec import Rule

WEAK = 0.025
"""A text whose best rule scores below this share matches no rule."""

WORDS_NAMED_MAX = 4
"""How many matched words an answer names."""

_BM25_PEAK = 2.2
"""What FTS5's bm25 ÷ idf of one phrase stays below: k1 + 1, with its fixed k1 = 1.2."""

_IDF_FLOOR = 1e-6
"""What FTS5 takes as idf where more than half of the rows hold the phrase."""

_STOP_WORDS = frozenset(
    """
    a about above after all also an and any are as at be because been before being below between
    both but by can could did do does each few for from had has have he her here him his how i if in
    into is it its itself more most my no nor not of off on once only or other our out over own same
    she should so some such than that the their them then there these they this those through to too
    under until up was we were what when where which while who whom why will with would you your
    """.split()  # noqa: SIM905 - a hundred quotes say nothing
)

_QUOTED = re.compile(r'"([^"]+)"')
_WORD = re.compile(r"\w+(?:[-./]\w+)*")


class RankedType(NamedTuple):
    """The best rule for one text, and how clearly it is the best.

    Attributes:
        rule: position of the best rule, or None where no rule scores `WEAK` or more.
        score, next_score: of the best rule and the one after it.
        words: the best rule's words that weigh most in this text, heaviest first.
    """

    rule: int | None
    score: float
    next_score: float
    words: tuple[str, ...]

    @property
    def confidence(self) -> float:
        """0 to 1: the margin before the next rule; for no rule, how far the best one is from `WEAK`."""
        if self.rule is None:
            return round(1 - self.score / WEAK / 2, 3)
        return round(self.score / (self.score + self.next_score), 3)


NO_MATCH = RankedType(None, 0.0, 0.0, ())


class PhraseRows(NamedTuple):
    """The rows that hold a phrase, what it weighs, and its share (0 to 1) of that weight in each row."""

    weight: float
    shares: list[tuple[int, float]]


class Index:
    """Texts to be asked for phrases; rows are numbered from 0. Not safe for use by two threads at once."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._database = sqlite3.connect("", check_same_thread=False)  # a temporary file, gone when closed
        self._database.execute("CREATE VIRTUAL TABLE texts USING fts5(body, content='', tokenize='porter unicode61')")
        with self._database:
            self._database.executemany("INSERT INTO texts (rowid, body) VALUES (?, ?)", enumerate(texts))
        self.size: int = self._database.execute("SELECT count(*) FROM texts_docsize").fetchone()[0]

    def find_rows(self, phrase: str) -> PhraseRows:
        quoted = '"' + phrase.replace('"', "") + '"'
        rows = self._database.execute(
            "SELECT rowid, bm25(texts) FROM texts WHERE texts MATCH ? ORDER BY rowid", (quoted,)
        ).fetchall()
        # FTS5's own idf, from bm25's formula: dividing by it leaves the part that saturates with the word's count.
        rarity = (self.size - len(rows) + 0.5) / (len(rows) + 0.5)
        idf = math.log(rarity)
        unit = (idf if idf > 0 else _IDF_FLOOR) * _BM25_PEAK
        return PhraseRows(1 + math.log(1 + rarity), [(row, -score / unit) for row, score in rows])

    def close(self) -> None:
        self._database.close()


def significant_words(rule: Rule) -> list[str]:
    """The words and phrases by which a rule is recognised, each once.

    >>> significant_words(Rule(type="wheel", description='its tags: Root-Is-Purelib, "py3 none any"'))
    ['py3 none any', 'wheel', 'tags', 'root-is-purelib']
    """
    text = f"{rule.type} {rule.description}".lower()
    phrases = [phrase for phrase in _QUOTED.findall(text) if _WORD.search(phrase)]
    words = _WORD.findall(_QUOTED.sub(" ", text))
    return list(dict.fromkeys([*phrases, *(word for word in words if word not in _STOP_WORDS and len(word) > 1)]))


def rank_texts(index: Index, rules: Sequence[Rule]) -> list[RankedType]:
    """The best rule of each row of the index."""
    words = [significant_words(rule) for rule in rules]
    phrase_rows = {word: index.find_rows(word) for word in dict.fromkeys(word for of_rule in words for word in of_rule)}
    ranks = [score_rows(index.size, [phrase_rows[word] for word in of_rule]) for of_rule in words]
    best = [best_rule([scores[row] for scores in ranks]) for row in range(index.size)]
    named = heaviest_words(best, words, phrase_rows)
    return [ranked._replace(words=tuple(named.get(row, ()))) for row, ranked in enumerate(best)]


def score_rows(size: int, phrase_rows: Sequence[PhraseRows]) -> list[float]:
    """How much of a rule's words each row holds."""
    scores = [0.0] * size
    attainable = 0.0
    for weight, shares in phrase_rows:
        attainable += weight if shares else 0
        for row, share in shares:
            scores[row] += weight * share
    # The geometric mean: see the head of this file.
    scale = math.sqrt(attainable * max(scores, default=0.0))
    return [score / scale for score in scores] if scale else scores


def best_rule(scores: Sequence[float]) -> RankedType:
    """The best rule; the first of equals."""
    order = sorted(range(len(scores)), key=lambda rule: -scores[rule])
    score = scores[order[0]]
    next_score = scores[order[1]] if len(order) > 1 else 0.0
    return RankedType(order[0] if score >= WEAK else None, score, next_score, ())


def heaviest_words(
    best: Sequence[RankedType], words: Sequence[Sequence[str]], phrase_rows: dict[str, PhraseRows]
) -> dict[int, list[str]]:
    found: dict[int, list[tuple[float, str]]] = {}
    for rule, of_rule in enumerate(words):
        for word in of_rule:
            for row, share in phrase_rows[word].shares:
                if best[row].rule == rule:
                    found.setdefault(row, []).append((-phrase_rows[word].weight * share, word))
    return {row: [word for _, word in sorted(pairs)[:WORDS_NAMED_MAX]] for row, pairs in found.items()}
