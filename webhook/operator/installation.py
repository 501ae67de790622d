"""What the chart has made, by name: where the replicas and the leader find each other's things."""

import asyncio
from dataclasses import dataclass
from typing import Final

_PORT: Final = 443
_CONNECT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Installation:
    """What the chart has made, by name.

    `configuration`: a ConfigMap with the webhook configuration as the chart wants it, without its authorities. `owner`: a ClusterRole that
    goes with the release, so that the webhook configuration goes with it, too. `managed`: the certificate is ours to make; otherwise its
    Secret is somebody else's.
    """

    namespace: str
    service: str = "trusted-images"
    secret: str = "trusted-images-tls"  # noqa: S105 - the name of a Secret
    configuration: str = "trusted-images-webhook"
    owner: str = "trusted-images"
    managed: bool = True

    @property
    def names(self) -> list[str]:
        """The names under which API servers call us."""
        return [f"{self.service}.{self.namespace}.svc", f"{self.service}.{self.namespace}.svc.cluster.local"]

    @property
    def secret_path(self) -> str:
        """Of the Secret with the certificate."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret}"

    @property
    def configuration_path(self) -> str:
        """Of the ConfigMap with the webhook configuration that is wanted."""
        return f"/api/v1/namespaces/{self.namespace}/configmaps/{self.configuration}"

    def records_path(self, shard: int) -> str:
        """Of the ConfigMap with a part of the records of what was verified."""
        return f"/api/v1/namespaces/{self.namespace}/configmaps/{self.service}-records-{shard}"

    @property
    def records_key_path(self) -> str:
        """Of the Secret with the key that they are authenticated by."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.service}-records"

    @property
    def kept_keys_path(self) -> str:
        """Of the Secret with what was last read of keys outside the cluster."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.service}-kept-keys"

    async def reaches_replica(self) -> bool:
        """Whether a connection to the Service reaches a replica from here: nodes are told one after the other where it leads."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(self.names[0], _PORT)
        except OSError:
            return False
        writer.close()
        return True
