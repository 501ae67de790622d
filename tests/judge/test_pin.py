"""Digests written into Pods: what was verified is what runs, and nothing else is touched (attacks R-01, R-04, K-06, K-15, K-16)."""

import asyncio
import json
from typing import Any

import pytest

from tests.fake.registries import ANONYMOUS
from tests.fake.signing import key
from tests.judge.test_judge import HOST, World, cosign
from webhook.admission.review import Unjudged, parse_review
from webhook.judge.enforce import enforced
from webhook.judge.pin import Pin, pins
from webhook.judge.workload import Question, read_question
from webhook.memory.store import PolicyStore
from webhook.policy.policy import Policy
from webhook.verdict import Allowed, Denied, Ruling


@pytest.fixture
def world() -> World:
    return World()


def pod(*images: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": f"c{i}", "image": image} for i, image in enumerate(images)]
    return {"spec": {"containers": containers, **spec}}


def question(document: object, kind: str = "Pod", group: str = "") -> Question:
    found = read_question(group, kind, json.dumps(document).encode(), "shop")
    assert found is not None
    return found


async def judged(world: World, policies: list[Policy], asked: Question) -> list[Ruling]:
    store = PolicyStore()
    store.replace_all(policies)
    store.put_namespace("shop", {})
    deadline = asyncio.get_running_loop().time() + 10
    found = (await world.judge.judge(asked, store.snapshot, ANONYMOUS, deadline)).judgements
    return [ruling for ruling in enforced(asked, found) if isinstance(ruling, Ruling)]


def patched(document: dict[str, Any], patch: tuple[Pin, ...]) -> dict[str, Any]:
    """As an API server applies it."""
    changed: dict[str, Any] = json.loads(json.dumps(document))
    for pin in patch:
        *way, last = pin.pointer.strip("/").split("/")
        node: Any = changed
        for step in way:
            node = node[int(step) if step.isdigit() else step]
        assert last in node
        node[last] = pin.reference
    return changed


async def test_r04_k06_the_verified_digest_is_written_and_pinning_again_adds_nothing(world: World) -> None:
    digest = world.signed("app", key("a"))
    document = pod(f"{HOST}/app:v1", initContainers=[{"name": "i", "image": f"{HOST}/app:v1"}])
    asked = question(document)
    patch = pins(asked, await judged(world, [cosign(tags="pin")], asked))
    assert patch == (
        Pin("/spec/containers/0/image", f"{HOST}/app:v1@{digest}"),
        Pin("/spec/initContainers/0/image", f"{HOST}/app:v1@{digest}"),
    )
    # K-06: the patched object asks for nothing more, and is what /validate admits.
    again = question(patched(document, patch))
    assert pins(again, await judged(world, [cosign(tags="pin")], again)) == ()


async def test_k16_image_volumes_and_short_names_are_pinned_by_their_whole_name(world: World) -> None:
    digest = world.signed("library/nginx", key("a"), tag="latest")
    volume = {"name": "data", "image": {"reference": "nginx"}}
    asked = question(pod("nginx", volumes=[{"name": "empty"}, volume]))
    patch = pins(asked, await judged(world, [cosign(tags="pin", images=["**"])], asked))
    whole = f"docker.io/library/nginx:latest@{digest}"
    assert patch == (Pin("/spec/containers/0/image", whole), Pin("/spec/volumes/1/image/reference", whole))


async def test_k15_templates_are_somebody_elses_to_write(world: World) -> None:
    world.signed("app", key("a"))
    asked = question({"spec": {"template": pod(f"{HOST}/app:v1")}}, "Deployment", "apps")
    (ruling,) = await judged(world, [cosign(tags="pin")], asked)
    assert isinstance(ruling.outcome, Allowed)
    assert pins(asked, [ruling]) == ()


@pytest.mark.parametrize(
    ("spec", "signer"), [({"tags": "allow"}, "a"), ({"tags": "pin", "mode": "warn"}, "a"), ({"tags": "pin"}, "b")]
)
async def test_what_no_policy_wants_pinned_or_nobody_has_verified_stays(
    world: World, spec: dict[str, Any], signer: str
) -> None:
    world.signed("app", key(signer))
    asked = question(pod(f"{HOST}/app:v1"))
    assert pins(asked, await judged(world, [cosign(**spec)], asked)) == ()


@pytest.mark.parametrize(
    ("spec", "pinned", "allowed"),
    [
        ({"tags": "pin"}, True, True),
        ({"tags": "pin"}, False, False),
        ({"tags": "pin", "mode": "warn"}, False, True),
        ({"tags": "allow"}, False, True),
    ],
)
async def test_r01_what_a_node_will_run_carries_the_digest(
    world: World, spec: dict[str, Any], pinned: bool, allowed: bool
) -> None:
    digest = world.signed("app", key("a"))
    image = f"{HOST}/app:v1" + (f"@{digest}" if pinned else "")
    review = {
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "namespace": "shop", "kind": {"kind": "Pod"}, "object": pod(image),
        },
    }  # fmt: skip
    asked = parse_review(json.dumps(review).encode()).asked
    assert isinstance(asked, Question)
    assert asked.final
    (ruling,) = await judged(world, [cosign(**spec)], asked)
    assert isinstance(ruling.outcome, Allowed) is allowed
    if isinstance(ruling.outcome, Denied):
        assert ruling.outcome.reasons == (
            f"it is signed, and its digest was not written into the Pod ({HOST}/app:v1@{digest})",
        )


async def test_an_unsigned_image_is_told_so_and_not_that_it_lacks_a_digest(world: World) -> None:
    world.signed("app")
    asked = question(pod(f"{HOST}/app:v1"))
    (ruling,) = await judged(world, [cosign(tags="pin")], asked)
    assert isinstance(ruling.outcome, Denied)
    assert "no signature by" in ruling.outcome.reasons[0]


def update(new: dict[str, Any], old: dict[str, Any], **request: Any) -> bytes:
    review = {
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "UPDATE", "namespace": "shop", "kind": {"kind": "Pod"}, "object": new, "oldObject": old,
            **request,
        },
    }  # fmt: skip
    return json.dumps(review).encode()


async def test_x04_an_update_pins_what_it_brings_and_lets_stand_what_stood(world: World) -> None:
    digest = world.signed("app", key("a"))
    old = pod(f"{HOST}/app:v1")
    debugged = {"spec": {**old["spec"], "ephemeralContainers": [{"name": "debug", "image": f"{HOST}/app:v1"}]}}
    asked = parse_review(update(debugged, old), final=False).asked
    assert isinstance(asked, Question)
    assert [placed.stood for placed in asked.images] == [True, False]
    policies = [cosign(tags="pin")]
    patch = pins(asked, await judged(world, policies, asked))
    assert patch == (Pin("/spec/ephemeralContainers/0/image", f"{HOST}/app:v1@{digest}"),)
    # What ran before the policy came keeps its tag; what is new must carry the digest.
    final = parse_review(update(patched(debugged, patch), old)).asked
    assert isinstance(final, Question)
    assert all(isinstance(ruling.outcome, Allowed) for ruling in await judged(world, policies, final))
    unpinned = parse_review(update(debugged, old)).asked
    assert isinstance(unpinned, Question)
    assert any(isinstance(ruling.outcome, Denied) for ruling in await judged(world, policies, unpinned))
    assert parse_review(update(old, old), final=False).asked == Unjudged("unchanged")
