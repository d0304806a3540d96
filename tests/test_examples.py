"""Every example runs, says what it found, and saves its picture."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "examples").exists():
    pytest.skip("these tests stand away from the source tree", allow_module_level=True)

spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)

# for each example: patterns that what it prints has to have, and the files that it writes
FINDINGS = {
    "activations": (
        [
            r"test accuracy 0\.[78]",
            r"first layer, 6 channels: .* pullovers and coats correlate 0\.9",
            r"second layer, 16 channels: .* pullovers and coats correlate 0\.9",
            r"second layer, 16 channels: .* pullovers and sandals correlate 0\.[2-7]",
        ],
        ["activations.png"],
    ),
    "audio_stride": (
        [
            r"tone, original: 16000 samples at 8000 Hz, 2 s; 3000 Hz, amplitude 1\.000",
            r"tone, stride_2: 8000 samples at 4000 Hz, 2 s; 1000 Hz, amplitude 1\.000",
            r"tone, low_pass_stride_2: .*; silence, amplitude 0\.00",
            r"tone of 500 Hz comes through the low-pass: 500 Hz, 1\.00",
        ],
        [
            "audio_stride.png",
            *(
                f"audio_stride_{sound}_{how}.wav"
                for sound in ("tone", "chirp")
                for how in ("original", "stride_2", "low_pass_stride_2")
            ),
        ],
    ),
    "channels": (
        [
            r"conv2d: +\[\[56\.0, 72\.0\], \[104\.0, 120\.0\]\]",
            r"matrix: +\[\[56\.0, 72\.0\], \[104\.0, 120\.0\]\] of shape \(4, 18\)",
            r"channel 1: \[\[76\.0, 100\.0\], \[148\.0, 172\.0\]\]",
            r"channel 2: \[\[96\.0, 128\.0\], \[192\.0, 224\.0\]\]",
            r"all three ways the same: True",
        ],
        ["channels.png"],
    ),
    "costs": (
        [
            r"16\*16\*3\*3\*32\*32 = 2,359,296 multiplications",
            r"backward: 2 times as many",
            r"workspace of 589,824 bytes,\s+9 times the image",
            r"both channels doubled: 4 times the work; the padding: only 1\.13 times",
            r"K C H W = 262,144",
            r"12,288 comparisons",
        ],
        ["costs.png"],
    ),
    "edges": (
        [
            r"\[ 0\.  1\.  0\.  0\.  0\. -1\.  0\.\]",
            r"largest answer 0\.0",
            r"diagonal edge: 7 pixels of \[-1\.\]",
            r"image transposed: 7 pixels of \[1\.\]",
            r"kernel transposed: 7 pixels of \[1\.\]",
            r"transposing both transposes the answer: True",
            r"largest answer is 1, along it 0",
        ],
        ["edges.png"],
    ),
    "learn_a_kernel": (
        [
            r"\[1, -1\] from stripes: within 0\.01 after [1-4]?\d steps",
            r"Sobel's from a photograph: within 0\.01 after \d?\d steps.*\n  is \d\.\de-0[4-9];",
            r"2 x 2 from stripes: not found",
            r"sum of its rows is determined: \[ 1\. -1\.\]",
        ],
        ["learn_a_kernel.png"],
    ),
    "lenet_pooling": (
        [
            r"avg pooling: test accuracy 0\.[78]\d\d \(.*, 2 seeds\)",
            r"max pooling: test accuracy 0\.[78]\d\d \(.*, 2 seeds\)",
            r"maximum minus average: [+-]0\.0\d\d, sample, 6 epochs, relu",
        ],
        ["lenet_pooling.png"],
    ),
    "lenet_shapes": (
        [
            r"61,706 parameters and 416,520 multiplications",
            r"convolutions: 4% of the parameters, 86% of the multiplications",
            r"first linear layer: 78% of the parameters",
            r"3,687,936 weights, not 150",
            r"sees 16 x 16 pixels",
        ],
        ["lenet_shapes.png"],
    ),
    "max_pool_as_conv": (
        [
            r"by three comparisons: (.*)\nmax_pool2d: +\1\n",
            r"3x3, stride 2, padding 1: 8 comparisons a window, within float32 True",
            r"the maximum has up to 0\.[1-9]",
            r"-max\(-x\): True",
            r"and stride 2: \[\[2\.75, 2\.5\], \[5\.25, 3\.75\]\]",
            r"groups 3: equal True",
        ],
        ["max_pool_as_conv.png"],
    ),
    "mnist": (
        [
            # MNIST where it is at hand: the first 10,000 of its training images
            r"10000 training images of mnist, 15 epochs, 10000 test images\n"
            r"LeNet, ReLU, 61,706 parameters: test accuracy 0\.9[789]\d*\n"
            r"deeper variant, 58,650 parameters: test accuracy 0\.9[789]|"
            r"1600 training images of sample, 15 epochs, 400 test images\n"
            r"LeNet, ReLU, 61,706 parameters: test accuracy 0\.[78]\d*\n"
            r"deeper variant, 58,650 parameters: test accuracy 0\.[78]",
            r"\d+ mistakes of the latter; the first 30 are drawn",
        ],
        ["mnist.png"],
    ),
    "one_by_one": (
        [
            r"\(3, 3, 3\) to \(2, 3, 3\), equal True",
            r'integers, 256 channels, method="pointwise": equal True',
            r'float32, method="pointwise": equal up to rounding, True',
            r"a matrix of \(64, 256\)",
            r"results shuffled alike: True",
            r"3,211,264 multiplications",
        ],
        ["one_by_one.png"],
    ),
    "padding_stride": (
        [
            r"floor\(\(8 \+ 2\*0 - 3\) / 3\) \+ 1 = 2",
            r"floor\(\(8 \+ 2\*1 - 5\) / 4\) \+ 1 = 2",
            r"padding for 5 x 3: kernel \(5, 3\).*\n.*\n.*\n    output 8 x 8",
            r"stride 2 halves it: .*\n.*\n.*\n    output 4 x 4",
            r"kernel 3   6 3 2   8 4 3  10 5 4",
            r"no padding: a pixel is used 1 to 9 times",
        ],
        ["padding_stride.png"],
    ),
    "soft_pooling": (
        [
            r"beta 0 is the average: True",
            r"beta 10000 is the maximum: True",
            r"beta -10000 is the minimum: True",
            r"beta 10: 65% of the way",
            r"gradient of the maximum: reaches 1\.6% of the pixels",
            r"gradient of the soft, beta 10: reaches 100\.0% of the pixels",
        ],
        ["soft_pooling.png"],
    ),
    "tune_lenet": (
        [
            r"1600 images of sample, 2 epochs, 400 test images",
            r"LeNet: ReLU, maximum pooling, Adam \| 107,786 \| 0\.[67]",
            r"sigmoid \| 107,786 \| 0\.[1-4]",
            r"no hidden linear layer \| 10,422 \| 0\.[67]",
            r"best: .*, 0\.[78]",
        ],
        ["tune_lenet.png"],
    ),
    "two_as_one": (
        [
            r"one kernel of \(4, 3, 7, 7\), 3 \+ 5 - 1 = 7\s+the same result: True",
            r"one is exact: False\n  inside, rows 1 to 10 of 12, they differ by \de-1",
            r"Sobel: yes, 6 multiplications for 9",
            r"Laplacian: no, the nearest is off by 0\.101",
            r"Sobel is \[1\. 2\. 1\.\] down, \[-1\.  0\.  1\.\] across",
            r"sum of 2 such pairs",
            r"a random 5x5 as two 3x3: None",
        ],
        ["two_as_one.png"],
    ),
}


def test_every_example_is_tested():
    assert set(FINDINGS) == {path.stem for path in pictures.EXAMPLES}


@pytest.mark.parametrize("name", FINDINGS)
def test_example(name, tmp_path, capsys):
    pictures.run_example(ROOT / "examples" / f"{name}.py", tmp_path)
    said = capsys.readouterr().out
    patterns, files = FINDINGS[name]
    for pattern in patterns:
        assert re.search(pattern, said), f"{pattern!r} not in:\n{said}"
    for file in files:
        assert (tmp_path / file).stat().st_size > 500
        assert file in said


def test_from_the_command_line(tmp_path):
    command = [sys.executable, ROOT / "examples" / "edges.py", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "picture:" in done.stdout
    assert (tmp_path / "edges.png").exists()


def test_padding_stride_with_options(tmp_path):
    options = "--size 9 12 --kernel 3 5 --padding 1 --stride 2 --dilation 1 2".split()
    command = [sys.executable, ROOT / "examples" / "padding_stride.py", "--output", tmp_path]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert "columns: floor((12 + 2*1 - (2 (5 - 1) + 1)) / 2) + 1 = 3" in done.stdout
    assert "output 5 x 3" in done.stdout
