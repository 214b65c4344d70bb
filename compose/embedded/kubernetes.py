"""What the Helm chart is checked with, without a cluster: helm, kubeconform, Kubernetes' schemas.

    python -m compose.embedded.kubernetes    # gets what is missing; takes Go and some minutes

The schemas come with kubernetes-validate, of requirements/tools.txt.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from compose.embedded.go_programs import GoProgram
from compose.embedded.processes import StackError

_TOOLS = Path(__file__).resolve().parents[2] / ".tools"
HOME = _TOOLS / "kubernetes"
HELM = GoProgram(
    name="helm",
    version="3.22.0",
    module="helm.sh/helm/v3",
    at="v3.22.0",
    digest="h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=",
    package="cmd/helm",
)
KUBECONFORM = GoProgram(
    name="kubeconform",
    version="0.8.0",
    module="github.com/yannh/kubeconform",
    at="v0.8.0",
    digest="h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug=",
    package="cmd/kubeconform",
)
VERSIONS = ("1.27.0", "1.37.0")  # of Kubernetes: the oldest that the chart is for, and a new one
_BUNDLED = "lib/python3*/site-packages/kubernetes_validate/kubernetes-json-schema"
_DEFINITIONS = "_definitions.json"


def schemas(version: str) -> Path:
    """Return the folder of a version's schemas, in which no object may have an unknown field."""
    return HOME / f"schemas-{version}"


def missing() -> list[str]:
    """Name what is not there."""
    programs = [tool.name for tool in (HELM, KUBECONFORM) if not tool.program(HOME).exists()]
    folders = [f"schemas of {version}" for version in VERSIONS if not schemas(version).exists()]
    return programs + folders


def _unpack(version: str) -> None:
    """Copy schemas to where those that they refer to are found beside them. Raises StackError."""
    found = sorted((_TOOLS / "checks").glob(f"{_BUNDLED}/v{version}-local-strict"))
    if not found:
        raise StackError(f"no schemas of Kubernetes {version}: `make chart` installs them")
    making = HOME / f"schemas-{version}.new"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for file in found[0].glob("*.json"):
        text = file.read_text("utf-8").replace(f'"/api/{_DEFINITIONS}', f'"{_DEFINITIONS}')
        schema = json.loads(text)
        schema.pop("$id", None)  # an address, at which the others would be asked for
        (making / file.name).write_text(json.dumps(schema), "utf-8")
    making.rename(schemas(version))  # whole, or not at all


def main() -> int:
    """Get all of it; say so, and go on without, where there is no Go."""
    if shutil.which("go") is None:
        print("skipped: helm and kubeconform are built with Go, which is not installed")
        return 0
    try:
        for program in (HELM, KUBECONFORM):
            program.built(HOME)
        for version in VERSIONS:
            if not schemas(version).exists():
                _unpack(version)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
