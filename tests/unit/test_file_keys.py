"""Which strings are spellings of one UUID, and that all others are left alone."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.file_keys import as_asked, file_key, file_keys, is_uuid, same_id

CANONICAL = "0f8e2c1a-9b7d-4e6f-a5c3-d2b1e0f98a76"
BARE = CANONICAL.replace("-", "")
SPELLINGS = [
    CANONICAL,
    CANONICAL.upper(),
    CANONICAL[:18].upper() + CANONICAL[18:],
    BARE,
    BARE.upper(),
    f"{{{CANONICAL}}}",
    f"{{{CANONICAL.upper()}}}",
    f"{{{BARE}}}",
    f"urn:uuid:{CANONICAL}",
    f"URN:UUID:{CANONICAL.upper()}",
    f"urn:uuid:{BARE}",
]
NEAR_MISSES = [
    *(CANONICAL.upper()[:-1], CANONICAL.upper() + "0", f"F{BARE}", BARE[:-1]),
    *(f"{{{CANONICAL}", f"{CANONICAL}}}", f"{{{{{CANONICAL}}}}}", f"({CANONICAL})", f"[{CANONICAL}]", f'"{CANONICAL}"'),
    *(f"urn:uuid:{{{CANONICAL}}}", f"{{urn:uuid:{CANONICAL}}}", f"uuid:{CANONICAL}", f"urn:{CANONICAL}"),
    *(f"urn:uuıd:{CANONICAL}", f"urn:guid:{CANONICAL}"),
    "0F8E-2C1A9B7D-4E6F-A5C3-D2B1E0F98A76",  # hyphens at other places
    "0F8E2C1A9-B7D-4E6F-A5C3-D2B1E0F98A76",
    "0F8E2C1A-9B7D4E6F-A5C3-D2B1E0F98A76",  # some of them only
    "0F8E2C1A-9B7D-4E6F-A5C3D2B1E0F98A76-",
    "-F8E2C1A-9B7D-4E6F-A5C3-D2B1E0F98A76",
    BARE[:-2].upper() + "_0",  # int() would take these
    "0x" + BARE[2:].upper(),
    "+" + BARE[1:].upper(),
    CANONICAL.upper().replace("9", "٩"),
    CANONICAL.replace("0", "０"),
    CANONICAL.upper().replace("-", "‐"),
    CANONICAL.upper().replace("A", "G"),
    CANONICAL.upper() + "\n",
    f" {CANONICAL.upper()}",
]

_FRAMES = ["{}", "{{{}}}", "urn:uuid:{}", "URN:UUID:{}", "Urn:Uuid:{}"]


@st.composite
def spellings(draw: st.DrawFn, of: st.SearchStrategy[uuid.UUID]) -> tuple[str, str]:
    """A spelling of a UUID, and its canonical one; each letter may have a case of its own."""
    value = draw(of)
    text = draw(st.sampled_from([str(value), value.hex]))
    cases = draw(st.sampled_from([0, -1]) | st.integers(0, (1 << 36) - 1))
    text = "".join(each.upper() if cases >> at & 1 else each for at, each in enumerate(text))
    return draw(st.sampled_from(_FRAMES)).format(text), str(value)


OPAQUE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=45)
OPAQUE_AS_LONG = st.text("0Aa-G", min_size=36, max_size=36)
PAIRS = st.one_of(
    spellings(st.uuids()),
    st.uuids().map(lambda value: (str(value), str(value))),
    st.uuids().map(lambda value: (str(value).upper(), str(value))),
    (OPAQUE | OPAQUE_AS_LONG | st.sampled_from(NEAR_MISSES[:-2])).map(lambda opaque: (opaque, opaque)),
)


@pytest.mark.parametrize("file_id", SPELLINGS)
def test_every_spelling_of_a_uuid_has_one_key(file_id: str) -> None:
    """Case, hyphens, braces and the prefix of a URN make no other file of it."""
    assert file_key(file_id) == CANONICAL
    assert file_keys([file_id]) == [CANONICAL]
    assert is_uuid(file_id)


@pytest.mark.parametrize("file_id", NEAR_MISSES)
def test_what_is_not_exactly_a_uuid_is_its_own_key(file_id: str) -> None:
    """A string that a lenient parser would take for a UUID is opaque, and its case matters."""
    assert file_key(file_id) == file_id
    assert not is_uuid(file_id)


@given(pair=spellings(st.uuids()))
def test_the_key_of_any_spelling_is_the_canonical_one(pair: tuple[str, str]) -> None:
    """`file_key` of whatever spelling is what `str` says of the UUID."""
    assert file_key(pair[0]) == pair[1]


@given(file_id=OPAQUE | OPAQUE_AS_LONG)
def test_the_key_of_an_opaque_id_is_the_id(file_id: str) -> None:
    """Any other text is left as it is."""
    assert file_key(file_id) == file_id


@given(pairs=st.lists(PAIRS) | st.lists(spellings(st.uuids())), times=st.integers(1, 3))
def test_a_batch_has_the_keys_of_its_ids(pairs: list[tuple[str, str]], times: int) -> None:
    """A batch is judged as each of its IDs is judged alone, whatever stands beside it."""
    file_ids, keys = [pair[0] for pair in pairs] * times, [pair[1] for pair in pairs] * times
    assert file_keys(file_ids) == keys == list(map(file_key, file_ids))


@pytest.mark.parametrize(
    "file_ids",
    [
        [],
        [CANONICAL] * 3,
        ["dfl-1", "DFL-2"],
        [CANONICAL, "a-header", "DFL-2"],
        [CANONICAL, "F" * 31],
        ["g" * 36, "G" * 36, "A" * 36],
        ["g" * 32, CANONICAL],
    ],
)
def test_a_batch_of_keys_is_not_copied(file_ids: list[str]) -> None:
    """The very sequence comes back where each ID is its own key, so that nothing has to be compared."""
    assert file_keys(file_ids) is file_ids


@given(pairs=st.lists(PAIRS, unique_by=lambda pair: pair[1]), others=st.lists(PAIRS))
def test_what_a_server_shows_is_told_as_it_was_asked_for(
    pairs: list[tuple[str, str]], others: list[tuple[str, str]]
) -> None:
    """In whatever spelling; what nobody asked for is None."""
    asked = dict(pairs)
    shown = [key for _, key in pairs] + [given for given, _ in others]
    expected = [next((given for given in asked if same_id(given, each)), None) for each in shown]
    assert as_asked(shown, asked) == expected
