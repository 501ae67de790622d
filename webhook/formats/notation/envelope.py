"""What an envelope says, whichever form it has: the attributes of a Notary Project signature, decoded and not verified.

`jws` and `cose` turn bytes into this; what both must hold is checked here once.
Source: Notary Project, signature-specification.md, "Signed Attributes", "Unsigned Attributes"; signing-scheme.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from webhook.parsing import Invalid, quote
from webhook.trust import Rejected

Scheme = Literal["notary.x509", "notary.x509.signingAuthority"]

PAYLOAD_TYPE: Final = "application/vnd.cncf.notary.payload.v1+json"
SCHEME: Final = "io.cncf.notary.signingScheme"
SIGNING_TIME: Final = "io.cncf.notary.signingTime"
AUTHENTIC_TIME: Final = "io.cncf.notary.authenticSigningTime"
EXPIRY: Final = "io.cncf.notary.expiry"
PLUGIN: Final = "io.cncf.notary.verificationPlugin"
TIMESTAMP: Final = "io.cncf.notary.timestampSignature"

ALGORITHMS: Final = frozenset({"PS256", "PS384", "PS512", "ES256", "ES384", "ES512"})


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope, decoded. Nothing in it is true before `signature` was verified over `signed` by a key that is trusted.

    `algorithm` is JWS's name of it. `certificates` are DER, the leaf first. `signing_time` and `expiry` are what the signer claims;
    `authentic_time` what a signing authority does. All times are aware.
    """

    algorithm: str
    scheme: Scheme
    signing_time: datetime | None
    authentic_time: datetime | None
    expiry: datetime | None
    untrusted_payload: bytes
    signed: bytes
    signature: bytes
    certificates: tuple[bytes, ...]
    timestamp: bytes | None


@dataclass(frozen=True, slots=True)
class Attributes:
    """The signed attributes, checked against one another."""

    scheme: Scheme
    signing_time: datetime | None
    authentic_time: datetime | None
    expiry: datetime | None


def read_attributes(
    names: Iterable[object], scheme: object, times: Mapping[str, datetime], critical: Sequence[object], path: str
) -> Attributes:
    """What the protected header says. `names` are all labels in it, `times` those of its times that are there.

    Raises `Rejected` if something must be understood that is not, or something is missing that the scheme demands.
    """
    # signing-scheme.md: an unknown scheme is a signature that means something else.
    if scheme != "notary.x509" and scheme != "notary.x509.signingAuthority":  # noqa: PLR1714 - narrows the type
        raise Rejected(f"{path}: signing scheme {quote(scheme, 80)} is not supported")
    # signature-specification.md, "Guidelines": without its plugin a signature that wants one must fail.
    for name in names:
        if isinstance(name, str) and name.startswith(PLUGIN):
            raise Rejected(f"{path}: it demands a verification plugin, and there are none here")
    _check_critical(critical, scheme, times, path)
    authority = scheme == "notary.x509.signingAuthority"
    wanted, unwanted = (AUTHENTIC_TIME, SIGNING_TIME) if authority else (SIGNING_TIME, AUTHENTIC_TIME)
    if wanted not in times or unwanted in times:
        raise Rejected(f"{path}: signing scheme {scheme} has {wanted} and not {unwanted}")
    expiry = times.get(EXPIRY)
    if expiry is not None and expiry <= times[wanted]:
        raise Rejected(f"{path}: it expires before it was signed")
    return Attributes(scheme, times.get(SIGNING_TIME), times.get(AUTHENTIC_TIME), expiry)


def _check_critical(critical: Sequence[object], scheme: Scheme, times: Mapping[str, datetime], path: str) -> None:
    """The critical labels are exactly those that the specification marks so: more is not understood, less is not signed for."""
    wanted = {SCHEME}
    if scheme == "notary.x509.signingAuthority":
        wanted.add(AUTHENTIC_TIME)
    if EXPIRY in times:
        wanted.add(EXPIRY)
    labels = [label for label in critical if isinstance(label, str)]
    unknown = [label for label in critical if label not in labels or label not in wanted]
    if unknown:
        raise Rejected(f"{path}: critical header {quote(unknown[0], 80)} is not understood")
    if sorted(labels) != sorted(wanted):
        raise Rejected(f"{path}: {', '.join(sorted(wanted))} must be marked critical, each once")


def as_text(value: object, path: str) -> str:
    """`value`, if it is text. Raises `Invalid`."""
    if not isinstance(value, str):
        raise Invalid(f"{path}: expected text")
    return value


def as_list(value: object, path: str) -> list[object]:
    """`value`, if it is a list. Raises `Invalid`."""
    if not isinstance(value, list):
        raise Invalid(f"{path}: expected a list")
    return value


def refuse_lookalikes(names: Iterable[object], known: Iterable[str], path: str) -> None:
    """Raises `Rejected` for a name that differs from a known one in letter case only: it is one name to some readers."""
    exact = {name.casefold(): name for name in known}
    for name in names:
        if isinstance(name, str) and exact.get(name.casefold(), name) != name:
            raise Rejected(f"{path}: {quote(name, 80)} and {exact[name.casefold()]} are one name to other readers")
