"""pytest's side of the benchmarks: options, the comparison of a layer, the table at the end."""

import os
import shlex
from pathlib import Path

import pytest

from fastconv.bench import contenders, machine, run, table, timing
from fastconv.config import config as fastconv_config

BOARD = pytest.StashKey[dict]()
ROWS = pytest.StashKey[list]()


def pytest_addoption(parser):
    group = parser.getgroup("fastconv")
    group.addoption("--rounds", type=int, default=15, help="samples of each contender (15)")
    group.addoption("--threads", type=int, default=1, help="threads of everybody (1)")
    group.addoption(
        "--layers",
        action="append",
        help='parts of "family: layer", with wildcards; "core" (the default) or "all"',
    )
    group.addoption(
        "--allocation",
        choices=("fresh", "out"),
        default="fresh",
        help="fastconv's outputs: new arrays (the default, as the peers' are) or out=",
    )


def pytest_configure(config):
    config.stash[BOARD], config.stash[ROWS] = {}, []


def pytest_collection_modifyitems(config, items):
    layers = config.option.layers or ["core"]
    known = {item.module.PROBLEMS for item in items}
    problems = {
        (make, p.layer, p.op)
        for make in known
        for p in make()
        if any(run.fits(p, x) for x in layers)
    }
    if not problems and items:
        raise pytest.UsageError(f"--layers: none fits {', '.join(layers)}")

    def is_chosen(item):
        given = item.callspec.params
        return (item.module.PROBLEMS, given["layer"], given["op"]) in problems

    config.hook.pytest_deselected(items=[item for item in items if not is_chosen(item)])
    items[:] = [item for item in items if is_chosen(item)]


def pytest_report_header(config):
    names = [f"{name} {version}" for name, version in contenders.present().items()]
    lines = [f"peers: {', '.join(names) or 'none'}"]
    return lines + [f"missing peer: {line}" for line in contenders.missing()]


def command(config):
    """The command of this run, with file names instead of paths."""
    parts = []
    for argument in config.invocation_params.args:
        option, equals, value = str(argument).partition("=")
        if equals:
            value = Path(value).name
        elif os.path.isabs(option):
            option = Path(option).name
        parts.append(option + equals + value)
    return shlex.join(["pytest", *parts])


def pytest_benchmark_update_machine_info(config, machine_info):
    own = fastconv_config()
    machine_info["fastconv"] = {
        **own,
        "cores": os.cpu_count(),
        "threads": config.option.threads,
        "environment": run.environment(),
        "peers": contenders.present(),
        "missing": contenders.missing(),
        "command": command(config),
    }
    if config.stash[ROWS]:
        peaks = machine.peaks(config.option.threads, str(contenders.DTYPE))
        machine_info["fastconv"]["peaks"] = peaks.as_dict()


@pytest.fixture
def compare(request, benchmark):
    """``compare(problems, layer, op, contender)`` measures a problem and reports a contender."""
    config = request.config

    def report(problems, layer, op, contender):
        key = problems.__name__, layer, op
        board = config.stash[BOARD]
        if key not in board:
            chosen = {"layer": layer, "op": op}
            names = [
                item.callspec.params["contender"]
                for item in request.session.items
                if item.function is request.function
                and chosen.items() <= item.callspec.params.items()
            ]
            [problem] = [
                p for p in problems(config.option.allocation) if (p.layer, p.op) == (layer, op)
            ]
            board[key] = run.Comparison(
                problem, names, config.option.threads, config.option.rounds, benchmark.enabled
            )
        comparison = board[key]
        if comparison.measured is None or contender in comparison.errors:
            benchmark.pedantic(comparison.outcome, (contender,))
            return
        row = comparison.row(contender)
        config.stash[ROWS].append(row)
        benchmark.group = f"{row['family']}: {layer}, {op}"
        benchmark.extra_info.update(row)
        samples = comparison.measured.samples[contender]
        timing.REPLAY.load(samples)
        benchmark.pedantic(timing.REPLAY.advance, rounds=len(samples))

    return report


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[ROWS]
    if rows:
        terminalreporter.section("fastconv and the best peer")
        terminalreporter.write_line(table.text(rows))
        for line in contenders.missing():
            terminalreporter.write_line(f"missing peer: {line}")
