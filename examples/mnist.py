"""The improved LeNet on MNIST: where it is at hand, else on the sample inside the package.

    python examples/mnist.py [--epochs 15] [--limit 10000] [--output FOLDER]

`fastconv train --dataset mnist` downloads MNIST; FASTCONV_DATA names a folder that has it.
"""

import numpy as np
from _example import parser

from fastconv import datasets, nn, plot


def main(output, epochs=15, limit=10_000, lr=0.003):
    try:
        train, test = (datasets.load("mnist", split, download=False) for split in ("train", "test"))
    except datasets.DatasetUnavailable as missing:
        print(f"{missing}; going on with the sample of Fashion-MNIST")
        train, test = datasets.embedded_sample()
    train = train.take(limit)
    net = nn.lenet_improved(seed=0)
    history = nn.fit(
        net,
        train,
        epochs=epochs,
        batch_size=64,
        optimizer=nn.Adam(net.parameters(), lr=lr),
        validation=test,
        callbacks=[nn.CosineAnnealing(lr)],
    )
    print(f"{len(train)} training images of {train.name}, {epochs} epochs")
    print(f"test accuracy {history.final.test_accuracy:.4f} on {len(test)} images")

    shown = nn.predict(net, test.images)
    wrong = np.flatnonzero(shown != test.labels)[:30]
    print(f"{np.count_nonzero(shown != test.labels)} mistakes; the first {len(wrong)} are drawn")
    title = f"Mistakes of the improved LeNet on {test.name}"
    axes = plot.prediction_sheet(
        test.images[wrong], test.labels[wrong], shown[wrong], test.classes, title=title
    )
    print("picture:", plot.save(axes, output / "mnist.png"))


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=15)
    options.add_argument("--limit", type=int, default=10_000, help="training images")
    options.add_argument("--lr", type=float, default=0.003)
    main(**vars(options.parse_args()))
