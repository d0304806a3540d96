"""Layers, losses, optimisers, LeNet and a training loop on fastconv's operations.

Names and shapes are PyTorch's, so that weights move both ways; see
:class:`~fastconv.nn.layers.Module` for how a layer of one's own looks.
"""

from . import init
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .layers import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Linear,
    MaxPool2d,
    MinPool2d,
    Module,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    SoftmaxPool2d,
    Tanh,
)
from .losses import CrossEntropyLoss, Loss, MSELoss
from .models import ACTIVATIONS, MODELS, POOLS, lenet, lenet_improved
from .optim import SGD, Adam, Optimizer
from .schedule import CosineAnnealing
from .summary import LayerSummary, Summary
from .train import (
    Callback,
    EpochRecord,
    Evaluation,
    History,
    TrainState,
    evaluate,
    fit,
    predict,
    probabilities,
)

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "POOLS",
    "SGD",
    "Adam",
    "AvgPool2d",
    "Callback",
    "Checkpoint",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CosineAnnealing",
    "CrossEntropyLoss",
    "EpochRecord",
    "Evaluation",
    "Flatten",
    "History",
    "LayerSummary",
    "Linear",
    "Loss",
    "MSELoss",
    "MaxPool2d",
    "MinPool2d",
    "Module",
    "Optimizer",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxPool2d",
    "Summary",
    "Tanh",
    "TrainState",
    "evaluate",
    "fit",
    "init",
    "lenet",
    "lenet_improved",
    "load_checkpoint",
    "predict",
    "probabilities",
    "save_checkpoint",
]
