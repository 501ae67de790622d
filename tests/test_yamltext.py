"""YAML, read as strictly as JSON (attack D-06)."""

import pytest

from webhook.parsing import Invalid
from webhook.yamltext import read_yaml


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"a: 1\nb: 2\na: 3\n", "x, line 1, column 1: a key stands twice"),
        (b"a: &b [1]\nc: *b\n", "x, line 2, column 4: aliases (*name) are not accepted"),
        (b"[" * 100_000, "x, line 1, column 65: nested deeper than 64"),
        (b"a: !!python/object/apply:os.system [id]", "x, line 1, column 4: could not determine a constructor"),
        (b"a: b: c", "x, line 1, column 5: mapping values are not allowed"),
        (b"\xff\xfe\xff", "x: not YAML"),
        (b"a: \x00", "x: not YAML"),
    ],
)
def test_d06_yaml_is_read_plainly(data: bytes, complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_yaml(data, "x")
    assert str(refused.value).startswith(complaint)


def test_times_and_versions_stay_text() -> None:
    assert read_yaml(b'a: 2026-01-01\nb: 2026-01-01T00:00:00Z\n---\nc: "1.0"', "x") == [
        {"a": "2026-01-01", "b": "2026-01-01T00:00:00Z"},
        {"c": "1.0"},
    ]
