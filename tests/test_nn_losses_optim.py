"""Losses and optimisers without another library: by their formulas, and their messages."""

import math

import numpy as np
import pytest

from fastconv import nn


def scores(*shape, scale=1.0):
    return np.random.default_rng(0).standard_normal(shape) * scale


def central_difference(loss, x, target, step=1e-6):
    found = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + step
        above = loss(x, target)
        x[i] = kept - step
        found[i] = (above - loss(x, target)) / (2 * step)
        x[i] = kept
    return found


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_gradient(reduction):
    loss, x, target = nn.CrossEntropyLoss(reduction), scores(4, 5), np.array([0, 4, 2, 2])
    expected = central_difference(loss, x, target)
    loss(x, target)
    np.testing.assert_allclose(loss.backward(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mse_gradient(reduction):
    loss, x, target = nn.MSELoss(reduction), scores(4, 5), np.ones((4, 5), int)
    expected = central_difference(loss, x, target)
    loss(x, target)
    np.testing.assert_allclose(loss.backward(), expected, rtol=1e-6, atol=1e-8)


def test_cross_entropy_of_large_scores():
    """Naive exponentials overflow here."""
    loss = nn.CrossEntropyLoss()
    x = np.array([[1000.0, 0.0], [-1000.0, 0.0]], np.float32)
    assert loss(x, [0, 1]) == 0
    assert loss(x, [1, 0]) == 1000
    np.testing.assert_array_equal(loss.backward(), [[0.5, -0.5], [-0.5, 0.5]])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_cross_entropy_in_any_layout_and_label_type(order, kind):
    x = scores(6, 4)
    target = np.array([0, 1, 2, 3, 0, 1], kind)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    loss = nn.CrossEntropyLoss()
    expected = -np.log(p[np.arange(6), target]).mean()
    assert loss(np.asarray(x, order=order), target) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(loss.backward(), (p - np.eye(4)[target]) / 6, atol=1e-16)


def test_gradients_of_a_loss_are_the_callers():
    loss = nn.CrossEntropyLoss()
    loss(scores(4, 5), [0, 1, 2, 3])
    first = loss.backward()
    kept = first.copy()
    first_again = loss.backward()
    first_again += 1
    loss(scores(4, 5, scale=2), [3, 2, 1, 0])
    np.testing.assert_array_equal(first, kept)


X = np.zeros((2, 3))
LOSS_ERRORS = [
    (lambda: nn.MSELoss("none"), ValueError, "reduction: expected 'mean' or 'sum', got 'none'"),
    (lambda: nn.CrossEntropyLoss().backward(), RuntimeError, "call CrossEntropyLoss on an output"),
    (lambda: nn.CrossEntropyLoss()(X[0], 0), ValueError, r"output: expected shape \(N, classes\)"),
    (lambda: nn.CrossEntropyLoss()(X, [0]), ValueError, r"target: expected shape \(2,\), got \(1"),
    (lambda: nn.CrossEntropyLoss()(X, [0, 1.5]), TypeError, "integer classes, got dtype float64"),
    (lambda: nn.CrossEntropyLoss()(X, [0, 3]), ValueError, "classes 0 to 2, got 3 at position 1"),
    (lambda: nn.CrossEntropyLoss()(X, [-1, 0]), ValueError, "0 to 2, got -1 at position 0"),
    (lambda: nn.CrossEntropyLoss()(X.astype(int), [0, 1]), TypeError, "output: .* dtype int64"),
    (lambda: nn.MSELoss()(X, X[0]), ValueError, r"target: expected shape \(2, 3\), got \(3,\)"),
    (lambda: nn.MSELoss()(X.astype(int), X), TypeError, "output: .* got dtype int64"),
    (lambda: nn.MSELoss()(X[:0], X[:0]), ValueError, "output: expected at least one element"),
]


@pytest.mark.parametrize("call, kind, message", LOSS_ERRORS)
def test_loss_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def parameter(value=(1.0, -2.0)):
    return nn.Parameter(np.array(value))


def test_sgd_by_hand():
    p = parameter()
    optimizer = nn.SGD([p], lr=0.1, momentum=0.5, weight_decay=0.2)
    theta, buffer = np.array([1.0, -2.0]), None
    for step in range(4):
        p.grad = np.array([0.5, step])
        g = p.grad + 0.2 * theta
        buffer = g if buffer is None else 0.5 * buffer + g
        theta = theta - 0.1 * buffer
        optimizer.step()
        np.testing.assert_allclose(p.data, theta, rtol=1e-15)
        np.testing.assert_array_equal(p.grad, [0.5, step])  # the gradient is only read


def test_parameters_without_gradient_are_passed_over():
    p, q = parameter(), parameter()
    optimizer = nn.Adam([p, q], lr=0.1)
    q.grad = np.ones(2)
    optimizer.step()
    np.testing.assert_array_equal(p.data, [1, -2])
    assert (q.data != [1, -2]).all()
    optimizer.zero_grad()
    assert q.grad is None


def test_updates_are_in_place_and_keep_the_dtype():
    p = nn.Parameter(np.ones(3, np.float32))
    data = p.data
    for optimizer in (nn.SGD([p], 0.1, momentum=0.9, nesterov=True), nn.Adam([p])):
        p.grad = np.ones(3, np.float32)
        optimizer.step()
        optimizer.step()
        assert p.data is data and data.dtype == np.float32
        arrays = [v for v in optimizer.state_dict().values() if isinstance(v, np.ndarray)]
        assert arrays and all(a.dtype == np.float32 for a in arrays)


@pytest.mark.parametrize("kind", [nn.SGD, nn.Adam])
def test_optimizer_state_round_trip(kind):
    extra = {"momentum": 0.9} if kind is nn.SGD else {}
    p, q = parameter(), parameter()
    first = kind([p], lr=0.1, weight_decay=0.01, **extra)
    for _ in range(3):
        p.grad = np.array([1.0, 2.0])
        first.step()
    second = kind([q], lr=0.7)
    second.load_state_dict(first.state_dict())
    q.data[...] = p.data
    for _ in range(3):
        p.grad = q.grad = np.array([0.5, -1.0])
        first.step()
        second.step()
    np.testing.assert_array_equal(p.data, q.data)
    assert second.lr == 0.1 and repr(first) == repr(second)


def loaded(change):
    optimizer = nn.SGD([parameter()], lr=0.1, momentum=0.9)
    optimizer.params[0].grad = np.ones(2)
    optimizer.step()
    state = optimizer.state_dict()
    change(state)
    return lambda: optimizer.load_state_dict(state)


OPTIM_ERRORS = [
    (lambda: nn.SGD([], 0.1), ValueError, "params: expected at least one Parameter, got none"),
    (lambda: nn.SGD([X], 0.1), TypeError, "params: .* got ndarray at position 0"),
    (lambda: nn.SGD([parameter()] * 2, 0.1), ValueError, "at position 1 is there twice"),
    (lambda: nn.SGD([parameter()], -1), ValueError, "lr: expected at least 0, got -1.0"),
    (lambda: nn.SGD([parameter()], math.nan), ValueError, "lr: expected at least 0, got nan"),
    (lambda: nn.SGD([parameter()], "1"), TypeError, "lr: expected a number, got str '1'"),
    (lambda: nn.SGD([parameter()], 0.1, momentum=-1), ValueError, "momentum: expected at least 0"),
    (lambda: nn.SGD([parameter()], 0.1, nesterov=True), ValueError, "nesterov: needs momentum"),
    (lambda: nn.Adam([parameter()], betas=0.9), TypeError, "betas: expected a pair"),
    (lambda: nn.Adam([parameter()], betas=(0.9, 1.0)), ValueError, "betas: .* below 1, got 1.0"),
    (lambda: nn.Adam([parameter()], eps=-1), ValueError, "eps: expected at least 0"),
    (loaded(lambda s: s.update(name="Adam")), ValueError, "expected that of SGD, got 'Adam'"),
    (loaded(lambda s: s.pop("lr")), ValueError, "state: missing 'lr'"),
    (loaded(lambda s: s.update({"7.x": 1})), ValueError, "unexpected entry '7.x'"),
    (
        loaded(lambda s: s.update({"0.momentum_buffer": np.zeros(3)})),
        ValueError,
        r"'0.momentum_buffer' has shape \(3,\), expected \(2,\)",
    ),
]


@pytest.mark.parametrize("call, kind, message", OPTIM_ERRORS)
def test_optimizer_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_gradient_of_a_wrong_shape():
    p = parameter()
    p.grad = np.ones(3)
    with pytest.raises(ValueError, match=r"grad: .* shape \(2,\), got \(3,\)"):
        nn.SGD([p], 0.1).step()
