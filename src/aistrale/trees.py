"""The spans of a trace as a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from aistrale.spans import Span


@dataclass(slots=True)
class TraceNode:
    """A span of a trace, and the spans that began below it, by their start."""

    span: Span
    children: list[TraceNode] = field(default_factory=list)

    def walk(self) -> Iterator[tuple[int, Span]]:
        """This span and all below it, each with how deep it lies."""
        todo = [(0, self)]
        while todo:
            depth, node = todo.pop()
            yield depth, node.span
            todo += [(depth + 1, child) for child in reversed(node.children)]


def as_trees(spans: Iterable[Span]) -> list[TraceNode]:
    """The roots among the spans of one trace, given by their start: those whose parent is not among them.

    Every span is in one of the trees, once. Where senders made rings of them, the first of a ring is a root.
    """
    nodes = {span.span_id: TraceNode(span) for span in spans}
    roots: list[TraceNode] = []
    for node in nodes.values():
        parent = nodes.get(node.span.parent_id or "")
        (roots if parent is None else parent.children).append(node)
    reached = {span.span_id for root in roots for _, span in root.walk()}
    for number, node in nodes.items():
        if number not in reached:
            nodes[str(node.span.parent_id)].children.remove(node)
            roots.append(node)
            reached.update(span.span_id for _, span in node.walk())
    return sorted(roots, key=lambda root: (root.span.start, root.span.span_id))
