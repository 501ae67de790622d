"""Image references: what the container ecosystem reads, and every hostile spelling refused (attacks P, R-08)."""

import docker_image.reference
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from webhook import limits
from webhook.image import (
    ImageReference,
    Repository,
    Subject,
    digest_of,
    parse_digest,
    parse_reference,
    parse_repository,
)
from webhook.parsing import Invalid

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("library/nginx", "docker.io/library/nginx:latest"),
        ("acme/web", "docker.io/acme/web:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("registry-1.docker.io/acme/web:1", "docker.io/acme/web:1"),
        ("docker.io:443/nginx", "docker.io/library/nginx:latest"),
        ("registry.hub.docker.com/acme/app", "docker.io/acme/app:latest"),
        ("[::ffff:7f00:1]:5000/app", "127.0.0.1:5000/app:latest"),
        ("ghcr.io/acme/web", "ghcr.io/acme/web:latest"),
        ("ghcr.io:443/acme/web:v1", "ghcr.io/acme/web:v1"),
        ("GHCR.io/acme/web:v1", "ghcr.io/acme/web:v1"),
        ("LOCALHOST/web", "localhost/web:latest"),
        ("localhost/web", "localhost/web:latest"),
        ("localhost:5000/web", "localhost:5000/web:latest"),
        ("host.io:0443/web", "host.io/web:latest"),
        ("host:443/web", "host:443/web:latest"),
        ("HOST/web", "host:443/web:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[2001:DB8:0:0::1]:5000/web", "[2001:db8::1]:5000/web:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"ghcr.io/acme/web:v1@{DIGEST}", f"ghcr.io/acme/web:v1@{DIGEST}"),
        ("a/b__c/d.e-f---g", "docker.io/a/b__c/d.e-f---g:latest"),
        ("ghcr.io/acme/web:V1_.-", "ghcr.io/acme/web:V1_.-"),
    ],
)
def test_p04_every_spelling_of_an_image_has_one_normal_form(written: str, normal: str) -> None:
    reference = parse_reference(written)
    assert str(reference) == normal
    assert reference.written == written
    # Normalising is idempotent: what we print can be written in a policy or a Pod and means the same.
    assert str(parse_reference(normal)) == normal


def test_a_tag_beside_a_digest_is_kept_and_no_default_tag_is_invented() -> None:
    assert parse_reference(f"nginx:1@{DIGEST}").tag == "1"
    assert parse_reference(f"nginx@{DIGEST}").tag is None


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "an empty part"),
        (" nginx", "a character that no reference has"),
        ("nginx ", "a character that no reference has"),
        ("nginx\n", "a character that no reference has"),
        ("ng\x00inx", "a character that no reference has"),
        ("doc\N{KELVIN SIGN}er.io/library/nginx", "a character that no reference has"),
        ("\N{CYRILLIC SMALL LETTER GHE}hcr.io/acme/web", "a character that no reference has"),
        ("ghcr.io/acme/web\N{ZERO WIDTH SPACE}", "a character that no reference has"),
        ("https://ghcr.io/acme/web", "not a registry's host"),
        ("ghcr.io//acme/web", "an empty part"),
        ("ghcr.io/acme/web/", "an empty part"),
        ("/web", "an empty part"),
        ("ghcr.io/../web", ".. is not a part"),
        ("ghcr.io/acme/%2e%2e/web", "is not a part"),
        ("ghcr.io/acme/web?x=1", "is not a part"),
        ("ghcr.io/acme/web#x", "is not a part"),
        ("ghcr.io/Acme/web", "is not a part"),
        ("Nginx", "is not a part"),
        ("a/-b", "is not a part"),
        ("a/b..c", "is not a part"),
        ("a/b___c", "is not a part"),
        ("user@ghcr.io/acme/web", "not a digest"),
        ("user:pass@ghcr.io/acme/web", "not a digest"),
        ("nginx:", "not a tag"),
        ("nginx:-x", "not a tag"),
        ("nginx:" + "a" * 129, "not a tag"),
        ("nginx:1:2", "is not a part"),
        ("nginx@", "not a digest"),
        (f"nginx@{DIGEST}@{DIGEST}", "not a digest"),
        (f"nginx@{DIGEST[:-1]}", "not a digest"),
        (f"nginx@{DIGEST}0", "not a digest"),
        (f"nginx@sha256:{HEX.upper()}", "not a digest"),
        (f"nginx@sha512:{HEX * 2}", "not a digest"),
        (f"nginx@md5:{HEX[:32]}", "not a digest"),
        (f"nginx@SHA256:{HEX}", "not a digest"),
        (HEX, "an image id"),
        (f"{HEX}:tag", "an image id"),
        (f"sha256:{HEX}", "an image id"),
        ("sha256:0123abcd", "an image id"),
        ("SHA512:0123abcd", "an image id"),
        ("127.1/web", "not written in full"),
        ("127.1:5000/web", "not written in full"),
        ("2130706433:5000/web", "not written in full"),
        ("0x7f.0x1:5000/web", "not written in full"),
        ("[::ffff:7f00:zz]/web", "not a registry's host"),
        ("host:0/web", "not a port"),
        ("host:65536/web", "not a port"),
        ("host:99999/web", "not a port"),
        ("host:/web", "not a registry's host"),
        ("-host.io/web", "not a registry's host"),
        ("host..io/web", "not a registry's host"),
        ("host.io./web", "not a registry's host"),
        ("ho_st.io/web", "not a registry's host"),
        ("[::1/web", "not a registry's host"),
        ("[:::1]:5000/web", "not an IPv6 address"),
        ("[::1%25eth0]/web", "not a registry's host"),
        ("a" * (limits.MAX_REFERENCE + 1), "longer than"),
        ("ghcr.io/" + "a/" * 124 + "b", "a name of more than"),
    ],
)
def test_p05_p06_r08_s10_hostile_references_are_refused(written: str, why: str) -> None:
    with pytest.raises(Invalid, match=r"^not an image reference: ") as refused:
        parse_reference(written)
    assert why in str(refused.value)
    # The message can be printed anywhere and is short, whatever was written.
    assert str(refused.value).replace("…", "").isascii()
    assert len(str(refused.value)) < 512


_REFERENCES = st.from_regex(
    r"\A([a-zA-Z0-9.-]{1,6}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,12}(:[a-zA-Z0-9._-]{1,5})?(@sha256:[0-9a-f]{64})?\Z"
)


@given(_REFERENCES)
@example("a.b:80/c:d")
@example("localhost/x")
def test_what_is_accepted_the_parser_of_the_ecosystem_reads_with_the_same_parts(written: str) -> None:
    try:
        ours = parse_reference(written)
    except Invalid:
        return
    theirs = docker_image.reference.Reference.parse_normalized_named(ours.written)
    hostname, path = theirs.split_hostname()
    assert ours.repository.path == (
        path if "/" in path or ours.repository.registry != "docker.io" else f"library/{path}"
    )
    assert ours.digest == theirs["digest"]
    assert hostname is not None


def test_a_digest_is_computed_from_bytes_and_nothing_else_is_one() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert parse_digest(DIGEST) == DIGEST
    for text in ("", "sha256:", HEX, DIGEST + "\n", " " + DIGEST, "sha256:" + "g" * 64, "sha256:" + "٣" * 64):
        with pytest.raises(Invalid, match="not a digest"):
            parse_digest(text)


def test_repositories_and_subjects_print_what_a_tool_accepts() -> None:
    repository = parse_repository("GHCR.io/acme/web")
    assert repository == Repository("ghcr.io", "acme/web")
    assert str(Subject(repository, parse_digest(DIGEST), "v1")) == f"ghcr.io/acme/web@{DIGEST}"
    assert str(ImageReference(repository, "v1", None, "x")) == "ghcr.io/acme/web:v1"
