"""A notary server's repository, whole and valid, with keys of our own; every field can be overridden, so that an attack is one line.

Written from the specification and not with our reader: the canonical form is another library's.
"""

import base64
import copy
import datetime as dt
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from securesystemslib.formats import encode_canonical

from tests.captures import NOW
from tests.fake.registry import FakeRegistry, to_json
from tests.fake.signing import Edit, Private, SigningKey

SERVER = "https://notary.test"
RELEASES = "targets/releases"
BASE_ROLES = ("root", "timestamp", "snapshot", "targets")


def canonical(value: Any) -> bytes:
    """OLPC's canonical form."""
    return str(encode_canonical(value)).encode()


@dataclass(frozen=True)
class NotaryKey:
    """A key as notary lists it and signs with it. `pem`: the certificate that it comes in, for the x509 kinds."""

    kind: str
    private: Private
    pem: bytes = b""

    @property
    def public(self) -> SigningKey:
        """The bare key, as policies name it."""
        return SigningKey(self.private)

    @property
    def listed(self) -> dict[str, Any]:
        """As metadata lists it."""
        if self.pem:
            content = self.pem
        elif isinstance(self.private, ed25519.Ed25519PrivateKey):
            content = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        else:
            content = self.public.spki
        return {"keytype": self.kind, "keyval": {"private": None, "public": base64.b64encode(content).decode()}}

    @property
    def id(self) -> str:
        """The hash of the canonical form of that."""
        return hashlib.sha256(canonical(self.listed)).hexdigest()

    def sign(self, message: bytes) -> dict[str, Any]:
        """As notary signs: ECDSA as r and s, RSA as PSS."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            method, signature = "eddsa", self.private.sign(message)
        elif isinstance(self.private, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            method, signature = "rsapss", self.private.sign(message, pss, hashes.SHA256())
        else:
            size = (self.private.curve.key_size + 7) // 8
            r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
            method, signature = "ecdsa", r.to_bytes(size) + s.to_bytes(size)
        return {"keyid": self.id, "method": method, "sig": base64.b64encode(signature).decode()}


def certified(
    private: Private,
    *names: str,
    begins: dt.datetime = NOW - dt.timedelta(days=1),
    ends: dt.datetime = NOW + dt.timedelta(days=3650),
) -> NotaryKey:
    """A key in a certificate with these common names, as notary makes one for a root."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "placeholder")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(private, None if isinstance(private, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    # The library makes no names as long as repositories have; nobody looks at the certificate's own signature.
    written = asn1.Certificate.load(certificate.public_bytes(Encoding.DER))
    subject = [
        asn1.RelativeDistinguishedName([{"type": "common_name", "value": asn1.DirectoryString("utf8_string", n)}])
        for n in names
    ]
    written["tbs_certificate"]["subject"] = asn1.Name("", asn1.RDNSequence(subject))
    pem = x509.load_der_x509_certificate(written.dump(force=True)).public_bytes(Encoding.PEM)
    return NotaryKey("rsa-x509" if isinstance(private, rsa.RSAPrivateKey) else "ecdsa-x509", private, pem)


@functools.cache
def root_key(name: str, gun: str) -> NotaryKey:
    """A root key by name, in a certificate for this repository: publishers have one key and many certificates."""
    return certified(_private(name), gun)


@functools.cache
def plain_key(name: str, kind: str = "ecdsa") -> NotaryKey:
    """A key of another role by name."""
    return NotaryKey(kind, _private(name, kind))


@functools.cache
def _private(name: str, kind: str = "ecdsa") -> Private:
    match kind:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case _:
            return ec.generate_private_key(ec.SECP256R1())


def in_time(days: float) -> str:
    """A time so many days after now, as Go writes it."""
    return f"{(NOW + dt.timedelta(days=days)).strftime('%Y-%m-%dT%H:%M:%S')}.283089885Z"


@dataclass
class NotaryRepository:
    """What the repository says; `publish` signs it and puts it where a server would. Roles by their full names.

    `edit` changes what is signed, `tamper` the document after signing, `raw` its bytes before they are listed by the next role, and
    `served` after that.
    """

    gun: str
    targets: Mapping[str, Mapping[str, str]]
    keys: dict[str, list[NotaryKey]] = field(default_factory=dict)
    signing: dict[str, list[NotaryKey]] = field(default_factory=dict)
    thresholds: dict[str, int] = field(default_factory=dict)
    paths: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    expires: dict[str, str] = field(default_factory=dict)
    edit: dict[str, Edit] = field(default_factory=dict)
    tamper: dict[str, Edit] = field(default_factory=dict)
    raw: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    served: dict[str, Callable[[bytes], bytes | None]] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    earlier_roots: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults = {
            "root": root_key("root", self.gun),
            "timestamp": plain_key("timestamp", "ed25519"),
            "snapshot": plain_key("snapshot", "ed25519"),
            "targets": plain_key("targets"),
        }
        for role in {*BASE_ROLES, *self.targets}:
            self.keys.setdefault(role, [defaults.get(role) or plain_key(role)])

    @property
    def root_pem(self) -> str:
        """The root key, as a policy names it."""
        return self.keys["root"][0].public.pem

    def publish(self, registry: FakeRegistry, server: str = SERVER) -> dict[str, bytes]:
        """Signs all of it and serves it under its names and under those with its hashes. What was served before is gone."""
        prefix = f"{server}/v2/{self.gun}/_trust/tuf/"
        for url in [url for url in registry.documents if url.startswith(prefix)]:
            del registry.documents[url]
        made = self.made()
        for version, content in self.earlier_roots.items():
            registry.documents[f"{prefix}{version}.root.json"] = content
        for role, content in made.items():
            answer = self.served.get(role, _unchanged)(content)
            if answer is not None:
                registry.documents[f"{prefix}{role}.json"] = answer
                registry.documents[f"{prefix}{role}.{hashlib.sha256(content).hexdigest()}.json"] = answer
        return made

    def made(self) -> dict[str, bytes]:
        """The bytes of every role, each listed by the next."""
        made = {"root": self._signed("root", self._root())}
        for role in self.targets:
            made[role] = self._signed(role, self._targets(role))
        listed = {role: file_meta(content) for role, content in made.items() if role not in self.unlisted}
        made["snapshot"] = self._signed("snapshot", {"_type": "Snapshot", "meta": listed})
        meta = {} if "snapshot" in self.unlisted else {"snapshot": file_meta(made["snapshot"])}
        made["timestamp"] = self._signed("timestamp", {"_type": "Timestamp", "meta": meta})
        return made

    def _root(self) -> dict[str, Any]:
        return {
            "_type": "Root",
            "consistent_snapshot": False,
            "keys": {key.id: key.listed for role in BASE_ROLES for key in self.keys[role]},
            "roles": {role: self._role(role) for role in BASE_ROLES},
        }

    def _role(self, role: str) -> dict[str, Any]:
        return {"keyids": [key.id for key in self.keys[role]], "threshold": self.thresholds.get(role, 1)}

    def _targets(self, role: str) -> dict[str, Any]:
        children = [name for name in self.targets if name.rpartition("/")[0] == role]
        return {
            "_type": "Targets",
            "delegations": {
                "keys": {key.id: key.listed for name in children for key in self.keys[name]},
                "roles": [{"name": n, "paths": self.paths.get(n, [""]), **self._role(n)} for n in children],
            },
            "targets": {
                tag: {"hashes": {"sha256": in_base64(digest)}, "length": 401}
                for tag, digest in self.targets[role].items()
            },
        }

    def _signed(self, role: str, said: dict[str, Any]) -> bytes:
        expires = self.expires.get(role) or in_time(14 if role == "timestamp" else 1000)
        signed = {**said, "expires": expires, "version": self.versions.get(role, 1)}
        self.edit.get(role, _nothing)(signed)
        message = canonical(signed)
        signatures = [key.sign(message) for key in self.signing.get(role, self.keys[role])]
        document = {"signed": signed, "signatures": signatures}
        self.tamper.get(role, _nothing)(document)
        return self.raw.get(role, _unchanged)(to_json(document))

    def copy(self, **changed: Any) -> "NotaryRepository":
        """Another repository that says the same, but for these fields."""
        same = {name: copy.copy(value) for name, value in vars(self).items()}
        return NotaryRepository(**{**same, **changed})


def _unchanged(content: bytes) -> bytes:
    return content


def _nothing(_document: dict[str, Any]) -> None:
    return


def file_meta(content: bytes) -> dict[str, Any]:
    """A file's length and hashes, as timestamp and snapshot list them."""
    found = {name: base64.b64encode(hashlib.new(name, content).digest()).decode() for name in ("sha256", "sha512")}
    return {"hashes": found, "length": len(content)}


def in_base64(digest: str) -> str:
    """A digest as targets metadata writes it."""
    return base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()


def rotated(repository: NotaryRepository, *generations: Sequence[NotaryKey]) -> NotaryRepository:
    """The same repository after its root keys were replaced, once for each further generation; each root signed by old and new."""
    made: Mapping[int, bytes] = {}
    current = repository
    for version, (old, new) in enumerate(zip([repository.keys["root"], *generations], generations, strict=False), 1):
        made = {**made, version: current.made()["root"]}
        current = current.copy(
            keys={**current.keys, "root": list(new)},
            signing={**current.signing, "root": [*old, *new]},
            versions={**current.versions, "root": version + 1},
            earlier_roots=dict(made),
        )
    return current


def load_capture(registry: FakeRegistry, folder: Any, gun: str, server: str = SERVER) -> None:
    """Serves what a real server held (tests/captures/dct), under its names and under those with its hashes."""
    for file in folder.rglob("*.json"):
        role, content = str(file.relative_to(folder)).removesuffix(".json"), file.read_bytes()
        for name in (role, f"{role}.{hashlib.sha256(content).hexdigest()}"):
            registry.documents[f"{server}/v2/{gun}/_trust/tuf/{name}.json"] = content


def parsed(content: bytes) -> Any:
    """The document in these bytes."""
    return json.loads(content)
