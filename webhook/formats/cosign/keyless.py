"""Signed with a certificate that sigstore's authority issued for a token: the identity counts, the key lived for minutes.

Source: sigstore, architecture-docs, "Client specification", "Verification".
"""

from dataclasses import dataclass
from datetime import datetime

from webhook.formats._fulcio import read_certified
from webhook.formats._rekorbody import Signed
from webhook.formats._sct import require_timestamp
from webhook.formats._trustroot import TrustRoot
from webhook.formats._workload import Demand
from webhook.formats._x509 import public_key, require_code_signing
from webhook.formats.cosign.published import Published
from webhook.formats.cosign.signatory import Signatory
from webhook.formats.cosign.witnesses import Witnesses
from webhook.trust import Rejected


@dataclass(frozen=True, slots=True)
class Keyless:
    """A certificate under `root` that is `demand`'s."""

    demand: Demand
    root: TrustRoot
    witnesses: Witnesses

    def verify(self, published: Published, now: datetime) -> Signatory:
        """See `signatory.SignedBy`."""
        from cryptography.hazmat.primitives.serialization import Encoding

        # (1) The certificate's key made the signature.
        leaf = published.certificate
        if leaf is None:
            raise Rejected("signed by a key, and the policy wants an identity")
        key = public_key(leaf)
        key.verify(published.signature, published.message)
        # (2) When: the certificate lives for minutes, so that without somebody else's word about the time it proves nothing.
        der = leaf.public_bytes(Encoding.DER)
        signed = Signed(published.message, published.signature, key, der, published.envelope_payload)
        testimony = self.witnesses.hear(published, signed, now)
        # (3) The chain at every one of these moments, to one authority that was in force then.
        chain = self.root.chain(leaf, testimony.moments)
        # (4) What the certificate is for.
        require_code_signing(leaf)
        # (5) It was shown to a certificate log before.
        require_timestamp(leaf, chain[1], self.root.certificate_logs)
        # (6) Whose it is.
        certified = read_certified(leaf)
        self.demand.check(certified)
        return Signatory(
            identity=str(certified),
            signed_at=testimony.signed_at,
            serial=f"{leaf.serial_number:x}",
            log_index=testimony.log_index,
            keys=(key.fingerprint,),
        )

    def dangers(self) -> tuple[str, ...]:
        """Those of the identity that is demanded."""
        return self.demand.dangers()

    def fingerprints(self) -> tuple[str, ...]:
        """Of the certificate authorities' keys."""
        return self.root.anchors

    def wanted(self) -> str:
        """The identity."""
        return self.demand.wanted()
