"""Names that PML and PyTorch have, and that no config can make work here."""

from __future__ import annotations

_PAIRS = "items here are one image and its label, not two images"
_ONE_LEVEL = "labels here have one level"
_REFERENCES = "it needs reference embeddings, which no trainer here gives it"
_SCHEDULERS = "it takes other schedulers, which are no values of a config"
_FUNCTION = "it takes a function, which is no value of a config"
_TRANSFORMS = "it takes other transforms, which are no values of a config"
_TENSORS = (
    "it makes or takes tensors; images stay PIL images until what the trunk expects, "
    "which comes after all transforms by itself"
)
_SEVERAL = "it makes several images of one"
_BASE = "it is what others are made of"

# By kind and name, and why.
UNUSABLE: dict[str, dict[str, str]] = {
    "loss": {
        "DynamicSoftMarginLoss": "PML 2.9's fails in its second step",
        "SelfSupervisedLoss": _REFERENCES,
        "VICRegLoss": _REFERENCES,
    },
    "sampler": {
        "HierarchicalSampler": _ONE_LEVEL,
        "TuplesToWeightsSampler": "it needs the model, which is no value of a config",
    },
    "trainer": {
        "TwoStreamMetricLoss": _PAIRS,
        "DeepAdversarialMetricLearning": (
            "models here are trunk, embedder and classifiers, there is no generator"
        ),
        "UnsupervisedEmbeddingsUsingAugmentations": "PML 2 has it no more",
    },
    "tester": {
        "WithSameParentLabelTester": _ONE_LEVEL,
        "GlobalTwoStreamEmbeddingSpaceTester": _PAIRS,
    },
    "optimizer": {
        "LBFGS": "it computes the loss several times a step, PML's trainers once",
        "Optimizer": _BASE,
        "SparseAdam": "it takes sparse gradients only, and here they are dense",
        "swap_in_optimizer_params_and_state": "it is no optimizer",
    },
    "scheduler": {
        "ChainedScheduler": _SCHEDULERS,
        "LRScheduler": _BASE,
        "LambdaLR": _FUNCTION,
        "MultiplicativeLR": _FUNCTION,
        "SequentialLR": _SCHEDULERS,
    },
    "transform": {
        **dict.fromkeys(("Compose", "RandomApply", "RandomChoice"), _TRANSFORMS),
        "RandomOrder": _TRANSFORMS,
        **dict.fromkeys(("FiveCrop", "TenCrop"), _SEVERAL),
        **dict.fromkeys(("ConvertImageDtype", "LinearTransformation"), _TENSORS),
        **dict.fromkeys(("Normalize", "PILToTensor", "RandomErasing"), _TENSORS),
        **dict.fromkeys(("ToPILImage", "ToTensor"), _TENSORS),
        "Lambda": _FUNCTION,
    },
}
