"""Predicate types by the short names that policies use, and where in a predicate its own time stands.

Sources: in-toto Attestation Framework, spec/predicates; SLSA, "Provenance" v0.2 and v1; cosign, COSIGN_VULN_ATTESTATION_SPEC.md;
OpenVEX, ATTESTING.md; and what `cosign attest --type` writes.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from webhook import limits
from webhook.parsing import Invalid, quote
from webhook.policy.cel.values import Failure, Timestamp, Value, read_timestamp

_SLSA_02: Final = "https://slsa.dev/provenance/v0.2"
_SLSA_1: Final = "https://slsa.dev/provenance/v1"
_SPDX: Final = ("https://spdx.dev/Document", "https://spdx.dev/Document/v2.2", "https://spdx.dev/Document/v2.3")
_CYCLONEDX: Final = (
    "https://cyclonedx.org/bom",
    *(f"https://cyclonedx.org/bom/v{version}" for version in ("1.4", "1.5", "1.6", "1.7")),
)
_VULN: Final = (
    "https://cosign.sigstore.dev/attestation/vuln/v1",
    "cosign.sigstore.dev/attestation/vuln/v1",
    "https://in-toto.io/attestation/vulns/v0.1",
    "https://in-toto.io/attestation/vulns/v0.2",
)
_OPENVEX: Final = ("https://openvex.dev/ns", "https://openvex.dev/ns/v0.2.0")

SHORT_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "slsa-provenance": (_SLSA_1, _SLSA_02),
    "spdx": _SPDX,
    "cyclonedx": _CYCLONEDX,
    "vuln": _VULN,
    "openvex": _OPENVEX,
    "test-result": ("https://in-toto.io/attestation/test-result/v0.1",),
}
"""What each short name stands for: any of these types."""

_SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"

_TIMES: Final[Mapping[str, Sequence[tuple[str, ...]]]] = {
    _SLSA_1: (("runDetails", "metadata", "finishedOn"),),
    _SLSA_02: (("metadata", "buildFinishedOn"),),
    **dict.fromkeys(_SPDX, (("creationInfo", "created"),)),
    **dict.fromkeys(_CYCLONEDX, (("metadata", "timestamp"),)),
    **dict.fromkeys(_VULN, (("metadata", "scanFinishedOn"),)),
    **dict.fromkeys(_OPENVEX, (("last_updated",), ("timestamp",))),
}
"""Where the time stands of what a predicate reports; the first that is there counts."""


def parse_predicate_type(text: str) -> tuple[str, ...]:
    """The types that `type` in a policy stands for. Raises `Invalid`."""
    if text in SHORT_NAMES:
        return SHORT_NAMES[text]
    known = ", ".join(SHORT_NAMES)
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > limits.MAX_PREDICATE_TYPE:
        raise Invalid(f"{quote(text, 80)}: not a predicate type; one of {known}, or a URI")
    if text == _SIGNATURE:
        raise Invalid("that is a signature and no attestation; signers stand for those")
    if ":" not in text and "/" not in text:
        raise Invalid(f"{quote(text, 80)}: unknown; known: {known}; any other type is named by its URI")
    return (text,)


def reported_at(predicate_type: str, predicate: Value) -> Timestamp | None:
    """The time that a predicate of this type gives to what it reports; None if it gives none. Raises `Invalid`."""
    for path in _TIMES.get(predicate_type, ()):
        value = predicate
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            where = f"predicate.{'.'.join(path)}"
            if not isinstance(value, str):
                raise Invalid(f"{where}: no time")
            try:
                return read_timestamp(value)
            except Failure as e:
                raise Invalid(f"{where}: {e}") from e
    return None
