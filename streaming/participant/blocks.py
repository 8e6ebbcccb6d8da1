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

    `make` must not change the state that it is given. Of the blocks the newest two are held, since readers walk
    forward; of the states those before them, and every `keep_every`-th.
    """

    def __init__(
        self, first_state: State, make: Callable[[int, State], tuple[Block, State]], keep_every: int = 16
    ) -> None:
        self._make = make
        self._keep_every = keep_every
        self._blocks: dict[int, Block] = {}
        self._states: dict[int, State] = {0: first_state}  # the state before block i

    def block(self, index: int) -> Block:
        """Block `index`, made now unless it is one of the newest two."""
        if index not in self._blocks:
            at = index
            while at not in self._states:
                at -= 1
            while at <= index:
                self._advance(at)
                at += 1
        return self._blocks[index]

    def forget_from(self, index: int) -> None:
        """Make block `index` and those after it anew when asked: an input that falls into it has changed."""
        self._blocks = {i: block for i, block in self._blocks.items() if i < index}
        self._states = {i: state for i, state in self._states.items() if i <= index}

    def _advance(self, index: int) -> None:
        self._blocks[index], self._states[index + 1] = self._make(index, self._states[index])
        while len(self._blocks) > 2:
            oldest = next(iter(self._blocks))
            del self._blocks[oldest]
            if oldest % self._keep_every:
                del self._states[oldest]
