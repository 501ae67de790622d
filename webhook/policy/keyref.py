"""Key strings: material itself, or a reference to where it is. Who may refer to what is decided here: whose namespace, and who may point outside the cluster."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from webhook import limits
from webhook.parsing import Invalid, quote
from webhook.policy.pkcs11uri import SCHEME, TokenKey, parse_pkcs11_uri
from webhook.trust import KeyRef
from webhook.verdict import PolicyKey

ObjectKind = Literal["Secret", "ConfigMap"]

_PEM: Final = "-----BEGIN "
_PUBLIC_ROOT: Final = "public"
_KINDS: Final[dict[str, ObjectKind]] = {"secret": "Secret", "configmap": "ConfigMap"}
_NAME: Final = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_OBJECT: Final = re.compile(
    rf"(?P<scheme>secret|configmap)://(?:(?P<namespace>{_NAME})/)?(?P<name>{_NAME})#(?P<entry>[A-Za-z0-9._-]{{1,253}})"
)
_K8S: Final = re.compile(rf"k8s://(?P<namespace>{_NAME})/(?P<name>{_NAME})")
_COSIGN_ENTRY: Final = "cosign.pub"
# No login and no query, which may hold one: what names a key is told to everybody who reads the policy.
_URL: Final = re.compile(
    r"(?P<url>https://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1024})"
    r"#sha256=(?P<sha256>[0-9a-f]{64})"
)
_LATER: Final = ("awskms://", "gcpkms://", "azurekms://", "hashivault://")


@dataclass(frozen=True, slots=True)
class Inline:
    """Material that stands in the policy itself: a PEM, or the JSON of a trust root."""

    text: str


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """One entry of a Secret or ConfigMap."""

    kind: ObjectKind
    namespace: str
    name: str
    entry: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}, entry {self.entry}"


@dataclass(frozen=True, slots=True)
class UrlKey:
    """A document on the Web, known by its SHA-256 in lower-case hex: whoever serves it decides nothing."""

    url: str
    sha256: str

    def __str__(self) -> str:
        return quote(self.url, 160)


@dataclass(frozen=True, slots=True)
class PublicRoot:
    """The trust root of the public-good instance of sigstore, which TUF keeps up to date."""

    def __str__(self) -> str:
        return "sigstore's public trust root"


RemoteKey = UrlKey | TokenKey | PublicRoot
"""Key material outside the cluster."""

Key = ObjectKey | RemoteKey
"""Key material that has to be read."""


def parse_keyref(reference: KeyRef, owner: PolicyKey, home: str) -> Inline | Key:
    """What a key string of the policy `owner` stands for.

    A namespaced policy may name objects of its own namespace only, a cluster policy those of `home`, where the webhook
    runs: otherwise whoever may write a policy could read other people's Secrets through us. Nor may it have us ask a host or a
    token: that is for cluster policies (attack M-06).

    Raises `Invalid`; the text of a PEM is never repeated in it.
    """
    if reference.lstrip().startswith((_PEM, "{")):
        if len(reference) > limits.MAX_KEY_TEXT:
            raise Invalid(f"more than {limits.MAX_KEY_TEXT} bytes")
        return Inline(reference)
    if reference == _PUBLIC_ROOT:
        return PublicRoot()
    if reference.startswith(_LATER):
        scheme = reference.partition(":")[0]
        raise Invalid(f"{scheme}: key references are not supported yet; use a PEM, secret:// or configmap://")
    if reference.startswith(("https://", SCHEME)):
        return _remote(reference, owner)
    own = owner.namespace or home
    match = _OBJECT.fullmatch(reference)
    if match is not None:
        key = ObjectKey(_KINDS[match["scheme"]], match["namespace"] or own, match["name"], match["entry"])
    elif (match := _K8S.fullmatch(reference)) is not None:
        key = ObjectKey("Secret", match["namespace"], match["name"], _COSIGN_ENTRY)
    else:
        raise Invalid(_not_a_key(reference))
    if key.namespace != own:
        whose = "its own namespace" if owner.namespace else "the webhook's own namespace"
        raise Invalid(f"namespace {key.namespace}: a policy of this kind reads {whose} only ({own})")
    return key


def _remote(reference: KeyRef, owner: PolicyKey) -> RemoteKey:
    if owner.namespace is not None:
        scheme = reference.partition(":")[0]
        raise Invalid(f"{scheme}: only a ClusterTrustPolicy may refer to keys outside the cluster")
    if reference.startswith(SCHEME):
        return parse_pkcs11_uri(reference)
    match = _URL.fullmatch(reference)
    if match is None:
        raise Invalid(
            "https: write https://HOST/PATH#sha256=HEX, without a login and a query, with 64 lower-case hex digits"
        )
    return UrlKey(match["url"], match["sha256"])


def _not_a_key(reference: str) -> str:
    if reference.startswith(("secret://", "configmap://")):
        return f"{quote(reference, 80)}: write secret://NAME#ENTRY or configmap://NAME#ENTRY"
    if reference.startswith("k8s://"):
        return f"{quote(reference, 80)}: write k8s://NAMESPACE/NAME"
    # Not repeated: it may be somebody's private key in a form we do not know.
    return (
        "not a key: write a PEM public key (-----BEGIN PUBLIC KEY-----), secret://NAME#ENTRY or configmap://NAME#ENTRY"
    )
