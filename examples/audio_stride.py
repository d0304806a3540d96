"""A stride of 2 on sound: half the sample rate, the same duration, and tones that fold down.

What lies above half of the new rate cannot be told from a lower tone any more. A low-pass filter
before it, in the same strided convolution, takes it out. Writes what it hears as WAV files.

    python examples/audio_stride.py [--output FOLDER]
"""

import wave

import numpy as np
from _example import figure, run

import fastconv as fc
from fastconv import plot

RATE = 8000


def low_pass(cutoff, taps=63):
    """A sinc, which lets frequencies below `cutoff` (in Hz) pass, ended softly by a window."""
    at = np.arange(taps) - taps // 2
    kernel = np.sinc(2 * cutoff / RATE * at) * np.hamming(taps)
    return kernel / kernel.sum()


def strided(sound, kernel):
    """Every second sample of the filtered sound, by one convolution."""
    return fc.conv1d(sound[None], kernel[None, None], stride=2, padding=len(kernel) // 2)[0]


def loudest(sound, rate):
    """The frequency of the strongest tone, and the amplitude of a sine of that strength."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) / len(sound) * 4
    return np.argmax(spectrum) * rate / len(sound), spectrum.max()


def write(path, sound, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 0.5 * 32767).astype("<i2").tobytes())
    return path


def main(output):
    time = np.arange(2 * RATE) / RATE
    sounds = {
        "tone": np.sin(2 * np.pi * 3000 * time),
        "chirp": np.sin(2 * np.pi * 1000 * time**2),  # the frequency 2000 t: from 0 to 4 kHz
    }
    every = np.ones(1)  # no filter: just every second sample
    smooth = low_pass(1600)
    heard = {}
    for name, sound in sounds.items():
        heard[name] = {
            "original": (sound, RATE),
            "stride_2": (strided(sound, every), RATE // 2),
            "low_pass_stride_2": (strided(sound, smooth), RATE // 2),
        }
    for how, (sound, rate) in heard["tone"].items():
        frequency, amplitude = loudest(sound, rate)
        print(f"tone, {how}: {len(sound)} samples at {rate} Hz, {len(sound) / rate:g} s;", end=" ")
        what = f"{frequency:.0f} Hz" if amplitude > 0.01 else "silence"
        print(f"{what}, amplitude {amplitude:.3f}")
    print("3000 Hz is above 2000 Hz, half of the new rate, and folds to 4000 - 3000 = 1000 Hz")
    low = strided(np.sin(2 * np.pi * 500 * time), smooth)
    frequency, amplitude = loudest(low, RATE // 2)
    print(f"a tone of 500 Hz comes through the low-pass: {frequency:.0f} Hz, {amplitude:.2f}")

    for name, versions in heard.items():
        for how, (sound, rate) in versions.items():
            print("sound:", write(output / f"audio_stride_{name}_{how}.wav", sound, rate))
    made = figure(9, 3.3, "A tone that rises from 0 to 4 kHz")
    axes = made.subplots(1, 3, sharey=True)
    for each, (how, (sound, rate)) in zip(axes, heard["chirp"].items(), strict=True):
        window = 256 * rate // RATE
        each.specgram(sound, NFFT=window, Fs=rate, noverlap=window // 2, vmin=-100, vmax=-30)
        words = how.replace("low_pass_", "low pass, ").replace("_", " ")
        each.set_title(f"{words}: {rate} Hz", fontsize=9)
        each.set_xlabel("time, s", fontsize=8)
        each.tick_params(labelsize=8)
    axes[0].set_ylabel("frequency, Hz", fontsize=8)
    axes[0].set_ylim(0, RATE / 2)
    print("picture:", plot.save(axes, output / "audio_stride.png"))


if __name__ == "__main__":
    run(main, __doc__)
