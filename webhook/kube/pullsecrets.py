"""The logins of a Pod: its pull secrets, or else its service account's, as the kubelet would use them.

Read when a review needs them and kept for some seconds: nothing is listed and nothing is watched.
Source: Kubernetes, "Pull an Image from a Private Registry"; "Configure Service Accounts for Pods", ImagePullSecrets.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from webhook import limits
from webhook.image import Repository
from webhook.kube import KubeError, is_name
from webhook.kube.client import Kube
from webhook.kube.entries import Entries
from webhook.memory.cache import Memo
from webhook.parsing import Invalid, convert
from webhook.registry.dockerconfig import DockerConfig, parse_docker_config
from webhook.trust import Access, Unavailable

_log = logging.getLogger(__name__)

_ENTRIES: Final = (".dockerconfigjson", ".dockercfg")
_Configs = tuple[DockerConfig, ...]


@dataclass(frozen=True, slots=True)
class Puller:
    """For whom images are pulled: enough to know which Secrets the kubelet would look into."""

    namespace: str
    service_account: str
    pull_secrets: tuple[str, ...]


class PullSecrets:
    """The pull secrets of all Pods, as far as they were asked for lately."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._configs: Memo[_Configs] = Memo(limits.PULL_SECRET_SECONDS, limits.MAX_PULLERS)

    def of(self, puller: Puller) -> "PullSecretKeychain":
        """The keychain of one Pod."""
        return PullSecretKeychain(puller, self._configs, lambda: self._read(puller))

    async def _read(self, puller: Puller) -> _Configs:
        """Raises `Unavailable` if the API server does not answer, or will not."""
        try:
            if not is_name(puller.namespace):
                return ()
            # The API server itself adds the account's to Pods that name none; templates have not been there yet.
            names = puller.pull_secrets or await self._names_of_account(puller.namespace, puller.service_account)
            readable = [name for name in names if is_name(name)][: limits.MAX_PULL_SECRETS]
            found = await asyncio.gather(*(self._config(puller.namespace, name) for name in readable))
        except KubeError as e:
            raise Unavailable(f"pull secrets: {e}") from e
        return tuple(config for config in found if config is not None)

    async def _names_of_account(self, namespace: str, name: str) -> tuple[str, ...]:
        if not is_name(name):
            return ()
        account = await self._kube.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}", resourceVersion="0")
        secrets = (account or {}).get("imagePullSecrets") or ()
        return tuple(secret["name"] for secret in secrets if secret.get("name"))

    async def _config(self, namespace: str, name: str) -> DockerConfig | None:
        """What a Secret holds. One that is missing or broken is passed over, as the kubelet does, and logged."""
        title = f"Secret {namespace}/{name}"
        secret = await self._kube.get(f"/api/v1/namespaces/{namespace}/secrets/{name}", resourceVersion="0")
        if secret is None:
            _log.warning("%s, named as a pull secret, does not exist", title)
            return None
        try:
            config = _parse(secret, title)
        except Invalid as e:
            _log.warning("%s, named as a pull secret, is passed over: %s", title, e)
            return None
        for fault in config.faults:
            _log.warning("%s", fault)
        return config


def _parse(secret: Mapping[str, Any], title: str) -> DockerConfig:
    entries = convert(secret, Entries, title).decoded("Secret")
    for entry in _ENTRIES:
        if entry in entries:
            return parse_docker_config(entries[entry], f"{title}.data.{entry}")
    raise Invalid(f"no entry {' or '.join(_ENTRIES)}")


class PullSecretKeychain:
    """Implements `trust.Keychain` for one Pod."""

    def __init__(self, puller: Puller, configs: Memo[_Configs], read: Callable[[], Awaitable[_Configs]]) -> None:
        self._puller = puller
        self._configs = configs
        self._read = read

    def known(self, repository: Repository) -> Access | None:
        """The logins, if the Secrets were read lately."""
        configs = self._configs.peek(self._puller)
        return None if configs is None else _access(configs, repository)

    async def access(self, repository: Repository) -> Access:
        """The logins, reading what has to be read. Raises `Unavailable`."""
        return _access(await self._configs.get(self._puller, self._read), repository)


def _access(configs: _Configs, repository: Repository) -> Access:
    found = [credential for config in configs for credential in config.access(repository)]
    return tuple(dict.fromkeys(found))
