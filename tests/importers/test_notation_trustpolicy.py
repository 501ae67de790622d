"""Notation's trust policies, translated: what they mean stays what it was, and what cannot be meant is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fake.notation import Party, authority
from tests.policies import HOME
from webhook.cli import importing
from webhook.formats import FORMATS
from webhook.formats.notation.signer import Notation
from webhook.formats.static import Static
from webhook.image import parse_reference
from webhook.importers.notation_trustpolicy import read_trust_policy, translate
from webhook.keys.files import load_files
from webhook.parsing import Invalid
from webhook.policy.index import PolicyIndex
from webhook.policy.policy import Policy, Workload

ROOT = authority("Root")
NAME = "x509.subject: C=US, ST=WA, O=Acme"


def statement(name: str = "acme", *scopes: str, **changed: Any) -> dict[str, Any]:
    """A statement of a trust policy; None leaves a field out."""
    whole = {
        "name": name,
        "registryScopes": list(scopes) or ["registry.acme.io/app"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:acme"],
        "trustedIdentities": [NAME],
        **changed,
    }
    return {field: value for field, value in whole.items() if value is not None}


def skipping(*scopes: str, **changed: Any) -> dict[str, Any]:
    bare = {"trustStores": None, "trustedIdentities": None, "signatureVerification": {"level": "skip"}}
    return statement("skipped", *scopes, **{**bare, **changed})


def document(*statements: dict[str, Any], **changed: Any) -> bytes:
    return json.dumps({"version": "1.0", "trustPolicies": list(statements), **changed}).encode()


def written(tmp_path: Path, content: bytes, stores: dict[str, list[Party]] | None = None) -> Path:
    """A trust policy with its trust store, as notation keeps them."""
    for name, parties in (stores or {"ca/acme": [ROOT]}).items():
        folder = tmp_path / "truststore" / "x509" / name
        folder.mkdir(parents=True)
        for i, one in enumerate(parties):
            (folder / f"{i}.pem").write_text(one.pem)
    (tmp_path / "trustpolicy.json").write_bytes(content)
    return tmp_path / "trustpolicy.json"


def policies(file: Path) -> dict[str, Policy]:
    """What is judged by, by name."""
    with importing.policy_files([], file, None, HOME) as files:
        found = load_files(files).policies(FORMATS, HOME)
    return {policy.key.name: policy for policy in found}


# ── what cannot be meant ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "tp.json: not JSON"),
        (b'{"version":"1.0","version":"1.0","trustPolicies":[]}', "duplicate key version"),
        (document(), "tp.json.trustPolicies: expected array of length >= 1"),
        (document(statement(), version="2.0"), "2.0 is none of 1.0"),
        (document(statement(), extra=1), "tp.json.extra: unknown field"),
        (document(statement(trustStore=["ca:acme"])), "trustPolicies[0].trustStore: unknown field"),
        (document(statement(""), statement("b", "x.io/b")), "trustPolicies[0].name: expected str of length >= 1"),
        (document(statement("a", "x.io/a"), statement("a", "x.io/b")), "trustPolicies[1].name: a stands twice"),
        (document(statement("a", "x.io/a", "x.io/a")), "registryScopes[1]: x.io/a is statement a's already"),
        (document(statement("a", "x.io/a"), statement("b", "x.io/a")), "trustPolicies[1].registryScopes[0]: x.io/a is"),
        (document(statement("a", "*"), statement("b", "*")), "trustPolicies[1].registryScopes[0]: * is statement a's"),
        (document(statement("a", "*", "x.io/a")), "registryScopes[0]: * stands alone"),
        (document(statement("a", "x.io/*")), "registryScopes[0]: x.io/*: * is not a part"),
        (document(statement("a", "nginx")), "registryScopes[0]: nginx: not a repository with its registry"),
        (document(statement("a", "library/nginx")), "library/nginx: not a repository with its registry"),
        (document(statement("a", "https://x.io/a")), "registryScopes[0]: "),
        (document(statement("a", "x.io/a:v1")), "registryScopes[0]: x.io/a:v1"),
        (document(statement(registryScopes=[])), "registryScopes: expected array of length >= 1"),
        (document(statement(trustStores=[])), "trustStores: required, unless the level is skip"),
        (document(statement(trustedIdentities=None)), "trustedIdentities: required, unless the level is skip"),
        (document(statement(trustStores=["acme"])), "trustStores[0]: acme: write TYPE:NAME"),
        (document(statement(trustStores=["root:acme"])), "trustStores[0]: root:acme: write TYPE:NAME"),
        (document(statement(trustStores=["ca:.."])), "trustStores[0]: ca:..: write TYPE:NAME"),
        (document(statement(trustStores=["ca:../../etc"])), "trustStores[0]: ca:../../etc: write TYPE:NAME"),
        (document(statement(signatureVerification={})), "signatureVerification.level: required"),
        (document(statement(signatureVerification={"level": "loose"})), "loose is none of"),
        (
            document(statement(signatureVerification={"level": "strict", "override": {"integrity": "log"}})),
            "override.integrity: unknown field",
        ),
        (
            document(statement(signatureVerification={"level": "strict", "override": {"expiry": "skip"}})),
            "skip is none of enforce, log",
        ),
        (
            document(statement(signatureVerification={"level": "strict", "verifyTimestamp": "never"})),
            "never is none of always, afterCertExpiry",
        ),
        (document(skipping("*")), "level skip cannot be for *"),
        (document(skipping("x.io/a", trustStores=["ca:acme"])), "level skip has no trustStores"),
        (document(skipping("x.io/a", trustedIdentities=["*"])), "level skip has no trustStores, trustedIdentities"),
        (
            document(skipping("x.io/a", signatureVerification={"level": "skip", "override": {"expiry": "log"}})),
            "level skip has no trustStores, trustedIdentities or override",
        ),
        (b" " * (2**20 + 1), "tp.json: more than 1048576 bytes"),
    ],
)
def test_n12_documents_that_cannot_be_meant_are_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_trust_policy(content, "tp.json")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("identities", "complaint"),
    [
        (["x509.issuer: C=US"], ".trustedIdentities[0]: x509.issuer: C=US: write"),
        (["*", NAME], ".trustedIdentities: * stands alone"),
        ([NAME, f"{NAME}, CN=x"], "one of them contains another"),
    ],
)
def test_n12_identities_that_cannot_be_meant_are_refused(tmp_path: Path, identities: list[str], complaint: str) -> None:
    file = written(tmp_path, document(statement(trustedIdentities=identities)))
    with pytest.raises(Invalid) as refused:
        policies(file)
    assert complaint in str(refused.value)


# ── what stays what it was ───────────────────────────────────────────────────────────────────────────────────────────
def test_each_statement_becomes_a_policy_for_its_repositories(tmp_path: Path) -> None:
    stores = {"ca/acme": [ROOT], "tsa/clock": [authority("Clock")], "signingAuthority/acme": [authority("Service")]}
    whole = document(
        statement(
            "Acme: releases!",
            "registry.acme.io/app",
            "localhost:5000/other",
            signatureVerification={
                "level": "permissive",
                "override": {"revocation": "skip", "expiry": "enforce"},
                "verifyTimestamp": "afterCertExpiry",
            },
            trustStores=["ca:acme", "tsa:clock", "signingAuthority:acme", "ca:acme"],
            trustedIdentities=["*"],
        ),
        statement("everything else", "*"),
        skipping("docker.io/library/nginx"),
    )
    found = policies(written(tmp_path, whole, stores))
    assert set(found) == {"acme-releases-0", "everything-else-1", "skipped-2"}
    [named] = found["acme-releases-0"].signers
    signer = named.signer
    assert isinstance(signer, Notation)
    assert (len(signer.ca), len(signer.signing_authority), len(signer.tsa)) == (1, 1, 1)
    assert (signer.timestamp, signer.identities) == ("afterCertExpiry", None)
    assert (signer.actions.authenticity, signer.actions.authentic_timestamp) == ("enforce", "log")
    assert (signer.actions.expiry, signer.actions.revocation) == ("enforce", "skip")
    [skipped] = found["skipped-2"].signers
    assert skipped.signer == Static(True, None, "trust policy statement skipped: level skip")


def test_the_statement_that_applies_is_the_one_that_notation_would_take(tmp_path: Path) -> None:
    whole = document(statement("named", "registry.acme.io/app"), statement("global", "*"))
    index = PolicyIndex.of(policies(written(tmp_path, whole)).values())

    def applies(image: str) -> list[str]:
        match = index.match(parse_reference(image), Workload("any", "default", {}), "main", {})
        return [policy.key.name for policy in match.covering]

    assert applies("registry.acme.io/app:v1") == ["named-0"]
    assert applies("registry.acme.io/app/more:v1") == ["global-1"]
    assert applies("nginx") == ["global-1"]


def test_where_no_statement_applies_the_image_is_refused(tmp_path: Path) -> None:
    found = policies(written(tmp_path, document(statement("named", "registry.acme.io/app"))))
    assert set(found) == {"named-0", "no-statement"}
    [nobody] = found["no-statement"].signers
    assert found["no-statement"].scope.fallback
    assert nobody.signer == Static(False, None, "no statement of the trust policy is for this image")


def test_what_is_not_the_same_or_dangerous_is_said() -> None:
    whole = document(
        skipping("x.io/a"),
        statement("b", "x.io/b", signatureVerification={"level": "strict", "verifyTimestamp": "always"}),
    )
    imported = translate(read_trust_policy(whole, "tp.json"), {("ca", "acme"): ROOT.pem}, HOME)
    assert imported.notes == (
        "statement skipped: level skip: its images are allowed without a signature",
        "statement b: verifyTimestamp does nothing without a trust store of type tsa",
    )
    assert "timestamp" not in imported.resources[2]["spec"]["signers"][0]["notation"]
    # It is what `kubectl apply` takes.
    assert yaml.safe_load(json.dumps(imported.resources))[0]["kind"] == "ConfigMap"


def test_stores_that_differ_in_letter_case_only_are_two(tmp_path: Path) -> None:
    stores = {"ca/acme": [ROOT], "ca/Acme": [authority("Other")]}
    whole = document(statement("a", "x.io/a"), statement("b", "x.io/b", trustStores=["ca:Acme"]))
    found = policies(written(tmp_path, whole, stores))
    assert found["a-0"].signers[0].signer != found["b-1"].signers[0].signer


# ── the trust store ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_store_is_read_as_notation_reads_it(tmp_path: Path) -> None:
    file = written(tmp_path, document(statement()), {"ca/acme": [ROOT, authority("Second")]})
    folder = tmp_path / "truststore" / "x509" / "ca" / "acme"
    third = authority("Third")
    (folder / "third.cer").write_bytes(third.der)
    (folder / "README.txt").write_text("not a certificate")
    (folder / "deeper").mkdir()
    (folder / "deeper" / "fourth.pem").write_text("not read")
    [named] = policies(file)["acme-0"].signers
    assert isinstance(named.signer, Notation)
    assert len(named.signer.ca) == 3
    assert third.der in named.signer.ca


def test_links_empty_and_missing_stores_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, document(statement()))
    folder = tmp_path / "truststore" / "x509" / "ca" / "acme"
    (folder / "link.pem").symlink_to(folder / "0.pem")
    with pytest.raises(Invalid, match=r"link\.pem: a link; notation follows none"):
        policies(file)
    (folder / "link.pem").unlink()
    (folder / "0.pem").rename(folder / "0.txt")
    with pytest.raises(Invalid, match="acme: no certificate"):
        policies(file)
    (folder / "0.txt").unlink()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="acme: not a folder with the certificates of a trust store of type ca"):
        policies(file)
    folder.unlink()
    with pytest.raises(Invalid, match="not a folder"):
        policies(file)


def test_a_certificate_too_many_or_too_large_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, document(statement()))
    folder = tmp_path / "truststore" / "x509" / "ca" / "acme"
    (folder / "large.pem").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(Invalid, match=r"large\.pem: more than 1048576 bytes"):
        policies(file)


def test_files_that_are_given_or_not(tmp_path: Path) -> None:
    file = written(tmp_path, document(statement()))
    with importing.policy_files([tmp_path / "own.yaml"], file, tmp_path / "truststore" / "x509", HOME) as files:
        assert [path.name for path in files] == ["own.yaml", "trustpolicy.json"]
    assert not files[1].exists()
    with importing.policy_files([file], None, None, HOME) as files:
        assert files == [file]
    with pytest.raises(Invalid, match="give --policy FILE"), importing.policy_files([], None, None, HOME):
        pass
    with (
        pytest.raises(Invalid, match="means nothing without --notation-trust-policy"),
        importing.policy_files([file], None, tmp_path, HOME),
    ):
        pass
