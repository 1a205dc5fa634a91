"""JSON is cut out of JSON byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.http._spans import elements, members, raw, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
STYLES = st.sampled_from([{}, {"indent": 1}, {"separators": (" ,\t", "\n: ")}, {"ensure_ascii": False}])


@given(st.lists(VALUES), STYLES)
def test_elements_are_those_of_the_array(values: list[object], style: dict[str, object]) -> None:
    """Each element's text is the element, however the array is laid out."""
    text, array = read(json.dumps(values, **style).encode("utf-8", "surrogatepass"))  # type: ignore[arg-type]

    assert [json.loads(raw(text, value)) for value in elements(text, array)] == values


@given(st.dictionaries(st.text(), VALUES), STYLES)
def test_members_are_those_of_the_object(values: dict[str, object], style: dict[str, object]) -> None:
    """Each member's text is its value, however the object is laid out."""
    text, obj = read(json.dumps(values, **style).encode("utf-8", "surrogatepass"))  # type: ignore[arg-type]

    assert [(name, json.loads(raw(text, value))) for name, value in members(text, obj)] == list(values.items())


def test_nothing_is_rewritten() -> None:
    """Numbers, escapes and repeated members stay as they stand."""
    body = rb' [ 1.10, 12345678901234567890.5, 1e400, "\u0041", {"a":1,"a" :2} ] '
    text, array = read(body)

    assert [raw(text, value) for value in elements(text, array)] == [
        "1.10",
        "12345678901234567890.5",
        "1e400",
        r'"\u0041"',
        '{"a":1,"a" :2}',
    ]
    assert [name for name, _ in members(text, elements(text, array)[4])] == ["a", "a"]


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b"nul", b"[1,]", b"{} {}", b"NaN", b"[Infinity]", b'"\n"', b"\xff", b"\xef\xbb\xbf1", b"[" * 200_000],
    ids=["empty", "blank", "word", "comma", "two", "nan", "infinity", "line-break", "latin-1", "mark", "deep"],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Whatever a strict reader could take otherwise is no JSON here."""
    with pytest.raises(ValueError):
        read(body)
