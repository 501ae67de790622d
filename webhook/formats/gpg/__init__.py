"""GPG simple signing: what skopeo and podman write beside images, judged without GnuPG.

`spec` is what policies write, `collect` finds evidence, `signer` judges it; below them `message` and `keyring` read what OpenPGP
says, and `signature` and `packets` how it says it. Source: containers/image, docs/atomic-signature.md.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from webhook.formats._identity import IdentityRule, read_identity
from webhook.formats.gpg.collect import REGISTRY
from webhook.formats.gpg.keyring import Certificate, parse_keyring
from webhook.formats.gpg.signer import Gpg, TrustedKey
from webhook.formats.gpg.spec import GpgSpec
from webhook.parsing import Invalid, quote
from webhook.trust import Format, KeyRef

_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}")
# No login, no query: the names of signatures are put behind it.
_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]*)*")


def _keys(spec: GpgSpec) -> Iterable[tuple[str, KeyRef]]:
    yield ".keys", spec.keys


def _examine(spec: GpgSpec) -> tuple[str, ...]:
    complaints: list[str] = []
    _read(spec, complaints)
    if complaints:
        raise Invalid(*complaints)
    return ()


def _build(spec: GpgSpec, materials: Mapping[KeyRef, bytes]) -> Gpg:
    complaints: list[str] = []
    keys: tuple[TrustedKey, ...] = ()
    try:
        keys = _trusted(parse_keyring(materials[spec.keys], ".keys"), spec.fingerprints)
    except Invalid as e:
        complaints += e.complaints
    identity = _read(spec, complaints)
    if complaints:
        raise Invalid(*complaints)
    return Gpg(keys, identity, spec.lookaside.rstrip("/"))


def _read(spec: GpgSpec, complaints: list[str]) -> IdentityRule:
    """What is written, whatever the keys are: the names that count."""
    if spec.fingerprints is not None and not spec.fingerprints:
        complaints.append(".fingerprints: empty, so nobody could have signed")
    complaints += [
        f".fingerprints[{i}]: {quote(written, 60)}: not a full fingerprint, of 40 hex digits"
        for i, written in enumerate(spec.fingerprints or ())
        if not _FINGERPRINT.fullmatch(written)
    ]
    try:
        identity = read_identity(spec.identity, ".identity", bare_names=False)
    except Invalid as e:
        complaints += e.complaints
        identity = IdentityRule("exact")
    if spec.lookaside != REGISTRY and not _ADDRESS.fullmatch(spec.lookaside):
        complaints.append(
            f".lookaside: {quote(spec.lookaside, 80)}: neither the address of a store (https://…, without login and query)"
            f" nor the word {REGISTRY}"
        )
    return identity


def _trusted(certificates: Sequence[Certificate], fingerprints: Sequence[str] | None) -> tuple[TrustedKey, ...]:
    """The keys that count. Raises `Invalid` for a fingerprint of no key in the keyring."""
    keys = [TrustedKey(one.primary, key) for one in certificates for key in one.signing_keys]
    if fingerprints is None:
        return tuple(keys)
    known = {fingerprint for one in keys for fingerprint in (one.key.fingerprint, one.primary.fingerprint)}
    wanted = {written.upper() for written in fingerprints}
    complaints = [
        f".fingerprints[{i}]: {written.upper()}: `keys` holds no such key that may sign"
        for i, written in enumerate(fingerprints)
        if _FINGERPRINT.fullmatch(written) and written.upper() not in known
    ]
    if complaints:
        raise Invalid(*complaints)
    return tuple(one for one in keys if not wanted.isdisjoint({one.key.fingerprint, one.primary.fingerprint}))


FORMAT: Final = Format(
    "gpg",
    "GPG simple signing, as skopeo and podman write it.",
    GpgSpec,
    keys=_keys,
    build=_build,
    examine=_examine,
)
