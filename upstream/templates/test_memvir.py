import unittest

import torch
from pytorch_metric_learning import losses, miners, reducers
from pytorch_metric_learning.losses.memvir import register_loss, specs
from pytorch_metric_learning.utils import common_functions as c_f

from .. import TEST_DEVICE, TEST_DTYPES

C, D = 5, 6
TOLERANCE = {torch.float16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-8}


def make(cls, **kwargs):
    def loss(num_classes):
        return cls(num_classes=num_classes, embedding_size=D, **kwargs)

    return loss


# What makes the loss, its parameter, and the number of centers that a class has.
LOSSES = {
    "ArcFaceLoss": (make(losses.ArcFaceLoss, scale=16), "W", 1),
    "CosFaceLoss": (make(losses.CosFaceLoss, scale=16), "W", 1),
    "LargeMarginSoftmaxLoss": (make(losses.LargeMarginSoftmaxLoss), "W", 1),
    "NormalizedSoftmaxLoss": (make(losses.NormalizedSoftmaxLoss), "W", 1),
    "P2SGradLoss": (
        lambda num_classes: losses.P2SGradLoss(D, num_classes),
        "weight",
        1,
    ),
    "ProxyAnchorLoss": (make(losses.ProxyAnchorLoss), "proxies", 1),
    "ProxyNCALoss": (make(losses.ProxyNCALoss, softmax_scale=3), "proxies", 1),
    "SoftTripleLoss": (make(losses.SoftTripleLoss, centers_per_class=3), "fc", 3),
    "SphereFaceLoss": (make(losses.SphereFaceLoss), "W", 1),
    "SubCenterArcFaceLoss": (
        make(losses.SubCenterArcFaceLoss, scale=16, sub_centers=2),
        "W",
        2,
    ),
}


def rows(name, weight):
    return weight if LOSSES[name][1] == "proxies" else weight.t()


class Naive:
    """Keeps every step, and builds the loss anew with as many classes as it meets."""

    def __init__(self, name, num_steps, step_gap, warmup_steps):
        self.name, self.snapshots = name, []
        self.num_steps, self.distance = num_steps, step_gap + 1
        self.warmup_steps = warmup_steps

    def __call__(self, embeddings, labels, weights):
        make_loss, parameter, num_centers = LOSSES[self.name]
        t = len(self.snapshots)
        steps = [t - k * self.distance for k in range(1, self.num_steps + 1)]
        past = [self.snapshots[s] for s in steps if s >= self.warmup_steps]
        self.num_virtual_steps = len(past)
        x = embeddings.double().requires_grad_()
        y = [labels] + [past[k][1] + (k + 1) * C for k in range(len(past))]
        w = torch.cat([weights.double()] + [snapshot[2] for snapshot in past])
        loss = make_loss(len(w) // num_centers).to(TEST_DEVICE, torch.double)
        setattr(loss, parameter, torch.nn.Parameter(rows(self.name, w)))
        value = loss(torch.cat([x] + [s[0] for s in past]), torch.cat(y))
        value.backward()
        grad = rows(self.name, getattr(loss, parameter).grad)[: len(weights)]
        used = rows(self.name, getattr(loss, parameter).detach())[: len(weights)]
        self.snapshots.append((x.detach(), labels, used.clone()))
        return value.detach(), x.grad, grad


def batches(num_batches, dtype):
    """Of 2 to 6 embeddings each, of unit length."""
    torch.manual_seed(0)
    for size in torch.randint(2, 7, (num_batches,)).tolist():
        embeddings = torch.nn.functional.normalize(torch.randn(size, D))
        labels = torch.randint(C, (size,))
        yield embeddings.to(TEST_DEVICE, dtype), labels.to(TEST_DEVICE)


def memvir(name, dtype, *args):
    torch.manual_seed(0)
    return losses.MemVir(LOSSES[name][0](C).to(TEST_DEVICE, dtype), *args)


@unittest.skipUnless(
    hasattr(torch.nn.Module, "get_extra_state"), "MemVir needs torch >= 1.10"
)
class TestMemVir(unittest.TestCase):
    def test_every_loss_is_tested(self):
        self.assertEqual(sorted(LOSSES), losses.MemVir.supported_losses())

    def test_against_naive_implementation(self):
        for dtype in TEST_DTYPES:
            for name in LOSSES:
                for settings in [(1, 0, 0), (2, 1, 3)]:
                    with self.subTest(loss=name, dtype=dtype, settings=settings):
                        self.helper_naive(name, dtype, *settings)

    def helper_naive(self, name, dtype, num_steps, step_gap, warmup_steps):
        settings = num_steps, step_gap, warmup_steps
        loss_func, naive = memvir(name, dtype, *settings), Naive(name, *settings)
        weight = getattr(loss_func.loss, LOSSES[name][1])
        total = warmup_steps + 3 * num_steps * (step_gap + 1) + 2
        for embeddings, labels in batches(total, dtype):
            correct = naive(embeddings, labels, rows(name, weight.detach()))
            embeddings.requires_grad_()
            weight.grad = None
            loss = loss_func(embeddings, labels)
            loss.backward()
            found = loss.detach(), embeddings.grad, rows(name, weight.grad)
            for a, b in zip(found, correct):
                error = (a.double() - b).norm()
                self.assertLessEqual(error, TOLERANCE[dtype] * (b.norm() + 1e-3))
            self.assertEqual(loss_func.num_virtual_steps, naive.num_virtual_steps)
            with torch.no_grad():
                weight -= 0.05 * weight.grad
        self.assertEqual(loss_func.num_virtual_steps, num_steps)

    def test_both_ways_of_computing_are_one(self):
        miner, compared = miners.TripletMarginMiner(margin=0.5), set()
        for name in LOSSES:
            for reducer in [reducers.MeanReducer(), reducers.AvgNonZeroReducer()]:
                exact, slow = [memvir(name, torch.double, 2, 1) for _ in range(2)]
                if not specs.has_logits(exact.loss):
                    continue
                compared.add(name)
                slow.loss.register_forward_hook(lambda *_: None)
                exact.loss.reducer = slow.loss.reducer = reducer
                for step, (embeddings, labels) in enumerate(batches(8, torch.double)):
                    mined = miner(embeddings, labels)
                    if step == 5 and name == "CosFaceLoss":
                        exact.loss.margin = slow.loss.margin = 0.1
                    found = []
                    for loss_func in (exact, slow):
                        x = embeddings.clone().requires_grad_()
                        loss_func(x, labels, mined).backward()
                        found += [x.grad, next(loss_func.parameters()).grad]
                    self.assertTrue(torch.allclose(found[0], found[2], rtol=1e-9))
                    self.assertTrue(torch.allclose(found[1], found[3], rtol=1e-9))
        if not c_f.COLLECT_STATS:  # of which only the slow way knows
            self.assertEqual(set(LOSSES) - compared, {"P2SGradLoss", "ProxyAnchorLoss"})

    def test_is_its_inner_loss_without_gradients(self):
        for dtype in TEST_DTYPES:
            loss_func = memvir("CosFaceLoss", dtype, 2, 1)
            for embeddings, labels in batches(6, dtype):
                loss_func(embeddings, labels)
            correct = loss_func.loss(embeddings, labels)
            with torch.no_grad():
                self.assertTrue(torch.equal(loss_func(embeddings, labels), correct))
            loss_func.eval()
            self.assertTrue(torch.equal(loss_func(embeddings, labels), correct))
            loss_func.train()
            self.assertEqual(loss_func.step, 6)
            self.assertFalse(torch.equal(loss_func(embeddings, labels), correct))

    def test_checkpoint(self):
        for dtype in TEST_DTYPES:
            a, b = [memvir("CosFaceLoss", dtype, 2, 1) for _ in range(2)]
            for step, (embeddings, labels) in enumerate(batches(12, dtype)):
                if step == 5:
                    b.load_state_dict(a.state_dict())
                correct = a(embeddings, labels)
                if step >= 5:
                    self.assertTrue(torch.equal(b(embeddings, labels), correct))
                    self.assertEqual(b.num_virtual_steps, 2)
            with self.assertRaises(ValueError):
                memvir("CosFaceLoss", dtype, 3, 1).load_state_dict(a.state_dict())

    def test_bad_batches_are_not_remembered(self):
        loss_func = memvir("CosFaceLoss", torch.float32, 1, 0)
        met = []
        for step, (embeddings, labels) in enumerate(batches(4, torch.float32)):
            if step == 1:
                embeddings[0] = float("nan")
            loss_func(embeddings, labels)
            met.append(loss_func.num_virtual_steps)
        self.assertEqual(met, [0, 1, 0, 1])

    def test_what_is_refused(self):
        for loss in [losses.ContrastiveLoss(), losses.TripletMarginLoss()]:
            with self.assertRaisesRegex(ValueError, "does not support"):
                losses.MemVir(loss, 2, 1)
        for label in [-1, C]:
            for embeddings, labels in batches(1, torch.float32):
                labels[0] = label
                with self.assertRaises(ValueError):
                    memvir("CosFaceLoss", torch.float32, 2, 1)(embeddings, labels)

    def test_register_loss(self):
        class Softmax(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(3, D))

            def forward(self, embeddings, labels, indices_tuple=None):
                logits = embeddings @ self.weight.t()
                return torch.nn.functional.cross_entropy(logits, labels)

        with self.assertRaises(ValueError):
            losses.MemVir(Softmax(), 1, 0)
        register_loss(Softmax, parameter="weight", class_dim=0)
        self.addCleanup(specs.SPECS.pop, Softmax)
        loss_func = losses.MemVir(Softmax(), 1, 0)
        for _ in range(2):
            loss_func(torch.randn(4, D), torch.arange(4) % 3)
        self.assertEqual(loss_func.num_virtual_steps, 1)


if __name__ == "__main__":
    unittest.main()
