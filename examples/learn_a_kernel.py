"""Learning a kernel: gradient descent finds it from an image and what it makes of that image.

[1, -1] from black and white stripes, Sobel's kernel from a photograph; and a kernel that no
training can find, because the image has edges in one direction only.

    python examples/learn_a_kernel.py [--output FOLDER]
"""

import numpy as np
from _example import figure, grid, photograph, run

import fastconv as fc
from fastconv import nn, plot


def learn(image, kernel, steps, rate, momentum=0.0):
    """The learnt kernel, the loss before each step, and the first step to come within 1e-2."""
    wanted = fc.conv2d(image, kernel)
    layer = nn.Conv2d(1, 1, kernel.shape[2:], bias=False, rng=0)
    # the chapter's loss is a sum over pixels; the mean of it makes the rate fit any image
    loss, optimiser = nn.MSELoss(), nn.SGD(layer.parameters(), lr=rate, momentum=momentum)
    losses, close = [], None
    for step in range(1, steps + 1):
        losses.append(loss(layer(image), wanted))
        optimiser.zero_grad()
        layer.backward(loss.backward(), need_input_grad=False)
        optimiser.step()
        if close is None and np.abs(layer.weight.data - kernel).max() < 1e-2:
            close = step
    return layer.weight.data, losses, close


def images():
    """The stripes and the photograph, as batches of one image of one channel."""
    stripes = np.ones((1, 1, 6, 8), np.float32)
    stripes[..., 2:6] = 0
    photo = photograph()
    # around zero: else the loss is steepest for mere brightness, and the rate has to be smaller
    return stripes, (photo - photo.mean())[None, None]


def main(output):
    stripes, photo = images()
    edge = np.array([[[[1, -1]]]], np.float32)
    sobel = fc.kernels.sobel(dtype=np.float32)[None, None]
    block = np.array([[[[1, -1], [0, 0]]]], np.float32)
    # 42 outputs: the chapter's rate of 0.03 for their sum is 42 times as much for their mean
    runs = {
        "[1, -1] from stripes": (edge, learn(stripes, edge, 40, 0.03 * 42)),
        "Sobel's from a photograph": (sobel, learn(photo, sobel, 300, 2.5, momentum=0.9)),
        "2 x 2 from stripes": (block, learn(stripes, block, 40, 0.5)),
    }
    for name, (kernel, (learnt, losses, close)) in runs.items():
        found = f"within 0.01 after {close} steps" if close else "not found"
        print(f"{name}: {found}; after {len(losses)} the largest error of a weight")
        print(f"  is {np.abs(learnt - kernel).max():.1e}; the loss fell", end=" ")
        print(f"from {losses[0]:.2g} to {losses[-1]:.1e}")
    learnt = runs["2 x 2 from stripes"][1][0][0, 0]
    print(
        "the last one makes no errors and is another kernel: the rows of stripes are all the same,"
    )
    print(f"so only the sum of its rows is determined: {learnt.sum(axis=0).round(3)}")
    print(f"the rows themselves are {learnt[0].round(2)} and {learnt[1].round(2)}")

    made = figure(7.5, 7.2, "Kernels learnt by gradient descent")
    rows = made.subplots(3, 3, gridspec_kw={"width_ratios": [1.6, 1, 1]})
    for (curve, left, right), (name, (kernel, (learnt, losses, _))) in zip(
        rows, runs.items(), strict=True
    ):
        curve.semilogy(np.arange(len(losses)), losses, color="#1f5fa8")
        curve.set_title(name, fontsize=9)
        curve.set_xlabel("step", fontsize=8)
        curve.set_ylabel("mean squared error", fontsize=8)
        curve.tick_params(labelsize=8)
        curve.grid(alpha=0.25)
        largest = float(np.abs(kernel).max())
        grid(left, kernel[0, 0], "true", largest=largest)
        grid(right, learnt[0, 0], "learnt", ".2f", largest=largest)
    made.align_ylabels(rows[:, 0])
    print("picture:", plot.save(rows, output / "learn_a_kernel.png"))


if __name__ == "__main__":
    run(main, __doc__)
