"""drlctl: a deep-RL controller that decides where and how neural networks run across device, edge and cloud.

Importing it registers the Gymnasium environments `drlctl/OffloadSim-v0` and `drlctl/OffloadLive-v0`:

    import drlctl, gymnasium
    env = gymnasium.make("drlctl/OffloadSim-v0", scenario="congested")

Nodes, the daemon and the command line import this package too and have no use for Gymnasium, which takes 0.2 s to
import.  So when it is not imported yet, registration waits until somebody imports it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

__version__ = "0.1.0"

__all__ = ["__version__"]


class _AfterGymnasium(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets Gymnasium be imported as usual, then registers our environments with it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """Stand in as Gymnasium's loader, once."""
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As Gymnasium's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run Gymnasium's own code, then register."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register()


def _register() -> None:
    from envs.register import register_envs

    register_envs()


if "gymnasium" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _AfterGymnasium())
