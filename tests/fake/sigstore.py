"""A sigstore of one's own in memory: a certificate authority, a certificate log, transparency logs, a timestamp authority.

Every answer is right unless an argument makes it wrong, and every time is an argument. `tests.fake.sigstore_http` serves it to the real
cosign. Sources: RFC 6962; Rekor's JSON schemas; protobuf-specs; C2SP signed-note.
"""

import base64
import copy
import datetime as dt
import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fake.pki import DAY, NOW, TIME_STAMPING, Issued, issue, timestamp
from tests.fake.signing import SigningKey, envelope, key
from webhook.formats._dsse import pae

Json = dict[str, Any]
Edit = Callable[[Json], object]

ISSUER: Final = "https://accounts.test"
SUBJECT: Final = "dev@acme.test"
_FULCIO: Final = "1.3.6.1.4.1.57264.1."
_SCTS: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def tlv(tag: int, content: bytes) -> bytes:
    """DER of one value."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def utf8_string(text: str) -> bytes:
    return tlv(0x0C, text.encode())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class CertificateLog:
    """Signs that it was shown a certificate."""

    key: SigningKey = field(default_factory=lambda: key("ct"))

    @property
    def identity(self) -> bytes:
        return sha256(self.key.spki)

    def sign(self, precertificate: bytes, issuer: bytes, at: dt.datetime) -> bytes:
        """A v1 SCT."""
        moment = struct.pack(">Q", round(at.timestamp() * 1000))
        entry = sha256(issuer) + len(precertificate).to_bytes(3, "big") + precertificate
        signature = self.key.sign(b"\0\0" + moment + b"\0\1" + entry + b"\0\0")
        return b"\0" + self.identity + moment + b"\0\0" + b"\4\3" + struct.pack(">H", len(signature)) + signature


def _sct_list(scts: Sequence[bytes]) -> bytes:
    content = b"".join(struct.pack(">H", len(sct)) + sct for sct in scts)
    return tlv(0x04, struct.pack(">H", len(content)) + content)


@dataclass
class Fulcio:
    """A root, an intermediate, and the certificates of minutes that it issues."""

    root: Issued
    intermediate: Issued

    @classmethod
    def make(cls, begins: dt.datetime = NOW - DAY, ends: dt.datetime = NOW + 3650 * DAY) -> "Fulcio":
        root = issue("fake fulcio root", ca=True, begins=begins, ends=ends)
        return cls(root, issue("fake fulcio intermediate", root, ca=True, begins=begins, ends=ends))

    def issue(
        self,
        public: CertificateIssuerPublicKeyTypes,
        at: dt.datetime = NOW,
        *,
        names: Sequence[x509.GeneralName] = (x509.RFC822Name(SUBJECT),),
        issuer: str | None = ISSUER,
        raw_issuer: str | None = None,
        said: Mapping[int, str] | None = None,
        further: Sequence[x509.ExtensionType] = (),
        logs: Sequence[CertificateLog] = (),
        shown_at: dt.datetime | None = None,
        lifetime: dt.timedelta = dt.timedelta(minutes=10),
        purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CODE_SIGNING,),
        signs: bool = True,
    ) -> x509.Certificate:
        """A certificate for `public`; `said` are texts by the last number of their identifier."""
        usage = x509.KeyUsage(signs, not signs, False, False, False, False, False, False, False)
        by = self.intermediate
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(by.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + lifetime)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=True)
        texts = {8: issuer, **(said or {})}
        extensions = [(number, utf8_string(text)) for number, text in texts.items() if text is not None]
        if raw_issuer is not None:
            extensions.append((1, raw_issuer.encode()))
        for number, content in extensions:
            identifier = x509.ObjectIdentifier(f"{_FULCIO}{number}")
            builder = builder.add_extension(x509.UnrecognizedExtension(identifier, content), critical=False)
        for extension in further:
            builder = builder.add_extension(extension, critical=False)
        if logs:
            precertificate = builder.sign(by.key, hashes.SHA256()).tbs_certificate_bytes
            spki = by.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            scts = [log.sign(precertificate, spki, shown_at or at) for log in logs]
            builder = builder.add_extension(x509.UnrecognizedExtension(_SCTS, _sct_list(scts)), critical=False)
        return builder.sign(by.key, hashes.SHA256())


# ── transparency logs ────────────────────────────────────────────────────────────────────────────────────────────────
def _split(size: int) -> int:
    """The largest power of two below size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def inclusion_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_path(index, leaves[:k]), tree_hash(leaves[k:])]
    return [*inclusion_path(index - k, leaves[k:]), tree_hash(leaves[:k])]


@dataclass
class TransparencyLog:
    """Rekor, of both versions. The origin of version 1 ends with the number of its tree. `ed25519`: named as logs with such a key are."""

    key: SigningKey = field(default_factory=lambda: key("rekor"))
    origin: str = "rekor.test - 1"
    leaves: list[bytes] = field(default_factory=list)

    @classmethod
    def ed25519(cls, origin: str = "log2026.rekor.test") -> "TransparencyLog":
        return cls(SigningKey(ed25519.Ed25519PrivateKey.generate()), origin)

    @property
    def identity(self) -> bytes:
        private = self.key.private
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return sha256(self.origin.encode() + b"\n\x01" + private.public_key().public_bytes_raw())
        return sha256(self.key.spki)

    def append(self, body: bytes) -> int:
        self.leaves.append(sha256(b"\0" + body))
        return len(self.leaves) - 1

    def checkpoint(self, size: int | None = None) -> str:
        size = len(self.leaves) if size is None else size
        note = f"{self.origin}\n{size}\n{b64(tree_hash(self.leaves[:size]))}\n"
        name = self.origin.partition(" ")[0]
        return f"{note}\n\N{EM DASH} {name} {b64(self.identity[:4] + self.key.sign(note.encode()))}\n"

    def proof(self, index: int) -> Json:
        return {
            "logIndex": str(index),
            "rootHash": b64(tree_hash(self.leaves)),
            "treeSize": str(len(self.leaves)),
            "hashes": [b64(node) for node in inclusion_path(index, self.leaves)],
            "checkpoint": {"envelope": self.checkpoint()},
        }

    def promise(self, body: bytes, seconds: int, index: int) -> bytes:
        """A signed entry timestamp."""
        said = {"body": b64(body), "integratedTime": seconds, "logID": self.identity.hex(), "logIndex": index}
        return self.key.sign(canonical(said))

    def entry(self, body: Json, at: dt.datetime | None) -> Json:
        """A bundle's entry: with the log's promise and time (Rekor 1), or without (`at` None, Rekor 2)."""
        raw = canonical(body)
        index = self.append(raw)
        entry: Json = {
            "logIndex": str(index),
            "logId": {"keyId": b64(self.identity)},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "inclusionProof": self.proof(index),
            "canonicalizedBody": b64(raw),
        }
        if at is not None:
            seconds = int(at.timestamp())
            entry["integratedTime"] = str(seconds)
            entry["inclusionPromise"] = {"signedEntryTimestamp": b64(self.promise(raw, seconds, index))}
        return entry

    def annotation(self, body: Json, at: dt.datetime) -> Json:
        """What cosign writes beside a classic signature."""
        raw = canonical(body)
        index, seconds = self.append(raw), int(at.timestamp())
        return {
            "SignedEntryTimestamp": b64(self.promise(raw, seconds, index)),
            "Payload": {
                "body": b64(raw),
                "integratedTime": seconds,
                "logIndex": index,
                "logID": self.identity.hex(),
            },
        }


@dataclass(frozen=True)
class Made:
    """A signature, and what an entry says of it. `verifier`: a PEM of the certificate or of the key."""

    message: bytes
    payload: bytes
    signature: bytes
    verifier: str

    @property
    def verifier_v2(self) -> Json:
        lines = self.verifier.strip().split("\n")
        raw = {"rawBytes": "".join(lines[1:-1])}
        kind = "x509Certificate" if "CERTIFICATE" in lines[0] else "publicKey"
        return {kind: raw, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}


def hashedrekord(made: Made) -> Json:
    signature = {"content": b64(made.signature), "publicKey": {"content": b64(made.verifier.encode())}}
    data = {"hash": {"algorithm": "sha256", "value": sha256(made.message).hex()}}
    return {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {"data": data, "signature": signature}}


def hashedrekord_v2(made: Made) -> Json:
    spec = {
        "data": {"algorithm": "SHA2_256", "digest": b64(sha256(made.message))},
        "signature": {"content": b64(made.signature), "verifier": made.verifier_v2},
    }
    return {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}}


def dsse(made: Made) -> Json:
    spec = {
        "envelopeHash": {"algorithm": "sha256", "value": sha256(b"as the client wrote it").hex()},
        "payloadHash": {"algorithm": "sha256", "value": sha256(made.payload).hex()},
        "signatures": [{"signature": b64(made.signature), "verifier": b64(made.verifier.encode())}],
    }
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}


def dsse_v2(made: Made) -> Json:
    spec = {
        "payloadHash": {"algorithm": "SHA2_256", "digest": b64(sha256(made.payload))},
        "signatures": [{"content": b64(made.signature), "verifier": made.verifier_v2}],
    }
    return {"apiVersion": "0.0.2", "kind": "dsse", "spec": {"dsseV002": spec}}


def intoto(made: Made) -> Json:
    signature = {"publicKey": b64(made.verifier.encode()), "sig": b64(b64(made.signature).encode())}
    content = {
        "envelope": {"payloadType": "application/vnd.in-toto+json", "signatures": [signature]},
        "hash": {"algorithm": "sha256", "value": sha256(b"as the client wrote it").hex()},
        "payloadHash": {"algorithm": "sha256", "value": sha256(made.payload).hex()},
    }
    return {"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": content}}


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Sigstore:
    """One instance, with the trust root that its users hold."""

    fulcio: Fulcio = field(default_factory=Fulcio.make)
    certificates: CertificateLog = field(default_factory=CertificateLog)
    log: TransparencyLog = field(default_factory=TransparencyLog)
    log_v2: TransparencyLog = field(default_factory=TransparencyLog.ed25519)
    stamps: Issued = field(default_factory=lambda: issue("fake tsa root", ca=True, ends=NOW + 3650 * DAY))
    stamper: Issued = field(init=False)

    def __post_init__(self) -> None:
        self.stamper = issue("fake tsa", self.stamps, purposes=[TIME_STAMPING], ends=NOW + 3650 * DAY)

    def trusted_root(self, edit: Edit | None = None) -> str:
        """`trusted_root.json`; everything is in force from the day before on."""
        since = {"start": "2026-11-01T00:00:00Z"}

        def log(of: TransparencyLog | CertificateLog, details: str) -> Json:
            return {
                "baseUrl": "https://log.test",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": b64(of.key.spki), "keyDetails": details, "validFor": dict(since)},
                "logId": {"keyId": b64(of.identity)},
            }

        def authority(*chain: Issued) -> Json:
            certificates = [{"rawBytes": b64(one.der)} for one in chain]
            return {
                "uri": "https://ca.test",
                "certChain": {"certificates": certificates},
                "validFor": dict(since),
            }

        document: Json = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log, "PKIX_ECDSA_P256_SHA_256"), log(self.log_v2, "PKIX_ED25519")],
            "certificateAuthorities": [authority(self.fulcio.intermediate, self.fulcio.root)],
            "ctlogs": [log(self.certificates, "PKIX_ECDSA_P256_SHA_256")],
            "timestampAuthorities": [authority(self.stamper, self.stamps)],
        }
        changed = copy.deepcopy(document)
        if edit is not None:
            edit(changed)
        return json.dumps(changed)

    def certify(self, signer: SigningKey, at: dt.datetime = NOW, **options: Any) -> x509.Certificate:
        """A certificate for this key, shown to the certificate log."""
        public = signer.private.public_key()
        return self.fulcio.issue(public, at, **{"logs": [self.certificates], **options})

    def stamp(self, signature: bytes, at: dt.datetime = NOW) -> bytes:
        """A timestamp over a signature."""
        return timestamp(self.stamper, signature, at)

    def bundle(
        self,
        statement: bytes,
        *,
        signer: SigningKey | None = None,
        certificate: x509.Certificate | None = None,
        at: dt.datetime = NOW,
        body: Callable[[Made], Json] = dsse,
        version: str = "0.3",
        logged: bool = True,
        stamped: bool = False,
    ) -> Json:
        """A keyless bundle over a statement, logged in the log that has such entries."""
        signer = signer or key("keyless")
        certificate = certificate or self.certify(signer, at)
        payload_type = "application/vnd.in-toto+json"
        message = pae(payload_type, statement)
        signature = signer.sign(message)
        made = Made(message, statement, signature, pem(certificate))
        raw = {"rawBytes": b64(der(certificate))}
        material: Json = {"certificate": raw}
        if version in {"0.1", "0.2"}:
            material = {"x509CertificateChain": {"certificates": [raw]}}
        if logged:
            is_v2 = body in {hashedrekord_v2, dsse_v2}
            material["tlogEntries"] = [(self.log_v2 if is_v2 else self.log).entry(body(made), None if is_v2 else at)]
        if stamped:
            token = {"signedTimestamp": b64(self.stamp(signature, at))}
            material["timestampVerificationData"] = {"rfc3161Timestamps": [token]}
        media_type = f"application/vnd.dev.sigstore.bundle+json;version={version}"
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json" if version == "0.3" else media_type,
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": b64(statement),
                "payloadType": payload_type,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    def annotations(
        self,
        payload: bytes,
        *,
        signer: SigningKey | None = None,
        certificate: x509.Certificate | None = None,
        at: dt.datetime = NOW,
        logged: bool = True,
        stamped: bool = False,
    ) -> dict[str, str]:
        """What lies beside a classic keyless signature over `payload`."""
        signer = signer or key("keyless")
        certificate = certificate or self.certify(signer, at)
        signature = signer.sign(payload)
        made = Made(payload, b"", signature, pem(certificate))
        written = {
            "dev.cosignproject.cosign/signature": b64(signature),
            "dev.sigstore.cosign/certificate": pem(certificate),
            "dev.sigstore.cosign/chain": "",
        }
        if logged:
            written["dev.sigstore.cosign/bundle"] = json.dumps(self.log.annotation(hashedrekord(made), at))
        if stamped:
            token = {"SignedRFC3161Timestamp": b64(self.stamp(signature, at))}
            written["dev.sigstore.cosign/rfc3161timestamp"] = json.dumps(token)
        return written

    def attestation(
        self,
        statement: bytes,
        *,
        signer: SigningKey | None = None,
        certificate: x509.Certificate | None = None,
        at: dt.datetime = NOW,
        body: Callable[[Made], Json] = dsse,
        logged: bool = True,
    ) -> tuple[Json, dict[str, str]]:
        """A keyless envelope over a statement, and what lies beside it on the `.att` tag."""
        signer = signer or key("keyless")
        certificate = certificate or self.certify(signer, at)
        made_envelope = envelope(signer, statement)
        signature = base64.b64decode(made_envelope["signatures"][0]["sig"])
        made = Made(pae(made_envelope["payloadType"], statement), statement, signature, pem(certificate))
        written = {"dev.cosignproject.cosign/signature": "", "dev.sigstore.cosign/certificate": pem(certificate)}
        if logged:
            written["dev.sigstore.cosign/bundle"] = json.dumps(self.log.annotation(body(made), at))
        return made_envelope, written
