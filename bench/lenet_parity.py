"""LeNet trained by fastconv and by PyTorch, from the same weights and batches.

    python bench/lenet_parity.py [--recipe average|maximum|improved] [--seeds 0 1] [--epochs 10]

Prints, for each seed, how far the losses of the first 200 steps lie apart (largest relative
difference) and both test accuracies at the end; then a table as Markdown. It needs PyTorch and the
whole of Fashion-MNIST. `average` is the chapter's recipe: sigmoid, average pooling, batch 256,
learning rate 0.9, Xavier initialisation; `maximum` has maximum pooling; `improved` is
`nn.lenet_improved` under Adam at 0.002, batches of 64 (with --twin PyTorch's is trained beside it).
"""

import argparse
import time

import numpy as np

import fastconv as fc
from fastconv import datasets, nn

RECIPES = {
    # name: (network, optimiser and learning rate, batch size)
    "average": (lambda seed: nn.lenet("sigmoid", "avg", seed=seed), ("SGD", 0.9), 256),
    "maximum": (lambda seed: nn.lenet("sigmoid", "max", seed=seed), ("SGD", 0.9), 256),
    "improved": (lambda seed: nn.lenet_improved(seed=seed), ("Adam", 2e-3), 64),
}
COMPARED_STEPS = 200


def torch_twin(net):
    """The same network in PyTorch, with the same weights."""
    import torch

    layers = []
    for _, layer in net.children():
        kind = type(layer).__name__
        if kind == "Conv2d":
            out_channels, in_channels, *kernel = layer.weight.shape
            layers.append(
                torch.nn.Conv2d(in_channels, out_channels, tuple(kernel), padding=layer.padding)
            )
        elif kind == "Linear":
            layers.append(torch.nn.Linear(*layer.weight.shape[::-1]))
        elif kind in ("MaxPool2d", "AvgPool2d"):
            layers.append(getattr(torch.nn, kind)(layer.kernel_size, layer.stride))
        else:
            layers.append(getattr(torch.nn, kind)())
    twin = torch.nn.Sequential(*layers)
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in net.state_dict().items()})
    return twin


def order(count, batch_size, epochs, seed):
    """Index arrays of all batches of all epochs."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        shuffled = rng.permutation(count)
        for start in range(0, count, batch_size):
            yield shuffled[start : start + batch_size]


def train_fastconv(net, optimizer, x, y, batches):
    loss = nn.CrossEntropyLoss()
    losses = []
    for index in batches:
        optimizer.zero_grad()
        losses.append(loss(net(x[index]), y[index]))
        net.backward(loss.backward(), need_input_grad=False)
        optimizer.step()
    return losses


def train_torch(net, optimizer, x, y, batches):
    import torch

    x, y = torch.from_numpy(x), torch.from_numpy(y)
    losses = []
    for index in batches:
        index = torch.from_numpy(index)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x[index]), y[index])
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def torch_accuracy(net, x, y):
    import torch

    with torch.no_grad():
        return float((net(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


def run(recipe, seed, epochs, with_twin):
    """One seed: (largest relative loss difference, accuracy, PyTorch's accuracy, seconds)."""
    build, (kind, lr), batch_size = RECIPES[recipe]
    train, test = (datasets.load("fashion-mnist", split) for split in ("train", "test"))
    x, y = train.inputs(), train.labels.astype(np.int64)
    x_test, y_test = test.inputs(), test.labels.astype(np.int64)
    net = build(seed)
    difference = peer = peer_seconds = None
    if with_twin:
        import torch

        twin = torch_twin(net)
        optimizer = getattr(torch.optim, kind)(twin.parameters(), lr=lr)
        start = time.perf_counter()
        expected = train_torch(twin, optimizer, x, y, order(len(x), batch_size, epochs, seed))
        peer_seconds = time.perf_counter() - start
        peer = torch_accuracy(twin, x_test, y_test)
    start = time.perf_counter()
    optimizer = getattr(nn, kind)(net.parameters(), lr=lr)
    losses = train_fastconv(net, optimizer, x, y, order(len(x), batch_size, epochs, seed))
    seconds = time.perf_counter() - start
    accuracy = nn.evaluate(net, (x_test, y_test)).accuracy
    if with_twin:
        a, b = (np.array(v[:COMPARED_STEPS]) for v in (losses, expected))
        difference = float(np.max(np.abs(a - b) / np.abs(b)))
    return difference, accuracy, peer, seconds, peer_seconds


def show(value, pattern):
    return "-" if value is None else format(value, pattern)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", choices=RECIPES, default="average")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--twin", action="store_true", help="train PyTorch's beside `improved` too")
    args = parser.parse_args()
    with_twin = args.twin or args.recipe != "improved"
    if args.threads:
        fc.set_num_threads(args.threads)
        if with_twin:
            import torch

            torch.set_num_threads(args.threads)
    print("| recipe | seed | losses differ by | accuracy | PyTorch's | seconds | PyTorch's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for seed in args.seeds:
        difference, accuracy, peer, seconds, peer_seconds = run(
            args.recipe, seed, args.epochs, with_twin
        )
        print(
            f"| {args.recipe} | {seed} | {show(difference, '.1e')} | {accuracy:.4f} "
            f"| {show(peer, '.4f')} | {seconds:.1f} | {show(peer_seconds, '.1f')} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
