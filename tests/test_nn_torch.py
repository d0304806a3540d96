"""Parity with PyTorch: layers, losses, optimisers, weights both ways, a loss trace.

Each comparison allows rounding only: float64 within 1e-12 for single operations, the traces as
their comments say.
"""

import numpy as np
import pytest

from fastconv import nn

torch = pytest.importorskip("torch")


def array(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def torch_lenet(activation="Sigmoid", pool="AvgPool2d"):
    """The chapter's network, as the chapter writes it."""
    t = torch.nn
    act, pooling = getattr(t, activation), getattr(t, pool)
    return t.Sequential(
        t.Conv2d(1, 6, kernel_size=5, padding=2),
        act(),
        pooling(kernel_size=2, stride=2),
        t.Conv2d(6, 16, kernel_size=5),
        act(),
        pooling(kernel_size=2, stride=2),
        t.Flatten(),
        t.Linear(16 * 5 * 5, 120),
        act(),
        t.Linear(120, 84),
        act(),
        t.Linear(84, 10),
    )


def torch_lenet_improved():
    """The exercise's network, as the chapter notes write it."""
    t = torch.nn
    layers = []
    for before, after, kernel, padding in ((1, 6, 5, 2), (6, 16, 5, 0), (16, 32, 4, 0)):
        layers += [t.Conv2d(before, after, kernel, padding=padding), t.ReLU(), t.AvgPool2d(2, 2)]
    layers.append(t.Flatten())
    for before, after in ((32, 240), (240, 120), (120, 84)):
        layers += [t.Linear(before, after), t.ReLU()]
    return t.Sequential(*layers, t.Linear(84, 10))


PAIRS = {
    "conv": ("Conv2d", (3, 4, 3), {"stride": 2, "padding": (1, 2)}),
    "conv_groups": ("Conv2d", (4, 4, (3, 2)), {"dilation": 2, "groups": 2, "bias": False}),
    "conv_same": ("Conv2d", (3, 2, 3), {"padding": "same"}),
    "conv_transpose": ("ConvTranspose2d", (3, 4, 3), {"stride": 2, "padding": (1, 0)}),
    "conv_transpose_groups": (
        "ConvTranspose2d",
        (4, 6, (3, 2), (2, 1), 1, (1, 0), 2, False, (1, 2)),
        {},
    ),
    "conv_transpose_extra": (
        "ConvTranspose2d",
        (3, 2, 2),
        {"stride": 2, "dilation": 3, "output_padding": 2},
    ),
    "max_pool": ("MaxPool2d", (3,), {"stride": 2, "padding": 1}),
    "max_pool_ceil": ("MaxPool2d", (2,), {"ceil_mode": True}),
    "avg_pool": ("AvgPool2d", (2,), {}),
    "avg_pool_ceil": ("AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}),
    "linear": ("Linear", (9, 5), {}),
    "linear_no_bias": ("Linear", (9, 5), {"bias": False}),
    "flatten": ("Flatten", (), {}),
    "sigmoid": ("Sigmoid", (), {}),
    "relu": ("ReLU", (), {}),
    "tanh": ("Tanh", (), {}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_layer(name):
    kind, arguments, options = PAIRS[name]
    channels = 4 if "groups" in name else 3
    x = array(2, channels, 9, 9)
    theirs = getattr(torch.nn, kind)(*arguments, **options).double()
    extra = {"dtype": np.float64} if kind in ("Conv2d", "ConvTranspose2d", "Linear") else {}
    compare(getattr(nn, kind)(*arguments, **options, **extra), theirs, x)


LINES = {
    "plain": ((3, 4, 3), {}),
    "strides": ((3, 4, 5), {"stride": 3, "padding": 2, "dilation": 2}),
    "groups": ((4, 6, 2), {"groups": 2, "bias": False}),
    "same": ((3, 2, 4), {"padding": "same", "dilation": 2}),
    "tuples": ((3, 2, (4,)), {"stride": (2,), "padding": (1,)}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LINES)
def test_conv1d(name):
    arguments, options = LINES[name]
    theirs = torch.nn.Conv1d(*arguments, **options).double()
    ours = nn.Conv1d(*arguments, **options, dtype=np.float64)
    assert (ours.kernel_size, ours.stride) == (theirs.kernel_size, theirs.stride)
    compare(ours, theirs, array(2, arguments[0], 17))
    compare(ours, theirs, array(arguments[0], 17))


class TorchMinPool(torch.nn.Module):
    def forward(self, x):
        return -torch.nn.functional.max_pool2d(-x, 3, 2, 1, 1, True)


class TorchSoftmaxPool(torch.nn.Module):
    def forward(self, x):
        patches = torch.nn.functional.unfold(x, (2, 3), stride=(1, 2))
        patches = patches.view(*x.shape[:2], 6, 8, 4)
        return (patches * torch.softmax(1.5 * patches, 2)).sum(2)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (nn.MinPool2d(3, 2, 1, ceil_mode=True), TorchMinPool()),
        (nn.SoftmaxPool2d((2, 3), (1, 2), beta=1.5), TorchSoftmaxPool()),
    ],
)
def test_pools_that_torch_has_not(ours, theirs):
    compare(ours, theirs, array(2, 3, 9, 9))


def compare(ours, theirs, x):
    """Forward, backward, and the weights both ways."""
    drawn = ours.state_dict()
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()})
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)), rtol=1e-12, atol=1e-12)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(0))
    ours.load_state_dict(theirs.state_dict())
    x_torch = torch.from_numpy(x).requires_grad_()
    expected = theirs(x_torch)
    found = ours(x)
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-12, atol=1e-12)
    g = array(*found.shape, seed=1)
    expected.backward(torch.from_numpy(g))
    np.testing.assert_allclose(ours.backward(g), x_torch.grad, rtol=1e-12, atol=1e-12)
    for (ours_name, p), (theirs_name, q) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert ours_name == theirs_name
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["CrossEntropyLoss", "MSELoss"])
def test_loss(kind, reduction):
    x = array(7, 5)
    target = array(7, 5, seed=2) if kind == "MSELoss" else np.array([0, 1, 2, 3, 4, 0, 4])
    x_torch = torch.from_numpy(x).requires_grad_()
    expected = getattr(torch.nn, kind)(reduction=reduction)(x_torch, torch.from_numpy(target))
    expected.backward()
    loss = getattr(nn, kind)(reduction)
    assert loss(x, target) == pytest.approx(float(expected.detach()), rel=1e-14)
    np.testing.assert_allclose(loss.backward(), x_torch.grad, rtol=1e-13, atol=1e-15)


OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd_decay": ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    "sgd_all": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    "sgd_nesterov": (
        "SGD",
        {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.05, "nesterov": True},
    ),
    "adam": ("Adam", {"lr": 0.01}),
    "adam_all": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_over_twenty_steps(name):
    kind, options = OPTIMIZERS[name]
    start = array(3, 4)
    ours, theirs = nn.Parameter(start.copy()), torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = getattr(nn, kind)([ours], **options)
    reference = getattr(torch.optim, kind)([theirs], **options)
    for step in range(20):
        g = array(3, 4, seed=step + 10)
        ours.grad, theirs.grad = g, torch.from_numpy(g.copy())
        optimizer.step()
        reference.step()
        np.testing.assert_allclose(ours.data, theirs.detach(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("model", ["lenet", "lenet_improved"])
def test_weights_move_both_ways(model):
    theirs = torch_lenet() if model == "lenet" else torch_lenet_improved()
    ours = getattr(nn, model)(seed=1)
    x = array(2, 1, 28, 28, dtype=np.float32)
    assert list(ours.state_dict()) == list(theirs.state_dict())

    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)), rtol=1e-5, atol=1e-6)

    other = getattr(nn, model)(seed=2)
    other.load_state_dict(dict(theirs.named_parameters()))  # tensors that require gradients
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, ours.state_dict()[name])


def losses_of_both(ours, theirs, optimizers, dtype, steps=10, batch=8):
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    optimizer, reference = optimizers(ours.parameters(), theirs.parameters())
    criterion = nn.CrossEntropyLoss()
    rng = np.random.default_rng(5)
    found, expected = [], []
    for _ in range(steps):
        x = rng.random((batch, 1, 28, 28)).astype(dtype)
        y = rng.integers(0, 10, batch)
        ours.zero_grad()
        found.append(criterion(ours(x), y))
        ours.backward(criterion.backward(), need_input_grad=False)
        optimizer.step()
        reference.zero_grad()
        value = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
        value.backward()
        reference.step()
        expected.append(float(value.detach()))
    return np.array(found), np.array(expected)


@pytest.mark.parametrize("pool, pool_torch", [("avg", "AvgPool2d"), ("max", "MaxPool2d")])
def test_loss_trace_of_the_chapters_recipe(pool, pool_torch):
    ours, theirs = nn.lenet("sigmoid", pool, seed=0), torch_lenet(pool=pool_torch)
    found, expected = losses_of_both(
        ours,
        theirs,
        lambda p, q: (nn.SGD(p, lr=0.9), torch.optim.SGD(q, lr=0.9)),
        np.float32,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_loss_trace_in_double_precision():
    """Without float32's rounding the two stay together to almost the last digits."""
    ours = nn.lenet("tanh", "max", seed=0, dtype=np.float64)
    theirs = torch_lenet("Tanh", "MaxPool2d").double()
    found, expected = losses_of_both(
        ours,
        theirs,
        lambda p, q: (
            nn.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
            torch.optim.SGD(q, lr=0.1, momentum=0.9, weight_decay=1e-3),
        ),
        np.float64,
        batch=4,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_loss_trace_of_the_improved_network_with_adam():
    ours, theirs = nn.lenet_improved(seed=0, dtype=np.float64), torch_lenet_improved().double()
    found, expected = losses_of_both(
        ours,
        theirs,
        lambda p, q: (nn.Adam(p, lr=1e-3), torch.optim.Adam(q, lr=1e-3)),
        np.float64,
        batch=4,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_default_initial_weights_have_pytorchs_spread():
    ours, theirs = (
        nn.Conv2d(16, 64, 5, rng=0).weight.data,
        torch.nn.Conv2d(16, 64, 5).weight.detach(),
    )
    bound = 1 / np.sqrt(16 * 25)
    assert abs(ours).max() <= bound and float(theirs.abs().max()) <= bound
    assert ours.std() == pytest.approx(float(theirs.std()), rel=0.05)


@pytest.mark.parametrize(
    "kind, arguments, fan_in",
    [("Conv1d", (16, 64, 25, 1, 0, 1, 2), 8 * 25), ("ConvTranspose2d", (64, 32, 5), 32 * 25)],
)
def test_initial_weights_and_biases_have_pytorchs_spread(kind, arguments, fan_in):
    ours, theirs = getattr(nn, kind)(*arguments, rng=0), getattr(torch.nn, kind)(*arguments)
    bound = 1 / np.sqrt(fan_in)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert a.shape == tuple(b.shape)
        assert 0.8 * bound < abs(a.data).max() <= bound
        assert 0.8 * bound < float(b.detach().abs().max()) <= bound * (1 + 1e-6)
