from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from classify_batch.errors import UsageError
from classify_batch.sandbox.documents.document_folder import PAGE_CHARACTERS, Documents, pages_to_read, read_pages
from classify_batch.sandbox.documents.project import JobConfig, OpenProject
from classify_batch.settings.job_spec import ParsingConfiguration, Rule

RULES = (
    Rule(type="invoice", description="an invoice with an invoice number, line items, VAT and the total amount due"),
    Rule(type="contract", description="a contract: parties, obligations, governing law and termination clauses"),
    Rule(type="recipe", description="a cooking recipe: ingredients, oven, tablespoons, bake and simmer"),
)
TEXTS = {
    "a.txt": "Invoice number 17. Line items: bolts, nuts. VAT 19 %. Total amount due: 30 EUR.",
    "deep/b.pdf": "The parties agree. Obligations of each party; governing law; termination for cause.",
    "deep/c": "Ingredients: two tablespoons of butter. Bake in the oven, then simmer.",
    "d.txt": "A walk along the river, in the rain.",
    "empty.txt": "",
}


def file_id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "docs"


@pytest.fixture
def documents(folder: Path) -> Iterator[Documents]:
    documents = Documents(folder)
    yield documents
    documents.close()


def test_ids_are_made_of_relative_paths(documents: Documents) -> None:
    """A file's ID is uuid5 of its relative path, so that anyone can compute it."""
    assert {entry.name: entry.file_id for entry in documents.files} == {name: file_id(name) for name in TEXTS}
    assert documents.first_unknown_file([file_id("a.txt"), "no", "neither"]) == "no"
    assert documents.first_unknown_file([file_id("a.txt")]) is None


def test_the_words_in_a_text_decide_its_type(documents: Documents) -> None:
    """Each text gets the rule whose words it holds; one that holds none gets no type."""
    classify = documents.make_classifier(JobConfig(RULES))
    found = {name: classify(file_id(name))["type"] for name in TEXTS}
    expected = ["invoice", "contract", "recipe", None, None]
    assert list(found.values()) == expected


def test_a_file_name_has_no_effect_on_the_type(folder: Path, documents: Documents) -> None:
    """The same text under a misleading name gets the same type."""
    (folder / "contract.recipe").write_text(TEXTS["a.txt"])
    renamed = Documents(folder)
    assert renamed.make_classifier(JobConfig(RULES))(file_id("contract.recipe"))["type"] == "invoice"
    renamed.close()


def test_reasoning_names_the_matched_words(documents: Documents) -> None:
    """The reasoning names matched words, and says that it is no language model."""
    result = documents.make_classifier(JobConfig(RULES))(file_id("deep/c"))
    assert '"oven"' in result["reasoning"] or '"bake"' in result["reasoning"]
    assert "no language model" in result["reasoning"]
    assert 0.5 <= result["confidence"] <= 1


def test_a_folder_of_one_document_can_be_ranked(tmp_path: Path) -> None:
    """Ranking works on a folder with one document, where every word is in more than half of all texts."""
    (tmp_path / "only").write_text(TEXTS["deep/b.pdf"] + " There is an invoice too.")
    documents = Documents(tmp_path)
    assert documents.make_classifier(JobConfig(RULES))(file_id("only"))["type"] == "contract"
    documents.close()


def test_a_classifier_is_made_once_for_each_config(documents: Documents) -> None:
    """A classifier is made once for each config and is cached from then on; other pages make another."""
    config = JobConfig(RULES)
    assert documents.cached_classifier(config) is None
    assert documents.make_classifier(config) is documents.make_classifier(config) is documents.cached_classifier(config)
    assert documents.cached_classifier(JobConfig(RULES, ParsingConfiguration(max_pages=1))) is None


def test_only_the_pages_asked_for_are_read(folder: Path) -> None:
    """What lies behind `max_pages`, or on other than the `target_pages`, is not seen."""
    (folder / "long").write_text("walk " * (PAGE_CHARACTERS // 5) + TEXTS["a.txt"])
    documents = Documents(folder)
    for parsing, expected in (
        (None, "invoice"),
        (ParsingConfiguration(max_pages=1), None),
        (ParsingConfiguration(target_pages=(1,)), "invoice"),
        (ParsingConfiguration(target_pages=(0,)), None),
    ):
        assert documents.make_classifier(JobConfig(RULES, parsing))(file_id("long"))["type"] == expected
    documents.close()


def test_pages_to_read_follow_max_pages_and_target_pages() -> None:
    """Five pages by default; target pages are 0-based, each once, ascending, at most `max_pages` of them."""
    assert pages_to_read(None) == (0, 1, 2, 3, 4)
    assert pages_to_read(ParsingConfiguration(max_pages=2)) == (0, 1)
    assert pages_to_read(ParsingConfiguration(lang="en"), "v2")[:7] == (0, 1, 2, 3, 4, 5, 6)
    assert pages_to_read(ParsingConfiguration(max_pages=2), "v2") == (0, 1)
    assert pages_to_read(ParsingConfiguration(target_pages=(7, 2, 2, 10_000))) == (2, 7)
    assert pages_to_read(ParsingConfiguration(target_pages=(7, 2), max_pages=1)) == (2,)


def test_pages_are_cut_by_characters_not_bytes(tmp_path: Path) -> None:
    """Text of many-byte characters has pages of as many characters."""
    path = tmp_path / "text"
    path.write_text("é" * PAGE_CHARACTERS + "ü" * 5)
    assert read_pages(path, [0]) == "é" * PAGE_CHARACTERS
    assert read_pages(path, [1]) == "ü" * 5


def test_binaries_hidden_files_and_links_outside_are_left_out(folder: Path, tmp_path: Path) -> None:
    """Binaries, hidden files and folders, and links that lead out of the folder are not in the project."""
    (folder / "binary").write_bytes(b"ELF\0\1")
    (folder / ".hidden").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (tmp_path / "secret").write_text("x")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "in").symlink_to(folder / "a.txt")
    (folder / "latin").write_bytes("façade".encode("latin-1"))
    assert {entry.name for entry in Documents(folder).files} == {*TEXTS, "in", "latin"}


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    """A missing folder, a file, and a folder without texts are UsageErrors with a hint."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "bare").mkdir()
    for name in ("missing", "file", "bare"):
        with pytest.raises(UsageError, match=name) as caught:
            Documents(tmp_path / name)
        assert caught.value.hint


def test_an_open_project_gives_any_id_the_same_answer_each_time() -> None:
    """Any ID is known, about 5 % match no rule, all types occur, and nothing changes between two projects."""
    classify, again = (OpenProject().make_classifier(JobConfig(RULES)) for _ in range(2))
    answers = [classify(f"id-{number}") for number in range(2_000)]
    assert answers == [again(f"id-{number}") for number in range(2_000)]
    types = [answer["type"] for answer in answers]
    assert 60 < types.count(None) < 140
    assert set(types) == {None, "invoice", "contract", "recipe"}
    assert all(0 <= answer["confidence"] <= 1 for answer in answers)
