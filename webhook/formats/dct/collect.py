"""What a notary server holds about an image's repository. Judges nothing, but reads far enough to know what to ask for next.

All but the timestamp is asked for by hash, as docker does: what is published meanwhile then mixes no two states.
Source: notary 0.7, `client/tufclient.go`, `tuf/utils/util.go` (`ConsistentName`).
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from webhook import limits
from webhook.formats._artifacts import Budget, as_evidence
from webhook.formats._dsse import strict_base64
from webhook.formats._keys import PublicKey
from webhook.formats.dct.keys import read_role
from webhook.formats.dct.wire import FileMeta, Listing, Root, read_document, read_signed
from webhook.image import Repository
from webhook.parsing import Invalid
from webhook.trust import Evidence, Registry, Rejected, Unavailable, Untrusted


@dataclass(slots=True)
class Collection:
    """The trust data of one repository on one server, read through one port."""

    server: str
    repository: Repository
    ca: bytes | None
    registry: Registry
    parts: dict[str, bytes] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)

    @property
    def origin(self) -> str:
        """Where it is, for people."""
        return f"trust data of {self.repository} on {self.server}"

    async def fetch(self, role: str, limit: int, file: str | None = None) -> bytes:
        """A role's metadata, from `file` if it has another name there. Raises `Rejected` or `Unavailable`."""
        url = f"{self.server}/v2/{self.repository}/_trust/tuf/{file or role}.json"
        content = await self.registry.get(url, limit, ca=self.ca, about=self.repository)
        if content is None:
            raise Rejected(f"{self.origin}: there is no {role}" if self.parts else f"there is no {self.origin}")
        if not self.budget.takes(len(content)):
            raise Rejected(f"{self.origin}: more than {limits.MAX_EVIDENCE} bytes in all")
        self.parts[role] = content
        return content

    async def fetch_listed(self, role: str, limit: int, listed: Mapping[str, FileMeta]) -> bytes:
        """The same of what a timestamp or snapshot lists, by its hash."""
        meta = listed.get(role)
        digest = strict_base64(meta.hashes.get("sha256", ""), f"hashes of {role}") if meta else b""
        if len(digest) != 32:
            raise Rejected(f"{self.origin}: lists no {role}")
        return await self.fetch(role, limit, f"{role}.{digest.hex()}")


async def collect(
    collection: Collection, root_keys: frozenset[PublicKey], delegations: Iterable[str]
) -> AsyncGenerator[Evidence, None]:
    """One piece of evidence: the metadata of every role, down to these delegations, and of the roots that lead to it."""
    try:
        timestamp = _listing(await collection.fetch("timestamp", limits.MAX_TUF_TIMESTAMP), "timestamp")
        snapshot = _listing(await collection.fetch_listed("snapshot", limits.MAX_TUF_SNAPSHOT, timestamp), "snapshot")
        await _fetch_roots(collection, root_keys, snapshot)
        for role in _with_delegators(delegations):
            if role == "targets" or role in snapshot:
                await collection.fetch_listed(role, limits.MAX_TUF_TARGETS, snapshot)
    except (Rejected, Unavailable, Invalid) as e:
        yield as_evidence(e)
        return
    yield Untrusted(collection.origin, collection.parts)


async def _fetch_roots(
    collection: Collection, root_keys: frozenset[PublicKey], snapshot: Mapping[str, FileMeta]
) -> None:
    """The root in use, and those before it back to one that a key of the policy has signed."""
    content = await collection.fetch_listed("root", limits.MAX_TUF_ROOT, snapshot)
    version = read_signed(read_document(content, "root"), Root, "root").version
    oldest = version - limits.MAX_ROOT_ROTATIONS
    while version > 1 and not _is_signed_by(content, root_keys):
        if version == oldest:
            most = limits.MAX_ROOT_ROTATIONS
            raise Rejected(f"{collection.origin}: more than {most} roots since one by a root key of the policy")
        version -= 1
        content = await collection.fetch(f"{version}.root", limits.MAX_TUF_ROOT)


def _is_signed_by(content: bytes, root_keys: frozenset[PublicKey]) -> bool:
    """Whether a root says that one of its root keys, which is one of these, has signed it. Whether that is true is seen later."""
    document = read_document(content, "root")
    root = read_signed(document, Root, "root")
    listed = read_role(root.roles.root, root.keys, "root.signed.roles.root").keys
    return any(
        signature.keyid in listed and listed[signature.keyid].key in root_keys for signature in document.signatures
    )


def _listing(content: bytes, what: str) -> Mapping[str, FileMeta]:
    return read_signed(read_document(content, what), Listing, what).meta


def _with_delegators(delegations: Iterable[str]) -> Iterable[str]:
    """The targets role, the delegations, and those between them, which hold their keys; each once, delegators first."""
    paths = ["targets"]
    for name in delegations:
        paths += accumulate(name.split("/"), "{}/{}".format)
    return dict.fromkeys(paths)
