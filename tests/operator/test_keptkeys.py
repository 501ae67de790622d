"""Keys outside the cluster, kept in a Secret by all replicas, for when they restart in an outage (fault F-25, attacks M-04 and M-05)."""

import asyncio
import base64
import datetime as dt
import hashlib
import zlib
from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec import json

from tests.captures import NOW
from tests.fake.kube import FakeKube
from tests.keys.test_remote import Shelf
from webhook import limits
from webhook.keys import kept as packing
from webhook.keys.kept import Kept, KeptKeys
from webhook.keys.pkcs11 import Modules, TokenKeys
from webhook.keys.remote import Held, RemoteKeys
from webhook.kube import KubeError
from webhook.operator import keptkeys as module
from webhook.operator.installation import Installation
from webhook.operator.keptkeys import ClusterKeptKeys
from webhook.parsing import Invalid
from webhook.policy.keyref import RemoteKey, UrlKey
from webhook.policy.pkcs11uri import TokenKey
from webhook.trust import NoSuchKey, Unavailable, Unresolved

INSTALLATION = Installation(namespace="ti")
SECRET = INSTALLATION.kept_keys_path
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/trusted-images"
TOKEN = TokenKey(on=(("token", "acme"),), label="release", id=b"\x01", pin_file="/pins/a")
DOCUMENT = UrlKey("https://keys.example/a", hashlib.sha256(b"document").hexdigest())
OTHER = TokenKey(on=(("token", "acme"),), label="other")
DOWN = Unavailable("no such token is present")
GONE = NoSuchKey("no such object on the token")
HOUR = dt.timedelta(hours=1)


class Replica:
    """One process. `clock`: by how much its clock on the wall is ahead."""

    def __init__(
        self,
        kube: FakeKube,
        *wanted: RemoteKey,
        installation: Installation = INSTALLATION,
        at: dt.datetime = NOW,
    ) -> None:
        self.at = at
        self.seconds = 0.0
        self.wanted = wanted or (TOKEN,)
        self.shelf = Shelf(seconds=30)
        self.documents = Shelf()
        self.kept = KeptKeys(lambda: self.at)
        self.keys = RemoteKeys({TokenKey: self.shelf, UrlKey: self.documents}, lambda: self.seconds, self.kept)
        self.cluster = ClusterKeptKeys(kube, installation, self.kept, self.keys.ask_again)

    def has(self, found: bytes | Unresolved | Exception, key: RemoteKey = TOKEN) -> "Replica":
        """What its source says from now on."""
        (self.documents if isinstance(key, UrlKey) else self.shelf).held[key] = found
        return self

    async def starts(self) -> "Replica":
        await self.cluster.read()
        await self.keys.look_first(self.wanted)
        await self.cluster.write()
        return self

    async def later(self, by: dt.timedelta = dt.timedelta(minutes=2)) -> "Replica":
        """Some time passes, in which it reads, asks and writes."""
        self.at += by
        self.seconds += by.total_seconds()
        await self.cluster.read()
        await self.asks()
        await self.cluster.write()
        return self

    async def asks(self) -> "Replica":
        await self.keys.look(self.wanted)
        return self

    def reads(self, key: RemoteKey = TOKEN) -> bytes | Unresolved:
        return self.keys.read(key)

    def lacks(self, key: RemoteKey = TOKEN) -> str:
        found = self.keys.read(key)
        assert isinstance(found, Unresolved)
        return found.reason


@pytest.fixture
def kube() -> FakeKube:
    kube = FakeKube()
    kube.put(ROLE, {})
    return kube


def in_secret(kube: FakeKube) -> dict[RemoteKey, Kept]:
    return packing.read(base64.b64decode(kube.objects[SECRET]["data"]["keys"]))


def put(kube: FakeKube, kept: dict[RemoteKey, Kept]) -> None:
    packed, _ = packing.write(kept)
    kube.put(SECRET, {**kube.objects.get(SECRET, {}), "data": {"keys": base64.b64encode(packed).decode()}})


# ── over a restart of all replicas ───────────────────────────────────────────────────────────────────────────────────


async def test_f25_a_key_that_was_read_counts_after_all_replicas_restarted_in_an_outage(
    kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    both = (TOKEN, DOCUMENT)
    await Replica(kube, *both).has(b"key").has(b"document", DOCUMENT).starts()
    secret = kube.objects[SECRET]
    assert secret["kind"] == "Secret"
    assert secret["metadata"]["ownerReferences"][0]["kind"] == "ClusterRole"
    later = NOW + 5 * HOUR
    fresh = await Replica(kube, *both, at=later).has(DOWN).has(DOWN, DOCUMENT).starts()
    assert (fresh.reads(), fresh.reads(DOCUMENT)) == (b"key", b"document")
    assert "in force as it was read at 2026-11-24T00:38:00Z, because its source cannot be asked" in caplog.text
    assert fresh.keys.held(TOKEN) == Held(NOW, later)
    assert fresh.keys.held_count == 2
    # It goes on asking, and is well again when somebody answers.
    await fresh.has(b"other").later()
    assert fresh.reads() == b"other"
    assert fresh.keys.held(TOKEN) is None
    # Without what was kept it is missing.
    kube.remove(SECRET)
    fresh = await Replica(kube, at=later).has(DOWN).starts()
    assert fresh.lacks() == f"{TOKEN}: no such token is present"
    assert fresh.keys.held(TOKEN) is None


async def test_f25_a_source_that_hangs_while_a_replica_starts(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    await Replica(kube).has(b"key").starts()
    monkeypatch.setattr(limits, "FIRST_KEYS_SECONDS", 0.05)
    hanging = asyncio.Event()
    fresh = Replica(kube, TOKEN, DOCUMENT)
    fresh.shelf.held[TOKEN] = hanging
    fresh.documents.held[DOCUMENT] = hanging
    await fresh.starts()
    assert fresh.reads() == b"key"
    assert fresh.keys.held(TOKEN) is not None
    # Of the other nothing was ever read.
    assert fresh.lacks(DOCUMENT).endswith("it has not been read yet")
    # The answer counts, however late it comes.
    hanging.set()
    await fresh.asks()
    assert fresh.reads() == b"late"


async def test_f25_a_source_that_answers_no_outweighs_what_was_kept_at_once_and_for_all(
    kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    await Replica(kube).has(b"key").starts()
    fresh = await Replica(kube).has(GONE).starts()
    assert fresh.reads() == GONE
    assert in_secret(kube)[TOKEN].material is None
    assert "is kept no longer: its source has it no more" in caplog.text
    # Not after another restart either.
    again = await Replica(kube).has(DOWN).starts()
    assert "its source had no such key when it was last asked, at 2026-11-24T00:38:00Z" in again.lacks()
    # Put back at its source, it counts as it always did.
    await again.has(b"key").later()
    assert again.reads() == b"key"
    assert (await Replica(kube, at=again.at).has(DOWN).starts()).reads() == b"key"


async def test_f25_an_error_of_ours_is_neither_an_outage_nor_an_answer(kube: FakeKube) -> None:
    await Replica(kube).has(b"key").starts()
    fresh = await Replica(kube).has(RuntimeError("a bug")).starts()
    assert "an error of the webhook" in fresh.lacks()
    assert in_secret(kube)[TOKEN].material == b"key"
    # A kind that nobody reads here says nothing about the key either.
    nobody = KeptKeys(lambda: NOW)
    keys = RemoteKeys({}, kept=nobody)
    await keys.look([TOKEN])
    assert not nobody.is_changed


async def test_f25_what_only_went_wrong_in_one_replica_takes_a_key_from_no_other(kube: FakeKube) -> None:
    old = await Replica(kube).has(b"key").starts()
    # Begun without the module: no token was asked.
    misconfigured = Replica(kube)
    misconfigured.keys = RemoteKeys({TokenKey: TokenKeys(Modules())}, kept=misconfigured.kept)
    await misconfigured.starts()
    assert "no PKCS#11 module is permitted" in misconfigured.lacks()
    assert in_secret(kube)[TOKEN] == Kept(b"key", NOW, 1)
    await old.has(DOWN).later()
    assert old.reads() == b"key"
    # Nobody's word takes away what its hash says it is.
    pinned = await Replica(kube, DOCUMENT).has(b"document", DOCUMENT).starts()
    put(kube, in_secret(kube) | {DOCUMENT: Kept(None, NOW, 2)})
    await pinned.has(DOWN, DOCUMENT).later()
    assert pinned.reads(DOCUMENT) == b"document"
    # By the token's own word it is gone for all.
    await Replica(kube).has(GONE).starts()
    await old.later()
    assert "its source had no such key when it was last asked" in old.lacks()


@pytest.mark.parametrize(
    "other",
    [
        TokenKey(on=(("token", "acme"),), label="release", id=b"\x01"),
        TokenKey(on=(("token", "acme"),), label="release", id=b"\x01", pin_file="/pins/b"),
        TokenKey(on=(("token", "acme"),), label="release", id=b"\x02", pin_file="/pins/a"),
        TokenKey(on=(("token", "acme"), ("slot-id", "1")), label="release", id=b"\x01", pin_file="/pins/a"),
        TokenKey(on=(("token", "acme"),), label="release", id=b"\x01", pin_file="/pins/a", module_name="other"),
        TokenKey(on=(("token", "acme"),), label="release", id=b"\x01", pin_file="/pins/a", kind="cert"),
    ],
)
async def test_m05_another_reference_finds_nothing(kube: FakeKube, other: TokenKey) -> None:
    await Replica(kube).has(b"key").starts()
    fresh = await Replica(kube, other).has(DOWN, other).starts()
    assert isinstance(fresh.reads(other), Unresolved)
    assert (await Replica(kube).has(DOWN).starts()).reads() == b"key"


async def test_m05_another_release_finds_nothing(kube: FakeKube) -> None:
    await Replica(kube).has(b"key").starts()
    for installation in (Installation(namespace="ti", service="other"), Installation(namespace="elsewhere")):
        fresh = await Replica(kube, installation=installation).has(DOWN).starts()
        assert isinstance(fresh.reads(), Unresolved)


@pytest.mark.parametrize(
    ("age", "counts"),
    [(limits.MAX_KEPT - dt.timedelta(seconds=1), True), (limits.MAX_KEPT, False), (-dt.timedelta(minutes=5), True),
     (-dt.timedelta(minutes=6), False)],
)  # fmt: skip
async def test_m05_what_was_read_too_long_ago_or_in_the_future_counts_for_nothing(
    kube: FakeKube, age: dt.timedelta, *, counts: bool
) -> None:
    await Replica(kube).has(b"key").starts()
    fresh = await Replica(kube, at=NOW + age).has(DOWN).starts()
    assert (fresh.reads() == b"key") is counts
    # One that its source has answered for is as good as new.
    assert (await fresh.has(b"key").later()).reads() == b"key"
    assert (await Replica(kube, at=fresh.at).has(DOWN).starts()).reads() == b"key"


async def test_m05_a_replica_that_runs_holds_a_key_no_longer_than_one_that_starts(
    kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    both = (TOKEN, DOCUMENT)
    reader = await Replica(kube, *both).has(b"key").has(b"document", DOCUMENT).starts()
    taker = await Replica(kube, *both, at=NOW + HOUR).has(DOWN).has(DOWN, DOCUMENT).starts()
    await reader.has(DOWN).later()
    # Whether it read the key itself or took it from the Secret, and whether the Secret is still there.
    without = await Replica(kube, at=NOW).has(DOWN).starts()
    without.cluster = ClusterKeptKeys(FakeKube(), INSTALLATION, without.kept, without.keys.ask_again)
    for replica in (reader, taker, without):
        await replica.later(NOW + limits.MAX_KEPT - dt.timedelta(seconds=1) - replica.at)
        assert replica.reads() == b"key"
        await replica.later(dt.timedelta(minutes=1))
        assert replica.lacks() == f"{TOKEN}: no such token is present"
        assert replica.keys.held(TOKEN) is None
    assert caplog.text.count("was last read at 2026-11-24T00:38:00Z, too long ago to be in force") == 3
    assert reader.reads(DOCUMENT) == taker.reads(DOCUMENT) == b"document"


async def test_f25_a_replica_that_is_cut_off_for_long_goes_on_by_what_others_read(kube: FakeKube) -> None:
    cut_off = await Replica(kube).has(b"key").starts()
    other = await Replica(kube).has(b"key").starts()
    await cut_off.has(DOWN).later()
    await other.later(limits.MAX_KEPT - HOUR)
    await cut_off.later(limits.MAX_KEPT)
    assert cut_off.reads() == b"key"
    # It is known since when nobody has answered here, and that another read it since.
    assert cut_off.keys.held(TOKEN) == Held(NOW + limits.MAX_KEPT - HOUR, NOW + dt.timedelta(minutes=2))


async def test_what_is_known_by_its_hash_has_no_age_and_is_forgotten_when_nobody_wants_it(kube: FakeKube) -> None:
    await Replica(kube, DOCUMENT).has(b"document", DOCUMENT).starts()
    late = NOW + 2 * limits.MAX_KEPT
    fresh = await Replica(kube, DOCUMENT, TOKEN, at=late).has(DOWN, DOCUMENT).has(b"key").starts()
    assert fresh.reads(DOCUMENT) == b"document"
    assert in_secret(kube).keys() == {DOCUMENT, TOKEN}
    # A month after the last policy that names it.
    await Replica(kube, at=late).has(b"other").starts()
    assert in_secret(kube).keys() == {TOKEN}


# ── several replicas ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_m04_no_replica_brings_back_what_another_found_to_be_gone(kube: FakeKube) -> None:
    """Whatever the clocks say, and whichever of the two writes first."""
    for ahead in (-HOUR / 20, HOUR / 20):
        for holder_first in (True, False):
            kube.objects.pop(SECRET, None)
            holder = await Replica(kube, at=NOW + ahead).has(b"key").starts()
            finder = await Replica(kube).has(b"key").starts()
            # The holder read another key there a moment before it was removed, and has not written that down yet.
            await holder.has(b"another").later(dt.timedelta(seconds=0))
            holder.seconds += 30
            await holder.asks()
            holder.has(DOWN)
            finder.has(GONE).seconds += 30
            await finder.asks()
            for replica in (holder, finder) if holder_first else (finder, holder):
                await replica.cluster.write()
            for _ in range(3):
                await finder.later()
                await holder.later()
            assert in_secret(kube)[TOKEN].material is None
            assert isinstance(finder.reads(), Unresolved)
            # Nor does it go on by what it has in memory, since it cannot ask itself.
            assert "its source had no such key when it was last asked" in holder.lacks()
            assert isinstance((await Replica(kube).has(DOWN).starts()).reads(), Unresolved)


async def test_m04_a_key_that_was_replaced_is_in_force_where_its_source_cannot_be_asked(
    kube: FakeKube, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off = await Replica(kube, at=NOW - dt.timedelta(minutes=2)).has(b"key").starts()
    other = await Replica(kube).has(b"key").starts()
    await cut_off.later()
    await cut_off.has(DOWN).later()
    # As it was read here, which is later than when it was kept.
    assert cut_off.keys.held(TOKEN) == Held(NOW, NOW + dt.timedelta(minutes=2))
    # Replaced for a while, and back again.
    await other.has(b"new").later()
    await other.has(b"key").later()
    caplog.clear()
    await cut_off.later()
    assert cut_off.reads() == b"key"
    assert "in force" not in caplog.text
    await other.has(b"new").later()
    await cut_off.later()
    assert cut_off.reads() == b"new"
    assert "in force as it was read at 2026-11-24T00:44:00Z" in caplog.text
    # And it is known since when nobody has answered here.
    assert cut_off.keys.held(TOKEN) == Held(NOW + dt.timedelta(minutes=6), NOW + dt.timedelta(minutes=2))


async def test_m04_that_a_key_is_gone_counts_whatever_the_clock_of_who_found_it(kube: FakeKube) -> None:
    cut_off = await Replica(kube).has(b"key").starts()
    await Replica(kube, at=NOW + 24 * HOUR).has(GONE).starts()
    await cut_off.has(DOWN).later()
    assert "its source had no such key when it was last asked" in cut_off.lacks()


async def test_m04_an_answer_from_before_anothers_change_is_asked_for_again(kube: FakeKube) -> None:
    slow = await Replica(kube).has(b"key").starts()
    asking = asyncio.Event()
    slow.shelf.held[TOKEN] = asking
    slow.seconds += 30
    look = asyncio.create_task(slow.asks())
    await asyncio.sleep(0)
    await (await Replica(kube).has(GONE).starts()).later()
    await slow.cluster.read()
    asking.set()
    await look
    # It is what its source said, and may have been before or after the other's answer.
    assert slow.reads() == b"late"
    await slow.cluster.write()
    assert in_secret(kube)[TOKEN].material is None
    slow.seconds += 1
    await slow.has(b"late").asks()
    await slow.cluster.write()
    assert in_secret(kube)[TOKEN].material == b"late"


@pytest.mark.parametrize("now_there", [b"new", GONE])
async def test_m04_a_deleted_secret_hides_no_replacement_and_no_removal_from_those_that_cannot_ask(
    kube: FakeKube, now_there: bytes | Unresolved
) -> None:
    """Made anew its changes are counted from the beginning, and no replica saw it missing."""
    one = await Replica(kube).has(b"key").starts()
    cut_off = await Replica(kube).has(b"key").starts()
    kube.remove(SECRET)
    await one.has(now_there).later()
    assert in_secret(kube)[TOKEN].change == 1
    await cut_off.has(DOWN).later()
    await cut_off.later()
    if isinstance(now_there, bytes):
        assert cut_off.reads() == now_there
    else:
        assert "its source had no such key when it was last asked" in cut_off.lacks()


@pytest.mark.parametrize("has_entry", [True, False])
async def test_m04_what_is_found_gone_or_back_while_something_else_is_written_is_written_next(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch, *, has_entry: bool
) -> None:
    """Compared with what is being written, and not with what was kept before: there it is no news."""
    one = await Replica(kube).has(b"key" if has_entry else DOWN).starts()
    meant: bytes | Unresolved = b"key" if has_entry else GONE
    method = "replace" if has_entry else "create"
    write = getattr(kube, method)

    async def meanwhile(path: str, body: dict[str, Any]) -> dict[str, Any]:
        one.seconds += 30
        await one.has(meant).asks()
        written: dict[str, Any] = await write(path, body)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(kube, method, meanwhile)
        await one.has(b"new").later()
    assert in_secret(kube)[TOKEN].material == b"new"
    await one.cluster.write()
    assert in_secret(kube)[TOKEN].material == (b"key" if has_entry else None)
    assert not one.kept.is_changed
    fresh = await Replica(kube, at=one.at + HOUR).has(DOWN).starts()
    assert isinstance(fresh.reads(), Unresolved) is not has_entry


async def test_the_same_read_again_while_it_is_written_is_written_once(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await Replica(kube).has(b"key").starts()
    replace = kube.replace

    async def meanwhile(path: str, body: dict[str, Any]) -> dict[str, Any]:
        one.seconds += 30
        await one.asks()
        return await replace(path, body)

    monkeypatch.setattr(kube, "replace", meanwhile)
    await one.has(b"new").later()
    assert in_secret(kube)[TOKEN].material == b"new"
    assert not one.kept.is_changed


@pytest.mark.parametrize("now_there", [b"new", GONE])
async def test_m04_what_takes_a_key_away_is_written_also_if_no_policy_names_it_for_a_moment(
    kube: FakeKube, now_there: bytes | Unresolved
) -> None:
    one = await Replica(kube).has(b"key").starts()
    kube.failing[SECRET] = KubeError("no writing now", 403)
    await one.has(now_there).later()
    # The policy is written anew under another name.
    one.wanted = (OTHER,)
    await one.asks()
    one.wanted = (TOKEN,)
    await one.has(DOWN).later()
    kube.failing.clear()
    await one.later()
    for replica in (one, await Replica(kube).has(DOWN).starts()):
        assert replica.reads() != b"key"
        assert isinstance(replica.reads(), bytes) is isinstance(now_there, bytes)


@pytest.mark.parametrize("said", [b"other", GONE])
async def test_m04_replicas_whose_tokens_disagree_write_less_and_less_often_and_it_counts_for_none(
    kube: FakeKube, said: bytes | Unresolved
) -> None:
    one = await Replica(kube).has(b"key").starts()
    other = await Replica(kube).has(said).starts()
    cut_off = await Replica(kube).has(DOWN).starts()
    counted: list[bool] = []
    kube.asked.clear()
    for _ in range(2 * 24 * 15):
        for replica in (one, other, cut_off):
            await replica.later()
        counted.append(isinstance(cut_off.reads(), bytes))
    assert sum(method == "PUT" for method, _ in kube.asked) < 30
    assert sum(counted) < 10
    # Each goes on by what it is told itself.
    assert one.reads() == b"key"
    assert other.reads() == said
    # When they agree again, it is kept within a day, and a removal at once.
    await other.has(b"key").later()
    for replica in (one, cut_off) * 30:
        await replica.later(HOUR)
    assert cut_off.reads() == b"key"
    await one.has(GONE).later()
    assert in_secret(kube)[TOKEN].material is None


async def test_what_was_written_of_a_key_is_forgotten_when_no_policy_names_it(kube: FakeKube) -> None:
    one, other = await Replica(kube).has(b"key").starts(), await Replica(kube).has(GONE).starts()
    for _ in range(3):
        await one.later()
        await other.later()
    await one.later()
    assert in_secret(kube)[TOKEN].material is None
    one.wanted = (OTHER,)
    await one.asks()
    one.wanted = (TOKEN,)
    await one.later()
    assert in_secret(kube)[TOKEN].material == b"key"


async def test_m04_a_key_that_is_replaced_and_put_back_is_written_each_time(kube: FakeKube) -> None:
    one = await Replica(kube).has(b"key").starts()
    other = await Replica(kube).has(b"key").starts()
    for number in range(8):
        # Whoever of them is told first, as long as the token says the same to both.
        for replica in (one, other) if number % 2 else (other, one):
            await replica.has(b"new" if number % 2 else b"key").later()
        assert in_secret(kube)[TOKEN].material == (b"new" if number % 2 else b"key")


async def test_what_two_learn_at_once_is_kept_of_both(kube: FakeKube) -> None:
    await Replica(kube).has(b"key").starts()
    one, two = Replica(kube, TOKEN).has(b"new"), Replica(kube, DOCUMENT).has(b"document", DOCUMENT)
    for replica in (one, two):
        await replica.cluster.read()
        await replica.asks()
    await asyncio.gather(one.cluster.write(), two.cluster.write())
    for replica in (one, two):
        await replica.cluster.write()
    assert {key: kept.material for key, kept in in_secret(kube).items()} == {TOKEN: b"new", DOCUMENT: b"document"}


async def test_a_secret_that_somebody_deletes_is_made_anew_of_what_sources_say(kube: FakeKube) -> None:
    one = await Replica(kube, TOKEN, DOCUMENT).has(b"key").has(b"document", DOCUMENT).starts()
    cut_off = await Replica(kube).has(b"key").starts()
    kube.remove(SECRET)
    # By nobody who only remembers.
    await cut_off.has(DOWN).later()
    assert SECRET not in kube.objects
    await one.later()
    assert in_secret(kube).keys() == {TOKEN, DOCUMENT}


async def test_what_is_learned_while_it_is_written_is_written_next(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await Replica(kube).has(b"key").starts()
    replace = kube.replace

    async def meanwhile(path: str, body: dict[str, Any]) -> dict[str, Any]:
        one.seconds += 30
        await one.has(b"newer").asks()
        return await replace(path, body)

    with monkeypatch.context() as patch:
        patch.setattr(kube, "replace", meanwhile)
        await one.has(b"new").later()
    assert in_secret(kube)[TOKEN].material == b"new"
    await one.cluster.write()
    assert in_secret(kube)[TOKEN].material == b"newer"
    assert not one.kept.is_changed


# ── when it is written ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_is_written_when_something_changed_or_was_read_a_day_later(kube: FakeKube) -> None:
    one = await Replica(kube).has(b"key").starts()

    async def written(work: Awaitable[Any]) -> list[str]:
        kube.asked.clear()
        await work
        return [method for method, path in kube.asked if method != "GET"]

    assert await written(one.later(23 * HOUR)) == []
    assert await written(one.later(HOUR)) == ["PUT"]
    assert in_secret(kube)[TOKEN] == Kept(b"key", NOW + 24 * HOUR, 1)
    assert await written(one.has(b"new").later()) == ["PUT"]
    assert in_secret(kube)[TOKEN].change == 2
    # Another that starts and reads the same writes nothing. That there is no such key is written once.
    other = Replica(kube, TOKEN, OTHER, at=one.at).has(b"new").has(GONE, OTHER)
    assert await written(other.starts()) == ["PUT"]
    assert await written(other.later()) == []


async def test_two_that_read_the_same_at_the_same_time_write_it_once(kube: FakeKube) -> None:
    one, two = Replica(kube).has(b"key"), Replica(kube).has(b"key")
    for replica in (one, two):
        await replica.cluster.read()
        await replica.asks()
    await one.cluster.write()
    version = kube.objects[SECRET]["metadata"]["resourceVersion"]
    await two.cluster.write()
    assert kube.objects[SECRET]["metadata"]["resourceVersion"] == version
    # A day later it is renewed, if nobody else has done so, whatever became of it meanwhile.
    two.at += 24 * HOUR
    two.seconds += 30
    await two.asks()
    put(kube, {TOKEN: Kept(b"key", NOW, 5)})
    await two.cluster.write()
    assert in_secret(kube)[TOKEN] == Kept(b"key", NOW + 24 * HOUR, 5)


async def test_what_was_found_to_be_gone_before_the_secret_could_be_read(kube: FakeKube) -> None:
    await Replica(kube).has(b"key").starts()
    kube.failing[SECRET] = KubeError("the API server is down")
    fresh = await Replica(kube).has(GONE).starts()
    assert fresh.kept.is_changed
    kube.failing.clear()
    await fresh.later()
    await fresh.later()
    assert in_secret(kube)[TOKEN].material is None
    # Also where nothing is kept: somebody may have deleted what others have in memory.
    kube.remove(SECRET)
    kube.failing[SECRET] = KubeError("the API server is down")
    fresh = await Replica(kube).has(GONE).starts()
    kube.failing.clear()
    await fresh.cluster.write()
    assert in_secret(kube) == {TOKEN: Kept(None, NOW, 1)}
    assert not fresh.kept.is_changed


async def test_f33_what_cannot_be_written_is_written_later(kube: FakeKube, caplog: pytest.LogCaptureFixture) -> None:
    kube.failing["/api/v1/namespaces/ti/secrets"] = KubeError("the API server is down")
    one = await Replica(kube).has(b"key").starts()
    assert one.reads() == b"key"
    assert "keys that were read are not kept yet: the API server is down" in caplog.text
    assert "keys that were kept cannot be read: the API server is down" in caplog.text
    assert not await one.cluster.write()
    caplog.clear()
    kube.failing["/api/v1/namespaces/ti/secrets"] = KubeError("changed meanwhile", 409)
    assert await one.cluster.write()
    assert not caplog.text
    kube.failing.clear()
    assert await one.cluster.write()
    assert in_secret(kube)[TOKEN].material == b"key"


async def test_f25_a_secret_that_is_read_late_helps_all_the_same(kube: FakeKube) -> None:
    await Replica(kube).has(b"key").starts()
    kube.failing[SECRET] = KubeError("the API server is down")
    fresh = await Replica(kube).has(DOWN).starts()
    assert isinstance(fresh.reads(), Unresolved)
    kube.failing.clear()
    await fresh.cluster.read()
    await fresh.asks()
    assert fresh.reads() == b"key"


async def test_what_no_policy_names_any_more_is_not_written(kube: FakeKube) -> None:
    one = Replica(kube).has(b"key")
    await one.cluster.read()
    await one.asks()
    assert one.kept.is_changed
    await one.keys.look([])
    assert await one.cluster.write()
    assert SECRET not in kube.objects


async def test_w11_nothing_is_made_that_would_stay_behind_when_the_release_goes(kube: FakeKube) -> None:
    kube.remove(ROLE)
    await Replica(kube).has(b"key").starts()
    assert SECRET not in kube.objects


async def test_it_works_until_it_is_stopped_and_writes_what_is_left(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.01)
    monkeypatch.setattr(module, "_READ_TURNS", 2)
    monkeypatch.setattr(module, "_FAILED_SECONDS", 0.01)
    kube.failing[SECRET] = KubeError("the API server is down")
    one = await Replica(kube).has(b"key").starts()
    working = asyncio.create_task(one.cluster.work())
    await asyncio.sleep(0.1)
    kube.failing.clear()
    async with asyncio.timeout(5):
        while SECRET not in kube.objects:
            await asyncio.sleep(0.01)
        # Another finds it gone: heard of within a turn or two.
        await Replica(kube).has(GONE).starts()
        while not one.kept.turn(TOKEN):
            await asyncio.sleep(0.01)
    monkeypatch.setattr(module, "_WRITE_SECONDS", 60)
    await asyncio.sleep(0.05)
    await one.has(b"new").asks()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert in_secret(kube)[TOKEN].material == b"new"


# ── what is in the Secret ────────────────────────────────────────────────────────────────────────────────────────────


def entry(**changes: object) -> dict[str, object]:
    key = {"on": [["token", "acme"]], "label": "release", "id": "AQ==", "kind": None, "module_path": None,
           "module_name": None, "pin_file": "/pins/a"}  # fmt: skip
    return {"kind": "pkcs11", "key": key, "material": "a2V5", "at": "2026-11-24T00:38:00Z", "change": 1} | changes


def packed(*entries: dict[str, object]) -> bytes:
    return zlib.compress(json.encode({"keys": entries}))


def test_what_we_write_is_what_we_read() -> None:
    assert packing.read(packed(entry())) == {TOKEN: Kept(b"key", NOW, 1)}
    kept: dict[RemoteKey, Kept] = {TOKEN: Kept(b"key", NOW, 1), DOCUMENT: Kept(None, NOW + HOUR, 7)}
    data, room = packing.write(kept)
    assert room == kept
    assert packing.read(data) == kept


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cut off"),
        (b"garbage", "not packed as we pack them"),
        (packed(entry())[:-6], "cut off"),
        (packed(entry()) + b"more", "cut off"),
        (zlib.compress(b"[]"), "expected `object`|expected object"),
        (zlib.compress(b'{"keys":[]'), "not JSON"),
        (zlib.compress(b'{"keys":[],"keys":[]}'), "duplicate key"),
        (packed(entry(), entry()), "twice"),
        (packed(entry(more=1)), "unknown field"),
        (packed(entry(kind="file")), "invalid enum value"),
        (packed(entry(key={})), "another version"),
        (packed(entry(key={**entry()["key"], "ca": "x"})), "another version"),  # type: ignore[dict-item]  # a dict
        (packed(entry(key={**entry()["key"], "label": 1})), "expected"),  # type: ignore[dict-item]  # a dict
        (packed(entry(at="2026-11-24T00:38:00")), "timezone"),
        (packed(entry(change=0)), ">= 1"),
        (packed(entry(material="?")), "base64"),
        (packed(entry(kind="https", key={"url": "https://keys.example/a", "sha256": "0" * 64})), "not the document"),
    ],
)
async def test_m05_what_none_of_us_wrote_is_nothing_and_is_written_over(
    kube: FakeKube, data: bytes, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Invalid, match=complaint):
        packing.read(data)
    await Replica(kube).has(b"key").starts()
    kube.put(SECRET, {**kube.objects[SECRET], "data": {"keys": base64.b64encode(data).decode()}})
    fresh = await Replica(kube).has(DOWN).starts()
    assert isinstance(fresh.reads(), Unresolved)
    await fresh.later()
    assert caplog.text.count("nothing in Secret trusted-images-kept-keys counts") == 1
    await fresh.has(b"key").later()
    assert in_secret(kube)[TOKEN].material == b"key"


@pytest.mark.parametrize("data", [None, {}, {"keys": "é"}, {"keys": "no base64"}, {"keys": 5}])
async def test_m05_a_secret_with_something_else_in_it(kube: FakeKube, data: object) -> None:
    kube.put(SECRET, {"data": data})
    fresh = await Replica(kube).has(DOWN).starts()
    assert isinstance(fresh.reads(), Unresolved)
    await fresh.has(b"key").later()
    assert in_secret(kube)[TOKEN].material == b"key"


def test_d01_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(zlib.decompress(packed(entry())))
    monkeypatch.setattr(limits, "MAX_KEPT_PLAIN", size)
    assert packing.read(packed(entry()))
    monkeypatch.setattr(limits, "MAX_KEPT_PLAIN", size - 1)
    with pytest.raises(Invalid, match=f"more than {size - 1} bytes"):
        packing.read(packed(entry()))


async def test_d01_what_has_no_room_is_not_kept_and_told_once(
    kube: FakeKube, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "MAX_KEPT_PLAIN", 1000)
    one = await Replica(kube, TOKEN, DOCUMENT).has(b"k" * 700).has(b"document", DOCUMENT).starts()
    assert in_secret(kube).keys() == {DOCUMENT}
    assert caplog.text.count("is not kept for outages: the Secret at") == 1
    kube.asked.clear()
    await one.later()
    await one.later(25 * HOUR)
    assert [method for method, _ in kube.asked] == ["GET", "GET"]
    assert caplog.text.count("is not kept for outages") == 1
    # Nor does an older one stay there in its place: after a restart in an outage it is missing.
    await one.has(b"small").later()
    assert in_secret(kube)[TOKEN].material == b"small"
    await one.has(b"k" * 701).later()
    assert in_secret(kube).keys() == {DOCUMENT}
    assert caplog.text.count("is not kept for outages") == 2


def test_d01_thousands_of_keys_have_room_and_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pem = b"-----BEGIN PUBLIC KEY-----\n%d\n-----END PUBLIC KEY-----\n"
    kept: dict[RemoteKey, Kept] = {
        TokenKey(on=(("token", "acme"),), label=f"release-{number}"): Kept(pem % number, NOW, 1)
        for number in range(3_000)
    }
    packed, room = packing.write(kept)
    assert room == kept
    assert packing.read(packed) == kept
    monkeypatch.setattr(limits, "MAX_KEPT_KEYS", len(packed) // 2)
    packed, room = packing.write(kept)
    assert packing.read(packed) == room
    assert 1_000 < len(room) < 2_000


def test_d01_packed_it_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[RemoteKey, Kept] = {TOKEN: Kept(b"key", NOW, 1), DOCUMENT: Kept(None, NOW, 1)}
    whole, _ = packing.write(kept)
    monkeypatch.setattr(limits, "MAX_KEPT_KEYS", len(whole))
    assert packing.write(kept)[1] == kept
    monkeypatch.setattr(limits, "MAX_KEPT_KEYS", len(whole) - 1)
    assert packing.write(kept)[1].keys() == {DOCUMENT}
