"""Soft pooling: between the average and the maximum of a window, weighted by a softmax.

Each pixel counts by exp(beta x). At beta = 0 all count the same, which is the average; as beta
grows the largest one takes over, and as it falls below 0 the smallest.

    python examples/soft_pooling.py [--output FOLDER]
"""

import numpy as np
from _example import figure, photograph, run

import fastconv as fc
from fastconv import plot

WINDOW = 8


def main(output):
    photo = photograph()[None, :296]  # whole windows
    average, maximum = fc.avg_pool2d(photo, WINDOW), fc.max_pool2d(photo, WINDOW)
    minimum = fc.min_pool2d(photo, WINDOW)

    def soft(beta):
        return fc.softmax_pool2d(photo, WINDOW, beta=beta)

    print(f"beta 0 is the average: {np.allclose(soft(0.0), average, atol=1e-6)}")
    print(f"beta 10000 is the maximum: {np.allclose(soft(1e4), maximum, atol=1e-4)}")
    print(f"beta -10000 is the minimum: {np.allclose(soft(-1e4), minimum, atol=1e-4)}")
    span = (maximum - average).mean()
    for beta in (1, 10, 100):
        share = (soft(beta) - average).mean() / span
        print(f"beta {beta}: {share:.0%} of the way from average to maximum, in the mean")

    ones = np.ones_like(average)
    position = fc.max_pool2d(photo, WINDOW, return_indices=True)[1]
    reached = {
        "maximum": fc.grad.max_pool2d(ones, position, photo.shape),
        "soft, beta 10": fc.grad.softmax_pool2d(ones, photo, WINDOW, beta=10.0),
        "average": fc.grad.avg_pool2d(ones, photo.shape, WINDOW),
    }
    for name, gradient in reached.items():
        share = np.count_nonzero(gradient) / gradient.size
        print(f"gradient of the {name}: reaches {share:.1%} of the pixels")
    n = WINDOW * WINDOW
    print(f"cost of a window of {WINDOW} x {WINDOW}: maximum {n - 1} comparisons; average {n - 1}")
    print(f"  additions; soft as well {n} exponentials and {2 * n} multiplications,")
    print("  and beta has to be chosen, in the units of the input: two reasons why it is rare")

    made = figure(9.2, 4.9, "Softmax pooling, 8 x 8")
    axes = made.subplots(2, 4)
    betas = np.linspace(-60, 60, 61)
    curve = axes[0, 0].get_gridspec()
    for each in axes[1]:
        each.remove()
    line = made.add_subplot(curve[1, :])
    line.plot(betas, [soft(beta).mean() for beta in betas], color="#1f5fa8")
    # each name where the curve is far from its line
    ends = {"minimum": (minimum, 60), "average": (average, 60), "maximum": (maximum, -60)}
    for name, (pooled, beta) in ends.items():
        line.axhline(pooled.mean(), color="#666666", linewidth=0.8, linestyle="--")
        side = "right" if beta > 0 else "left"
        line.text(beta, pooled.mean() + 0.004, name, ha=side, va="bottom", fontsize=8)
    line.margins(y=0.15)
    line.set_xlabel("beta", fontsize=9)
    line.set_ylabel("mean brightness", fontsize=9)
    line.spines[["top", "right"]].set_visible(False)
    for each, beta in zip(axes[0], (-1e4, 0, 10, 1e4), strict=True):
        each.imshow(soft(beta)[0], cmap="gray", vmin=0, vmax=1)
        names = {-1e4: "beta -10000: minimum", 0: "beta 0: average", 1e4: "beta 10000: maximum"}
        each.set_title(names.get(beta, f"beta {beta}"), fontsize=9)
        each.axis("off")
    print("picture:", plot.save(line, output / "soft_pooling.png"))


if __name__ == "__main__":
    run(main, __doc__)
