"""The real `cosign`, where it is installed: what it says of signatures that are broken in one place is compared with what we say.

What it signs now is in `test_sigstore_live`. Here everything is made by the fakes, so that a place can be broken before it is signed, and
served on loopback. Times are those of the log, so nobody's clock is asked.
"""

import asyncio
import base64
import copy
import functools
import json
import os
import random
import shutil
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.fake import sigstore
from tests.fake.http_registry import serving
from tests.fake.pushable import PushableRegistry
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import (
    IN_TOTO,
    SLSA,
    SigningKey,
    bundle,
    key,
    payload,
    sign_bundle,
    sign_classic,
    statement,
)
from tests.formats.test_contract import claim_of, judged, twice_in_payload, twice_in_statement
from tests.formats.test_keyless import build
from webhook.formats.cosign.signer import Cosign
from webhook.image import Digest

COSIGN = shutil.which("cosign")
pytestmark = pytest.mark.skipif(COSIGN is None, reason="LIVE TESTS LEFT OUT: no `cosign` on the PATH")

PATH = "shop/app"
CLASSIC = ("--new-bundle-format=false",)
WHO = {"issuer": sigstore.ISSUER, "subject": sigstore.SUBJECT}
OTHER = f"sha256:{'0' * 64}"

Edit = Callable[[Any], object]
Put = Callable[[FakeRegistry, Digest], object]


@functools.cache
def instance() -> sigstore.Sigstore:
    made = sigstore.Sigstore()
    # Zeros may be left out, so the first entry is somebody else's.
    made.log.append(b"somebody else's")
    made.log_v2.append(b"somebody else's")
    return made


@functools.cache
def root() -> str:
    """The trust root, in which logs have the addresses that their checkpoints are called by: cosign compares them."""

    def address(document: Any) -> None:
        for log, made in zip(document["tlogs"], (instance().log, instance().log_v2), strict=True):
            log["baseUrl"] = f"https://{made.origin.partition(' ')[0]}"

    return instance().trusted_root(address)


@functools.cache
def other_key(kind: str) -> SigningKey:
    if kind == "rsa":
        return SigningKey(rsa.generate_private_key(65537, 2048))
    return SigningKey(
        ec.generate_private_key(ec.SECP384R1()) if kind == "p384" else ed25519.Ed25519PrivateKey.generate()
    )


@dataclass(frozen=True)
class Layout:
    """One signature, and one thing about it that may be wrong. `kind`: a bundle or a classic one, by a key or keyless."""

    kind: str
    name: str
    put: Put
    signer: Callable[[], SigningKey] = field(default=lambda: key("a"))

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


# ── what is put beside an image ──────────────────────────────────────────────────────────────────────────────────────
def by_key(name: str, **options: Any) -> Layout:
    return Layout("bundle", name, lambda r, d: sign_bundle(r, PATH, d, key("a"), **options))


def with_statement(name: str, signed: Callable[[Digest], bytes], payload_type: str = IN_TOTO) -> Layout:
    def put(registry: FakeRegistry, digest: Digest) -> None:
        content = to_json(bundle(key("a"), signed(digest), payload_type))
        sign_bundle(registry, PATH, digest, key("a"), content=content)

    return Layout("bundle", name, put)


def classic(name: str, **options: Any) -> Layout:
    return Layout("classic", name, lambda r, d: sign_classic(r, PATH, d, key("a"), **options))


def keyless(name: str, edit: Edit = bool, **options: Any) -> Layout:
    def put(registry: FakeRegistry, digest: Digest) -> None:
        made = copy.deepcopy(instance().bundle(to_json(statement(digest)), **options))
        edit(made)
        sign_bundle(registry, PATH, digest, key("a"), content=to_json(made))

    return Layout("keyless bundle", name, put)


def keyless_classic(name: str, edit: Edit = bool, **options: Any) -> Layout:
    def put(registry: FakeRegistry, digest: Digest) -> None:
        content = to_json(payload(PATH, digest))
        # Cosign takes the issuer from the older extension here, as Fulcio writes it beside the newer one.
        certificate = instance().certify(key("keyless"), raw_issuer=WHO["issuer"])
        beside = instance().annotations(content, certificate=certificate, **options)
        entry = json.loads(beside["dev.sigstore.cosign/bundle"])
        edit(entry)
        beside["dev.sigstore.cosign/bundle"] = to_json(entry).decode()
        edit_layer = functools.partial(dict.update, annotations=beside)
        sign_classic(registry, PATH, digest, key("a"), content=content, edit_layer=edit_layer)

    return Layout("keyless classic", name, put)


def entry_of(made: Any) -> Any:
    return made["verificationMaterial"]["tlogEntries"][0]


def another_entry(made: Any) -> None:
    """A genuine entry of the same log, about something else."""
    other = instance().bundle(b'{"something":"else"}')
    made["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]


def another_certificate(made: Any) -> None:
    other = instance().bundle(b'{"something":"else"}', signer=key("other"))
    made["verificationMaterial"]["certificate"] = other["verificationMaterial"]["certificate"]


def flipped(text: str, place: int = 12) -> str:
    """Base64 of other bytes."""
    content = bytearray(base64.b64decode(text))
    content[place] ^= 1
    return base64.b64encode(bytes(content)).decode()


def flip(at: Any, name: str) -> None:
    at[name] = flipped(at[name])


def about(subjects: Callable[[Digest], list[Any]]) -> Callable[[Digest], bytes]:
    return lambda digest: to_json({**statement(digest), "subject": subjects(digest)})


def by_kind(kind: str) -> Layout:
    """By another kind of key."""
    return Layout(
        "bundle", f"by {kind}", lambda r, d: sign_bundle(r, PATH, d, other_key(kind)), lambda: other_key(kind)
    )


SUBJECTS: dict[str, Callable[[Digest], list[Any]]] = {
    "no subject": lambda _: [],
    "another image": lambda _: [{"digest": {"sha256": OTHER[7:]}}],
    "two subjects": lambda d: [{"digest": {"sha256": OTHER[7:]}}, {"digest": {"sha256": d[7:]}}],
    "under another hash": lambda d: [{"digest": {"sha512": d[7:]}}],
    "no digest": lambda _: [{"digest": {}}],
    "capitals": lambda d: [{"digest": {"sha256": d[7:].upper()}}],
}
LAYOUTS = [
    by_key("good"),
    by_key("an attestation alone", predicate_type=SLSA),
    by_key("of another key", edit_bundle=lambda b: b["verificationMaterial"]["publicKey"].update(hint=key("b").hint)),
    by_key("without a hint", edit_bundle=lambda b: b["verificationMaterial"]["publicKey"].pop("hint")),
    by_key("two signatures", edit_bundle=lambda b: b["dsseEnvelope"]["signatures"].append({"sig": "AAAA"})),
    by_key("no signature", edit_bundle=lambda b: b["dsseEnvelope"].update(signatures=[])),
    by_key("a changed signature", edit_bundle=lambda b: flip(b["dsseEnvelope"]["signatures"][0], "sig")),
    by_key("a changed payload", edit_bundle=lambda b: flip(b["dsseEnvelope"], "payload")),
    by_key("a changed type", edit_bundle=lambda b: b["dsseEnvelope"].update(payloadType="application/json")),
    by_key(
        "an unknown version", edit_bundle=lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle.v9+json")
    ),
    by_key("no media type", edit_bundle=lambda b: b.pop("mediaType")),
    by_key("no envelope", edit_bundle=lambda b: b.pop("dsseEnvelope")),
    by_key("no material", edit_bundle=lambda b: b.pop("verificationMaterial")),
    by_key("of version 0.1", edit_statement=lambda s: s.update(_type="https://in-toto.io/Statement/v0.1")),
    by_key("of an unknown version", edit_statement=lambda s: s.update(_type="https://in-toto.io/Statement/v9")),
    *(with_statement(name, about(of)) for name, of in SUBJECTS.items()),
    with_statement("no statement", lambda _: b"{}"),
    with_statement("no JSON", lambda _: b"x"),
    with_statement("two subjects by one name", twice_in_statement),
    with_statement("another type, signed", lambda d: to_json(statement(d)), "application/json"),
    *map(by_kind, ("p384", "rsa", "ed25519")),
    Layout("bundle", "by a stranger", lambda r, d: sign_bundle(r, PATH, d, key("b"))),
    classic("good"),
    classic("another image", edit_payload=lambda p: p["critical"]["image"].update({"docker-manifest-digest": OTHER})),
    classic("another name", edit_payload=lambda p: p["critical"]["identity"].update({"docker-reference": "x.test/y"})),
    classic("another type", edit_payload=lambda p: p["critical"].update(type="atomic container signature")),
    classic("more that is critical", edit_payload=lambda p: p["critical"].update(x=1)),
    classic("no critical part", edit_payload=lambda p: p.pop("critical")),
    classic("no JSON", content=b"x"),
    Layout(
        "classic",
        "two images by one name",
        lambda r, d: sign_classic(
            r, PATH, d, key("a"), content=twice_in_payload(d, "cosign container image signature")
        ),
    ),
    classic("optional", annotations={"team": "blue"}),
    classic("a number in it", annotations={"team": 1}),
    classic("no signature", edit_layer=lambda one: one.update(annotations={})),
    classic("another media type", edit_layer=lambda one: one.update(mediaType="application/octet-stream")),
    classic(
        "a changed signature", edit_layer=lambda one: flip(one["annotations"], "dev.cosignproject.cosign/signature")
    ),
    classic(
        "garbage for a certificate",
        edit_layer=lambda one: one["annotations"].update({"dev.sigstore.cosign/certificate": "x"}),
    ),
    Layout("classic", "by a stranger", lambda r, d: sign_classic(r, PATH, d, key("b"))),
    keyless("good"),
    keyless("stamped", stamped=True),
    keyless("Rekor 2, stamped", body=sigstore.hashedrekord_v2, stamped=True),
    keyless("Rekor 2 without a time", body=sigstore.hashedrekord_v2),
    keyless("no entry", logged=False),
    keyless("another's entry", another_entry),
    keyless("another's certificate", another_certificate),
    keyless("a changed promise", lambda b: flip(entry_of(b)["inclusionPromise"], "signedEntryTimestamp")),
    keyless("no promise", lambda b: entry_of(b).pop("inclusionPromise")),
    keyless("no proof", lambda b: entry_of(b).pop("inclusionProof")),
    keyless("a changed root", lambda b: flip(entry_of(b)["inclusionProof"], "rootHash")),
    keyless("a changed body", lambda b: flip(entry_of(b), "canonicalizedBody")),
    keyless("a changed log", lambda b: flip(entry_of(b)["logId"], "keyId")),
    keyless("another time", lambda b: entry_of(b).update(integratedTime="1795480000")),
    keyless("another index", lambda b: entry_of(b).update(logIndex="99")),
    keyless("another kind", lambda b: entry_of(b)["kindVersion"].update(kind="intoto")),
    keyless("a changed certificate", lambda b: flip(b["verificationMaterial"]["certificate"], "rawBytes")),
    keyless_classic("good"),
    keyless_classic("a changed promise", lambda e: flip(e, "SignedEntryTimestamp")),
    keyless_classic("a changed body", lambda e: flip(e["Payload"], "body")),
    keyless_classic("another time", lambda e: e["Payload"].update(integratedTime=1795480000)),
    keyless_classic("another index", lambda e: e["Payload"].update(logIndex=99)),
    keyless_classic("another log", lambda e: e["Payload"].update(logID=OTHER[7:])),
]
STRICTER = {
    # An attestation is no signature.
    "bundle: an attestation alone": "an attestation of type",
    # Cosign itself writes the right one.
    "bundle: of another key": "signed by unknown key",
    "bundle: of an unknown version": "is not supported",
    # The type is skopeo's for GPG, and means another tradition's payload.
    "classic: another type": "payload.critical.type",
    "classic: more that is critical": "unknown field x",
    "classic: two images by one name": "duplicate key",
    "classic: another media type": "not a cosign signature",
    "keyless bundle: another kind": "its kind is not the one that its bundle names",
}
"""Where we refuse what cosign accepts, and what we say to it."""


# ── the tool, and we ─────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Tool:
    """`cosign` with a folder of its own."""

    folder: Path

    async def accepts(self, layout: Layout, image: str) -> tuple[bool, str]:
        words = ["verify", "--allow-http-registry", *(CLASSIC if layout.kind.endswith("classic") else ())]
        if layout.kind.startswith("keyless"):
            words += ["--certificate-identity", WHO["subject"], "--certificate-oidc-issuer", WHO["issuer"]]
            (self.folder / "root.json").write_text(root())
            words += ["--trusted-root", str(self.folder / "root.json")]
            if "stamped" in layout.name:
                words.append("--use-signed-timestamps")
        else:
            (self.folder / "key.pub").write_text(layout.signer().pem)
            words += ["--key", str(self.folder / "key.pub"), "--insecure-ignore-tlog=true"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        process = await asyncio.create_subprocess_exec(
            str(COSIGN),
            *words,
            image,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode == 0, output.decode()


def ours(layout: Layout) -> Cosign:
    if layout.kind.startswith("keyless"):
        return build(keyless=WHO, trustRoot=root())
    return build(key=layout.signer().pem)


@pytest.fixture
async def http() -> AsyncIterator[PushableRegistry]:
    async with serving(PushableRegistry(FakeRegistry())) as served:
        assert isinstance(served, PushableRegistry)
        yield served


async def verdicts(tool: Tool, http: PushableRegistry, layout: Layout, put: Put) -> tuple[bool, str, bool, str]:
    """Theirs and what they say, ours and why."""
    http.registry.manifests.clear()
    http.registry.tags.clear()
    digest = http.registry.push_image(PATH, "v1", str(layout).encode())
    put(http.registry, digest)
    theirs, said = await tool.accepts(layout, f"{http.host}/{PATH}@{digest}")
    proofs, reasons, causes = await judged(ours(layout), claim_of(digest), http.registry)
    assert causes == []
    return theirs, said, bool(proofs), "; ".join(reasons)


async def test_every_layout_gets_the_tools_own_verdict(tmp_path: Path, http: PushableRegistry) -> None:
    tool, differences = Tool(tmp_path), []
    counts = {True: 0, False: 0}
    for layout in LAYOUTS:
        theirs, said, we, why = await verdicts(tool, http, layout, layout.put)
        counts[theirs] += 1
        known = STRICTER.get(str(layout)) if theirs else None
        if theirs is not we and (known is None or known not in why):
            differences.append(f"{layout}: cosign {theirs}, ours {we}: {why}\n{said}")
    assert not differences, "\n".join(differences)
    assert min(counts.values()) > 10


BASES = [by_key("good"), classic("good"), keyless("good"), keyless_classic("good")]


@pytest.mark.filterwarnings("default:cosign accepts", "ignore:Parsed a serial number")
@pytest.mark.parametrize("layout", BASES, ids=str)
async def test_c13_a_changed_byte_gets_the_tools_own_verdict(
    tmp_path: Path, http: PushableRegistry, layout: Layout
) -> None:
    """Random places of what a good signature consists of: whatever we accept, cosign accepts too."""
    tool, chance = Tool(tmp_path), random.Random(f"{layout} 2026")  # noqa: S311 - the same kind of places each time
    differences, stricter = [], []
    made = FakeRegistry()
    digest = made.push_image(PATH, "v1", str(layout).encode())
    layout.put(made, digest)
    for _ in range(25):

        def put(registry: FakeRegistry, _digest: Digest) -> None:
            change_one_byte(made, registry, digest, chance)

        theirs, said, we, why = await verdicts(tool, http, layout, put)
        if we and not theirs:
            differences.append(f"cosign refuses, ours accepts\n{said}")
        if theirs and not we:
            stricter.append(why)
    assert not differences, "\n".join(differences)
    # Of what is not signed we read more strictly; that is said, not hidden.
    if stricter:
        warnings.warn(f"cosign accepts, ours refuses: {stricter}", stacklevel=1)


def change_one_byte(made: FakeRegistry, registry: FakeRegistry, digest: Digest, chance: random.Random) -> None:
    """Puts the same signature there with one bit changed, in its blob or in an annotation beside it."""
    [manifest] = [one for (_, name), one in made.manifests.items() if name != digest]
    document = json.loads(manifest.body)
    [layer] = document["layers"]
    places = ["", *layer.get("annotations", {})]
    place = chance.choice(places)
    content = made.blobs[layer["digest"]] if not place else layer["annotations"][place].encode()
    if content:
        at = chance.randrange(len(content))
        content = content[:at] + bytes([content[at] ^ 1 << chance.randrange(7)]) + content[at + 1 :]
    if place:
        layer["annotations"][place] = content.decode("utf-8", "replace")
    else:
        layer |= {"digest": registry.push_blob(content), "size": len(content)}
    registry.push_blob(made.blobs[json.loads(manifest.body)["layers"][0]["digest"]])
    tag = next((tag for (_, tag), name in made.tags.items() if name == manifest.digest), None)
    registry.push_manifest(PATH, document, tag=tag)
