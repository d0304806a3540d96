import numpy as np

def conv2d(
    geometry: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    activation: int,
    method: int,
    isa: int,
    threads: int,
) -> None: ...
def conv2d_input(
    geometry: tuple[int, ...],
    grad_output: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    method: int,
    isa: int,
    threads: int,
) -> None: ...
def conv2d_weight(
    geometry: tuple[int, ...],
    x: np.ndarray,
    grad_output: np.ndarray,
    out: np.ndarray,
    method: int,
    isa: int,
    threads: int,
) -> None: ...
def depthwise(
    geometry: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    activation: int,
    isa: int,
    threads: int,
) -> None: ...
def depthwise_input(
    geometry: tuple[int, ...],
    grad_output: np.ndarray,
    parts: np.ndarray,
    out: np.ndarray,
    isa: int,
    threads: int,
) -> None: ...
def depthwise_weight(
    geometry: tuple[int, ...],
    x: np.ndarray,
    grad_output: np.ndarray,
    out: np.ndarray,
    isa: int,
    threads: int,
) -> None: ...
