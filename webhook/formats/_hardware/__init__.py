"""`signers[].hardware`: a signer counts only by keys of which somebody vouches that they live in a device.

The evidence belongs to the policy, not to an image: it says nothing of one signature, and everything of the key that makes them. One
kind of evidence is one file and one row here.
"""

from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats._hardware import codesigning, yubikey
from webhook.formats._hardware.chain import Evidence
from webhook.formats._keys import short
from webhook.formats._x509 import parse_certificates, public_key, require_names
from webhook.image import Repository
from webhook.parsing import Invalid, quote
from webhook.trust import Claim, Device, HardwareEvidence, HardwareKind, Registry, Rejected, Signer, Untrusted
from webhook.trust import Evidence as Found
from webhook.verdict import End, Proof

if TYPE_CHECKING:
    # Imported where it is used: loading it takes longer than starting the command line.
    from cryptography.x509 import Certificate

_KINDS: Final[Mapping[HardwareKind, Callable[["Certificate", str, Evidence], Device]]] = {
    "yubikey-piv": yubikey.vouch,
    "code-signing-oid": codesigning.vouch,
}


@dataclass(frozen=True, slots=True)
class InHardware:
    """A signer, of whose keys only those in `devices` count, each while its evidence is valid."""

    signer: Signer
    devices: tuple[Device, ...]

    def scope(self, claim: Claim) -> Hashable:
        """The signer's own."""
        return self.signer.scope(claim)

    def sources(self, claim: Claim) -> tuple[Repository, ...]:
        """The signer's own."""
        return self.signer.sources(claim)

    def dangers(self) -> tuple[str, ...]:
        """The signer's own."""
        return self.signer.dangers()

    def fingerprints(self) -> tuple[str, ...]:
        """The signer's own: each of them has a device."""
        return self.signer.fingerprints()

    def wanted(self) -> str:
        """The signer's keys, and that they are in hardware."""
        return f"{self.signer.wanted()}, in hardware"

    def collect(self, claim: Claim, registry: Registry) -> AsyncGenerator[Found, None]:
        """The signer's own evidence; that of the hardware came with the policy."""
        return self.signer.collect(claim, registry)

    def check(self, evidence: Untrusted, claim: Claim, now: datetime) -> Proof:
        """Judges as the signer does, and then whether the key that signed is vouched for. Raises `Rejected` or `Invalid`."""
        proof = self.signer.check(evidence, claim, now)
        # The identity is the key that did sign, whatever else the signer would accept.
        device = next((device for device in self.devices if device.key == proof.identity), None)
        if device is None:
            raise Rejected(f"signed by {quote(proof.identity, 80)}, which no evidence shows to be in hardware")
        # A signature of a trusted time stays what it was; of another only the moment is known at which it is looked at.
        at = proof.signed_at or now
        if not device.valid_from <= at < device.valid_until:
            raise Rejected(
                f"signed by {short(device.key)}, whose hardware evidence is valid until {device.valid_until}"
            )
        if proof.signed_at is not None:
            return proof
        return proof.ending([End(device.valid_until, f"the evidence about {quote(device.about, 80)}")])


def hold(signer: Signer, given: HardwareEvidence) -> tuple[InHardware, tuple[Device, ...]]:
    """The signer, bound to hardware. Raises `Invalid` with a path if the evidence does not vouch for each of its keys.

    That it is valid now is for `InHardware.check` to say: time is no part of a policy.
    """
    certificates, roots = _certificates(given.evidence, ".evidence"), _certificates(given.roots, ".roots")
    if len(certificates) > limits.MAX_HARDWARE_CERTIFICATES:
        raise Invalid(f".evidence: more than {limits.MAX_HARDWARE_CERTIFICATES} certificates")
    if not signer.fingerprints():
        raise Invalid(": the signer has no keys of its own that hardware could hold")
    evidence = Evidence(certificates, roots, limits.MAX_ISSUER_CHECKS)
    vouch = _KINDS[given.attestation]
    by_key: dict[str, list[Certificate]] = {}
    for certificate in certificates:
        try:
            by_key.setdefault(public_key(certificate).fingerprint, []).append(certificate)
        except Invalid:
            # A key that no policy may trust is no signer's.
            continue
    complaints: list[str] = []
    devices: list[Device] = []
    for key in signer.fingerprints():
        reasons = [] if key in by_key else ["is about other keys"]
        for certificate in by_key.get(key, ()):
            try:
                devices.append(vouch(certificate, key, evidence))
            except Rejected as e:
                reasons.append(str(e))
            else:
                reasons.clear()
                break
        complaints += [f".evidence: does not vouch for key {short(key)}: {reason}" for reason in reasons]
    if complaints:
        raise Invalid(*complaints)
    return InHardware(signer, tuple(devices)), tuple(devices)


def _certificates(data: bytes, path: str) -> "tuple[Certificate, ...]":
    """Those in `data`, each with names that can be read: chains are looked for by them. Raises `Invalid` beginning with `path`."""
    found = parse_certificates(data, path)
    for one in found:
        require_names(one, path)
    return found
