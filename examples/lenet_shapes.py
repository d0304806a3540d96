"""LeNet layer by layer: shapes, parameters, work, and how much of the image an output sees.

python examples/lenet_shapes.py [--output FOLDER]
"""

import math

from _example import figure, run

import fastconv as fc
from fastconv import nn, plot

IMAGE = (1, 1, 28, 28)


def multiplications(layer, shape):
    """Of the layers that have weights; pooling and activations take next to none."""
    if isinstance(layer, nn.Conv2d):
        cost = fc.analysis.conv2d_cost(shape, layer.weight.shape, layer.stride, layer.padding)
        return cost.forward.multiplications
    return layer.weight.size


def main(output):
    net = nn.lenet(seed=0)
    print(net.summary(IMAGE))
    print("what an output sees of the image, how far apart two neighbours look, where it begins:")
    fields = fc.analysis.receptive_field(net, IMAGE)
    print(fields)

    weighted, shape = {}, IMAGE
    for layer in net:
        after = layer.output_shape(shape)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            kind = "convolution" if isinstance(layer, nn.Conv2d) else "linear"
            name = f"{kind}\n" + " x ".join(map(str, after[1:]))
            count = sum(p.size for p in layer.parameters())
            weighted[name] = count, multiplications(layer, shape), math.prod(after)
        shape = after
    counts = [count for count, _, _ in weighted.values()]
    works = [work for _, work, _ in weighted.values()]
    print(f"{sum(counts):,} parameters and {sum(works):,} multiplications an image")
    print(f"the convolutions: {sum(counts[:2]) / sum(counts):.0%} of the parameters,", end=" ")
    print(f"{sum(works[:2]) / sum(works):.0%} of the multiplications")
    print(f"the first linear layer: {counts[2] / sum(counts):.0%} of the parameters")
    dense = 28 * 28 * 6 * 28 * 28
    print(
        f"as a fully connected layer the first convolution would have {dense:,} weights,", end=" "
    )
    print(f"not {net[0].weight.size}")
    print(f"an output of the second pooling sees {fields[5].size[0]} x {fields[5].size[1]} pixels")

    made = figure(
        8.6, 3.6, "LeNet: the convolutions do the work, the linear layers hold the weights"
    )
    axes = made.subplots(1, 3, sharey=True)
    columns = zip(*weighted.values(), strict=True)
    titles = ("parameters", "multiplications", "outputs")
    for each, title, values in zip(axes, titles, columns, strict=True):
        shown = each.barh(list(weighted), values, color="#1f5fa8", height=0.6)
        each.bar_label(shown, [f"{v:,}" for v in values], padding=3, fontsize=8)
        each.margins(x=0.35)
        each.set_title(title, fontsize=9)
        each.set_xticks([])
        each.tick_params(labelsize=8, left=False)
        each.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0].invert_yaxis()
    print("picture:", plot.save(axes, output / "lenet_shapes.png"))


if __name__ == "__main__":
    run(main, __doc__)
