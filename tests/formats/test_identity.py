"""Which name was signed: every rule of containers-policy.json(5), over what a signature may say and how an image may be named."""

from typing import Any

import pytest

from webhook.formats._identity import IdentityRule, IdentitySpec, NamedIdentity, read_identity
from webhook.image import Subject, digest_of, parse_reference
from webhook.parsing import Invalid, convert
from webhook.trust import Rejected

DIGEST = digest_of(b"image")
OTHER = digest_of(b"another image")
BY_TAG = "registry.test/prod/app:v1"
BY_DIGEST = f"registry.test/prod/app@{DIGEST}"
BY_BOTH = f"registry.test/prod/app:v1@{DIGEST}"
MIRROR = {"prefix": "registry.test/prod", "signedPrefix": "upstream.io/dev"}


def subject(written: str) -> Subject:
    image = parse_reference(written)
    return Subject(image.repository, image.digest or DIGEST, image.tag, image.digest is not None)


def rule(written: Any, *, bare_names: bool = False) -> IdentityRule:
    spec: IdentitySpec = convert(written, NamedIdentity, "") if isinstance(written, dict) else written
    return read_identity(spec, ".identity", bare_names=bare_names)


def accepts(one: IdentityRule, signed: str, deployed: str) -> bool:
    try:
        one.check(signed, subject(deployed))
    except Rejected as e:
        assert "which the policy's `identity` does not accept" in str(e) or "docker-reference: not an image" in str(e)
        return False
    return True


# What the signature says, and whether it stands for the image named by tag, by digest, by both.
TABLE: list[tuple[Any, str, str]] = [
    # matchExact: an image by digest has no tag that could be equal.
    ("exact", "registry.test/prod/app:v1", "yes no yes"),
    ("exact", "registry.test/prod/app:v2", "no no no"),
    ("exact", "registry.test/dev/app:v1", "no no no"),
    ("exact", "registry.test/prod/app", "no no no"),
    ("exact", f"registry.test/prod/app@{DIGEST}", "no yes no"),
    ("exact", f"registry.test/prod/app:v1@{DIGEST}", "yes no yes"),
    ("exact", f"registry.test/prod/app:v1@{OTHER}", "no no no"),
    ("exact", "not a name", "no no no"),
    ("exact", "", "no no no"),
    # matchRepoDigestOrExact
    ("repoDigestOrExact", "registry.test/prod/app:v1", "yes yes yes"),
    ("repoDigestOrExact", "registry.test/prod/app:v2", "no yes yes"),
    ("repoDigestOrExact", "registry.test/dev/app:v1", "no no no"),
    ("repoDigestOrExact", "registry.test/prod/app", "no no no"),
    ("repoDigestOrExact", f"registry.test/prod/app@{DIGEST}", "no yes yes"),
    ("repoDigestOrExact", "registry.test/prod/app/more:v1", "no no no"),
    ("repoDigestOrExact", "registry.test/prod/ap:v1", "no no no"),
    ("repoDigestOrExact", "UPPER/case:v1", "no no no"),
    # matchRepository
    ("repository", "registry.test/prod/app:v1", "yes yes yes"),
    ("repository", "registry.test/prod/app:v2", "yes yes yes"),
    ("repository", "registry.test/prod/app", "yes yes yes"),
    ("repository", f"registry.test/prod/app@{OTHER}", "yes yes yes"),
    ("repository", "registry.test/dev/app:v1", "no no no"),
    ("repository", "registry.test:443/prod/app:v1", "yes yes yes"),
    ("repository", "registry.test:5000/prod/app:v1", "no no no"),
    # exactReference: what the image is called does not matter.
    ({"reference": "upstream.io/dev/app:v1"}, "upstream.io/dev/app:v1", "yes yes yes"),
    ({"reference": "upstream.io/dev/app:v1"}, "upstream.io/dev/app:v2", "no no no"),
    ({"reference": "upstream.io/dev/app:v1"}, "upstream.io/dev/app", "no no no"),
    ({"reference": "upstream.io/dev/app:v1"}, "registry.test/prod/app:v1", "no no no"),
    ({"reference": "upstream.io/dev/app:latest"}, "upstream.io/dev/app", "no no no"),
    ({"reference": f"upstream.io/dev/app@{DIGEST}"}, f"upstream.io/dev/app@{DIGEST}", "yes yes yes"),
    ({"reference": f"upstream.io/dev/app@{DIGEST}"}, f"upstream.io/dev/app@{OTHER}", "no no no"),
    ({"reference": "busybox:1.36"}, "docker.io/library/busybox:1.36", "yes yes yes"),
    # exactRepository
    ({"repository": "upstream.io/dev/app"}, "upstream.io/dev/app:v1", "yes yes yes"),
    ({"repository": "upstream.io/dev/app"}, "upstream.io/dev/app", "yes yes yes"),
    ({"repository": "upstream.io/dev/app"}, "registry.test/prod/app:v1", "no no no"),
    ({"repository": "upstream.io/dev"}, "upstream.io/dev/app:v1", "no no no"),
    # remapIdentity: as matchRepoDigestOrExact, the beginning of the image's name replaced.
    (MIRROR, "upstream.io/dev/app:v1", "yes yes yes"),
    (MIRROR, "upstream.io/dev/app:v2", "no yes yes"),
    (MIRROR, "upstream.io/dev/app", "no no no"),
    (MIRROR, "registry.test/prod/app:v1", "no no no"),
    (MIRROR, "upstream.io/dev/other:v1", "no no no"),
    ({"prefix": "registry.test/pro", "signedPrefix": "upstream.io/x"}, "upstream.io/xd/app:v1", "no no no"),
    ({"prefix": "registry.test/pro", "signedPrefix": "upstream.io/x"}, "registry.test/prod/app:v1", "yes yes yes"),
    ({"prefix": "registry.test", "signedPrefix": "upstream.io"}, "upstream.io/prod/app:v1", "yes yes yes"),
    ({"prefix": "registry.test/prod/app", "signedPrefix": "upstream.io/x"}, "upstream.io/x:v1", "yes yes yes"),
    ({"prefix": "other.test", "signedPrefix": "upstream.io"}, "registry.test/prod/app:v1", "yes yes yes"),
]


@pytest.mark.parametrize(("written", "signed", "expected"), TABLE)
def test_g04_which_name_was_signed(written: Any, signed: str, expected: str) -> None:
    found = [accepts(rule(written), signed, deployed) for deployed in (BY_TAG, BY_DIGEST, BY_BOTH)]
    assert found == [word == "yes" for word in expected.split()]


def test_g04_after_a_remap_cosigns_bare_names_stand_for_their_repository_and_no_other() -> None:
    for deployed in (BY_TAG, BY_DIGEST, BY_BOTH):
        assert accepts(rule(MIRROR, bare_names=True), "upstream.io/dev/app", deployed)
        assert not accepts(rule(MIRROR, bare_names=True), "upstream.io/dev/other", deployed)
        assert not accepts(rule("repoDigestOrExact", bare_names=True), "registry.test/prod/app", deployed)


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("digest", [None, None, None]),
        ("repository", [None, None, None]),
        ({"repository": "a.io/x"}, [None, None, None]),
        ({"reference": "a.io/x:v1"}, [None, None, None]),
        ("exact", ["v1", None, "v1"]),
        ("repoDigestOrExact", ["v1", None, None]),
        (MIRROR, ["v1", None, None]),
    ],
)
def test_m01_what_a_judgement_rests_on_tells_apart_what_the_rule_does(written: Any, tags: list[str | None]) -> None:
    assert [rule(written).tag_of(subject(deployed)) for deployed in (BY_TAG, BY_DIGEST, BY_BOTH)] == tags


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"prefix": "a.io"},
        {"signedPrefix": "a.io"},
        {"repository": "a.io/x", "prefix": "b.io", "signedPrefix": "c.io"},
        {"reference": "a.io/x:v1", "repository": "a.io/x"},
    ],
)
def test_g04_an_identity_is_one_rule(written: Any) -> None:
    with pytest.raises(Invalid, match=r"^\.identity: either `reference`, or `repository`, or `prefix`"):
        rule(written)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"reference": "a.io/x"}, "without tag and digest; `repository` takes any of them"),
        ({"reference": "a.io/x:!"}, "not an image reference"),
        ({"repository": "a.io/UPPER"}, "not a part of an image's path"),
        ({"prefix": "a.io/UPPER", "signedPrefix": "b.io"}, "not a part of an image's path"),
    ],
)
def test_g04_a_rule_that_nothing_can_meet_is_refused(written: Any, reason: str) -> None:
    with pytest.raises(Invalid, match=rf"^\.identity: .*{reason}"):
        rule(written)
