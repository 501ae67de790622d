"""CBOR as COSE signatures need it: known answers of its specification, and all that two readers could understand differently."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake.notation import Tagged, cbor
from webhook import limits
from webhook.formats.notation.cbor import Tag, byte_string, head, read_cbor
from webhook.parsing import Invalid


@pytest.mark.parametrize(
    ("written", "means"),
    [
        # RFC 8949, appendix A.
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1000000),
        ("1bffffffffffffffff", 18446744073709551615),
        ("20", -1),
        ("3903e7", -1000),
        ("3bffffffffffffffff", -18446744073709551616),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("40", b""),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("60", ""),
        ("62c3bc", "ü"),
        ("80", []),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a0", {}),
        ("a201020304", {1: 2, 3: 4}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("c11a514b67b0", Tag(1, 1363896240)),
        # Longer than needed, and still one number.
        ("1800", 0),
    ],
)
def test_known_answers(written: str, means: object) -> None:
    found = read_cbor(bytes.fromhex(written), "x")
    assert found == means
    assert type(found) is type(means)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "ends too early"),
        ("18", "ends too early"),
        ("4401", "ends too early"),
        ("81", "ends too early"),
        ("a101", "ends too early"),
        ("9b7fffffffffffffff", "ends too early"),
        ("bb7fffffffffffffff", "ends too early"),
        ("0000", "bytes behind its end"),
        ("5f42010243030405ff", "an indefinite length"),
        ("7f657374726561646d696e67ff", "an indefinite length"),
        ("9fff", "an indefinite length"),
        ("bfff", "an indefinite length"),
        ("1c", "a length that means nothing"),
        ("1f", "an indefinite length"),
        ("f90000", "a float"),
        ("fb3ff199999999999a", "a float"),
        ("f7", "a float, or a simple value"),
        ("f0", "a float, or a simple value"),
        ("ff", "a float, or a simple value"),
        ("61ff", "text that is not UTF-8"),
        ("a201020103", "duplicate key 1"),
        ("a2616101616102", "duplicate key a"),
        ("a201020118", "duplicate key 1"),
        ("a1f501", "a key that is neither"),
        ("a1f601", "a key that is neither"),
        ("a1800102", "a key that is neither"),
        ("a14100f6", "a key that is neither"),
    ],
)
def test_n11_d04_what_is_odd_is_refused(written: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        read_cbor(bytes.fromhex(written), "path")
    assert str(refused.value).startswith("path: not CBOR that is accepted: ")


def test_d04_depth_and_number_of_items_are_bounded() -> None:
    deep = b"\x81" * limits.MAX_CBOR_DEPTH + b"\x00"
    read_cbor(deep, "x")
    for too_much in (
        b"\x81" + deep,
        b"\x81" * 100_000,
        b"\xc1" * 100_000,
        head(4, limits.MAX_CBOR_ITEMS) + b"\x00" * limits.MAX_CBOR_ITEMS,
    ):
        with pytest.raises(Invalid, match="too deep, or too many items"):
            read_cbor(too_much, "x")
    read_cbor(head(4, limits.MAX_CBOR_ITEMS - 1) + b"\x00" * (limits.MAX_CBOR_ITEMS - 1), "x")


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65535, 65536])
def test_what_is_to_be_signed_is_written_in_its_shortest_form(length: int) -> None:
    assert byte_string(b"x" * length) == cbor(b"x" * length)
    assert head(3, 2**32) == bytes.fromhex("7b0000000100000000")


_ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-99, 99) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_ITEMS)
def test_what_is_written_is_read(item: object) -> None:
    try:
        assert read_cbor(cbor(item), "x") == item
    except Invalid as e:
        assert "too deep" in str(e)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(Invalid):
        read_cbor(content, "x")


def test_tags_stand_by_themselves() -> None:
    assert read_cbor(cbor(Tagged(18, [b"", {}])), "x") == Tag(18, [b"", {}])
