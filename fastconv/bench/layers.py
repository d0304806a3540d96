"""The shapes that are measured: data, one line each.

`input` is (N, C, H, W); `weight` is (K, C/groups, R, S). To add a layer, add a line. Those that are
`core` are measured when nothing else is asked for, and stand in the README.
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
    padding: int | tuple[int, int] = 0
    groups: int = 1
    core: bool = False
    dilation: int = 1

    @property
    def options(self):
        """stride, padding, dilation, groups: the arguments of a call."""
        return self.stride, self.padding, self.dilation, self.groups

    def spec(self, dtype="float32"):
        """The layer as fastconv sees it."""
        return conv_spec(self.input, self.weight, *self.options, dtype)

    def __str__(self):
        K, _, R, S = self.weight
        padding = self.padding
        if isinstance(padding, tuple):
            padding = "{}x{}".format(*padding)
        extras = (
            (self.stride != 1, f"s{self.stride}"),
            (padding != 0, f"p{padding}"),
            (self.dilation != 1, f"d{self.dilation}"),
            (self.groups != 1, f"g{self.groups}"),
        )
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
    core: bool = False

    def spec(self, dtype="float32"):
        """The layer as fastconv sees it."""
        return pool_spec(self.input, self.kernel, self.stride, self.padding, dtype=dtype)

    def __str__(self):
        padding = f" p{self.padding}" if self.padding else ""
        return f"{self.input}, {self.kernel}x{self.kernel} s{self.stride}{padding}"


_LENET = (
    Conv("LeNet conv 1", (256, 1, 28, 28), (6, 1, 5, 5), padding=2, core=True),
    Conv("LeNet conv 2", (256, 6, 14, 14), (16, 6, 5, 5), core=True),
)

_VGG_16 = (
    Conv("VGG 3-64 @224", (1, 3, 224, 224), (64, 3, 3, 3), padding=1, core=True),
    Conv("VGG 64-64 @224", (1, 64, 224, 224), (64, 64, 3, 3), padding=1, core=True),
    Conv("VGG 64-128 @112", (1, 64, 112, 112), (128, 64, 3, 3), padding=1),
    Conv("VGG 128-128 @112", (1, 128, 112, 112), (128, 128, 3, 3), padding=1),
    Conv("VGG 128-256 @56", (1, 128, 56, 56), (256, 128, 3, 3), padding=1),
    Conv("VGG 256-256 @56", (1, 256, 56, 56), (256, 256, 3, 3), padding=1, core=True),
    Conv("VGG 256-512 @28", (1, 256, 28, 28), (512, 256, 3, 3), padding=1),
    Conv("VGG 512-512 @28", (1, 512, 28, 28), (512, 512, 3, 3), padding=1),
    Conv("VGG 512-512 @14", (1, 512, 14, 14), (512, 512, 3, 3), padding=1, core=True),
)

_RESNET_50 = (
    Conv("ResNet 3-64 7x7 @224", (1, 3, 224, 224), (64, 3, 7, 7), 2, 3, core=True),
    Conv("ResNet 64-64 1x1 @56", (1, 64, 56, 56), (64, 64, 1, 1)),
    Conv("ResNet 64-64 @56", (1, 64, 56, 56), (64, 64, 3, 3), padding=1, core=True),
    Conv("ResNet 64-256 1x1 @56", (1, 64, 56, 56), (256, 64, 1, 1), core=True),
    Conv("ResNet 256-64 1x1 @56", (1, 256, 56, 56), (64, 256, 1, 1)),
    Conv("ResNet 256-128 1x1 @56", (1, 256, 56, 56), (128, 256, 1, 1)),
    Conv("ResNet 128-128 s2 @56", (1, 128, 56, 56), (128, 128, 3, 3), 2, 1, core=True),
    Conv("ResNet 256-512 1x1 s2 @56", (1, 256, 56, 56), (512, 256, 1, 1), 2),
    Conv("ResNet 128-128 @28", (1, 128, 28, 28), (128, 128, 3, 3), padding=1),
    Conv("ResNet 128-512 1x1 @28", (1, 128, 28, 28), (512, 128, 1, 1)),
    Conv("ResNet 512-128 1x1 @28", (1, 512, 28, 28), (128, 512, 1, 1)),
    Conv("ResNet 256-256 s2 @28", (1, 256, 28, 28), (256, 256, 3, 3), 2, 1),
    Conv("ResNet 512-1024 1x1 s2 @28", (1, 512, 28, 28), (1024, 512, 1, 1), 2),
    Conv("ResNet 256-256 @14", (1, 256, 14, 14), (256, 256, 3, 3), padding=1),
    Conv("ResNet 256-1024 1x1 @14", (1, 256, 14, 14), (1024, 256, 1, 1), core=True),
    Conv("ResNet 1024-256 1x1 @14", (1, 1024, 14, 14), (256, 1024, 1, 1)),
    Conv("ResNet 512-512 s2 @14", (1, 512, 14, 14), (512, 512, 3, 3), 2, 1),
    Conv("ResNet 512-512 @7", (1, 512, 7, 7), (512, 512, 3, 3), padding=1, core=True),
    Conv("ResNet 512-2048 1x1 @7", (1, 512, 7, 7), (2048, 512, 1, 1)),
    Conv("ResNet 2048-512 1x1 @7", (1, 2048, 7, 7), (512, 2048, 1, 1)),
)

_MOBILENET = (
    Conv("MobileNet 3-32 s2 @224", (1, 3, 224, 224), (32, 3, 3, 3), 2, 1),
    Conv("MobileNet depthwise 32 @112", (1, 32, 112, 112), (32, 1, 3, 3), 1, 1, 32, core=True),
    Conv("MobileNet 32-64 1x1 @112", (1, 32, 112, 112), (64, 32, 1, 1)),
    Conv("MobileNet depthwise 64 s2 @112", (1, 64, 112, 112), (64, 1, 3, 3), 2, 1, 64, core=True),
    Conv("MobileNet 128-128 1x1 @56", (1, 128, 56, 56), (128, 128, 1, 1), core=True),
    Conv("MobileNet depthwise 128 @56", (1, 128, 56, 56), (128, 1, 3, 3), 1, 1, 128),
    Conv("MobileNet depthwise 256 s2 @28", (1, 256, 28, 28), (256, 1, 3, 3), 2, 1, 256),
    Conv("MobileNet depthwise 512 @14", (1, 512, 14, 14), (512, 1, 3, 3), 1, 1, 512, core=True),
    Conv("MobileNet 512-512 1x1 @14", (1, 512, 14, 14), (512, 512, 1, 1)),
    Conv("MobileNet 1024-1024 1x1 @7", (1, 1024, 7, 7), (1024, 1024, 1, 1)),
)

_BATCHED = (
    Conv("VGG 64-128 @112, batch 4", (4, 64, 112, 112), (128, 64, 3, 3), padding=1),
    Conv("ResNet 64-64 @56, batch 16", (16, 64, 56, 56), (64, 64, 3, 3), padding=1),
    Conv("ResNet 256-1024 1x1 @14, batch 16", (16, 256, 14, 14), (1024, 256, 1, 1)),
    Conv("ResNet 512-512 @7, batch 16", (16, 512, 7, 7), (512, 512, 3, 3), padding=1, core=True),
    Conv("MobileNet depthwise 512 @14, batch 16", (16, 512, 14, 14), (512, 1, 3, 3), 1, 1, 512),
    Conv("CIFAR 16-32 @32, batch 64", (64, 16, 32, 32), (32, 16, 3, 3), padding=1),
)

CONV = _LENET + _VGG_16 + _RESNET_50 + _MOBILENET + _BATCHED

# shapes of real networks that no kernel and no cost here was made for: what users will bring
UNTUNED = (
    Conv("AlexNet 3-64 11x11 s4 @224", (1, 3, 224, 224), (64, 3, 11, 11), 4, 2, core=True),
    Conv("AlexNet 192-384 @13", (1, 192, 13, 13), (384, 192, 3, 3), padding=1, core=True),
    Conv("GoogLeNet 16-32 5x5 @28", (1, 16, 28, 28), (32, 16, 5, 5), padding=2, core=True),
    Conv("Inception 192-192 1x7 @17", (1, 192, 17, 17), (192, 192, 1, 7), 1, (0, 3), core=True),
    Conv("Inception 192-192 7x1 @17", (1, 192, 17, 17), (192, 192, 7, 1), 1, (3, 0), core=True),
    Conv("DenseNet 128-32 @28", (1, 128, 28, 28), (32, 128, 3, 3), padding=1, core=True),
    Conv("ResNeXt 128 in 32 groups @56", (1, 128, 56, 56), (128, 4, 3, 3), 1, 1, 32, core=True),
    Conv("ShuffleNet 240 1x1 in 3 groups @28", (1, 240, 28, 28), (240, 80, 1, 1), 1, 0, 3, True),
    Conv(
        "EfficientNet depthwise 144 5x5 s2 @56", (1, 144, 56, 56), (144, 1, 5, 5), 2, 2, 144, True
    ),
    Conv("ConvNeXt depthwise 96 7x7 @56", (1, 96, 56, 56), (96, 1, 7, 7), 1, 3, 96, core=True),
    Conv("YOLO 3-32 @640", (1, 3, 640, 640), (32, 3, 3, 3), padding=1, core=True),
    Conv("DeepLab 256-256 dilation 2 @33", (1, 256, 33, 33), (256, 256, 3, 3), 1, 2, 1, True, 2),
    Conv("33-33 channels @52", (1, 33, 52, 52), (33, 33, 3, 3), padding=1, core=True),
    Conv("100-100 channels @28", (1, 100, 28, 28), (100, 100, 3, 3), padding=1, core=True),
    Conv("ResNet 64-64 @56, batch 8", (8, 64, 56, 56), (64, 64, 3, 3), padding=1, core=True),
)

# one image, each channel filtered by the same kernel
FILTERS = (
    Conv("3x3, grey 1080p", (1, 1, 1080, 1920), (1, 1, 3, 3), padding=1, core=True),
    Conv("5x5, grey 1080p", (1, 1, 1080, 1920), (1, 1, 5, 5), padding=2, core=True),
    Conv("9x9, grey 1080p", (1, 1, 1080, 1920), (1, 1, 9, 9), padding=4),
    Conv("15x15, grey 1080p", (1, 1, 1080, 1920), (1, 1, 15, 15), padding=7, core=True),
    Conv("5x5, colour 1080p", (1, 3, 1080, 1920), (3, 1, 5, 5), padding=2, groups=3, core=True),
    Conv("31x31, grey 512x512", (1, 1, 512, 512), (1, 1, 31, 31), padding=15),
)

POOL = (
    Pool("LeNet pool 1", (256, 6, 28, 28), 2, 2, core=True),
    Pool("LeNet pool 2", (256, 16, 10, 10), 2, 2, core=True),
    Pool("VGG pool @224", (1, 64, 224, 224), 2, 2, core=True),
    Pool("VGG pool @14", (1, 512, 14, 14), 2, 2),
    Pool("VGG pool @56, batch 8", (8, 256, 56, 56), 2, 2),
    Pool("ResNet pool @112", (1, 64, 112, 112), 3, 2, 1, core=True),
    Pool("ResNet pool @112, batch 8", (8, 64, 112, 112), 3, 2, 1),
    Pool("ResNet whole plane @7", (1, 2048, 7, 7), 7, 7),
    Pool("Inception pool @28", (1, 192, 28, 28), 3, 1, 1, core=True),
)

# one image at a time: what lies between Python and the kernel shows
SINGLE = (
    Conv("LeNet conv 1", (1, 1, 28, 28), (6, 1, 5, 5), padding=2, core=True),
    Conv("LeNet conv 2", (1, 6, 14, 14), (16, 6, 5, 5), core=True),
    Pool("LeNet pool 1", (1, 6, 28, 28), 2, 2, core=True),
)
