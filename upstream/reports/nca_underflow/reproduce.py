"""ProxyNCALoss and NCALoss: rows whose probability underflows are left out."""

from __future__ import annotations

import sys

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import NCALoss, ProxyNCALoss

faulty = False


def check(title: str, expected: list[float], actual: list[float]) -> None:
    global faulty
    wrong = not torch.allclose(torch.tensor(actual), torch.tensor(expected))
    faulty |= wrong
    print(f"{title}\n  expected {expected}\n  actual   {actual}")


def compare(title: str, loss: ProxyNCALoss, embeddings: torch.Tensor) -> None:
    """Against cross entropy over the negative squared distances."""
    labels = torch.ones(len(embeddings), dtype=torch.long)
    results = []
    for get_loss in (
        lambda x: torch.nn.functional.cross_entropy(
            -loss.softmax_scale * loss.distance(x, loss.proxies), labels
        ),
        lambda x: loss(x, labels),
    ):
        x = embeddings.clone().requires_grad_()
        value = get_loss(x)
        value.backward()
        results.append([round(value.item(), 3), round(x.grad[0].norm().item(), 3)])
    check(f"{title}: loss, norm of row 0's gradient", *results)


# Row 0 lies on the proxy of a wrong class, row 1 on that of its own.
rows = torch.eye(2, 4)
loss = ProxyNCALoss(3, 4, softmax_scale=60)
loss.proxies.data = torch.eye(3, 4)
compare("ProxyNCALoss, softmax_scale=60", loss, rows)
compare("ProxyNCALoss, softmax_scale=60, row 0 alone", loss, rows[:1])

unnormalized = LpDistance(power=2, normalize_embeddings=False)
loss = ProxyNCALoss(3, 4, distance=unnormalized)
loss.proxies.data = 8 * torch.eye(3, 4)
compare("ProxyNCALoss, not normalized, softmax_scale=1", loss, 8 * rows)

# Each row's only positive is at squared distance 4, the negatives are at 2.
value = NCALoss(softmax_scale=60)(
    torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), torch.tensor([0, 0, 1, 1])
)
check("NCALoss, softmax_scale=60", [120.693], [round(value.item(), 3)])
sys.exit(int(faulty))
