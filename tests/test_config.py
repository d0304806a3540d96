"""Settings: environment, blocks, threads and what show_config prints."""

import os
import threading

import helpers
import pytest

import fastconv as fc
from fastconv import config
from fastconv.config import current


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Settings as at the start of a process with no variable set; the old ones come back."""
    for name in ("BACKEND", "ISA", "NUM_THREADS", "FLUSH_DENORMALS"):
        monkeypatch.delenv(f"FASTCONV_{name}", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(config, "_process", None)


def test_defaults():
    settings = current()
    assert (settings.backend, settings.method, settings.isa) == ("native", "auto", None)
    assert settings.flush_denormals


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity here")
def test_threads_default_to_the_usable_cpus():
    assert fc.get_num_threads() == len(os.sched_getaffinity(0))


def test_environment(monkeypatch):
    monkeypatch.setenv("FASTCONV_BACKEND", "reference")
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "3")
    assert (current().backend, current().num_threads) == ("reference", 3)


@pytest.mark.parametrize(
    "name, value, message",
    [
        (
            "BACKEND",
            "naive",
            "FASTCONV_BACKEND: expected one of native, numba, reference, got 'naive'",
        ),
        ("BACKEND", "", "FASTCONV_BACKEND: expected one of native, numba, reference, got ''"),
        ("NUM_THREADS", "0", "FASTCONV_NUM_THREADS: expected a positive integer, got '0'"),
        ("NUM_THREADS", "many", "FASTCONV_NUM_THREADS: expected a positive integer, got 'many'"),
        ("FLUSH_DENORMALS", "off", "FASTCONV_FLUSH_DENORMALS: expected one of 0, 1, got 'off'"),
    ],
)
def test_bad_environment_raises_at_every_use(monkeypatch, name, value, message):
    monkeypatch.setenv(f"FASTCONV_{name}", value)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            current()


def test_every_variable_is_in_the_table():
    for name in ("BACKEND", "ISA", "NUM_THREADS", "WINOGRAD", "FLUSH_DENORMALS", "DATA"):
        assert f"``FASTCONV_{name}``" in config.__doc__


def test_blocks_nest():
    with fc.using(num_threads=3, backend="reference"):
        with fc.using(num_threads=1):
            assert (current().num_threads, current().backend) == (1, "reference")
        assert current().num_threads == 3
    assert current().backend == "native"


def test_a_block_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), fc.using(backend="reference"):
        _ = 1 / 0
    assert current().backend == "native"


def test_a_block_can_be_used_again():
    block = fc.using(num_threads=1)
    for _ in range(2):
        with block, block:
            assert current().num_threads == 1


def test_decorator():
    @fc.using(backend="reference", num_threads=1)
    def function():
        return current()

    assert (function().backend, function().num_threads) == ("reference", 1)
    assert current().backend == "native"


def test_a_block_belongs_to_its_thread():
    seen = []
    with fc.using(backend="reference"):
        thread = threading.Thread(target=lambda: seen.append(current().backend))
        thread.start()
        thread.join()
    assert seen == ["native"]


def test_set_num_threads_is_for_the_whole_process():
    fc.set_num_threads(2)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(fc.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


def test_set_num_threads_inside_a_block():
    with fc.using(backend="reference"):
        fc.set_num_threads(7)
        assert fc.get_num_threads() == 7
        with fc.using(num_threads=2):
            fc.set_num_threads(5)
            assert fc.get_num_threads() == 2
        assert fc.get_num_threads() == 5
    assert fc.get_num_threads() == 5


def test_current_is_one_object_while_nothing_changes():
    assert current() is current()
    with fc.using(num_threads=1):
        assert current() is current()


needs_native = pytest.mark.skipif("native" not in helpers.BACKENDS, reason="native is not built")


@needs_native
def test_isa_by_variable_and_by_block(monkeypatch):
    from fastconv.backends import native

    for isa in native.available_isas():
        with fc.using(isa=isa):
            assert current().isa == isa
        monkeypatch.setenv("FASTCONV_ISA", isa)
        monkeypatch.setattr(config, "_process", None)
        assert current().isa == isa


@needs_native
def test_an_isa_that_cannot_be_honoured_raises(monkeypatch):
    from fastconv.backends import native

    valid = ", ".join(native.available_isas())
    with pytest.raises(ValueError, match=f"isa: expected one of {valid}, got 'mmx'"):
        fc.using(isa="mmx")
    monkeypatch.setattr(native, "isa_names", lambda: (*native.available_isas(), "future"))
    with pytest.raises(ValueError, match=f"this CPU cannot run 'future'; it runs {valid}"):
        fc.using(isa="future")
    monkeypatch.setenv("FASTCONV_ISA", "mmx")
    with pytest.raises(ValueError, match=f"FASTCONV_ISA: expected one of {valid}, got 'mmx'"):
        current()


def test_show_config(capsys):
    fc.show_config()
    printed = capsys.readouterr().out
    for key, value in config.config().items():
        assert key in printed
        if isinstance(value, str):
            assert value in printed
    assert f"fastconv         {fc.__version__}\n" in printed
    assert "reference (present)" in printed


@needs_native
def test_show_config_of_the_native_backend():
    report = config.config()
    assert report["isa"] in report["isa available"]
    assert set(report["isa available"]) <= set(report["isa built"])
    assert report["openmp"] and report["compiler"]
    with fc.using(isa="portable"):
        assert config.config()["isa"] == "portable"
