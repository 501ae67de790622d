"""Signs into a `FakeRegistry` exactly as notation does, in JWS and COSE; every field can be overridden, so that an attack is one argument away.

Certificates, revocation lists and OCSP answers too: of everything that a Notary Project signature rests on.
"""

import base64
import datetime as dt
import functools
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from tests.fake.pki import DAY, NOW, Issued, timestamp
from tests.fake.registry import OCI_MANIFEST, FakeRegistry, to_json
from tests.fake.signing import Edit, list_in_fallback
from webhook.image import Digest, digest_of

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Form = Literal["jws", "cose"]
Extension = tuple[x509.ExtensionType, bool]
Hash = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512

SIGNATURE: Final = "application/vnd.cncf.notary.signature"
MEDIA_TYPES: Final = {"jws": "application/jose+json", "cose": "application/cose"}
PAYLOAD_TYPE: Final = "application/vnd.cncf.notary.payload.v1+json"
SCHEME: Final = "io.cncf.notary.signingScheme"
SIGNING_TIME: Final = "io.cncf.notary.signingTime"
AUTHENTIC_TIME: Final = "io.cncf.notary.authenticSigningTime"
EXPIRY: Final = "io.cncf.notary.expiry"
TIMESTAMP: Final = "io.cncf.notary.timestampSignature"
_COSE: Final = {"PS256": -37, "PS384": -38, "PS512": -39, "ES256": -7, "ES384": -35, "ES512": -36}
_LABELS: Final = {"alg": 1, "crit": 2, "cty": 3, "x5c": 33}


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Party:
    """A certificate, its key, and the parties above."""

    certificate: x509.Certificate
    private: Private
    issuer: "Party | None" = None

    @property
    def chain(self) -> list[bytes]:
        """In DER, the leaf first."""
        return [self.der, *(self.issuer.chain if self.issuer else ())]

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def issued(self) -> Issued:
        """As the maker of timestamps knows it."""
        assert isinstance(self.private, ec.EllipticCurvePrivateKey)
        return Issued(self.certificate, self.private)


def subject(common: str, **others: str) -> x509.Name:
    """`C=US, ST=WA, O=Acme, CN=common`, each replaced or left out ("") by name."""
    kinds = {
        "C": NameOID.COUNTRY_NAME,
        "ST": NameOID.STATE_OR_PROVINCE_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "CN": NameOID.COMMON_NAME,
    }
    values = {"C": "US", "ST": "WA", "O": "Acme", "CN": common, **others}
    return x509.Name([x509.NameAttribute(kinds[kind], value) for kind, value in values.items() if value])


def key_usage(*names: str) -> x509.KeyUsage:
    """A key usage with these bits."""
    ends = ["encipher_only", "decipher_only", "key_cert_sign", "crl_sign", "key_agreement"]
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", *ends]
    return x509.KeyUsage(**{name: name in names for name in every})


LEAF: Final[tuple[Extension, ...]] = (
    (x509.BasicConstraints(ca=False, path_length=None), True),
    (key_usage("digital_signature"), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
)
AUTHORITY: Final[tuple[Extension, ...]] = (
    (x509.BasicConstraints(ca=True, path_length=None), True),
    (key_usage("key_cert_sign", "crl_sign"), True),
)


@functools.cache
def private_key(kind: str) -> Private:
    """A key of this kind, the same each time: `P-256`, `P-256 other`, `RSA-2048`, `Ed25519`."""
    name = kind.partition(" ")[0]
    if name == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if name.startswith("RSA"):
        return rsa.generate_private_key(65537, int(name[4:]))
    curves: dict[str, ec.EllipticCurve] = {"P-192": ec.SECP192R1(), "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
    return ec.generate_private_key(curves.get(name, ec.SECP521R1()))


def party(
    common: str,
    issuer: Party | None = None,
    extensions: Sequence[Extension] | None = None,
    *,
    more: Sequence[Extension] = (),
    name: x509.Name | None = None,
    key: str | None = None,
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime = NOW + DAY,
    hashed: Hash | None = None,
    issuer_name: x509.Name | None = None,
) -> Party:
    """A certificate with these extensions, self-signed without `issuer`: a leaf's by default."""
    private = private_key(key or f"P-256 {common}")
    own = name or subject(common)
    above = issuer_name or (issuer.certificate.subject if issuer else own)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(above)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension, critical in (*(LEAF if extensions is None else extensions), *more):
        builder = builder.add_extension(extension, critical)
    by = issuer.private if issuer else private
    algorithm = None if isinstance(by, ed25519.Ed25519PrivateKey) else hashed or hashes.SHA256()
    return Party(builder.sign(by, algorithm), private, issuer)


def with_sha1(made: Party) -> Party:
    """The same certificate, signed with SHA-1, which the library makes no more."""
    by = (made.issuer or made).private
    assert isinstance(by, rsa.RSAPrivateKey)
    certificate = asn1_x509.Certificate.load(made.der)
    for place in (certificate["tbs_certificate"]["signature"], certificate["signature_algorithm"]):
        place["algorithm"] = "sha1_rsa"
    signature = by.sign(certificate["tbs_certificate"].dump(force=True), padding.PKCS1v15(), hashes.SHA1())
    certificate["signature_value"] = signature
    loaded = x509.load_der_x509_certificate(certificate.dump(force=True))
    return Party(loaded, made.private, made.issuer)


def authority(common: str, issuer: Party | None = None, **options: Any) -> Party:
    """A certificate authority."""
    return party(common, issuer, options.pop("extensions", AUTHORITY), **options)


def responder_at(*urls: str) -> Extension:
    """Names OCSP responders."""
    accesses = [
        x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url)) for url in urls
    ]
    return x509.AuthorityInformationAccess(accesses), False


def list_at(*points: Sequence[str]) -> Extension:
    """Names distribution points, each with its URLs."""
    return x509.CRLDistributionPoints([_point(urls) for urls in points]), False


def delta_at(*urls: str) -> x509.FreshestCRL:
    """Names where changes since the list are."""
    return x509.FreshestCRL([_point(urls)])


def _point(urls: Sequence[str]) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url) for url in urls], None, None, None)


# ── revocation ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Entry:
    """One entry of a revocation list."""

    who: Party
    reason: x509.ReasonFlags | None = x509.ReasonFlags.key_compromise
    invalid_since: dt.datetime | None = None
    more: tuple[Extension, ...] = ()


def revocation_list(
    issuer: Party,
    *entries: Entry,
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime = NOW + DAY,
    number: int | None = 1,
    by: Party | None = None,
    name: x509.Name | None = None,
    hashed: Hash | None = None,
    extensions: Sequence[Extension] = (),
) -> bytes:
    """A list in DER; `by`: signed by somebody else."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name or issuer.certificate.subject)
        .last_update(begins)
        .next_update(ends)
    )
    for entry in entries:
        one = (
            x509.RevokedCertificateBuilder()
            .serial_number(entry.who.certificate.serial_number)
            .revocation_date(NOW - DAY)
        )
        if entry.reason is not None:
            one = one.add_extension(x509.CRLReason(entry.reason), critical=False)
        if entry.invalid_since is not None:
            one = one.add_extension(x509.InvalidityDate(entry.invalid_since.replace(tzinfo=None)), critical=False)
        for extension, critical in entry.more:
            one = one.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(one.build())
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    private = (by or issuer).private
    algorithm = None if isinstance(private, ed25519.Ed25519PrivateKey) else hashed or hashes.SHA256()
    return builder.sign(private, algorithm).public_bytes(Encoding.DER)


def ocsp_answer(
    who: Party,
    *,
    revoked: bool = False,
    status: ocsp.OCSPCertStatus | None = None,
    about: Party | None = None,
    by: Party | None = None,
    certificates: Sequence[Party] = (),
    begins: dt.datetime = NOW - DAY,
    ends: dt.datetime | None = NOW + DAY,
    hashed: Hash | None = None,
    named_by: hashes.HashAlgorithm | None = None,
    extensions: Sequence[Extension] = (),
) -> bytes:
    """A responder's answer in DER; `by`: signed by somebody else than the issuer, with these certificates."""
    issuer = who.issuer
    assert issuer is not None
    found = status or (ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD)
    is_revoked = found is ocsp.OCSPCertStatus.REVOKED
    signer = by or issuer
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            (about or who).certificate,
            issuer.certificate,
            named_by or hashes.SHA1(),
            found,
            begins,
            ends,
            NOW - DAY if is_revoked else None,
            x509.ReasonFlags.key_compromise if is_revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    )
    if certificates:
        builder = builder.certificates([one.certificate for one in certificates])
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    private = signer.private
    algorithm = None if isinstance(private, ed25519.Ed25519PrivateKey) else hashed or hashes.SHA256()
    return builder.sign(private, algorithm).public_bytes(Encoding.DER)


# ── envelopes ────────────────────────────────────────────────────────────────────────────────────────────────────────
def algorithm_of(private: Private) -> str:
    """The algorithm that the specification gives to a key, by JWS's name; the next best for keys it knows not."""
    if isinstance(private, rsa.RSAPrivateKey):
        return {3072: "PS384", 4096: "PS512"}.get(private.key_size, "PS256")
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return {384: "ES384", 521: "ES512"}.get(private.curve.key_size, "ES256")
    return "ES256"


def raw_signature(private: Private, message: bytes, algorithm: str) -> bytes:
    """A signature as JWS and COSE write it."""
    hashed = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(message, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(message)
    r, s = decode_dss_signature(private.sign(message, ec.ECDSA(hashed)))
    size = (private.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def rfc3339(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def payload(digest: str, size: int, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What notation signs."""
    target: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": digest, "size": size}
    if annotations:
        target["annotations"] = dict(annotations)
    return {"targetArtifact": target}


def headers(
    algorithm: str,
    scheme: str = "notary.x509",
    *,
    signed_at: dt.datetime = NOW - dt.timedelta(minutes=1),
    expiry: dt.datetime | None = None,
) -> dict[str, Any]:
    """The protected header by JWS's names, times as datetimes."""
    time = AUTHENTIC_TIME if scheme == "notary.x509.signingAuthority" else SIGNING_TIME
    critical = [SCHEME]
    if time == AUTHENTIC_TIME:
        critical.append(AUTHENTIC_TIME)
    protected: dict[str, Any] = {
        "alg": algorithm,
        "cty": PAYLOAD_TYPE,
        "crit": critical,
        SCHEME: scheme,
        time: signed_at,
    }
    if expiry is not None:
        critical.append(EXPIRY)
        protected[EXPIRY] = expiry
    return protected


def b64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jws(
    signer: Party,
    signed: bytes,
    protected: Mapping[str, Any],
    *,
    stamp: Callable[[bytes], bytes] | None = None,
    edit_header: Edit | None = None,
    edit_envelope: Edit | None = None,
    raw_protected: bytes | None = None,
    algorithm: str | None = None,
    key: Private | None = None,
) -> bytes:
    """An envelope in JWS. `raw_protected`: in place of the JSON of `protected`."""
    written = {name: rfc3339(value) if isinstance(value, dt.datetime) else value for name, value in protected.items()}
    first = b64url(to_json(written) if raw_protected is None else raw_protected)
    second = b64url(signed)
    message = f"{first}.{second}".encode()
    signature = raw_signature(key or signer.private, message, algorithm or algorithm_of(signer.private))
    header: dict[str, Any] = {"x5c": [base64.b64encode(one).decode() for one in signer.chain]}
    if stamp is not None:
        header[TIMESTAMP] = base64.b64encode(stamp(signature)).decode()
    if edit_header is not None:
        edit_header(header)
    envelope = {"payload": second, "protected": first, "header": header, "signature": b64url(signature)}
    if edit_envelope is not None:
        edit_envelope(envelope)
    return to_json(envelope)


@dataclass(frozen=True)
class Raw:
    """Bytes that stand in CBOR as they are."""

    content: bytes


@dataclass(frozen=True)
class Tagged:
    number: int
    value: object


def cbor(value: object) -> bytes:
    """CBOR with the shortest lengths; times are whole seconds under tag 1."""
    match value:
        case Raw():
            return value.content
        case Tagged():
            return _head(6, value.number) + cbor(value.value)
        case None | bool() | int() | float():
            return _number(value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case dt.datetime():
            return cbor(Tagged(1, int(value.timestamp())))
        case list() | tuple():
            return _head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return _head(5, len(value)) + b"".join(cbor(name) + cbor(one) for name, one in value.items())
        case _:
            raise TypeError(value)


def _number(value: object) -> bytes:
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[bool(value) if value is not None else None]


def _head(major: int, length: int) -> bytes:
    for size, short in ((0, 24), (1, 1 << 8), (2, 1 << 16), (4, 1 << 32), (8, 1 << 64)):
        if length < short:
            first = length if size == 0 else {1: 24, 2: 25, 4: 26, 8: 27}[size]
            return bytes([major << 5 | first]) + (b"" if size == 0 else length.to_bytes(size, "big"))
    raise ValueError(length)


def cose(
    signer: Party,
    signed: bytes,
    protected: Mapping[str, Any],
    *,
    stamp: Callable[[bytes], bytes] | None = None,
    edit_header: Edit | None = None,
    edit_envelope: Callable[[list[Any]], object] | None = None,
    raw_protected: bytes | None = None,
    algorithm: str | None = None,
    key: Private | None = None,
    tag: int | None = 18,
) -> bytes:
    """An envelope in COSE. `edit_header` sees the unprotected header, `edit_envelope` the four parts."""
    written: dict[Any, Any] = {_LABELS.get(name, name): value for name, value in protected.items()}
    if isinstance(written.get(1), str):
        written[1] = _COSE.get(written[1], written[1])
    first = cbor(written) if raw_protected is None else raw_protected
    message = cbor(["Signature1", first, b"", signed])
    signature = raw_signature(key or signer.private, message, algorithm or algorithm_of(signer.private))
    header: dict[Any, Any] = {33: signer.chain}
    if stamp is not None:
        header[TIMESTAMP] = stamp(signature)
    if edit_header is not None:
        edit_header(header)
    envelope: list[Any] = [first, header, signed, signature]
    if edit_envelope is not None:
        edit_envelope(envelope)
    return cbor(envelope if tag is None else Tagged(tag, envelope))


def stamped_by(tsa: Party, at: dt.datetime = NOW, **options: Any) -> Callable[[bytes], bytes]:
    """Makes a bare timestamp token over a signature, with the certificates of `tsa` and above."""
    above: list[Issued] = []
    one: Party | None = tsa
    while one is not None:
        above.append(one.issued)
        one = one.issuer
    return lambda signature: timestamp(tsa.issued, signature, at, bare=True, certificates=above, **options)


def sign_notation(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    signer: Party,
    form: Form = "jws",
    *,
    scheme: str = "notary.x509",
    signed_at: dt.datetime = NOW - dt.timedelta(minutes=1),
    expiry: dt.datetime | None = None,
    annotations: Mapping[str, str] | None = None,
    edit_payload: Edit | None = None,
    edit_protected: Edit | None = None,
    signed: bytes | None = None,
    content: bytes | None = None,
    edit_manifest: Edit | None = None,
    fallback: bool = False,
    **options: Any,
) -> Digest:
    """Pushes a signature as a referrer; with `fallback` it is also listed under the fallback tag."""
    size = len(registry.manifests[path, digest].body)
    if signed is None:
        document = payload(digest, size, annotations)
        if edit_payload is not None:
            edit_payload(document)
        signed = to_json(document)
    if content is None:
        protected = headers(algorithm_of(signer.private), scheme, signed_at=signed_at, expiry=expiry)
        if edit_protected is not None:
            edit_protected(protected)
        content = (jws if form == "jws" else cose)(signer, signed, protected, **options)
    return push_envelope(registry, path, digest, form, content, edit_manifest, fallback=fallback)


def push_envelope(
    registry: FakeRegistry,
    path: str,
    digest: Digest,
    form: Form,
    content: bytes,
    edit_manifest: Edit | None = None,
    *,
    fallback: bool = False,
) -> Digest:
    """Pushes bytes as a signature of an image."""
    image = registry.manifests[path, digest]
    thumbprints = json.dumps([])
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": SIGNATURE, "size": 2, "digest": digest_of(b"{}")},
        "layers": [{"mediaType": MEDIA_TYPES[form], "size": len(content), "digest": registry.push_blob(content)}],
        "subject": {"mediaType": image.media_type, "size": len(image.body), "digest": digest},
        "annotations": {"io.cncf.notary.x509chain.thumbprint#S256": thumbprints},
    }
    if edit_manifest is not None:
        edit_manifest(document)
    pushed = registry.push_manifest(path, document)
    if fallback:
        list_in_fallback(registry, path, digest, pushed)
    return pushed


def store(kind: str, *parties: Party) -> dict[str, str]:
    """A trust store as a policy writes it."""
    return {"type": kind, "certs": "".join(one.pem for one in parties)}


def trusting(*stores: Mapping[str, str], identities: Iterable[str] = ("*",), **others: Any) -> dict[str, Any]:
    """`signers[].notation` of a policy."""
    return {"trustStores": [dict(one) for one in stores], "trustedIdentities": list(identities), **others}
