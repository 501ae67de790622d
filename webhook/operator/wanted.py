"""Which webhook configurations are wanted: what the chart's ConfigMap says, read strictly.

Whatever stands there is written with our rights, and what stands there no more is kept by nobody. So it is all of what the chart writes,
under our names and leading to our Service, or it is nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from webhook import limits
from webhook.kube.client import Document
from webhook.operator.installation import Installation
from webhook.parsing import Invalid, convert_all, quote
from webhook.policy.document import GROUP
from webhook.yamltext import read_yaml

_API: Final = "/apis/admissionregistration.k8s.io/v1"
COLLECTIONS: Final[Mapping[str, str]] = {
    "MutatingWebhookConfiguration": f"{_API}/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": f"{_API}/validatingwebhookconfigurations",
}
"""Where each kind of configuration is, in the order in which they are made."""
_ENTRY: Final = "configuration.yaml"


class _Metadata(Struct):
    name: str


class _Service(Struct):
    name: str
    namespace: str


class _Client(Struct, rename="camel"):
    service: _Service
    url: str | None = None
    ca_bundle: str = ""


class _Webhook(Struct, rename="camel"):
    name: str
    client_config: _Client


class _Configuration(Struct, rename="camel"):
    """As much of one as we rely on; the rest is the API server's to check."""

    api_version: Literal["admissionregistration.k8s.io/v1"]
    kind: Literal["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
    metadata: _Metadata
    webhooks: list[_Webhook]


def paths_of(installation: Installation) -> dict[str, str]:
    """Where the configurations of an installation are, by kind, in the order in which they are made."""
    return {kind: f"{collection}/{installation.service}" for kind, collection in COLLECTIONS.items()}


def configurations_in(config_map: Document | None, installation: Installation) -> list[tuple[str, Document]]:
    """The configurations in the chart's ConfigMap with their paths, one of each kind, in the order in which they are made.

    None without a ConfigMap: nothing is wanted then. Raises `Invalid` with the place of each fault.
    """
    if config_map is None:
        return []
    text = (config_map.get("data") or {}).get(_ENTRY)
    if text is None:
        raise Invalid(f"{_ENTRY}: required")
    documents = read_yaml(text.encode(), _ENTRY)
    complaints: list[str] = []
    by_kind: dict[str, Document] = {}
    # Of three, one is wrong or a kind stands there twice.
    for i, document in enumerate(documents[:3]):
        path = f"{_ENTRY}[{i}]"
        try:
            found = convert_all(document, _Configuration, path)
        except Invalid as e:
            complaints += e.complaints
            continue
        complaints += _foreign(found, installation, path)
        if found.kind in by_kind:
            complaints.append(f"{path}.kind: {found.kind} stands there twice")
        # It is a mapping: it was read as one.
        by_kind[found.kind] = document  # type: ignore[assignment]
    if not complaints:
        complaints = [f"{_ENTRY}: {kind}: required" for kind in COLLECTIONS if kind not in by_kind]
    if complaints:
        raise Invalid(*complaints[: limits.MAX_COMPLAINTS])
    return [(path, by_kind[kind]) for kind, path in paths_of(installation).items()]


def _foreign(found: _Configuration, installation: Installation, path: str) -> Iterator[str]:
    """What is not ours in it."""
    if found.metadata.name != installation.service:
        yield f"{path}.metadata.name: {quote(found.metadata.name, 80)} is not {installation.service}"
    if not found.webhooks:
        yield f"{path}.webhooks: empty"
    names: set[str] = set()
    for i, webhook in enumerate(found.webhooks):
        where = f"{path}.webhooks[{i}]"
        if not webhook.name.endswith(f".{GROUP}"):
            yield f"{where}.name: {quote(webhook.name, 80)} does not end in .{GROUP}"
        if webhook.name in names:
            yield f"{where}.name: {quote(webhook.name, 80)} stands there twice"
        names.add(webhook.name)
        if webhook.client_config.url is not None:
            yield f"{where}.clientConfig.url: not accepted; API servers ask our Service"
        service = webhook.client_config.service
        if (service.namespace, service.name) != (installation.namespace, installation.service):
            said = quote(f"{service.namespace}/{service.name}", 80)
            yield f"{where}.clientConfig.service: {said} is not {installation.namespace}/{installation.service}"
