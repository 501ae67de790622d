"""Signed certificate timestamps: that a certificate was shown to a certificate log before anybody relied on it.

Without one a certificate authority could issue a certificate that nobody will ever see. Source: RFC 6962, sections 3.2 and 3.3.
"""

import hashlib
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from webhook import limits
from webhook.formats._logs import Log
from webhook.formats._x509 import extensions_of
from webhook.trust import Rejected

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from cryptography.x509.certificate_transparency import SignedCertificateTimestamp

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def require_timestamp(leaf: "Certificate", issuer: "Certificate", logs: Sequence[Log]) -> None:
    """Returns if one of the certificate logs has signed that it was shown `leaf`, which `issuer` issued. Raises `Rejected`."""
    from cryptography.x509 import ExtensionNotFound, PrecertificateSignedCertificateTimestamps

    try:
        extension = extensions_of(leaf).get_extension_for_class(PrecertificateSignedCertificateTimestamps)
        shown, precertificate = list(extension.value), leaf.tbs_precertificate_bytes
    except (ExtensionNotFound, ValueError) as e:
        raise Rejected("its certificate holds no signed certificate timestamp") from e
    reasons = ["its certificate's timestamps are of no certificate log that is trusted"]
    for timestamp in shown[: limits.MAX_LOG_ENTRIES]:
        for log in logs:
            if log.identity != timestamp.log_id:
                continue
            try:
                log.verify(timestamp.signature, _signed(timestamp, precertificate, issuer), "certificate timestamp")
            except Rejected as e:
                reasons.append(str(e))
                continue
            if log.window.includes(timestamp.timestamp.replace(tzinfo=UTC)):
                return
            reasons.append("certificate timestamp: its log was not in force at that time")
    raise Rejected(reasons[-1])


def _signed(timestamp: "SignedCertificateTimestamp", precertificate: bytes, issuer: "Certificate") -> bytes:
    """What the log has signed: version 1, the moment, and the certificate as it was before the timestamp was put into it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    moment = (timestamp.timestamp.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
    extensions = timestamp.extension_bytes
    return b"".join(
        (
            # sct_version v1, certificate_timestamp, timestamp, precert_entry
            struct.pack(">BBQH", 0, 0, moment, 1),
            hashlib.sha256(key).digest(),
            len(precertificate).to_bytes(3, "big"),
            precertificate,
            struct.pack(">H", len(extensions)),
            extensions,
        )
    )
