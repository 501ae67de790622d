"""Other systems' policies on the command line: read from their own files, translated, and judged by like any other."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from webhook import limits
from webhook.formats.notation.spec import StoreType
from webhook.importers.notation_trustpolicy import Imported, read_trust_policy, translate
from webhook.parsing import Invalid

NotationTrustPolicy = Annotated[
    Path | None,
    typer.Option(
        "--notation-trust-policy", help="Notation's trustpolicy.json, in place of or beside --policy.", metavar="FILE"
    ),
]
NotationTrustStore = Annotated[
    Path | None,
    typer.Option(
        "--notation-trust-store",
        help="Notation's trust store; default: truststore beside the trust policy.",
        metavar="DIR",
    ),
]

_CERTIFICATES: Final = frozenset({".pem", ".crt", ".cer"})


@contextlib.contextmanager
def policy_files(
    policies: Sequence[Path], trust_policy: Path | None, trust_store: Path | None, home: str
) -> Iterator[Sequence[Path]]:
    """The policy files, with what was translated as one of them. Raises `Invalid` or OSError; notes go to standard error."""
    if trust_policy is None:
        if trust_store is not None:
            raise Invalid("--notation-trust-store: means nothing without --notation-trust-policy")
        if not policies:
            raise Invalid("give --policy FILE, or --notation-trust-policy FILE")
        yield policies
        return
    imported = from_notation(trust_policy, trust_store or trust_policy.parent / "truststore", home)
    for note in imported.notes:
        typer.echo(f"kubectl-trust: {trust_policy}: {note}", err=True)
    with tempfile.TemporaryDirectory(prefix="trusted-images-") as folder:
        # JSON is YAML. Read as users' files are, so that nothing holds for it that does not hold for them.
        translated = Path(folder) / trust_policy.name
        translated.write_text(json.dumps({"kind": "List", "items": imported.resources}))
        yield [*policies, translated]


def from_notation(trust_policy: Path, trust_store: Path, home: str) -> Imported:
    """A trust policy and the stores that it names. Raises `Invalid` or OSError."""
    document = read_trust_policy(_read(trust_policy, limits.MAX_YAML), str(trust_policy))
    x509 = trust_store / "x509" if (trust_store / "x509").is_dir() else trust_store
    stores = {(kind, name): _store(x509 / kind / name, kind) for kind, name in document.stores}
    return translate(document, stores, home)


def _store(folder: Path, kind: StoreType) -> str:
    """The certificates in one named store, as PEM. Links are refused, and what lies deeper is not looked at, as notation does."""
    if folder.is_symlink() or not folder.is_dir():
        raise Invalid(f"{folder}: not a folder with the certificates of a trust store of type {kind}")
    found = []
    for file in sorted(folder.iterdir()):
        if file.is_symlink():
            raise Invalid(f"{file}: a link; notation follows none in its trust store")
        if file.is_file() and file.suffix in _CERTIFICATES:
            found.append(_as_pem(_read(file, limits.MAX_KEY_MATERIAL), str(file)))
    if not found:
        raise Invalid(f"{folder}: no certificate ({', '.join(sorted(_CERTIFICATES))})")
    return "".join(found)


def _as_pem(data: bytes, what: str) -> str:
    if b"-----BEGIN " in data:
        return data.decode("ascii", "replace") + "\n"
    from cryptography.hazmat.primitives.serialization import Encoding

    from webhook.formats._x509 import parse_der

    return parse_der(data, what).public_bytes(Encoding.PEM).decode()


def _read(file: Path, limit: int) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise Invalid(f"{file}: more than {limit} bytes")
    return data
