"""A cluster as whoever asks may see it: the policies for one namespace, read with the user's own rights.

The webhook's own code reads and builds them, so that what is said here is what is said there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from msgspec import json

from webhook.cli import local
from webhook.formats import FORMATS
from webhook.image import Repository, parse_reference
from webhook.judge.workload import KINDS, Question, read_question
from webhook.keys.remote import RemoteKeys
from webhook.kube import KubeError, is_name
from webhook.memory.store import PolicyStore
from webhook.parsing import Invalid
from webhook.policy.document import API_VERSION
from webhook.policy.schema import EXCEPTIONS
from webhook.registry.dockerconfig import DockerConfigKeychain
from webhook.trust import Access, Keychain, Unavailable

if TYPE_CHECKING:
    from webhook.kube.client import Kube
    from webhook.operator.exceptions import Exceptions
    from webhook.operator.policies import Policies

BY_YOU: Final = "you"

Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig", envvar="KUBECONFIG", help="The kubeconfig to use.", metavar="FILE", show_default="kubectl's"
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", help="The context in it.", metavar="NAME", show_default="the current one")
]


@dataclass(frozen=True, slots=True)
class Seen:
    """What holds in one namespace. `notes`: what could not be looked at, for people."""

    store: PolicyStore
    policies: "Policies"
    exceptions: "Exceptions"
    notes: tuple[str, ...]


async def look(kube: "Kube", namespace: str, home: str, remote: RemoteKeys) -> Seen:
    """Reads what holds in a namespace. Raises `KubeError` where the policies cannot be read; without exceptions it goes on."""
    from webhook.keys.cluster import ClusterKeys
    from webhook.operator.exceptions import Exceptions
    from webhook.operator.policies import Policies

    store = PolicyStore()
    policies = Policies(store, ClusterKeys(kube, BY_YOU), remote, FORMATS, home, lambda: None)
    exceptions, notes = Exceptions(store), list[str]()
    found = await kube.get(f"/api/v1/namespaces/{namespace}")
    if found is None:
        raise KubeError(f"there is no namespace {namespace}", 404)
    store.put_namespace(namespace, found["metadata"].get("labels") or {})
    listing = policies.listing()
    for path in ("clustertrustpolicies", f"namespaces/{namespace}/trustpolicies"):
        items, _ = await kube.list_all(f"/apis/{API_VERSION}/{path}")
        listing.add(items)
    listing.end("0")
    try:
        exceptions.listed(*await kube.list_all(f"/apis/{API_VERSION}/namespaces/{namespace}/{EXCEPTIONS.plural}"))
    except KubeError as e:
        notes.append(f"the exceptions are left aside: {e}")
    await policies.read_keys()
    await policies.read_remote_keys()
    store.set_ready()
    return Seen(store, policies, exceptions, tuple(notes))


def complain(e: KubeError) -> NoReturn:
    """Says what the API server did not do, what to do about it, and exits with 2."""
    hint = {
        401: "the kubeconfig's credentials are not accepted",
        403: "you may not read that; the ClusterRole that docs/cli.md shows lets you",
        404: "is trusted-images installed in this cluster?",
    }.get(e.status)
    local.misused(str(e) if hint is None else f"{e} ({hint})")


# ── what is asked about ──────────────────────────────────────────────────────────────────────────────────────────────
_SHORT: Final = {"po": "Pod", "rc": "ReplicationController", "ds": "DaemonSet", "deploy": "Deployment", "rs": "ReplicaSet",
                 "sts": "StatefulSet", "cj": "CronJob"}  # fmt: skip
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    word: (group, kind)
    for group, kind in KINDS
    if group != "extensions"
    for word in (kind.lower(), f"{kind.lower()}s", *(short for short, long in _SHORT.items() if long == kind))
}
_TYPED: Final = re.compile(r"([a-z]+)/([a-z0-9][a-z0-9.-]*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """An object of the cluster that runs images. `running`: what each of its containers runs, by the image's name."""

    title: str
    question: Question
    running: Mapping[str, str]


async def find_object(kube: "Kube", text: str, namespace: str) -> Asked | None:
    """The object that `text` names: TYPE/NAME as kubectl writes it, or a Pod's name. None: it is none, so it is an image.

    Raises `KubeError`: a TYPE/NAME that is not there is no image either.
    """
    typed = _TYPED.fullmatch(text)
    if typed is not None and typed[1] in _KINDS:
        group, kind = _KINDS[typed[1]]
        found = await kube.get(_path(group, kind, namespace, typed[2]))
        if found is None:
            raise KubeError(f"there is no {kind} {typed[2]} in namespace {namespace}")
        return _asked(group, kind, found, namespace)
    if not is_name(text) or "." in text:
        return None
    found = await kube.get(_path("", "Pod", namespace, text))
    return None if found is None else _asked("", "Pod", found, namespace)


def _path(group: str, kind: str, namespace: str, name: str) -> str:
    root = f"/apis/{group}/v1" if group else "/api/v1"
    return f"{root}/namespaces/{namespace}/{kind.lower()}s/{name}"


def _asked(group: str, kind: str, found: Mapping[str, Any], namespace: str) -> Asked:
    try:
        question = read_question(group, kind, json.encode(found), namespace)
    except Invalid as e:
        local.misused(str(e))
    if question is None:
        raise AssertionError(kind)
    status = found.get("status") or {}
    statuses = [one for key in ("containerStatuses", "initContainerStatuses") for one in status.get(key) or ()]
    names = {placed.name: name_of(placed.image) for placed in question.images}
    running = {names[one["name"]]: str(one.get("imageID") or "") for one in statuses if one.get("name") in names}
    return Asked(f"{kind} {namespace}/{found['metadata']['name']}", question, running)


def name_of(written: str) -> str:
    """An image's name as judgements call it."""
    try:
        return str(parse_reference(written))
    except Invalid:
        return written


class EitherKeychain:
    """The Pod's logins, as the webhook takes them, and the user's own beside them. Implements `trust.Keychain`."""

    def __init__(self, pods: Keychain, own: DockerConfigKeychain) -> None:
        self._pods = pods
        self._own = own

    def known(self, repository: Repository) -> Access | None:
        """What is known of both."""
        pods, own = self._pods.known(repository), self._own.known(repository)
        return None if pods is None or own is None else (*pods, *own)

    async def access(self, repository: Repository) -> Access:
        """Both; the user's alone where the Pod's may not be read by the user."""
        own = await self._own.access(repository)
        try:
            return (*await self._pods.access(repository), *own)
        except Unavailable:
            return own
