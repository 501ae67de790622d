"""The registries of the world, for tests of the judge: one `FakeRegistry`, with a lock on the repositories named."""

from dataclasses import dataclass, field

from tests.fake.registry import FakeRegistry
from webhook.image import ImageReference, Repository
from webhook.memory.cache import Remembered
from webhook.trust import Access, Credential, Keychain, Rejected, Resolved, Unavailable


@dataclass(frozen=True)
class FakeKeychain:
    """One login for everything, or none. `slow`: it is not known without waiting; `broken`: it cannot be read at all."""

    password: str | None = None
    slow: bool = False
    broken: bool = False

    def known(self, repository: Repository) -> Access | None:
        """Nothing while it is slow."""
        return None if self.slow or self.broken else self._access()

    async def access(self, repository: Repository) -> Access:
        """The login, or the failure."""
        if self.broken:
            raise Unavailable("the pull secret cannot be read")
        return self._access()

    def _access(self) -> Access:
        return () if self.password is None else (Credential("user", self.password),)


ANONYMOUS = FakeKeychain()


@dataclass
class FakeRegistries:
    """`judge.evaluate.Registries`. `locked`: repositories by path, with the password each wants."""

    registry: FakeRegistry
    locked: dict[str, str] = field(default_factory=dict)
    remembered: dict[tuple[ImageReference, Access], Resolved] = field(default_factory=dict)
    seconds: float = 10.0

    def under(self, keychain: Keychain) -> "_Under":
        """The registry as this keychain sees it."""
        return _Under(self, keychain)

    def known(self, keychain: Keychain, repository: Repository) -> Access | None:
        """As the keychain knows it."""
        return keychain.known(repository)

    async def opened(self, keychain: Keychain, repository: Repository) -> Access:
        """As the keychain says."""
        return await keychain.access(repository)

    def recall_resolved(self, image: ImageReference, access: Access) -> Remembered[Resolved] | None:
        """What was resolved once with the same logins; kept for `seconds`, whenever it is asked for."""
        kept = self.remembered.get((image, access))
        return None if kept is None else Remembered(kept, self.seconds)


class _Under(FakeRegistry):
    """The same contents, refused where the login is wrong; what is resolved is remembered for this login."""

    def __init__(self, registries: FakeRegistries, keychain: Keychain) -> None:
        self.__dict__ = registries.registry.__dict__
        self._registries = registries
        self._keychain = keychain

    async def resolve(self, image: ImageReference) -> Resolved:
        access = await self._keychain.access(image.repository)
        wanted = self._registries.locked.get(image.repository.path)
        if wanted is not None and wanted not in {credential.password for credential in access}:
            raise Rejected("the registry refuses access")
        resolved = await super().resolve(image)
        self._registries.remembered[image, access] = resolved
        return resolved
