"""Kubernetes objects → the question they ask: which images, at which places, run by whom.

Only what is judged is decoded. Kinds differ in nothing but where the Pod's specification lies, hence one table. Owner
references, annotations and deletion timestamps are not read at all: nothing in the object under review grants trust.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from webhook import limits
from webhook.parsing import Invalid, quote
from webhook.policy.policy import ContainerKind, Workload


class LocalObject(Struct, gc=False):
    """A name in the same namespace."""

    name: str = ""


class Container(Struct, gc=False):
    """The one field of a container that is judged, and the name that tells it from the others."""

    name: str = ""
    image: str | None = None


class ImageSource(Struct, gc=False):
    """`volumes[].image`."""

    reference: str | None = None


class Volume(Struct, gc=False):
    """A volume; only image volumes are judged."""

    name: str = ""
    image: ImageSource | None = None


class PodSpec(Struct, rename="camel", gc=False):
    """What of a Pod's specification decides which images run, and which policies speak about them."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    ephemeral_containers: list[Container] | None = None
    volumes: list[Volume] | None = None
    service_account_name: str | None = None
    service_account: str | None = None
    image_pull_secrets: list[LocalObject] | None = None


class Metadata(Struct, gc=False):
    """The labels that policies select by."""

    labels: dict[str, str] | None = None


class Pod(Struct, gc=False):
    """A Pod, and every template of one."""

    metadata: Metadata | None = None
    spec: PodSpec | None = None


class TemplateSpec(Struct, gc=False):
    """The specification of a controller or Job."""

    template: Pod | None = None


class Controller(Struct, gc=False):
    """Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, Job."""

    spec: TemplateSpec | None = None


class CronJobSpec(Struct, rename="camel", gc=False):
    """The specification of a CronJob."""

    job_template: Controller | None = None


class CronJob(Struct, gc=False):
    """A CronJob: a template of a controller's template."""

    spec: CronJobSpec | None = None


D = TypeVar("D", bound=Struct)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of `KINDS`: `read` finds the Pod in an object's JSON, `path` is where its specification lies."""

    read: Callable[[bytes | msgspec.Raw], Pod | None]
    path: str
    template: bool = True


def _kind(document: type[D], find: Callable[[D], Pod | None], path: str, *, template: bool = True) -> Kind:
    decode = msgspec.json.Decoder(document).decode
    return Kind(lambda untrusted: find(decode(untrusted)), path, template)


def _template_of(document: Controller) -> Pod | None:
    return document.spec.template if document.spec else None


def _template_of_cron_job(document: CronJob) -> Pod | None:
    return _template_of(document.spec.job_template) if document.spec and document.spec.job_template else None


_POD: Final = _kind(Pod, lambda pod: pod, "spec", template=False)
_CONTROLLER: Final = _kind(Controller, _template_of, "spec.template.spec")
_CRON_JOB: Final = _kind(CronJob, _template_of_cron_job, "spec.jobTemplate.spec.template.spec")
_POD_TEMPLATE: Final = _kind(TemplateSpec, lambda document: document.template, "template.spec")

KINDS: Final[Mapping[tuple[str, str], Kind]] = {
    ("", "Pod"): _POD,
    ("", "PodTemplate"): _POD_TEMPLATE,
    ("", "ReplicationController"): _CONTROLLER,
    ("apps", "DaemonSet"): _CONTROLLER,
    ("apps", "Deployment"): _CONTROLLER,
    ("apps", "ReplicaSet"): _CONTROLLER,
    ("apps", "StatefulSet"): _CONTROLLER,
    ("batch", "CronJob"): _CRON_JOB,
    ("batch", "Job"): _CONTROLLER,
    # Served by API servers before 1.16; a recorded review may still hold them.
    ("extensions", "DaemonSet"): _CONTROLLER,
    ("extensions", "Deployment"): _CONTROLLER,
    ("extensions", "ReplicaSet"): _CONTROLLER,
}
"""API group and kind, whatever the version: in all of them the images stand in the same place."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An image as the object writes it, and where. The text may be empty: a template may leave it to something later.

    `name` is the container's or volume's: a container that is added is a new one, however familiar its image. `stood`: it was there
    before the update that is asked about.
    """

    where: str
    image: str
    kind: ContainerKind
    name: str = ""
    stood: bool = False

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes it the same before and after an update."""
        return self.kind, self.name, self.image


@dataclass(frozen=True, slots=True)
class Question:
    """Whether these images may run for this workload.

    `template`: Pods will be made from it, and each of them asked about again. `final`: this is what a node will run, and nobody writes
    a digest into it any more. `dry_run`: nothing will run, so nothing is counted; it is judged alike. `thorough`: all evidence is read, also
    where less of it settles what is asked, so that it is known for how long that holds.
    """

    who: Workload
    pull_secrets: tuple[str, ...]
    images: tuple[Placed, ...]
    template: bool = False
    final: bool = False
    dry_run: bool = False
    thorough: bool = False

    def key(self) -> Hashable:
        """All that an answer depends on as plain tuples, which are hashed and compared many times faster than the values themselves."""
        return (
            self.who.namespace,
            self.who.service_account,
            tuple(self.who.labels.items()),
            self.pull_secrets,
            tuple([(placed.where, placed.image, placed.kind, placed.stood) for placed in self.images]),
            self.template,
            self.final,
        )

    def repeats(self, old: "Question") -> bool:
        """Whether every container stood in `old` with the same image, and nothing that selects policies changed.

        Such an update brings nothing new to judge, and old Pods can be finalised under policies that came later.
        """
        stood = {placed.identity for placed in old.images}
        return self.who == old.who and all(placed.identity in stood for placed in self.images)

    def after(self, old: "Question") -> "Question":
        """The same question, with what stood in `old` already marked."""
        stood = {placed.identity for placed in old.images}
        images = tuple(replace(placed, stood=placed.identity in stood) for placed in self.images)
        return replace(self, images=images)


def read_question(group: str, kind: str, untrusted: bytes | msgspec.Raw, namespace: str) -> Question | None:
    """The question that an object asks; None if it runs no image.

    Raises `Invalid` if the object is malformed, or is of an unknown kind and yet contains a Pod's specification: what would
    run and is not judged is refused.
    """
    row = KINDS.get((group, kind))
    if row is None:
        _refuse_hidden_pod(group, kind, untrusted)
        return None
    try:
        pod = row.read(untrusted)
    except (msgspec.DecodeError, RecursionError) as e:
        raise Invalid(f"{quote(kind)}: {quote(e)}") from e
    if pod is None or pod.spec is None:
        raise Invalid(f"{row.path}: missing, so there is nothing to judge")
    images = tuple(_images(pod.spec, row.path))
    if not pod.spec.containers:
        raise Invalid(f"{row.path}.containers: empty, so there is nothing to judge")
    if len(images) > limits.MAX_IMAGES:
        raise Invalid(f"{row.path}: {len(images)} images, more than {limits.MAX_IMAGES}")
    account = pod.spec.service_account_name or pod.spec.service_account or "default"
    labels = (pod.metadata.labels if pod.metadata else None) or {}
    secrets = tuple(secret.name for secret in pod.spec.image_pull_secrets or () if secret.name)
    return Question(Workload(namespace, account, labels), secrets, images, row.template)


def _images(spec: PodSpec, path: str) -> Iterator[Placed]:
    for i, container in enumerate(spec.containers or ()):
        yield Placed(f"{path}.containers[{i}].image", container.image or "", "main", container.name)
    for i, container in enumerate(spec.init_containers or ()):
        yield Placed(f"{path}.initContainers[{i}].image", container.image or "", "init", container.name)
    for i, container in enumerate(spec.ephemeral_containers or ()):
        yield Placed(f"{path}.ephemeralContainers[{i}].image", container.image or "", "ephemeral", container.name)
    for i, volume in enumerate(spec.volumes or ()):
        if volume.image is not None:
            yield Placed(f"{path}.volumes[{i}].image.reference", volume.image.reference or "", "volume", volume.name)


_CARRIERS: Final = ("containers", "initContainers", "ephemeralContainers")


def _refuse_hidden_pod(group: str, kind: str, untrusted: bytes | msgspec.Raw) -> None:
    """Raises `Invalid` if an object of a kind we do not know holds containers: it was sent to us to be judged."""
    try:
        level: list[object] = [msgspec.json.decode(untrusted)]
    except (msgspec.DecodeError, RecursionError) as e:
        raise Invalid(f"{quote(kind)}: {quote(e)}") from e
    while level:
        node = level.pop()
        if isinstance(node, list):
            level.extend(node)
        elif isinstance(node, dict):
            if any(_is_list_of_containers(node.get(carrier)) for carrier in _CARRIERS):
                name = f"{kind}.{group}" if group else kind
                raise Invalid(f"{quote(name)} holds containers, and is no kind whose images are judged")
            level.extend(node.values())


def _is_list_of_containers(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) and "image" in item for item in value)
