"""A step by `row_softmax`: from a PML loss and the memory to its problem, and back."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.losses import ProxyNCALoss
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..class_weights import ClassWeightLayout
from ..form import Form, unit
from ..memory import SnapshotMemory
from ..snapshots import Notes, Row
from .eager import chunk_steps
from .outcome import Outcome
from .own_forward import needs_own_forward
from .reduction import Reduction, regularisation
from .row_softmax import Problem, row_softmax
from .softmax_forms import SoftmaxForm, form_of


class RowSoftmax:
    """Losses that are a softmax over classes, row by row; see row_softmax.py.

    The memory holds row vectors and class vectors: nothing is normalised twice.
    """

    name = "row_softmax"

    def __init__(
        self,
        loss: Any,
        layout: ClassWeightLayout,
        form: SoftmaxForm,
        chunk_steps: int | None,
    ) -> None:
        self.loss = loss
        self.layout = layout
        self.form = form
        self.chunk_steps = chunk_steps

    @classmethod
    def for_loss(
        cls, loss: Any, layout: ClassWeightLayout, chunk_steps: int | None
    ) -> RowSoftmax | None:
        """The algorithm, if the loss as it is set up now is one for it."""
        form = form_of(loss)
        if (
            form is None
            or not Reduction.is_supported(loss.reducer)
            or needs_own_forward(loss, layout.get(loss))
            or not form.fits
        ):
            return None
        return cls(loss, layout, form, chunk_steps)

    @property
    def memory_form(self) -> Form:
        return Form(
            self.name,
            self.layout.num_classes(self.loss),
            self.layout.num_centers(self.loss),
            self.form.row_norm,
            self.form.class_norm,
        )

    def __call__(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Any,
        memory: SnapshotMemory,
        slot: int,
    ) -> Outcome:
        self.layout.before_loss(self.loss, embeddings)
        weight = self.layout.get(self.loss)
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(weight.dtype)
            row = memory.row(slot, embeddings.device)
            if row.filled and row.key != self.form.key:
                row = memory.renew(slot, self.form.key, self.renew_notes)
            weights = weight if self.layout.class_dim == 0 else weight.t()
            rows = unit(embeddings, self.form.row_norm)
            classes = unit(weights, self.form.class_norm)
            target = self.target(rows, classes, labels)
            problem = Problem(
                labels,
                row,
                self.form.centers,
                self.form.scale,
                self.reduction(embeddings, labels, indices_tuple, row),
                self.chunk_steps,
            )
            value, blocks, insight = row_softmax(
                self.form.scale * rows, classes, target, problem
            )
            value = value + regularisation(self.loss, weights, embeddings, labels)
        rows = rows.detach()

        def notes() -> Notes:
            if row.own_class_weights is None:
                return blocks.notes(target, row.column, self.form.key)
            return self.notes_of(rows, labels, row, blocks.of_actual)

        return Outcome(value, classes.detach(), rows, notes, insight)

    def target(
        self, rows: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Target logits (B,), margin included."""
        num_centers = self.layout.num_centers(self.loss)
        classes = classes.reshape(-1, num_centers, classes.shape[1])
        own = classes.index_select(0, labels)
        products = self.form.scale * (own * rows.unsqueeze(1)).sum(dim=2)
        logits = self.form.centers.logits(products)[0].view(len(rows), -1)
        return self.form.target(logits[:, 0], rows, own)

    def reduction(
        self, embeddings: torch.Tensor, labels: torch.Tensor, mined: Any, row: Row
    ) -> Reduction:
        """Actual rows with their miner's weight, and virtual rows with weight 1."""
        weights = lmu.convert_to_weights(
            mined,
            labels,
            dtype=embeddings.dtype,
            using_ref=isinstance(self.loss, ProxyNCALoss),
        )
        virtual = row.labels.flatten()[row.real]
        return Reduction(
            self.loss,
            embeddings,
            torch.cat([labels, virtual.to(labels)]),
            torch.cat([weights, weights.new_ones(len(virtual))]),
        )

    @torch.no_grad()
    def notes_of(
        self, rows: torch.Tensor, labels: torch.Tensor, row: Row, met: torch.Tensor
    ) -> Notes:
        """Those of a snapshot whose class weights are an earlier one's.

        It costs N + 1 blocks that no step computes else: its rows, and those of the
        snapshots it met, against these class weights.

        Args:
            met: (B, N), lse of its rows over each cell's class weights.
        """
        assert row.own_class_weights is not None
        with torch.autocast(rows.device.type, enabled=False):
            classes = row.own_class_weights
            against, (target, own) = met.clone(), self.blocks(rows, classes, labels)
            against[:, row.column] = own
            of_others = against.new_zeros(row.labels.shape)
            for chunk in row.chunks(chunk_steps(self.chunk_steps, row, rows, classes)):
                of_chunk = row.embeddings[chunk].flatten(0, 1)
                lse = self.blocks(of_chunk, classes)[1]
                of_others[chunk] = lse.view(of_others[chunk].shape)
        return Notes(target, against, of_others, self.form.key)

    @torch.no_grad()
    def renew_notes(self, row: Row) -> None:
        """All blocks of virtual rows against virtual classes from scratch, in place."""
        for a in row.filled:
            size = row.batch_sizes[a]
            rows, labels = row.embeddings[a, :size], row.labels[a, :size]
            for b in row.filled:
                its_own = labels if a == b else None
                target, lse = self.blocks(rows, row.class_weights[b], its_own)
                row.against[a, :size, b] = lse
                if a == b:
                    row.own[a, :size] = target

    def blocks(
        self,
        rows: torch.Tensor,
        classes: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of rows (B, D) over class vectors (C K, D): target logits and log-sum-exps.

        Without labels the classes are not the rows' own, and there are no targets.
        """
        dtype = self.layout.get(self.loss).dtype
        rows, classes = rows.to(dtype), classes.to(dtype)
        exact = torch.promote_types(dtype, torch.float32)
        logits = self.form.centers.logits(self.form.scale * rows @ classes.t())[0]
        logits = logits.to(exact)
        target = logits[:, 0]
        if labels is not None:
            target = self.target(rows, classes, labels).to(exact)
            logits[torch.arange(len(rows), device=rows.device), labels] = target
        return target, logits.logsumexp(dim=1)
