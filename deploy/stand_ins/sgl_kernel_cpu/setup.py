"""Adds the `.pth` file beside the modules, which pyproject.toml alone cannot say; all else is there."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

START = "sgl_kernel_cpu_start.pth"


class BuildWithStart(build_py):
    """Copies the file that Python reads at start into the root of the wheel, which is site-packages once installed."""

    def run(self) -> None:
        """Build as usual, then copy it."""
        super().run()
        self.copy_file(START, str(Path(self.build_lib) / START))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """The library that was built, with its file."""
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / START)]


setup(cmdclass={"build_py": BuildWithStart})
