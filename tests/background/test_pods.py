"""The Pods of a cluster, as far as they are judged: little of each, equal things once, and nothing missed (faults F-20, F-32)."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.background import laboratory
from tests.background.laboratory import HOST, Cluster, Lab
from webhook import limits
from webhook.background import pods as module
from webhook.background.pods import Pods, Sight, read_pod, running_digest
from webhook.kube import KubeError
from webhook.parsing import Invalid

D1, D2 = (f"sha256:{digit * 64}" for digit in "12")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with laboratory.lab() as made:
        yield made


def document(name: str = "web", uid: str = "", image_id: str = f"{HOST}/app@{D1}", **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid or name, "resourceVersion": "1",
            "creationTimestamp": "2026-11-01T12:00:00Z", **fields.pop("metadata", {}),
        },
        "spec": {"containers": [{"name": "main", "image": f"{HOST}/app:v1"}], **fields.pop("spec", {})},
        "status": {"phase": "Running", "containerStatuses": [{"name": "main", "imageID": image_id}], **fields},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image_id", "digest"),
    [
        (f"{HOST}/app@{D1}", D1),
        (f"docker-pullable://{HOST}/app@{D1}", D1),
        (D1, None),
        (f"docker://{D1}", None),
        (f"{HOST}/app@sha256:12", None),
        (f"{HOST}/app@{D1.upper()}", None),
        ("", None),
    ],
)
def test_r08_a_node_s_word_for_a_digest_is_one_or_is_nothing(image_id: str, digest: str | None) -> None:
    assert running_digest(image_id) == digest


def test_each_container_has_its_own_status() -> None:
    pod = read_pod(
        document(
            spec={
                "initContainers": [{"name": "first", "image": "a"}],
                "ephemeralContainers": [{"name": "main", "image": "b"}],
                "volumes": [{"name": "data", "image": {"reference": "c"}}],
            },
            initContainerStatuses=[{"name": "first", "imageID": f"x@{D2}"}],
            ephemeralContainerStatuses=None,
        ),
        1.0,
    )
    assert pod is not None
    sight = Sight.unpack(pod.sight)
    assert [placed.kind for placed in sight.question.images] == ["main", "init", "ephemeral", "volume"]
    assert sight.running == (D1, D2, None, None)
    assert sight.pack() == pod.sight


@pytest.mark.parametrize(
    "fields", [{"phase": "Succeeded"}, {"phase": "Failed"}, {"metadata": {"deletionTimestamp": "2026-11-01T12:00:00Z"}}]
)
def test_what_has_ended_or_was_deleted_and_does_not_run_is_not_followed(fields: dict[str, Any]) -> None:
    assert read_pod(document(**fields), 1.0) is None
    pods = Pods(lambda: 1.0)
    pods.seen(document())
    pods.seen(document(**fields))
    assert not pods.by_uid
    assert not pods.sights
    assert not pods.fresh


def test_what_is_malformed_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    pods = Pods(lambda: 1.0)
    documents: list[dict[str, Any]] = [
        document(containerStatuses=7), document(spec={"containers": []}), {"metadata": {}}
    ]  # fmt: skip
    for broken in documents:
        with pytest.raises(Invalid):
            read_pod(broken, 1.0)
        pods.seen(broken)
    assert not pods.by_uid
    assert caplog.text.count("cannot be read") == 3


def test_f32_ten_thousand_pods_of_one_kind_take_little(lab: Lab) -> None:
    pods = Pods(lambda: 1.0)
    for i in range(10_000):
        pods.seen(document(f"web-{i}"))
    assert len(pods.by_uid) == 10_000
    assert len(pods.sights) == 1
    each = {id(pod.sight) for pod in pods.by_uid.values()}
    assert len(each) == 1
    (pod, *_) = pods.by_uid.values()
    assert sys.getsizeof(pod) + sys.getsizeof(pod.uid) + sys.getsizeof(pod.name) < 400


def test_f32_the_packed_kind_of_a_pod_is_small() -> None:
    labels = {f"app.kubernetes.io/label-{i}": f"value-{i}" for i in range(8)}
    pod = read_pod(document(metadata={"labels": labels, "annotations": {"big": "x" * 100_000}}), 1.0)
    assert pod is not None
    assert len(pod.sight) < 1000
    assert len(msgspec.json.encode(document(metadata={"annotations": {"big": "x" * 100_000}}))) > 100_000


def test_f32_more_pods_than_may_be_followed_are_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "MAX_PODS", 3)
    pods = Pods(lambda: 1.0)
    for i in range(6):
        pods.seen(document(f"web-{i}"))
    assert len(pods.by_uid) == 3
    assert caplog.text.count("more than 3 Pods") == 1
    # Those that are followed go on being followed.
    pods.seen(document("web-0", image_id=f"x@{D2}"))
    assert Sight.unpack(pods.by_uid["web-0"].sight).running == (D2,)


def test_what_was_good_is_forgotten_where_other_images_are_written() -> None:
    pods = Pods(lambda: 1.0)
    pods.seen(document())

    def good() -> tuple[str | None, ...]:
        return pods.by_uid["web"].good

    pods.by_uid["web"].good = Sight.unpack(pods.by_uid["web"].sight).running
    pods.seen(document(image_id=f"x@{D2}"))
    assert good() == (D1,)
    pods.seen(document(spec={"containers": [{"name": "main", "image": "other"}]}))
    assert good() == ()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_f20_a_list_then_events_and_a_list_again_where_history_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.01)
    kube, pods = Cluster(), Pods(lambda: 1.0)
    root = "/api/v1/namespaces/shop/pods"
    kube.put(f"{root}/one", document("one"))
    kube.failing["/api/v1/pods"] = KubeError("down")
    following = asyncio.create_task(pods.follow(kube))
    try:
        await asyncio.sleep(0.05)
        assert not pods.listed
        kube.failing.clear()
        await until(lambda: set(pods.by_uid) == {"one"})
        kube.events.put_nowait({"type": "ADDED", "object": document("two", metadata={"resourceVersion": "500"})})
        kube.events.put_nowait({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "600"}}})
        await until(lambda: set(pods.by_uid) == {"one", "two"})
        # The server ends a watch now and then: it goes on where it was, without a list.
        kube.events.put_nowait(None)
        await until(lambda: kube.watched[-1] == "600")
        # A break is no reason for a list either.
        kube.events.put_nowait(KubeError("broken"))
        await until(lambda: kube.watched[-2:] == ["600", "600"])
        lists = kube.asked.count(("GET", "/api/v1/pods"))
        kube.events.put_nowait({"type": "DELETED", "object": document("two")})
        await until(lambda: set(pods.by_uid) == {"one"})
        kube.put(f"{root}/three", document("three"))
        kube.remove(f"{root}/one")
        kube.events.put_nowait(KubeError("too old", 410))
        await until(lambda: set(pods.by_uid) == {"three"})
        assert kube.asked.count(("GET", "/api/v1/pods")) == lists + 1
    finally:
        following.cancel()
