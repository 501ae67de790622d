"""An API server in memory, as far as we use one: objects by path, resource versions, conflicts, and failures on demand."""

import copy
from collections.abc import Mapping
from typing import Any

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube, Method

_COLLECTIONS = {
    "namespaces",
    "trustpolicies",
    "clustertrustpolicies",
    "trustexceptions",
    "endpointslices",
    "pods",
    "events",
}
"""What is listed here."""


class FakeKube(Kube):
    """Keeps what is written. `failing`: the error of every request to a path that begins so. `forbidden`: what nobody has the right to."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        self.failing: dict[str, KubeError] = {}
        self.forbidden: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self._version = 100

    def put(self, path: str, document: Mapping[str, Any]) -> Document:
        """Writes an object as somebody else."""
        self._version += 1
        written = copy.deepcopy(dict(document))
        metadata = written.setdefault("metadata", {})
        metadata.setdefault("name", path.rpartition("/")[2])
        metadata.setdefault("uid", f"uid-{self._version}")
        metadata["resourceVersion"] = str(self._version)
        self.objects[path] = written
        return copy.deepcopy(written)

    def remove(self, path: str) -> None:
        """Removes an object as somebody else."""
        self._version += 1
        del self.objects[path]

    async def request(  # noqa: C901, PLR0912 - one arm for each method
        self,
        method: Method,
        path: str,
        *,
        body: Document | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Document:
        """As an API server answers."""
        self.asked.append((method, path))
        for prefix, error in self.failing.items():
            if path.startswith(prefix):
                raise error
        if (method, path) in self.forbidden:
            raise KubeError(f"{method} {path}: 403 forbidden", 403)
        found = self.objects.get(path)
        match method:
            case "GET" if found is not None:
                return copy.deepcopy(found)
            case "GET" if path.rpartition("/")[2] in _COLLECTIONS:
                items = [
                    one
                    for place, one in self.objects.items()
                    if place.rpartition("/")[0] == path or self._below(place, path)
                ]
                return {"items": copy.deepcopy(items), "metadata": {"resourceVersion": str(self._version)}}
            case "POST":
                metadata = (body or {}).get("metadata", {})
                name = metadata.get("name") or f"{metadata.get('generateName', '')}{self._version}"
                if f"{path}/{name}" in self.objects:
                    raise KubeError(f"{path}/{name}: already exists", 409)
                return self.put(f"{path}/{name}", body or {})
            case "PUT" if found is not None:
                version = (body or {}).get("metadata", {}).get("resourceVersion")
                if version not in {None, found["metadata"]["resourceVersion"]}:
                    raise KubeError(f"{path}: changed meanwhile", 409)
                return self.put(path, body or {})
            case "PATCH" if "apply" in content_type:
                merged = copy.deepcopy(found) if found else {}
                before = copy.deepcopy(merged)
                merged = _merged(merged, _by_name(merged, body or {}))
                _refuse_two_addresses(path, merged)
                return copy.deepcopy(before) if found and merged == before else self.put(path, merged)
            case "PATCH":
                place = path.removesuffix("/status")
                if place not in self.objects:
                    raise KubeError(f"{place}: not found", 404)
                uid = (body or {}).get("metadata", {}).get("uid")
                if uid not in {None, self.objects[place]["metadata"]["uid"]}:
                    raise KubeError(f"{place}: another object by now", 409)
                version = (body or {}).get("metadata", {}).get("resourceVersion")
                if version not in {None, self.objects[place]["metadata"]["resourceVersion"]}:
                    raise KubeError(f"{place}: changed meanwhile", 409)
                merged = _merged(copy.deepcopy(self.objects[place]), body or {})
                _refuse_two_addresses(path, merged)
                return self.put(place, merged)
            case "DELETE" if found is not None:
                self.remove(path)
                return {}
        raise KubeError(f"{method} {path}: not found", 404)

    def _below(self, place: str, collection: str) -> bool:
        """Whether a namespaced object belongs to the collection over all namespaces."""
        root, _, plural = collection.rpartition("/")
        parts = place.removeprefix(f"{root}/").split("/")
        return place.startswith(f"{root}/namespaces/") and len(parts) == 4 and parts[2] == plural


def _by_name(found: Document, body: Document) -> Document:
    """As server-side apply merges the webhooks of a configuration: by name, and what others have added to one stays."""
    there = {one["name"]: one for one in found.get("webhooks") or ()}
    if "webhooks" not in body:
        return body
    ours = [_merged(copy.deepcopy(there.get(one["name"], {})), one) for one in body["webhooks"]]
    names = {one["name"] for one in ours}
    return {**body, "webhooks": ours + [one for name, one in there.items() if name not in names]}


def _refuse_two_addresses(path: str, document: Document) -> None:
    """The rule of API servers that a webhook is either a Service or an address."""
    for i, one in enumerate(document.get("webhooks") or ()):
        if ("url" in one["clientConfig"]) == ("service" in one["clientConfig"]):
            where = f"webhooks[{i}].clientConfig"
            raise KubeError(
                f"PATCH {path}: 422 {where}: Required value: exactly one of url or service is required", 422
            )


def _merged(into: Document, patch: Document) -> Document:
    """A merge patch (RFC 7386)."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            before = into.get(key)
            into[key] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            into[key] = value
    return into
