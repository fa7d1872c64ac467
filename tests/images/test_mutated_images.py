"""Whatever bytes a file holds, both readers give an image or an error of the project's own, soon and in little memory.

Mutants are made of a small file of every kind, and read in a child process, which a signal ends when one takes long.
"""

import random
import resource
import signal
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from described import sources
from faults import in_child
from image_kinds import read_kinds, refused_kinds

from ssiu.errors import SSIUError
from ssiu.images.encoding import fit
from ssiu.images.io import read_image, read_rgb

MAX_PIXELS = 1_000_000
MOST_SECONDS = 10  # for one file
MOST_MEMORY = 150e6  # bytes that reading may add: a dozen times the largest image allowed, in 8 bits RGBA and 16
EDGES = (0, 1, 2, 7, 8, 16, 31, 127, 128, 255, 256, 999, 1000, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the right checksums, as far as they can be told apart."""
    out, position = bytearray(content), 8
    while position + 12 <= len(out):
        length = int.from_bytes(out[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(out)


def mutant(content: bytes, other: bytes, dice: random.Random) -> bytes:
    """``content`` damaged in one way or four, half of them near its start, where the headers are."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 4))):
        at = dice.randrange(min(len(data), dice.choice((40, 200, 1 << 20, 1 << 20))) or 1)
        some = dice.randint(1, 40)
        match dice.randrange(8):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1 if data:
                data[at] ^= 1 << dice.randrange(8)
            case 2 | 3:
                size, order = dice.choice((1, 2, 4, 8)), dice.choice(("big", "little"))
                data[at : at + size] = (dice.choice(EDGES) % 256**size).to_bytes(size, order)
            case 4:
                del data[at : at + some]
            case 5:
                data[at:at] = data[at : at + some]
            case 6:
                data[at : at + some] = other[at : at + some]
            case 7:
                del data[dice.randrange(len(data) + 1) :]
    return with_checksums(bytes(data)) if content[1:4] == b"PNG" and dice.random() < 0.7 else bytes(data)


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, content), the same for a seed."""
    dice = random.Random(seed)
    kinds = list((read_kinds() | refused_kinds() | sources()).items())
    for number in range(count):
        name, content = kinds[number % len(kinds)]
        yield name, mutant(content, dice.choice(kinds)[1], dice)


def read_both(path: Path) -> str:
    """Reads a file with both readers; "read", "refused", or what they must not do."""
    outcomes = []
    for reader in (read_rgb, read_image):
        try:
            image = reader(path, max_pixels=MAX_PIXELS)
            if isinstance(image, np.ndarray):
                pixels = image
            else:
                pixels = image.pixels
                fit(replace(image, metadata=image.metadata.resized(20, 30)[0]), ".jpg")
            good = pixels.ndim == 3 and 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
            outcomes.append("read" if good else f"shape {pixels.shape}")
        except SSIUError as error:
            good = str(path) in str(error) and "\n" not in str(error)
            outcomes.append("refused" if good else f"message {error!r}")
        except BaseException as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    if outcomes[0] == "read" and outcomes[1] != "read":
        return f"read_rgb takes what read_image does not ({outcomes[1]})"  # one judgement for both
    return next((outcome for outcome in outcomes if outcome not in ("read", "refused")), outcomes[1])


def read_all(folder: Path, count: int, seed: int) -> dict[str, int]:
    """How often each outcome of `read_both` was met; the file that was read last stays in ``folder``."""
    found: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, (name, content) in enumerate(mutants(count, seed)):
        path = folder / f"last{Path(name).suffix}"
        path.write_bytes(content)
        signal.alarm(MOST_SECONDS)  # not handled: it ends the process, also inside a decoder
        outcome = read_both(path)
        signal.alarm(0)
        found[outcome] += 1
        if outcome not in ("read", "refused"):
            (folder / f"{number} of {name}").write_bytes(content)
    found["kB of memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return found


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.full)])
def test_mutated_files_are_read_or_refused(tmp_path: Path, count: int) -> None:
    code, found = in_child(lambda: read_all(tmp_path, count, seed=count))
    assert code == 0, f"{found or 'the child was ended'} (signal {-code}) at the file left in {tmp_path}"
    memory = 1024 * found.pop("kB of memory")
    print(f"{found}, {memory / 1e6:.0f} MB more than before")
    assert set(found) == {"read", "refused"} and sum(found.values()) == count, found
    assert min(found.values()) > count / 20, "the mutants are all alike"
    assert memory < MOST_MEMORY


def test_every_kind_is_read_or_refused_by_name(tmp_path: Path) -> None:
    for name, content in read_kinds().items():
        (tmp_path / name).write_bytes(content)
        assert read_both(tmp_path / name) == "read", name
    for name, content in refused_kinds().items():
        (tmp_path / name).write_bytes(content)
        assert read_both(tmp_path / name) == "refused", name
