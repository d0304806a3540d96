"""LeNet and its deeper variant on MNIST where it is at hand, else on the sample inside the package.

    python examples/mnist.py [--epochs 15] [--limit 10000] [--output FOLDER]

`fastconv train --dataset mnist` downloads MNIST; FASTCONV_DATA names a folder that has it.
"""

import numpy as np
from _example import parser

from fastconv import datasets, nn, plot


def main(output, epochs=15, limit=10_000, lr=0.003):
    try:
        train, test = (datasets.load("mnist", split, download=False) for split in ("train", "test"))
    except datasets.DatasetUnavailable:
        print("MNIST is not on this machine; going on with the sample of Fashion-MNIST")
        train, test = datasets.embedded_sample()
    train = train.take(limit)
    print(f"{len(train)} training images of {train.name}, {epochs} epochs, {len(test)} test images")
    for name, make in (("LeNet, ReLU", nn.lenet), ("deeper variant", nn.lenet_improved)):
        net = make("relu", "avg", seed=0)
        history = nn.fit(
            net,
            train,
            epochs=epochs,
            batch_size=64,
            optimizer=nn.Adam(net.parameters(), lr=lr),
            validation=test,
            callbacks=[nn.CosineAnnealing(lr)],
        )
        count = sum(parameter.data.size for parameter in net.parameters())
        print(f"{name}, {count:,} parameters: test accuracy {history.final.test_accuracy:.4f}")

    guesses = nn.predict(net, test.images)
    wrong = np.flatnonzero(guesses != test.labels)
    print(f"{len(wrong)} mistakes of the latter; the first {len(wrong[:30])} are drawn")
    title = f"Mistakes of the deeper LeNet on {test.name}"
    first = wrong[:30]
    axes = plot.prediction_sheet(
        test.images[first], test.labels[first], guesses[first], test.classes, title=title
    )
    print("picture:", plot.save(axes, output / "mnist.png"))


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=15)
    options.add_argument("--limit", type=int, default=10_000, help="training images")
    options.add_argument("--lr", type=float, default=0.003)
    main(**vars(options.parse_args()))
