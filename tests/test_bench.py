"""The benchmarks' own code: shapes, references, the check before the timing, the report."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import datasets
from fastconv.bench import baselines, contenders, table, timing
from fastconv.bench import run as run_module
from fastconv.bench.layers import CONV, FILTERS, POOL, SINGLE, UNTUNED, Conv, Pool
from fastconv.bench.run import MAKERS

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))  # behind everything: an installed fastconv stays in use


import report  # noqa: E402

SMALL_CONVS = (
    Conv("plain", (2, 3, 7, 6), (4, 3, 3, 2)),
    Conv("strided", (2, 2, 8, 9), (3, 2, 3, 3), stride=2, padding=1),
    Conv("grouped", (1, 4, 5, 5), (6, 2, 1, 1), groups=2),
    Conv("dilated", (1, 2, 8, 7), (3, 2, 3, 2), padding=1, dilation=2),
    Conv("wide", (1, 2, 5, 8), (3, 2, 1, 7), padding=(0, 3)),
)
SMALL_POOLS = (
    Pool("plain", (2, 3, 6, 7), 2, 2),
    Pool("padded", (1, 2, 7, 7), 3, 2, 1),
)


@pytest.mark.parametrize(
    "layer", CONV + UNTUNED + FILTERS + POOL + SINGLE, ids=lambda layer: str(layer)
)
def test_layers_are_valid_and_not_empty(layer):
    assert min(layer.spec().output_shape) >= 1
    assert layer.spec().input_shape == layer.input


def test_layer_names_are_distinct():
    for layers in (CONV, UNTUNED, FILTERS, POOL, SINGLE):
        assert len({layer.name for layer in layers}) == len(layers)


@pytest.mark.parametrize("op", contenders.CONV_OPS)
@pytest.mark.parametrize("layer", SMALL_CONVS, ids=lambda layer: layer.name)
def test_every_contender_of_a_convolution_is_right(layer, op):
    problem = contenders.ConvProblem(layer, op)
    names = list(problem.makers())
    assert {"fastconv direct", "fastconv NHWC"} <= set(names)
    assert ("fastconv packed" in names) == (op == "forward")
    for contender in problem.contenders(names):
        timing.verify(contender)


@pytest.mark.parametrize("shape", [((1, 1, 9, 11), (1, 1, 3, 3)), ((1, 3, 9, 8), (3, 1, 5, 5))])
def test_every_contender_of_an_image_filter_is_right(shape):
    size = shape[1][2]
    layer = Conv("", *shape, padding=size // 2, groups=shape[0][1])
    problem = contenders.FilterProblem(layer)
    w, b = problem.data[1:3]
    assert (w == w[0]).all() and not b.any()
    for contender in problem.contenders(problem.makers()):
        timing.verify(contender)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_inference_runs_in_batches_and_starts_again_where_images_end(pool, monkeypatch):
    monkeypatch.setattr(contenders.InferenceProblem, "BATCH", 7)
    problem = contenders.InferenceProblem(pool, 17)
    assert [len(x) for x in problem.batches()] == [7, 7, 3]
    for contender in problem.contenders(quick(problem)):
        timing.verify(contender)
    there = len(datasets.embedded_sample()[0])
    many = contenders.InferenceProblem(pool, there + 17).data[0]
    np.testing.assert_array_equal(many[there:], many[:17])


def quick(problem):
    """Its contenders but for those that torch.compile takes a minute to make."""
    return [name for name in problem.makers() if name != "PyTorch compile"]


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
    for contender in problem.contenders(quick(problem)):
        timing.verify(contender)


def test_every_contender_of_one_image_is_right():
    for problem in contenders.single_images():
        for contender in problem.contenders(quick(problem)):
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
    # two calls to find out how long one takes; then in each round some untimed ones and one timed
    seen = "".join(seen)
    assert seen.startswith("aabbcc")
    turn = timing.WARM_UP + 1
    orders = [seen[6 + i * 3 * turn :][: 3 * turn] for i in range(3)]
    for order in orders:
        assert sorted(order[::turn]) == ["a", "b", "c"]
        assert order == "".join(name * turn for name in order[::turn])
    assert len(set(orders)) > 1 and len(seen) == 6 + 9 * turn
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
    names = [name for name, _ in contenders.PEERS.values()]
    assert [line.split(" (")[0] for line in contenders.missing()] == names
    assert "PyTorch (pip install 'fastconv[bench]')" in contenders.missing()
    for make in MAKERS:
        for problem in getattr(contenders, make)():
            assert not any(name.startswith(tuple(names)) for name in problem.makers())


def test_what_a_peer_lacks_is_named(monkeypatch):
    monkeypatch.setattr(contenders, "find_spec", lambda module: module in ("torch", "cv2"))
    monkeypatch.setattr(contenders.peers.module("torch"), "has_compiler", lambda: False)
    absent = contenders.missing()
    assert "PyTorch compile (needs a C++ compiler)" in absent
    assert "networks of ONNX Runtime and OpenCV (pip install onnx)" in absent
    names = contenders.StepProblem("avg").makers()
    assert "PyTorch eager" in names and "PyTorch compile" not in names


def test_a_peers_version_is_that_of_its_distribution():
    for module in ("numpy", "pytest"):
        assert contenders.peers.version(module) == __import__(module).__version__


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A benchmark run of two contenders, as a user starts it: (process, saved JSON)."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    process = subprocess.run(
        [sys.executable, "-m", "pytest", str(ROOT / "bench" / "test_conv.py")]
        + ["-k", "lenet and 2-weight and (direct or matmul) and not (mobile or numba)"]
        + ["--rounds=2"]
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


def test_packed_weights_have_a_column_of_their_own(results):
    more = row("A", "forward", "fastconv packed", "fastconv", 1e-3, 2.5, auto=False)
    nhwc = row("A", "forward", "fastconv NHWC", "fastconv", 1e-6, 99.0, auto=False)
    results["rows"] += [more, nhwc]
    markdown = table.table(results)
    assert "| Convolution | forward | forward, packed | weight gradient |" in markdown
    assert "| A | 2.00 ms, **1.25x** | 1.00 ms, **2.50x** |  |" in markdown
    assert "Packed: the weight was brought into the kernels' layout before." in markdown
    packed = [line for line in table.text(results["rows"]).splitlines() if "packed" in line]
    assert len(packed) == 1 and "1.00 ms" in packed[0] and "2.50x" in packed[0]
    for line in results["rows"]:
        line["family"] = "One image"
    assert "| A, forward, packed | 1.00 ms, **2.50x** | PyTorch NCHW, 2.50 ms |" in table.table(
        results
    )


def test_geometric_means_of_the_forward_layers():
    rows = []
    for layer, plain, packed in (("A", 0.5, 4.0), ("B", 2.0, 1.0)):
        peers = {"PyTorch NCHW": plain, "PyTorch channels_last": plain / 4, "OpenCV dnn": plain / 2}
        of_packed = {name: packed * r for name, r in peers.items()}
        rows += [
            row(layer, "forward", "fastconv direct", "fastconv", 1.0, plain / 4, ratios=peers),
            row(layer, "forward", "fastconv packed", "fastconv", 1.0, packed, ratios=of_packed),
            row(layer, "forward", "fastconv NHWC", "fastconv", 1.0, 1.0, auto=False,
                ratios={"PyTorch channels_last": 3.0}),
            row(layer, "forward", "PyTorch NCHW", "peer", 1.0, 1.0, ratios={}),
        ]  # fmt: skip
    assert list(table.means(table.groups(rows))) == [
        "Convolution, forward, geometric means over 2: "
        "packed against the best peer of any layout 2.00x, least 1.00x (B); "
        "packed against the best NCHW peer 1.00x, least 1.00x (A); "
        "plain against the best peer of any layout 0.25x, least 0.12x (A); "
        "plain against PyTorch NCHW 1.00x, least 0.50x (A); "
        "NHWC against PyTorch channels_last 3.00x, least 3.00x (A)."
    ]
    for line in rows:
        line["family"] = "Untuned layer"
    assert list(table.means(table.groups(rows)))[0].startswith("Untuned layer, forward, geom")
    for line in rows:
        line.pop("ratios")  # of an older run
    assert list(table.means(table.groups(rows))) == []


def test_choices_that_are_not_the_fastest_are_named():
    def methods(layer, **seconds):
        return [
            row(layer, "forward", f"fastconv {name}", "fastconv", t, 1.0, method=name,
                auto=name == "direct")
            for name, t in seconds.items()
        ]  # fmt: skip

    rows = methods("A", direct=1.0, im2col=2.0) + methods("B", direct=1.09, im2col=1.0)
    rows += methods("alone", direct=1.0)
    rows += [row("A", "forward", "fastconv packed", "fastconv", 0.1, 1.0, method=None, auto=False)]
    assert list(table.choices(table.groups(rows))) == [
        "Of 2 choices among methods, auto's is within 10 % of the fastest in all."
    ]
    rows += methods("C", direct=1.5, im2col=2.0, pointwise=1.0)
    assert list(table.choices(table.groups(rows))) == [
        "Of 3 choices among methods, auto's is within 10 % of the fastest in all but 1: "
        "C, forward (direct takes 1.50x as long as pointwise)."
    ]


def test_what_limits_the_kernels_stands_with_the_command(results, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = run_module.about(1, "fastconv bench")["machine"]["environment"]
    assert found["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    results["machine"]["environment"] = {"FASTCONV_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert (
        "`FASTCONV_ISA=avx2 ONEDNN_MAX_CPU_ISA=AVX2 pytest bench/ --benchmark-json=run.json` on"
        in table.table(results)
    )


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
