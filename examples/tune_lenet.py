"""Tuning LeNet: one thing changed at a time, then all that helped together, as measured accuracies.

    python examples/tune_lenet.py [--dataset fashion-mnist] [--epochs 10] [--output FOLDER]

Without options it trains on the sample inside the package, which takes seconds and orders only the
large differences; docs/exercises.md has the table of the full Fashion-MNIST.
"""

from _example import parser
from matplotlib.figure import Figure

from fastconv import datasets, nn, plot

# what is changed, and to what; everything else is as in build() and train() by default
CONFIGURATIONS = {
    "LeNet: ReLU, maximum pooling, Adam": {},
    "sigmoid": {"activation": nn.Sigmoid},
    "tanh": {"activation": nn.Tanh},
    "average pooling": {"pool": nn.AvgPool2d},
    "windows of 3x3": {"window": 3},
    "windows of 7x7": {"window": 7},
    "channels 3, 8": {"channels": (3, 8)},
    "channels 16, 32": {"channels": (16, 32)},
    "channels 32, 64": {"channels": (32, 64)},
    "one convolution": {"channels": (6,)},
    "three convolutions": {"channels": (6, 16, 32)},
    "no hidden linear layer": {"hidden": ()},
    "one hidden linear layer": {"hidden": (120,)},
    "three hidden linear layers": {"hidden": (240, 120, 84)},
    "learning rate 0.0001": {"lr": 0.0001},
    "learning rate 0.01": {"lr": 0.01},
    "learning rate falling to 0": {"falling": True},
    "SGD, learning rate 0.1": {"optimizer": nn.SGD, "lr": 0.1},
    "Xavier's initial weights": {"init": "xavier_uniform"},
    "channels 32, 64 and rate falling": {"channels": (32, 64), "falling": True},
}


def build(
    window=5, channels=(6, 16), activation=nn.ReLU, pool=nn.MaxPool2d, hidden=(120, 84), init=None
):
    """A network like LeNet; convolutions keep the size, each pooling halves it."""
    layers, before, side = [], 1, 28
    for after in channels:
        layers += [nn.Conv2d(before, after, window, padding="same", rng=0), activation(), pool(2)]
        before, side = after, side // 2
    layers.append(nn.Flatten())
    before *= side * side
    for after in hidden:
        layers += [nn.Linear(before, after, rng=0), activation()]
        before = after
    layers.append(nn.Linear(before, 10, rng=0))
    if init is None:
        init = "he_uniform" if activation is nn.ReLU else "xavier_uniform"
    return nn.init.initialize(nn.Sequential(*layers), init, 0)


def train(train_data, test_data, epochs, optimizer=nn.Adam, lr=0.001, falling=False, **network):
    """(network, accuracy on the test images after the last epoch)."""
    net = build(**network)
    history = nn.fit(
        net,
        train_data,
        epochs=epochs,
        batch_size=64 if len(train_data) < 10_000 else 256,
        optimizer=optimizer(net.parameters(), lr=lr),
        validation=test_data,
        callbacks=[nn.CosineAnnealing(lr)] if falling else [],
    )
    return net, history.final.test_accuracy


def main(output, dataset="sample", epochs=2, only=""):
    train_data, test_data = (datasets.load(dataset, split) for split in ("train", "test"))
    print(f"{len(train_data)} images of {dataset}, {epochs} epochs, {len(test_data)} test images\n")
    print("| network | parameters | test accuracy |\n| --- | ---: | ---: |")
    accuracies = {}
    for name, changes in CONFIGURATIONS.items():
        if only in name:
            net, accuracies[name] = train(train_data, test_data, epochs, **changes)
            count = sum(p.data.size for p in net.parameters())
            print(f"| {name} | {count:,} | {accuracies[name]:.3f} |", flush=True)
    best = max(accuracies, key=accuracies.get)
    print(f"\nbest: {best}, {accuracies[best]:.3f}")
    print("picture:", plot.save(draw(accuracies, dataset), output / "tune_lenet.png"))


def draw(accuracies, dataset):
    """A bar for each configuration, in the table's order."""
    axes = Figure(figsize=(7, 0.28 * len(accuracies) + 0.8), layout="constrained").subplots()
    names = list(accuracies)[::-1]
    bars = axes.barh(names, [accuracies[name] for name in names], color="#4c72b0")
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_xlim(min(accuracies.values()) - 0.02, max(accuracies.values()) + 0.02)
    axes.set_title(f"LeNet on {dataset}: test accuracy", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--dataset", default="sample", help="or fashion-mnist, mnist")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--only", default="", metavar="TEXT", help="configurations that have it")
    arguments = options.parse_args()
    main(arguments.output, arguments.dataset, arguments.epochs, arguments.only)
