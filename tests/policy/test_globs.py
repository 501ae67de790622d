"""Globs: what they match, what they must not, and that no pattern is slow (attacks P-01, D-05)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook import limits
from webhook.image import parse_reference
from webhook.parsing import Invalid
from webhook.policy.globs import EVERYTHING, parse_image_glob, parse_name_glob, parse_namespace_glob

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("**", ["nginx", "ghcr.io/a/b", "[::1]:5000/a", "localhost:5000/x"], []),
        ("nginx", ["nginx", "docker.io/library/nginx:1", f"nginx@{DIGEST}"], ["acme/nginx", "ghcr.io/library/nginx"]),
        ("docker.io/library/*", ["nginx", "docker.io/redis"], ["acme/web", "library/a/b"]),
        ("docker.io/**", ["nginx", "acme/web", "a/b/c"], ["docker.io.evil.io/nginx", "ghcr.io/nginx"]),
        ("docker.io/ubuntu", ["ubuntu"], ["acme/ubuntu"]),
        ("acme/*", ["acme/web"], ["acme/web/api", "ghcr.io/acme/web"]),
        ("ghcr.io/acme/*", ["ghcr.io/acme/web", "GHCR.IO:443/acme/web"], ["ghcr.io/acme/web/api", "ghcr.io/acmee/x"]),
        ("ghcr.io/acme/**", ["ghcr.io/acme/web", "ghcr.io/acme/web/api"], ["ghcr.io/acme", "ghcr.io/acme-evil/web"]),
        ("ghcr.io/**/web", ["ghcr.io/web", "ghcr.io/a/web", "ghcr.io/a/b/web"], ["ghcr.io/a/webx", "ghcr.io/a/web/b"]),
        ("ghcr.io/a/**/b/**", ["ghcr.io/a/b/c", "ghcr.io/a/x/y/b/c/d"], ["ghcr.io/a/b", "ghcr.io/a/x/b"]),
        ("ghcr.io/acme/team-*-*", ["ghcr.io/acme/team-a-b"], ["ghcr.io/acme/team-a", "ghcr.io/acme/team-a-b/c"]),
        ("ghcr.io/acme/a**z", ["ghcr.io/acme/abz", "ghcr.io/acme/ab/cz", "ghcr.io/acme/az"], ["ghcr.io/acme/ab/c"]),
        ("*.acme.io/**", ["eu.acme.io/x"], ["acme.io/x", "a.eu.acme.io/x", "evil.io/eu.acme.io/x"]),
        ("**.acme.io/**", ["eu.acme.io/x", "a.eu.acme.io/x"], ["acme.io/x", "acme.io.evil.io/x", "xacme.io/y"]),
        ("**/web", ["ghcr.io/web", "localhost:5000/web"], ["ghcr.io/acme/web"]),
        ("**/acme/**", ["ghcr.io/acme/web", "[::1]:5000/acme/web"], ["ghcr.io/x/acme/web"]),
        ("reg-*.io:5000/x", ["reg-1.io:5000/x"], ["reg-1.io/x", "reg-1.io:5001/x", "reg-1.x.io:5000/x"]),
        ("*.io:*/x", ["reg.io:5000/x", "reg.io/x", "reg.io:443/x"], ["reg.com:5000/x"]),
        ("reg.io:*/x", ["reg.io:5000/x", "reg.io/x"], ["a.reg.io/x"]),
        ("*.io:443/x", ["reg.io/x", "reg.io:443/x"], ["reg.io:5000/x"]),
        ("[::1]:5000/**", ["[::1]:5000/a/b", "[0:0::1]:5000/a"], ["[::2]:5000/a"]),
        ("*.*/x", ["ghcr.io/x"], ["[::1]:5000/x", "a.b.c/x"]),
        ("ghcr.io/a/b:v*", ["ghcr.io/a/b:v1", f"ghcr.io/a/b:v1@{DIGEST}"], ["ghcr.io/a/b", f"ghcr.io/a/b@{DIGEST}"]),
        ("ghcr.io/a/b:latest", ["ghcr.io/a/b"], ["ghcr.io/a/b:1"]),

        ("ghcr.io/a/**@sha256:*", [f"ghcr.io/a/b@{DIGEST}", f"ghcr.io/a/b:v1@{DIGEST}"], ["ghcr.io/a/b:v1"]),
        (f"ghcr.io/a/b@{DIGEST}", [f"ghcr.io/a/b@{DIGEST}"], [f"ghcr.io/a/b@sha256:{'0' * 64}", "ghcr.io/a/b"]),
    ],
)  # fmt: skip
def test_p01_a_glob_means_these_names_and_no_others(glob: str, matching: list[str], other: list[str]) -> None:
    parsed = parse_image_glob(glob)
    assert [name for name in matching if not parsed.matches(parse_reference(name))] == []
    assert [name for name in other if parsed.matches(parse_reference(name))] == []


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("*.registry.io/org/*", "evil.io/x.registry.io/org/img"),
        ("*.io/org/*", "evil.com/x.io/org/img"),
        ("ghcr.io/acme/*", "ghcr.io.evil.io/acme/web"),
        ("ghcr.io/acme*", "ghcr.io/acme/web"),
        ("ghcr*.io/acme/*", "ghcr.evil.io/acme/web"),
        ("*.acme.io/*", "evil.io/.acme.io/x"),
    ],
)
def test_p01_no_wildcard_crosses_from_host_to_path(glob: str, name: str) -> None:
    try:
        image = parse_reference(name)
    except Invalid:
        return
    assert not parse_image_glob(glob).matches(image)


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        ("", "matches no part of a path"),
        ("docker.io/*", "matches nothing, official images are docker.io/library/*"),
        ("*/x", "any host is `**/…`"),
        ("ghcr.io/", "matches no part of a path"),
        ("ghcr.io//a", "matches no part of a path"),
        ("ghcr.io/A/*", "matches no part of a path"),
        ("ghcr.io/a b", "matches no part of a path"),
        ("ghcr.io/a?", "matches no part of a path"),
        ("ghcr.io/[ab]", "matches no part of a path"),
        ("ghcr.io/-a", "matches no part of a path"),
        ("ghcr.io/a..b", "matches no part of a path"),
        ("https://ghcr.io/a", "not a registry's host"),
        ("ghcr_io.x/a", "not a registry's host"),
        ("*_.io/a", "matches no registry's host"),
        ("*.io:x/a", "matches no registry's host"),
        ("ghcr.io/a:", "an empty tag matches no tag"),
        ("ghcr.io/a:.x", "matches no tag"),
        ("ghcr.io/a:b:c", "matches no tag"),
        ("ghcr.io/a:" + "v" * 129 + "*", "matches no tag"),
        ("*.io:65536/a", "matches no registry's host"),
        ("*.io:0/a", "matches no registry's host"),
        ("*.io:080/a", "matches no registry's host"),
        ("ghcr.io/*/" + "a" * 249, "matches no name, which has at most 255 characters"),
        (
            "ghcr.io/acme/.*",
            ".* matches no part of a path: a glob is no regular expression; write ghcr.io/acme/** or ghcr.io/acme/*",
        ),
        ("ghcr.io/acme/.**", "write ghcr.io/acme/** or ghcr.io/acme/*"),
        ("ghcr.io/acme/.+", "write ghcr.io/acme/** or ghcr.io/acme/*"),
        ("ghcr.io/.*.*/web", "write ghcr.io/**/web or ghcr.io/*/web"),
        (".*", ".* matches no part of a path: a glob is no regular expression; write **"),
        (".*" * 500, "longer than"),
        ("***", "three or more `*` mean nothing"),
        ("***/web", "three or more `*` mean nothing"),
        ("ghcr.io/acme/w***", "three or more `*` mean nothing"),
        ("***.acme.io/web", "three or more `*` mean nothing"),
        ("ghcr.io/acme/*_", "matches no part of a path"),
        ("ghcr.io/acme/-*", "matches no part of a path"),
        ("ghcr.io/acme/a...*", "matches no part of a path"),
        ("ghcr.io/acme/*___*", "matches no part of a path"),
        ("ghcr.io/acme/a._*", "matches no part of a path"),
        ("ghcr.io/.a*/**", "matches no part of a path"),
        ("ghcr.io/a@sha256:12", "not a digest"),
        ("ghcr.io/a@", "not a digest"),
        ("ghcr.io/\N{CYRILLIC SMALL LETTER A}", "a character that no image's name has"),
        ("ghcr.io/" + "a" * limits.MAX_GLOB, "longer than"),
    ],
)
def test_p01_a_glob_that_can_match_nothing_is_refused(glob: str, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_image_glob(glob)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("ghcr.io/acme/w-*", "ghcr.io/acme/w-1"),
        ("ghcr.io/acme/w--*", "ghcr.io/acme/w---1"),
        ("ghcr.io/acme/w_*", "ghcr.io/acme/w__1"),
        ("ghcr.io/acme/w.*", "ghcr.io/acme/w.1"),
        ("ghcr.io/acme/*.acme", "ghcr.io/acme/a.acme"),
        ("ghcr.io/acme/*__*", "ghcr.io/acme/a__b"),
        ("ghcr.io/acme/a**_z", "ghcr.io/acme/ab/c_z"),
        ("*.io:65535/a", "ghcr.io:65535/a"),
        ("ghcr.io/a:" + "v" * 128 + "*", "ghcr.io/a:" + "v" * 128),
        ("ghcr.io/" + "a" * 247 + "*", "ghcr.io/" + "a" * 247),
    ],
)
def test_p01_and_one_that_can_match_something_is_not(glob: str, name: str) -> None:
    assert parse_image_glob(glob).matches(parse_reference(name))


_COMPONENT = st.from_regex(r"[a-z0-9]{1,3}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,3}){0,3}", fullmatch=True)


@given(_COMPONENT, st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from(["*", "**"]))))
def test_p01_no_glob_is_refused_that_matches_a_component(component: str, holes: list[tuple[int, int, str]]) -> None:
    glob = component
    for start, length, wildcard in holes:
        glob = glob[:start] + wildcard + glob[start + length :]
    glob = re.sub(r"\*{3,}", "**", glob)
    assert parse_image_glob(f"ghcr.io/{glob}").matches(parse_reference(f"ghcr.io/{component}"))


@given(st.text("ab1._-*", min_size=1, max_size=8), st.lists(_COMPONENT, min_size=1, max_size=20))
def test_p01_a_part_that_is_refused_matches_no_component_and_another_one(part: str, components: list[str]) -> None:
    try:
        glob = parse_image_glob(f"ghcr.io/{part}")
    except Invalid:
        fits = re.compile(re.escape(part).replace(r"\*", "[a-z0-9._-]*"))
        assert "***" in part or not any(fits.fullmatch(component) for component in components)
    else:
        assert glob.matches(parse_reference(f"ghcr.io/{re.sub('[*]+', 'a', part)}"))


@pytest.mark.parametrize(
    ("glob", "meaning"),
    [
        ("*", "docker.io/library/*"),
        ("ngin*", "docker.io/library/ngin*"),
        ("ghcr.io", "docker.io/library/ghcr.io"),
        ("localhost", "docker.io/library/localhost"),
        ("acme/*", "docker.io/acme/*"),
        ("acme/**:v1", "docker.io/acme/**:v1"),
    ],
)
def test_p09_a_wildcard_without_a_host_says_that_it_is_docker_hubs(glob: str, meaning: str) -> None:
    danger = parse_image_glob(glob).danger()
    assert danger is not None
    assert f"is one on Docker Hub, {meaning};" in danger
    assert parse_image_glob(meaning).danger() is None


@pytest.mark.parametrize("glob", ["ghcr.io/acme/web.*", "ghcr.io/acme.**/web", "*.io/a.*.b"])
def test_p09_what_looks_like_a_regular_expression_is_warned_about(glob: str) -> None:
    assert "no regular expression" in (parse_image_glob(glob).danger() or "")


@pytest.mark.parametrize(
    "glob", ["**", "nginx", "acme/web.api", "docker.io/library/*", "**/web", "*.io/acme/**", "ghcr.io/a:v1.*", "*.*/x"]
)
def test_p09_and_what_is_plain_is_not(glob: str) -> None:
    assert parse_image_glob(glob).danger() is None


def test_a_tag_beside_a_digest_excludes_nothing() -> None:
    glob = parse_image_glob("ghcr.io/a/b:dev-*")
    assert glob.excludes(parse_reference("ghcr.io/a/b:dev-1"))
    assert not glob.excludes(parse_reference(f"ghcr.io/a/b:dev-1@{DIGEST}"))
    assert parse_image_glob("ghcr.io/a/**").excludes(parse_reference(f"ghcr.io/a/b:dev-1@{DIGEST}"))


@pytest.mark.parametrize(
    ("glob", "literal"),
    [
        ("ghcr.io/acme/**", "ghcr.io/acme"),
        ("ghcr.io/acme/web", "ghcr.io/acme/web"),
        ("ghcr.io/ac*/web", "ghcr.io"),
        ("nginx", "docker.io/library/nginx"),
        ("*.io/acme/web", None),
        ("**", None),
    ],
)
def test_the_literal_beginning_of_a_glob(glob: str, literal: str | None) -> None:
    assert parse_image_glob(glob).literal == literal


@pytest.mark.parametrize("text", ["**", "ghcr.io/acme/**", "docker.io/library/nginx:v*", f"ghcr.io/a/b:v1@{DIGEST}"])
def test_a_glob_prints_as_it_is_written(text: str) -> None:
    assert str(parse_image_glob(text)) == text


def test_everything_is_known_as_such() -> None:
    assert EVERYTHING.covers_everything
    assert parse_image_glob("**").covers_everything
    assert not parse_image_glob("docker.io/**").covers_everything
    assert not parse_image_glob("**/x").covers_everything


def _regex(pattern: str) -> re.Pattern[str]:
    """The meaning of a path pattern in another way, for comparison only: `re` would be slow on hostile patterns."""
    parts = []
    segments = pattern.split("/")
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        if segment == "**":
            parts.append(".+" if last else "(?:[^/]+/)*")
        else:
            text = re.escape(segment).replace(r"\*\*", "\0").replace(r"\*", "[^/]*").replace("\0", ".*")
            parts.append(text if last else text + "/")
    return re.compile("".join(parts))


_SEGMENT = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b", "a*b", "aa*"])
_PART = st.sampled_from(["a", "b", "ab", "ba", "aab", "abb"])


@given(st.lists(_SEGMENT, min_size=1, max_size=5), st.lists(_PART, min_size=1, max_size=6))
def test_paths_match_as_the_equivalent_regular_expression_does(segments: list[str], parts: list[str]) -> None:
    pattern, path = "/".join(segments), "/".join(parts)
    expected = _regex(pattern).fullmatch(path) is not None
    assert parse_image_glob(f"ghcr.io/{pattern}").matches(parse_reference(f"ghcr.io/{path}")) == expected


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", min_size=1, max_size=10))
def test_names_match_as_the_equivalent_regular_expression_does(pattern: str, name: str) -> None:
    expected = re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None
    assert parse_name_glob(pattern).matches(name) == expected


def test_d05_no_pattern_makes_matching_explode() -> None:
    # Each of these takes a backtracking matcher longer than the age of the universe.
    image = parse_reference("ghcr.io/" + "/".join(["aa"] * 60))
    for glob in ("ghcr.io/" + "**/a*a/" * 30 + "b", "ghcr.io/" + "*a" * 200 + "b/**", "ghcr.io/" + "a**a" * 100):
        assert not parse_image_glob(glob).matches(image)
    assert not parse_name_glob("*a" * 100 + "b").matches("a" * 253)


@pytest.mark.parametrize(
    "text",
    ["", "Shop", "shop_a", "a/b", "a b", "a" * 254, "ä", ".*", "*.", "-*", "*-", "prod-.*", "a..*", "*.-*", "[a-z]*"],
)
def test_p01_a_name_glob_that_no_name_can_match_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="matches no name"):
        parse_name_glob(text)
    with pytest.raises(Invalid, match="matches no name"):
        parse_namespace_glob(text)


@pytest.mark.parametrize("text", ["prod.*", "*.*", "a.b", "a" * 64 + "*"])
def test_p01_a_glob_that_no_namespace_can_match_is_refused(text: str) -> None:
    assert parse_name_glob(text).matches(text.replace("*", "1"))
    with pytest.raises(Invalid, match="matches no name of a namespace"):
        parse_namespace_glob(text)


@given(
    st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10))),
)
def test_p01_no_glob_is_refused_that_matches_a_namespace(name: str, holes: list[tuple[int, int]]) -> None:
    glob = name
    for start, length in holes:
        glob = glob[:start] + "*" + glob[start + length :]
    assert parse_namespace_glob(glob).matches(name)
    assert parse_name_glob(f"{glob}.x").matches(f"{name}.x")


def test_name_globs_print_and_know_whether_they_mean_one_name() -> None:
    assert str(parse_name_glob("prod-*")) == "prod-*"
    assert not parse_name_glob("prod-*").is_literal
    assert parse_name_glob("prod").is_literal
