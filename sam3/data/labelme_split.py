"""Divide images into train and val: by seed, stratified by class, groups kept whole.

In order of importance: images of one group are on one side; every class that
occurs in at least two groups is on both sides, when one arrangement can do that for all of them; the number
of training images is the share asked for; every class is divided in about that share. Images without
objects count as a class of their own.

The same images, share and seed always give the same division, on every machine.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

_REPAIR_STEPS = 5000
_NEGATIVE, _ANY = ("negative",), ("any",)  # no label is a tuple


@dataclass(frozen=True)
class SplitItem:
    """One image."""

    group: str
    classes: frozenset[str]  # of its objects; empty for a negative


def split_train(items: Sequence[SplitItem], train_fraction: float, seed: int) -> list[bool]:
    """For each item whether it belongs to train; the others belong to val.

    With a fraction strictly between 0 and 1, both sides get at least one group; a single group goes to train.
    """
    if not items or train_fraction in (0.0, 1.0):
        return [train_fraction == 1.0] * len(items)
    division = _Division(_gather(items, seed), train_fraction)
    division.stratify()
    division.cover_both_sides(random.Random(seed))
    division.balance()
    side = {group.name: in_train for group, in_train in zip(division.groups, division.in_train, strict=True)}
    return [side[item.group] for item in items]


@dataclass
class _Group:
    name: str
    size: int = 0  # images
    counts: Counter[Hashable] = field(default_factory=Counter)  # class -> images that show it


def _gather(items: Iterable[SplitItem], seed: int) -> list[_Group]:
    """Groups, large ones first since the small ones can even out what they leave; equal ones in an order that depends
    on nothing but their names and the seed."""
    groups: dict[str, _Group] = {}
    for item in items:
        group = groups.setdefault(item.group, _Group(item.group))
        group.size += 1
        group.counts.update([*(item.classes or [_NEGATIVE]), _ANY])

    def order(group: _Group) -> tuple[int, bytes]:
        return -group.size, hashlib.sha256(f"{seed}/{group.name}".encode()).digest()

    return sorted(groups.values(), key=order)


class _Division:
    """A tentative assignment of groups and its running totals."""

    def __init__(self, groups: list[_Group], train_fraction: float) -> None:
        self.groups = groups
        self.train_fraction = train_fraction
        self.in_train = [True] * len(groups)
        self.members: dict[Hashable, list[int]] = {}  # class -> groups that show it
        for index, group in enumerate(groups):
            for name in group.counts:
                self.members.setdefault(name, []).append(index)
        self.images = {name: sum(groups[g].counts[name] for g in of) for name, of in self.members.items()}
        self.coverable = [name for name, of in self.members.items() if len(of) > 1]
        self._recount()

    def stratify(self) -> None:
        """Iterative stratification (Sechidis et al. 2011): the rarest class first, each group to the side that
        lacks more of it."""
        wanted = {
            True: {name: self.train_fraction * n for name, n in self.images.items()},
            False: {name: (1 - self.train_fraction) * n for name, n in self.images.items()},
        }
        left = dict(self.images)
        waiting = set(range(len(self.groups)))
        while waiting:
            rarest = min((name for name, n in left.items() if n > 0 and name != _ANY), key=lambda n: (left[n], str(n)))
            for index in self.members[rarest]:
                if index not in waiting:
                    continue
                in_train = max(True, False, key=lambda side: (wanted[side][rarest], wanted[side][_ANY]))
                waiting.remove(index)
                self.in_train[index] = in_train
                for name, count in self.groups[index].counts.items():
                    left[name] -= count
                    wanted[in_train][name] -= count
        self._recount()

    def cover_both_sides(self, generator: random.Random) -> None:
        """Move groups until every class that can be is on both sides; a random walk in the manner of WalkSAT, since
        the question is as hard in general as satisfiability. Keeps the best division that it met."""
        best, fewest = list(self.in_train), self._cost(self._missing())
        for _ in range(_REPAIR_STEPS):
            missing = self._missing()
            if self._cost(missing) < fewest:
                best, fewest = list(self.in_train), self._cost(missing)
            if not missing:
                break
            candidates = self.members[missing[generator.randrange(len(missing))]]
            costs = [(self._classes_lost_by_moving(index), self._imbalance_by_moving(index)) for index in candidates]
            if min(costs)[0] > 0 and generator.random() < 0.3:
                chosen = candidates[generator.randrange(len(candidates))]
            else:
                chosen = candidates[costs.index(min(costs))]
            self._move(chosen)
        self.in_train = best
        self._recount()

    def balance(self) -> None:
        """Move groups that no class needs where they are, until the number of training images is the one wanted."""
        excess = self.train_images[_ANY] - int(self.train_fraction * self.images[_ANY] + 0.5)
        from_train = excess > 0
        movable = [index for index, in_train in enumerate(self.in_train) if in_train == from_train]
        excess = abs(excess)  # images still to be moved
        for index in sorted(movable, key=self._imbalance_by_moving):
            size = self.groups[index].size
            if abs(excess - size) < abs(excess) and not self._classes_lost_by_moving(index):
                self._move(index)
                excess -= size

    def _recount(self) -> None:
        self.present: dict[bool, Counter[Hashable]] = {True: Counter(), False: Counter()}  # side -> class -> groups
        self.train_images: Counter[Hashable] = Counter()  # class -> images
        for group, side in zip(self.groups, self.in_train, strict=True):
            self.present[side].update(group.counts.keys())
            if side:
                self.train_images.update(group.counts)

    def _move(self, index: int) -> None:
        side, counts = self.in_train[index], self.groups[index].counts
        self.in_train[index] = not side
        self.present[side].subtract(counts.keys())
        self.present[not side].update(counts.keys())
        (self.train_images.subtract if side else self.train_images.update)(counts)

    def _missing(self) -> list[Hashable]:
        return [name for name in self.coverable if not (self.present[True][name] and self.present[False][name])]

    @staticmethod
    def _cost(missing: list[Hashable]) -> tuple[int, int]:
        """Classes count before the negatives."""
        return len(missing) - (_NEGATIVE in missing), len(missing)

    def _classes_lost_by_moving(self, index: int) -> int:
        present = self.present[self.in_train[index]]
        return sum(present[name] == 1 and len(self.members[name]) > 1 for name in self.groups[index].counts)

    def _imbalance_by_moving(self, index: int) -> float:
        """How much further from the wanted share the classes of a group get when it changes sides."""
        direction = -1 if self.in_train[index] else 1
        change = 0.0
        for name, count in self.groups[index].counts.items():
            error = self.train_images[name] - self.train_fraction * self.images[name]
            change += (abs(error + direction * count) - abs(error)) / self.images[name]
        return change
