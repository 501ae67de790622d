"""What a simple signing payload says of an image, whoever signs it: cosign took the form over from GPG's.

Source: containers/image, docs/atomic-signature.md.
"""

from msgspec import Struct


class SignedIdentity(Struct, rename="kebab", forbid_unknown_fields=True):
    """Which image name was signed."""

    docker_reference: str


class SignedImage(Struct, rename="kebab", forbid_unknown_fields=True):
    """Which digest was signed."""

    docker_manifest_digest: str


class Critical(Struct, forbid_unknown_fields=True):
    """Every member must be understood: that is what "critical" means."""

    identity: SignedIdentity
    image: SignedImage
    type: str
