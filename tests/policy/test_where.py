"""`where`: what a condition may speak of, and that only true is true."""

import datetime as dt

import pytest

from webhook import limits
from webhook.image import Repository, Subject, digest_of
from webhook.parsing import Invalid
from webhook.policy.cel.values import Value
from webhook.policy.where import parse_where
from webhook.trust import Rejected

IMAGE = Subject(Repository("registry.test:5000", "shop/web"), digest_of(b"x"), "v1")
NOW = dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
VULN: dict[str, Value] = {
    "metadata": {"scanFinishedOn": "2026-11-25T09:05:21Z"},
    "scanner": {
        "result": {"vulnerabilities": [{"id": "CVE-1", "severity": "LOW"}, {"id": "CVE-2", "severity": "MEDIUM"}]}
    },
}
SUBJECT: dict[str, Value] = {"name": "registry.test/shop/web", "digest": {"sha256": IMAGE.digest[7:]}}


def check(text: str, image: Subject = IMAGE, now: dt.datetime = NOW, predicate: Value = VULN) -> None:
    parse_where(text).check(predicate, SUBJECT, image, now)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp(predicate.metadata.scanFinishedOn) > now - duration('24h')",
        "predicate.scanner.result.vulnerabilities.all(v, v.severity in ['LOW', 'MEDIUM'])",
        "subject.name.endsWith('/shop/web') && 'sha256:' + subject.digest.sha256 == image.digest",
        "image.registry == 'registry.test:5000' && image.repository == 'shop/web' && image.tag == 'v1'",
        "now == timestamp('2026-11-25T12:00:00Z')",
    ],
)
def test_what_conditions_speak_of(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("predicate.scanner.result.vulnerabilities.all(v, v.severity == 'LOW')", "`where` does not hold"),
        ("timestamp(predicate.metadata.scanFinishedOn) > now - duration('1h')", "`where` does not hold"),
        ("predicate.scanner", "`where` is a map and not true"),
        ("predicate.metadata.scanFinishedOn", "`where` is a text and not true"),
        (
            "predicate.scanner.result.size() == 0 || predicate.nothing",
            "`where` has no answer: there is no field nothing",
        ),
        ("predicate.scanner.db.version == '1'", "`where` has no answer: there is no field db"),
        (
            "predicate.scanner.result.vulnerabilities[7].id == ''",
            "`where` has no answer: there is no item 7",
        ),
    ],
)
def test_v01_only_true_is_true(text: str, reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}"):
        check(text)


def test_an_image_without_a_tag_has_none() -> None:
    untagged = Subject(IMAGE.repository, IMAGE.digest, None)
    check("!has(image.tag)", untagged)
    with pytest.raises(Rejected, match="there is no field tag"):
        check("image.tag == 'v1'", untagged)


def test_d05_a_costly_condition_has_no_answer() -> None:
    items: Value = {"items": [{"n": i} for i in range(2000)]}
    with pytest.raises(Rejected, match="`where` has no answer: finding it costs more than one may"):
        check("predicate.items.all(a, predicate == predicate)", predicate=items)
    check("predicate.items.all(a, a == a)", predicate=items)


def test_mistakes_have_their_place() -> None:
    with pytest.raises(Invalid, match=r"column 7: image has no field name; it has: digest, registry, repository, tag"):
        parse_where("image.name == ''")
    with pytest.raises(Invalid, match=r"column 1: unknown name predicat; known: predicate, subject, image, now"):
        parse_where("predicat.x == 1")
    with pytest.raises(Invalid, match=rf"column {limits.MAX_WHERE + 1}: longer than"):
        parse_where("true" + " " * limits.MAX_WHERE)


def test_conditions_are_compared_by_their_text() -> None:
    assert parse_where("true") == parse_where("true")
    assert hash(parse_where("true")) == hash(parse_where("true"))
    assert parse_where("true") != parse_where("true ")


@pytest.mark.parametrize(
    ("text", "name", "now"),
    [
        ("predicate.x", False, False),
        ("image.digest == subject.digest.sha256", False, False),
        ("image.tag == 'v1'", True, False),
        ("image['tag'] == 'v1'", True, False),
        ("now > timestamp(0)", False, True),
        ("predicate.all(now2, now2)", False, False),
    ],
)
def test_what_an_answer_depends_on_is_known(text: str, name: bool, now: bool) -> None:
    where = parse_where(text)
    assert (where.looks_at_name, where.looks_at_now) == (name, now)
