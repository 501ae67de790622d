"""What runs: every image of every kind, wherever it stands (attacks X-01 to X-06), and what is refused unread."""

import json
from collections.abc import Iterator
from typing import Any

import kubernetes.client
import pytest

from webhook import limits
from webhook.judge.workload import KINDS, Placed, Question, read_question
from webhook.parsing import Invalid

POD_SPEC: dict[str, Any] = {
    "containers": [{"name": "a", "image": "main:0"}, {"name": "b", "image": "main:1"}],
    "initContainers": [{"name": "c", "image": "init:0", "restartPolicy": "Always"}],
    "ephemeralContainers": [{"name": "d", "image": "debug:0", "targetContainerName": "a"}],
    "volumes": [
        {"name": "e", "emptyDir": {}},
        {"name": "f", "image": {"reference": "volume:1", "pullPolicy": "Always"}},
    ],
    "serviceAccountName": "web",
    "imagePullSecrets": [{"name": "one"}, {"name": ""}, {"name": "two"}],
}


def wrapped(kind: str, spec: Any, labels: Any = None) -> dict[str, Any]:
    pod = {"metadata": {"labels": labels or {"app": "web"}}, "spec": spec}
    match kind:
        case "Pod":
            return pod
        case "PodTemplate":
            return {"template": pod}
        case "CronJob":
            return {"spec": {"jobTemplate": {"spec": {"template": pod}}}}
        case _:
            return {"metadata": {"labels": {"not": "the Pod's"}}, "spec": {"template": pod, "replicas": 1}}


def question(kind: str = "Pod", spec: Any = POD_SPEC, group: str | None = None, labels: Any = None) -> Question:
    if group is None:
        group = next(g for g, k in KINDS if k == kind)
    read = read_question(group, kind, json.dumps(wrapped(kind, spec, labels)).encode(), "shop")
    assert read is not None
    return read


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_x01_x02_every_image_of_every_kind_is_found(group: str, kind: str) -> None:
    found = question(kind, group=group)
    path = {"Pod": "spec", "PodTemplate": "template.spec", "CronJob": "spec.jobTemplate.spec.template.spec"}.get(
        kind, "spec.template.spec"
    )
    assert found.images == (
        Placed(f"{path}.containers[0].image", "main:0", "main", "a"),
        Placed(f"{path}.containers[1].image", "main:1", "main", "b"),
        Placed(f"{path}.initContainers[0].image", "init:0", "init", "c"),
        Placed(f"{path}.ephemeralContainers[0].image", "debug:0", "ephemeral", "d"),
        Placed(f"{path}.volumes[1].image.reference", "volume:1", "volume", "f"),
    )
    assert (found.who.namespace, found.who.service_account, found.who.labels) == ("shop", "web", {"app": "web"})
    assert found.pull_secrets == ("one", "two")
    assert found.template is (kind != "Pod")


def test_the_older_name_of_the_service_account_counts_too() -> None:
    containers = POD_SPEC["containers"]
    assert question(spec={"containers": containers, "serviceAccount": "old"}).who.service_account == "old"
    assert question(spec={"containers": containers}).who.service_account == "default"


def test_an_image_may_be_missing_and_then_is_empty() -> None:
    found = question(spec={"containers": [{"name": "a"}], "volumes": [{"image": {}}]})
    assert [placed.image for placed in found.images] == ["", ""]


@pytest.mark.parametrize("kind", sorted({kind for _, kind in KINDS}))
@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"Pod"',
        b"{}",
        b'{"spec": null}',
        b'{"spec": {"template": null}}',
        b'{"spec": {"template": {"spec": null}}}',
        b'{"spec": {"jobTemplate": null}}',
        b'{"template": null}',
        b'{"spec": {"containers": null}}',
        b'{"spec": {"containers": []}}',
        b'{"spec": {"containers": "x"}}',
        b'{"spec": {"containers": [null]}}',
        b'{"spec": {"containers": [{"image": 7}]}}',
        b'{"spec": {"containers": [{"image": ["x"]}]}}',
        b'{"spec": {"containers": {"image": "x"}}}',
        b'{"metadata": {"labels": {"a": 1}}, "spec": {"containers": [{"image": "x"}]}, "template": 7}',
        b'{"spec": {"initContainers": [{"image": "x"}]}}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)  # fmt: skip
def test_x09_what_cannot_be_read_is_refused_and_never_taken_for_empty(kind: str, untrusted: bytes) -> None:
    group = next(g for g, k in KINDS if k == kind)
    with pytest.raises(Invalid):
        read_question(group, kind, untrusted, "shop")


def test_x16_the_number_of_images_is_bounded() -> None:
    def spec(count: int) -> dict[str, Any]:
        return {"containers": [{"image": f"i:{i}"} for i in range(count)]}

    assert len(question(spec=spec(limits.MAX_IMAGES)).images) == limits.MAX_IMAGES
    with pytest.raises(Invalid, match="1001 images, more than 1000"):
        question(spec=spec(limits.MAX_IMAGES + 1))


def test_x13_x14_a_kind_we_do_not_know_is_let_pass_only_if_it_holds_no_containers() -> None:
    def read(document: Any) -> Question | None:
        return read_question("example.com", "Thing", json.dumps(document).encode(), "shop")

    assert read({"spec": {"replicas": 1, "list": [1, {"image": "a logo"}]}}) is None
    assert read({"spec": {"containers": "none", "initContainers": [1, {"name": "x"}]}}) is None
    for hidden in (
        {"spec": {"containers": [{"image": "x"}]}},
        {"a": [[{"b": {"initContainers": [{}, {"image": "x"}]}}]]},
        {"ephemeralContainers": [{"image": ""}]},
    ):
        with pytest.raises(Invalid, match="holds containers, and is no kind whose images are judged"):
            read(hidden)
    for malformed in (b"", b"{", b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
        with pytest.raises(Invalid, match="Thing"):
            read_question("example.com", "Thing", malformed, "shop")
    with pytest.raises(Invalid, match="Thing holds containers"):
        read_question("", "Thing", b'{"containers": [{"image": "x"}]}', "shop")


def test_x04_an_update_repeats_the_old_object_only_if_nothing_that_is_judged_changed() -> None:
    old = question()
    assert old.repeats(old)
    fewer = question(spec={**POD_SPEC, "containers": POD_SPEC["containers"][:1], "priority": 5})
    assert fewer.repeats(old)
    assert not old.repeats(fewer)
    for change in (
        {"serviceAccountName": "admin"},
        {"containers": [{"image": "main:2"}]},
        # The same text in another kind of container is another question: policies select by kind.
        {"initContainers": [{"image": "main:0"}]},
        {"volumes": [{"image": {"reference": "main:0"}}]},
        # A new container is a new one, however familiar its image: the tag may mean other bytes by now.
        {"containers": [*POD_SPEC["containers"], {"name": "new", "image": "main:0"}]},
        {"ephemeralContainers": [*POD_SPEC["ephemeralContainers"], {"name": "new", "image": "debug:0"}]},
        {"containers": [{"name": "a", "image": "main:1"}, {"name": "b", "image": "main:0"}]},
    ):
        assert not question(spec={**POD_SPEC, **change}).repeats(old)
    assert not question(labels={"app": "other"}).repeats(old)


# ── the schema of Kubernetes itself ──────────────────────────────────────────────────────────────────────────────────
JUDGED = {
    "containers[].image",
    "init_containers[].image",
    "ephemeral_containers[].image",
    "volumes[].image.reference",
}
"""Every field of a Pod's specification that says what is pulled and run, as the client library names it."""

NO_IMAGES = {
    "image_pull_secrets": "names of logins, read as such",
    "image_pull_policy": "when to pull, not what",
    "pull_policy": "the same for image volumes",
}

STORAGE_DRIVERS = {"rbd": "a block device's name in Ceph, which no runtime pulls"}


def images_in(model: str, path: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of all fields of a model whose name or type speaks of an image or a reference to one."""
    for name, kind in getattr(kubernetes.client, model).openapi_types.items():
        where = f"{path}.{name}" if path else name
        inner = kind.removeprefix("List[").removesuffix("]")
        if inner in above or name in NO_IMAGES or name in STORAGE_DRIVERS:
            continue
        if inner.startswith("V1"):
            yield from images_in(inner, f"{where}[]" if kind != inner else where, (*above, inner))
        elif "image" in name or (name == "reference" and "image" in path):
            yield where


def test_x02_every_image_field_of_the_pod_schema_is_judged() -> None:
    assert set(images_in("V1PodSpec")) == JUDGED


def test_x02_what_the_schema_names_is_what_is_read() -> None:
    # The same paths, written as the API writes them, each with its own image: none of them may be overlooked.
    spec = {
        "containers": [{"name": "a", "image": "containers[].image"}],
        "initContainers": [{"name": "b", "image": "init_containers[].image"}],
        "ephemeralContainers": [{"name": "c", "image": "ephemeral_containers[].image"}],
        "volumes": [{"name": "d", "image": {"reference": "volumes[].image.reference"}}],
    }
    assert {placed.image for placed in question("Pod", spec).images} == JUDGED


def test_x02_every_kind_that_holds_a_pod_is_known() -> None:
    # Kinds of the API whose specification leads to a Pod's: those we judge, and no other.
    holding = {
        name.removeprefix("V1").removesuffix("Spec")
        for name in dir(kubernetes.client)
        if name.startswith("V1") and name.endswith("Spec") and holds_a_pod(name)
    }
    known = {kind for group, kind in KINDS if group != "extensions"} - {"Pod", "PodTemplate"}
    # The template of a PodTemplate and of a CronJob's Job are specifications themselves, and no kinds.
    assert holding - {"PodTemplate", "JobTemplate"} == known


def holds_a_pod(model: str) -> bool:
    types = getattr(kubernetes.client, model).openapi_types.values()
    return any(t in {"V1PodSpec", "V1PodTemplateSpec", "V1JobTemplateSpec"} for t in types)
