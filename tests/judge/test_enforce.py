"""Enforcement: the table of outcome by mode, and the words people read (attacks V-03, X-14)."""

import dataclasses
import datetime as dt

import pytest

from webhook import limits
from webhook.image import Repository, Subject, digest_of
from webhook.judge.enforce import settle, verdict_of
from webhook.judge.explain import as_json, denial, details, sentence, warning
from webhook.judge.workload import Placed, Question
from webhook.policy.policy import Workload
from webhook.trust import BY_REGISTRIES, NOT_IN_FILES
from webhook.verdict import (
    Allowed,
    Deferred,
    Denied,
    Judgement,
    Mode,
    NamedFinding,
    Outcome,
    PolicyKey,
    Proof,
    Ruling,
    Satisfied,
    Uncovered,
    Undecided,
    Unknown,
    Unsatisfied,
)

DIGEST = digest_of(b"image")
SUBJECT = Subject(Repository("ghcr.io", "a/b"), DIGEST, "v1")
PROOFS = frozenset({Proof("cosign", "SHA256:bb", "x"), Proof("cosign", "SHA256:aa", "x")})
ALLOWED = Allowed(SUBJECT, PROOFS)
DENIED = Denied(("no signature",), subject=SUBJECT, fix="sign it")
UNDECIDED = Undecided(("down", "slow"), SUBJECT)
PLACE = "spec.containers[0].image"


def ruling(
    outcome: Outcome,
    mode: Mode = "enforce",
    *,
    place: str = PLACE,
    name: str = "p",
    message: str | None = None,
    by_tag: bool = False,
) -> Ruling:
    return Ruling((place,), "ghcr.io/a/b:v1", PolicyKey("shop", name), outcome, mode, message, by_tag=by_tag)


def question(*places: str) -> Question:
    images = tuple(Placed(place, "ghcr.io/a/b:v1", "main") for place in places or (PLACE,))
    return Question(Workload("shop", "default", {}), (), images)


@pytest.mark.parametrize(
    ("outcome", "mode", "allowed", "code", "warned"),
    [
        (ALLOWED, "enforce", True, 200, False),
        (ALLOWED, "warn", True, 200, False),
        (ALLOWED, "audit", True, 200, False),
        (DENIED, "enforce", False, 403, False),
        (DENIED, "warn", True, 200, True),
        (DENIED, "audit", True, 200, False),
        (UNDECIDED, "enforce", False, 503, False),
        (UNDECIDED, "warn", True, 200, True),
        (UNDECIDED, "audit", True, 200, False),
    ],
)
def test_v05_the_table_of_enforcement(outcome: Outcome, mode: Mode, allowed: bool, code: int, warned: bool) -> None:
    answer = settle(question(), [ruling(outcome, mode)])
    assert (answer.allowed, answer.code, bool(answer.warnings)) == (allowed, code, warned)
    assert bool(answer.message) is not allowed
    assert verdict_of([ruling(outcome, mode)]) == {200: "allowed", 403: "denied", 503: "undecided"}[code]


def test_the_answer_says_the_strictest_mode_of_what_was_not_enforced() -> None:
    def mode(*rulings: Ruling) -> Mode:
        return settle(question(), rulings).mode

    assert mode(ruling(ALLOWED), ruling(ALLOWED, "audit")) == "enforce"
    assert mode(ruling(ALLOWED), ruling(DENIED, "audit")) == "audit"
    assert mode(ruling(UNDECIDED, "audit"), ruling(DENIED, "warn")) == "warn"
    assert mode(ruling(DENIED), ruling(DENIED, "warn")) == "enforce"


def test_v04_one_refusal_among_many_refuses_all_and_a_denial_outranks_doubt() -> None:
    rulings = [
        ruling(ALLOWED, name="a"),
        ruling(UNDECIDED, name="b"),
        ruling(DENIED, name="c"),
        ruling(ALLOWED, name="d"),
    ]
    answer = settle(question(), rulings)
    assert answer.code == 403
    # The denial is told first; the doubt is told, too.
    assert answer.message.splitlines() == [
        f"{PLACE} ghcr.io/a/b:v1 ({DIGEST[:19]}…): policy shop/c: no signature. Fix: sign it",
        f"{PLACE} ghcr.io/a/b:v1 ({DIGEST[:19]}…): policy shop/b: could not verify: down; slow. A retry may help",
    ]
    assert answer.annotations["verdict"] == "denied"
    assert settle(question(), rulings[:2]).code == 503


def test_a_retry_is_advised_unless_all_of_it_waits_for_somebody_to_write_something() -> None:
    lasting = f"10.0.0.1: is an internal address; an operator can allow it {BY_REGISTRIES}"
    missing = f"ConfigMap shop/release {NOT_IN_FILES}"
    told = {
        causes: sentence(ruling(Undecided(causes, SUBJECT)))
        for causes in [(lasting,), (lasting, missing), (missing,), (lasting, "down"), (missing, "down"), ("down",)]
    }
    advised = [text.endswith(". A retry may help") for text in told.values()]
    assert advised == [False, False, False, True, True, True]
    assert told[lasting,].endswith(f"policy shop/p: could not verify: {lasting}")


def test_v01_an_image_nobody_judged_refuses_everything() -> None:
    for judgements in ([], [ruling(ALLOWED)]):
        answer = settle(question(PLACE, "spec.containers[1].image"), judgements)
        assert (answer.allowed, answer.code) == (False, 500)
        assert "spec.containers[1].image" in answer.message
    nothing = settle(Question(Workload("shop", "default", {}), (), ()), [])
    assert (nothing.allowed, nothing.code) == (False, 500)


def test_what_is_uncovered_or_left_for_later_is_admitted_with_a_warning() -> None:
    answer = settle(question(), [Uncovered((PLACE,), "ghcr.io/a/b:v1")])
    assert answer.allowed
    assert answer.warnings == (f"{PLACE} ghcr.io/a/b:v1: no trust policy covers this image; it was not verified",)
    answer = settle(question(), [Deferred((PLACE,))])
    assert answer.warnings == (f"{PLACE}: no image yet; the Pods made from it will be judged",)
    assert verdict_of([Deferred((PLACE,)), Uncovered((PLACE,), "x")]) == "allowed"


def test_the_policys_own_message_is_shown_harmlessly() -> None:
    answer = settle(question(), [ruling(DENIED, message="ask \x1b[31m#platform")])
    assert answer.message.endswith("Fix: sign it. ask \\x1b[31m#platform")


def test_the_audit_log_gets_verdict_policies_digests_signers_and_what_a_mode_let_pass() -> None:
    answer = settle(
        question(), [ruling(ALLOWED, name="a"), ruling(DENIED, "audit", name="b"), Uncovered((PLACE,), "x")]
    )
    assert answer.annotations == {
        "verdict": "allowed",
        "policy": "shop/a,shop/b",
        "digest": DIGEST,
        "signer": "SHA256:aa, SHA256:bb",
        "not-enforced": f"{PLACE} ghcr.io/a/b:v1 ({DIGEST[:19]}…): policy shop/b: no signature. Fix: sign it",
    }
    unread = Ruling((PLACE,), "UPPER", None, Denied(("not an image reference",)))
    assert settle(question(), [unread]).annotations == {"verdict": "denied"}


def test_warnings_and_denials_are_bounded() -> None:
    places = [f"spec.containers[{i}].image" for i in range(50)]
    many = [ruling(DENIED, place=place) for place in places]
    answer = settle(question(*places), many)
    assert len(answer.message.splitlines()) == limits.MAX_DENIAL_LINES + 1
    assert answer.message.endswith("and 30 more")
    warned = settle(question(*places), [ruling(DENIED, "warn", place=place, message="x" * 500) for place in places])
    assert len(warned.warnings) == limits.MAX_WARNINGS
    assert all(len(text) <= limits.MAX_WARNING for text in warned.warnings)
    assert warning("a\nb") == "a; b"
    assert denial(["a"]) == "a"


def test_a_line_names_three_places_and_says_that_there_are_more() -> None:
    four = Ruling(("a", "b", "c", "d"), f"ghcr.io/a/b@{DIGEST}", PolicyKey(None, "p"), DENIED)
    message = settle(question("a", "b", "c", "d"), [four]).message
    assert message == f"a, b, c … ghcr.io/a/b@{DIGEST}: policy cluster/p: no signature. Fix: sign it"


def test_an_allowance_can_be_told_too() -> None:
    assert sentence(ruling(ALLOWED)).endswith(": policy shop/p: signed by SHA256:aa, SHA256:bb")


PLAIN = {
    "origin": "x",
    "predicateType": None,
    "signedAt": None,
    "logIndex": None,
    "certSerial": None,
    "validUntil": None,
}


def test_json_tells_what_is_known_of_a_proof() -> None:
    at = dt.datetime(2026, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    known = Proof(
        "cosign",
        "me",
        "here",
        at,
        valid_until=at + dt.timedelta(days=1),
        serial="1f",
        log_index=0,
        predicate_type="x:y",
    )
    allowed = Allowed(SUBJECT, frozenset({known, Proof("cosign", "me", "there")}))
    finding = NamedFinding("a", Satisfied(allowed.proofs))
    judged = Ruling((PLACE,), "x:v1", PolicyKey("shop", "p"), allowed, findings=(finding,))
    (told,) = as_json([judged], {"x:v1": "allowed"})
    assert isinstance(told["policies"], list)
    assert told["policies"][0]["signers"][0]["proofs"] == [
        {**PLAIN, "identity": "me", "origin": "there"},
        {
            "identity": "me",
            "origin": "here",
            "predicateType": "x:y",
            "signedAt": "2026-01-01T00:00:00Z",
            "logIndex": 0,
            "certSerial": "1f",
            "validUntil": "2026-01-02T00:00:00Z",
        },
    ]
    # A key's signature has nothing to tell that the line before does not.
    assert details(judged) == [
        "attested x:y by me, at 2026-01-01T00:00:00Z, log index 0, certificate 1f, until 2026-01-02T00:00:00Z, from here"
    ]
    assert details(Ruling((PLACE,), "x:v1", None, DENIED)) == []


def test_json_has_one_object_per_image() -> None:
    findings = (
        NamedFinding("a", Satisfied(PROOFS)),
        NamedFinding("b", Unsatisfied(("no", "neither"))),
        NamedFinding("c", Unknown(("down",)), is_attestation=True),
    )
    judgements: list[Judgement] = [
        Ruling((PLACE,), "x:v1", PolicyKey("shop", "p"), ALLOWED, findings=findings),
        Ruling((PLACE,), "x:v1", PolicyKey(None, "q"), DENIED, "warn"),
        Ruling((PLACE,), "x:v1", PolicyKey(None, "r"), UNDECIDED),
        Ruling((PLACE,), "UPPER", None, Denied(("no reference",))),
        Uncovered((PLACE,), "y:v1"),
        Deferred((PLACE,)),
    ]
    first, second, third = as_json(judgements, {"x:v1": "undecided", "UPPER": "denied", "y:v1": "allowed"})
    assert (first["image"], first["digest"], first["verdict"]) == ("x:v1", DIGEST, "undecided")
    assert first["policies"] == [
        {
            "name": "shop/p",
            "satisfied": True,
            "ends": None,
            "signers": [
                {
                    "name": "a",
                    "satisfied": True,
                    "identity": "SHA256:aa, SHA256:bb",
                    "reason": None,
                    "proofs": [{**PLAIN, "identity": "SHA256:aa"}, {**PLAIN, "identity": "SHA256:bb"}],
                },
                {"name": "b", "satisfied": False, "identity": None, "reason": "no; neither", "proofs": []},
            ],
            "attestations": [{"name": "c", "satisfied": None, "identity": None, "reason": "down", "proofs": []}],
            "exception": None,
            "outage": None,
        },
        {
            "name": "cluster/q",
            "satisfied": False,
            "ends": None,
            "signers": [],
            "attestations": [],
            "exception": None,
            "outage": None,
        },
        {
            "name": "cluster/r",
            "satisfied": None,
            "ends": None,
            "signers": [],
            "attestations": [],
            "exception": None,
            "outage": None,
        },
    ]
    assert first["reasons"] == [
        f"{PLACE} x:v1 ({DIGEST[:19]}…): policy cluster/q: no signature. Fix: sign it [warn only]",
        f"{PLACE} x:v1 ({DIGEST[:19]}…): policy cluster/r: could not verify: down; slow. A retry may help",
    ]
    assert (second["digest"], second["policies"]) == (None, [])
    assert third["reasons"] == [f"{PLACE} y:v1: no trust policy covers this image; it was not verified"]


def test_what_a_policy_only_logs_is_told() -> None:
    proof = Proof("notation", "x509.subject: CN=x", "here", logged=("expiry: it expired",))
    admitted = ruling(Allowed(SUBJECT, frozenset({proof})))
    answer = settle(question(), [admitted])
    said = "spec.containers[0].image ghcr.io/a/b:v1 (sha256:"
    assert answer.allowed
    assert answer.warnings[0].startswith(said)
    assert answer.warnings[0].endswith("signed by x509.subject: CN=x, expiry: it expired (not enforced by the policy)")
    assert answer.annotations["not-enforced"].endswith("signed by x509.subject: CN=x, expiry: it expired")
    found = dataclasses.replace(admitted, findings=(NamedFinding("vendor", Satisfied(frozenset({proof}))),))
    [entry] = as_json([found], {"ghcr.io/a/b:v1": "allowed"})
    assert "'logged': ['expiry: it expired']" in str(entry)
    assert "not-enforced" not in settle(question(), [ruling(ALLOWED)]).annotations
