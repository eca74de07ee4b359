"""The models that a node serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.errors import InvalidConfig, UnknownModel
from runtime.messages import MAX_NAME_CHARS, Decision
from runtime.models.manifest import Manifest


class HostedModels:
    """Manifests by the name of their model, at least one.  Raises InvalidConfig for none, or for two of one name."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._manifests = {manifest.model: manifest for manifest in manifests}
        if not manifests or len(self._manifests) != len(manifests):
            got = ", ".join(manifest.model for manifest in manifests) or "none"
            raise InvalidConfig(f"a node serves models of different names, at least one; got {got}")

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self._manifests.values())

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the configuration."""
        return tuple(self._manifests)

    def find(self, name: str) -> Manifest:
        """The manifest of a model.  Raises UnknownModel naming those there are."""
        manifest = self._manifests.get(name)
        if manifest is None:
            raise UnknownModel(f"model {name[:MAX_NAME_CHARS]!r} is not loaded here; there is {', '.join(self._manifests)}")
        return manifest

    def of(self, decision: Decision) -> Manifest:
        """The manifest that a decision is about, which is here."""
        return self._manifests[decision.model]

    def check(self, decision: Decision) -> Manifest:
        """The same of a decision from outside.  Raises UnknownModel or InvalidDecision unless it can be carried out."""
        manifest = self.find(decision.model)
        manifest.check(decision)
        return manifest
