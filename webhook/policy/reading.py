"""The parts of a specification, read one by one; every complaint is kept, so that people mend all faults in one go."""

import datetime as dt
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from webhook import limits
from webhook.image import Digest, parse_digest
from webhook.parsing import Invalid, convert_all, quote
from webhook.policy import require
from webhook.policy.afterwards import Rollout
from webhook.policy.cel.values import read_duration
from webhook.policy.document import NAME
from webhook.policy.globs import (
    ImageGlob,
    NameGlob,
    parse_image_glob,
    parse_name_glob,
    parse_namespace_glob,
    parse_namespaced_glob,
)
from webhook.policy.keyref import Inline, parse_keyref
from webhook.policy.names import PREFIX, Name, parse_name
from webhook.policy.outage import DENY, OnOutage, on_outage
from webhook.policy.policy import (
    ALL_WORKLOADS,
    CONTAINER_KINDS,
    NO_DENIALS,
    ContainerKind,
    Delegation,
    DenyList,
    Expression,
    NamedSigner,
    NamespaceMatch,
    Selector,
    SignerRef,
    WantedAttestation,
    WorkloadMatch,
)
from webhook.policy.predicates import parse_predicate_type
from webhook.policy.spec import (
    AttestationSpec,
    DelegationSpec,
    DenySpec,
    HardwareSpec,
    LabelSelector,
    NamespacesSpec,
    OnOutageSpec,
    RefSpec,
    RolloutSpec,
    ValiditySpec,
    WorkloadsSpec,
)
from webhook.policy.where import parse_where
from webhook.policy.window import Windowed
from webhook.trust import Device, Format, HardwareEvidence, KeyRef, Materials, Signer, Unresolved
from webhook.verdict import Mode, PolicyKey

_SIGNER_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_FINGERPRINT: Final = re.compile(r"(?:SHA256|sha256):(?P<sha256>[0-9a-fA-F]{64})|(?:GPG|gpg):(?P<gpg>[0-9a-fA-F]{40})")
_IDENTITY: Final = re.compile(r"issuer=.+,subject=.+|x509\.subject: .+")
_SERIAL: Final = re.compile(r"[0-9a-fA-F]{1,2}(?::?[0-9a-fA-F]{2})*|[0-9a-fA-F]+")
_SPAN: Final = re.compile(r"(?:[0-9]{1,6}(?:h|ms|m|s))+")
_REF: Final = "ref"

Formats = Mapping[str, Format[Any]]
T = TypeVar("T")
R = TypeVar("R")


@functools.lru_cache(maxsize=1024)
def shared(value: T) -> T:
    """The first of equal values: thousands of policies that name the same keys hold them once."""
    return value


class Reader:
    """Reads the parts of a specification, collecting complaints."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def value(self, path: str, read: Callable[[], T]) -> T | None:
        """What `read` gives; its complaints begin with `path`."""
        try:
            return read()
        except Invalid as e:
            self.complaints += [f"{path}{complaint}" for complaint in e.complaints]
            return None

    def each(self, texts: Iterable[str], path: str, read: Callable[[str], T]) -> tuple[T, ...]:
        """What `read` makes of every text that is right."""
        values = [self.value(f"{path}[{i}]: ", lambda text=text: read(text)) for i, text in enumerate(texts)]  # type: ignore[misc]  # a default binds the loop's variable
        return tuple(value for value in values if value is not None)

    def image_globs(self, texts: Iterable[str], path: str) -> tuple[ImageGlob, ...]:
        """Globs on names of images."""
        return self.each(texts, path, parse_image_glob)

    def name_globs(self, texts: Iterable[str], path: str) -> tuple[NameGlob, ...]:
        """Globs on names of Kubernetes."""
        return self.each(texts, path, parse_name_glob)

    def namespace_globs(self, texts: Iterable[str], path: str) -> tuple[NameGlob, ...]:
        """Globs on names of namespaces."""
        return self.each(texts, path, parse_namespace_glob)

    def namespaces(self, spec: NamespacesSpec | None) -> NamespaceMatch | None:
        """Which namespaces are meant."""
        if spec is None:
            return None
        return NamespaceMatch(
            self.namespace_globs(spec.match, "spec.namespaces.match"),
            self.namespace_globs(spec.exclude, "spec.namespaces.exclude"),
            self.selector(spec.selector, "spec.namespaces.selector"),
        )

    def delegations(self, specs: Sequence[DelegationSpec]) -> tuple[Delegation, ...]:
        """Where policies of namespaces stand in."""
        return tuple(
            Delegation(
                self.namespace_globs(spec.namespaces, f"spec.delegate[{i}].namespaces"),
                self.each(spec.images, f"spec.delegate[{i}].images", parse_namespaced_glob),
            )
            for i, spec in enumerate(specs)
        )

    def workloads(self, spec: WorkloadsSpec | None) -> WorkloadMatch:
        """Which workloads and containers are meant."""
        if spec is None:
            return ALL_WORKLOADS
        return WorkloadMatch(
            self.selector(spec.selector, "spec.workloads.selector"),
            self.name_globs(spec.service_accounts, "spec.workloads.serviceAccounts"),
            self.containers(spec.containers),
        )

    def containers(self, kinds: Sequence[ContainerKind] | None) -> frozenset[ContainerKind]:
        """Which kinds of container are meant; all, if none is named."""
        if kinds is not None and not kinds:
            self.complaints.append("spec.workloads.containers: empty, so the policy would be for no image")
        return CONTAINER_KINDS if kinds is None else frozenset(kinds)

    def selector(self, spec: LabelSelector | None, path: str) -> Selector | None:
        """A selector of labels."""
        if spec is None:
            return None
        for i, expression in enumerate(spec.match_expressions):
            wants_values = expression.operator in {"In", "NotIn"}
            if wants_values is not bool(expression.values):
                word = "needs" if wants_values else "has no"
                self.complaints.append(f"{path}.matchExpressions[{i}].values: {expression.operator} {word} values")
        expressions = tuple(Expression(e.key, e.operator, frozenset(e.values)) for e in spec.match_expressions)
        return Selector(frozenset(spec.match_labels.items()), expressions)

    def deny(self, spec: DenySpec | None) -> DenyList:
        """The deny list."""
        if spec is None:
            return NO_DENIALS
        digests: tuple[Digest, ...] = self.each(spec.digests, "spec.deny.digests", parse_digest)
        if spec.signed_after and spec.signed_before and spec.signed_after >= spec.signed_before:
            self.complaints.append("spec.deny.signedBefore: no time lies between signedAfter and it")
        keys = self.each(spec.keys, "spec.deny.keys", _fingerprint)
        signers = self.each(spec.signers, "spec.deny.signers", _identity)
        identities = frozenset({*keys, *(signer for signer in signers if isinstance(signer, str))})
        subjects = frozenset(signer for signer in signers if not isinstance(signer, str))
        serials = self.each(spec.cert_serials, "spec.deny.certSerials", _serial)
        return DenyList(
            frozenset(digests), identities, frozenset(serials), spec.signed_after, spec.signed_before, subjects
        )

    def rollout(self, spec: RolloutSpec | None, mode: Mode) -> Rollout | None:
        """How the policy comes into force by itself."""
        if spec is None:
            return None
        if mode == "audit":
            self.complaints.append("spec.rollout: mode is audit already: name the mode that shall hold later")
        span = self.span(spec.audit_for, "spec.rollout.auditFor: ")
        return None if span is None else Rollout(span, spec.promote_when)

    def on_outage(self, spec: OnOutageSpec | None, path: str) -> OnOutage:
        """What an outage comes to."""
        if spec is None:
            return DENY
        length = None if spec.max_stale is None else self.span(spec.max_stale, f"{path}.maxStale: ")
        return self.value(path, lambda: shared(on_outage(spec.action, length))) or DENY

    def span(self, text: str, path: str) -> dt.timedelta | None:
        """A span of time."""
        return self.value(path, lambda: _span(text))

    def names(self, written: Sequence[object], path_of_all: str, others: Sequence[str] = ()) -> list[str]:
        """All names, those of what is wrong otherwise too, so that `require` is judged on its own."""
        names: list[str] = []
        for i, name in enumerate(written):
            path = f"{path_of_all}[{i}].name"
            if not isinstance(name, str):
                self.complaints.append(f"{path}: required")
            elif not _SIGNER_NAME.fullmatch(name) or name.isdigit() or name in require.RESERVED:
                self.complaints.append(
                    f"{path}: {quote(name, 80)}: lower-case letters, digits and `-`, and no word of `require`"
                )
            elif name in names or name in others:
                self.complaints.append(f"{path}: {name} is another's name; signers and attestations share them")
            else:
                names.append(name)
        return names

    def signer(
        self,
        signer: Mapping[str, object],
        path: str,
        owner: PolicyKey,
        materials: Materials,
        formats: Formats,
        home: str,
    ) -> NamedSigner | None:
        """One of `signers`; None if something about it is wrong."""
        chosen = self.format_of(signer, path, [*formats, _REF])
        if chosen is None:
            return None
        if chosen == _REF:
            return self.reference(signer, path)
        row = formats[chosen]
        wrong = len(self.complaints)
        validity = self.validity(signer.get("validity"), f"{path}.validity")
        in_hardware = f"{path}.hardware"
        hardware = self.hardware(signer, in_hardware, row)
        path = f"{path}.{row.name}"
        spec = self.value("", lambda: convert_all(signer[row.name], row.spec, path))
        if spec is None:
            return None
        references = [(f"{path}{where}", reference) for where, reference in row.keys(spec)]
        if hardware is not None:
            references += [(f"{in_hardware}.roots", hardware.roots), (f"{in_hardware}.evidence", hardware.evidence)]
        material, unresolved, elsewhere = self.material(references, owner, materials, home)
        name = signer.get("name")
        if len(self.complaints) > wrong or not isinstance(name, str):
            return None
        if unresolved is not None:
            dangers = self.value(path, lambda: row.examine(spec))
            return (
                None
                if dangers is None
                else NamedSigner(name, unresolved, dangers=dangers, attests=row.attests, signs=row.signs)
            )
        built = self.value(path, lambda: row.build(spec, material))
        held = None if built is None else self.held(built, row, hardware, material, in_hardware)
        # What is wrong with a key is wrong where it lies, not where it is named.
        self.complaints[wrong:] = [_with_reference(complaint, elsewhere) for complaint in self.complaints[wrong:]]
        if held is None:
            return None
        inner, devices = held
        bounded = inner if validity is None else Windowed(inner, validity.not_before, validity.not_after)
        return NamedSigner(name, bounded, devices, attests=row.attests, signs=row.signs, never=row.never(spec))

    def material(
        self, references: Sequence[tuple[str, KeyRef]], owner: PolicyKey, materials: Materials, home: str
    ) -> tuple[dict[KeyRef, bytes], Unresolved | None, dict[str, KeyRef]]:
        """What was read of the keys named at these places, the first that could not be, and those that lie elsewhere, by their place."""
        material: dict[KeyRef, bytes] = {}
        unresolved: Unresolved | None = None
        elsewhere: dict[str, KeyRef] = {}
        for where, reference in references:
            key = self.value(f"{where}: ", lambda reference=reference: parse_keyref(reference, owner, home))  # type: ignore[misc]  # a default binds the loop's variable
            if key is not None and not isinstance(key, Inline):
                elsewhere[f"{where}: "] = reference
            found = materials.get(reference, Unresolved("not read"))
            if isinstance(found, Unresolved):
                unresolved = unresolved or found
            else:
                material[reference] = found
        return material, unresolved, elsewhere

    def held(
        self,
        signer: Signer,
        row: Format[Any],
        hardware: HardwareSpec | None,
        material: Mapping[KeyRef, bytes],
        path: str,
    ) -> tuple[Signer, tuple[Device, ...]] | None:
        """The signer by those of its keys that are shown to be in hardware, if it demands that."""
        hold = row.hold
        if hardware is None or hold is None:
            return signer, ()
        shown = HardwareEvidence(hardware.attestation, material[hardware.roots], material[hardware.evidence])
        return self.value(path, lambda: hold(signer, shown))

    def validity(self, untrusted: object, path: str) -> ValiditySpec | None:
        """When signatures count."""
        if untrusted is None:
            return None
        spec = self.value("", lambda: convert_all(untrusted, ValiditySpec, path))
        if spec is None:
            return None
        if spec.not_before is None and spec.not_after is None:
            self.complaints.append(f"{path}: one of notBefore and notAfter is wanted")
        elif spec.not_before and spec.not_after and spec.not_before >= spec.not_after:
            self.complaints.append(f"{path}.notAfter: no time lies between notBefore and it")
        return spec

    def attestation(
        self, spec: AttestationSpec, path: str, names: Sequence[str], signers: Sequence[NamedSigner]
    ) -> WantedAttestation | None:
        """The attestation. `names` are all that signers have, `signers` those of them that are right."""
        wrong = len(self.complaints)
        types = self.value(f"{path}.type: ", lambda: parse_predicate_type(spec.type))
        where = None if spec.where is None else self.value(f"{path}.where: ", lambda: parse_where(spec.where or ""))
        max_age = None if spec.max_age is None else self.span(spec.max_age, f"{path}.maxAge: ")
        if spec.signed_by is not None and not spec.signed_by:
            self.complaints.append(f"{path}.signedBy: empty, so nobody could sign")
        # What a reference leads to is another policy's affair, and may change.
        unable = {named.name for named in signers if not named.attests and named.ref is None}
        for i, name in enumerate(spec.signed_by or ()):
            if name not in names:
                known = ", ".join(names)
                self.complaints.append(f'{path}.signedBy[{i}]: unknown signer "{quote(name, 80)}"; known: {known}')
            elif name in unable:
                self.complaints.append(f"{path}.signedBy[{i}]: {name} cannot attest; its format has no attestations")
        if spec.signed_by is None and names and unable == set(names):
            self.complaints.append(f"{path}: none of the signers can attest")
        if len(self.complaints) > wrong or types is None:
            return None
        signed_by = None if spec.signed_by is None else tuple(dict.fromkeys(spec.signed_by))
        return WantedAttestation(spec.name, types, spec.type, signed_by, where, max_age)

    def format_of(self, signer: Mapping[str, object], path: str, kinds: Sequence[str]) -> str | None:
        """The one format that a signer chooses."""
        known = ", ".join(kinds)
        for field in signer.keys() - set(kinds) - {"name", "validity", "hardware"}:
            self.complaints.append(
                f"{path}.{quote(field, 80)}: unknown field; known: name, validity, hardware, {known}"
            )
        chosen = [name for name in kinds if name in signer]
        if len(chosen) == 1:
            return chosen[0]
        what = f"{' and '.join(chosen)}, " if chosen else ""
        self.complaints.append(f"{path}: {what}exactly one signature format is wanted: {known}")
        return None

    def hardware(self, signer: Mapping[str, object], path: str, row: Format[Any]) -> HardwareSpec | None:
        """What a signer demands of where its keys are, if it does."""
        if "hardware" not in signer:
            return None
        if row.hold is None:
            self.complaints.append(f"{path}: a {row.name} signer has no key that could be in hardware")
            return None
        return self.value("", lambda: convert_all(signer["hardware"], HardwareSpec, path))

    def reference(self, signer: Mapping[str, object], path: str) -> NamedSigner | None:
        """A signer that a cluster policy describes. Which, is known where all policies are."""
        if "hardware" in signer:
            self.complaints.append(f"{path}.hardware: the policy that is referred to says where its keys are")
        if "validity" in signer:
            self.complaints.append(f"{path}.validity: the policy that is referred to says when its signer counts")
        path = f"{path}.{_REF}"
        spec = self.value("", lambda: convert_all(signer[_REF], RefSpec, path))
        if spec is None:
            return None
        policy, _, wanted = spec.name.partition("/")
        if not NAME.fullmatch(policy) or not _SIGNER_NAME.fullmatch(wanted):
            self.complaints.append(
                f"{path}.name: {quote(spec.name, 80)}: write POLICY/SIGNER, a ClusterTrustPolicy and a signer of it"
            )
            return None
        name, ref = signer.get("name"), SignerRef(policy, wanted)
        return NamedSigner(name, Unresolved("not looked up yet"), ref=ref) if isinstance(name, str) else None


def _with_reference(complaint: str, elsewhere: Mapping[str, KeyRef]) -> str:
    for where, reference in elsewhere.items():
        if complaint.startswith(where):
            return f"{where}{quote(reference, 160)}: {complaint.removeprefix(where)}"
    return complaint


def _fingerprint(text: str) -> str:
    match = _FINGERPRINT.fullmatch(text)
    if match is None:
        raise Invalid(
            f"{quote(text, 80)}: not a fingerprint (SHA256: and 64 hex digits, or GPG: and 40, as `verify -o json` and the status"
            " of a policy print them)"
        )
    return f"SHA256:{match['sha256'].lower()}" if match["sha256"] else f"GPG:{match['gpg'].upper()}"


def _identity(text: str) -> str | Name:
    """Who signed, as proofs carry it; of a certificate's subject, what it must contain."""
    if _IDENTITY.fullmatch(text) is None:
        raise Invalid(
            f"{quote(text, 80)}: not an identity (issuer=…,subject=…, or x509.subject: …, as `verify -o json` prints them)"
        )
    if text.startswith(PREFIX):
        return parse_name(text)
    issuer, _, subject = text.removeprefix("issuer=").partition(",subject=")
    if "*" in issuer or subject == "*":
        raise Invalid(f"{quote(text, 80)}: no character stands for others")
    # Proofs carry what a certificate says in this form.
    return quote(text, limits.MAX_TEXT * 10)


def _serial(text: str) -> str:
    if _SERIAL.fullmatch(text) is None:
        raise Invalid(f"{quote(text, 80)}: not a serial number in hex")
    return text.replace(":", "").lower().lstrip("0") or "0"


def _span(text: str) -> dt.timedelta:
    if _SPAN.fullmatch(text) is None:
        raise Invalid(f"{quote(text, 40)}: not a span of time; one is written like 36h or 1h30m")
    length = dt.timedelta(microseconds=read_duration(text).nanoseconds // 1000)
    if not dt.timedelta(0) < length <= dt.timedelta(hours=limits.MAX_AGE_HOURS):
        raise Invalid(f"{quote(text, 40)}: not between nothing and {limits.MAX_AGE_HOURS}h")
    return length
