"""Events about refusals: where people look, few, and never in the way (attacks D-01, D-09; fault F33)."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from tests import captures
from tests.fake.kube import FakeKube
from webhook import limits
from webhook.kube import KubeError
from webhook.observe.metrics import Metrics
from webhook.operator.refusals import RefusalEvents
from webhook.verdict import ObjectName, Refusal

SET = ObjectName("apps/v1", "ReplicaSet", "web-5d", "abc")
REFUSAL = Refusal("shop", SET, "Pod web-5d-…", "spec.containers[0].image web:v1: no", read=True, at=captures.NOW)


class Lab:
    def __init__(self) -> None:
        self.kube, self.metrics, self.seconds = FakeKube(), Metrics(), 0.0
        self.events = RefusalEvents(self.kube, self.metrics, lambda: self.seconds)

    async def worked(self) -> list[dict[str, Any]]:
        """The Events there are when all that waits has been told."""
        work = asyncio.create_task(self.events.work())
        await asyncio.sleep(0.01)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return [one for path, one in self.kube.objects.items() if "/events/" in path]

    def count(self, result: str) -> float:
        found = self.metrics.registry.get_sample_value("trusted_images_refusal_events_total", {"result": result})
        assert found is not None
        return found


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_an_event_stands_beside_the_owner_with_the_cause(lab: Lab) -> None:
    lab.events.tell(REFUSAL)
    lab.events.tell(replace(REFUSAL, about=ObjectName("v1", "Namespace", "shop"), read=False))
    first, second = await lab.worked()
    assert first["metadata"]["namespace"] == "shop"
    assert first["involvedObject"] == {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "namespace": "shop", "uid": "abc",
    }  # fmt: skip
    assert (first["type"], first["reason"]) == ("Warning", "ImageNotTrusted")
    assert first["message"] == "Pod web-5d-…: spec.containers[0].image web:v1: no"
    assert second["involvedObject"] == {"apiVersion": "v1", "kind": "Namespace", "name": "shop", "namespace": "shop"}
    assert second["reason"] == "ImageNotVerified"
    assert lab.count("written") == 2


async def test_what_a_controller_tries_again_and_again_is_told_once_in_a_while(lab: Lab) -> None:
    for _ in range(50):
        lab.events.tell(REFUSAL)
    assert len(await lab.worked()) == 1
    assert lab.count("suppressed") == 49
    # Another cause, and another owner, are news.
    lab.events.tell(replace(REFUSAL, message="another"))
    lab.events.tell(replace(REFUSAL, about=replace(SET, name="api-7f")))
    assert len(await lab.worked()) == 3
    lab.seconds = limits.SAME_EVENT_SECONDS
    lab.events.tell(REFUSAL)
    assert len(await lab.worked()) == 4


async def test_d09_one_namespace_cannot_flood_the_events_nor_silence_another(lab: Lab) -> None:
    for i in range(3 * limits.MAX_EVENTS_PER_NAMESPACE):
        lab.events.tell(replace(REFUSAL, message=f"cause {i}"))
    lab.events.tell(replace(REFUSAL, namespace="other"))
    events = await lab.worked()
    assert [one["metadata"]["namespace"] for one in events].count("shop") == limits.MAX_EVENTS_PER_NAMESPACE
    assert events[-1]["metadata"]["namespace"] == "other"
    # In the next minute there is room again; the minute does not begin anew with each refusal.
    lab.seconds = 59.0
    lab.events.tell(replace(REFUSAL, message="too early"))
    lab.seconds = 60.0
    lab.events.tell(replace(REFUSAL, message="in time"))
    assert [one["message"][-7:] for one in (await lab.worked())[len(events) :]] == ["in time"]


async def test_d09_all_namespaces_together_have_a_bound_and_so_has_what_waits(lab: Lab) -> None:
    for i in range(limits.MAX_EVENTS):
        lab.events.tell(replace(REFUSAL, namespace=f"n-{i}"))
    # Nobody has worked meanwhile.
    assert len(await lab.worked()) == limits.MAX_UNTOLD_REFUSALS
    for i in range(limits.MAX_EVENTS):
        lab.events.tell(replace(REFUSAL, namespace=f"m-{i}"))
    assert len(await lab.worked()) == limits.MAX_UNTOLD_REFUSALS
    assert lab.count("suppressed") == 2 * limits.MAX_EVENTS - limits.MAX_UNTOLD_REFUSALS


async def test_f33_an_api_server_that_takes_no_events_stops_nothing(lab: Lab) -> None:
    lab.kube.failing["/api/v1/namespaces/shop/events"] = KubeError("429 slow down", 429)
    lab.events.tell(REFUSAL)
    lab.events.tell(replace(REFUSAL, namespace="other"))
    (event,) = await lab.worked()
    assert event["metadata"]["namespace"] == "other"
    assert (lab.count("failed"), lab.count("written")) == (1, 1)
