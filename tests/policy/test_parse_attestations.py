"""Attestations, windows of time, ages, platforms and deny lists, as policies write them (M-10, V-01)."""

import datetime as dt
from typing import Any

import pytest

from tests.policies import KEY, OTHER_KEY, policy
from webhook import limits
from webhook.formats import FORMATS
from webhook.formats.cosign.signer import Cosign
from webhook.parsing import Invalid
from webhook.policy.attestation import Attested
from webhook.policy.parse import key_references, parse_policy, warnings
from webhook.policy.policy import DenyList, Policy
from webhook.policy.predicates import SHORT_NAMES
from webhook.policy.window import Windowed
from webhook.trust import KeyRef, Unresolved
from webhook.verdict import PolicyKey, Proof

A = {"name": "a", "cosign": {"key": KEY}}
B = {"name": "b", "cosign": {"key": OTHER_KEY}}
DECREE = {"name": "decree", "static": {"allow": True, "reason": "why", "digests": [f"sha256:{'0' * 64}"]}}
T = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def read(**spec: Any) -> Policy:
    return policy(spec={"signers": [A, B], **spec})


def attested(read: Policy) -> list[Attested]:
    """What the policy's attestations come to."""
    found = [demand.signer for demand in read.demands if demand.is_attestation]
    assert all(isinstance(one, Attested) for one in found)
    return [one for one in found if isinstance(one, Attested)]


def complaints(**spec: Any) -> list[str]:
    with pytest.raises(Invalid) as refused:
        read(**spec)
    return list(refused.value.complaints)


# ── attestations ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_field_of_an_attestation_reaches_the_policy() -> None:
    parsed = read(
        attestations=[
            {
                "name": "scan",
                "type": "vuln",
                "signedBy": ["b", "b"],
                "where": "predicate.scanner.result.size() == 0",
                "maxAge": "36h",
            },
            {"name": "review", "type": "https://acme.example/review/v1"},
        ]
    )
    scan, review = attested(parsed)
    assert [(one.name, one.is_attestation) for one in parsed.demands] == [
        ("a", False),
        ("b", False),
        ("scan", True),
        ("review", True),
    ]
    assert parsed.wanted == parsed.demands
    assert [one.name for one in read(attestations=[], require="b").wanted] == ["b"]
    assert (scan.by, scan.predicate_types, scan.called) == ((parsed.signers[1].signer,), SHORT_NAMES["vuln"], "vuln")
    assert scan.where is not None
    assert scan.where.text == "predicate.scanner.result.size() == 0"
    assert (scan.max_age, scan.unresolved) == (dt.timedelta(hours=36), ())
    assert review.by == (parsed.signers[0].signer, parsed.signers[1].signer)
    assert (review.where, review.max_age) == (None, None)
    assert str(parsed.require) == "((a or b) and scan and review)"


def test_names_of_attestations_stand_in_require() -> None:
    scan = {"name": "scan", "type": "vuln"}
    assert str(read(attestations=[scan], require="scan").require) == "scan"
    assert str(read(attestations=[scan], require="any and scan").require) == "((a or b) and scan)"
    assert str(read(attestations=[scan], require="all").require) == "(a and b and scan)"
    assert complaints(attestations=[scan], require="scam") == [
        'spec.require: column 1: unknown name "scam"; known: a, b, scan'
    ]


def test_a_decree_cannot_attest() -> None:
    scan = {"name": "scan", "type": "vuln"}
    parsed = read(signers=[A, DECREE], attestations=[scan])
    assert attested(parsed)[0].by == (parsed.signers[0].signer,)
    assert complaints(signers=[DECREE], attestations=[scan]) == ["spec.attestations[0]: none of the signers can attest"]
    assert complaints(signers=[A, DECREE], attestations=[{**scan, "signedBy": ["decree"]}]) == [
        "spec.attestations[0].signedBy[0]: decree cannot attest; its format has no attestations"
    ]


@pytest.mark.parametrize(
    ("attestations", "wanted"),
    [
        ([{"type": "vuln"}], ["spec.attestations[0].name: required"]),
        ([{"name": "x"}], ["spec.attestations[0].type: required"]),
        ([{"name": "x", "type": "vuln", "by": "a"}], ["spec.attestations[0].by: unknown field; known: maxAge, name,"]),
        ([{"name": "a", "type": "vuln"}], ["spec.attestations[0].name: a is another's name; signers and attestations"]),
        (
            [{"name": "x", "type": "vuln"}, {"name": "x", "type": "spdx"}],
            ["spec.attestations[1].name: x is another's name"],
        ),
        ([{"name": "any", "type": "vuln"}], ["spec.attestations[0].name: any: lower-case letters"]),
        ([{"name": "x", "type": "vulns"}], ["spec.attestations[0].type: vulns: unknown; known: slsa-provenance"]),
        ([{"name": "x", "type": ""}], ["spec.attestations[0].type: expected str of length >= 1"]),
        (
            [{"name": "x", "type": "vuln", "signedBy": []}],
            ["spec.attestations[0].signedBy: empty, so nobody could sign"],
        ),
        (
            [{"name": "x", "type": "vuln", "signedBy": ["a", "c"]}],
            ['spec.attestations[0].signedBy[1]: unknown signer "c"; known: a, b'],
        ),
        (
            [{"name": "x", "type": "vuln", "where": "predicate.x ="}],
            ["spec.attestations[0].where: column 13: = begins nothing"],
        ),
        (
            [{"name": "x", "type": "vuln", "where": "predicate.x == 1 &&\n  imag.tag == 'x'"}],
            ["spec.attestations[0].where: line 2, column 3: unknown name imag"],
        ),
        (
            [{"name": "x", "type": "vuln", "where": "true" + " " * limits.MAX_WHERE}],
            ["spec.attestations[0].where: expected str of length <="],
        ),
        (
            [{"name": "x", "type": "vuln", "maxAge": "1d"}],
            ["spec.attestations[0].maxAge: 1d: not a span of time; one is written like 36h or 1h30m"],
        ),
        ([{"name": "x", "type": "vuln", "maxAge": "0s"}], ["spec.attestations[0].maxAge: 0s: not between nothing and"]),
        (
            [{"name": "x", "type": "vuln", "maxAge": f"{limits.MAX_AGE_HOURS + 1}h"}],
            [
                f"spec.attestations[0].maxAge: {limits.MAX_AGE_HOURS + 1}h: not between nothing and {limits.MAX_AGE_HOURS}h"
            ],
        ),
        (
            [{"name": "x", "type": "vulns", "where": "1", "maxAge": "x", "signedBy": ["c"]}],
            [
                "spec.attestations[0].type: vulns: unknown",
                "spec.attestations[0].where: column 1: it is never true or false",
                "spec.attestations[0].maxAge: x: not a span of time",
                'spec.attestations[0].signedBy[0]: unknown signer "c"',
            ],
        ),
    ],
)
def test_m10_every_mistake_in_an_attestation_is_told_with_its_place(attestations: Any, wanted: list[str]) -> None:
    found = complaints(attestations=attestations)
    assert len(found) == len(wanted)
    for complaint, beginning in zip(found, wanted, strict=True):
        assert complaint.startswith(beginning)


def test_v01_attestations_need_signers() -> None:
    scan = {"name": "scan", "type": "vuln"}
    assert complaints(signers=[], attestations=[scan], deny={"digests": [f"sha256:{'0' * 64}"]}) == [
        "spec.attestations: there are no signers who could attest"
    ]
    # Of signers that cannot be read nobody knows whether they could.
    assert complaints(signers=1, attestations=[scan]) == ["spec.signers: expected array, got int"]
    assert complaints(signers=[{"name": "a", "cosign": {}}], attestations=[scan]) == [
        "spec.signers[0].cosign: exactly one of key, keys, keyless and certificate is wanted"
    ]


def test_v04_an_attestation_waits_for_none_of_its_signers() -> None:
    gone = {"name": "gone", "cosign": {"key": "secret://gone#x"}}
    scan = {"name": "scan", "type": "vuln"}
    unread = {KeyRef("secret://gone#x"): Unresolved("no Secret shop/gone")}
    parsed = policy(spec={"signers": [A, gone], "attestations": [scan]}, materials=unread)
    (signer,) = attested(parsed)
    assert signer.by == (parsed.signers[0].signer,)
    assert signer.unresolved == ('signer "gone": its key could not be read: no Secret shop/gone',)
    alone = policy(spec={"signers": [A, gone], "attestations": [{**scan, "signedBy": ["gone"]}]}, materials=unread)
    assert alone.demands[-1].signer == Unresolved('signer "gone": its key could not be read: no Secret shop/gone')
    assert alone.demands[-1].unread == 'signer "gone": its key could not be read: no Secret shop/gone'
    assert warnings(alone) == ()


# ── when signatures count ────────────────────────────────────────────────────────────────────────────────────────────
def test_validity_and_freshness_reach_the_signers() -> None:
    window = {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-01-02T02:00:00+02:00"}
    parsed = read(
        signers=[{**A, "validity": window}, B, {**DECREE, "validity": {"notAfter": "2026-01-02T00:00:00Z"}}],
        freshness={"maxSignatureAge": "720h"},
        attestations=[{"name": "scan", "type": "vuln"}],
    )
    month, end = dt.timedelta(days=30), T + dt.timedelta(days=1)
    first, second, decree = (named.signer for named in parsed.signers)
    assert isinstance(first, Windowed)
    assert isinstance(first.signer, Cosign)
    assert first == Windowed(first.signer, T, end)
    assert isinstance(second, Cosign)
    assert isinstance(decree, Windowed)
    assert decree == Windowed(decree.signer, None, end)
    # A decree has no age, and attestations have ages of their own.
    assert [one.signer for one in parsed.demands] == [
        Windowed(first, max_age=month),
        Windowed(second, max_age=month),
        decree,
        *attested(parsed),
    ]
    assert attested(parsed)[0].by == (first, second)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            {"signers": [{**A, "validity": {}}]},
            "spec.signers[0].validity: one of notBefore and notAfter is wanted",
        ),
        ({"signers": [{**A, "validity": 1}]}, "spec.signers[0].validity: expected object, got int"),
        (
            {"signers": [{**A, "validity": {"notBefore": "2026-01-01"}}]},
            "spec.signers[0].validity.notBefore: invalid RFC3339 encoded datetime",
        ),
        (
            {"signers": [{**A, "validity": {"notBefore": "2026-01-01T00:00:00"}}]},
            "spec.signers[0].validity.notBefore: expected datetime with a timezone component",
        ),
        (
            {"signers": [{**A, "validity": {"notBefore": "2026-01-02T00:00:00Z", "notAfter": "2026-01-02T00:00:00Z"}}]},
            "spec.signers[0].validity.notAfter: no time lies between notBefore and it",
        ),
        (
            {"signers": [{**A, "validity": {"until": "2026-01-02T00:00:00Z"}}]},
            "spec.signers[0].validity.until: unknown field; known: notAfter, notBefore",
        ),
        ({"freshness": {}}, "spec.freshness.maxSignatureAge: required"),
        ({"freshness": {"maxSignatureAge": "30 days"}}, "spec.freshness.maxSignatureAge: 30 days: not a span of time"),
        ({"freshness": {"maxSignatureAge": "1h", "x": 1}}, "spec.freshness.x: unknown field"),
        ({"platforms": "every"}, "spec.platforms: every is none of index, all, any"),
    ],
)
def test_m10_every_mistake_about_times_is_told_with_its_place(spec: dict[str, Any], wanted: str) -> None:
    (complaint,) = complaints(**spec)
    assert complaint.startswith(wanted)


@pytest.mark.parametrize("text", ["36h", "1h30m", "90s", "1500ms", "1h1h"])
def test_spans_of_time_that_are_read(text: str) -> None:
    parsed = read(freshness={"maxSignatureAge": text})
    assert isinstance(parsed.demands[0].signer, Windowed)


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "+1h", "1.5h", "1H", "1 h", "1us", "1h\n", "1234567h"])
def test_spans_of_time_that_are_not(text: str) -> None:
    assert complaints(freshness={"maxSignatureAge": text})


def test_m10_a_reference_has_no_validity_of_its_own() -> None:
    spec = {"name": "a", "ref": {"name": "base/release"}, "validity": {"notAfter": "2027-01-01T00:00:00Z"}}
    assert complaints(signers=[spec]) == [
        "spec.signers[0].validity: the policy that is referred to says when its signer counts"
    ]


def test_keys_of_signers_with_a_validity_are_found() -> None:
    spec = {"signers": [{"name": "a", "cosign": {"key": "secret://a#b"}, "validity": {"notAfter": "x"}}]}
    assert key_references(spec, FORMATS) == {"secret://a#b"}


def test_p09_any_platform_is_warned_about() -> None:
    assert read().terms.platforms == "index"
    assert warnings(read(platforms="all")) == ()
    (warning,) = warnings(read(platforms="any"))
    assert warning.startswith("spec.platforms: any admits an index of which one image satisfies")


# ── deny ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
IDENTITY = "issuer=https://accounts.example,subject=mallory@example.com"


def deny(**spec: Any) -> DenyList:
    return policy(spec={"deny": spec}).terms.deny


def test_every_field_of_a_deny_list_reaches_the_policy() -> None:
    parsed = deny(
        digests=[f"sha256:{'0' * 64}"],
        keys=[f"sha256:{'A' * 64}"],
        signers=[IDENTITY, "issuer=x,subject=ü", "issuer=x,subject=*.acme.test", "x509.subject: O=Acme,CN=v"],
        certSerials=["00:0A:bC", "1f", "0", "00"],
        signedAfter="2026-01-01T00:00:00Z",
        signedBefore="2026-01-02T00:00:00Z",
    )
    assert parsed.identities == {
        f"SHA256:{'a' * 64}",
        IDENTITY,
        "issuer=x,subject=\\xfc",
        "issuer=x,subject=*.acme.test",
    }
    assert parsed.subjects == {frozenset({("2.5.4.10", "Acme"), ("2.5.4.3", "v")})}
    assert parsed.serials == {"abc", "1f", "0"}
    assert (parsed.signed_after, parsed.signed_before) == (T, T + dt.timedelta(days=1))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"signers": ["mallory"]}, "spec.deny.signers[0]: mallory: not an identity"),
        ({"signers": ["x509.subject:"]}, "spec.deny.signers[0]: x509.subject:: not an identity"),
        ({"signers": ["x509.subject: garbage"]}, "spec.deny.signers[0]: garbage: not TYPE=value"),
        ({"signers": ["x509.subject: *"]}, "spec.deny.signers[0]: *: not TYPE=value"),
        (
            {"signers": ["issuer=*,subject=x"]},
            "spec.deny.signers[0]: issuer=*,subject=x: no character stands for others",
        ),
        (
            {"signers": ["issuer=https://x,subject=*"]},
            "spec.deny.signers[0]: issuer=https://x,subject=*: no character stands for others",
        ),
        ({"signers": ["issuer=,subject=x"]}, "spec.deny.signers[0]: issuer=,subject=x: not an identity"),
        ({"certSerials": ["xyz"]}, "spec.deny.certSerials[0]: xyz: not a serial number in hex"),
        ({"certSerials": [""]}, "spec.deny.certSerials[0]: : not a serial number in hex"),
        ({"signedAfter": "yesterday"}, "spec.deny.signedAfter: invalid RFC3339 encoded datetime"),
        (
            {"signedAfter": "2026-01-02T00:00:00Z", "signedBefore": "2026-01-01T00:00:00Z"},
            "spec.deny.signedBefore: no time lies between signedAfter and it",
        ),
        ({"signed_after": "2026-01-02T00:00:00Z"}, "spec.deny.signed_after: unknown field"),
    ],
)
def test_m10_every_mistake_in_a_deny_list_is_told_with_its_place(spec: dict[str, Any], wanted: str) -> None:
    (complaint,) = complaints(deny=spec)
    assert complaint.startswith(wanted)


@pytest.mark.parametrize(
    "spec",
    [
        {"signers": [IDENTITY]},
        {"signers": ["x509.subject: O=Acme"]},
        {"certSerials": ["1f"]},
        {"signedAfter": "2026-01-01T00:00:00Z"},
        {"signedBefore": "2026-01-01T00:00:00Z"},
    ],
)
def test_a_policy_may_deny_and_nothing_else(spec: dict[str, Any]) -> None:
    parsed = parse_policy(PolicyKey(None, "x"), {"images": ["**"], "deny": spec}, {}, FORMATS, "home")
    assert parsed.terms.deny
    assert parsed.terms.deny.names_signers
    assert not parsed.covers_images


def proof(at: dt.datetime | None, made: str = "cosign", **changes: Any) -> Proof:
    return Proof(**{"format": made, "identity": "me", "origin": "here", "signed_at": at, **changes})


HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("after", "before", "at", "now", "refused"),
    [
        (T, None, T - HOUR, T + 2 * HOUR, False),
        (T, None, T, T + 2 * HOUR, False),
        (T, None, T + HOUR, T + 2 * HOUR, True),
        (None, T, T - HOUR, T + 2 * HOUR, True),
        (None, T, T, T + 2 * HOUR, False),
        (None, T, T + HOUR, T + 2 * HOUR, False),
        (T, T + 2 * HOUR, T - HOUR, T + 3 * HOUR, False),
        (T, T + 2 * HOUR, T + HOUR, T + 3 * HOUR, True),
        (T, T + 2 * HOUR, T + 3 * HOUR, T + 3 * HOUR, False),
        # Of an unknown time, it may have been made at any time up to now.
        (T, None, None, T - HOUR, False),
        (T, None, None, T, False),
        (T, None, None, T + HOUR, True),
        (None, T, None, T - HOUR, True),
        (None, T, None, T + HOUR, True),
        (T, T + HOUR, None, T - HOUR, False),
        (T, T + HOUR, None, T + 9 * HOUR, True),
    ],
)
def test_which_times_a_deny_list_refuses(
    after: dt.datetime | None, before: dt.datetime | None, at: dt.datetime | None, now: dt.datetime, refused: bool
) -> None:
    listed = DenyList(signed_after=after, signed_before=before)
    said = listed.refuses(proof(at), now)
    assert said == ((f"at {at.isoformat()}" if at else "at an unknown time") if refused else None)
    # A decree was not signed at any time.
    assert listed.refuses(proof(at, "static"), now) is None


def test_who_a_deny_list_refuses() -> None:
    listed = DenyList(identities=frozenset({"me"}), serials=frozenset({"1f"}))
    assert listed.refuses(proof(None), T) == "by me"
    assert listed.refuses(proof(None, identity="you"), T) is None
    assert listed.refuses(proof(None, identity="you", serial="1f"), T) == "with certificate 1f"
    assert listed.refuses(proof(None, identity="you", serial="1e"), T) is None
