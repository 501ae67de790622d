"""Full lists: the first one, before which nothing is admitted, and the comparison every minute."""

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Final

from webhook.kube import KubeError
from webhook.kube.client import Kube
from webhook.memory.store import PolicyStore
from webhook.operator.exceptions import Exceptions
from webhook.operator.policies import Policies
from webhook.policy.document import API_VERSION
from webhook.policy.schema import EXCEPTIONS, RESOURCES

_log = logging.getLogger(__name__)

_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 1.0

Listed = Callable[[], None]
"""Hears of each full list that was brought into force."""


async def list_once(kube: Kube, policies: Policies, exceptions: Exceptions, store: PolicyStore) -> None:
    """Brings the cluster's namespaces, policies and exceptions into force, as one list each. Raises `KubeError`."""
    namespaces, _ = await kube.list_all("/api/v1/namespaces")
    store.replace_namespaces({item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in namespaces})
    listing = policies.listing()
    oldest = ""
    for resource in RESOURCES:
        async for items, version in kube.pages(f"/apis/{API_VERSION}/{resource.plural}"):
            listing.add(items)
            # What vanished between the two lists was there in the first one's view: the older version decides.
            oldest = oldest or version
    listing.end(oldest)
    try:
        exceptions.listed(*await kube.list_all(f"/apis/{API_VERSION}/{EXCEPTIONS.plural}"))
    except KubeError as e:
        # Nobody needs one in order to be judged: without them nothing is lifted, and everything else goes on.
        _log.warning("the exceptions cannot be read: %s", e)


async def first_list(
    kube: Kube, policies: Policies, exceptions: Exceptions, store: PolicyStore, listed: Listed = lambda: None
) -> None:
    """Tries until the cluster has been read once, the keys that its policies name included; then the store is ready."""
    while True:
        try:
            await list_once(kube, policies, exceptions, store)
            listed()
            break
        except KubeError as e:
            _log.warning("the policies cannot be read yet: %s", e)
            await asyncio.sleep(_RETRY_SECONDS)
    await asyncio.gather(policies.read_keys(), policies.read_remote_keys())
    store.set_ready()
    # What is loaded now lives long: a full collection need not walk it every time.
    gc.collect()
    gc.freeze()


async def compare(
    kube: Kube, policies: Policies, exceptions: Exceptions, store: PolicyStore, listed: Listed = lambda: None
) -> None:
    """Compares with a full list until cancelled: a stream that fell silent hides no change for longer than this."""
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            await list_once(kube, policies, exceptions, store)
            listed()
        except KubeError as e:
            _log.warning("the policies could not be compared: %s", e)
