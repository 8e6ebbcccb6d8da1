"""Why any cutting gives the same samples, and how one goes back: everything that moves is made in fixed blocks.

A block is a function of its index (which addresses its random numbers) and of the state that the block before left.
Some of those states are kept, so that a seek starts at the nearest kept one and not at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Block = TypeVar("Block")
State = TypeVar("State")


class BlockStream(Generic[Block, State]):
    """Blocks 0, 1, 2, … of `make(index, state) -> (block, state after it)`.

    `make` must not change the state that it is given. States are kept every `keep_every` blocks; of the blocks
    themselves only the newest two, since readers walk forward.
    """

    def __init__(
        self, first_state: State, make: Callable[[int, State], tuple[Block, State]], keep_every: int = 16
    ) -> None:
        self._make = make
        self._keep_every = keep_every
        self._kept: dict[int, State] = {0: first_state}
        self._recent: dict[int, tuple[State, Block, State]] = {}  # index → state before, block, state after

    def block(self, index: int) -> Block:
        """Block `index`, made now unless it is one of the newest two."""
        if index not in self._recent:
            at, state = self._nearest_state(index)
            while at <= index:
                state = self._advance(at, state)
                at += 1
        return self._recent[index][1]

    def forget_after(self, index: int) -> None:
        """Forget block `index` and those after it, not the state before it: an input that falls into it has changed."""
        self._kept = {i: state for i, state in self._kept.items() if i <= index}
        entry = self._recent.get(index)
        self._recent = {i: old for i, old in self._recent.items() if i < index}
        if entry is not None and index - 1 not in self._recent:
            self._before = (index, entry[0])

    def _nearest_state(self, index: int) -> tuple[int, State]:
        if index - 1 in self._recent:
            return index, self._recent[index - 1][2]
        at = index - index % self._keep_every
        while at not in self._kept:
            at -= self._keep_every
        return at, self._kept[at]

    def _advance(self, index: int, state: State) -> State:
        if index % self._keep_every == 0:
            self._kept[index] = state
        block, after = self._make(index, state)
        self._recent[index] = (state, block, after)
        while len(self._recent) > 2:
            del self._recent[next(iter(self._recent))]
        return after
