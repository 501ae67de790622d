"""The chain from a policy's root keys to what a tag means, link by link. Pure: bytes and a time in, what is proven out.

Nothing but a root and the timestamp is parsed before its bytes have been compared with what vouches for them.
Source: The Update Framework, "Detailed client workflow"; notary 0.7, `tuf/builder.go`, `trustpinning/certs.go`.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from webhook import limits
from webhook.formats._keys import PublicKey
from webhook.formats.dct.keys import RoleKey, RoleKeys, common_names, read_role
from webhook.formats.dct.wire import (
    DelegatedRole,
    Document,
    FileMeta,
    Listing,
    Root,
    Signed,
    Targets,
    canonical,
    is_role_path,
    parse_time,
    read_document,
    read_signed,
)
from webhook.image import Digest
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected
from webhook.verdict import End, Version

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

T = TypeVar("T", bound=Signed)

_RENEWED_BY_SERVERS: Final = frozenset({"timestamp", "snapshot"})
"""Roles whose keys a server has, so that it signs them again before they expire; Notary gives it the snapshot's by default."""

_EARLIER_ROOT: Final = re.compile(r"(?P<version>[1-9][0-9]{0,15})\.root")


@dataclass(frozen=True, slots=True)
class Holder:
    """A role that holds targets, verified, and the beginnings of the names that it may speak about."""

    name: str
    signed: Targets
    paths: tuple[str, ...]

    def meaning(self, tag: str) -> str | None:
        """The SHA-256 that the role signs for a tag, in base64 as it was written."""
        found = self.signed.targets.get(tag) if tag.startswith(self.paths) else None
        return None if found is None else found.hashes.get("sha256")

    def tags(self, sha256: str) -> Iterable[str]:
        """The tags that mean a SHA-256."""
        return (tag for tag in self.signed.targets if self.meaning(tag) == sha256)

    def delegates_to(self, name: str) -> DelegatedRole | None:
        """The delegation of this name, if there is one."""
        return next((role for role in self.signed.delegations.roles or () if role.name == name), None)


@dataclass(frozen=True, slots=True)
class _SelfSigned:
    """A root, its own root keys, and those of them that signed it."""

    document: Document
    root: Root
    keys: RoleKeys
    signed: frozenset[PublicKey]


@dataclass(slots=True)
class Chain:
    """Metadata of one repository, verified from the root on. What was proven on the way stays here, also when a step fails.

    `anchors` names whatever vouches for all of it: it keeps the versions of one policy's root keys apart from another's. `ends`: until
    when the metadata holds; `publisher_ends`: the same of what only its publisher can renew, by signing again.
    """

    gun: str
    parts: Mapping[str, bytes]
    now: datetime
    anchors: Sequence[str]
    versions: list[Version] = field(default_factory=list)
    ends: list[datetime] = field(default_factory=list)
    publisher_ends: list[End] = field(default_factory=list)
    keys: set[PublicKey] = field(default_factory=set)

    def root(self, root_keys: Sequence[PublicKey]) -> tuple[Root, PublicKey]:
        """The root in use, and the key of the policy that vouches for it.

        The first root at hand must be signed by a key of the policy, as one of its own; each further one by the keys of the one before
        it and by its own, without a gap (attack T-08).
        """
        found = [match for name in self.parts if (match := _EARLIER_ROOT.fullmatch(name))]
        names = [*(match[0] for match in sorted(found, key=lambda match: int(match["version"]))), "root"]
        trusted = self._self_signed(names[0], last=len(names) == 1)
        anchor = next((key for key in root_keys if key in trusted.signed), None)
        if anchor is None:
            raise Rejected(f"{names[0]}: not signed by a root key of the policy")
        for name in names[1:]:
            following = self._self_signed(name, last=name == "root")
            versions = trusted.root.version, following.root.version
            if versions[1] != versions[0] + 1:
                raise Rejected(f"{name}: version {versions[1]} after version {versions[0]}")
            self.keys |= trusted.keys.signers(following.document, name)
            trusted = following
        self._learn("root", trusted.root, frozenset())
        self._refuse_expired("root", trusted.root)
        return trusted.root, anchor

    def _self_signed(self, name: str, *, last: bool) -> "_SelfSigned":
        """A root that is signed by its own keys; only the last one has to be valid now."""
        document = read_document(self._part(name), name)
        root = read_signed(document, Root, name)
        if root.type != "Root":
            raise Rejected(f"{name}: of type {quote(root.type, 40)}, not Root")
        keys = self._for_this_repository(read_role(root.roles.root, root.keys, f"{name}.roles.root"), name, last=last)
        signed = keys.signers(document, name)
        self.keys |= signed
        if last:
            ends = [key.ends for key in keys.keys.values() if key.ends is not None and key.key in signed]
            self.ends += ends
            self.publisher_ends += [End(end, f"a certificate of the root keys of {self.gun}") for end in ends]
        return _SelfSigned(document, root, keys, signed)

    def _for_this_repository(self, role: RoleKeys, name: str, *, last: bool) -> RoleKeys:
        """The root keys that count: in certificates for this repository, and for no other (attack T-09).

        Nothing else in the metadata names the repository, and publishers use one key for many.
        """
        kept: dict[str, RoleKey] = {}
        why = ""
        for keyid, key in role.keys.items():
            wrong = (
                "a key without a certificate" if key.certificate is None else self._fault(key.certificate, last=last)
            )
            if wrong is None:
                kept[keyid] = key
            else:
                why = wrong
        if not kept:
            raise Rejected(f"{name}: {why}")
        return RoleKeys(kept, role.threshold)

    def _fault(self, certificate: "Certificate", *, last: bool) -> str | None:
        try:
            names = common_names(certificate)
        except Invalid as e:
            return str(e)
        if names != (self.gun,):
            return f"its certificate is for {quote(', '.join(names) or 'nobody')}, not for {self.gun}"
        if last and not certificate.not_valid_before_utc <= self.now <= certificate.not_valid_after_utc:
            return (
                f"its certificate is valid from {certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}"
            )
        return None

    def timestamp(self, root: Root) -> Listing:
        """What the timestamp role says."""
        return self._verified(
            "timestamp", Listing, "Timestamp", read_role(root.roles.timestamp, root.keys, "timestamp")
        )

    def snapshot(self, root: Root, timestamp: Listing) -> Listing:
        """What the snapshot role says; the root in use is the one that it lists."""
        self._refuse_other_bytes("snapshot", timestamp.meta)
        keys = read_role(root.roles.snapshot, root.keys, "snapshot")
        snapshot = self._verified("snapshot", Listing, "Snapshot", keys)
        self._refuse_other_bytes("root", snapshot.meta)
        return snapshot

    def targets(self, root: Root, snapshot: Listing) -> Holder:
        """What the targets role says."""
        keys = read_role(root.roles.targets, root.keys, "targets")
        return self._holder("targets", keys, ("",), snapshot)

    def delegated(self, name: str, delegator: Holder, snapshot: Listing) -> Holder:
        """What a delegation says, by the keys that its delegator lists now and for the names it was given. Raises `Rejected`."""
        role = delegator.delegates_to(name)
        if role is None:
            raise Rejected(f"{name}: {delegator.name} delegates to no such role")
        if name not in snapshot.meta:
            raise Rejected(f"{name}: has signed nothing yet")
        # notary, `RestrictDelegationPathPrefixes`: a delegation cannot be given more than its delegator has.
        paths = tuple(path for path in role.paths if path.startswith(delegator.paths))
        keys = read_role(role, delegator.signed.delegations.keys or {}, name)
        return self._holder(name, keys, paths, snapshot)

    def _holder(self, name: str, keys: RoleKeys, paths: tuple[str, ...], snapshot: Listing) -> Holder:
        self._refuse_other_bytes(name, snapshot.meta)
        signed = self._verified(name, Targets, "Targets", keys, limits.MAX_TUF_VALUES)
        # notary, `isValidTargetsStructure`: a role delegates to its own children, each by one name.
        names = [role.name for role in signed.delegations.roles or ()]
        for child in names:
            if child.rpartition("/")[0] != name or not is_role_path(child):
                raise Rejected(f"{name}: delegates to {quote(child, 80)}, which is no role below it")
        if len(set(names)) < len(names):
            raise Rejected(f"{name}: delegates to one role twice")
        return Holder(name, signed, paths)

    def _verified(
        self, role: str, kind: type[T], type_name: str, keys: RoleKeys, most: int = limits.MAX_JSON_ITEMS
    ) -> T:
        document = read_document(self._part(role), role, most)
        signed_by = keys.signers(document, role)
        signed = read_signed(document, kind, role)
        if signed.type != type_name:
            raise Rejected(f"{role}: of type {quote(signed.type, 40)}, not {type_name}")
        self.keys |= signed_by
        # With the role's keys: whoever is given new ones starts to count anew, should a stolen one have run the number up.
        self._learn(role, signed, frozenset(key.key for key in keys.keys.values()))
        self._refuse_expired(role, signed)
        return signed

    def _learn(self, role: str, signed: Signed, keys: frozenset[PublicKey]) -> None:
        """Before it is asked whether it has expired: what is genuine and old still says that there was nothing older."""
        of = [*self.anchors, self.gun, role, *sorted(key.fingerprint for key in keys)]
        named = hashlib.sha256(canonical(of, role)).digest()
        self.versions.append(Version(named, f"{role} of {self.gun}", signed.version))

    def _refuse_expired(self, role: str, signed: Signed) -> None:
        expires = parse_time(signed.expires, f"{role}.signed.expires")
        if self.now >= expires:
            raise Rejected(f"{role}: expired {expires:%Y-%m-%dT%H:%M:%SZ}")
        self.ends.append(expires)
        if role not in _RENEWED_BY_SERVERS:
            self.publisher_ends.append(End(expires, f"{role} of {self.gun}"))

    def _refuse_other_bytes(self, role: str, listed: Mapping[str, FileMeta]) -> None:
        """Raises `Rejected` unless a role's bytes are those that another's metadata lists."""
        meta, content = listed.get(role), self._part(role)
        if meta is None or "sha256" not in meta.hashes:
            raise Rejected(f"{role}: not listed with a SHA-256")
        expected = {name: meta.hashes[name] for name in ("sha256", "sha512") if name in meta.hashes}
        found = {name: base64.b64encode(hashlib.new(name, content).digest()).decode() for name in expected}
        if len(content) != meta.length or found != expected:
            raise Rejected(f"{role}: not the bytes that are listed for it")

    def _part(self, role: str) -> bytes:
        try:
            return self.parts[role]
        except KeyError as e:
            raise Rejected(f"{role}: missing") from e


def agreed(holders: Sequence[Holder], tag: str, digest: Digest) -> None:
    """Returns if every role says that `tag` means `digest`. Raises `Rejected`."""
    for holder in holders:
        _refuse_other(holder.name, tag, holder.meaning(tag), digest)


def first(holders: Sequence[Holder], tag: str, digest: Digest) -> Holder:
    """The first of the roles that says anything about `tag`, if it says `digest`. Raises `Rejected`."""
    for holder in holders:
        meaning = holder.meaning(tag)
        if meaning is not None:
            _refuse_other(holder.name, tag, meaning, digest)
            return holder
    raise Rejected(f"{' and '.join(holder.name for holder in holders)}: nothing signed for tag {tag}")


def _refuse_other(role: str, tag: str, meaning: str | None, digest: Digest) -> None:
    if meaning is None:
        raise Rejected(f"{role}: nothing signed for tag {tag}")
    if meaning != in_base64(digest):
        # Attack R-05: the registry's word for a tag is not the signer's.
        raise Rejected(f"{role}: tag {tag} is signed for another image, {quote(_shown(meaning), 80)}")


def in_base64(digest: Digest) -> str:
    """A digest as targets metadata writes it."""
    return base64.b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()


def _shown(meaning: str) -> str:
    try:
        return f"sha256:{base64.b64decode(meaning, validate=True).hex()}"
    except ValueError:
        return meaning
