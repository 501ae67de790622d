"""A node may name another manifest of the same image: what runs is judged as that image, and nothing else is (attack R-04, R-07)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.background import laboratory
from tests.background.laboratory import HOST, Lab
from tests.background.test_drift import twin
from tests.fake.registry import EMPTY_CONFIG, OCI_INDEX
from tests.fake.signing import key, sign_bundle
from tests.policies import exception
from webhook import limits
from webhook.background.reports import results_of
from webhook.background.verdicts import tallies
from webhook.image import Digest, ImageReference
from webhook.judge.workload import Question
from webhook.trust import Unavailable
from webhook.verdict import PolicyKey

WEB = PolicyKey("shop", "web")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with laboratory.lab() as made:
        yield made


def changed(lab: Lab, digest: Digest, **fields: Any) -> Digest:
    """A manifest that differs from another in some fields."""
    document = json.loads(lab.registry.manifests["app", digest].body)
    return lab.registry.push_manifest("app", {**document, **fields})


def layers(lab: Lab, digest: Digest) -> list[dict[str, Any]]:
    """Those of an image."""
    found: list[dict[str, Any]] = json.loads(lab.registry.manifests["app", digest].body)["layers"]
    return found


def counts(lab: Lab) -> tuple[dict[str, int], int]:
    """How the running images are counted in the policy's status, and how many would be denied, were they made again."""
    status = tallies(lab.rescan.results, lab.pods.sights, lab.now)[WEB].status()
    found = {name: count for name, count in status["verdicts"].items() if count and name != "examples"}
    return found, status["preview"]["denied"]


def written(lab: Lab, by: str, digest: Digest) -> str:
    """The image of a Pod that is written by tag, by digest, or by the digest of a signed index."""
    if by == "index":
        index = lab.registry.push_index("app", "v1", [digest, lab.registry.push_image("app", "arm64", b"arm64")])
        sign_bundle(lab.registry, "app", index, key("a"))
        return f"{HOST}/app@{index}"
    return f"{HOST}/app@{digest}" if by == "digest" else f"{HOST}/app:v1"


@pytest.mark.parametrize("by", ["digest", "tag", "index"])
@pytest.mark.parametrize("mode", ["enforce", "audit"])
async def test_r04_the_same_image_under_another_digest_counts_as_what_was_verified(
    lab: Lab, by: str, mode: str
) -> None:
    signed = lab.image(key("a"))
    image = written(lab, by, signed)
    other = twin(lab, signed, "app")
    lab.pod(image, other)
    lab.policy(mode=mode)
    await lab.step()
    assert lab.endings() == ["allowed"]
    assert counts(lab) == ({"allowed": 1}, 0)
    assert WEB not in lab.rescan.denied_at
    # Nobody has signed that digest, and nobody says so.
    (entry,) = results_of(lab.rescan.results, lab.pods.sights, lab.rescan.drifts.values(), lab.now)["shop"]
    assert entry["result"] == "pass"
    assert other not in str(entry)
    assert not lab.rescan.drifts
    # What was exchanged does not count as it.
    lab.pod(image, lab.registry.push_image("app", "evil", b"evil"), name="bad")
    await lab.step()
    assert lab.endings("bad") == ["denied"]
    assert counts(lab)[0] == {"allowed": 1, "denied": 1}


async def test_r04_an_index_written_otherwise_is_judged_as_the_index(lab: Lab) -> None:
    lab.policy()
    image = written(lab, "index", lab.image(key("a")))
    index = Digest(image.partition("@")[2])
    body = json.dumps(json.loads(lab.registry.manifests["app", index].body), indent=3).encode()
    lab.pod(image, lab.registry.push_manifest("app", body, OCI_INDEX))
    # Which image a node chooses is said by the platforms: where they are exchanged, another one runs.
    document = json.loads(body)
    first, second = document["manifests"]
    first["platform"], second["platform"] = second["platform"], first["platform"]
    exchanged = lab.registry.push_manifest("app", document, OCI_INDEX)
    lab.pod(image, exchanged, name="exchanged")
    evil = lab.registry.push_image("app", "evil", b"evil")
    lab.pod(image, lab.registry.push_index("app", "more", [evil, Digest(second["digest"])]), name="more")
    await lab.step()
    assert [lab.endings(name) for name in ("web", "exchanged", "more")] == [["allowed"], ["denied"], ["denied"]]


async def test_r04_other_layers_are_another_image_whatever_the_configuration_says(lab: Lab) -> None:
    lab.policy()
    signed = lab.image(key("a"))
    (layer,) = layers(lab, signed)
    evil = lab.registry.push_blob(b"evil")
    fetched_lazily = {**layer, "annotations": {"containerd.io/snapshot/stargz/toc.digest": evil}}
    cases = {
        "annotated": (changed(lab, signed, annotations={"built": "again"}), "allowed"),
        "typed": (changed(lab, signed, layers=[{**layer, "mediaType": "application/vnd.docker.layer"}]), "allowed"),
        "other": (changed(lab, signed, layers=[{**layer, "digest": evil}]), "denied"),
        "more": (changed(lab, signed, layers=[layer, {**layer, "digest": evil}]), "denied"),
        "none": (changed(lab, signed, layers=[]), "denied"),
        "lazy": (changed(lab, signed, layers=[fetched_lazily]), "denied"),
        "artifact": (changed(lab, signed, config=EMPTY_CONFIG), "denied"),
    }
    for name, (digest, _) in cases.items():
        lab.pod(f"{HOST}/app@{signed}", digest, name=name)
    await lab.step()
    assert {name: lab.endings(name) for name in cases} == {name: [ending] for name, (_, ending) in cases.items()}


@pytest.mark.parametrize("by", ["digest", "tag"])
@pytest.mark.parametrize("why", ["elsewhere", "running", "written"])
async def test_r04_what_cannot_be_read_stays_denied_and_is_looked_at_again(lab: Lab, by: str, why: str) -> None:
    lab.policy()
    signed = lab.image(key("a"))
    other = twin(lab, signed, "evil/twin" if why == "elsewhere" else "app")
    lab.pod(written(lab, by, signed), other)
    if why != "elsewhere":
        lab.registry.fail(f"manifest {other if why == 'running' else signed}", lambda: Unavailable("down"))
    await lab.step()
    assert lab.endings() == ["denied"]
    assert not lab.rescan.drifts
    lab.registry.failures.clear()
    lab.passes(limits.RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.endings() == ["denied" if why == "elsewhere" else "allowed"]


@pytest.mark.parametrize("by", ["digest", "tag"])
async def test_r04_a_digest_that_a_deny_list_names_stays_denied(lab: Lab, by: str) -> None:
    signed = lab.image(key("a"))
    other, free = twin(lab, signed, "app"), changed(lab, signed, annotations={"built": "again"})
    lab.policy(deny={"digests": [other]})
    for name, digest in (("web", other), ("free", free)):
        lab.pod(written(lab, by, signed), digest, name=name)
    await lab.step()
    assert lab.endings("free") == ["allowed"]
    assert lab.endings() == ["denied"]
    # And one that names the image itself denies what is the same.
    lab.policy(deny={"digests": [signed]})
    await lab.step()
    assert lab.endings("free") == lab.endings() == ["denied"]


async def test_r04_a_tag_that_leads_to_what_is_not_admitted_lends_nothing(lab: Lab) -> None:
    lab.policy()
    unsigned = lab.image()
    other = twin(lab, unsigned, "app")
    lab.pod(running=other)
    lab.pod(f"{HOST}/app@{unsigned}", other, name="by-digest")
    await lab.step()
    assert lab.endings() == lab.endings("by-digest") == ["denied"]
    # A tag that moves to what is signed lends that to nothing else.
    lab.image(key("a"), content=b"signed")
    lab.passes(limits.MAX_RESCAN_AGAIN_SECONDS)
    lab.policy("shop/more")
    await lab.step()
    assert lab.endings() == ["denied", "denied"]
    # Nor does one of which that cannot be said.
    lab.image(key("a"))
    lab.registry.fail("resolve", lambda: Unavailable("down"))
    lab.policy("shop/evenmore")
    await lab.step()
    assert "allowed" not in lab.endings()


async def test_r04_a_tag_that_leads_to_what_one_policy_refuses_lends_nothing_under_another(lab: Lab) -> None:
    lab.policy()
    other = twin(lab, lab.image(key("a")), "app")
    lab.pod(running=other)
    strict = {"signers": [{"name": "b", "cosign": {"key": key("b").pem}}]}
    lab.policy("shop/strict", **strict)
    await lab.step()
    # It would not be admitted, so that nobody knows what the tag led to when something was.
    assert lab.endings() == ["denied", "denied"]
    lab.policy("shop/strict", **strict, mode="audit")
    await lab.step()
    assert sorted(lab.endings()) == ["allowed", "denied"]


async def test_r04_what_an_exception_has_let_in_is_excused_under_another_digest_too(lab: Lab) -> None:
    lab.policy()
    unsigned = lab.image()
    lab.store.put_exception(exception("shop/hotfix", policies=["web"], images=[f"{HOST}/app@{unsigned}"]))
    lab.pod(f"{HOST}/app@{unsigned}", twin(lab, unsigned, "app"))
    lab.pod(f"{HOST}/app@{unsigned}", lab.registry.push_image("app", "evil", b"evil"), name="bad")
    await lab.step()
    assert lab.endings() == ["excused"]
    assert lab.endings("bad") == ["denied"]


async def test_f40_twins_are_asked_for_once_for_a_kind_and_only_where_something_is_denied(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Digest | None] = []
    manifest = lab.decider.manifest

    async def counted(question: Question, image: ImageReference) -> Any:
        asked.append(image.digest)
        return await manifest(question, image)

    monkeypatch.setattr(lab.decider, "manifest", counted)
    lab.policy()
    signed = lab.image(key("a"))
    for i in range(50):
        lab.pod(running=signed, name=f"good-{i}")
    await lab.step()
    assert asked == []
    other = twin(lab, signed, "app")
    for i in range(50):
        lab.pod(running=other, name=f"web-{i}")
    await lab.step()
    assert lab.endings("web-0") == ["allowed"]
    assert asked == [other, signed]


async def test_f40_an_index_of_very_many_images_is_not_compared(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.policy()
    signed = lab.image(key("a"))
    lab.pod(written(lab, "index", signed), twin(lab, signed, "app"))
    monkeypatch.setattr(limits, "MAX_COMPARED", 1)
    await lab.step()
    assert lab.endings() == ["denied"]
    monkeypatch.setattr(limits, "MAX_COMPARED", 2)
    lab.passes(limits.RESCAN_AGAIN_SECONDS)
    await lab.step()
    assert lab.endings() == ["allowed"]
