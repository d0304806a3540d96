"""Pictures of training runs, networks, kernels and images; they need matplotlib (`train` extra).

Every function returns Axes, or an array of them, which `save` writes to a file. Figures are drawn
without pyplot, so nothing global is changed and no window opens.
"""

from ._figure import save
from ._networks import activations, receptive_field
from ._sheets import image, kernels
from ._training import confusion_matrix, learning_curve, prediction_sheet

__all__ = [
    "activations",
    "confusion_matrix",
    "image",
    "kernels",
    "learning_curve",
    "prediction_sheet",
    "receptive_field",
    "save",
]
