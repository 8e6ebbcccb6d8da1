"""One history, many readers: who falls behind loses the oldest, is told how many, and disturbs nobody.

There is no queue per client. A `History` holds what was published, by `seq`; a `Subscription` is a place in it. A
reader's buffer is therefore the stretch between its place and the newest item: bounded by `depth`, free of copies, and
whatever it dropped can be read again while the history holds it. Nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Dropped:
    """`count` items were lost to this reader; the next that it gets is `resume_seq`."""

    count: int
    resume_seq: int


class History(Generic[Item]):
    """The newest items, each under its `seq` (rising by one), for `hold_s` seconds and at most `capacity` of them."""

    def __init__(self, hold_s: float, capacity: int) -> None:
        self.hold_s = hold_s
        self.capacity = capacity
        self.first_seq = 0
        self.next_seq = 0
        self._held: dict[int, tuple[float, Item]] = {}

    def __len__(self) -> int:
        return self.next_seq - self.first_seq

    def __contains__(self, seq: int) -> bool:
        return self.first_seq <= seq < self.next_seq

    def __getitem__(self, seq: int) -> Item:
        return self._held[seq][1]

    def push(self, seq: int, item: Item, now: float) -> None:
        """Hold `item`; `now` is any steady clock. What a jump of `seq` skips is lost to every reader."""
        if seq < self.next_seq:
            raise ValueError(f"found seq {seq} after {self.next_seq - 1}, expected it to rise")
        if seq > self.next_seq:
            self._held.clear()
            self.first_seq = seq
        self._held[seq] = (now, item)
        self.next_seq = seq + 1
        while len(self) > self.capacity or self._held[self.first_seq][0] < now - self.hold_s:
            del self._held[self.first_seq]
            self.first_seq += 1

    def replace(self, seq: int, item: Item) -> None:
        """Put `item` in the place of what is held under `seq`."""
        self._held[seq] = (self._held[seq][0], item)

    def since(self, seq: int, limit: int) -> Iterator[int]:
        """Up to `limit` sequence numbers that are held and greater than `seq`, oldest first."""
        start = max(seq + 1, self.first_seq)
        return iter(range(start, min(start + limit, self.next_seq)))


class Subscription:
    """A reader's place in a history.

    `since_seq` is the last item that the reader has: what is held after it comes first. Without it, or with one of
    another run (beyond the newest), the reader starts with the next item. `max_hz` thins by the items' own times
    (`time_of(seq)`): a new item comes at the earliest 1 / max_hz after the last one. Thinned items are not dropped.
    """

    def __init__(
        self,
        history: History[Item],
        depth: int,
        since_seq: int | None = None,
        max_hz: float | None = None,
        time_of: Callable[[int], float] | None = None,
    ) -> None:
        self._history: History[Item] = history
        self._depth = depth
        self._interval_s = 0.0 if max_hz is None else 1.0 / max_hz
        self._time_of = time_of
        self._last_time: float | None = None
        newest = history.next_seq - 1
        self._seen = newest if since_seq is None or since_seq > newest else since_seq
        self._catching_up = self._seen < newest  # it asked for old items: until it has them all, `depth` is no bound
        self.dropped = 0

    def take(self) -> int | Dropped | None:
        """What the reader gets next: the `seq` of an item, how many it lost, or None when it is up to date."""
        history = self._history
        oldest = history.first_seq
        if not self._catching_up:
            oldest = max(oldest, history.next_seq - self._depth)
        if self._seen + 1 < oldest:
            lost = Dropped(oldest - self._seen - 1, oldest)
            self._seen = oldest - 1
            self._last_time = None  # so that resume_seq is what comes next
            self.dropped += lost.count
            return lost
        while self._seen + 1 < history.next_seq:
            self._seen += 1
            if self._due(self._seen):
                self._catching_up = self._catching_up and self._seen + 1 < history.next_seq
                return self._seen
        self._catching_up = False
        return None

    def take_newest(self, seq: int) -> bool:
        """Whether `seq`, which has just come, is what the reader gets next; it then has it. The short way for one that
        is up to date, as all but a few of a hundred are; where it is False, ask `take`."""
        if self._seen + 1 != seq or self._interval_s:
            return False
        self._seen, self._catching_up = seq, False
        return True

    def _due(self, seq: int) -> bool:
        if self._time_of is None or not self._interval_s:
            return True
        time = self._time_of(seq)
        if self._last_time is not None and 0.0 <= time - self._last_time < self._interval_s - 1e-6:
            return False
        self._last_time = time
        return True
