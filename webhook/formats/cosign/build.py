"""`signers[].cosign` → a signer, or every complaint about it at once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from webhook import limits
from webhook.formats._fulcio import ENVIRONMENT, RUNNER, TRIGGER
from webhook.formats._hardware import hold as in_hardware
from webhook.formats._identity import IdentityRule, read_identity
from webhook.formats._keys import PublicKey, parse_public_keys
from webhook.formats._pattern import Pattern, parse_pattern
from webhook.formats._timestamp import Authority, read_authorities
from webhook.formats._trustroot import TrustRoot, parse_trust_root
from webhook.formats._workload import STRANGE_ISSUERS, Demand, Identity, github, gitlab
from webhook.formats._x509 import parse_certificates, public_key
from webhook.formats.cosign.certificate import CertifiedName, NameKind, OwnAuthority, read_name
from webhook.formats.cosign.key import Keys
from webhook.formats.cosign.keyless import Keyless
from webhook.formats.cosign.signatory import SignedBy
from webhook.formats.cosign.signer import Cosign
from webhook.formats.cosign.spec import PUBLIC_ROOT, CertificateSpec, CosignSpec, KeylessSpec
from webhook.formats.cosign.witnesses import Witnesses
from webhook.image import Repository, parse_repository
from webhook.parsing import Invalid
from webhook.trust import Device, HardwareEvidence, KeyRef, Signer

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

T = TypeVar("T")
_NAMES: Final[tuple[NameKind, ...]] = ("email", "hostname", "uri", "subject")


def key_references(spec: CosignSpec) -> Iterable[tuple[str, KeyRef]]:
    """See `trust.Format.keys`."""
    yield from _keys_of(spec)
    if spec.certificate is not None:
        yield ".certificate.roots", spec.certificate.roots
        if spec.certificate.intermediates is not None:
            yield ".certificate.intermediates", spec.certificate.intermediates
    if spec.timestamp is not None and spec.timestamp.tsa is not None:
        yield ".timestamp.tsa", spec.timestamp.tsa
    if spec.needs_trust_root:
        yield ".trustRoot", spec.trust_root or PUBLIC_ROOT


def _keys_of(spec: CosignSpec) -> Iterable[tuple[str, KeyRef]]:
    if spec.key is not None:
        yield ".key", spec.key
    for i, key in enumerate(spec.keys or ()):
        yield f".keys[{i}]", key


def examine(spec: CosignSpec) -> tuple[str, ...]:
    """See `trust.Format.examine`."""
    reader = _Reader()
    written = _read(spec, reader)
    if reader.complaints:
        raise Invalid(*reader.complaints)
    return written.demand.dangers() if written.demand else ()


def build(spec: CosignSpec, materials: Mapping[KeyRef, bytes]) -> Cosign:
    """The signer that `spec` writes. Raises `Invalid` with every complaint."""
    reader = _Reader()
    written = _read(spec, reader)
    by = _signed_by(spec, written, materials, reader)
    if by is None or reader.complaints:
        raise Invalid(*reader.complaints)
    return Cosign(by, written.identity, frozenset(spec.annotations.items()), written.repository)


def hold(signer: Signer, given: HardwareEvidence) -> tuple[Signer, tuple[Device, ...]]:
    """See `trust.Format.hold`."""
    if isinstance(signer, Cosign) and not isinstance(signer.by, Keys):
        raise Invalid(": only a signer by key has keys that are known beforehand")
    return in_hardware(signer, given)


@dataclass(slots=True)
class _Reader:
    """Reads the parts of a specification, collecting complaints."""

    complaints: list[str] = field(default_factory=list)

    def value(self, read: Callable[[], T], path: str = "") -> T | None:
        """What `read` gives; its complaints begin with `path`."""
        try:
            return read()
        except Invalid as e:
            self.complaints += [f"{path}{complaint}" for complaint in e.complaints]
            return None


# ── what is written, whatever the keys are ───────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Written:
    """The parts that no key material belongs to."""

    demand: Demand | None
    name: CertifiedName | None
    identity: IdentityRule
    repository: Repository | None


def _read(spec: CosignSpec, reader: _Reader) -> _Written:
    chosen = [name for name in ("key", "keys", "keyless", "certificate") if getattr(spec, name) is not None]
    if len(chosen) != 1:
        given = f"{' and '.join(chosen)}, " if chosen else ""
        reader.complaints.append(f": {given}exactly one of key, keys, keyless and certificate is wanted")
    if spec.keys is not None and not spec.keys:
        reader.complaints.append(".keys: empty, so nobody could sign")
    if spec.trust_root is not None and not spec.needs_trust_root:
        reader.complaints.append(".trustRoot: nothing here is looked up in it")
    if spec.keyless is not None and not spec.needs_log and not spec.needs_timestamp:
        # Attack C-17.
        reader.complaints.append(
            ".tlog: with keyless, a log entry or a timestamp is needed, because the certificate lives for minutes; "
            "write timestamp: {require: true}"
        )
    repository = None
    if spec.repository is not None:
        text = spec.repository
        repository = reader.value(lambda: parse_repository(text), ".repository: ")
    return _Written(
        demand=None if spec.keyless is None else _demand(spec.keyless, reader),
        name=None if spec.certificate is None else _name(spec.certificate, reader),
        identity=reader.value(lambda: read_identity(spec.identity, ".identity", bare_names=True))
        or IdentityRule("exact"),
        repository=repository,
    )


def _demand(spec: KeylessSpec, reader: _Reader) -> Demand | None:
    texts = (spec.issuer, spec.issuer_regex, spec.subject, spec.subject_regex)
    has_texts = any(text is not None for text in texts)
    if (spec.github is not None) + (spec.gitlab is not None) + has_texts != 1:
        reader.complaints.append(
            ".keyless: an issuer with a subject, or github, or gitlab is wanted, and only one of them"
        )
        return None
    if spec.github is not None:
        hub = spec.github
        claims = {ENVIRONMENT: hub.environment, TRIGGER: hub.trigger, RUNNER: hub.runner}
        return reader.value(lambda: github(hub.repository, hub.workflow, hub.ref, claims, ".keyless.github"))
    if spec.gitlab is not None:
        lab = spec.gitlab
        return reader.value(lambda: gitlab(lab.project, lab.ref, lab.config, ".keyless.gitlab"))
    issuer = _text_or_pattern(spec.issuer, spec.issuer_regex, "issuer", reader)
    subject = _text_or_pattern(spec.subject, spec.subject_regex, "subject", reader)
    # Attack C-21: under any issuer, anybody could be the subject.
    if isinstance(issuer, str) and "*" in issuer:
        reader.complaints.append(".keyless.issuer: no character stands for others; write issuerRegex")
    if isinstance(issuer, Pattern) and issuer.matches_any(STRANGE_ISSUERS):
        reader.complaints.append(".keyless.issuerRegex: it fits every issuer, so that anybody could be the subject")
    return None if issuer is None or subject is None else Identity(issuer, subject)


def _text_or_pattern(text: str | None, pattern: str | None, name: str, reader: _Reader) -> str | Pattern | None:
    if (text is None) == (pattern is None):
        # Attack P-03: what is left out would be anything.
        reader.complaints.append(f".keyless: exactly one of {name} and {name}Regex is wanted")
        return None
    if pattern is None:
        return text
    return reader.value(lambda: parse_pattern(pattern, f".keyless.{name}Regex"))


def _name(spec: CertificateSpec, reader: _Reader) -> CertifiedName | None:
    given = [(kind, text) for kind in _NAMES if (text := getattr(spec, kind)) is not None]
    if len(given) != 1:
        reader.complaints.append(".certificate: exactly one of email, hostname, uri and subject is wanted")
        return None
    [(kind, text)] = given
    return reader.value(lambda: read_name(kind, text, f".certificate.{kind}"))


# ── with the keys ────────────────────────────────────────────────────────────────────────────────────────────────────
def _signed_by(
    spec: CosignSpec, written: _Written, materials: Mapping[KeyRef, bytes], reader: _Reader
) -> SignedBy | None:
    witnesses = _witnesses(spec, materials, reader)
    if spec.keyless is not None:
        root = witnesses.root
        if root is not None and not root.authorities:
            reader.complaints.append(".trustRoot: it has no certificate authority, so nobody could sign")
        if root is not None and not root.certificate_logs:
            reader.complaints.append(".trustRoot: it has no certificate log, so no certificate would be accepted")
        return None if written.demand is None or root is None else Keyless(written.demand, root, witnesses)
    if spec.certificate is not None:
        return _own_authority(spec.certificate, written.name, witnesses, materials, reader)
    anchors: dict[PublicKey, None] = {}
    for path, reference in _keys_of(spec):
        found = reader.value(lambda path=path, key=reference: parse_public_keys(materials[key], path))  # type: ignore[misc]  # defaults bind the loop's variables
        anchors.update(dict.fromkeys(found or ()))
    return Keys(tuple(anchors), witnesses)


def _own_authority(
    spec: CertificateSpec,
    name: CertifiedName | None,
    witnesses: Witnesses,
    materials: Mapping[KeyRef, bytes],
    reader: _Reader,
) -> OwnAuthority | None:
    roots = _certificates(spec.roots, ".certificate.roots", materials, reader)
    intermediates = _certificates(spec.intermediates, ".certificate.intermediates", materials, reader)
    if len(intermediates) > limits.MAX_INTERMEDIATES:
        reader.complaints.append(f".certificate.intermediates: more than {limits.MAX_INTERMEDIATES} certificates")
    anchors = reader.value(
        lambda: tuple(dict.fromkeys(public_key(root).fingerprint for root in roots)), ".certificate.roots: "
    )
    return None if name is None or not anchors else OwnAuthority(roots, anchors, intermediates, name, witnesses)


def _certificates(
    reference: KeyRef | None, path: str, materials: Mapping[KeyRef, bytes], reader: _Reader
) -> "tuple[Certificate, ...]":
    if reference is None:
        return ()
    return reader.value(lambda: parse_certificates(materials[reference], path)) or ()


def _witnesses(spec: CosignSpec, materials: Mapping[KeyRef, bytes], reader: _Reader) -> Witnesses:
    root: TrustRoot | None = None
    if spec.needs_trust_root:
        material = materials[spec.trust_root or PUBLIC_ROOT]
        root = reader.value(lambda: parse_trust_root(material, ".trustRoot"))
    authorities: tuple[Authority, ...] | None = None
    if spec.timestamp is not None and spec.timestamp.tsa is not None:
        certificates = _certificates(spec.timestamp.tsa, ".timestamp.tsa", materials, reader)
        authorities = reader.value(lambda: read_authorities(certificates, ".timestamp.tsa")) if certificates else ()
    if root is not None and spec.needs_log and not root.logs:
        reader.complaints.append(".trustRoot: it has no transparency log, and an entry of one is demanded")
    if root is not None and spec.needs_timestamp and authorities is None and not root.timestamp_authorities:
        reader.complaints.append(".trustRoot: it has no timestamp authority, and a timestamp is demanded")
    return Witnesses(root, authorities, log=spec.needs_log, timestamp=spec.needs_timestamp)
