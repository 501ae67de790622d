"""The judge: rulings from policies and evidence (attacks V, M, P-10, X-16; F for outages)."""

import asyncio
import dataclasses
import datetime as dt
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import captures
from tests.fake.notation import authority, ocsp_answer, party, responder_at, sign_notation, store, trusting
from tests.fake.openpgp import (
    DAY,
    MADE,
    OpenPGPKey,
    bound,
    certificate,
    keyring_spec,
    openpgp_key,
    self_signed,
    sign_gpg,
)
from tests.fake.registries import ANONYMOUS, FakeKeychain, FakeRegistries
from tests.fake.registry import FakeRegistry
from tests.fake.signing import SigningKey, key, sign_bundle, sign_classic
from tests.policies import policy
from webhook import limits
from webhook.formats._x509 import public_key
from webhook.image import Digest, ImageReference, Repository, digest_of
from webhook.judge.enforce import enforced, settle
from webhook.judge.evaluate import Judge, _seconds_to_keep
from webhook.judge.workload import Placed, Question
from webhook.memory.store import PolicyStore
from webhook.parsing import Invalid
from webhook.policy.parse import broken_policy
from webhook.policy.policy import ContainerKind, Policy, Workload
from webhook.trust import Rejected, Resolved, Unavailable
from webhook.verdict import (
    Allowed,
    Answer,
    Deferred,
    Denied,
    Finding,
    Judgement,
    PolicyKey,
    Proof,
    Ruling,
    Satisfied,
    Uncovered,
    Undecided,
    Unknown,
    Unsatisfied,
)

HOST = "registry.test"


class Counter:
    def __init__(self) -> None:
        self.weighed: list[Finding] = []
        self.hits = 0
        self.misses = 0

    def verified(self, signer: str, finding: Finding) -> None:
        self.weighed.append(finding)

    def recalled(self, *, hit: bool) -> None:
        self.hits += hit
        self.misses += not hit


class World:
    """A registry, a judge, and policies."""

    def __init__(self) -> None:
        self.registry = FakeRegistry()
        self.registries = FakeRegistries(self.registry)
        self.counter = Counter()
        self.pool = ThreadPoolExecutor(2)
        self.judge = Judge(self.registries, pool=self.pool, now=lambda: captures.NOW, observer=self.counter)

    def signed(self, path: str, *keys: SigningKey, tag: str = "v1") -> Digest:
        """An image with bundles by these keys."""
        digest = self.registry.push_image(path, tag, path.encode())
        for signer in keys:
            sign_bundle(self.registry, path, digest, signer)
        return digest

    async def ask(
        self,
        policies: list[Policy],
        *images: str | tuple[str, ContainerKind],
        keychain: FakeKeychain = ANONYMOUS,
        seconds: float = 10,
        template: bool = False,
        labels: Mapping[str, Mapping[str, str]] | None = None,
    ) -> tuple[Judgement, ...]:
        store = PolicyStore()
        store.replace_all(policies)
        for name, of_namespace in ({"shop": {}} if labels is None else labels).items():
            store.put_namespace(name, of_namespace)
        deadline = asyncio.get_running_loop().time() + seconds
        judged = await self.judge.judge(question(*images, template=template), store.snapshot, keychain, deadline)
        return judged.judgements

    async def rulings(self, *args: Any, **kwargs: Any) -> list[Ruling]:
        return [j for j in await self.ask(*args, **kwargs) if isinstance(j, Ruling)]

    async def outcome(self, *args: Any, **kwargs: Any) -> Allowed | Denied | Undecided:
        (ruling,) = await self.rulings(*args, **kwargs)
        return ruling.outcome

    async def answer(self, policies: list[Policy], *images: Any, **kwargs: Any) -> Answer:
        asked = question(*images)
        return settle(asked, enforced(asked, await self.ask(policies, *images, **kwargs)))


def question(*images: str | tuple[str, ContainerKind], template: bool = False) -> Question:
    placed = tuple(
        Placed(f"spec.containers[{i}].image", image, "main")
        if isinstance(image, str)
        else Placed(f"spec.{image[1]}[{i}].image", *image)
        for i, image in enumerate(images)
    )
    return Question(Workload("shop", "default", {}), (), placed, template)


def cosign(name: str = "shop/web", *names: str, **fields: Any) -> Policy:
    """A policy with a cosign signer for each of the keys named."""
    signers = [{"name": n, "cosign": {"key": key(n).pem}} for n in names or ("a",)]
    return policy(name, {"signers": signers}, **fields)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.pool.shutdown()


# ── the three endings ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_signed_image_is_allowed_by_its_proof(world: World) -> None:
    digest = world.signed("app", key("a"))
    outcome = await world.outcome([cosign()], f"{HOST}/app@{digest}")
    assert isinstance(outcome, Allowed)
    assert [proof.identity for proof in outcome.proofs] == [key("a").fingerprint]
    (by_tag,) = await world.rulings([cosign()], f"{HOST}/app:v1")
    assert isinstance(by_tag.outcome, Allowed)
    assert by_tag.by_tag
    assert by_tag.outcome.subject.digest == digest


async def test_an_unsigned_image_is_denied_with_cause_and_fix(world: World) -> None:
    digest = world.signed("app")
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1")
    assert isinstance(outcome, Denied)
    assert outcome.reasons == ('no signature by "a" (it carries no signature)',)
    assert outcome.fix is not None
    assert outcome.fix.startswith(f'sign {HOST}/app@{digest} with "a" (')


async def test_v01_an_image_that_is_not_there_is_denied_although_its_digest_was_signed(world: World) -> None:
    gone = digest_of(b"gone")
    sign_bundle(world.registry, "app", gone, key("a"))
    outcome = await world.outcome([cosign()], f"{HOST}/app@{gone}")
    assert isinstance(outcome, Denied)
    assert outcome.reasons == ("there is no such image",)


@pytest.mark.parametrize("what", ["resolve", "referrers", "manifest", "blob"])
async def test_v02_an_outage_is_undecided_and_never_remembered(world: World, what: str) -> None:
    world.signed("app", key("a"))
    world.registry.fail(what, lambda: Unavailable("the registry is down"))
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1")
    assert isinstance(outcome, Undecided)
    assert "the registry is down" in outcome.causes[0]
    world.registry.failures.clear()
    assert isinstance(await world.outcome([cosign()], f"{HOST}/app:v1"), Allowed)


async def test_v02_an_unforeseen_error_is_a_denial_with_a_number_and_no_detail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.signed("app", key("a"))
    world.registry.fail("blob", lambda: KeyError("secret detail"))
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1")
    assert isinstance(outcome, Denied)
    assert "an internal error, id " in outcome.reasons[0]
    assert "secret detail" not in outcome.reasons[0]
    number = outcome.reasons[0].partition("id ")[2].split()[0]
    assert f"unforeseen error {number}: KeyError" in caplog.text


async def test_v02_a_check_that_runs_out_of_time_is_undecided(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> None:
        raise TimeoutError

    world.signed("app", key("a"))
    monkeypatch.setattr("webhook.formats.cosign.signer.Cosign.check", late)
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1")
    assert isinstance(outcome, Undecided)
    assert outcome.causes == ('signer "a": no answer in time',)


async def test_pull_secrets_that_cannot_be_read_leave_it_undecided(world: World) -> None:
    world.signed("app", key("a"))
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1", keychain=FakeKeychain(broken=True))
    assert isinstance(outcome, Undecided)
    assert outcome.causes == ("the pull secret cannot be read",)
    slow = await world.outcome([cosign()], f"{HOST}/app:v1", keychain=FakeKeychain(slow=True))
    assert isinstance(slow, Allowed)


async def test_d07_at_the_deadline_the_rest_is_undecided_and_the_work_goes_on(world: World) -> None:
    world.signed("app", key("a"))
    going = threading.Event()

    async def slow(*_: object) -> None:
        await asyncio.sleep(0.2)

    original = FakeRegistry.attachments

    async def attachments(self: FakeRegistry, *args: Any) -> Any:
        await slow()
        going.set()
        return await original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRegistry, "attachments", attachments)
        first = await world.outcome([cosign()], f"{HOST}/app:v1", seconds=0.02)
        assert isinstance(first, Undecided)
        assert first.causes == ("it could not be read in time",)
        await asyncio.sleep(0.4)
    assert going.is_set()
    # What the first review began is there for the second.
    world.registry.asked.clear()
    assert isinstance(await world.outcome([cosign()], f"{HOST}/app:v1"), Allowed)
    assert not world.registry.asked
    assert len(world.counter.weighed) == 1


async def test_d07_a_flight_that_took_too_long_is_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.signed("app", key("a"))
    world.registry.fail("referrers", TimeoutError)
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1")
    assert isinstance(outcome, Undecided)
    assert (outcome.causes, outcome.late) == (("it could not be read in time",), True)


async def test_what_never_answers_is_undecided_under_every_policy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(FakeRegistry, "resolve", never)
    denies = policy("shop/deny", {"deny": {"digests": [digest_of(b"x")]}})
    rulings = await world.rulings([cosign(), denies], f"{HOST}/app:v1", seconds=0.01)
    pending = Undecided(("it could not be read in time",), outage=True, late=True)
    # A deny list that has not been compared is not to be lifted.
    assert [r.outcome for r in rulings] == [pending, dataclasses.replace(pending, final=True, outage=False)]


async def test_v01_a_policy_that_demands_nothing_allows_nothing(world: World) -> None:
    # It cannot be written; should one come into being all the same, it admits no image.
    world.signed("app", key("a"))
    outcome = await world.outcome([dataclasses.replace(cosign(), require=None)], f"{HOST}/app:v1")
    assert isinstance(outcome, Denied)
    assert outcome.reasons == ("the policy names no signer",)


async def test_v01_a_proof_alone_is_not_an_image(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = world.signed("app", key("a"))
    gate = asyncio.Event()
    original = FakeRegistry.resolve

    async def slow(self: FakeRegistry, image: ImageReference) -> Resolved:
        await gate.wait()
        return await original(self, image)

    monkeypatch.setattr(FakeRegistry, "resolve", slow)
    early = await world.outcome([cosign()], f"{HOST}/app@{digest}", seconds=0.2)
    assert isinstance(early, Undecided)
    assert isinstance(world.counter.weighed[0], Satisfied)
    gate.set()
    assert isinstance(await world.outcome([cosign()], f"{HOST}/app@{digest}"), Allowed)


async def test_what_breaks_a_rule_of_parsing_is_denied(world: World) -> None:
    world.registry.fail("resolve", lambda: Invalid("manifest.layers: required"))
    outcome = await world.outcome([cosign()], f"{HOST}/app:v1")
    assert outcome == Denied(("manifest.layers: required",))


@pytest.mark.parametrize(
    ("failure", "ending"), [(Unavailable("its secret is unreadable"), Undecided), (Rejected("its secret"), Denied)]
)
async def test_signatures_in_a_repository_that_cannot_be_opened(
    world: World, monkeypatch: pytest.MonkeyPatch, failure: Exception, ending: type
) -> None:
    world.signed("app", key("a"))

    async def opened(_self: FakeRegistries, _keychain: FakeKeychain, repository: Repository) -> tuple[()]:
        if repository.path == "signatures":
            raise failure
        return ()

    monkeypatch.setattr(FakeRegistries, "opened", opened)
    signer = {"name": "a", "cosign": {"key": key("a").pem, "repository": f"{HOST}/signatures"}}
    outcome = await world.outcome([policy("shop/web", {"signers": [signer]})], f"{HOST}/app:v1")
    assert isinstance(outcome, ending)
    assert "its secret" in str(outcome)


# ── which images are asked about ─────────────────────────────────────────────────────────────────────────────────────


async def test_x16_each_image_is_judged_in_each_kind_of_container_and_each_place_is_named(world: World) -> None:
    world.signed("app", key("a"))
    world.signed("bad")
    one = cosign(workloads={"containers": ["init"]})
    judgements = await world.ask(
        [one], f"{HOST}/app:v1", f"{HOST}/bad:v1", (f"{HOST}/bad:v1", "init"), (f"{HOST}/bad:v1", "init")
    )
    (denied,) = (j for j in judgements if isinstance(j, Ruling))
    assert denied.places == ("spec.init[2].image", "spec.init[3].image")
    assert isinstance(denied.outcome, Denied)
    assert {j.places for j in judgements if isinstance(j, Uncovered)} == {
        ("spec.containers[0].image",),
        ("spec.containers[1].image",),
    }


async def test_p05_text_that_is_no_reference_is_denied_whatever_the_policies(world: World) -> None:
    (ruling,) = await world.rulings([], "docker.io/UPPER")
    assert (ruling.policy, ruling.mode) == (None, "enforce")
    assert isinstance(ruling.outcome, Denied)
    assert "not an image reference" in ruling.outcome.reasons[0]


async def test_x12_an_empty_image_is_denied_in_a_pod_and_left_for_later_in_a_template(world: World) -> None:
    assert await world.ask([], "", template=True) == (Deferred(("spec.containers[0].image",)),)
    (ruling,) = await world.rulings([], "")
    assert ruling.outcome == Denied(("no image is named",))


async def test_what_no_policy_covers_is_said_and_nothing_is_read_for_it(world: World) -> None:
    judgements = await world.ask([cosign(images=["other.test/**"])], f"{HOST}/app:v1")
    assert judgements == (Uncovered(("spec.containers[0].image",), f"{HOST}/app:v1"),)
    assert not world.registry.asked


async def test_w05_a_policy_that_may_apply_leaves_it_undecided(world: World) -> None:
    world.signed("app", key("a"))
    perhaps = cosign("perhaps", namespaces={"selector": {"matchLabels": {"tier": "gold"}}})
    outcome = await world.outcome([perhaps], f"{HOST}/app:v1", labels={})
    assert isinstance(outcome, Undecided)
    assert "the labels of the namespace are not known" in outcome.causes[0]


# ── demands ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_p07_all_policies_must_be_satisfied(world: World) -> None:
    world.signed("app", key("a"))
    rulings = await world.rulings([cosign("shop/one", "a"), cosign("two", "b")], f"{HOST}/app:v1")
    assert {str(r.policy): type(r.outcome) for r in rulings} == {"cluster/two": Denied, "shop/one": Allowed}


async def test_require_over_several_signers(world: World) -> None:
    world.signed("app", key("a"), key("b"))
    world.signed("half", key("a"))
    both = cosign("shop/both", "a", "b", require="a and b")
    assert isinstance(await world.outcome([both], f"{HOST}/app:v1"), Allowed)
    half = await world.outcome([both], f"{HOST}/half:v1")
    assert isinstance(half, Denied)
    assert half.reasons == ('no signature by "b" (signed by unknown key ' + key("a").fingerprint[:23] + "…)",)
    either = cosign("shop/either", "b", "a", require="a or b")
    assert isinstance(await world.outcome([either], f"{HOST}/half:v1"), Allowed)


async def test_c07_two_of_counts_identities_and_not_names(world: World) -> None:
    world.signed("once", key("a"))
    world.signed("twice", key("a"), key("b"))
    signers = [
        {"name": "x", "cosign": {"keys": [key("a").pem, key("b").pem]}},
        {"name": "y", "cosign": {"key": key("a").pem}},
    ]
    two = policy("shop/two", {"signers": signers}, require="2 of (x, y)")
    once = await world.outcome([two], f"{HOST}/once:v1")
    assert isinstance(once, Denied)
    assert "2 different signers are wanted" in once.reasons[0]
    assert isinstance(await world.outcome([two], f"{HOST}/twice:v1"), Allowed)


async def test_a_signer_without_its_key_is_unknown_and_others_still_count(world: World) -> None:
    world.signed("app", key("a"))
    signers = [
        {"name": "gone", "cosign": {"key": "secret://gone#x"}},
        {"name": "a", "cosign": {"key": key("a").pem}},
    ]
    either = policy("shop/either", {"signers": signers})
    assert isinstance(await world.outcome([either], f"{HOST}/app:v1"), Allowed)
    both = await world.outcome([policy("shop/both", {"signers": signers}, require="all")], f"{HOST}/app:v1")
    assert isinstance(both, Undecided)
    assert both.causes == ('signer "gone": its key could not be read: not read',)
    world.signed("bare")
    bare = await world.outcome([either], f"{HOST}/bare:v1")
    assert isinstance(bare, Undecided)


async def test_c20_v04_a_proof_stands_although_another_place_is_down(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    sign_classic(world.registry, "app", digest, key("a"))
    world.registry.fail("referrers", lambda: Unavailable("down"))
    assert isinstance(await world.outcome([cosign()], f"{HOST}/app:v1"), Allowed)


async def test_a_broken_policy_denies_what_it_covers(world: World) -> None:
    world.signed("app", key("a"))
    broken = broken_policy(PolicyKey("shop", "broken"), {"images": [f"{HOST}/**"]}, ("spec.signers: wrong",))
    rulings = await world.rulings([broken, cosign()], f"{HOST}/app:v1")
    (denied,) = (r.outcome for r in rulings if isinstance(r.outcome, Denied))
    assert denied.reasons == ("the policy is broken: spec.signers: wrong",)
    assert await world.rulings([broken], "other.test/app:v1") == []


async def test_r04_tags_refused_means_digests_only(world: World) -> None:
    digest = world.signed("app", key("a"))
    refuse = cosign(tags="refuse")
    by_tag = await world.outcome([refuse], f"{HOST}/app:v1")
    assert isinstance(by_tag, Denied)
    assert by_tag.fix == f"name it by digest: {HOST}/app@sha256:…"
    assert not world.registry.asked
    assert isinstance(await world.outcome([refuse], f"{HOST}/app@{digest}"), Allowed)
    # Once the tag is known, the fix can be pasted.
    await world.outcome([cosign()], f"{HOST}/app:v1")
    again = await world.outcome([refuse], f"{HOST}/app:v1")
    assert isinstance(again, Denied)
    assert again.fix == f"name it by digest: {HOST}/app@{digest}"


async def test_c18_a_signature_of_another_image_or_repository_does_not_travel(world: World) -> None:
    world.signed("app", key("a"))
    bare = world.registry.push_image("bare", "v1", b"bare")
    outcome = await world.outcome([cosign()], f"{HOST}/bare@{bare}")
    assert isinstance(outcome, Denied)


# ── deny ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_r06_denied_digests_and_the_children_of_an_index(world: World) -> None:
    child = world.registry.push_image("app", "child", b"child")
    index = world.registry.push_index("app", "v1", [child])
    for digest in (child, index):
        sign_bundle(world.registry, "app", digest, key("a"))
    for listed in (child, index):
        denies = policy("denies", {"deny": {"digests": [listed]}})
        rulings = await world.rulings([denies, cosign()], f"{HOST}/app:v1")
        assert {type(r.outcome) for r in rulings} == {Denied, Allowed}
        (denied,) = (r.outcome for r in rulings if isinstance(r.outcome, Denied))
        assert denied.final
        assert denied.reasons == (f"digest {listed} is on the policy's deny list",)
    other = policy("denies", {"deny": {"digests": [digest_of(b"other")]}})
    assert isinstance(await world.outcome([other, cosign()], f"{HOST}/app:v1"), Allowed)


async def test_a_denied_key_takes_the_certificates_with_it_that_it_vouches_for(world: World) -> None:
    root = authority("Root")
    signer = party("Signer", root)
    digest = world.registry.push_image("app", "v1", b"app")
    sign_notation(world.registry, "app", digest, signer)
    trusts = policy("vendor", {"signers": [{"name": "vendor", "notation": trusting(store("ca", root))}]})
    assert isinstance(await world.outcome([trusts], f"{HOST}/app:v1"), Allowed)
    for one in (signer, root):
        fingerprint = public_key(one.certificate).fingerprint
        denies = policy("denies", {"deny": {"keys": [fingerprint]}})
        rulings = await world.rulings([denies, trusts], f"{HOST}/app:v1")
        (denied,) = (r.outcome for r in rulings if isinstance(r.outcome, Denied))
        assert denied.reasons == (f"signed by {fingerprint}, which is on the policy's deny list",)
    other = policy("denies", {"deny": {"keys": [key("a").fingerprint]}})
    assert isinstance(await world.outcome([other, trusts], f"{HOST}/app:v1"), Allowed)


async def test_f15_revocation_that_nobody_tells_of_is_undecided(world: World) -> None:
    root = authority("Root")
    asked = party("Asked", root, more=(responder_at("http://ocsp.test/"),))
    digest = world.registry.push_image("app", "v1", b"app")
    sign_notation(world.registry, "app", digest, asked)
    world.registry.fail("post", lambda: Unavailable("ocsp.test: no answer in time"))
    trusts = policy("vendor", {"signers": [{"name": "vendor", "notation": trusting(store("ca", root))}]})
    outcome = await world.outcome([trusts], f"{HOST}/app:v1")
    assert isinstance(outcome, Undecided)
    assert "ocsp.test: no answer in time" in outcome.causes[0]
    # It is asked again as soon as somebody asks us again.
    world.registry.failures.clear()
    world.registry.documents["http://ocsp.test/"] = lambda _: ocsp_answer(asked)
    assert isinstance(await world.outcome([trusts], f"{HOST}/app:v1"), Allowed)


async def test_r06_an_index_of_indexes_cannot_be_compared_with_a_deny_list(world: World) -> None:
    inner = world.registry.push_index("app", "inner", [world.registry.push_image("app", "child", b"child")])
    outer = world.registry.push_index("app", "v1", [inner])
    sign_bundle(world.registry, "app", outer, key("a"))
    denies = policy("denies", {"deny": {"digests": [digest_of(b"other")]}})
    rulings = await world.rulings([denies, cosign()], f"{HOST}/app:v1")
    assert {type(r.outcome) for r in rulings} == {Denied, Allowed}
    assert isinstance(await world.outcome([cosign()], f"{HOST}/app:v1"), Allowed)


async def test_d07_one_namespaces_slow_images_do_not_take_the_turns_of_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_JUDGED_PER_NAMESPACE", 2)
    world.signed("app", key("a"))
    under_way: list[str] = []

    async def stalls(self: FakeRegistry, image: ImageReference) -> Resolved:
        under_way.append(image.repository.path)
        await asyncio.sleep(60)
        raise AssertionError

    resolve = FakeRegistry.resolve

    async def only_slow(self: FakeRegistry, image: ImageReference) -> Resolved:
        return await (stalls(self, image) if image.repository.path.startswith("slow") else resolve(self, image))

    monkeypatch.setattr(FakeRegistry, "resolve", only_slow)
    slow = [f"{HOST}/slow{i}:v1" for i in range(5)]
    everywhere = [cosign("all"), cosign("shop/web")]
    stalled = asyncio.create_task(world.ask(everywhere, *slow, seconds=0.5, labels={"shop": {}, "other": {}}))
    await asyncio.sleep(0.05)
    assert len(under_way) == 2
    store = PolicyStore()
    store.replace_all(everywhere)
    asked = Question(Workload("other", "default", {}), (), (Placed("spec", f"{HOST}/app:v1", "main"),))
    judged = await world.judge.judge(asked, store.snapshot, ANONYMOUS, asyncio.get_running_loop().time() + 2)
    assert [type(r.outcome) for r in judged.judgements if isinstance(r, Ruling)] == [Allowed]
    assert all(isinstance(r.outcome, Undecided) for r in await stalled if isinstance(r, Ruling))


async def test_a_denied_digest_that_is_written_needs_nothing_read(world: World) -> None:
    listed = digest_of(b"x")
    denies = policy("shop/denies", {"deny": {"digests": [listed]}})
    assert isinstance(await world.outcome([denies], f"{HOST}/app@{listed}", seconds=-1), Denied)


async def test_a_deny_list_that_cannot_be_compared_is_undecided(world: World) -> None:
    world.signed("app", key("a"))
    denies = policy("denies", {"deny": {"digests": [digest_of(b"other")]}})
    world.registry.fail("resolve", lambda: Unavailable("down"))
    rulings = await world.rulings([denies, cosign()], f"{HOST}/app:v1")
    assert {type(r.outcome) for r in rulings} == {Undecided}
    assert len(rulings) == 2
    world.registry.failures.clear()
    # Where there is no such image there is nothing that could be on the list: the policy that covers it denies it.
    rulings = await world.rulings([denies, cosign()], f"{HOST}/gone:v1")
    assert [type(r.outcome) for r in rulings] == [Denied]


async def test_a_policy_may_demand_and_deny(world: World) -> None:
    digest = world.signed("app", key("a"))
    both = cosign(deny={"digests": [digest]})
    outcome = await world.outcome([both], f"{HOST}/app:v1")
    assert isinstance(outcome, Denied)
    assert outcome.final
    spared = cosign(deny={"digests": [digest_of(b"other")]})
    assert isinstance(await world.outcome([spared], f"{HOST}/app:v1"), Allowed)


async def test_a_denied_key_proves_nothing_and_another_signature_still_does(world: World) -> None:
    world.signed("stolen", key("a"))
    world.signed("again", key("a"), key("b"))
    world.signed("bare")
    denies = policy("denies", {"deny": {"keys": [key("a").fingerprint]}})
    covering = cosign("shop/web", "a", "b")
    rulings = await world.rulings([denies, covering], f"{HOST}/stolen:v1")
    (denied,) = (r for r in rulings if isinstance(r.outcome, Denied))
    assert str(denied.policy) == "cluster/denies"
    assert isinstance(denied.outcome, Denied)
    assert denied.outcome.final
    assert f"signed by {key('a').fingerprint}, which is on" in denied.outcome.reasons[0]
    again = await world.rulings([denies, covering], f"{HOST}/again:v1")
    assert [type(r.outcome) for r in again] == [Allowed]
    bare = await world.rulings([denies, covering], f"{HOST}/bare:v1")
    assert [str(r.policy) for r in bare] == ["shop/web"]
    # One policy with both, and a broken one beside it.
    own = cosign(deny={"keys": [key("a").fingerprint]})
    assert isinstance(await world.outcome([own], f"{HOST}/stolen:v1"), Denied)
    broken = broken_policy(PolicyKey("shop", "broken"), {"images": ["**"]}, ("x",))
    assert len(await world.rulings([denies, broken, covering], f"{HOST}/again:v1")) == 2


async def test_g02_a_denied_gpg_key_proves_nothing_whichever_of_its_keys_signed(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    sub = openpgp_key("sub")
    ring = certificate(openpgp_key("a"), self_signed(openpgp_key("a")), bound(openpgp_key("a"), sub))
    sign_gpg(world.registry, "app", digest, sub)
    covering = policy("shop/web", {"signers": [{"name": "vendor", "gpg": keyring_spec(ring)}]})
    for name, allowed in (("a", False), ("b", True)):
        denies = policy("denies", {"deny": {"keys": [f"GPG:{openpgp_key(name).fingerprint.lower()}"]}})
        answer = await world.answer([denies, covering], f"{HOST}/app:v1")
        assert answer.allowed is allowed
        assert allowed or f"signed by GPG:{openpgp_key('a').fingerprint}, which is on" in answer.message


# ── traditions side by side ──────────────────────────────────────────────────────────────────────────────────────────
async def test_c07_a_threshold_counts_identities_across_formats(world: World) -> None:
    signers = [
        {"name": "release", "cosign": {"key": key("a").pem}},
        {"name": "qa", "gpg": keyring_spec(certificate(openpgp_key("a")))},
        # The same person under another name.
        {"name": "also-qa", "gpg": keyring_spec(certificate(openpgp_key("a")), identity="repository")},
    ]
    both = policy("shop/both", {"signers": signers, "require": "2 of (release, qa, also-qa)"})
    digests = {name: world.registry.push_image(name, "v1", name.encode()) for name in ("one", "two", "three")}
    for name in ("one", "two"):
        sign_gpg(world.registry, name, digests[name], openpgp_key("a"))
    for name in ("two", "three"):
        sign_bundle(world.registry, name, digests[name], key("a"))
    allowed = await world.outcome([both], f"{HOST}/two:v1")
    assert isinstance(allowed, Allowed)
    assert {proof.format for proof in allowed.proofs} == {"cosign", "gpg"}
    one = await world.outcome([both], f"{HOST}/one:v1")
    assert isinstance(one, Denied)
    assert 'no signature by "release" (it carries no signature)' in one.reasons
    three = await world.outcome([both], f"{HOST}/three:v1")
    assert isinstance(three, Denied)
    assert three.fix is not None
    assert f'"qa" (key GPG:{openpgp_key("a").fingerprint})' in three.fix


async def test_c07_one_key_in_two_traditions_is_one_signer(world: World) -> None:
    """Whoever holds a key can put it into as many OpenPGP certificates as they like: each has a fingerprint of its own."""
    digest = world.registry.push_image("app", "v1")
    mine, again = OpenPGPKey(key("a").private), OpenPGPKey(key("a").private, MADE + DAY)
    other = openpgp_key("other")
    rings = {"gpg": mine, "again": again, "other": other}
    signers: list[dict[str, Any]] = [{"name": "cosign", "cosign": {"key": key("a").pem}}]
    signers += [{"name": name, "gpg": keyring_spec(certificate(one))} for name, one in rings.items()]
    sign_bundle(world.registry, "app", digest, key("a"))
    for one in rings.values():
        sign_gpg(world.registry, "app", digest, one)
    assert mine.fingerprint != again.fingerprint
    for two, allowed in (
        ("cosign, gpg", False),
        ("gpg, again", False),
        ("cosign, again", False),
        ("cosign, other", True),
        ("again, other", True),
    ):
        outcome = await world.outcome(
            [policy(f"shop/{two[:5]}", {"signers": signers, "require": f"2 of ({two})"})], f"{HOST}/app:v1"
        )
        assert isinstance(outcome, Allowed if allowed else Denied), two
    denies = policy("denies", {"deny": {"keys": [key("a").fingerprint]}})
    covering = policy("shop/web", {"signers": signers[1:2]})
    assert not (await world.answer([denies, covering], f"{HOST}/app:v1")).allowed


async def test_f25_a_reference_is_judged_as_the_signer_it_leads_to(world: World) -> None:
    digest = world.signed("app", key("a"))
    web = policy("shop/web", {"images": [f"{HOST}/app"], "signers": [{"name": "release", "ref": {"name": "base/r"}}]})
    base = policy("base", {"images": ["ghcr.io/**"], "signers": [{"name": "r", "cosign": {"key": key("a").pem}}]})
    other = policy("base", {"images": ["ghcr.io/**"], "signers": [{"name": "r", "cosign": {"key": key("b").pem}}]})
    assert isinstance(await world.outcome([web, base], f"{HOST}/app@{digest}"), Allowed)
    assert isinstance(await world.outcome([web, other], f"{HOST}/app@{digest}"), Denied)
    alone = await world.outcome([web], f"{HOST}/app@{digest}")
    assert isinstance(alone, Undecided)
    assert alone.causes == ('signer "release": it is signer base/r: there is no ClusterTrustPolicy base',)
    # Two names for one key are one identity.
    both = policy(
        "shop/web",
        {
            "signers": [{"name": "x", "ref": {"name": "base/r"}}, {"name": "y", "cosign": {"key": key("a").pem}}],
            "require": "2 of (x, y)",
        },
    )
    assert isinstance(await world.outcome([both, base], f"{HOST}/app@{digest}"), Denied)


async def test_v04_a_store_that_is_down_undoes_no_other_signature(world: World) -> None:
    digest = world.signed("app", key("a"))
    spec = {
        "signers": [
            {"name": "release", "cosign": {"key": key("a").pem}},
            {"name": "qa", "gpg": keyring_spec(certificate(openpgp_key("a")))},
        ]
    }
    world.registry.fail("get", lambda: Unavailable("lookaside.test: answers 503"))
    assert isinstance(await world.outcome([policy("shop/any", spec)], f"{HOST}/app@{digest}"), Allowed)
    needed = await world.outcome([policy("shop/all", spec, require="all")], f"{HOST}/app@{digest}")
    assert isinstance(needed, Undecided)
    assert needed.causes == ('signer "qa": lookaside.test: answers 503',)


async def test_g03_what_a_gpg_signature_costs(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    for _ in range(3):
        sign_gpg(world.registry, "app", digest, openpgp_key("a"))
    covering = policy("shop/web", {"signers": [{"name": "vendor", "gpg": keyring_spec(certificate(openpgp_key("a")))}]})
    for _ in range(2):
        assert isinstance(await world.outcome([covering], f"{HOST}/app@{digest}"), Allowed)
    assert world.registry.asked == {"resolve": 1, "get": 1}


@pytest.mark.parametrize(
    ("image", "allowed"),
    [("app:v1", True), ("app:v2", False), ("app@DIGEST", True), ("app:v2@DIGEST", True), ("copy:v1", False)],
)
async def test_g04_r03_how_an_image_is_named_and_what_was_signed(world: World, image: str, allowed: bool) -> None:
    digest = world.registry.push_image("app", "v1")
    world.registry.push_image("app", "v2")
    world.registry.push_image("copy", "v1")
    for path in ("app", "copy"):
        sign_gpg(world.registry, path, digest, openpgp_key("a"), edit_payload=_as_app_v1)
    covering = policy("shop/web", {"signers": [{"name": "vendor", "gpg": keyring_spec(certificate(openpgp_key("a")))}]})
    outcome = await world.outcome([covering], f"{HOST}/{image.replace('DIGEST', digest)}")
    assert isinstance(outcome, Allowed if allowed else Denied)


def _as_app_v1(document: dict[str, Any]) -> None:
    document["critical"]["identity"]["docker-reference"] = f"{HOST}/app:v1"


async def test_beside_a_denied_key_another_signature_that_cannot_be_read_leaves_it_undecided(world: World) -> None:
    digest = world.registry.push_image("app", "v1")
    sign_classic(world.registry, "app", digest, key("a"))
    world.registry.fail("referrers", lambda: Unavailable("down"))
    denies = policy("denies", {"deny": {"keys": [key("a").fingerprint]}})
    rulings = await world.rulings([denies, cosign("shop/web", "a", "b")], f"{HOST}/app:v1")
    assert {str(r.policy): type(r.outcome) for r in rulings} == {"cluster/denies": Undecided, "shop/web": Allowed}


async def test_a_denied_key_waits_for_all_signatures(world: World) -> None:
    world.signed("app", key("a"), key("b"))
    world.registry.fail("referrers", lambda: Unavailable("down"))
    denies = policy("denies", {"deny": {"keys": [key("a").fingerprint]}})
    rulings = await world.rulings([denies, cosign()], f"{HOST}/app:v1")
    assert [type(r.outcome) for r in rulings] == [Undecided]


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_second_question_reads_nothing(world: World) -> None:
    world.signed("app", key("a"))
    for _ in range(2):
        assert isinstance(await world.outcome([cosign()], f"{HOST}/app:v1"), Allowed)
    assert world.registry.asked["resolve"] == world.registry.asked["referrers"] == 1
    assert len(world.counter.weighed) == 1
    assert isinstance(world.counter.weighed[0], Satisfied)
    assert (world.counter.hits, world.counter.misses) == (1, 1)
    # Another policy with the same demand asks the same question.
    assert isinstance(await world.outcome([cosign("other")], f"{HOST}/app:v1"), Allowed)
    assert len(world.counter.weighed) == 1


async def test_equal_questions_at_once_are_one(world: World) -> None:
    world.signed("app", key("a"))
    outcomes = await asyncio.gather(*(world.outcome([cosign()], f"{HOST}/app:v1") for _ in range(50)))
    assert {type(outcome) for outcome in outcomes} == {Allowed}
    assert len(world.counter.weighed) == 1


async def test_a_denial_is_remembered_for_a_while_and_an_outage_never(world: World) -> None:
    world.signed("app")
    for _ in range(2):
        assert isinstance(await world.outcome([cosign()], f"{HOST}/app:v1"), Denied)
    assert [type(finding) for finding in world.counter.weighed] == [Unsatisfied]
    world.registry.fail("referrers", lambda: Unavailable("down"))
    world.signed("down", key("a"))
    for _ in range(2):
        assert isinstance(await world.outcome([cosign()], f"{HOST}/down:v1"), Undecided)
    assert [type(finding) for finding in world.counter.weighed[1:]] == [Unknown, Unknown]


async def test_m01_what_one_login_opened_another_must_open_again(world: World) -> None:
    world.signed("app", key("a"))
    world.registries.locked["app"] = "right"
    owner = await world.outcome([cosign()], f"{HOST}/app:v1", keychain=FakeKeychain("right"))
    assert isinstance(owner, Allowed)
    for stranger in (ANONYMOUS, FakeKeychain("wrong")):
        outcome = await world.outcome([cosign()], f"{HOST}/app:v1", keychain=stranger)
        assert isinstance(outcome, Denied)
        assert outcome.reasons == ("the registry refuses access",)
        by_digest = await world.outcome([cosign()], f"{HOST}/app@{owner.subject.digest}", keychain=stranger)
        assert isinstance(by_digest, Denied)


async def test_m04_a_changed_policy_is_judged_anew(world: World) -> None:
    world.signed("app", key("a"))
    assert isinstance(await world.outcome([cosign("shop/web", "a")], f"{HOST}/app:v1"), Allowed)
    assert isinstance(await world.outcome([cosign("shop/web", "b")], f"{HOST}/app:v1"), Denied)


async def test_where_identities_are_counted_a_first_proof_is_not_remembered_as_all(world: World) -> None:
    world.signed("app", key("a"), key("b"))
    both = {"name": "x", "cosign": {"keys": [key("a").pem, key("b").pem]}}
    assert isinstance(await world.outcome([policy("shop/one", {"signers": [both]})], f"{HOST}/app:v1"), Allowed)
    signers = [both, {"name": "y", "cosign": {"key": key("a").pem}}]
    two = policy("shop/two", {"signers": signers}, require="2 of (x, y)")
    assert isinstance(await world.outcome([two], f"{HOST}/app:v1"), Allowed)


# ── what must hold whatever the Pod and the policies ─────────────────────────────────────────────────────────────────

_KINDS: tuple[ContainerKind, ...] = ("main", "init", "ephemeral", "volume")


@given(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=6), st.data())
async def test_one_bad_image_anywhere_refuses_the_whole_pod(kinds: list[ContainerKind], data: st.DataObject) -> None:
    world = World()
    try:
        world.signed("good", key("a"))
        bad = data.draw(st.integers(0, len(kinds) - 1))
        world.signed("bad", *data.draw(st.sampled_from([(), (key("b"),)])))
        written = [(f"{HOST}/{'bad' if i == bad else 'good'}:v1", kind) for i, kind in enumerate(kinds)]
        answer = await world.answer([cosign()], *written)
        assert not answer.allowed
        assert answer.code == 403
        assert f"spec.{kinds[bad]}[{bad}].image" in answer.message
        good = [(f"{HOST}/good:v1", kind) for kind in kinds]
        assert (await world.answer([cosign()], *good)).allowed
    finally:
        world.pool.shutdown()


_POLICIES = (
    cosign("shop/a", "a"),
    cosign("shop/b", "b"),
    cosign("all", "a", "b", require="all"),
    cosign("base", "b", fallback=True),
    cosign("two", "a", "b", require="2 of (a, b)", images=[f"{HOST}/one"]),
    policy("denies", {"deny": {"keys": [key("b").fingerprint]}}),
    cosign("shop/digests", "a", tags="refuse"),
    cosign("warns", "c", mode="warn"),
)


@given(st.sets(st.sampled_from(_POLICIES)), st.sampled_from([p for p in _POLICIES if p.key.namespace]))
async def test_p07_m09_a_tenants_policy_never_admits_more(policies: set[Policy], extra: Policy) -> None:
    world = World()
    try:
        world.signed("none")
        world.signed("one", key("a"))
        world.signed("two", key("b"))
        world.signed("both", key("a"), key("b"))
        for path in ("none", "one", "two", "both"):
            before = await world.answer(sorted(policies, key=str), f"{HOST}/{path}:v1")
            after = await world.answer(sorted({*policies, extra}, key=str), f"{HOST}/{path}:v1")
            assert before.allowed or not after.allowed
    finally:
        world.pool.shutdown()


# ── which bytes are meant ────────────────────────────────────────────────────────────────────────────────────────────
async def test_r03_beside_a_digest_the_tag_decides_nothing(world: World) -> None:
    signed = world.signed("app", key("a"))
    unsigned = world.registry.push_image("app", "v1", b"moved to another image")
    assert isinstance(await world.outcome([cosign()], f"registry.test/app:v1@{signed}"), Allowed)
    world.registry.push_image("app", "v1", b"app")
    assert isinstance(await world.outcome([cosign()], f"registry.test/app:v1@{unsigned}"), Denied)
    assert isinstance(await world.outcome([cosign()], f"registry.test/app:gone@{signed}"), Allowed)


# ── what would make it acceptable ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("names", "require", "fix"),
    [
        (("a", "b"), None, '"a" (key A) or "b" (key B)'),
        (("a", "b"), "a and b", '"a" (key A) and "b" (key B)'),
        (("c", "b"), "c and b", '"b" (key B)'),
        (("a", "b"), "2 of (a, b)", 'so that `2 of (a, b)` holds; missing: "a" (key A), "b" (key B)'),
        (("a", "c", "b"), "2 of (a, b, c)", 'holds; missing: "a" (key A), "b" (key B)'),
        (("c", "a", "b"), "c and a and b", '"a" (key A) and "b" (key B)'),
        (("a", "b", "c"), "a and b or c and b", "so that `((a and b) or (c and b))` holds; missing:"),
    ],
)
async def test_the_fix_says_what_is_missing(
    world: World, names: tuple[str, ...], require: str | None, fix: str
) -> None:
    world.signed("app", key("c"))
    outcome = await world.outcome(
        [cosign("shop/web", *names, **({"require": require} if require else {}))], f"{HOST}/app:v1"
    )
    assert isinstance(outcome, Denied)
    for name in ("a", "b"):
        fix = fix.replace(f"(key {name.upper()})", f"(key {key(name).fingerprint[:23]}…)")
    assert fix in str(outcome.fix)
    # Whoever has signed is not told to.
    assert key("c").fingerprint[:23] not in str(outcome.fix)


async def test_nobody_is_told_to_sign_with_nobody(world: World) -> None:
    world.signed("app")
    refuses = policy("shop/web", {"signers": [{"name": "nobody", "static": {"allow": False, "reason": "because"}}]})
    outcome = await world.outcome([refuses], f"{HOST}/app:v1")
    assert isinstance(outcome, Denied)
    assert outcome.fix is None
    assert outcome.reasons == ('no signature by "nobody" (because)',)


async def test_of_signers_nobody_asked_about_it_is_told_why(world: World) -> None:
    world.signed("app", key("a"))
    (ruling,) = await world.rulings([cosign("shop/web", "a", "b", require="a or b")], f"{HOST}/gone:v1")
    assert {str(named.finding) for named in ruling.findings} == {str(Unknown(("there is no such image",)))}
    refused = await world.rulings([cosign(tags="refuse")], f"{HOST}/app:v1", seconds=-1)
    assert [named.finding for named in refused[0].findings] == [Unknown(("not needed for the decision",))]


@pytest.mark.parametrize(
    ("ends", "seconds"),
    [
        ((None,), limits.PROOF_SECONDS),
        ((dt.timedelta(days=9),), limits.PROOF_SECONDS),
        ((None, dt.timedelta(minutes=9), dt.timedelta(minutes=4)), 240.0),
        ((dt.timedelta(minutes=-1),), 0.0),
    ],
)
def test_a_finding_is_kept_no_longer_than_the_proof_that_ends_first(
    ends: tuple[dt.timedelta | None, ...], seconds: float
) -> None:
    proofs = frozenset(
        Proof("cosign", str(i), "here", valid_until=None if end is None else captures.NOW + end)
        for i, end in enumerate(ends)
    )
    assert _seconds_to_keep(Satisfied(proofs), captures.NOW) == seconds


@pytest.mark.parametrize(
    ("signers", "require", "code"),
    [
        ([{"name": "nobody", "static": {"allow": False, "reason": "not from here"}}], None, 403),
        ([{"name": "some", "static": {"allow": True, "digests": ["sha256:" + "0" * 64], "reason": "x"}}], None, 503),
        (
            [
                {"name": "nobody", "static": {"allow": False, "reason": "not from here"}},
                {"name": "a", "cosign": {"key": key("a").pem}},
            ],
            "nobody or a",
            503,
        ),
    ],
)
async def test_v03_what_no_image_could_satisfy_is_denied_although_none_can_be_seen(
    world: World, signers: list[dict[str, Any]], require: str | None, code: int
) -> None:
    world.signed("app", key("a"))
    world.registry.fail("resolve", lambda: Unavailable("down"))
    fields: dict[str, Any] = {} if require is None else {"require": require}
    answer = await world.answer([policy("shop/web", {"signers": signers}, **fields)], f"{HOST}/app:v1")
    assert (answer.allowed, answer.code) == (False, code)
    if code == 403:
        assert 'no signature by "nobody" (nobody: not from here)' in answer.message
        assert "retry" not in answer.message
