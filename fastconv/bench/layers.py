"""The shapes that are measured: data, one line each.

`input` is (N, C, H, W); `weight` is (K, C/groups, R, S). To add a layer, add a line.
"""

from dataclasses import dataclass

from fastconv.spec import conv_spec, pool_spec


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution, measured forward and in both gradients."""

    name: str
    input: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def spec(self, dtype="float32"):
        """The layer as fastconv sees it."""
        return conv_spec(self.input, self.weight, self.stride, self.padding, 1, self.groups, dtype)

    def __str__(self):
        K, _, R, S = self.weight
        extras = ((self.stride != 1, f"s{self.stride}"), (self.padding != 0, f"p{self.padding}"))
        extras += ((self.groups != 1, f"g{self.groups}"),)
        shape = f"{self.input} -> {K}, {R}x{S}"
        return " ".join([shape, *(text for shown, text in extras if shown)])


@dataclass(frozen=True, slots=True)
class Pool:
    """A pooling, measured as maximum and as average, forward and backward."""

    name: str
    input: tuple[int, int, int, int]
    kernel: int
    stride: int
    padding: int = 0

    def spec(self, dtype="float32"):
        """The layer as fastconv sees it."""
        return pool_spec(self.input, self.kernel, self.stride, self.padding, dtype=dtype)

    def __str__(self):
        padding = f" p{self.padding}" if self.padding else ""
        return f"{self.input}, {self.kernel}x{self.kernel} s{self.stride}{padding}"


CONV = (
    Conv("LeNet conv 1", (256, 1, 28, 28), (6, 1, 5, 5), padding=2),
    Conv("LeNet conv 2", (256, 6, 14, 14), (16, 6, 5, 5)),
    Conv("VGG 3-64 @224", (1, 3, 224, 224), (64, 3, 3, 3), padding=1),
    Conv("VGG 64-64 @224", (1, 64, 224, 224), (64, 64, 3, 3), padding=1),
    Conv("VGG 256-256 @56", (1, 256, 56, 56), (256, 256, 3, 3), padding=1),
    Conv("VGG 512-512 @14", (1, 512, 14, 14), (512, 512, 3, 3), padding=1),
    Conv("ResNet 3-64 7x7 @224", (1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3),
    Conv("ResNet 64-64 @56", (1, 64, 56, 56), (64, 64, 3, 3), padding=1),
    Conv("ResNet 64-256 1x1 @56", (1, 64, 56, 56), (256, 64, 1, 1)),
    Conv("ResNet 128-128 s2 @56", (1, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1),
    Conv("ResNet 256-1024 1x1 @14", (1, 256, 14, 14), (1024, 256, 1, 1)),
    Conv("ResNet 512-512 @7", (1, 512, 7, 7), (512, 512, 3, 3), padding=1),
)

POOL = (
    Pool("LeNet pool 1", (256, 6, 28, 28), 2, 2),
    Pool("LeNet pool 2", (256, 16, 10, 10), 2, 2),
    Pool("VGG pool @224", (1, 64, 224, 224), 2, 2),
    Pool("ResNet pool @112", (1, 64, 112, 112), 3, 2, 1),
    Pool("Inception pool @28", (1, 192, 28, 28), 3, 1, 1),
)

# one image at a time: what lies between Python and the kernel shows
SINGLE = (
    Conv("LeNet conv 1", (1, 1, 28, 28), (6, 1, 5, 5), padding=2),
    Conv("LeNet conv 2", (1, 6, 14, 14), (16, 6, 5, 5)),
    Pool("LeNet pool 1", (1, 6, 28, 28), 2, 2),
)
