import numpy as np

from fastconv.backends.native._dispatch import Call

class Packed:
    nbytes: int
    form: int

class WinogradWeights:
    nbytes: int

class Prepared(Call): ...

def pack_weight(geometry: tuple[int, ...], weight: np.ndarray, form: int, isa: int) -> Packed: ...
def prepare(
    geometry: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray | None,
    packed: Packed | None,
    out: np.ndarray,
    nhwc: bool,
    activation: int,
    form: int,
    flush: bool,
    isa_index: int,
    threads: int,
) -> Prepared | None: ...
def prepare_depthwise(
    geometry: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray | None,
    out: np.ndarray,
    nhwc: bool,
    activation: int,
    by_rows: bool,
    flush: bool,
    isa_index: int,
    threads: int,
) -> Prepared | None: ...
def prepare_winograd(
    geometry: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray | None,
    packed: WinogradWeights | None,
    out: np.ndarray,
    nhwc: bool,
    activation: int,
    m: int,
    flush: bool,
    isa_index: int,
    threads: int,
) -> Prepared | None: ...
def conv2d(
    geometry: tuple[int, ...],
    x: np.ndarray,
    weight: np.ndarray,
    packed: Packed | None,
    bias: np.ndarray | None,
    out: np.ndarray,
    activation: int,
    form: int,
    isa: int,
    threads: int,
) -> None: ...
def conv2d_input(
    geometry: tuple[int, ...],
    grad_output: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    form: int,
    isa: int,
    threads: int,
) -> None: ...
def conv2d_weight(
    geometry: tuple[int, ...],
    x: np.ndarray,
    grad_output: np.ndarray,
    out: np.ndarray,
    form: int,
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
    by_rows: bool,
    isa: int,
    threads: int,
) -> None: ...
def depthwise_input(
    geometry: tuple[int, ...],
    grad_output: np.ndarray,
    weight: np.ndarray,
    out: np.ndarray,
    by_rows: bool,
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
def bounds() -> dict[str, int]: ...
