"""Why a layer is what it is: from the report of an artefact, which records every decision of every pass.

A note belongs to a layer when it is made at the layer, at a part of it (`conv1.affine`), at a node behind it that its
kernel computes, or names the layer among several. Of all passes that ran, those that say nothing met nothing there.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bhpe_compile.artifact.program import MULTIPLIED
from bhpe_compile.errors import InputError, UsageError

REPORT = "report.json"


@dataclass(frozen=True)
class Decision:
    """What one pass did, or refused to do, and why."""

    stage: str
    pass_name: str
    applied: bool
    reason: str


@dataclass(frozen=True)
class Call:
    """One call of the compiled program that computes (a part of) a layer; sizes in bytes."""

    step: int
    kernel: str
    kind: str
    tile: str | None
    constant_bytes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Explanation:
    """One layer, or a node without weights (then `precision` is "" and the counts are 0). products: how its 8-bit
    weights are multiplied, in words; "" where it has none, and of depthwise layers, which have an instruction of their
    own."""

    name: str
    kind: str
    precision: str
    weights: int
    macs: int
    stored_bytes: int
    products: str
    calls: tuple[Call, ...]
    decisions: tuple[Decision, ...]
    silent: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Explainer:
    """Answers for one report. `passes` are (stage, name) of the passes that ran, in order; `products` says how 8-bit
    weights are multiplied."""

    def __init__(
        self, report: Mapping[str, Any], passes: Sequence[tuple[str, str]], products: str = ""
    ) -> None:
        self._products = products
        self._layers = {layer["name"]: layer for layer in report["layers"]}
        self._passes = tuple(passes)
        self._stages = {name: stage for stage, name in passes}
        self._calls: dict[str, list[Call]] = {}
        for index, step in enumerate(report["steps"]):
            facts = {key: step[key] for key in Call.__dataclass_fields__ if key != "step"}
            self._calls.setdefault(step["layer"], []).append(Call(index, **facts))
        followers = {node: layer for layer, nodes in report["epilogues"].items() for node in nodes}
        self._notes: dict[str, list[Mapping[str, Any]]] = {}
        for note in report["notes"]:
            for site in filter(None, note["site"].split(", ")):
                self._notes.setdefault(self._owner(site, followers), []).append(note)

    @classmethod
    def of(cls, path: Path) -> Explainer:
        """For the artefact at `path`. InputError when it is damaged, or older than explanations."""
        from bhpe_compile.artifact.load import read_file
        from bhpe_compile.artifact.manifest import load_manifest, products_of
        from bhpe_compile.reading import parse_json

        manifest = load_manifest(path)
        try:
            report = parse_json(read_file(path, manifest, REPORT))
            passes = [(one["stage"], one["name"]) for one in manifest["passes"]]
            return cls(report, passes, products_of(manifest))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"{path / REPORT}: does not hold what explaining needs; compile the model again"
            ) from None

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers with weights, in the order of the network."""
        return tuple(self._layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that can be explained: layers first, then nodes without weights."""
        return tuple(dict.fromkeys((*self._layers, *filter(None, self._calls), *self._notes)))

    def match(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """The names that a pattern gives or matches; of a glob, layers only where it matches any.

        UsageError, with near names, for a pattern that matches nothing.
        """
        found: list[str] = []
        for pattern in patterns:
            matched = [name for name in self._layers if fnmatch.fnmatchcase(name, pattern)]
            matched = matched or [name for name in self.names if fnmatch.fnmatchcase(name, pattern)]
            if not matched:
                raise UsageError(f"no layer is called {pattern!r}; {self._near(pattern)}")
            found += matched
        return tuple(dict.fromkeys(found))

    def explain(self, name: str) -> Explanation:
        """Everything about one of `names`."""
        layer = self._layers.get(name, {})
        calls = tuple(self._calls.get(name, ()))
        first, copy, _ = name.partition("#")  # a layer that is called twice has one note of each torch pass
        notes = [*self._notes.get(name, ())]
        if copy:
            notes += [n for n in self._notes.get(first, ()) if self._stages.get(n["pass_name"]) == "binarize"]
        order = {pass_name: index for index, (_, pass_name) in enumerate(self._passes)}
        decisions = tuple(
            Decision(
                self._stages.get(note["pass_name"], ""), note["pass_name"], note["applied"], note["reason"]
            )
            for note in sorted(notes, key=lambda note: order.get(note["pass_name"], -1))
        )
        spoke = {decision.pass_name for decision in decisions}
        return Explanation(
            name=name,
            kind=layer.get("kind", calls[0].kind if calls else "node"),
            precision=layer.get("precision", ""),
            weights=layer.get("weights", 0),
            macs=layer.get("macs", 0),
            stored_bytes=layer.get("stored_bytes", 0),
            products=self._products if any(call.kind in MULTIPLIED for call in calls) else "",
            calls=calls,
            decisions=decisions,
            silent=tuple(pass_name for _, pass_name in self._passes if pass_name not in spoke),
        )

    def _owner(self, site: str, followers: Mapping[str, str]) -> str:
        """The layer a site belongs to, or the site itself."""
        if site in self._layers:
            return site
        for name in (site.removesuffix(".rounded.cast").removesuffix(".half.cast"), site):
            if name in followers:
                return followers[name]
        parent = site
        while "." in parent:
            parent = parent.rpartition(".")[0]
            if parent in self._layers:
                return parent
        return site

    def _near(self, pattern: str) -> str:
        plain = pattern.strip("*")
        near = (
            get_close_matches(plain, self.names, 3, 0.6)
            or [n for n in self._layers if plain and plain in n][:3]
        )
        return f"did you mean {' or '.join(near)}?" if near else "`explain ARTEFACT` lists all layers"
