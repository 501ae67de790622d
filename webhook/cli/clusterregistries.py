"""How the cluster's webhook reaches registries, as far as whoever asks may read it and it holds on their machine."""

from typing import TYPE_CHECKING, Final

from webhook.kube import KubeError
from webhook.parsing import Invalid
from webhook.registry.settings import RegistrySettings, parse_elsewhere

if TYPE_CHECKING:
    from webhook.kube.client import Kube

_ENTRY: Final = "registries.yaml"


async def cluster_registries(kube: "Kube", namespace: str, installation: str) -> tuple[RegistrySettings, str | None]:
    """The settings, and what is missing in them, for people.

    No file that they name is opened: it is another machine's path, and logins of this one are not the cluster's to ask for.
    """
    name = f"ConfigMap {namespace}/{installation}-registries"
    hint = f"give the file by --registries, as `kubectl get configmap {installation}-registries -n {namespace} -o yaml` has it"
    try:
        found = await kube.get(f"/api/v1/namespaces/{namespace}/configmaps/{installation}-registries")
        text = ((found or {}).get("data") or {}).get(_ENTRY)
        if text is None:
            return (
                RegistrySettings.empty(),
                f"how the webhook reaches registries is not known, {name} is not there: {hint}",
            )
        settings, names_files = parse_elsewhere(text.encode(), _ENTRY)
    except KubeError as e:
        return RegistrySettings.empty(), f"how the webhook reaches registries is not known, {e}: {hint}"
    except Invalid as e:
        return RegistrySettings.empty(), f"{name} cannot be read, {e}: {hint}"
    if names_files:
        return settings, f"{name} names authorities or logins in files of the webhook's, which are left aside: {hint}"
    return settings, None
