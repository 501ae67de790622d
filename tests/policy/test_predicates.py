"""Predicate types: the short names, URIs, and the time that a predicate itself gives."""

import datetime as dt

import pytest

from webhook import limits
from webhook.parsing import Invalid
from webhook.policy.cel.values import Value
from webhook.policy.predicates import SHORT_NAMES, parse_predicate_type, reported_at


@pytest.mark.parametrize("short", SHORT_NAMES)
def test_short_names_stand_for_types(short: str) -> None:
    assert parse_predicate_type(short) == SHORT_NAMES[short]
    for uri in SHORT_NAMES[short]:
        assert parse_predicate_type(uri) == (uri,)


def test_no_type_has_two_short_names() -> None:
    every = [uri for uris in SHORT_NAMES.values() for uri in uris]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("text", ["https://acme.example/review/v1", "acme.example/review/v1", "urn:acme:review"])
def test_any_other_type_is_named_by_its_uri(text: str) -> None:
    assert parse_predicate_type(text) == (text,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("slsa-provenence", "slsa-provenence: unknown; known: slsa-provenance, spdx"),
        ("SPDX", "SPDX: unknown; known"),
        ("", ": unknown; known"),
        ("https://acme.example/a b", "not a predicate type; one of"),
        ("https://acme.example/ü", "not a predicate type; one of"),
        ("https://acme.example/\n", "not a predicate type; one of"),
        ("x:" + "a" * (limits.MAX_PREDICATE_TYPE - 1), "not a predicate type; one of"),
        ("https://sigstore.dev/cosign/sign/v1", "that is a signature and no attestation"),
    ],
)
def test_what_is_no_type_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        parse_predicate_type(text)


TIME = "2026-11-25T09:05:21Z"
EXPECTED = dt.datetime(2026, 11, 25, 9, 5, 21, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("short", "predicate"),
    [
        ("spdx", {"creationInfo": {"created": TIME}}),
        ("cyclonedx", {"metadata": {"timestamp": TIME}}),
        ("vuln", {"metadata": {"scanFinishedOn": TIME, "scanStartedOn": "2020-01-01T00:00:00Z"}}),
        ("openvex", {"timestamp": "2020-01-01T00:00:00Z", "last_updated": TIME}),
        ("openvex", {"timestamp": TIME}),
    ],
)
def test_where_each_type_gives_its_time(short: str, predicate: Value) -> None:
    for uri in SHORT_NAMES[short]:
        reported = reported_at(uri, predicate)
        assert reported is not None
        assert reported.utc == EXPECTED


def test_both_versions_of_provenance_give_the_end_of_the_build() -> None:
    newer, older = SHORT_NAMES["slsa-provenance"]
    assert (found := reported_at(newer, {"runDetails": {"metadata": {"finishedOn": TIME}}})) is not None
    assert found.utc == EXPECTED
    assert (found := reported_at(older, {"metadata": {"buildFinishedOn": TIME}})) is not None
    assert found.utc == EXPECTED
    # Each in its own place alone.
    assert reported_at(newer, {"metadata": {"buildFinishedOn": TIME}}) is None


@pytest.mark.parametrize("predicate", [None, {}, [], "text", {"metadata": None}, {"metadata": []}, {"metadata": {}}])
def test_a_predicate_may_give_no_time(predicate: Value) -> None:
    assert reported_at(SHORT_NAMES["vuln"][0], predicate) is None
    assert reported_at("https://acme.example/review/v1", {"metadata": {"scanFinishedOn": TIME}}) is None
    assert reported_at(SHORT_NAMES["test-result"][0], {"timestamp": TIME}) is None


@pytest.mark.parametrize("value", [1, True, {}, [], "", "yesterday", "2026-13-01T00:00:00Z", "2026-11-25"])
def test_what_stands_for_a_time_and_is_none_is_refused(value: Value) -> None:
    with pytest.raises(Invalid, match=r"^predicate\.metadata\.scanFinishedOn: "):
        reported_at(SHORT_NAMES["vuln"][0], {"metadata": {"scanFinishedOn": value}})
