"""The pages say what is true: links lead somewhere, policies in them are right, and every attack they name is tested."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests import captures
from tests.fake.hardware import YubiKey
from tests.judge.test_deny import Known, signed
from tests.judge.test_judge import World
from tests.policies import HOME
from webhook import keys
from webhook.formats import FORMATS
from webhook.judge.evaluate import Judge
from webhook.policy import parse
from webhook.policy.document import parse_document
from webhook.policy.exceptionparse import parse_exception, parse_exception_document
from webhook.policy.keyref import Key, ObjectKey, PublicRoot
from webhook.policy.predicates import SHORT_NAMES, parse_predicate_type
from webhook.registry.settings import parse_settings
from webhook.verdict import Allowed, Denied

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("manifests/**/*.md")])
BLOCK = re.compile(r"^(?P<indent> *)```yaml\n(?P<text>.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text("utf-8")):
            text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
            if kind in text:
                yield f"{page.relative_to(ROOT)}: {text[:60]!r}", text


DEVICE = YubiKey()


def read_any_key(reference: Key) -> bytes:
    """A key that fits each reference, and where a page names evidence, the evidence about it."""
    pem = captures.key("cosign.pub")
    public = load_pem_public_key(pem)
    assert isinstance(public, EllipticCurvePublicKey)
    texts = {"evidence.pem": DEVICE.attest(public) + DEVICE.f9.pem, "roots.pem": DEVICE.root.pem}
    files = {"trusted_root.json": "trusted_root.json", "root.pem": "byo-root.pem", "tsa.pem": "tsa-chain.pem"}
    if isinstance(reference, PublicRoot):
        return captures.PUBLIC_ROOT
    entry = reference.entry if isinstance(reference, ObjectKey) else ""
    if entry in files:
        return captures.key(files[entry])
    if entry.endswith((".asc", ".gpg")):
        return captures.key("gpg-rsa3072.pub")
    return texts[entry].encode() if entry in texts else pem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(("where", "text"), list(blocks("TrustPolicy")))
def test_policies_in_the_pages_are_right(where: str, text: str) -> None:
    document = parse_document(yaml.safe_load(text))
    references = parse.key_references(document.spec, FORMATS)
    materials = keys.resolve(references, document.key, HOME, read_any_key)
    policy = parse.parse_policy(document.key, document.spec, materials, FORMATS, HOME)
    assert policy.signers or policy.terms.deny, where


INCIDENTS = {
    name: next(text for _, text in blocks("ClusterTrustPolicy") if f"{{name: {name}}}" in text)
    for name in ("incident-4711", "incident-4712")
}


@pytest.mark.parametrize(
    ("incident", "signer", "denied"),
    [
        # The one for the whole cluster touches nobody whom it does not name, with a time or without.
        ("incident-4711", Known("SHA256:e0dec"), False),
        ("incident-4711", Known(serial="1f0a5c"), True),
        ("incident-4711", Known("issuer=https://accounts.example,subject=ci@example.com"), True),
        ("incident-4712", Known(signed_at=datetime(2026, 11, 21, 18, 30, tzinfo=UTC)), False),
        ("incident-4712", Known(signed_at=datetime(2026, 11, 21, 18, tzinfo=UTC)), True),
        ("incident-4712", Known("SHA256:e0dec"), True),
    ],
)
async def test_the_denials_in_the_reference_deny_what_it_says(incident: str, signer: Known, *, denied: bool) -> None:
    document = parse_document(yaml.safe_load(INCIDENTS[incident]))
    denies = parse.parse_policy(document.key, document.spec, {}, FORMATS, HOME)
    world = World()
    world.judge = Judge(
        world.registries, pool=world.pool, now=lambda: datetime(2026, 11, 25, tzinfo=UTC), observer=world.counter
    )
    world.registry.push_image("acme/shop/web", "v1")
    with world.pool:
        rulings = await world.rulings([signed(signer), denies], "ghcr.io/acme/shop/web:v1")
    assert any(isinstance(one.outcome, Denied) for one in rulings) is denied
    assert any("without a trusted time" in note for note in parse.warnings(denies)) is denies.terms.deny.has_times


@pytest.mark.parametrize(("where", "text"), list(blocks("kind: TrustException")))
def test_exceptions_in_the_pages_are_right(where: str, text: str) -> None:
    document = parse_exception_document(yaml.safe_load(text))
    assert parse_exception(document.key, document.spec).requested_by, where


EXAMPLES = [
    pytest.param(yaml.safe_load(text), id=yaml.safe_load(text)["metadata"]["name"])
    for where, text in blocks("TrustPolicy")
    if where.startswith("docs/attestations.md")
][1:]
"""The policies to copy, each for what cosign attested in the captures; the first of the page only shows the fields."""


def test_there_is_an_example_for_each_type_of_attestation() -> None:
    written = [example.values[0]["spec"]["attestations"][0]["type"] for example in EXAMPLES]  # type: ignore[index]  # YAML
    types = [parse_predicate_type(text) for text in written]
    assert len(EXAMPLES) == len(SHORT_NAMES)
    for short, uris in SHORT_NAMES.items():
        assert any(set(found) & set(uris) for found in types), short


TWINS = {
    "provenance": ("builders/release", "builders/nightly"),
    "spdx": ("AGPL", "Zlib"),
    "cyclonedx": ("pkg:maven/org.apache.logging.log4j/log4j-core@2.14.", "pkg:deb/debian/zlib1g@"),
    "scanned": ("CRITICAL", "MEDIUM"),
    "vex": ("not_affected", "affected"),
    "tested": ("integration", "acceptance"),
}


@pytest.mark.parametrize("document", EXAMPLES)
async def test_the_examples_admit_what_cosign_attested_and_nothing_else(document: dict[str, Any]) -> None:
    key = parse_document(document).key
    references = parse.key_references(document["spec"], FORMATS)
    capture = json.loads((captures.path("cosign-attestations-bundle") / "tags.json").read_text())
    image = f"ghcr.io/acme/shop/web@{capture['v1']}"

    async def outcome(at: datetime, pem: str = "attest.pub", edit: Callable[[str], str] = str) -> object:
        world = World()
        world.registry.load("acme/shop/web", captures.path("cosign-attestations-bundle"))
        world.judge = Judge(world.registries, pool=world.pool, now=lambda: at, observer=world.counter)
        materials = keys.resolve(references, key, HOME, lambda _: captures.key(pem))
        spec = json.loads(edit(json.dumps(document["spec"])))
        policy = parse.parse_policy(key, spec, materials, FORMATS, HOME)
        with world.pool:
            return await world.outcome([policy], image)

    morning = datetime(2026, 11, 25, 10, tzinfo=UTC)
    assert isinstance(await outcome(morning), Allowed)
    assert isinstance(await outcome(morning, pem="other.pub"), Denied)
    # Its twin, for which what was attested is not enough.
    word, other = TWINS[key.name]
    assert word in json.dumps(document["spec"])
    assert isinstance(await outcome(morning, edit=lambda text: text.replace(word, other)), Denied)
    if document["metadata"]["name"] in {"scanned", "vex"}:
        assert isinstance(await outcome(morning + timedelta(days=31)), Denied)


@pytest.mark.parametrize("tradition", sorted(FORMATS.keys() - {"static"}))
def test_each_tradition_has_a_page_with_a_policy_and_what_is_done_with_it(tradition: str) -> None:
    page = (ROOT / "docs" / f"{tradition}.md").read_text("utf-8")
    assert any(f"      {tradition}:" in match["text"] for match in BLOCK.finditer(page))
    assert re.search(r"^\$ .*\bsign\b", page, re.MULTILINE) or "--sign-by" in page
    assert "$ kubectl trust verify" in page
    for heading in ("How it is verified", "What is not promised"):
        assert f"\n## {heading}\n" in page


def test_there_are_policies_in_the_pages() -> None:
    assert len(list(blocks("TrustPolicy"))) >= 3
    assert len(list(blocks("kind: TrustException"))) == 1


def test_the_registries_files_in_the_pages_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    counts = []
    for _, text in blocks("registries:"):
        written = yaml.safe_load(text)["registries"]
        # The chart's value holds the file.
        file = written if isinstance(written, dict) else {"registries": written}
        counts.append(len(parse_settings(yaml.safe_dump(file).encode(), "registries.yaml").hosts))
    assert counts == [2, 1, 3]


def ids_in_tests() -> set[str]:
    found = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"def test_((?:[a-z][0-9]{2}_)+)", file.read_text("utf-8")):
            found |= {f"{one[0].upper()}-{one[1:]}" for one in name.strip("_").split("_")}
    return found


def test_every_attack_in_the_threat_model_is_tested_and_every_tested_one_is_in_it() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
    listed = re.findall(r"^\| ([A-Z]-[0-9]{2}) \|", page, flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == ids_in_tests()
