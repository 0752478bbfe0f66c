"""What every binarize pass does: visit the layers it owns, refuse with a reason or rewrite, and tell.

The order of the reasons is the order of their weight: the user's --keep-float, that a layer is called several times,
the scheme's choice unless --binarize overrules it, the layer's own geometry, what stands around it.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import fx

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.binarize.options import BinarizeOptions
from bhpe_compile.passes.binarize.rewrite import refusal
from bhpe_compile.passes.binarize.sites import Site, float_sites, owner


class BinarizePass(Pass[fx.GraphModule]):
    """Base of the passes that make layers binary; `name` is what `sites.owner` returns for their layers."""

    def __init__(self, options: BinarizeOptions | None = None) -> None:
        self.options = options or BinarizeOptions()

    def call(self, graph: fx.GraphModule) -> PassResult[fx.GraphModule]:
        """Rewrite in place; every float layer this pass owns gets one note."""
        notes: list[Note] = []
        for site in self.visit(float_sites(graph)):
            if owner(graph, site) != self.name:
                continue
            reason = self._refusal(graph, site)
            if reason is None:
                notes.append(self.applied(site.path, self.rewrite(graph, site)))
            else:
                notes.append(self.refused(site.path, reason))
        modified = any(note.applied for note in notes)
        if modified:
            graph.graph.lint()
            graph.recompile()
        return PassResult(graph, modified, tuple(notes))

    @abstractmethod
    def scheme_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """Why the scheme does not make the layer binary, or None when it does."""

    def shape_refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        """Why this pass cannot rewrite the layer where it stands, or None."""
        return None

    @abstractmethod
    def rewrite(self, graph: fx.GraphModule, site: Site) -> str:
        """Make the layer binary and return one line that says how."""

    def _refusal(self, graph: fx.GraphModule, site: Site) -> str | None:
        glob = self.options.kept_by(site.path)
        if glob is not None:
            return f"not binary: --keep-float {glob!r}"
        if site.calls > 1:
            return (
                f"the layer is called {site.calls} times in one pass: one sign and one scale cannot serve all"
            )
        if self.options.forced_by(site.path) is None:
            reason = self.scheme_refusal(graph, site)
            if reason is not None:
                return reason
        return refusal(site.layer) or self.shape_refusal(graph, site)
