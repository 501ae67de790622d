"""Specification and key material → a policy, or every complaint about it at once.

The same parse serves `kubectl apply`, the operator and the command line, so that what one accepts the others can read. A
policy that is broken all the same becomes one that denies what it covers.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from webhook.parsing import Invalid, convert, convert_all, is_a
from webhook.policy import require
from webhook.policy.afterwards import Afterwards
from webhook.policy.globs import (
    EVERYTHING,
    ImageGlob,
)
from webhook.policy.outage import outage_dangers
from webhook.policy.policy import (
    ALL_WORKLOADS,
    NO_DENIALS,
    Policy,
    Scope,
    Terms,
    WorkloadMatch,
)
from webhook.policy.reading import Formats, Reader, shared
from webhook.policy.spec import (
    DenySpec,
    HardwareSpec,
    NamespacesSpec,
    PolicySpec,
    WorkloadsSpec,
)
from webhook.trust import KeyRef, Materials, Unresolved
from webhook.verdict import Mode, PolicyKey

_WILD_HOSTS_WORTH_A_WARNING: Final = 4

T = TypeVar("T")
R = TypeVar("R")


def key_references(spec: object, formats: Formats) -> frozenset[KeyRef]:
    """Every key string in a specification, as far as it can be read; what cannot be, `parse_policy` complains about."""
    references: set[KeyRef] = set()
    signers = spec.get("signers") if isinstance(spec, dict) else None
    for signer in signers if isinstance(signers, list) else ():
        for name, row in formats.items():
            body = signer.get(name) if isinstance(signer, dict) else None
            if body is None:
                continue
            try:
                references.update(reference for _, reference in row.keys(convert(body, row.spec, "")))
            except Invalid:
                continue
        hardware = _readable(signer.get("hardware") if isinstance(signer, dict) else None, HardwareSpec, None)
        references.update(() if hardware is None else (hardware.roots, hardware.evidence))
    return frozenset(references)


def parse_policy(key: PolicyKey, spec: object, materials: Materials, formats: Formats, home: str) -> Policy:
    """The policy that `spec` writes. `home` is the namespace where the webhook runs.

    A key whose material is `Unresolved` leaves its signer so. Raises `Invalid` with every complaint, each with its path.
    """
    reader = Reader()
    read, wrong = _read_spec(spec, reader)
    for field, used in (
        ("namespaces", read.namespaces is not None),
        ("fallback", read.fallback),
        ("delegate", bool(read.delegate)),
    ):
        if used and key.namespace is not None:
            reader.complaints.append(f"spec.{field}: only a ClusterTrustPolicy has it")
    deny = reader.deny(read.deny)
    signers = [
        named
        for i, signer in enumerate(read.signers)
        if (named := reader.signer(signer, f"spec.signers[{i}]", key, materials, formats, home)) is not None
    ]
    names = reader.names([signer.get("name") for signer in read.signers], "spec.signers")
    attested = reader.names([spec.name for spec in read.attestations], "spec.attestations", names)
    attestations = [
        wanted
        for i, spec in enumerate(read.attestations)
        if (wanted := reader.attestation(spec, f"spec.attestations[{i}]", names, signers)) is not None
    ]
    max_age = None
    if read.freshness is not None:
        max_age = reader.span(read.freshness.max_signature_age, "spec.freshness.maxSignatureAge: ")
    # Of a field that is wrong nobody knows what it says, so neither what is missing because of it.
    missing_known = not wrong & {"signers", "deny"}
    if missing_known and not read.signers and not deny and read.deny is None:
        reader.complaints.append("spec.signers: required, unless the policy only has `deny`")
    elif missing_known and not read.signers and not deny:
        reader.complaints.append("spec.deny: empty, and there are no signers: the policy says nothing")
    if not read.signers and read.require is not None and "signers" not in wrong:
        reader.complaints.append("spec.require: there are no signers that it could name")
    if not read.signers and read.attestations and "signers" not in wrong:
        reader.complaints.append("spec.attestations: there are no signers who could attest")
    expression = None
    if names:
        expression = reader.value(
            "spec.require: ",
            lambda: (
                require.default_require(names, attested)
                if read.require is None
                else require.parse_require(read.require, names, attested)
            ),
        )
    policy = Policy(
        key=key,
        images=reader.image_globs(read.images, "spec.images"),
        exclude=reader.image_globs(read.exclude, "spec.exclude"),
        scope=shared(
            Scope(
                namespaces=reader.namespaces(read.namespaces),
                workloads=reader.workloads(read.workloads),
                fallback=read.fallback,
                delegate=reader.delegations(read.delegate),
            )
        ),
        signers=shared(tuple(signers)),
        attestations=shared(tuple(attestations)),
        require=shared(expression),
        terms=shared(
            Terms(
                max_signature_age=max_age,
                platforms=read.platforms,
                tags=read.tags,
                mode=read.mode,
                deny=deny,
                message=read.message,
                afterwards=Afterwards(read.on_drift, reader.rollout(read.rollout, read.mode)),
                on_outage=reader.on_outage(read.on_outage, "spec.onOutage"),
            )
        ),
    )
    if reader.complaints:
        raise Invalid(*reader.complaints)
    return policy


def _read_spec(spec: object, reader: "Reader") -> tuple[PolicySpec, frozenset[str]]:
    """The specification, and the fields that are wrong and left out of it: people mend all faults in one go.

    Raises `Invalid` if nothing can be said about the fields.
    """
    try:
        return convert_all(spec, PolicySpec, "spec"), frozenset()
    except Invalid as e:
        if not isinstance(spec, dict):
            raise
        reader.complaints += e.complaints
    right: dict[str, object] = {}
    for field in msgspec.structs.fields(PolicySpec):
        name = field.encode_name
        if name in spec and is_a(spec[name], field.type):
            right[name] = spec[name]
    wrong = frozenset(name for name in spec if name not in right) | ({"images"} - right.keys())
    return convert({"images": [str(EVERYTHING)], **right}, PolicySpec, "spec"), wrong


def broken_policy(key: PolicyKey, spec: object, complaints: Sequence[str]) -> Policy:
    """A policy that cannot be read: it denies what it covers, as far as that can be told, and says why.

    What cannot be read is taken at its widest: all images, no exclusion, all namespaces, enforced.
    """
    fields = spec if isinstance(spec, dict) else {}
    mode: Mode = _readable(fields.get("mode"), Mode, "enforce")  # type: ignore[arg-type]  # a Literal is a type to msgspec
    images = _readable(fields.get("images"), list[str], [])
    reader = Reader()
    covered = reader.image_globs(images, "") if images else ()
    if reader.complaints or not covered:
        covered = (EVERYTHING,)
    return Policy(
        key=key,
        images=covered,
        exclude=_readable_globs(fields.get("exclude")),
        scope=Scope(
            namespaces=_readable_match(fields.get("namespaces"), NamespacesSpec, Reader.namespaces),
            workloads=_readable_match(fields.get("workloads"), WorkloadsSpec, Reader.workloads) or ALL_WORKLOADS,
            fallback=key.namespace is None and fields.get("fallback") is True,
        ),
        terms=Terms(mode=mode, deny=_readable_match(fields.get("deny"), DenySpec, Reader.deny) or NO_DENIALS),
        faults=tuple(complaints),
    )


def _readable(value: object, kind: type[T], otherwise: R) -> T | R:
    try:
        return convert(value, kind, "")
    except Invalid:
        return otherwise


def _readable_globs(value: object) -> tuple[ImageGlob, ...]:
    reader = Reader()
    globs = reader.image_globs(_readable(value, list[str], []), "")
    return () if reader.complaints else globs


def _readable_match(value: object, kind: type[T], read: "Callable[[Reader, T | None], R]") -> "R | None":
    try:
        spec = convert(value, kind, "")
    except Invalid:
        return None
    reader = Reader()
    match = read(reader, spec)
    return None if reader.complaints else match


def parse_workloads(spec: WorkloadsSpec | None, complaints: list[str]) -> WorkloadMatch:
    """`workloads`, as policies and exceptions have it; what is wrong with it is added to `complaints`."""
    reader = Reader()
    match = reader.workloads(spec)
    complaints += reader.complaints
    return match


def warnings(policy: Policy) -> tuple[str, ...]:
    """What is allowed and yet dangerous, or probably not meant."""
    notes = []
    if any(glob.covers_everything for glob in policy.exclude):
        notes.append("spec.exclude: leaves out every image, so the policy covers none")
    if sum(glob.literal is None for glob in policy.images) > _WILD_HOSTS_WORTH_A_WARNING:
        notes.append("spec.images: many globs begin with a wildcard; each costs time on every review")
    if any(glob.tag is not None for glob in policy.images):
        notes.append("spec.images: a glob with a tag does not cover an image named by digest alone")
    if not policy.signers:
        notes.append("spec.signers: none, so the policy denies what it lists and covers no image otherwise")
    if policy.terms.platforms == "any":
        notes.append("spec.platforms: any admits an index of which one image satisfies, whatever the others are")
    if policy.terms.deny and policy.terms.afterwards.rollout is not None:
        notes.append("spec.rollout: while the policy audits, what its deny list names is admitted")
    if policy.terms.deny.has_times:
        notes.append(
            "spec.deny: its times refuse signatures without a trusted time, too (by gpg, or by a key without a log entry or timestamp), "
            "under every policy that covers these images"
        )
    notes += outage_dangers(policy.terms.on_outage, by_tag=policy.terms.tags == "allow")
    for named in policy.signers:
        # A key that has not been read is no danger; the status tells of it.
        dangers = named.dangers if isinstance(named.signer, Unresolved) else named.signer.dangers()
        notes += [f'signer "{named.name}": {danger}' for danger in dangers]
    for field, globs in (("images", policy.images), ("exclude", policy.exclude)):
        notes += [f"spec.{field}: {danger}" for glob in globs if (danger := glob.danger()) is not None]
    return tuple(notes)
