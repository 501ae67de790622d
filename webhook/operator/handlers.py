"""kopf: events of policies, exceptions and namespaces → what is in force. The one place that knows kopf.

Every replica runs it standalone: a replica that kopf paused for a peer would answer by policies of long ago. Nothing is written to
the objects, so there are no finalizers and no annotations, and deleting a policy waits for nobody.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, cast

import kopf
from kopf._core.reactor.inventory import ResourceMemories

from webhook import limits
from webhook.memory.store import PolicyStore
from webhook.operator.exceptions import Exceptions
from webhook.operator.policies import Policies
from webhook.policy.document import GROUP, VERSION
from webhook.policy.schema import EXCEPTIONS, RESOURCES

_log = logging.getLogger(__name__)

Goes = Callable[[str], None]
Watching = Callable[[], AbstractContextManager[None]]
"""Whoever watches the event loop that runs, for as long as its block lasts."""

_AGAIN_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 0.1
"""How long kopf keeps an object after its event: with its default, all of a big cluster's at once after the first list."""
_STOP_SECONDS: Final = 10.0
"""How long kopf's end is waited for."""
_SERVER_SECONDS: Final = 300
"""After so many seconds the API server ends a watch, and the next one begins with a look at what was missed."""
_SILENT_SECONDS: Final = 70.0
"""A stream without even a bookmark for so long is dead; the API server sends one a minute."""


def register(
    policies: Policies, exceptions: Exceptions, store: PolicyStore, goes: Goes, call: Callable[..., object]
) -> kopf.OperatorRegistry:
    """The handlers, in a registry of their own. `call` brings calls, in their order, to the thread that the store is for."""
    registry = kopf.OperatorRegistry()

    # Coroutines, because kopf would run plain functions in threads, in any order.
    async def policy(event: Mapping[str, Any], **_: object) -> None:
        call(policies.gone if event["type"] == "DELETED" else policies.seen, event["object"])

    async def exception(event: Mapping[str, Any], **_: object) -> None:
        call(exceptions.gone if event["type"] == "DELETED" else exceptions.seen, event["object"])

    async def namespace(event: Mapping[str, Any], **_: object) -> None:
        metadata = event["object"]["metadata"]
        if event["type"] == "DELETED":
            call(store.discard_namespace, metadata["name"])
        else:
            call(store.put_namespace, metadata["name"], metadata.get("labels") or {})
            if metadata.get("deletionTimestamp"):
                call(goes, metadata["name"])

    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    kopf.on.login(id="login", registry=registry)(login)
    for resource in RESOURCES:
        kopf.on.event(GROUP, VERSION, resource.plural, id="policy", registry=registry)(policy)
    kopf.on.event(GROUP, VERSION, EXCEPTIONS.plural, id="exception", registry=registry)(exception)
    kopf.on.event("v1", "namespaces", id="namespace", registry=registry)(namespace)
    return registry


async def follow(
    policies: Policies,
    exceptions: Exceptions,
    store: PolicyStore,
    goes: Goes,
    watching: Watching = contextlib.nullcontext,
) -> None:
    """Follows the cluster until cancelled; `goes` is told of namespaces that are being deleted, maybe more than once. `watching`: kopf's event loop.

    An error inside a stream ends kopf. It is begun anew, and not the process with it: the API server tells the same error to all
    replicas, which would then be gone at the same time.
    """
    while True:
        try:
            await _follow_once(policies, exceptions, store, goes, watching)
        except Exception as e:  # noqa: BLE001 - whatever ends it, what is known stays in force, and is compared every minute
            _log.error("following the cluster has failed, and begins anew: %s", e)
        else:
            _log.error("following the cluster has ended, and begins anew")
        await asyncio.sleep(_AGAIN_SECONDS)


async def _follow_once(
    policies: Policies, exceptions: Exceptions, store: PolicyStore, goes: Goes, watching: Watching
) -> None:
    """Runs kopf until it ends, on an event loop of its own: at its end it leaves tasks behind, and only all of them can be cancelled."""
    loop, stop = asyncio.get_running_loop(), threading.Event()
    registry = register(policies, exceptions, store, goes, loop.call_soon_threadsafe)
    ended: asyncio.Future[Exception | None] = loop.create_future()

    def run() -> None:
        error: Exception | None = None
        try:
            asyncio.run(_watched(registry, stop, watching))
        except Exception as e:  # noqa: BLE001 - told to whoever waits
            error = e
        # The loop is closed by then, if its end was not waited for.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set_result, error)

    threading.Thread(target=run, name="kopf", daemon=True).start()
    try:
        error = await asyncio.shield(ended)
    finally:
        stop.set()
        await asyncio.wait([ended], timeout=_STOP_SECONDS)
    if error is not None:
        raise error


class _Forgetful(ResourceMemories):
    """kopf's notes about each object, which only handlers of other kinds need; those of a big cluster took more memory than its policies."""

    async def recall(self, *args: Any, **kwargs: Any) -> Any:
        """A note that is not kept."""
        return await super().recall(*args, **{**kwargs, "ephemeral": True})


async def _watched(registry: kopf.OperatorRegistry, stop: threading.Event, watching: Watching) -> None:
    with watching():
        await _operate(registry, stop)


async def _operate(registry: kopf.OperatorRegistry, stop: threading.Event) -> None:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = _SERVER_SECONDS
    settings.watching.inactivity_timeout = _SILENT_SECONDS
    settings.watching.chunk_size = limits.KUBE_PAGE
    settings.queueing.idle_timeout = _IDLE_SECONDS
    # One line for every object it was told about would drown the others; and that it takes no signals is as it should be.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    # Not `kopf.operator`, which waits for seconds at its end, in which nobody follows.
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        memories=_Forgetful(),
        standalone=True,
        clusterwide=True,
        stop_flag=stop,
        # For peers, of which there are none; without it kopf looks for a user name, which a container has not.
        identity=cast("Any", "standalone"),
    )
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # A thread of kopf's waits for it, and the loop for that thread.
        stop.set()
    for task in done:
        task.result()
