"""A sigstore of ours as the real cosign is told of it: its keys in files, its services and roots in words of the command line."""

import datetime as dt
from pathlib import Path
from typing import Final

from tests.fake.pki import DAY, TIME_STAMPING, issue
from tests.fake.signing import key
from tests.fake.sigstore import CertificateLog, Fulcio, Sigstore, TransparencyLog

ISSUER: Final = "https://accounts.acme.test"
_SINCE: Final = "start-time=2024-01-01T00:00:00Z"


def sigstore_of_today(name: str) -> Sigstore:
    """One that the clock of this machine is in the middle of. Those of two names have no key in common."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    begins, ends = now - 30 * DAY, now + 30 * DAY
    stamps = issue(f"{name} tsa root", ca=True, begins=begins, ends=ends)
    made = Sigstore(
        fulcio=Fulcio.make(begins, ends),
        certificates=CertificateLog(key(f"{name}-ct")),
        log=TransparencyLog(key(f"{name}-rekor"), f"rekor.{name}.test - 1"),
        log_v2=TransparencyLog(key(f"{name}-rekor2"), f"rekor2.{name}.test"),
        stamps=stamps,
    )
    made.stamper = issue(f"{name} tsa", stamps, purposes=[TIME_STAMPING], begins=begins, ends=ends)
    return made


def write_keys(instance: Sigstore, folder: Path) -> None:
    """What a verifier has to know, in the files that `trusted_root` names."""
    files = {
        "fulcio.pem": (instance.fulcio.intermediate.pem + instance.fulcio.root.pem).decode(),
        "ctfe.pub": instance.certificates.key.pem,
        "rekor.pub": instance.log.key.pem,
        "rekor2.pub": instance.log_v2.key.pem,
        "tsa.pem": (instance.stamper.pem + instance.stamps.pem).decode(),
    }
    for name, content in files.items():
        (folder / name).write_text(content)


def trusted_root(instance: Sigstore, folder: Path, url: str) -> tuple[str, ...]:
    """Words for cosign that write `trusted_root.json` into the folder with the keys."""
    logs = ((instance.log, "rekor.pub"), (instance.log_v2, "rekor2.pub"))
    origins = [(log.origin.partition(" ")[0], file) for log, file in logs]
    return (
        "trusted-root", "create", "--no-default-fulcio", "--no-default-ctfe", "--no-default-rekor", "--no-default-tsa",
        f"--fulcio=url={url},certificate-chain={folder}/fulcio.pem",
        *(f"--rekor=url=http://{origin},public-key={folder}/{file},{_SINCE},origin={origin}" for origin, file in origins),
        f"--ctfe=url={url},public-key={folder}/ctfe.pub,{_SINCE}",
        f"--tsa=url={url}/tsa,certificate-chain={folder}/tsa.pem",
        "--out", f"{folder}/trusted_root.json",
    )  # fmt: skip


def signing_config(
    url: str, out: Path, *, rekor: int | None = None, stamped: bool = False, fulcio: bool = True
) -> tuple[str, ...]:
    """Words for cosign that write down whom it asks when it signs."""
    since = f"{_SINCE},operator=test"
    words = ["signing-config", "create"]
    if fulcio:
        words += [f"--fulcio=url={url},api-version=1,{since}", f"--oidc-provider=url={ISSUER},api-version=1,{since}"]
    if rekor is not None:
        words += [f"--rekor=url={url},api-version={rekor},{since}", "--rekor-config=ANY"]
    if stamped:
        words += [f"--tsa=url={url}/tsa,api-version=1,{since}", "--tsa-config=ANY"]
    return (*words, "--out", str(out))
