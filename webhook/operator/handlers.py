"""kopf: events of policies, exceptions and namespaces → what is in force. The one place that knows kopf.

Every replica runs it standalone: a replica that kopf paused for a peer would answer by policies of long ago. Nothing is written to
the objects, so there are no finalizers and no annotations, and deleting a policy waits for nobody.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, cast

import kopf

from webhook.memory.store import PolicyStore
from webhook.operator.exceptions import Exceptions
from webhook.operator.policies import Policies
from webhook.policy.parse import GROUP, VERSION
from webhook.policy.schema import EXCEPTIONS, RESOURCES

_SERVER_SECONDS: Final = 300
"""After so many seconds the API server ends a watch, and the next one begins with a look at what was missed."""
_SILENT_SECONDS: Final = 70.0
"""A stream without even a bookmark for so long is dead; the API server sends one a minute."""


def register(policies: Policies, exceptions: Exceptions, store: PolicyStore) -> kopf.OperatorRegistry:
    """The handlers, in a registry of their own."""
    registry = kopf.OperatorRegistry()

    # Coroutines, because kopf runs plain functions in threads, and the store is for one thread.
    async def policy(event: Mapping[str, Any], **_: object) -> None:
        tell = policies.gone if event["type"] == "DELETED" else policies.seen
        tell(event["object"])

    async def exception(event: Mapping[str, Any], **_: object) -> None:
        tell = exceptions.gone if event["type"] == "DELETED" else exceptions.seen
        tell(event["object"])

    async def namespace(event: Mapping[str, Any], **_: object) -> None:
        metadata = event["object"]["metadata"]
        if event["type"] == "DELETED":
            store.discard_namespace(metadata["name"])
        else:
            store.put_namespace(metadata["name"], metadata.get("labels") or {})

    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    kopf.on.login(id="login", registry=registry)(login)
    for resource in RESOURCES:
        kopf.on.event(GROUP, VERSION, resource.plural, id="policy", registry=registry)(policy)
    kopf.on.event(GROUP, VERSION, EXCEPTIONS.plural, id="exception", registry=registry)(exception)
    kopf.on.event("v1", "namespaces", id="namespace", registry=registry)(namespace)
    return registry


async def follow(policies: Policies, exceptions: Exceptions, store: PolicyStore, started: asyncio.Event) -> None:
    """Follows the cluster until cancelled; `started` is set when kopf has taken over the signals, to be taken back."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = _SERVER_SECONDS
    settings.watching.inactivity_timeout = _SILENT_SECONDS
    # One line for every object it was told about would drown the others.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    registry = register(policies, exceptions, store)
    await kopf.operator(
        registry=registry,
        settings=settings,
        standalone=True,
        clusterwide=True,
        ready_flag=started,
        # For peers, of which there are none; without it kopf looks for a user name, which a container has not.
        identity=cast("Any", "standalone"),
    )
