"""Strict parsing: one meaning per document, every complaint with its path (attacks D-01, R-07)."""

import json
from typing import Annotated

import msgspec
import pytest

from webhook import limits
from webhook.parsing import Invalid, convert, convert_all, quote, read_json


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1,"a":2}', "x: duplicate key a"),
        (b'{"o":{"a":1,"b":0,"a":2}}', "x: duplicate key a"),
        (b'{"a":1,"\\u0061":2}', "x: duplicate key a"),
        (b"NaN", "x: NaN is not JSON"),
        (b"[-Infinity]", "x: -Infinity is not JSON"),
        (b"1" * (limits.MAX_DIGITS + 1), "x: an integer of more than 20 digits"),
        (b"-" + b"1" * 5000, "x: an integer of more than 20 digits"),
        (b"[" * 66 + b"]" * 66, "x: nested deeper than 64"),
        (b'{"a":' * 66 + b"1" + b"}" * 66, "x: nested deeper than 64"),
        (b"[" * 200_000, "x: more than 20000 values"),
        (b"[" * 10_000 + b"]" * 10_000, "x: nested deeper than 64"),
        (b"[" + b"1," * 20_000 + b"1]", "x: more than 20000 values"),
        (b"[" + b"{}," * 10_000 + b"{}]", "x: more than 20000 values"),
        (b"[1e999]", "x: a number too large to be kept"),
        (b"{" + b",".join(b'"%d":0' % i for i in range(15_000)) + b',"7":1}', "x: duplicate key 7"),
        (b"", "x: not JSON in UTF-8"),
        (b"{", "x: not JSON in UTF-8"),
        (b"{} {}", "x: not JSON in UTF-8"),
        (b'"\xff"', "x: not JSON in UTF-8"),
        (rb'{"a":["\uD800"]}', "x: text that is not Unicode"),
        (rb'{"\udfff":1}', "x: text that is not Unicode"),
        ('"ä"'.encode("utf-16"), "x: not JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", "x: not JSON in UTF-8"),
    ],
)
def test_r07_d04_what_two_readers_could_understand_differently_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_json(data, "x")
    assert str(refused.value) == message


def test_json_is_read_up_to_the_bounds() -> None:
    assert read_json(b"-" + b"1" * limits.MAX_DIGITS, "x") == -int("1" * limits.MAX_DIGITS)
    depth = limits.MAX_JSON_DEPTH
    assert json.dumps(read_json(b"[" * depth + b"]" * depth, "x")).count("[") == depth
    assert read_json(b'{"a": {"b": [1, 2.5, null, "\\u00e4"]}}', "x") == {"a": {"b": [1, 2.5, None, "ä"]}}


class _Leaf(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    size: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaves: list[_Leaf]
    best: _Leaf | None = None
    either: str | int = ""
    word: Annotated[str | None, msgspec.Meta(description="one")] = None


def test_every_complaint_is_listed_at_its_innermost_place() -> None:
    data = {
        "leaves": [{"name": "a"}, {"name": 1, "size": -1}, {"sise": 2}, 7],
        "best": {"name": True},
        "either": 1.5,
        "bush": 1,
    }
    with pytest.raises(Invalid) as refused:
        convert_all(data, _Tree, "spec")
    assert list(refused.value.complaints) == [
        "spec.leaves[1].name: expected str, got int",
        "spec.leaves[1].size: expected int >= 0",
        "spec.leaves[2].sise: unknown field; known: name, size",
        "spec.leaves[2].name: required",
        "spec.leaves[3]: expected object, got int",
        "spec.best.name: expected str, got bool",
        "spec.either: expected int | str, got float",
        "spec.bush: unknown field; known: best, either, leaves, word",
    ]


class _Open(msgspec.Struct):
    name: str


def test_what_a_struct_does_not_forbid_is_no_complaint() -> None:
    with pytest.raises(Invalid) as refused:
        convert_all({"other": 1}, _Open, "x")
    assert refused.value.complaints == ("x.name: required",)


def test_one_fault_is_enough_for_convert_and_it_has_its_path() -> None:
    with pytest.raises(Invalid, match=r"^manifest\.leaves\[0\]\.name: expected str, got int$"):
        convert({"leaves": [{"name": 1}]}, _Tree, "manifest")
    with pytest.raises(Invalid, match=r"^manifest: expected object, got null$"):
        convert(None, _Tree, "manifest")
    assert convert({"leaves": []}, _Tree, "manifest") == _Tree([])


class _Nest(msgspec.Struct):
    inner: "_Nest | None" = None


class _Many(msgspec.Struct, forbid_unknown_fields=True):
    items: list[_Nest] = []


def test_d04_faults_beyond_a_number_are_not_told() -> None:
    with pytest.raises(Invalid) as refused:
        convert_all({"items": [1] * 100_000}, _Many, "x")
    assert len(refused.value.complaints) == limits.MAX_COMPLAINTS
    with pytest.raises(Invalid) as refused:
        convert_all({str(i): 0 for i in range(1000)}, _Many, "x")
    assert len(refused.value.complaints) == limits.MAX_COMPLAINTS


def test_d04_a_document_too_deep_for_the_reader_is_a_complaint_and_not_a_crash() -> None:
    data: dict[str, object] = {}
    for _ in range(100_000):
        data = {"inner": data}
    try:
        with pytest.raises(Invalid, match=r"^x: nested too deeply$"):
            convert(data, _Nest, "x")
    finally:
        while data:  # taken apart here: the interpreter would do it recursively
            inner = data.pop("inner", None)
            data = inner if isinstance(inner, dict) else {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("line\nline", "line\\nline"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}x", "\\u202ex"),
        ("\ud800", "\\ud800"),
        ("a" * 300, "a" * 255 + "…"),
        ("\N{PILE OF POO}" * 200, ("\\U0001f4a9" * 26)[:255] + "…"),
        (12, "12"),
    ],
)
def test_text_from_outside_is_shown_as_one_harmless_line(text: object, shown: str) -> None:
    assert quote(text) == shown


def test_invalid_keeps_its_complaints_apart_and_joins_them_to_be_read() -> None:
    assert Invalid("a", "b").complaints == ("a", "b")
    assert "a" in str(Invalid("a", "b"))
    assert "b" in str(Invalid("a", "b"))


@pytest.mark.parametrize("text", [r'"\ud800"', r'"\uDFFF x"', r'{"\ud83d": 1}', r'["\udc00\ud800"]'])
def test_r07_half_of_a_surrogate_pair_is_no_text(text: str) -> None:
    with pytest.raises(Invalid, match="what: text that is not Unicode"):
        read_json(text.encode(), "what")


@pytest.mark.parametrize(("text", "means"), [(r'"\ud83d\ude00"', "\U0001f600"), (r'"\\ud800"', r"\ud800")])
def test_whole_pairs_and_what_only_looks_like_one_are_text(text: str, means: str) -> None:
    assert read_json(text.encode(), "what") == means
