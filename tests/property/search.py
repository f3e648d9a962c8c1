"""Every world a small model can reach: what the models of ownership have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

W = TypeVar("W", bound=Hashable)


class Violation(AssertionError):
    """The protocol did something it must not."""


def explore(
    start: W, steps: Callable[[W], Iterable[tuple[str, W]]], check: Callable[[W], None]
) -> dict[W, list[W]]:
    """All reachable worlds and their successors; raises Violation with the shortest way there."""
    came: dict[W, tuple[W, str] | None] = {start: None}
    graph: dict[W, list[W]] = {}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        try:
            check(world)
            following = list(steps(world))
        except Violation as violation:
            raise Violation(f"{violation}; way: {' → '.join(_way(came, world))}") from None
        graph[world] = [after for _, after in following]
        for name, after in following:
            if after not in came:
                came[after] = (world, name)
                queue.append(after)
    return graph


def _way(came: dict[W, tuple[W, str] | None], world: W) -> list[str]:
    names = []
    at = came[world]
    while at is not None:
        names.append(at[1])
        at = came[at[0]]
    return names[::-1]


def can_reach(graph: dict[W, list[W]], goal: Callable[[W], bool]) -> set[W]:
    """All worlds from which some way leads to the goal."""
    back: dict[W, list[W]] = {}
    for world, following in graph.items():
        for after in following:
            back.setdefault(after, []).append(world)
    reach = {world for world in graph if goal(world)}
    queue = deque(reach)
    while queue:
        for before in back.get(queue.popleft(), ()):
            if before not in reach:
                reach.add(before)
                queue.append(before)
    return reach
