"""Our custom resources as documents: which kind and name, before anything of the specification is looked at."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from webhook.parsing import Invalid, convert_all, quote
from webhook.verdict import PolicyKey

GROUP: Final = "trusted-images.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KINDS: Final = ("TrustPolicy", "ClusterTrustPolicy")
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
"""A name of an object of Kubernetes."""


@dataclass(frozen=True, slots=True)
class Document:
    """A custom resource: which policy, and its specification as it was written."""

    key: PolicyKey
    spec: object


class _Metadata(msgspec.Struct):
    name: str
    namespace: str | None = None


class _Resource(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    api_version: str
    kind: str
    metadata: dict[str, Any]
    spec: Any
    status: Any = None


@dataclass(frozen=True, slots=True)
class Header:
    """A custom resource of ours, of a kind that was wanted and with a name that can be one."""

    kind: str
    name: str
    namespace: str | None
    metadata: Mapping[str, Any]
    spec: object
    status: object


def parse_header(untrusted: object, kinds: Collection[str]) -> Header:
    """What is the same in all our kinds. Raises `Invalid`; the specification is not looked at."""
    resource = convert_all(untrusted, _Resource, "")
    metadata = convert_all(resource.metadata, _Metadata, ".metadata")
    name, namespace = metadata.name, metadata.namespace
    complaints = []
    if resource.api_version != API_VERSION:
        complaints.append(f"apiVersion: {quote(resource.api_version, 80)}, expected {API_VERSION}")
    if resource.kind not in kinds:
        complaints.append(f"kind: {quote(resource.kind, 80)}, expected {' or '.join(kinds)}")
    if not NAME.fullmatch(name):
        complaints.append(f"metadata.name: {quote(name, 80)} is not a name of Kubernetes")
    if resource.kind == "ClusterTrustPolicy" and namespace:
        complaints.append("metadata.namespace: a ClusterTrustPolicy stands in no namespace")
    if namespace and not NAME.fullmatch(namespace):
        complaints.append(f"metadata.namespace: {quote(namespace, 80)} is not a name of Kubernetes")
    if complaints:
        raise Invalid(*complaints)
    return Header(resource.kind, name, namespace, resource.metadata, resource.spec, resource.status)


def parse_document(untrusted: object) -> Document:
    """The policy that a custom resource is. Raises `Invalid`; the specification is not looked at yet."""
    header = parse_header(untrusted, KINDS)
    namespace = (header.namespace or "default") if header.kind == "TrustPolicy" else None
    return Document(PolicyKey(namespace, header.name), header.spec)
