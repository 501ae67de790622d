"""Signed with a certificate of one's own authority: a chain to roots that the policy holds, and a name in the certificate."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from webhook.formats._rekorbody import Signed
from webhook.formats._x509 import end_of, extensions_of, public_key, require_code_signing, unreadable, verify_chain
from webhook.formats.cosign.published import Published
from webhook.formats.cosign.signatory import Signatory
from webhook.formats.cosign.witnesses import Witnesses
from webhook.parsing import Invalid, quote
from webhook.trust import Rejected
from webhook.verdict import first_end

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

NameKind = Literal["email", "hostname", "uri", "subject"]
"""Where in a certificate the name stands: a subject alternative name of this kind, or the distinguished name."""


@dataclass(frozen=True, slots=True)
class CertifiedName:
    """The name that a certificate has to bear, whole."""

    kind: NameKind
    text: str

    def check(self, leaf: "Certificate") -> None:
        """Returns if `leaf` bears it, among others. Raises `Rejected`."""
        found = self._found(leaf)
        if self.text not in found:
            shown = ", ".join(quote(name, 80) for name in found[:3]) or "nobody"
            raise Rejected(f"signed by {self.kind} {shown}, not {quote(self.text, 80)}")

    def _found(self, leaf: "Certificate") -> tuple[str, ...]:
        from cryptography.x509 import (
            DNSName,
            ExtensionNotFound,
            RFC822Name,
            SubjectAlternativeName,
            UniformResourceIdentifier,
        )

        if self.kind == "subject":
            try:
                return (_shown(leaf.subject),)
            except unreadable() as e:
                raise Rejected("its certificate's subject cannot be read") from e
        try:
            names = extensions_of(leaf).get_extension_for_class(SubjectAlternativeName).value
        except ExtensionNotFound:
            return ()
        if self.kind == "email":
            return tuple(names.get_values_for_type(RFC822Name))
        if self.kind == "uri":
            return tuple(names.get_values_for_type(UniformResourceIdentifier))
        return tuple(name.lower() for name in names.get_values_for_type(DNSName))

    def __str__(self) -> str:
        return f"{self.kind}:{self.text}"


def read_name(kind: NameKind, text: str, path: str) -> CertifiedName:
    """The name that a policy writes, in the form it is compared in. Raises `Invalid` beginning with `path`."""
    from cryptography.x509 import Name

    if "*" in text:
        raise Invalid(f"{path}: {quote(text, 80)}: names are compared whole; no character stands for others")
    if kind == "hostname":
        return CertifiedName(kind, text.lower())
    if kind != "subject":
        return CertifiedName(kind, text)
    try:
        return CertifiedName(kind, _shown(Name.from_rfc4514_string(text)))
    except ValueError as e:
        raise Invalid(f"{path}: {quote(text, 80)}: not a distinguished name, such as CN=release,O=Acme") from e


def _shown(name: "Name") -> str:
    """RFC 4514: the most specific part first, with its escapes, so that two texts are equal only if the names are."""
    return name.rfc4514_string()


@dataclass(frozen=True, slots=True)
class OwnAuthority:
    """A certificate that leads to one of `roots`, by way of the policy's intermediates and those that come with it, and bears `name`.

    `anchors` are the fingerprints of the roots' keys.
    """

    roots: "tuple[Certificate, ...]"
    anchors: tuple[str, ...]
    intermediates: "tuple[Certificate, ...]"
    name: CertifiedName
    witnesses: Witnesses

    def verify(self, published: Published, now: datetime) -> Signatory:
        """See `signatory.SignedBy`."""
        from cryptography.hazmat.primitives.serialization import Encoding

        # (1) The certificate's key made the signature.
        leaf = published.certificate
        if leaf is None:
            raise Rejected("signed by a key, and the policy wants a certificate")
        key = public_key(leaf)
        key.verify(published.signature, published.message)
        # (2) When: at the moments that somebody vouches for, else now, since such certificates live long.
        der = leaf.public_bytes(Encoding.DER)
        signed = Signed(published.message, published.signature, key, der, published.envelope_payload)
        testimony = self.witnesses.hear(published, signed, now)
        # (3) The whole chain at each of these moments (attack C-09).
        between = (*self.intermediates, *published.intermediates)
        chains = [verify_chain(leaf, between, self.roots, at) for at in testimony.moments or (now,)]
        # (4) What the certificate is for.
        require_code_signing(leaf)
        # (5) Whose it is.
        self.name.check(leaf)
        anchor = public_key(chains[0][-1])
        # What rests on the present ends with the chain; what is proven for the past stays.
        end = None if testimony.moments else first_end((end_of(chains[0]), testimony.ends))
        return Signatory(
            identity=f"issuer={anchor.fingerprint},subject={self.name}",
            signed_at=testimony.signed_at,
            valid_until=None if end is None else end.at,
            serial=f"{leaf.serial_number:x}",
            log_index=testimony.log_index,
            keys=(key.fingerprint, anchor.fingerprint),
            ends=end,
        )

    def dangers(self) -> tuple[str, ...]:
        """None: one name under one's own authority."""
        return ()

    def fingerprints(self) -> tuple[str, ...]:
        """Of the roots' keys."""
        return self.anchors

    def wanted(self) -> str:
        """The name."""
        return f"{self.name.kind} {quote(self.name.text, 120)}"
