"""A step by `row_softmax`: from a PML loss and the memory to its problem, and back."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.losses import ProxyNCALoss
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..class_weights import ClassWeightLayout
from ..memory import SnapshotMemory
from ..snapshots import Row
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
                self.renew_notes(memory.whole_row(slot))
                memory.set_key(slot, self.form.key)
            rows, classes = self.form.rows(embeddings), self.form.classes()
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
            weights = weight if self.layout.class_dim == 0 else weight.t()
            value = value + regularisation(self.loss, weights, embeddings, labels)
        notes = blocks.notes(target, row.column, self.form.key)
        return Outcome(value, classes.detach(), rows.detach(), notes, insight)

    def target(
        self, rows: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Target logits (B,), margin included."""
        num_centers = self.layout.num_centers(self.loss)
        own = classes.view(-1, num_centers, classes.shape[1]).index_select(0, labels)
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
    def renew_notes(self, row: Row) -> None:
        """All blocks of virtual rows against virtual classes from scratch, in place."""
        scale, centers = self.form.scale, self.form.centers
        for a in row.filled:
            size = row.batch_sizes[a]
            rows = row.embeddings[a, :size].to(row.own.dtype)
            for b in row.filled:
                classes = row.class_weights[b].to(row.own.dtype)
                logits, _ = centers.logits(scale * rows @ classes.t())
                if a == b:
                    labels = row.labels[a, :size]
                    row.own[a, :size] = self.target(rows, classes, labels)
                    each = torch.arange(size, device=rows.device)
                    logits[each, labels] = row.own[a, :size]
                row.against[a, :size, b] = logits.logsumexp(dim=1)
