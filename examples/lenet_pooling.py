"""LeNet with maximum against average pooling: accuracy by epoch, for several initial weights.

    python examples/lenet_pooling.py [--dataset fashion-mnist] [--epochs 10] [--output FOLDER]

The activation is the chapter's sigmoid with --activation sigmoid; the default is ReLU, which learns
something from the 1,600 images of the sample inside the package.
"""

import numpy as np
from _example import parser
from matplotlib.figure import Figure

from fastconv import datasets, nn, plot

COLOURS = {"avg": "#4c72b0", "max": "#dd8452"}


def main(output, dataset="sample", epochs=6, activation="relu", lr=0.001, seeds=2):
    train, test = (datasets.load(dataset, split) for split in ("train", "test"))
    curves = {pool: [] for pool in COLOURS}
    for pool in COLOURS:
        for seed in range(seeds):
            net = nn.lenet(activation, pool, seed=seed)
            history = nn.fit(
                net,
                train,
                epochs=epochs,
                batch_size=64 if len(train) < 10_000 else 256,
                optimizer=nn.Adam(net.parameters(), lr=lr),
                seed=seed,
                validation=test,
            )
            curves[pool].append(history.column("test_accuracy"))
        final = [curve[-1] for curve in curves[pool]]
        spread = f"{min(final):.3f} to {max(final):.3f}"
        print(f"{pool} pooling: test accuracy {np.mean(final):.3f} ({spread}, {seeds} seeds)")
    gap = np.mean([c[-1] for c in curves["max"]]) - np.mean([c[-1] for c in curves["avg"]])
    print(f"maximum minus average: {gap:+.3f}, {dataset}, {epochs} epochs, {activation}")

    axes = Figure(figsize=(6, 3.6), layout="constrained").subplots()
    for pool, several in curves.items():
        for number, curve in enumerate(several):
            label = f"{pool} pooling" if number == 0 else None
            axes.plot(range(1, epochs + 1), curve, "o-", ms=3, color=COLOURS[pool], label=label)
    axes.set(xlabel="epoch", ylabel="test accuracy", title=f"LeNet, {activation}, {dataset}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    print("picture:", plot.save(axes, output / "lenet_pooling.png"))


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--dataset", default="sample", help="or fashion-mnist, mnist")
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--activation", default="relu", choices=nn.ACTIVATIONS)
    options.add_argument("--lr", type=float, default=0.001)
    options.add_argument("--seeds", type=int, default=2)
    main(**vars(options.parse_args()))
