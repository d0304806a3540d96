"""The benchmarks' own code: shapes, references, the check before the timing, the report."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.bench import baselines, contenders, table, timing
from fastconv.bench.layers import CONV, POOL, SINGLE, Conv, Pool

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))  # behind everything: an installed fastconv stays in use


import report  # noqa: E402

SMALL_CONVS = (
    Conv("plain", (2, 3, 7, 6), (4, 3, 3, 2)),
    Conv("strided", (2, 2, 8, 9), (3, 2, 3, 3), stride=2, padding=1),
    Conv("grouped", (1, 4, 5, 5), (6, 2, 1, 1), groups=2),
)
SMALL_POOLS = (
    Pool("plain", (2, 3, 6, 7), 2, 2),
    Pool("padded", (1, 2, 7, 7), 3, 2, 1),
)


@pytest.mark.parametrize("layer", CONV + POOL + SINGLE, ids=lambda layer: str(layer))
def test_layers_are_valid_and_not_empty(layer):
    assert min(layer.spec().output_shape) >= 1
    assert layer.spec().input_shape == layer.input


def test_layer_names_are_distinct():
    for layers in (CONV, POOL):
        assert len({layer.name for layer in layers}) == len(layers)


@pytest.mark.parametrize("op", contenders.CONV_OPS)
@pytest.mark.parametrize("layer", SMALL_CONVS, ids=lambda layer: layer.name)
def test_every_contender_of_a_convolution_is_right(layer, op):
    problem = contenders.ConvProblem(layer, op)
    names = list(problem.makers())
    assert "fastconv direct" in names
    for contender in problem.contenders(names):
        timing.verify(contender)


@pytest.mark.parametrize("allocation", ["fresh", "out"])
@pytest.mark.parametrize("op", contenders.POOL_OPS)
@pytest.mark.parametrize("layer", SMALL_POOLS, ids=lambda layer: layer.name)
def test_every_contender_of_a_pooling_is_right(layer, op, allocation):
    problem = contenders.PoolProblem(layer, op, allocation)
    for contender in problem.contenders(problem.makers()):
        timing.verify(contender)


@pytest.mark.parametrize("layer", SMALL_CONVS, ids=lambda layer: layer.name)
def test_numpy_reference_is_that_of_the_reference_backend(layer):
    problem = contenders.ConvProblem(layer, "forward")
    x, w, b, dy = contenders.double(*problem.data)
    spec, options = layer.spec("float64"), problem.options
    how = {"backend": "reference"}
    expected = fc.conv2d(x, w, b, *options, **how)
    np.testing.assert_allclose(baselines.conv2d(spec, x, w, b), expected, atol=1e-13)
    expected = fc.grad.conv2d_input(x.shape, w, dy, *options, **how)
    np.testing.assert_allclose(baselines.conv2d_input(spec, w, dy), expected, atol=1e-13)
    expected = fc.grad.conv2d_weight(x, w.shape, dy, *options, **how)
    np.testing.assert_allclose(baselines.conv2d_weight(spec, x, dy), expected, atol=1e-13)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_every_contender_of_the_training_step_is_right(pool):
    problem = contenders.StepProblem(pool, images=20)
    for contender in problem.contenders(problem.makers()):
        timing.verify(contender)


def test_every_contender_of_one_image_is_right():
    for problem in contenders.single_images():
        for contender in problem.contenders(problem.makers()):
            timing.verify(contender)


@pytest.mark.parametrize("wrong", [1e-3, np.nan, np.inf])
def test_a_wrong_result_is_found(wrong):
    problem = contenders.ConvProblem(SMALL_CONVS[0], "forward")
    [contender] = problem.contenders(["fastconv direct"])
    right = contender.call

    def call():
        y = right()
        y[0, 0, 0, 0] += wrong
        return y

    contender.call = call
    with pytest.raises(timing.Wrong, match="fastconv direct: result 0 is off by"):
        timing.verify(contender)


def test_a_result_of_another_shape_is_found():
    problem = contenders.ConvProblem(SMALL_CONVS[0], "forward")
    [contender] = problem.contenders(["NumPy matmul"])
    right = contender.call
    contender.call = lambda: right()[:1]
    with pytest.raises(timing.Wrong, match="has shape"):
        timing.verify(contender)


def test_a_wrong_gradient_of_the_training_step_is_found():
    problem = contenders.StepProblem("avg", images=20)
    [contender] = problem.contenders(["fastconv.nn"])
    read = contender.read

    def altered(value):
        loss, first, *others = read(value)
        return [loss, first * np.float32(1.001), *others]

    contender.read = altered
    with pytest.raises(timing.Wrong, match="result 1 is off by"):
        timing.verify(contender)


def test_contenders_take_turns():
    seen = []
    made = [
        timing.Contender(name, kind, lambda name=name: seen.append(name), list)
        for name, kind in (("a", "fastconv"), ("b", "peer"), ("c", "peer"))
    ]
    measured = timing.interleaved(made, rounds=3, min_sample=0)
    # two calls to find out how long one takes; then in each round one untimed and one timed
    assert "".join(seen) == "aabbcc" + "aabbcc" + "bbccaa" + "ccaabb"
    assert {name: len(samples) for name, samples in measured.samples.items()} == dict.fromkeys(
        "abc", 3
    )


def test_ratios_are_taken_round_by_round():
    measured = timing.Measurement(
        {"own": "fastconv", "slow": "peer", "fast": "peer", "base": "baseline"},
        {"own": [1, 2, 4], "slow": [9, 9, 9], "fast": [3, 4, 20], "base": [0.1]},
    )
    assert measured.best_peer() == "fast"
    assert measured.ratio("own", "fast") == 3
    assert timing.Measurement({"own": "fastconv"}, {"own": [1]}).best_peer() is None


def test_loops_on_part_of_a_batch_say_so():
    problem = contenders.ConvProblem(Conv("", (8, 1, 6, 6), (2, 1, 3, 3)), "weight gradient")
    for name in ("Python loops", "NumPy loops"):
        [contender] = problem.contenders([name])
        assert contender.share == 1 / 8
        assert contender.note == "extrapolated from 1 of 8 images"
        timing.verify(contender)


def test_a_missing_peer_is_named_and_has_no_contenders(monkeypatch):
    monkeypatch.setattr(contenders, "find_spec", lambda module: None)
    assert contenders.present() == {}
    assert contenders.missing() == ["PyTorch (pip install 'fastconv[bench]')"]
    for problem in (*contenders.convolutions(), *contenders.training_steps()):
        assert not any("PyTorch" in name for name in problem.makers())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A benchmark run of two contenders, as a user starts it: (process, saved JSON)."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    process = subprocess.run(
        [sys.executable, "-m", "pytest", str(ROOT / "bench" / "test_conv.py")]
        + ["-k", "conv and 2-weight and (direct or matmul) and not numba", "--rounds=2"]
        + [f"--benchmark-json={path}", "-p", "no:cacheprovider"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return process, path


def test_a_run_saves_everything(run):
    process, path = run
    assert process.returncode == 0, process.stdout + process.stderr
    assert "LeNet conv 2, weight gradient" in process.stdout
    saved = json.loads(path.read_text())
    rows = [b["extra_info"] for b in saved["benchmarks"]]
    assert [row["contender"] for row in rows] == ["fastconv direct", "NumPy matmul"]
    own = rows[0]
    assert own["kind"] == "fastconv" and own["threads"] == 1 and own["allocation"] == "fresh"
    assert own["isa"] and own["gflops"] > 0 and own["gbytes"] > 0 and own["rounds"] == 2
    assert own["best_peer"] is None and own["ratio"] is None
    assert saved["benchmarks"][0]["stats"]["median"] == pytest.approx(own["seconds"])
    machine = saved["machine_info"]["fastconv"]
    assert machine["cpu"] and machine["cores"] >= 1
    assert str(path.parent) not in machine["command"] and "run.json" in machine["command"]


def row(layer, op, contender, kind, seconds, ratio, **more):
    return {
        "family": "Convolution", "layer": layer, "op": op, "contender": contender, "kind": kind,
        "seconds": seconds, "ratio": ratio, "best_peer": "PyTorch NCHW", "auto": True, "note": "",
        "gflops": 1.0, "gbytes": 1.0, **more,
    }  # fmt: skip


@pytest.fixture
def results():
    note = "extrapolated from 1 of 256 images"
    return {
        "command": "pytest bench/ --benchmark-json=run.json",
        "date": "2025-01-31",
        "machine": {"cpu": "Some CPU", "cores": 2, "isa": "avx512", "threads": 1},
        "versions": {"fastconv": "0.1.0", "PyTorch": "2.13.0"},
        "missing": ["Another (pip install another)"],
        "rows": [
            row("A", "forward", "fastconv im2col", "fastconv", 1e-3, 2.5, auto=False),
            row("A", "forward", "fastconv direct", "fastconv", 2e-3, 1.25),
            row("A", "forward", "PyTorch NCHW", "peer", 2.5e-3, 1.0),
            row("A", "forward", "Python loops", "baseline", 20.0, None, note=note),
            row("B", "weight gradient", "fastconv direct", "fastconv", 3e-6, 0.5),
        ],
    }


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{report.BEGIN}\nold\n{report.END}\n\nThe rest.\n")
    return path


def test_table(results):
    markdown = table.table(results)
    assert "| Convolution | forward | weight gradient |" in markdown
    assert "| A | 2.00 ms, **1.25x** |  |" in markdown  # what a plain call runs, not the fastest
    assert "| B |  | 3.00 us, _0.50x_ |" in markdown  # where we are behind it stands, too
    assert "10,000x Python loops (extrapolated from 1 of 256 images)" in markdown
    assert "Not installed, so not measured: Another (pip install another)." in markdown
    for part in ("`pytest bench/ --benchmark-json=run.json`", "Some CPU", "2 cores", "2025-01-31"):
        assert part in markdown


def test_training_steps_are_listed_with_the_best_peer(results):
    for line in results["rows"]:
        line |= {"family": "Training step", "layer": "LeNet"}
    markdown = table.table(results)
    assert "| Training step | fastconv | best peer |" in markdown
    assert "| LeNet, forward | 2.00 ms, **1.25x** | PyTorch NCHW, 2.50 ms |" in markdown


def test_results_are_saved_row_by_row(results, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(report.dumped(results))
    assert table.read(path) == results
    assert sum('"contender"' in line for line in path.read_text().splitlines()) == 5


def test_report_writes_the_readme(run, readme, tmp_path):
    _, saved = run
    kept = tmp_path / "results.json"
    arguments = [f"--results={kept}", f"--readme={readme}"]
    assert report.main([str(saved), *arguments]) == 0
    page = readme.read_text()
    assert page.startswith("# Title\n") and page.endswith("\nThe rest.\n") and "old" not in page
    assert table.table(table.read(kept)) in page
    assert "LeNet conv 2" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "results.json"]
    assert report.main(["--check", *arguments]) == 0
    readme.write_text(page.replace("LeNet conv 2", "LeNet conv 3"))
    assert report.main(["--check", *arguments]) == 1
    assert "LeNet conv 3" in readme.read_text()  # a check changes nothing
    assert report.main(arguments) == 0
    assert readme.read_text() == page


@pytest.mark.parametrize("content", ["no marks", f"{report.END} {report.BEGIN}", report.BEGIN])
def test_a_page_without_a_place_for_the_table_is_refused(content, results, tmp_path, capsys):
    page, kept = tmp_path / "README.md", tmp_path / "results.json"
    page.write_text(content)
    kept.write_text(json.dumps(results))
    assert report.main([f"--results={kept}", f"--readme={page}"]) == 2
    assert "README.md: expected one line" in capsys.readouterr().err
    assert page.read_text() == content


@pytest.mark.parametrize("content", ["{", "{}", '{"machine_info": 1}'])
def test_a_file_that_is_no_run_is_refused(content, readme, tmp_path, capsys):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    assert report.main([str(bad), f"--readme={readme}", f"--results={tmp_path / 'r.json'}"]) == 2
    assert "bad.json: not" in capsys.readouterr().err
    assert "old" in readme.read_text()


def test_the_readme_shows_the_committed_results():
    """What the README says was measured is what bench/results.json holds."""
    if (ROOT / "bench" / "results.json").exists():
        assert report.main(["--check"]) == 0
    else:
        page = (ROOT / "README.md").read_text(encoding="utf-8")
        between = page.partition(report.BEGIN)[2].partition(report.END)[0]
        assert not between.strip()


def test_measuring_leaves_no_arrays_behind():
    problem = contenders.ConvProblem(SMALL_CONVS[0], "forward")
    copy.copy(problem).contenders(["NumPy matmul"])[0].call()
    assert "data" not in vars(problem)
