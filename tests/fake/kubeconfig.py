"""A kubeconfig that leads to an API server on this machine."""

from pathlib import Path

import yaml


def write_kubeconfig(folder: Path, url: str, token: str = "t") -> Path:  # noqa: S107 - of a fake
    """The file, with one context."""
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": url}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "users": [{"name": "x", "user": {"token": token}}],
    }  # fmt: skip
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file
