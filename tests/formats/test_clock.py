"""Whose word a timestamp is: found by what the token says, in whatever order it brings its certificates."""

import pytest
from asn1crypto import cms
from cryptography.x509 import SubjectKeyIdentifier

from tests.fake.notation import authority, party
from tests.fake.pki import timestamp
from tests.formats.test_notation import STAMPING, TSA, TSA_ROOT
from webhook import limits
from webhook.formats.notation.clock import read_authority
from webhook.trust import Rejected

BETWEEN = authority("TSA Between", TSA_ROOT)
DEEP = party("Deep TSA", BETWEEN, STAMPING)


def token(*parties: object, by: object = TSA) -> bytes:
    """A bare token with these certificates."""
    return timestamp(by.issued, b"x", bare=True, certificates=[one.issued for one in parties])  # type: ignore[attr-defined]  # parties, all of them


@pytest.mark.parametrize("parties", [(TSA,), (TSA, TSA_ROOT), (TSA_ROOT, TSA), (BETWEEN, TSA)])
def test_the_chain_ends_at_the_trusted_one(parties: tuple[object, ...]) -> None:
    assert read_authority(token(*parties), [TSA_ROOT.certificate]) == (TSA.certificate, TSA_ROOT.certificate)


def test_chains_of_any_length_and_trust_anywhere() -> None:
    root, between, own = TSA_ROOT.certificate, BETWEEN.certificate, DEEP.certificate
    deep = token(BETWEEN, DEEP, by=DEEP)
    assert read_authority(deep, [root]) == (own, between, root)
    assert read_authority(deep, [between]) == (own, between)
    assert read_authority(deep, [root, own]) == (own,)
    assert read_authority(token(DEEP, by=DEEP), [root, between]) == (own, between)


def test_a_signer_may_be_named_by_its_key() -> None:
    own = party("Keyed", TSA_ROOT, (*STAMPING, (SubjectKeyIdentifier(b"12345678"), False)))
    changed = cms.ContentInfo.load(token(TSA, own, by=own))
    changed["content"]["signer_infos"][0]["sid"] = cms.SignerIdentifier("subject_key_identifier", b"12345678")
    assert read_authority(changed.dump(force=True), [TSA_ROOT.certificate])[0] == own.certificate


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a token that can be read"),
        (b"garbage", "not a token that can be read"),
        (b"\0" * (limits.MAX_TIMESTAMP + 1), "not a token that can be read"),
        (timestamp(TSA.issued, b"x", certificates=[TSA.issued]), "not a token that can be read"),
        (token(), "not a token that can be read|not signed by an authority"),
        (token(*[party(f"Crowd {i}", TSA_ROOT) for i in range(limits.MAX_INTERMEDIATES + 1)], TSA), "not a token"),
        (token(TSA_ROOT), "not signed by an authority that is trusted"),
        (token(DEEP, by=DEEP), "not signed by an authority that is trusted"),
        (token(TSA, authority("Weak", key="P-192")), "timestamp: curve secp192r1"),
    ],
)
def test_n06_tokens_that_lead_to_nobody(content: bytes, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        read_authority(content, [TSA_ROOT.certificate])


def test_a_token_of_several_signers_is_nobodys() -> None:
    changed = cms.ContentInfo.load(token(TSA))
    changed["content"]["signer_infos"] = [changed["content"]["signer_infos"][0]] * 2
    with pytest.raises(Rejected, match="not a token that can be read"):
        read_authority(changed.dump(force=True), [TSA_ROOT.certificate])
