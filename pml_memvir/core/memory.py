"""The memory: tracks of snapshots. It knows nothing of losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from .grid import VECTORS, spoilt
from .schedule import Schedule
from .snapshots import Notes, Past, Snapshots
from .storage import Storage, fill


class SnapshotMemory:
    """Tracks of N cells, a snapshot a cell; calls that meet share a track.

    A step reads its track whole; its own snapshot then replaces the oldest cell. Its
    place follows from the slot alone (see `Schedule`), so a cell left empty keeps all
    ages right.

    Not a torch.nn.Module, and its tensors are no buffers: broadcasting them between
    processes would be wrong, and their shape is not known before the first step.

    Args:
        schedule: says which cell is whose.
        dtype: of stored embeddings and class weights; default that of the first
            class weights, and of later ones where that changes.
        device: where those are stored: "same" as they come, or "cpu".
    """

    def __init__(
        self, schedule: Schedule, dtype: torch.dtype | None, device: str
    ) -> None:
        self.schedule = schedule
        self.storage = Storage(schedule, dtype, device)
        self.num_renewed = 0  # tracks whose notes were made anew

    def batch_sizes(self, slot: int) -> list[int]:
        """Of the snapshots that a slot meets, by cell; 0 where there is none."""
        track, cell = self.schedule.place(slot)
        sizes: list[int] = self.storage.contents.batch_sizes[track].tolist()
        if self.schedule.has_spare_cell:
            sizes[cell] = 0  # its own snapshot, or one that is too old
        return sizes

    def num_met(self, slot: int) -> int:
        """Snapshots that a slot meets."""
        return sum(map(bool, self.batch_sizes(slot)))

    def past(self, slot: int, device: torch.device | None = None) -> Past:
        """What a slot meets; before anything is stored, nothing."""
        track, cell = self.schedule.place(slot)
        tensors, cells = self.storage.contents.tensors, self.schedule.num_cells
        if tensors:
            views = {name: tensors[name][track] for name in ("labels", "terms", "lse")}
            views |= self.storage.read(self._tracks(slot))
        else:
            none = torch.zeros(cells, 0, 1, device=device)
            views = {**dict.fromkeys(VECTORS, none), "lse": none}
            views |= dict.fromkeys(("labels", "terms"), none[:, :, 0])
        weights = views["class_weights"][cell] if self.has_weights(slot) else None
        return Past(
            **views,
            batch_sizes=tuple(self.batch_sizes(slot)),
            cell=cell,
            shared_class_weights=weights,
            settings=int(self.storage.contents.note_settings[track]),
        )

    def renew(self, slot: int, settings: int, renew: Callable[[Past], None]) -> None:
        """Have the notes of a slot's track made anew, in place.

        Args:
            renew: gets the track with all it holds, what the slot must not meet, too.
        """
        track, _ = self.schedule.place(slot)
        self.storage.contents.note_settings[track] = 0  # until all of them are
        sizes = tuple(self.storage.contents.batch_sizes[track].tolist())
        renew(replace(self.past(slot), batch_sizes=sizes))
        self.storage.contents.note_settings[track] = settings
        self.num_renewed += 1

    def snapshots(self, slot: int) -> Snapshots | None:
        """Copies of the snapshots that a slot meets, or None."""
        if not self.num_met(slot):
            return None
        past = self.past(slot)
        slots = (self.schedule.last_slot(cell, before=slot) for cell in past.filled)
        return Snapshots(
            past.class_weights.index_select(0, past.filled_index),
            past.embeddings.index_select(0, past.filled_index),
            past.labels.index_select(0, past.filled_index),
            tuple(past.batch_sizes[cell] for cell in past.filled),
            tuple(self.schedule.step_of_slot(s) for s in slots),
        )

    @torch.no_grad()
    def cosines(
        self, slot: int, now: torch.Tensor, which: slice = slice(None)
    ) -> list[float]:
        """Mean cosines of class weights (C K, D) and those that a slot meets.

        Args:
            which: of the snapshots, from the newest on.
        """
        met = [cell for cell, size in enumerate(self.batch_sizes(slot)) if size]
        last = self.schedule.last_slot
        cells = sorted(met, key=lambda cell: -last(cell, before=slot))[which]
        if not cells:
            return []
        old, cosine = self.past(slot).class_weights, torch.cosine_similarity
        found = [cosine(now, old[cell].to(now), dim=1).mean() for cell in cells]
        return torch.stack(found).tolist()

    def remember(
        self,
        slot: int,
        class_weights: torch.Tensor,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        notes: Notes | None = None,
    ) -> None:
        """Store a copy of a slot's snapshot in the place of the oldest of its track.

        There is room for it: see `Storage.make_room`. Done again it changes nothing.
        A snapshot that belongs to spoilt class weights is left out.

        Args:
            class_weights: (C K, D), detached. They are left out where the snapshot
                belongs to those of an earlier one.
            embeddings: (B, D), detached.
            labels: (B,).
            notes: what the algorithm wants to be kept beside the snapshot.
        """
        place = track, cell = self.schedule.place(slot)
        contents, tensors = self.storage.contents, self.storage.contents.tensors
        contents.batch_sizes[place] = 0  # until all of it is there
        if self.is_spoilt(slot):
            return
        if not self.has_weights(slot):
            at = self.schedule.weights_track(slot), cell
            self.storage.write("class_weights", at, class_weights)
            if self.schedule.class_weights_every:
                contents.stretches[at] = self.schedule.stretch(slot)
        self.storage.write("embeddings", place, embeddings)
        fill(tensors["labels"][place], labels)
        if notes is not None:
            fill(tensors["terms"][place], notes.terms)
            # In this order: over itself, the snapshot has what it noted.
            fill(tensors["lse"][track, :, :, cell].t(), notes.lse_of_met.t())
            fill(tensors["lse"][place], notes.lse)
            contents.note_settings[track] = notes.settings
        contents.versions = contents.versions_now()
        contents.batch_sizes[place] = len(labels)

    def forget(self, slot: int) -> None:
        """Leave a hole at a slot: it counts, and is never met again."""
        self.storage.contents.batch_sizes[self.schedule.place(slot)] = 0

    def spoil_class_weights(self, slot: int) -> None:
        """Leave holes at all slots, also later, that share a slot's class weights."""
        if self.has_weights(slot):
            contents, (_, cell) = self.storage.contents, self.schedule.place(slot)
            weights_track = self.schedule.weights_track(slot)
            for track, sizes in enumerate(contents.batch_sizes):
                if self.schedule.weights_track(track) == weights_track:
                    sizes[cell] = 0
            contents.spoil(weights_track, cell)

    def fetch_ahead(self, slot: int) -> None:
        """Begin to copy what this slot will meet, if it lies on another device."""
        if self.num_met(slot):
            self.storage.fetch(self._tracks(slot))

    def _tracks(self, slot: int) -> dict[str, int]:
        """By the name of vectors, their track."""
        tracks = self.schedule.weights_track(slot), self.schedule.place(slot)[0]
        return dict(zip(VECTORS, tracks))

    def opens_stretch(self, slot: int) -> bool:
        """Whether a slot's class weights would be kept for those after it, too."""
        shares = self.schedule.class_weights_every is not None
        return shares and not (self.has_weights(slot) or self.is_spoilt(slot))

    def has_weights(self, slot: int) -> bool:
        """Whether an earlier snapshot has brought the class weights of this slot's."""
        return self._stretch_at(slot) == self.schedule.stretch(slot)

    def is_spoilt(self, slot: int) -> bool:
        """Whether these have NaN or infinity: no snapshot may belong to them."""
        return self._stretch_at(slot) == spoilt(self.schedule.stretch(slot))

    def _stretch_at(self, slot: int) -> int:
        """What `Contents.stretches` says where a slot's class weights are; -1: none."""
        if self.schedule.class_weights_every is None:
            return -1
        at = self.schedule.weights_track(slot), self.schedule.place(slot)[1]
        return int(self.storage.contents.stretches[at])
