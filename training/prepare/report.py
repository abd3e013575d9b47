"""What a preparation made, and what it left out and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from training.prepare.dataset import Share


@dataclass(frozen=True)
class Prepared:
    """The outcome.

    Attributes
    ----------
    shares : by split
    left_out : (what, why)
    remarks : sentences that the user should read
    """

    shares: Mapping[str, Share]
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Tell it in plain text."""
        for what, why in self.left_out:
            yield f"left out: {what}: {why}"
        yield from self.remarks
        yield "split   patients (with tumour)   volumes (with tumour)   slices (with tumour)"
        for name, share in self.shares.items():
            pairs = (share.patients, share.volumes, share.slices)
            cells = [f"{all_:>6} ({some})" for all_, some in pairs]
            yield f"{name:<8}{cells[0]:<25}{cells[1]:<24}{cells[2]}"
        empty = [name for name, share in self.shares.items() if share.slices[0] == 0]
        if empty:
            yield (
                f"There is nobody in {' and '.join(empty)}: a training needs patients in train and val, "
                "an evaluation in test."
            )
