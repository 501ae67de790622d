"""What real signers left in real registries, byte for byte (tests/captures/README.md), and the facts they share."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from webhook.image import Digest

_TESTS: Final = Path(__file__).parent / "captures"
_DEMO: Final = Path(__file__).parents[1] / "webhook" / "cli" / "captures"

IMAGE: Final = Digest("sha256:6625e2ac007fb9dff482d9b3048755fc3f9a0ceb52b0a3c410af0d7fc93434f1")
INDEX: Final = Digest("sha256:2375db116a2010b1fa8729b41b04599debafdb82bafe7f201ff59014be7f8e05")
NOW: Final = datetime(2026, 11, 24, 0, 38, tzinfo=UTC)
PUBLIC_ROOT: Final = (Path(__file__).parents[1] / "webhook/keys/sigstore/trusted_root.json").read_bytes()


def path(name: str) -> Path:
    """The capture or key file `name`, among those of the tests or of the demo."""
    return _DEMO / name if (_DEMO / name).exists() else _TESTS / name


def key(name: str) -> bytes:
    """The PEM file `name`."""
    return path(name).read_bytes()
