"""State-space kernels: SGLang imports their names at start; each raises when it is called."""

from sgl_kernel import __getattr__  # noqa: F401 - serves this module's names too
