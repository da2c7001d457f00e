"""In what form the memory holds snapshots."""

from __future__ import annotations

from dataclasses import dataclass

# Of what each algorithm keeps numbers beside a snapshot: its anchors.
ANCHORS = {
    "row_softmax": "embeddings",
    "proxy_anchor": "class_weights",
    "concatenation": None,
}
ALGORITHMS = tuple(ANCHORS)


@dataclass(frozen=True)
class Form:
    """How snapshots lie in the memory.

    Attributes:
        algorithm: whose notes are kept beside them.
        num_classes, num_centers: C and K.
        embeddings, class_weights: p of the norm by which they have unit length; None:
            as they came.
    """

    algorithm: str
    num_classes: int
    num_centers: int
    embeddings: float | None = None
    class_weights: float | None = None

    def refusal(self, other: Form) -> str:
        """Why what is in this form cannot be brought to another one, or ""."""
        mine = self.num_classes, self.num_centers
        if mine != (other.num_classes, other.num_centers):
            return (
                "it holds {} classes of {} centres, the loss now has {} of {}".format(
                    *mine, other.num_classes, other.num_centers
                )
            )
        for name in ("embeddings", "class_weights"):
            if getattr(other, name) is None and getattr(self, name) is not None:
                return (
                    f"it holds {name.replace('_', ' ')} at unit length "
                    f"({self.algorithm}), and the loss now needs them as they were "
                    f"({other.algorithm})"
                )
        return ""
