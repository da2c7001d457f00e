"""The losses of our own."""

import pytest
import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import reducers, regularizers
from pytorch_metric_learning.distances import DotProductSimilarity

from pml_memvir import losses


@pytest.mark.parametrize("cls", [losses.NormSoftmax, losses.ProxyNCA, losses.Softmax])
def test_our_losses_use_embeddings_as_given(cls):
    loss = cls(3, 4).double()
    x, y = 7 * torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 0, 1])
    W = (
        loss.W
        if cls is losses.Softmax
        else torch.nn.functional.normalize(loss.W, dim=0)
    )
    if cls is losses.ProxyNCA:
        logits = -12 * torch.cdist(x, W.t()) ** 2
    else:
        logits = (23 if cls is losses.NormSoftmax else 1) * (x @ W)
    expected = torch.nn.functional.cross_entropy(logits, y)
    assert torch.allclose(loss(x, y), expected, rtol=1e-12)
    assert torch.allclose(
        loss.get_logits(x).log_softmax(1), logits.log_softmax(1), rtol=1e-9
    )


@pytest.mark.parametrize("cls", [losses.NormSoftmax, losses.ProxyNCA, losses.Softmax])
def test_our_losses_refuse_distances_that_normalise(cls):
    with pytest.raises(ValueError, match="normalize_embeddings=False.*, got Dot.*True"):
        cls(3, 4, distance=DotProductSimilarity())


def test_our_losses_initialisation():
    """On a (D, C) tensor, so that fan-in is C and fan-out is D."""
    torch.manual_seed(0)
    bound = 1 / 100**0.5
    for cls in (losses.NormSoftmax, losses.Softmax):
        weight = cls(num_classes=100, embedding_size=400).W
        assert weight.shape == (400, 100)
        assert 0.99 * bound < weight.abs().max() <= bound
    weight = losses.ProxyNCA(num_classes=100, embedding_size=400).W
    assert abs(float(weight.detach().std(correction=0)) * (400 / 2) ** 0.5 - 1) < 0.02


def test_our_proxy_nca_keeps_rows_that_pml_drops():
    """PML's takes the logarithm of a softmax, and leaves rows out where that is 0."""
    x, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    own = losses.ProxyNCA(2, 2, scale=30)
    theirs = pml.ProxyNCALoss(2, 2, softmax_scale=30)
    own.W.data = torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    theirs.proxies.data = own.W.data.t()
    assert theirs(x, labels) == 0  # row 0, which should cost 120, is left out
    assert own(x, labels) == 60


@pytest.mark.parametrize("cls", [losses.NormSoftmax, losses.ProxyNCA])
def test_our_losses_scale_must_be_positive(cls):
    with pytest.raises(ValueError, match="scale must be > 0, got 0"):
        cls(3, 4, scale=0)


@pytest.mark.parametrize("mined", [None, ([0, 0, 1], [1, 1, 2], [3, 4, 3])])
def test_our_losses_are_losses_of_pml(mined):
    """Miner weights, regularisers and reducers do what they do in PML's own."""
    mined = mined and tuple(torch.tensor(indices) for indices in mined)
    kwargs = {
        "weight_regularizer": regularizers.LpRegularizer(p=1),
        "embedding_regularizer": regularizers.LpRegularizer(power=2),
        "reducer": reducers.SumReducer(),
    }
    own = losses.NormSoftmax(3, 4, scale=7.0, **kwargs)
    distance = DotProductSimilarity(normalize_embeddings=False)
    theirs = pml.NormalizedSoftmaxLoss(3, 4, 1 / 7, distance=distance, **kwargs)
    theirs.W = own.W
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    assert torch.allclose(own(x, y, mined), theirs(x, y, mined))
    assert mined is None or not torch.allclose(own(x, y, mined), own(x, y))


def test_our_losses_record_their_settings():
    assert losses.Softmax(3, 4)._record_these == ["num_classes", "embedding_size"]
    names = ["num_classes", "embedding_size", "scale"]
    assert losses.NormSoftmax(3, 4)._record_these == names
    assert losses.ProxyNCA(3, 4)._record_these == names
