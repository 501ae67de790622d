"""Notation: signatures of the Notary Project, in JWS and COSE, by certificates.

`spec` is what policies write, `collect` finds evidence, `signer` judges it; `envelope`, `jws`, `cose` and `cbor` read what was signed,
`chain` and `names` by whom, `level` says what a failure does.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from webhook import limits
from webhook.formats import _timestamp, _x509
from webhook.formats.notation import chain, names
from webhook.formats.notation.level import actions
from webhook.formats.notation.signer import Notation, dangers_of
from webhook.formats.notation.spec import NotationSpec, StoreType
from webhook.parsing import Invalid, quote
from webhook.policy.names import Name
from webhook.trust import Format, KeyRef


def _keys(spec: NotationSpec) -> Iterable[tuple[str, KeyRef]]:
    for i, store in enumerate(spec.trust_stores):
        yield f".trustStores[{i}].certs", store.certs


def _examine(spec: NotationSpec) -> tuple[str, ...]:
    complaints: list[str] = []
    identities = _read(spec, complaints)
    if complaints:
        raise Invalid(*complaints)
    return dangers_of(actions(spec.level, spec.override), identities)


def _build(spec: NotationSpec, materials: Mapping[KeyRef, bytes]) -> Notation:
    complaints: list[str] = []
    stores: list[tuple[StoreType, tuple[bytes, ...]]] = []
    for i, store in enumerate(spec.trust_stores):
        try:
            stores.append((store.type, _certificates(materials[store.certs], store.type, f".trustStores[{i}].certs")))
        except Invalid as e:
            complaints += e.complaints
    if sum(len(certificates) for _, certificates in stores) > limits.MAX_KEYS:
        complaints.append(f".trustStores: more than {limits.MAX_KEYS} certificates in all")
    identities = _read(spec, complaints)
    if complaints:
        raise Invalid(*complaints)
    return Notation(
        ca=_of(stores, "ca"),
        signing_authority=_of(stores, "signingAuthority"),
        tsa=tuple(certificates for kind, certificates in stores if kind == "tsa"),
        identities=identities,
        actions=actions(spec.level, spec.override),
        timestamp=spec.timestamp or "always",
        annotations=frozenset(spec.annotations.items()),
        described=tuple(quote(identity, 120) for identity in spec.trusted_identities),
    )


def _read(spec: NotationSpec, complaints: list[str]) -> frozenset[Name] | None:
    """What is written, whatever the certificates are: the names that are trusted, None for anybody's."""
    types = {store.type for store in spec.trust_stores}
    if types <= {"tsa"}:
        complaints.append(".trustStores: none of type ca or signingAuthority, so nobody could vouch for a signer")
    if spec.timestamp is not None and "tsa" not in types:
        complaints.append(".timestamp: needs a trust store of type tsa")
    return _identities(spec.trusted_identities, complaints)


def _certificates(material: bytes, kind: StoreType, path: str) -> tuple[bytes, ...]:
    """A store's certificates in DER, each once. Raises `Invalid` beginning with `path`."""
    from cryptography.hazmat.primitives.serialization import Encoding

    found = _x509.parse_certificates(material, path)
    for one in found:
        try:
            _x509.public_key(one)
        except Invalid as e:
            raise Invalid(f"{path}: {e}") from e
    if kind == "tsa":
        _timestamp.read_authorities(found, path)
    elif not all(chain.may_be_trusted(one) for one in found):
        raise Invalid(
            f"{path}: a certificate that is neither an authority's nor self-signed; name it in trustedIdentities"
        )
    return tuple(dict.fromkeys(one.public_bytes(Encoding.DER) for one in found))


def _identities(written: Iterable[str], complaints: list[str]) -> frozenset[Name] | None:
    """The names that are trusted; None for anybody's."""
    found: list[Name | None] = []
    for i, text in enumerate(written):
        try:
            found.append(names.parse_identity(text))
        except Invalid as e:
            complaints += [f".trustedIdentities[{i}]: {complaint}" for complaint in e.complaints]
    known = [name for name in found if name is not None]
    if len(known) < len(found) and len(found) > 1:
        complaints.append(".trustedIdentities: * stands alone")
    if names.overlap(known):
        complaints.append(".trustedIdentities: one of them contains another, so that it is not clear who is meant")
    if not found and not complaints:
        complaints.append(".trustedIdentities: empty, so nobody could have signed")
    return None if found == [None] else frozenset(known)


def _of(stores: Iterable[tuple[StoreType, tuple[bytes, ...]]], wanted: StoreType) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(one for kind, certificates in stores if kind == wanted for one in certificates))


FORMAT: Final = Format(
    "notation",
    "Signatures of the Notary Project, in JWS or COSE, by certificates.",
    NotationSpec,
    keys=_keys,
    build=_build,
    examine=_examine,
)
