"""MemVir against a naive implementation, which keeps all snapshots it has taken."""

import unittest

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.losses import MemVir
from pytorch_metric_learning.losses.memvir import IS_SUPPORTED, register_loss
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

from tests.reference import NaiveMemVir, pml_inner, relative_error

from .. import TEST_DEVICE, TEST_DTYPES

NUM_CLASSES = 5
EMBEDDING_SIZE = 6
TOLERANCE = {torch.float16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-8}


def make(cls, **kwargs):
    def loss(num_classes):
        return cls(num_classes=num_classes, embedding_size=EMBEDDING_SIZE, **kwargs)

    return loss


def make_p2s_grad(num_classes):
    return losses.P2SGradLoss(EMBEDDING_SIZE, num_classes)


# What makes the loss, its parameter, the dimension that counts classes, and the number
# of centers that a class has.
LOSSES = {
    "ArcFaceLoss": (make(losses.ArcFaceLoss, scale=16), "W", 1, 1),
    "CosFaceLoss": (make(losses.CosFaceLoss, scale=16), "W", 1, 1),
    "LargeMarginSoftmaxLoss": (make(losses.LargeMarginSoftmaxLoss), "W", 1, 1),
    "NormalizedSoftmaxLoss": (make(losses.NormalizedSoftmaxLoss), "W", 1, 1),
    "P2SGradLoss": (make_p2s_grad, "weight", 1, 1),
    "ProxyAnchorLoss": (make(losses.ProxyAnchorLoss), "proxies", 0, 1),
    "ProxyNCALoss": (make(losses.ProxyNCALoss, softmax_scale=3), "proxies", 0, 1),
    "SoftTripleLoss": (make(losses.SoftTripleLoss, centers_per_class=3), "fc", 1, 3),
    "SphereFaceLoss": (make(losses.SphereFaceLoss), "W", 1, 1),
    "SubCenterArcFaceLoss": (
        make(losses.SubCenterArcFaceLoss, scale=16, sub_centers=2),
        "W",
        1,
        2,
    ),
}


def batches(num_batches, dtype):
    """Of 2 to 6 embeddings each, of unit length."""
    torch.manual_seed(0)
    for size in torch.randint(2, 7, (num_batches,)).tolist():
        embeddings = torch.nn.functional.normalize(torch.randn(size, EMBEDDING_SIZE))
        labels = torch.randint(NUM_CLASSES, (size,))
        yield embeddings.to(TEST_DEVICE, dtype), labels.to(TEST_DEVICE)


def cos_face(dtype, **kwargs):
    torch.manual_seed(0)
    loss = losses.CosFaceLoss(NUM_CLASSES, EMBEDDING_SIZE, scale=16)
    return MemVir(loss.to(TEST_DEVICE, dtype), 2, 1, **kwargs)


@unittest.skipUnless(IS_SUPPORTED, "torch or Python is too old for MemVir")
class TestMemVir(unittest.TestCase):
    def test_every_loss_is_tested(self):
        self.assertEqual(sorted(LOSSES), MemVir.supported_losses())

    def test_against_naive_implementation(self):
        for dtype in TEST_DTYPES:
            for name in LOSSES:
                for algorithm in ["auto", "concatenation"]:
                    for num_steps, step_gap in [(1, 0), (2, 1)]:
                        with self.subTest(
                            loss=name, dtype=dtype, algorithm=algorithm, gap=step_gap
                        ):
                            self.helper_naive(
                                name, dtype, num_steps, step_gap, algorithm
                            )

    def helper_naive(self, name, dtype, num_steps, step_gap, algorithm):
        make_loss, parameter, class_dim, num_centers = LOSSES[name]

        def make_double(num_classes):
            return make_loss(num_classes).to(TEST_DEVICE, torch.double)

        torch.manual_seed(0)
        warmup = 3
        loss_func = MemVir(
            make_loss(NUM_CLASSES).to(TEST_DEVICE, dtype),
            num_steps,
            step_gap,
            warmup,
            algorithm=algorithm,
        )
        if algorithm == "auto" and name != "P2SGradLoss" and not c_f.COLLECT_STATS:
            self.assertNotEqual(loss_func.algorithm_used, "concatenation")
        naive = NaiveMemVir(
            pml_inner(make_double, parameter, class_dim, num_centers),
            NUM_CLASSES,
            num_steps,
            step_gap,
            warmup,
        )
        weight = getattr(loss_func, parameter)
        met = []
        total = warmup + 3 * num_steps * (step_gap + 1) + 2  # the memory wraps twice
        for embeddings, labels in batches(total, dtype):
            rows = weight.detach() if class_dim == 0 else weight.detach().t()
            correct = naive(embeddings.double(), labels, rows.double())
            embeddings.requires_grad_()
            weight.grad = None
            loss = loss_func(embeddings, labels)
            loss.backward()
            grad = weight.grad if class_dim == 0 else weight.grad.t()
            for computed, expected in [
                (loss.detach(), correct.loss),
                (embeddings.grad, correct.embedding_grad),
                (grad, correct.weight_grad),
            ]:
                error = relative_error(computed.double(), expected)
                self.assertLessEqual(error, TOLERANCE[dtype])
            self.assertEqual(loss_func.num_virtual_steps, correct.num_virtual_steps)
            met.append(loss_func.num_virtual_steps)
            with torch.no_grad():
                weight -= 0.05 * weight.grad
        self.assertEqual(met[: warmup + step_gap + 1], [0] * (warmup + step_gap + 1))
        self.assertEqual(met[-1], num_steps)

    def test_is_its_inner_loss_without_gradients(self):
        for dtype in TEST_DTYPES:
            loss_func = cos_face(dtype)
            for embeddings, labels in batches(6, dtype):
                loss_func(embeddings, labels)
            for embeddings, labels in batches(2, dtype):
                correct = loss_func.loss(embeddings, labels)
                self.assertFalse(torch.equal(loss_func(embeddings, labels), correct))
                step = loss_func.step
                with torch.no_grad():
                    self.assertTrue(torch.equal(loss_func(embeddings, labels), correct))
                loss_func.eval()
                self.assertTrue(torch.equal(loss_func(embeddings, labels), correct))
                loss_func.train()
                self.assertEqual(loss_func.step, step)

    def test_checkpoint(self):
        for dtype in TEST_DTYPES:
            loss_func, resumed = cos_face(dtype), cos_face(dtype)
            for step, (embeddings, labels) in enumerate(batches(9, dtype)):
                if step == 5:
                    resumed.load_state_dict(loss_func.state_dict())
                correct = loss_func(embeddings, labels)
                if step >= 5:
                    self.assertTrue(torch.equal(resumed(embeddings, labels), correct))
                    self.assertEqual(resumed.num_virtual_steps, 2)

    def test_labels_beyond_the_classes(self):
        embeddings, labels = next(batches(1, torch.float32))
        loss_func = cos_face(torch.float32).eval()
        for label in [-1, NUM_CLASSES]:
            labels[0] = label
            with self.assertRaises(ValueError):
                loss_func(embeddings, labels)

    def test_losses_without_class_weights(self):
        for loss in [losses.ContrastiveLoss(), losses.TripletMarginLoss()]:
            with self.assertRaisesRegex(ValueError, "does not support"):
                MemVir(loss, 2, 1)

    def test_register_loss(self):
        class Softmax(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(3, EMBEDDING_SIZE))

            def forward(self, embeddings, labels, indices_tuple=None):
                logits = embeddings @ self.weight.t()
                return torch.nn.functional.cross_entropy(logits, labels)

        with self.assertRaises(ValueError):
            MemVir(Softmax(), 1, 0)
        register_loss(Softmax, parameter="weight", class_dim=0)
        self.addCleanup(self.helper_forget, Softmax)
        loss_func = MemVir(Softmax(), 1, 0)
        for _ in range(2):
            loss_func(torch.randn(4, EMBEDDING_SIZE), torch.arange(4) % 3)
        self.assertEqual(loss_func.num_virtual_classes, 3)

    @staticmethod
    def helper_forget(cls):
        from pytorch_metric_learning.losses.memvir.pml import specs

        del specs._SPECS[cls]

    def test_epochs_to_steps(self):
        from pytorch_metric_learning.losses.memvir.pml.warmup import epochs_to_steps

        self.assertEqual(epochs_to_steps(3, range(7)), 21)

    def test_distributed_loss_wrapper(self):
        with self.assertRaisesRegex(TypeError, "DistributedDataParallel"):
            DistributedLossWrapper(cos_face(torch.float32))


@unittest.skipIf(IS_SUPPORTED, "torch and Python are new enough for MemVir")
class TestMemVirOnOldVersions(unittest.TestCase):
    def test_constructor_says_so(self):
        loss = losses.CosFaceLoss(NUM_CLASSES, EMBEDDING_SIZE)
        with self.assertRaisesRegex(ImportError, "MemVir needs"):
            MemVir(loss, 2, 1)
        self.assertIsInstance(DistributedLossWrapper(loss).loss, losses.CosFaceLoss)


if __name__ == "__main__":
    unittest.main()
