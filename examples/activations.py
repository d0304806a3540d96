"""What the first two convolutions of a trained LeNet make of pullovers and coats.

    python examples/activations.py [--output FOLDER]

Trains for some seconds on the sample inside the package; `fastconv plot activations RUN` shows the
same for a network of one's own.
"""

import numpy as np
from _example import run

from fastconv import datasets, nn, plot


def main(output):
    train, test = datasets.embedded_sample()
    net = nn.lenet("relu", "max", seed=0)
    adam = nn.Adam(net.parameters(), lr=0.002)
    history = nn.fit(
        net, train, epochs=8, batch_size=64, optimizer=adam, validation=test,
        callbacks=[nn.CosineAnnealing(0.002)],
    )  # fmt: skip
    print(f"trained on {len(train)} images; test accuracy {history.final.test_accuracy:.3f}")

    x, labels = test.inputs(), test.labels
    classes = {name: labels == test.classes.index(name) for name in ("Pullover", "Coat", "Sandal")}
    for layers, name in ((2, "first"), (5, "second")):
        maps = net[:layers](x)
        mean = {c: maps[chosen].mean(axis=0) for c, chosen in classes.items()}
        channels = maps.shape[1]
        for other in ("Coat", "Sandal"):
            pair = np.corrcoef(mean["Pullover"].ravel(), mean[other].ravel())[0, 1]
            print(f"{name} layer, {channels} channels: mean map of pullovers and {other.lower()}s"
                  f" correlate {pair:.2f}")  # fmt: skip
    a, b = (np.flatnonzero(classes[name])[0] for name in ("Pullover", "Coat"))
    axes = plot.activations(
        net, x[[a, b]], names=("Pullover", "Coat"), title="LeNet's first two layers"
    )
    print("picture:", plot.save(axes, output / "activations.png"))


if __name__ == "__main__":
    run(main, __doc__)
