"""Cosign: signatures and bundles in every layout that it writes.

Which of them an image carries is found out, never configured, and they are judged one by one: a broken one hides no good
one. `spec` is what policies write, `collect` finds evidence, `signer` judges it.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from webhook.formats._hardware import hold
from webhook.formats._identity import IdentityRule, read_identity
from webhook.formats._keys import PublicKey, parse_public_keys
from webhook.formats.cosign.signer import Cosign
from webhook.formats.cosign.spec import CosignSpec
from webhook.image import parse_repository
from webhook.parsing import Invalid
from webhook.trust import Format, KeyRef


def _keys(spec: CosignSpec) -> Iterable[tuple[str, KeyRef]]:
    if spec.key is not None:
        yield ".key", spec.key
    for i, key in enumerate(spec.keys or ()):
        yield f".keys[{i}]", key


def _build(spec: CosignSpec, materials: Mapping[KeyRef, bytes]) -> Cosign:
    complaints: list[str] = []
    if (spec.key is None) == (spec.keys is None):
        complaints.append(": exactly one of key and keys is wanted")
    elif spec.keys is not None and not spec.keys:
        complaints.append(".keys: empty, so nobody could sign")
    anchors: dict[PublicKey, None] = {}
    for path, reference in _keys(spec):
        try:
            anchors.update(dict.fromkeys(parse_public_keys(materials[reference], path)))
        except Invalid as e:
            complaints += e.complaints
    try:
        repository = parse_repository(spec.repository) if spec.repository is not None else None
    except Invalid as e:
        complaints.append(f".repository: {e}")
        repository = None
    try:
        identity = read_identity(spec.identity, ".identity", bare_names=True)
    except Invalid as e:
        complaints += e.complaints
        identity = IdentityRule("exact")
    if complaints:
        raise Invalid(*complaints)
    return Cosign(tuple(anchors), identity, frozenset(spec.annotations.items()), repository)


FORMAT: Final = Format(
    "cosign",
    "Signatures by cosign 2 and 3, whichever layout they have.",
    CosignSpec,
    keys=_keys,
    build=_build,
    hold=hold,
)
