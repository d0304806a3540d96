"""Costs of a convolution: arithmetic and memory, forward and backward, and what doubling does.

python examples/costs.py [--output FOLDER]
"""

from _example import figure, run

import fastconv as fc
from fastconv import plot

IMAGE, WEIGHT = (16, 32, 32), (16, 16, 3, 3)


def bars(axes, values, title, form):
    """Horizontal bars with their numbers, the first on top."""
    shown = axes.barh(list(values), list(values.values()), color="#1f5fa8", height=0.6)
    axes.bar_label(shown, [format(v, form) for v in values.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.tick_params(labelsize=8, left=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def main(output):
    cost = fc.analysis.conv2d_cost(IMAGE, WEIGHT, padding=1)
    k, c, r, s = WEIGHT
    print(cost)
    print(
        f"forward: K C R S P Q = {k}*{c}*{r}*{s}*32*32 = {cost.forward.multiplications:,}", end=""
    )
    print(" multiplications")
    ratio = cost.backward.multiplications / cost.forward.multiplications
    print(f"backward: {ratio:g} times as many, one gradient for the input, one for the weight")
    patches = fc.analysis.conv2d_cost(IMAGE, WEIGHT, padding=1, method="im2col")
    print(f"as a matrix product (im2col): a workspace of {patches.forward.workspace:,} bytes,")
    print(f"  {patches.forward.workspace / cost.held_for_backward:g} times the image, for R S = 9")

    changed = fc.analysis.doubling(IMAGE, WEIGHT, padding=1)
    print("what doubling does:")
    print(changed)
    print(
        f"both channels doubled: {changed['both channels'].multiplications:g} times the work;",
        end="",
    )
    print(f" the padding: only {changed['padding'].multiplications:.2f} times, the rim")
    single = fc.analysis.conv2d_cost(IMAGE, (16, 16, 1, 1))
    print(f"a 1x1 kernel: K C H W = {single.forward.multiplications:,} multiplications")
    pool = fc.analysis.pool2d_cost(IMAGE, 2)
    print(
        f"2x2 maximum pooling: C P Q (R S - 1) = {pool.forward.comparisons:,} comparisons,", end=""
    )
    print(f" {cost.forward.multiplications // pool.forward.comparisons} times fewer")

    made = figure(9, 3.4, "A convolution, 16 to 16 channels, 3 x 3, padding 1, on 32 x 32")
    axes = made.subplots(1, 3)
    passes = {"forward": cost.forward, "gradient of input": cost.grad_input}
    passes["gradient of weight"] = cost.grad_weight
    million = {name: each.flops / 1e6 for name, each in passes.items()}
    bars(axes[0], million, "arithmetic, million operations", ".2f")
    memory = {
        "forward, direct": cost.forward.memory / 1024,
        "forward, im2col": patches.forward.memory / 1024,
        "backward, direct": cost.backward.memory / 1024,
        "kept in between": cost.held_for_backward / 1024,
    }
    bars(axes[1], memory, "memory, KiB", ".0f")
    bars(
        axes[2],
        {row.doubled: row.multiplications for row in changed},
        "times the work, if doubled",
        ".2f",
    )
    print("picture:", plot.save(axes, output / "costs.png"))


if __name__ == "__main__":
    run(main, __doc__)
