"""`python -m tests.chart_values`: the chart's README, from the comments of its values."""

import re
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "charts" / "trusted-images"

_HEAD = """# trusted-images

Admission webhook that decides which container images may run, by who signed them. docs/install.md says how to install, upgrade and
remove it. This page is made from the comments of values.yaml by `make manifests`.

| value | default | meaning |
|---|---|---|
"""


def rows() -> list[tuple[str, str, str]]:
    """Every documented value: its path, its default, its meaning."""
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    found: list[tuple[str, str, str]] = []
    path: list[tuple[int, str]] = []
    about = ""
    for line in (CHART / "values.yaml").read_text("utf-8").splitlines():
        if comment := re.fullmatch(r"\s*# -- (.*)", line):
            about = comment[1]
            continue
        if not (key := re.match(r"(\s*)([A-Za-z0-9]+):", line)):
            continue
        depth = len(key[1])
        path = [one for one in path if one[0] < depth] + [(depth, key[2])]
        if about:
            names = [name for _, name in path]
            default = values
            for name in names:
                default = default[name]
            found.append(
                (
                    ".".join(names),
                    yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("\n...\n").strip(),
                    about,
                )
            )
            about = ""
    return found


def render() -> str:
    """The page."""
    return _HEAD + "".join(f"| `{name}` | `{default}` | {about} |\n" for name, default, about in rows())


if __name__ == "__main__":
    print(render(), end="")
