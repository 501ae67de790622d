"""What is made for a release, and goes with it: the garbage collector takes away what names an owner that is gone."""

from webhook.kube import KubeError
from webhook.kube.client import Document, Kube
from webhook.operator.installation import Installation


async def owner_of(kube: Kube, installation: Installation) -> Document | None:
    """The reference that makes an object go when the release goes; None when that is going, or gone."""
    role = await kube.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{installation.owner}")
    if role is None or "deletionTimestamp" in role["metadata"]:
        return None
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "name": installation.owner,
        "uid": role["metadata"]["uid"],
    }


async def create_owned(kube: Kube, installation: Installation, path: str, body: Document) -> Document:
    """Makes what is to be at a path in the installation's namespace, as the release's. Raises `KubeError`, also once that is going."""
    collection, _, name = path.rpartition("/")
    owner = await owner_of(kube, installation)
    if owner is None:
        raise KubeError(f"{path}: is not made any more, because the release goes")
    metadata = {"name": name, "namespace": installation.namespace, "ownerReferences": [owner]}
    return await kube.create(collection, {"apiVersion": "v1", "metadata": metadata, **body})
