"""What the API server tells about policies and keys → what is in force, and what is said about it (faults F20 to F25)."""

import asyncio
import base64
import datetime as dt
from typing import Any

import pytest

from tests import captures
from tests.fake.kube import FakeKube
from tests.fake.pki import ODD, issue, with_odd_name
from tests.fake.sigstore import Sigstore
from tests.policies import HOME, KEY, OTHER_KEY
from webhook.formats import FORMATS
from webhook.keys.cluster import ClusterKeys
from webhook.keys.remote import RemoteKeys
from webhook.kube import KubeError
from webhook.memory.store import PolicyStore
from webhook.operator import resync
from webhook.operator.exceptions import Exceptions
from webhook.operator.policies import Policies
from webhook.operator.status import status_of
from webhook.policy import parse
from webhook.policy.document import API_VERSION
from webhook.policy.keyref import PublicRoot, UrlKey
from webhook.trust import Unresolved
from webhook.verdict import PolicyKey

SHOP = PolicyKey("shop", "web")
NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
BY_SECRET = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": "secret://keys#cosign.pub"}}]}
INLINE: dict[str, Any] = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": KEY}}]}


class World:
    def __init__(self) -> None:
        self.kube = FakeKube()
        self.store = PolicyStore()
        self.changes = 0
        self.document: bytes | None = None
        self.asked = 0
        self.root: bytes | Unresolved = Unresolved("it has not been fetched yet")
        remote = RemoteKeys({UrlKey: self, PublicRoot: PublicSource(self)})
        self.policies = Policies(self.store, ClusterKeys(self.kube), remote, FORMATS, HOME, self._changed)
        self.exceptions = Exceptions(self.store)

    seconds = None

    async def fetch(self, _key: UrlKey) -> bytes | Unresolved:
        """The one document there is outside the cluster."""
        self.asked += 1
        return Unresolved("404") if self.document is None else self.document

    def _changed(self) -> None:
        self.changes += 1

    def secret(self, value: str | bytes, name: str = "keys", namespace: str = "shop") -> None:
        data = {"cosign.pub": base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()}
        self.kube.put(f"/api/v1/namespaces/{namespace}/secrets/{name}", {"data": data})

    def policy(
        self, spec: Any = BY_SECRET, name: str = "web", namespace: str | None = "shop", version: int = 1
    ) -> dict[str, Any]:
        metadata = {"name": name, "resourceVersion": str(version), "generation": version, "uid": f"uid-{name}"}
        return {"metadata": metadata | ({"namespace": namespace} if namespace else {}), "spec": spec}

    def listed(self, documents: list[dict[str, Any]], version: str) -> None:
        listing = self.policies.listing()
        listing.add(documents)
        listing.end(version)

    @property
    def state(self) -> str:
        return self.policies.in_force[SHOP].state

    def signer(self, key: PolicyKey = SHOP) -> Any:
        return self.store.snapshot.index.policies[key].signers[0].signer


class PublicSource:
    """The public trust root, as the world has it."""

    seconds = 0.01

    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(self, _key: PublicRoot) -> bytes | Unresolved:
        return self._world.root


@pytest.fixture
def world() -> World:
    return World()


async def test_f25_a_missing_key_leaves_its_signer_undecided_and_heals(world: World) -> None:
    world.policies.seen(world.policy())
    assert world.state == "unresolved"
    await world.policies.read_keys()
    assert world.signer() == Unresolved("Secret shop/keys does not exist")
    world.secret(KEY)
    await world.policies.read_keys()
    assert world.state == "in_force"
    assert len(world.signer().fingerprints()) == 1


async def test_f24_a_changed_key_is_in_force_after_one_look(world: World) -> None:
    world.secret(KEY)
    world.policies.seen(world.policy())
    await world.policies.read_keys()
    before = world.signer().fingerprints()
    world.secret(OTHER_KEY)
    await world.policies.read_keys()
    assert world.signer().fingerprints() != before


BY_URL = f"https://keys.example/release.pub#sha256={'0' * 64}"
CLUSTER = PolicyKey(None, "web")


async def test_f25_a_key_outside_the_cluster_is_asked_for_when_a_policy_names_it_and_heals(world: World) -> None:
    spec = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": BY_URL}}]}
    following = asyncio.create_task(world.policies.follow_remote_keys())
    try:
        world.policies.seen(world.policy(INLINE))
        world.policies.seen(world.policy(spec, namespace=None))
        assert world.policies.in_force[CLUSTER].state == "unresolved"
        async with asyncio.timeout(5):
            while world.signer(CLUSTER) != Unresolved("404"):
                await asyncio.sleep(0)
            world.document = KEY.encode()
            while world.policies.in_force[CLUSTER].state != "in_force":
                await asyncio.sleep(0.05)
        assert world.signer(CLUSTER).fingerprints() == world.signer(SHOP).fingerprints()
    finally:
        following.cancel()
    world.policies.gone(world.policy(spec, namespace=None))
    await world.policies.read_remote_keys()
    assert world.asked >= 2


async def test_the_first_list_waits_for_keys_outside_the_cluster(world: World) -> None:
    world.document = KEY.encode()
    spec = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": BY_URL}}]}
    document = world.policy(spec, namespace=None)
    world.kube.put(f"/apis/{API_VERSION}/clustertrustpolicies/web", document)
    await resync.first_list(world.kube, world.policies, world.exceptions, world.store)
    assert world.store.is_ready
    assert world.policies.in_force[CLUSTER].state == "in_force"


async def test_f24_f25_a_reference_follows_the_key_of_another_policy(world: World) -> None:
    refers = {"images": ["**"], "signers": [{"name": "a", "ref": {"name": "base/a"}}]}
    world.policies.seen(world.policy(refers))
    assert world.policies.standing()[SHOP].state == "unresolved"
    assert (
        "there is no ClusterTrustPolicy base"
        in status_of(world.policies.standing()[SHOP], NOW)["signers"][0]["lastError"]
    )
    world.secret(KEY, namespace=HOME)
    world.policies.seen(world.policy(BY_SECRET, "base", None, 2))
    await world.policies.read_keys()
    standing = world.policies.standing()[SHOP]
    assert standing.state == "in_force"
    [told] = status_of(standing, NOW)["signers"]
    assert (told["name"], told["format"], len(told["fingerprints"])) == ("a", "cosign", 1)
    world.secret(OTHER_KEY, namespace=HOME)
    await world.policies.read_keys()
    assert status_of(world.policies.standing()[SHOP], NOW)["signers"][0]["fingerprints"] != told["fingerprints"]
    assert list(world.signer().fingerprints()) != told["fingerprints"]
    # A full list, and one in which the cluster policy is gone.
    world.listed([world.policy(refers)], "3")
    assert world.signer() == Unresolved("there is no ClusterTrustPolicy base")


async def test_states_are_counted_as_policies_come_change_and_go(world: World) -> None:
    def counted() -> dict[str, int]:
        return {state: count for state, count in world.policies.states.items() if count}

    world.policies.seen(world.policy(INLINE))
    world.policies.seen(world.policy(INLINE, "other"))
    world.policies.seen(world.policy(BY_SECRET, "lacking"))
    assert counted() == {"in_force": 2, "unresolved": 1}
    world.policies.seen(world.policy({**INLINE, "require": "b"}, version=2))
    world.secret(KEY)
    await world.policies.read_keys()
    assert counted() == {"in_force": 2, "broken": 1}
    world.policies.gone(world.policy(INLINE, version=3))
    world.listed([world.policy(BY_SECRET, "lacking")], "10")
    assert counted() == {"in_force": 1}


async def test_m10_a_certificate_that_nobody_can_read_breaks_one_policy(world: World) -> None:
    """A Secret is no policy, so nobody looks at it when it is written."""
    odd = with_odd_name(issue(ODD, ca=True))
    world.secret(odd.pem, "tsa")
    world.secret(odd.pem + issue("root", ca=True).pem, "both")
    authority = {"roots": issue("root", ca=True).pem.decode(), "email": "a@acme.test"}
    listed = [world.policy(INLINE, "other")]
    for name in ("tsa", "both"):
        stamp = {"tsa": f"secret://{name}#cosign.pub", "require": True}
        spec = {"images": ["**"], "signers": [{"name": "a", "cosign": {"certificate": authority, "timestamp": stamp}}]}
        listed.insert(0, world.policy(spec, name))
    world.listed(listed, "1")
    await world.policies.read_keys()
    states = {key.name: known.state for key, known in world.policies.in_force.items()}
    assert states == {"other": "in_force", "tsa": "broken", "both": "broken"}


def test_v02_an_unforeseen_error_breaks_one_policy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = parse.parse_policy

    def parsed(key: PolicyKey, *rest: Any) -> Any:
        if key == SHOP:
            raise TypeError("CANARY")
        return real(key, *rest)

    monkeypatch.setattr(parse, "parse_policy", parsed)
    world.listed([world.policy(INLINE), world.policy(INLINE, "other")], "1")
    assert world.state == "broken"
    assert world.policies.in_force[PolicyKey("shop", "other")].state == "in_force"
    [complaint] = world.policies.in_force[SHOP].complaints
    assert complaint.startswith("spec: an internal error, id ")
    assert "CANARY" not in complaint


def test_of_a_document_no_more_is_kept_than_is_needed(world: World) -> None:
    document = {**world.policy(INLINE), "apiVersion": API_VERSION, "status": {"conditions": []}}
    document["metadata"] |= {"managedFields": [{"manager": "kubectl"}] * 50, "annotations": {"a": "x" * 1000}}
    world.policies.seen(document)
    kept = world.policies.in_force[SHOP].document
    metadata = {"namespace": "shop", "name": "web", "uid": "uid-web", "generation": 1}
    assert kept == {"metadata": metadata, "spec": INLINE, "status": {"conditions": []}}


async def test_nothing_new_changes_nothing(world: World) -> None:
    world.secret(KEY)
    world.policies.seen(world.policy())
    await world.policies.read_keys()
    snapshot, changes = world.store.snapshot, world.changes
    await world.policies.read_keys()
    world.policies.seen(world.policy())
    assert world.store.snapshot is snapshot
    assert world.changes == changes
    # The status was written: the policy is another version, and demands the same.
    world.policies.seen({**world.policy(version=2), "status": {}})
    assert world.store.snapshot is snapshot


@pytest.mark.parametrize("garbage", ["garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
async def test_f23_m08_garbage_for_a_key_breaks_its_policy_alone_and_is_not_repeated(
    world: World, garbage: str
) -> None:
    world.secret(garbage)
    world.policies.seen(world.policy())
    world.policies.seen(world.policy(INLINE, "other"))
    await world.policies.read_keys()
    assert world.state == "broken"
    assert world.policies.in_force[PolicyKey("shop", "other")].state == "in_force"
    assert world.store.snapshot.index.policies[SHOP].faults
    assert garbage not in str(status_of(world.policies.in_force[SHOP], NOW))
    world.secret(KEY)
    await world.policies.read_keys()
    assert world.state == "in_force"


async def test_f25_a_secret_that_may_not_be_read_or_is_no_base64(world: World) -> None:
    world.policies.seen(world.policy())
    world.kube.failing["/api/v1/namespaces/shop/secrets"] = KubeError("forbidden", 403)
    await world.policies.read_keys()
    assert world.signer() == Unresolved("Secret shop/keys may not be read by the webhook's service account")
    world.kube.failing.clear()
    world.kube.put("/api/v1/namespaces/shop/secrets/keys", {"data": {"cosign.pub": "%%s3cret%%"}})
    await world.policies.read_keys()
    assert "not base64" in world.signer().reason
    assert "s3cret" not in world.signer().reason
    world.kube.put("/api/v1/namespaces/shop/secrets/keys", {"data": {}})
    await world.policies.read_keys()
    assert world.signer() == Unresolved("Secret shop/keys has no entry cosign.pub")


async def test_f21_an_outage_of_the_api_server_changes_no_key(world: World) -> None:
    world.secret(KEY)
    world.policies.seen(world.policy())
    await world.policies.read_keys()
    snapshot = world.store.snapshot
    world.kube.failing["/"] = KubeError("down")
    await world.policies.read_keys()
    assert world.store.snapshot is snapshot


async def test_m06_keys_of_other_namespaces_are_not_asked_for(world: World) -> None:
    spec = {"images": ["**"], "signers": [{"name": "a", "cosign": {"key": "secret://kube-system/token#x"}}]}
    world.policies.seen(world.policy(spec))
    await world.policies.read_keys()
    assert world.state == "broken"
    assert not world.kube.asked


class TestOrder:
    """Events and lists, in whatever order they come."""

    async def test_f20_an_older_event_undoes_nothing(self, world: World) -> None:
        world.policies.seen(world.policy(INLINE, version=5))
        world.policies.seen(world.policy({**INLINE, "mode": "audit"}, version=4))
        world.policies.gone(world.policy(INLINE, version=4))
        assert world.store.snapshot.index.policies[SHOP].terms.mode == "enforce"

    async def test_f22_what_is_deleted_is_out_of_force(self, world: World) -> None:
        world.policies.seen(world.policy(INLINE, version=5))
        world.policies.gone(world.policy(INLINE, version=6))
        world.policies.gone(world.policy(INLINE, version=6))
        assert not world.store.snapshot.index.policies

    async def test_f20_a_list_finds_what_a_silent_stream_has_hidden(self, world: World) -> None:
        world.policies.seen(world.policy(INLINE, version=5))
        world.policies.seen(world.policy(INLINE, "gone", version=5))
        changed = world.policy({**INLINE, "mode": "warn"}, version=7)
        world.listed([changed, world.policy(INLINE, "new", version=8)], "9")
        assert {key.name: policy.terms.mode for key, policy in world.store.snapshot.index.policies.items()} == {
            "web": "warn", "new": "enforce",
        }  # fmt: skip

    async def test_f20_a_list_that_began_before_an_event_undoes_it_not(self, world: World) -> None:
        world.policies.seen(world.policy(INLINE, version=5))
        world.policies.seen(world.policy(INLINE, "new", version=12))
        world.listed([world.policy(INLINE, version=5)], "10")
        assert {key.name for key in world.store.snapshot.index.policies} == {"web", "new"}

    async def test_a_list_that_says_the_same_changes_nothing(self, world: World) -> None:
        world.policies.seen(world.policy(INLINE, version=5))
        snapshot = world.store.snapshot
        world.listed([world.policy(INLINE, version=5)], "10")
        assert world.store.snapshot is snapshot


async def test_p08_ready_after_the_first_full_list_with_its_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "_RETRY_SECONDS", 0.0)
    world.secret(KEY)
    root = f"/apis/{API_VERSION}/namespaces/shop/trustpolicies"
    world.kube.put(f"{root}/web", {"metadata": {"namespace": "shop"}, "spec": BY_SECRET})
    world.kube.put("/api/v1/namespaces/shop", {"metadata": {"labels": {"tier": "gold"}}})
    world.kube.failing["/api/v1/namespaces"] = KubeError("down")
    tries = 0

    async def list_once(*args: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            world.kube.failing.clear()
        await real(*args)

    real = resync.list_once
    monkeypatch.setattr(resync, "list_once", list_once)
    await resync.first_list(world.kube, world.policies, world.exceptions, world.store)
    assert tries == 3
    assert world.store.is_ready
    assert world.state == "in_force"
    assert world.store.snapshot.namespace_labels("shop") == {"tier": "gold", "kubernetes.io/metadata.name": "shop"}


class TestStatus:
    async def test_m10_of_a_policy_in_force(self, world: World) -> None:
        world.policies.seen(world.policy(INLINE, version=3))
        status = status_of(world.policies.in_force[SHOP], NOW)
        assert status["observedGeneration"] == 3
        assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
            ("Ready", "True", "InForce"), ("SignersResolved", "True", "KeysRead"), ("Expiring", "False", "NothingEndsSoon"),
        ]  # fmt: skip
        assert status["signers"][0]["format"] == "cosign"
        assert status["signers"][0]["fingerprints"] == list(world.signer().fingerprints())

    async def test_of_one_with_attestations(self, world: World) -> None:
        signers = [*INLINE["signers"], {"name": "b", "cosign": {"key": "secret://keys#cosign.pub"}}]
        attestations = [
            {"name": "ours", "type": "openvex", "signedBy": ["a"]},
            {"name": "both", "type": "test-result"},
            {"name": "theirs", "type": "x:y", "signedBy": ["b"]},
        ]
        world.policies.seen(world.policy({**INLINE, "signers": signers, "attestations": attestations}))
        status = status_of(world.policies.in_force[SHOP], NOW)
        keys = list(world.signer().fingerprints())
        unread = 'signer "b": its key could not be read: it has not been read yet'
        assert status["attestations"] == [
            {
                "name": "ours",
                "predicateTypes": ["https://openvex.dev/ns", "https://openvex.dev/ns/v0.2.0"],
                "fingerprints": keys,
            },
            {
                "name": "both",
                "predicateTypes": ["https://in-toto.io/attestation/test-result/v0.1"],
                "fingerprints": keys,
                "lastError": unread,
            },
            {"name": "theirs", "predicateTypes": ["x:y"], "lastError": unread},
        ]
        assert world.state == "unresolved"
        # Whatever was there before is taken away.
        world.policies.seen(world.policy(INLINE, version=2))
        assert status_of(world.policies.in_force[SHOP], NOW)["attestations"] == []

    async def test_a_signer_within_bounds_is_called_by_its_format(self, world: World) -> None:
        signer = {**INLINE["signers"][0], "validity": {"notAfter": "2027-01-01T00:00:00Z"}}
        world.policies.seen(world.policy({**INLINE, "signers": [signer]}))
        assert status_of(world.policies.in_force[SHOP], NOW)["signers"][0]["format"] == "cosign"

    async def test_of_one_that_lacks_a_key(self, world: World) -> None:
        world.policies.seen(world.policy())
        status = status_of(world.policies.in_force[SHOP], NOW)
        assert [(c["status"], c["reason"]) for c in status["conditions"]] == [
            ("False", "SignersUnresolved"),
            ("False", "KeysNotRead"),
            ("False", "NothingEndsSoon"),
        ]
        assert status["signers"] == [{"name": "a", "lastError": "it has not been read yet"}]

    async def test_of_one_that_is_broken(self, world: World) -> None:
        world.policies.seen(world.policy({**INLINE, "require": "b"}))
        status = status_of(world.policies.in_force[SHOP], NOW)
        assert [(c["status"], c["reason"]) for c in status["conditions"]] == [
            ("False", "Invalid"),
            ("Unknown", "Invalid"),
            ("Unknown", "Invalid"),
        ]
        assert status["conditions"][0]["message"].startswith("it denies what it covers: spec.require: column 1:")

    async def test_a_condition_keeps_the_time_of_its_last_change(self, world: World) -> None:
        document = world.policy(INLINE)
        world.policies.seen(document)
        before = status_of(world.policies.in_force[SHOP], NOW)
        world.policies.seen({**world.policy(INLINE, version=2), "status": before})
        later = status_of(world.policies.in_force[SHOP], NOW + dt.timedelta(hours=1))
        assert [c["lastTransitionTime"] for c in later["conditions"]] == ["2026-11-01T12:00:00Z"] * 3
        world.policies.seen({**world.policy(version=3), "status": before})
        changed = status_of(world.policies.in_force[SHOP], NOW + dt.timedelta(hours=1))
        assert [c["lastTransitionTime"] for c in changed["conditions"][:2]] == ["2026-11-01T13:00:00Z"] * 2


# ── trust roots ──────────────────────────────────────────────────────────────────────────────────────────────────────
WHO = {"issuer": "https://accounts.test", "subject": "dev@acme.test"}
KEYLESS = {"images": ["**"], "signers": [{"name": "a", "cosign": {"keyless": WHO}}]}


async def test_f16_f17_the_public_trust_root_comes_and_goes_without_touching_keys(world: World) -> None:
    world.policies.seen(world.policy(KEYLESS))
    world.policies.seen(world.policy(INLINE, "other"))
    following = asyncio.create_task(world.policies.follow_remote_keys())

    async def until(state: str, signer: object = None) -> None:
        async with asyncio.timeout(5):
            while world.state != state or world.signer() == signer:
                await asyncio.sleep(0.01)

    await until("unresolved")
    resolved = status_of(world.policies.in_force[SHOP], NOW)["conditions"][1]
    assert (resolved["type"], resolved["status"]) == ("SignersResolved", "False")
    assert resolved["message"].startswith('signer "a": ')
    world.root = captures.PUBLIC_ROOT
    await until("in_force")
    before = world.signer()
    # Another root makes another signer, so that nothing which rested on the old one is found any more.
    world.root = Sigstore().trusted_root().encode()
    await until("in_force", before)
    world.root = Unresolved("its TUF metadata ended")
    await until("unresolved")
    assert world.signer() == Unresolved("its TUF metadata ended")
    assert world.policies.in_force[PolicyKey("shop", "other")].state == "in_force"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_f24_a_private_trust_root_is_in_force_after_one_look(world: World) -> None:
    def put(root: str) -> None:
        world.kube.put("/api/v1/namespaces/shop/configmaps/sigstore", {"data": {"trusted_root.json": root}})

    spec = {"keyless": WHO, "trustRoot": "configmap://sigstore#trusted_root.json"}
    world.policies.seen(world.policy({"images": ["**"], "signers": [{"name": "a", "cosign": spec}]}))
    put(Sigstore().trusted_root())
    await world.policies.read_keys()
    before = world.signer()
    put(Sigstore().trusted_root())
    await world.policies.read_keys()
    assert world.signer() != before
    put("{}")
    await world.policies.read_keys()
    assert world.state == "broken"
    # Said is where the fault lies, too.
    wrong = ".trustRoot: configmap://sigstore#trusted_root.json: object missing required field mediaType"
    assert wrong in str(status_of(world.policies.in_force[SHOP], NOW))
