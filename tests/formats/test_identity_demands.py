"""Whose certificate it has to be: texts, patterns, pipelines (attacks P-02, P-03, C-16, C-21, D-05)."""

import itertools
import time
from typing import Any

import pytest

from tests import captures
from webhook import limits
from webhook.formats._fulcio import ENVIRONMENT, REF, REPOSITORY, RUNNER, TRIGGER, Certified
from webhook.formats._pattern import Pattern, parse_pattern
from webhook.formats._workload import Demand
from webhook.formats.cosign import FORMAT
from webhook.formats.cosign.build import examine
from webhook.formats.cosign.keyless import Keyless
from webhook.formats.cosign.spec import CosignSpec
from webhook.parsing import Invalid, convert_all
from webhook.trust import Rejected

ROOT = captures.PUBLIC_ROOT
GITHUB = "https://token.actions.githubusercontent.com"


def demand(**keyless: Any) -> Demand:
    spec = convert_all({"keyless": keyless}, CosignSpec, "cosign")
    built = FORMAT.build(spec, {reference: ROOT for _, reference in FORMAT.keys(spec)})
    by = built.by  # type: ignore[attr-defined]  # the row of cosign builds such a signer
    assert isinstance(by, Keyless)
    return by.demand


def accepts(wanted: Demand, certified: Certified) -> bool:
    try:
        wanted.check(certified)
    except Rejected:
        return False
    return True


def says(issuer: str = "https://issuer.test", subject: str = "dev@acme.test", **said: str) -> Certified:
    return Certified(issuer, subject, said)


# ── texts and patterns ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("https://github.com/org/.*", "https://github.com/org/repo", True),
        ("https://github.com/org/.*", "xhttps://github.com/org/repo", False),
        ("https://github.com/org/", "https://github.com/org/repo", False),
        ("https://github.com/org/", "https://github.com/org.evil/", False),
        ("https://github\\.com/org/", "https://githubxcom/org/", False),
        ("a|b", "ab", False),
        ("dev@acme\\.test", "dev@acme.test\n", False),
        ("(?i)DEV@acme\\.test", "dev@acme.test", True),
        ("^dev@acme\\.test$", "dev@acme.test", True),
    ],
)
def test_p02_a_pattern_fits_the_whole_text_or_not_at_all(pattern: str, text: str, fits: bool) -> None:
    wanted = demand(issuer="https://issuer.test", subjectRegex=pattern)
    assert accepts(wanted, says(subject=text)) is fits
    wanted = demand(issuerRegex=pattern, subject="dev@acme.test")
    assert accepts(wanted, says(issuer=text)) is fits


GIVEN = {"issuer": "https://i.test", "issuerRegex": "https://i\\.test", "subject": "s@a.test", "subjectRegex": "s@.*"}


@pytest.mark.parametrize("names", [c for n in range(5) for c in itertools.combinations(GIVEN, n)])
def test_p03_an_issuer_and_a_subject_each_in_exactly_one_form(names: tuple[str, ...]) -> None:
    keyless = {name: GIVEN[name] for name in names}
    is_right = len([n for n in names if "issuer" in n]) == 1 and len([n for n in names if "subject" in n]) == 1
    if is_right:
        assert accepts(demand(**keyless), says("https://i.test", "s@a.test"))
        assert not accepts(demand(**keyless), says("https://i.test", "t@a.test"))
        assert not accepts(demand(**keyless), says("https://j.test", "s@a.test"))
        return
    with pytest.raises(
        Invalid, match=r"exactly one of (issuer and issuerRegex|subject and subjectRegex)|an issuer with"
    ):
        demand(**keyless)


@pytest.mark.parametrize(
    ("keyless", "reason"),
    [
        ({"issuer": "https://*.test", "subject": "x"}, ".keyless.issuer: no character stands for others"),
        ({"issuerRegex": ".*", "subject": "x"}, ".keyless.issuerRegex: it fits every issuer"),
        ({"issuerRegex": "(?s).*|https://a\\.test", "subject": "x"}, ".keyless.issuerRegex: it fits every issuer"),
        ({"issuerRegex": "https://.*", "subject": "x"}, ".keyless.issuerRegex: it fits every issuer"),
        ({"issuerRegex": "https?://[^/]+", "subject": "x"}, ".keyless.issuerRegex: it fits every issuer"),
        ({"issuerRegex": "\\w+://.+", "subject": "x"}, ".keyless.issuerRegex: it fits every issuer"),
        ({"issuer": "https://a.test", "subjectRegex": "("}, ".keyless.subjectRegex: not a regular expression of RE2"),
        ({"issuer": "https://a.test", "subjectRegex": "(?=x)"}, ".keyless.subjectRegex: not a regular expression"),
        (
            {"issuer": "https://a.test", "subjectRegex": "(\\pL{500}){2}"},
            ".keyless.subjectRegex: not a regular expression",
        ),
        ({"issuer": "https://a.test", "subjectRegex": "a{9999}"}, ".keyless.subjectRegex: not a regular expression"),
        ({"github": {"repository": "acme/shop"}, "issuer": "x"}, ".keyless: an issuer with a subject, or github"),
        ({"github": {"repository": "acme/shop"}, "gitlab": {"project": "a/b"}}, ".keyless: an issuer with a subject"),
        ({}, ".keyless: an issuer with a subject, or github"),
        ({"github": {"repository": "acme"}}, ".keyless.github.repository: acme: write OWNER/NAME"),
        ({"github": {"repository": "acme/shop", "workflow": "a/b.yml"}}, ".keyless.github.workflow: a/b.yml: not the"),
        (
            {"github": {"repository": "acme/shop", "workflow": ".."}},
            ".keyless.github.workflow: .github/workflows/..: not",
        ),
        ({"github": {"repository": "acme/shop", "ref": "main"}}, ".keyless.github.ref: main: write it in full"),
        ({"gitlab": {"project": "acme"}}, ".keyless.gitlab.project: acme: write OWNER/NAME"),
        ({"gitlab": {"project": "acme/shop", "config": "/x"}}, ".keyless.gitlab.config: /x: not the path"),
        ({"gitlab": {"project": "acme/shop", "ref": "main"}}, ".keyless.gitlab.ref: main: write it in full"),
    ],
)
def test_c21_p03_what_names_nobody_is_refused_when_it_is_written(keyless: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        demand(**keyless)
    assert any(complaint.startswith(reason) for complaint in refused.value.complaints)
    # So it is while the trust root has not been read: at `kubectl apply`.
    with pytest.raises(Invalid) as refused:
        examine(convert_all({"keyless": keyless}, CosignSpec, "cosign"))
    assert any(complaint.startswith(reason) for complaint in refused.value.complaints)


@pytest.mark.parametrize(
    "others",
    [{"key": "k"}, {"keys": ["k"]}, {"certificate": {"roots": "r", "email": "e"}}, {"key": "k", "keys": ["k"]}],
)
def test_c16_an_identity_and_a_key_in_one_signer_are_refused(others: dict[str, Any]) -> None:
    spec = convert_all({"keyless": {"issuer": "i", "subject": "s"}, **others}, CosignSpec, "")
    with pytest.raises(Invalid, match="exactly one of key, keys, keyless and certificate is wanted"):
        examine(spec)


@pytest.mark.parametrize(
    ("keyless", "danger"),
    [
        ({"issuer": "https://a.test", "subjectRegex": ".*"}, "keyless.subjectRegex .* fits anybody"),
        ({"issuer": "https://a.test", "subjectRegex": ".+|dev"}, "keyless.subjectRegex .+|dev fits anybody"),
        ({"issuer": "https://a.test", "subjectRegex": "[a-z]+@.*"}, "keyless.subjectRegex [a-z]+@.* fits anybody"),
        ({"issuer": "https://a.test", "subjectRegex": "https://.*"}, "keyless.subjectRegex https://.* fits anybody"),
        (
            {"issuer": "https://a.test", "subjectRegex": "https://github.com/.*"},
            "keyless.subjectRegex https://github.com",
        ),
        (
            {"issuer": "https://a.test", "subjectRegex": ".+@gmail.com"},
            "keyless.subjectRegex .+@gmail.com fits anybody",
        ),
        ({"issuer": "https://a.test", "subjectRegex": "[0-9]+"}, "keyless.subjectRegex [0-9]+ holds no text"),
        ({"issuerRegex": "[a-w]+", "subject": "x"}, "keyless.issuerRegex [a-w]+ holds no text"),
        ({"github": {"repository": "*/shop"}}, "GitHub: */shop fits projects of anybody"),
        ({"gitlab": {"project": "**/shop"}}, "GitLab: **/shop fits projects of anybody"),
    ],
)
def test_p09_what_fits_anybody_is_warned_about(keyless: dict[str, Any], danger: str) -> None:
    found = demand(**keyless).dangers()
    assert len(found) == 1
    assert found[0].startswith(danger.replace("\\\\", "\\"))
    assert examine(convert_all({"keyless": keyless}, CosignSpec, "")) == found


@pytest.mark.parametrize(
    "keyless",
    [
        {"issuer": "https://a.test", "subjectRegex": ".*@acme\\.test"},
        {"issuer": "https://a.test", "subject": "x"},
        {"issuer": "https://a.test", "subjectRegex": "https://github\\.com/acme/.*"},
        {"issuerRegex": "https://token\\.actions\\.githubusercontent\\.com/.*", "subject": "x"},
        {"github": {"repository": "acme/*"}},
    ],
)
def test_p09_and_what_names_somebody_is_not(keyless: dict[str, Any]) -> None:
    assert demand(**keyless).dangers() == ()


def test_nothing_is_dangerous_about_a_key_that_was_not_read() -> None:
    assert examine(convert_all({"key": "secret://a#b"}, CosignSpec, "")) == ()


def test_d05_no_pattern_takes_longer_than_its_text() -> None:
    pattern = parse_pattern("(a+)+b", "x")
    started = time.perf_counter()
    assert not pattern.matches("a" * limits.MAX_IDENTITY)
    assert time.perf_counter() - started < 0.5
    # A text too long to be an identity fits nothing.
    assert parse_pattern("a*", "x").matches("a" * limits.MAX_IDENTITY)
    assert not parse_pattern("a*", "x").matches("a" * (limits.MAX_IDENTITY + 1))


def test_d01_patterns() -> None:
    assert parse_pattern("a" * limits.MAX_PATTERN, "x") == Pattern("a" * limits.MAX_PATTERN)
    for text in ("", "a" * (limits.MAX_PATTERN + 1)):
        with pytest.raises(Invalid, match="characters, expected 1 to 1024"):
            parse_pattern(text, "x")
    with pytest.raises(Invalid, match="not a regular expression"):
        parse_pattern("\ud800", "x")


# ── pipelines ────────────────────────────────────────────────────────────────────────────────────────────────────────
def workflow(**changed: str) -> Certified:
    """A certificate for a workflow of acme/shop, as Fulcio writes it."""
    values = {
        "issuer": GITHUB,
        "subject": "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.2",
        REPOSITORY: "https://github.com/acme/shop",
        REF: "refs/tags/v1.2",
        TRIGGER: "push",
        ENVIRONMENT: "production",
        RUNNER: "github-hosted",
        **changed,
    }
    issuer, subject = values.pop("issuer"), values.pop("subject")
    return Certified(issuer, subject, {name: value for name, value in values.items() if value})


ALL = {
    "repository": "acme/shop",
    "workflow": "release.yml",
    "ref": "refs/tags/v*",
    "environment": "production",
    "trigger": "push",
    "runner": "github-hosted",
}


def test_a_workflow_of_github_by_all_that_its_token_said() -> None:
    demand(github=ALL).check(workflow())
    for spelling in (".github/workflows/release.yml", "acme/shop/.github/workflows/release.yml"):
        demand(github={**ALL, "workflow": spelling}).check(workflow())
    for fewer in range(len(ALL)):
        some = {"repository": "acme/*", **dict(itertools.islice(ALL.items(), 1, fewer + 1))}
        demand(github=some).check(workflow())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"issuer": "https://gitlab.com"}, "vouches for, another issuer"),
        ({"issuer": f"{GITHUB}/"}, "vouches for, another issuer"),
        ({REPOSITORY: "https://github.com/acme/shop-evil"}, "for project https://github.com/acme/shop-evil"),
        ({REPOSITORY: "https://github.com/evil/acme/shop"}, "for project https://github.com/evil/acme/shop"),
        ({REPOSITORY: "https://github.com.evil/acme/shop"}, "for project https://github.com.evil"),
        ({REPOSITORY: "https://github.com/ACME/shop"}, "for project https://github.com/ACME/shop"),
        ({REPOSITORY: ""}, "for project nobody"),
        ({"subject": "https://github.com/acme/shop/.github/workflows/evil.yml@refs/tags/v1"}, "by workflow"),
        ({"subject": "https://github.com/acme/shop/.github/workflows/release.yml"}, "by workflow"),
        (
            {"subject": "https://github.com/acme/shop/.github/workflows/release.yml@evil.yml@refs/heads/x"},
            "by workflow",
        ),
        ({"subject": "https://github.com/evil/shop/.github/workflows/release.yml@refs/tags/v1"}, "by workflow"),
        ({"subject": "dev@acme.test"}, "by workflow"),
        ({REF: "refs/heads/main"}, "for ref refs/heads/main, another one"),
        ({REF: "refs/tags/v1/x"}, "for ref refs/tags/v1/x, another one"),
        ({REF: ""}, "for ref none, another one"),
        ({ENVIRONMENT: "staging"}, "deployment environment staging, not production"),
        ({ENVIRONMENT: ""}, "deployment environment none, not production"),
        ({TRIGGER: "pull_request"}, "build trigger pull_request, not push"),
        ({RUNNER: "self-hosted"}, "runner environment self-hosted, not github-hosted"),
    ],
)
def test_p02_a_workflow_of_github_that_is_another(changed: dict[str, str], reason: str) -> None:
    with pytest.raises(Rejected, match=r"^signed (by|for|with)") as refused:
        demand(github=ALL).check(workflow(**changed))
    assert reason in str(refused.value)


def test_without_a_workflow_any_of_the_repositorys_own() -> None:
    own = demand(github={"repository": "acme/shop"})
    own.check(workflow(subject="https://github.com/acme/shop/.github/workflows/any.yml@refs/heads/main"))
    reusable = workflow(subject="https://github.com/tools/build/.github/workflows/sign.yml@refs/tags/v2")
    assert not accepts(own, reusable)
    named = demand(github={"repository": "acme/shop", "workflow": "tools/build/.github/workflows/sign.yml"})
    named.check(reusable)
    by_commit = workflow(subject=f"https://github.com/tools/build/.github/workflows/sign.yml@{'a' * 40}")
    named.check(by_commit)
    assert not accepts(named, workflow())


def pipeline(**changed: str) -> Certified:
    values = {
        "issuer": "https://gitlab.com",
        "subject": "https://gitlab.com/acme/team/shop//.gitlab-ci.yml@refs/heads/main",
        REPOSITORY: "https://gitlab.com/acme/team/shop",
        REF: "refs/heads/main",
        **changed,
    }
    issuer, subject = values.pop("issuer"), values.pop("subject")
    return Certified(issuer, subject, values)


def test_a_pipeline_of_gitlab() -> None:
    wanted = {"project": "acme/**", "ref": "refs/heads/main", "config": ".gitlab-ci.yml"}
    demand(gitlab=wanted).check(pipeline())
    demand(gitlab={"project": "acme/team/shop"}).check(pipeline())
    assert not accepts(demand(gitlab={"project": "acme/*"}), pipeline())
    elsewhere = pipeline(subject="https://gitlab.com/tools/ci//sign.yml@refs/heads/main")
    assert not accepts(demand(gitlab=wanted), elsewhere)
    demand(gitlab={**wanted, "config": "tools/ci//sign.yml"}).check(elsewhere)
    for changed in (
        {"issuer": GITHUB},
        {REPOSITORY: "https://gitlab.com/evil/shop"},
        {REF: "refs/heads/other"},
        {"subject": "https://gitlab.com/acme/team/shop//other.yml@refs/heads/main"},
        {"subject": "https://gitlab.com/acme/team/shop/.gitlab-ci.yml@refs/heads/main"},
    ):
        assert not accepts(demand(gitlab=wanted), pipeline(**changed))


def test_in_words() -> None:
    assert demand(github=ALL).wanted() == (
        "GitHub acme/shop, file .github/workflows/release.yml, ref refs/tags/v*, deployment environment production, "
        "build trigger push, runner environment github-hosted"
    )
    assert demand(gitlab={"project": "acme/shop"}).wanted() == "GitLab acme/shop"
    assert demand(issuer="https://a.test", subjectRegex=".*@acme\\.test").wanted() == (
        ".*@acme\\.test of issuer https://a.test"
    )
