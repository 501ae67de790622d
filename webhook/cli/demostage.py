"""What the demo plays on: registries with the captured images, some of them tampered with, and the policies that judge them."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from webhook.cli.embedded import EmbeddedRegistry
from webhook.image import Digest

NAMESPACE: Final = "shop"
_LOOKASIDE: Final = "/lookaside"

TRUSTED: Final = "127.0.0.1:5065/dct"
"""The name that is signed in the trust data; it is fetched from the registry of the demo, as from a mirror."""

_OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


@dataclass(slots=True)
class Stage:
    """Two registries with the captured images: one with the referrers API, one without, as both are met in the wild."""

    modern: str = ""
    older: str = ""
    registries: tuple[EmbeddedRegistry, EmbeddedRegistry] = field(
        default_factory=lambda: (EmbeddedRegistry(referrers_api=True), EmbeddedRegistry(referrers_api=False))
    )

    def image(self, path: str, *, older: bool = False) -> str:
        """A reference by tag, as a developer writes it."""
        return f"{self.older if older else self.modern}/{path}:v1"


def _captures() -> Path:
    return Path(str(resources.files("webhook.cli"))) / "captures"


def fill(stage: Stage) -> None:
    """What each repository holds. Whatever is broken here is broken as an attacker would, digests kept consistent."""
    captures = _captures()
    modern, older = stage.registries
    signed_v2, signed_v3 = captures / "cosign-v2-key-sigtag-notlog", captures / "cosign-key-bundle-notlog"
    for path in ("shop/signed-v2", "shop/tampered", "shop/wrong-key", "shop/both-v2-broken", "shop/both-v3-broken"):
        modern.load(path, signed_v2)
    modern.load("shop/signed-v3", captures / "referrers-api")
    older.load("shop/signed-v3", signed_v3)
    older.load("shop/both-v2-broken", signed_v3)
    older.load("shop/both-v2-broken", signed_v2)
    older.load("shop/both-v3-broken", signed_v3)
    older.load("shop/both-v3-broken", signed_v2)
    for path in ("vendor/app", "vendor/other"):
        modern.load(path, captures / "notation-chain-timestamped")
    modern.load("keyless/signed-v2", captures / "cosign-keyless-sigtag")
    older.load("keyless/signed-v3", captures / "cosign-keyless-bundle-rekor1")
    older.load("keyless/somebody-elses", captures / "cosign-keyless-bundle-rekor1")
    for path in ("scanned/web", "scanned/strict"):
        modern.load(path, captures / "cosign-attestations-bundle")
    modern.load("shop/unsigned", signed_v2)
    digest = modern.tags["shop/unsigned", "v1"]
    signature_tag = f"{digest.replace(':', '-')}.sig"
    del modern.tags["shop/unsigned", signature_tag]
    _tamper(modern, "shop/tampered", signature_tag)
    _tamper(older, "shop/both-v2-broken", signature_tag)
    _tamper_bundles(older, "shop/both-v3-broken", digest.replace(":", "-"))
    # Tags that notary signed: v2 means the image, and v1 does too, but the registry has moved it.
    modern.load_trust(TRUSTED, captures / "dct")
    modern.load("dct", signed_v2)
    modern.tags["dct", "v2"] = digest
    modern.tags["dct", "v1"] = _push_other_image(modern, "dct")
    # Another image, with the signature of the first one hung on it.
    other = _push_other_image(modern, "shop/borrowed")
    modern.load("shop/borrowed", signed_v2)
    modern.tags["shop/borrowed", "v1"] = other
    modern.tags["shop/borrowed", f"{other.replace(':', '-')}.sig"] = modern.tags["shop/borrowed", signature_tag]
    # Signed by two GPG keys; once by the second alone; once by the first, and by cosign, too.
    by_gpg = captures / "gpg-simple-signing"
    modern.load("release/by-one", signed_v2)
    modern.load("release/by-two", signed_v2)
    for path, signatures in (("shop/by-gpg", (2, 1)), ("shop/by-other-gpg", (2,)), ("release/by-two", (1,))):
        modern.load(path, by_gpg)
        folder = f"{_LOOKASIDE}/{path}@{digest.replace(':', '=')}"
        for number, signature in enumerate(signatures, start=1):
            modern.files[f"{folder}/signature-{number}"] = (by_gpg / f"signature-{signature}").read_bytes()


def _tamper(registry: EmbeddedRegistry, path: str, tag: str) -> None:
    """Changes one word of the signed payload and keeps the signature."""
    manifest: dict[str, Any] = json.loads(registry.manifests[path, registry.tags[path, tag]])
    for layer in manifest["layers"]:
        payload = registry.blobs[layer["digest"]].replace(b'"optional"', b'"optionaL"')
        layer.update(digest=registry.add_blob(payload), size=len(payload))
    registry.add_manifest(path, msgspec.json.encode(manifest), tag)


def _tamper_bundles(registry: EmbeddedRegistry, path: str, fallback_tag: str) -> None:
    """Flips a bit in the signature of every bundle that the fallback tag lists."""
    index: dict[str, Any] = json.loads(registry.manifests[path, registry.tags[path, fallback_tag]])
    for entry in index["manifests"]:
        manifest: dict[str, Any] = json.loads(registry.manifests[path, Digest(entry["digest"])])
        layer = manifest["layers"][0]
        bundle: dict[str, Any] = json.loads(registry.blobs[layer["digest"]])
        signature = bundle["dsseEnvelope"]["signatures"][0]
        flipped = bytearray(base64.b64decode(signature["sig"]))
        flipped[-1] ^= 1
        signature["sig"] = base64.b64encode(flipped).decode()
        content = msgspec.json.encode(bundle)
        layer.update(digest=registry.add_blob(content), size=len(content))
        body = msgspec.json.encode(manifest)
        entry.update(digest=registry.add_manifest(path, body), size=len(body))
    registry.add_manifest(path, msgspec.json.encode(index), fallback_tag)


def _push_other_image(registry: EmbeddedRegistry, path: str) -> Digest:
    config = registry.add_blob(b'{"architecture":"amd64","os":"linux"}')
    document = {
        "schemaVersion": 2,
        "mediaType": _OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 37, "digest": config},
        "layers": [],
    }
    return registry.add_manifest(path, msgspec.json.encode(document))


def policies_of(stage: Stage) -> str:
    """The policies of the demo. Some are there to be disappointed: their key, their identity or their vendor signed nothing, or a report is too bad."""
    release = {"cosign": {"key": (_captures() / "cosign.pub").read_text()}}
    other = {"cosign": {"key": (_captures() / "other.pub").read_text()}}
    attester = {"name": "ci", "cosign": {"key": (_captures() / "attest.pub").read_text()}}
    vendor = {
        "gpg": {
            "keys": _armored((_captures() / "gpg-rsa3072.pub").read_bytes()),
            "lookaside": f"http://{stage.modern}{_LOOKASIDE}",
            # Signed where the vendor publishes it, under another name than it has here.
            "identity": {"reference": "127.0.0.1:5065/gpg/app:v1"},
        }
    }
    legacy = {"dct": {"server": f"http://{stage.modern}", "rootKeys": [(_captures() / "dct.pem").read_text()]}}
    hosts, by_gpg = [stage.modern, stage.older], f"{stage.modern}/shop/by-*"
    return "---\n".join(
        [
            _policy(
                "shop",
                [f"{host}/shop/**" for host in hosts],
                [*(f"{host}/shop/wrong-key" for host in hosts), by_gpg],
                {"name": "release", **release},
            ),
            _policy("strict", [f"{stage.modern}/shop/wrong-key"], [], {"name": "vendor", **other}),
            _policy("by-gpg", [by_gpg], [], {"name": "vendor", **vendor}),
            _policy("legacy", [TRUSTED], [], {"name": "legacy", **legacy}),
            _policy("by-certificate", [f"{stage.modern}/vendor/app"], [], _by_certificate("C=US, ST=WA, O=Acme")),
            _policy("another-vendor", [f"{stage.modern}/vendor/other"], [], _by_certificate("C=US, ST=WA, O=Other")),
            _policy("two-of-three", [f"{stage.modern}/release/**"], [], {}, _two_of(release, vendor, other)),
            _policy("unreachable", ["127.0.0.1:1/**"], [], {"name": "release", **release}),
            _policy("keyless", [f"{host}/keyless/signed-*" for host in hosts], [], _keyless("dev@acme.test")),
            _policy("somebody", [f"{stage.older}/keyless/somebody-*"], [], _keyless("ops@acme.test")),
            _policy("scanned", [f"{stage.modern}/scanned/web"], [], attester, _attested('"HIGH", "CRITICAL"')),
            _policy("flawless", [f"{stage.modern}/scanned/strict"], [], attester, _attested('"MEDIUM", "HIGH"')),
        ]
    )


def _two_of(release: Mapping[str, object], vendor: Mapping[str, object], qa: Mapping[str, object]) -> dict[str, object]:
    """Two of three, whichever traditions they sign in."""
    signers = [{"name": "release", **release}, {"name": "vendor", **vendor}, {"name": "qa", **qa}]
    return {"signers": signers, "require": "2 of (release, vendor, qa)"}


def _by_certificate(subject: str) -> dict[str, object]:
    """A signer whose certificate an authority has issued to `subject`, and whose signature was timestamped."""
    stores = {"ca": "root.pem", "tsa": "tsa-root.pem"}
    notation = {
        "trustStores": [
            {"type": kind, "certs": (_captures() / "notation" / file).read_text()} for kind, file in stores.items()
        ],
        "trustedIdentities": [f"x509.subject: {subject}"],
        # Nobody answers for the authority that the captured signature's certificates were made by.
        "override": {"revocation": "skip"},
    }
    return {"name": "vendor", "notation": notation}


def _keyless(subject: str) -> dict[str, object]:
    """A signer by identity, under the sigstore that the captures were made with; what they prove, they prove at any later time."""
    who = {"issuer": "https://accounts.acme.test", "subject": subject}
    root = (_captures() / "trusted_root.json").read_text()
    return {"name": "ci", "cosign": {"keyless": who, "trustRoot": root}}


def _attested(refused: str) -> dict[str, object]:
    """Built where it should be, and nothing of these severities found."""
    builder = 'predicate.runDetails.builder.id == "https://ci.example/builders/release"'
    found = f"r.Vulnerabilities.exists(v, v.Severity in [{refused}])"
    clean = f"predicate.scanner.result.Results.all(r, !has(r.Vulnerabilities) || !{found})"
    return {
        "attestations": [
            {"name": "provenance", "type": "https://slsa.dev/provenance/v1", "where": builder},
            {"name": "scan", "type": "vuln", "where": clean},
        ],
        "require": "provenance and scan",
    }


def _policy(
    name: str,
    images: list[str],
    exclude: list[str],
    signer: Mapping[str, object],
    more: Mapping[str, object] | None = None,
) -> str:
    document = {
        "apiVersion": "trusted-images.dev/v1alpha1",
        "kind": "TrustPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "images": images,
            **({"exclude": exclude} if exclude else {}),
            "signers": [signer],
            **(more or {}),
        },
    }
    # JSON is YAML, and this one is shown to nobody.
    return json.dumps(document) + "\n"


def _armored(key: bytes) -> str:
    """A binary OpenPGP key as a policy can hold it."""
    text = base64.encodebytes(key).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}-----END PGP PUBLIC KEY BLOCK-----\n"
