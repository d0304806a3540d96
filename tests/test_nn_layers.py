"""Layers: gradients against finite differences, state, shapes, memory, messages."""

import copy
import pickle

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn._workspace import Workspace

RNG_SEED = 7


def array(*shape, dtype=np.float64, seed=RNG_SEED):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def numerical_gradient(function, x, step=1e-6):
    """Central differences of a scalar function, one element at a time."""
    gradient = np.empty_like(x)
    flat, found = x.reshape(-1), gradient.reshape(-1)
    for i in range(flat.size):
        kept = flat[i]
        flat[i] = kept + step
        above = function()
        flat[i] = kept - step
        below = function()
        flat[i] = kept
        found[i] = (above - below) / (2 * step)
    return gradient


def check_gradients(net, x):
    """Input and parameter gradients of sum(net(x) * direction)."""
    direction = array(*net(x).shape, seed=3)

    def value():
        return float((net(x) * direction).sum())

    net(x)
    net.zero_grad()
    grad_x = net.backward(direction)
    grads = {name: p.grad.copy() for name, p in net.named_parameters()}
    # Central differences are good to about step**2 and eps / step: 1e-8 here.
    np.testing.assert_allclose(grad_x, numerical_gradient(value, x), rtol=1e-6, atol=1e-7)
    for name, parameter in net.named_parameters():
        expected = numerical_gradient(value, parameter.data)
        np.testing.assert_allclose(grads[name], expected, rtol=1e-6, atol=1e-7, err_msg=name)


LAYERS = {
    "conv": lambda: nn.Conv2d(2, 3, 3, rng=1, dtype=np.float64),
    "conv_stride_padding": lambda: nn.Conv2d(
        2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), rng=1, dtype=np.float64
    ),
    "conv_groups": lambda: nn.Conv2d(2, 4, 3, padding=1, groups=2, rng=1, dtype=np.float64),
    "conv_no_bias": lambda: nn.Conv2d(2, 3, 3, bias=False, rng=1, dtype=np.float64),
    "conv_transpose": lambda: nn.ConvTranspose2d(2, 3, 3, rng=1, dtype=np.float64),
    "conv_transpose_all": lambda: nn.ConvTranspose2d(
        2, 4, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, (1, 2), rng=1, dtype=np.float64
    ),
    "conv_transpose_extra": lambda: nn.ConvTranspose2d(  # output_padding beyond the stride
        2, 2, 2, output_padding=1, dilation=2, rng=1, dtype=np.float64
    ),
    "conv_transpose_tanh_pool": lambda: nn.Sequential(
        nn.ConvTranspose2d(2, 2, 2, 2, rng=1, dtype=np.float64), nn.Tanh(), nn.AvgPool2d(2)
    ),
    "max_pool": lambda: nn.MaxPool2d(2),
    "max_pool_overlap": lambda: nn.MaxPool2d(3, 2, padding=1),
    "min_pool": lambda: nn.MinPool2d(2),
    "min_pool_overlap": lambda: nn.MinPool2d(3, 2, padding=1),
    "min_pool_all": lambda: nn.MinPool2d((2, 3), 1, (1, 0), (2, 1), ceil_mode=True),
    "softmax_pool": lambda: nn.SoftmaxPool2d(2),
    "softmax_pool_overlap": lambda: nn.SoftmaxPool2d(3, 2, padding=1, beta=2.5),
    "softmax_pool_negative": lambda: nn.SoftmaxPool2d((2, 3), (1, 2), beta=-0.5),
    "avg_pool": lambda: nn.AvgPool2d(2),
    "avg_pool_overlap": lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "linear": lambda: nn.Linear(5, 4, rng=1, dtype=np.float64),
    "linear_no_bias": lambda: nn.Linear(5, 4, bias=False, rng=1, dtype=np.float64),
    "flatten": lambda: nn.Flatten(),
    "sigmoid": lambda: nn.Sigmoid(),
    "relu": lambda: nn.ReLU(),
    "tanh": lambda: nn.Tanh(),
    "conv_sigmoid": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, rng=1, dtype=np.float64), nn.Sigmoid()
    ),
    "conv_relu_pool": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, rng=1, dtype=np.float64), nn.ReLU(), nn.MaxPool2d(2)
    ),
    "conv_relu_min_pool": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 2, rng=1, dtype=np.float64), nn.ReLU(), nn.MinPool2d(2)
    ),
    "conv_sigmoid_softmax_pool": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 2, rng=1, dtype=np.float64), nn.Sigmoid(), nn.SoftmaxPool2d(2)
    ),
    "conv_tanh_linear": lambda: nn.Sequential(
        nn.Conv2d(2, 1, 2, rng=1, dtype=np.float64),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16, 3, rng=2, dtype=np.float64),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_finite_differences(name):
    check_gradients(LAYERS[name](), array(2, 2, 5, 5))


LINES = {
    "conv1d": lambda: nn.Conv1d(2, 3, 3, rng=1, dtype=np.float64),
    "conv1d_all": lambda: nn.Conv1d(
        2, 4, 3, 2, ((1, 2),), 2, 2, bias=False, rng=1, dtype=np.float64
    ),
    "conv1d_same": lambda: nn.Conv1d(2, 1, (4,), padding="same", rng=1, dtype=np.float64),
    "conv1d_tanh_linear": lambda: nn.Sequential(
        nn.Conv1d(2, 2, 3, stride=3, rng=1, dtype=np.float64),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6, 3, rng=2, dtype=np.float64),
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_gradients_of_lines_by_finite_differences(name):
    check_gradients(LINES[name](), array(2, 2, 9))


@pytest.mark.parametrize(
    "make, shape",
    [
        (LAYERS["conv_transpose_all"], (2, 2, 4, 5)),
        (LAYERS["conv_transpose_extra"], (2, 2, 4, 5)),
        (LAYERS["min_pool_all"], (2, 3, 6, 7)),
        (LAYERS["softmax_pool_overlap"], (2, 3, 6, 7)),
        (LINES["conv1d_all"], (2, 2, 9)),
        (LINES["conv1d_same"], (2, 2, 9)),
    ],
)
def test_one_image_or_line_and_both_modes(make, shape):
    layer, x = make(), array(*shape)
    y = layer(x)
    assert layer.output_shape(shape) == y.shape and layer.output_shape(shape[1:]) == y.shape[1:]
    grad_x = layer.backward(y)
    np.testing.assert_array_equal(layer.eval()(x), y)
    with pytest.raises(RuntimeError, match="no forward pass in training mode"):
        layer.backward(y)
    one = layer.train()(x[0])
    np.testing.assert_array_equal(one, y[0])
    np.testing.assert_array_equal(layer.backward(one), grad_x[0])
    assert layer.backward(one, need_input_grad=False) is None
    # float32 and integers, where there is memory to reuse and where not
    for dtype in (np.float32, np.float16, np.int64):
        y = layer((8 * x).astype(dtype))
        assert layer.backward(np.ones_like(y)).shape == shape


def test_what_the_layers_are_made_of():
    line = nn.Conv1d(4, 6, 5, groups=2, rng=0)
    assert line.weight.shape == (6, 2, 5) and line.bias.shape == (6,)
    assert repr(line) == "Conv1d(4, 6, kernel_size=(5,), stride=(1,), padding=0, groups=2)"
    assert line.flops((3, 4, 20)) == 2 * 3 * 6 * 16 * 2 * 5
    spread = nn.ConvTranspose2d(4, 6, 5, 2, output_padding=1, groups=2, bias=False, rng=0)
    assert spread.weight.shape == (4, 3, 5, 5) and list(spread.state_dict()) == ["weight"]
    assert repr(spread) == (
        "ConvTranspose2d(4, 6, kernel_size=(5, 5), stride=(2, 2), padding=0, "
        "output_padding=(1, 1), groups=2, bias=False)"
    )
    # each pixel of each channel times the 3 x 5 x 5 weights of its own
    assert spread.flops((2, 4, 7, 8)) == 2 * (2 * 4 * 7 * 8) * (3 * 5 * 5)
    soft = nn.SoftmaxPool2d(2, beta=3)
    assert repr(soft) == "SoftmaxPool2d(kernel_size=(2, 2), stride=None, padding=0, beta=3.0)"
    assert soft.state_dict() == {}
    assert repr(nn.MinPool2d(3, 2)) == "MinPool2d(kernel_size=(3, 3), stride=(2, 2), padding=0)"
    assert repr(nn.Conv2d(1, 2, 3, dilation=2, rng=0)).endswith("padding=0, dilation=(2, 2))")
    # what a summary counts
    net = nn.Sequential(spread, nn.MinPool2d(2), nn.Flatten(2), line.__class__(6, 1, 3, rng=0))
    lines = net.summary((1, 4, 4, 4)).layers
    assert [one.output_shape for one in lines] == [(1, 6, 12, 12), (1, 6, 6, 6), (1, 6, 36),
                                                   (1, 1, 34)]  # fmt: skip
    assert lines[0].bytes == 4 * (4 * 16 + 4 * 3 * 25 + 6 * 144)
    assert lines[1].flops == 6 * 36 * 4 and lines[1].parameters == 0
    assert lines[3].flops == 2 * 34 * 6 * 3 and lines[3].parameters == 6 * 3 + 1


def test_initial_weights_of_lines_and_spreads():
    for layer, fan_in in (
        (nn.Conv1d(16, 64, 25, rng=0), 16 * 25),
        (nn.ConvTranspose2d(64, 16, 5, rng=0), 16 * 25),  # as PyTorch counts: of K, not of C
    ):
        weight, bound = layer.weight.data, 1 / np.sqrt(fan_in)
        assert abs(weight).max() <= bound and abs(layer.bias.data).max() <= bound
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


def test_pools_of_lenet_in_between():
    """On the same weights: the minimum, the softmax's mean and the maximum of each window."""
    x = array(4, 1, 28, 28)
    features = {}
    for pool in nn.POOLS:
        net = nn.lenet("tanh", pool, seed=0, dtype=np.float64)
        features[pool] = net[:3](x)
    low, mean, soft, high = (features[name] for name in ("min", "avg", "softmax", "max"))
    assert (low <= mean).all() and (mean <= soft).all() and (soft <= high).all()


def test_lenet_shapes_layer_by_layer():
    net, x = nn.lenet(seed=0), np.zeros((1, 1, 28, 28), np.float32)
    shapes = []
    for layer in net:
        x = layer(x)
        shapes.append((type(layer).__name__, x.shape))
    assert shapes == [
        ("Conv2d", (1, 6, 28, 28)),
        ("Sigmoid", (1, 6, 28, 28)),
        ("AvgPool2d", (1, 6, 14, 14)),
        ("Conv2d", (1, 16, 10, 10)),
        ("Sigmoid", (1, 16, 10, 10)),
        ("AvgPool2d", (1, 16, 5, 5)),
        ("Flatten", (1, 400)),
        ("Linear", (1, 120)),
        ("Sigmoid", (1, 120)),
        ("Linear", (1, 84)),
        ("Sigmoid", (1, 84)),
        ("Linear", (1, 10)),
    ]
    assert [(line.layer, line.output_shape) for line in net.summary((1, 1, 28, 28))] == shapes


def test_lenet_summary():
    summary = nn.lenet(seed=0).summary((1, 1, 28, 28))
    lines = {line.name: line for line in summary}
    assert summary.parameters == 61706
    assert lines["0"].parameters == 156 and lines["3"].parameters == 2416
    # 2 K P Q C R S of a convolution, 2 in out of a linear layer.
    assert lines["0"].flops == 2 * 6 * 28 * 28 * 25
    assert lines["3"].flops == 2 * 16 * 10 * 10 * 6 * 25
    assert lines["7"].flops == 2 * 400 * 120
    assert lines["2"].flops == 6 * 14 * 14 * 4
    assert lines["0"].bytes == 4 * (784 + 156 + 6 * 784)
    assert [lines[n].receptive_field for n in "012345"] == [
        (5, 5),
        (5, 5),
        (6, 6),
        (14, 14),
        (14, 14),
        (16, 16),
    ]
    assert lines["6"].receptive_field is None and lines["7"].receptive_field is None
    assert summary.flops == sum(line.flops for line in summary)
    assert summary.as_dict()["layers"][0]["output_shape"] == (1, 6, 28, 28)
    text = str(summary)
    assert "61,706" in text and "16 x 16" in text and text.splitlines()[-1].startswith("total")


def test_lenet_improved_shapes():
    net = nn.lenet_improved(seed=0)
    shapes = [line.output_shape for line in net.summary((2, 1, 28, 28))]
    assert shapes[6:10] == [(2, 32, 2, 2), (2, 32, 2, 2), (2, 32, 1, 1), (2, 32)]
    assert [p.shape for p in net.parameters()][6::2] == [(240, 32), (120, 240), (84, 120), (10, 84)]
    assert net(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


@pytest.mark.parametrize(
    "pool, layer",
    [
        ("avg", nn.AvgPool2d),
        ("max", nn.MaxPool2d),
        ("min", nn.MinPool2d),
        ("softmax", nn.SoftmaxPool2d),
    ],
)
@pytest.mark.parametrize(
    "activation, kind", [("sigmoid", nn.Sigmoid), ("relu", nn.ReLU), ("tanh", nn.Tanh)]
)
def test_lenet_options(pool, layer, activation, kind):
    net = nn.lenet(activation, pool, classes=3, seed=0)
    assert type(net[1]) is kind and type(net[2]) is layer
    assert net[-1].weight.shape == (3, 84)


def test_nested_names_and_summary():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.ReLU()), nn.Flatten(), nn.Linear(8, 1, rng=0)
    )
    assert list(net.state_dict()) == ["0.0.weight", "0.0.bias", "2.weight", "2.bias"]
    assert [line.name for line in net.summary((1, 1, 4, 4))] == ["0.0", "0.1", "1", "2"]
    assert net.flops((1, 1, 4, 4)) == sum(line.flops for line in net.summary((1, 1, 4, 4)))


def test_state_dict_is_a_copy_and_loads_back():
    net, other = nn.lenet(seed=0), nn.lenet(seed=1)
    state = net.state_dict()
    before = net[0].weight.data.copy()
    state["0.weight"] += 1
    np.testing.assert_array_equal(net[0].weight.data, before)
    other.load_state_dict(net.state_dict())
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert a.data is not b.data


def test_load_state_dict_takes_lists_and_other_dtypes():
    net = nn.Linear(2, 1, rng=0)
    net.load_state_dict({"weight": np.array([[1.5, 2.5]], np.float64), "bias": [4]})
    assert net.weight.dtype == np.float32
    np.testing.assert_array_equal(net.weight.data, [[1.5, 2.5]])
    np.testing.assert_array_equal(net.bias.data, [4])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("3.bias"), r"state: missing '3\.bias'"),
        (lambda s: s.update(extra=1), r"state: unexpected 'extra'"),
        (
            lambda s: s.update({"0.weight": np.zeros((6, 5, 5))}),
            r"'0\.weight' expected shape \(6, 1, 5, 5\), got \(6, 5, 5\)",
        ),
    ],
)
def test_load_state_dict_errors_change_nothing(change, message):
    net = nn.lenet(seed=0)
    before = net.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_load_state_dict_refuses_objects():
    with pytest.raises(TypeError, match="'bias' expected real numbers, got <U1"):
        nn.Linear(1, 1, rng=0).load_state_dict({"weight": [[1.0]], "bias": ["a"]})


def test_gradients_accumulate_until_zero_grad():
    net, x = nn.Linear(3, 2, rng=0, dtype=np.float64), array(4, 3)
    net(x)
    net.backward(np.ones((4, 2)))
    once = net.weight.grad.copy()
    net.backward(np.ones((4, 2)))
    np.testing.assert_allclose(net.weight.grad, 2 * once, rtol=1e-15)
    net.zero_grad()
    assert net.weight.grad is None


def test_no_input_gradient_when_not_needed():
    net = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 2, 3, rng=0), nn.ReLU())
    x = array(1, 1, 10, 10, dtype=np.float32)
    g = np.ones(net(x).shape, np.float32)
    assert net.backward(g, need_input_grad=False) is None
    skipped = net[1].weight.grad.copy()
    net.zero_grad()
    assert net.backward(g).shape == x.shape
    np.testing.assert_array_equal(net[1].weight.grad, skipped)


def test_returned_arrays_stay_as_they_are():
    """Memory is reused only when nobody holds it, through however many steps."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, rng=0), nn.Sigmoid(), nn.Flatten())
    held = []
    for seed in range(5):
        x = array(4, 1, 32, 32, dtype=np.float32, seed=seed)
        y = net(x)
        grad_x = net.backward(y)
        held.append((y, y.copy(), grad_x, grad_x.copy(), net[0].weight.grad))
        held[-1] += (held[-1][-1].copy(),)
        net.zero_grad()
    for y, y_copy, grad_x, grad_copy, grad_w, grad_w_copy in held:
        np.testing.assert_array_equal(y, y_copy)
        np.testing.assert_array_equal(grad_x, grad_copy)
        np.testing.assert_array_equal(grad_w, grad_w_copy)


def test_memory_of_a_step_is_reused_by_the_next():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, rng=0), nn.ReLU(), nn.AvgPool2d(2))
    x = array(4, 1, 64, 64, dtype=np.float32)
    addresses = []
    for _ in range(4):
        net.zero_grad()
        y = net(x)
        net.backward(y, need_input_grad=False)
        addresses.append({buffer.ctypes.data for buffer in net._workspace._buffers})
        del y
    assert addresses[1] == addresses[2] == addresses[3]
    net.release()
    assert not net._workspace._buffers


def test_workspace_gives_back_what_is_not_used():
    workspace = Workspace()
    big = workspace.take((1 << 20,), np.float32)
    del big
    for _ in range(40):
        workspace.next_step()
        workspace.take((1 << 16,), np.float32)
    assert [buffer.size < 1 << 20 for buffer in workspace._buffers] == [True]


def test_workspace_arrays_are_aligned():
    workspace = Workspace()
    held = [workspace.take((100, size), np.float32) for size in (1000, 1001, 1002)]
    assert [a.ctypes.data % 64 for a in held] == [0, 0, 0]


def test_workspace_sees_views_and_memoryviews():
    workspace = Workspace()
    kept = memoryview(workspace.take((1 << 17,), np.float32)[5:])
    other = workspace.take((1 << 17,), np.float32)
    assert not np.shares_memory(np.asarray(kept), other)


def test_evaluation_between_forward_and_backward_changes_nothing():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2, rng=0))
    x, other = array(8, 1, 4, 4, dtype=np.float32), array(8, 1, 4, 4, dtype=np.float32, seed=9)
    g = np.ones((8, 2), np.float32)
    net(x)
    expected = net.backward(g)
    net(x)
    nn.evaluate(net, (other, np.zeros(8, int)))
    net[0](other)
    np.testing.assert_array_equal(net.backward(g), expected)


def test_evaluation_mode_keeps_nothing():
    net = nn.lenet(seed=0).eval()
    y = net(np.zeros((1, 1, 28, 28), np.float32))
    with pytest.raises(RuntimeError, match="no forward pass in training mode"):
        net.backward(y)
    assert not net._workspace._buffers
    net.train()
    assert all(module.training for module in net.modules())


def test_forward_alike_in_both_modes():
    net, x = nn.lenet("relu", "max", seed=0), array(3, 1, 28, 28, dtype=np.float32)
    np.testing.assert_array_equal(net(x), net.eval()(x))


def test_a_layer_may_stand_twice():
    relu = nn.ReLU()
    shared = nn.Conv2d(1, 1, 3, padding=1, rng=0, dtype=np.float64)
    net = nn.Sequential(shared, relu, shared, relu)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    check_gradients(net, array(1, 1, 4, 4))


def test_unbatched_input():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2))
    x = array(2, 6, 6, dtype=np.float32)
    y = net(x)
    grad_x = net.backward(np.ones_like(y))
    batched = net(x[None])
    np.testing.assert_array_equal(y, batched[0])
    np.testing.assert_array_equal(grad_x, net.backward(np.ones_like(batched))[0])
    assert net.output_shape((2, 6, 6)) == y.shape == (3, 2, 2)


def test_linear_over_more_axes():
    check_gradients(nn.Linear(3, 2, rng=0, dtype=np.float64), array(2, 4, 3))


@pytest.mark.parametrize("dtype, expected", [("u1", "f4"), ("f2", "f4"), ("f8", "f8")])
def test_other_input_dtypes(dtype, expected):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.Sigmoid(), nn.Flatten(), nn.Linear(8, 2))
    x = np.arange(16).reshape(1, 1, 4, 4).astype(dtype)
    y = net(x)
    assert y.dtype == expected
    net.backward(y)
    assert all(p.grad.dtype == np.float32 for p in net.parameters())
    net.backward(y)
    assert all(p.grad.dtype == np.float32 for p in net.parameters())


def test_copies_are_independent():
    net = nn.lenet(seed=0)
    x = array(2, 1, 28, 28, dtype=np.float32)
    y = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other(x), y)
        other[0].weight.data += 1
        np.testing.assert_array_equal(net(x), y)


def test_a_layer_of_ones_own_inside_sequential():
    class Double(nn.Module):
        def forward(self, x):
            return 2 * x

        def backward(self, grad_output, need_input_grad=True):
            return 2 * grad_output

    class Loud(nn.Conv2d):
        """A subclass whose forward counts must not be passed by."""

        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    net = nn.Sequential(Loud(1, 2, 3, rng=0, dtype=np.float64), nn.ReLU(), Double(), nn.Flatten())
    check_gradients(net, array(1, 1, 4, 4))
    assert net[0].calls > 1
    assert net.summary((1, 1, 4, 4)).layers[2].output_shape == (1, 2, 2, 2)


def test_seed_fixes_the_weights():
    a, b, c = (nn.lenet(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all((a[name] == b[name]).all() for name in a)
    assert any((a[name] != c[name]).any() for name in a)
    first, second = nn.Conv2d(1, 1, 3, rng=5), nn.Conv2d(1, 1, 3, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(first.weight.data, second.weight.data)


@pytest.mark.parametrize(
    "method, spread, bounded",
    [
        ("xavier_uniform", lambda i, o: np.sqrt(2 / (i + o)), True),
        ("xavier_normal", lambda i, o: np.sqrt(2 / (i + o)), False),
        ("he_uniform", lambda i, o: np.sqrt(2 / i), True),
        ("he_normal", lambda i, o: np.sqrt(2 / i), False),
        ("torch_default", lambda i, o: np.sqrt(1 / (3 * i)), True),
    ],
)
def test_initialisations(method, spread, bounded):
    net = nn.Sequential(nn.Conv2d(16, 32, 5), nn.Linear(400, 120))
    assert nn.init.initialize(net, method, seed=0) is net
    for layer, fan_in, fan_out in ((net[0], 400, 800), (net[1], 400, 120)):
        weight = layer.weight.data
        sigma = spread(fan_in, fan_out)
        # The sample deviation of n values is within about 1 / sqrt(2 n) of sigma.
        assert weight.std() == pytest.approx(sigma, rel=5 / np.sqrt(weight.size))
        assert abs(weight.mean()) < 5 * sigma / np.sqrt(weight.size)
        assert (abs(weight).max() <= sigma * np.sqrt(3) * (1 + 1e-6)) == bounded
        assert 0 < abs(layer.bias.data).max() <= 1 / np.sqrt(fan_in)


ERRORS = [
    (lambda: nn.Conv2d(0, 1, 3), ValueError, "in_channels: expected at least 1, got 0"),
    (lambda: nn.Conv2d(1, 2.0, 3), TypeError, r"out_channels: expected an integer, got float 2\.0"),
    (lambda: nn.Conv2d(1, 2, (3, 3, 3)), ValueError, "kernel_size: expected an integer or a pair"),
    (lambda: nn.Conv2d(3, 2, 3, groups=2), ValueError, "in_channels: .* multiple of groups=2"),
    (lambda: nn.Conv2d(2, 3, 3, groups=2), ValueError, "out_channels: .* multiple of groups=2"),
    (lambda: nn.Conv2d(1, 2, 3, dtype=np.float16), TypeError, "dtype: expected float32 or"),
    (lambda: nn.Linear(0, 2), ValueError, "in_features: expected at least 1, got 0"),
    (lambda: nn.Linear(2, True), TypeError, "out_features: expected an integer, got bool"),
    (lambda: nn.Linear(2, 2, rng="x"), TypeError, "seed: expected an integer"),
    (lambda: nn.Linear(2, 2, rng=-1), ValueError, "seed: expected at least 0, got -1"),
    (lambda: nn.MaxPool2d(0), ValueError, "kernel_size: expected at least 1, got 0"),
    (lambda: nn.Parameter(np.zeros(2, int)), TypeError, "data: expected float32 or float64"),
    (lambda: nn.Sequential(nn.ReLU(), 3), TypeError, "layers: .* got int at position 1"),
    (lambda: nn.Linear(2, 1)(np.zeros((1, 3))), ValueError, r"last axis of 2, got \(1, 3\)"),
    (lambda: nn.Linear(2, 1)(np.zeros((1, 2), complex)), TypeError, "got dtype complex128"),
    (lambda: nn.Flatten(2)(np.zeros((1, 3))), ValueError, r"axes 2 to -1, got shape \(1, 3\)"),
    (lambda: nn.Conv2d(1, 1, 3)(np.zeros((3, 3))), ValueError, r"\(C, H, W\), got \(3, 3\)"),
    (lambda: nn.AvgPool2d(2).output_shape((4, 4)), ValueError, r"\(C, H, W\), got \(4, 4\)"),
    (lambda: nn.ReLU().backward(np.zeros(2)), RuntimeError, "ReLU has had no forward pass"),
    (lambda: nn.lenet("gelu"), ValueError, "activation: expected one of sigmoid, relu, tanh; got"),
    (
        lambda: nn.lenet(pool="sum"),
        ValueError,
        "pool: expected one of avg, max, min, softmax; got 'sum'",
    ),
    (lambda: nn.Conv1d(1, 2, (3, 3)), ValueError, r"kernel_size: expected one integer, got \(3, 3"),
    (lambda: nn.Conv1d(1, 2, 3, stride=0), ValueError, "stride: expected at least 1, got 0"),
    (lambda: nn.Conv1d(3, 2, 3, groups=2), ValueError, "in_channels: .* multiple of groups=2"),
    (
        lambda: nn.Conv1d(1, 1, 3)(np.zeros((1, 1, 3, 3))),
        ValueError,
        r"input: expected \(N, C, L\) or \(C, L\), got \(1, 1, 3, 3\)",
    ),
    (lambda: nn.Conv1d(1, 1, 3).output_shape((9,)), ValueError, r"\(C, L\), got \(9,\)"),
    (lambda: nn.Conv1d(1, 1, 3, padding=-1)(np.zeros((1, 9))), ValueError, "padding: .* got -1"),
    (lambda: nn.Conv1d(1, 1, 3)(np.zeros((1, 2))), ValueError, "weight: .* does not fit"),
    (lambda: nn.ConvTranspose2d(1, 1, 3, padding="same"), TypeError, "padding: .* got 'same'"),
    (
        lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=-1),
        ValueError,
        "output_padding: expected at least 0, got -1",
    ),
    (
        lambda: nn.ConvTranspose2d(1, 1, 3, output_padding=1)(np.zeros((1, 3, 3))),
        ValueError,
        "output_padding: expected less than the stride",
    ),
    (
        lambda: nn.ConvTranspose2d(2, 1, 3)(np.zeros((1, 3, 3))),
        ValueError,
        r"weight: .* the input's C = 1",
    ),
    (lambda: nn.MinPool2d(2, 0), ValueError, "stride: expected at least 1, got 0"),
    (lambda: nn.MinPool2d(2, dilation=1.5), TypeError, "dilation: expected an integer"),
    (lambda: nn.SoftmaxPool2d(2, beta="hot"), TypeError, "beta: .* got 'hot'"),
    (lambda: nn.SoftmaxPool2d(2, beta=np.inf), ValueError, "beta: .* got inf"),
    (lambda: nn.SoftmaxPool2d(2, padding=2)(np.zeros((1, 4, 4))), ValueError, "padding: .* half"),
    (lambda: nn.lenet(init="zeros"), ValueError, "method: expected one of xavier_uniform"),
    (lambda: nn.init.fans((3,)), ValueError, r"shape: expected \(out, in, ...\), got \(3,\)"),
]


@pytest.mark.parametrize("call, kind, message", ERRORS)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_wrong_gradient_shape():
    net = nn.Linear(3, 2, rng=0)
    net(np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match=r"grad_output: .* shape \(4, 2\), got \(4, 3\)"):
        net.backward(np.zeros((4, 3), np.float32))


def test_missing_input_gradient_is_reported():
    class Silent(nn.Module):
        def forward(self, x):
            return x

        def backward(self, grad_output, need_input_grad=True):
            return None

    net = nn.Sequential(nn.Linear(2, 2, rng=0), Silent())
    net(np.zeros((1, 2), np.float32))
    with pytest.raises(TypeError, match="backward of Silent: .* got None"):
        net.backward(np.zeros((1, 2), np.float32))


# What PyTorch 2.13 computes in float64 from the same weights and batches; where PyTorch is
# installed, test_nn_torch.py compares with it directly.
GOLDEN_LOSSES = {
    "avg": [2.55733632187, 8.14919668908, 3.10057130728, 2.50335159132, 2.31694932877]
    + [2.85560114724, 2.21920174827, 2.75957063822, 2.36337872905, 2.48486206161],
    "max": [2.55765300536, 8.15153920218, 3.10112758727, 2.50280086548, 2.3163895286]
    + [2.85502798028, 2.21953200266, 2.75912132917, 2.36302008738, 2.48467466193],
}


@pytest.mark.parametrize("pool", GOLDEN_LOSSES)
def test_golden_loss_trace_of_lenet(pool):
    net = nn.lenet("sigmoid", pool, seed=0, dtype=np.float64)
    optimizer, criterion = nn.SGD(net.parameters(), lr=0.9, momentum=0.5), nn.CrossEntropyLoss()
    rng = np.random.default_rng(5)
    losses = []
    for _ in range(10):
        x, labels = rng.random((4, 1, 28, 28)), rng.integers(0, 10, 4)
        net.zero_grad()
        losses.append(criterion(net(x), labels))
        net.backward(criterion.backward(), need_input_grad=False)
        optimizer.step()
    # Twelve digits are written down; rounding differs below 1e-13.
    np.testing.assert_allclose(losses, GOLDEN_LOSSES[pool], rtol=1e-11)
