"""`static`: a decree by the policy itself."""

from typing import Any

import pytest

from tests import captures
from tests.fake.registry import FakeRegistry
from webhook.formats.static import FORMAT, Static, StaticSpec
from webhook.image import Repository, Subject, digest_of
from webhook.parsing import Invalid
from webhook.trust import Claim, Rejected, Untrusted

LISTED, OTHER = digest_of(b"listed"), digest_of(b"other")


def static(**spec: Any) -> Static:
    signer = FORMAT.build(StaticSpec(reason=spec.pop("reason", "because"), **spec), {})
    assert isinstance(signer, Static)
    return signer


def claim(digest: str = LISTED, predicate_type: str | None = None) -> Claim:
    subject = Subject(Repository("ghcr.io", "acme/web"), digest, "v1")  # type: ignore[arg-type]  # hostile digests, too
    return Claim(subject, predicate_type)


async def only_evidence(signer: Static, about: Claim) -> Untrusted:
    (evidence,) = [e async for e in signer.collect(about, FakeRegistry())]
    assert isinstance(evidence, Untrusted)
    return evidence


async def judged(signer: Static, about: Claim) -> str:
    return signer.check(await only_evidence(signer, about), about, captures.NOW).identity


async def test_what_is_listed_is_allowed_and_nothing_else() -> None:
    signer = static(allow=True, digests=(LISTED,))
    assert await judged(signer, claim()) == "static:because"
    with pytest.raises(Rejected, match="not one of the 1 digests that are allowed: because"):
        await judged(signer, claim(OTHER))


async def test_without_a_list_every_image_is_allowed_and_that_is_called_dangerous() -> None:
    signer = static(allow=True)
    assert await judged(signer, claim(OTHER)) == "static:because"
    assert len(signer.dangers()) == 1
    assert static(allow=True, digests=(LISTED,)).dangers() == ()
    assert static(allow=False).dangers() == ()


async def test_a_refusal_allows_nothing() -> None:
    with pytest.raises(Rejected, match=r"^because$"):
        await judged(static(allow=False), claim())


async def test_c04_a_decree_is_no_attestation() -> None:
    with pytest.raises(Rejected, match="not an attestation"):
        await judged(static(allow=True), claim(predicate_type="https://slsa.dev/provenance/v1"))


async def test_c14_without_a_digest_nothing_is_allowed() -> None:
    for digest in ("", "sha256:", "latest"):
        with pytest.raises(Invalid):
            await judged(static(allow=True), claim(digest))


async def test_nothing_is_read_and_only_the_digest_counts() -> None:
    signer = static(allow=True)
    assert signer.sources(claim()) == ()
    assert signer.scope(claim()) == signer.scope(claim())
    assert signer.scope(claim()) != signer.scope(claim(OTHER))
    assert signer.scope(claim()) != signer.scope(claim(predicate_type="x"))


def test_what_is_wanted_is_said_in_words() -> None:
    assert static(allow=False).wanted() == "nobody: because"
    assert static(allow=True).wanted() == "any digest"
    assert static(allow=True, digests=(LISTED,)).wanted() == "a digest on the policy's list"
    assert static(allow=True).fingerprints() == ()


@pytest.mark.parametrize(
    ("spec", "complaints"),
    [
        ({"allow": False, "digests": (LISTED,)}, [".digests: with allow: false nothing is allowed"]),
        ({"allow": True, "digests": ()}, [".digests: empty"]),
        ({"allow": True, "digests": ("x", LISTED, "y")}, [".digests[0]: x: not a", ".digests[2]: y: not a"]),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, Any], complaints: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        static(**spec)
    for found, wanted in zip(refused.value.complaints, complaints, strict=True):
        assert found.startswith(wanted)
