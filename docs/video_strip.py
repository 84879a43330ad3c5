"""One start before and after practice, as a strip of frames: docs/tabletop.jpg.

    python docs/video_strip.py DEMO [--frames 5] [--out docs/tabletop.jpg]

DEMO is the folder of `nearer demo`. The start is chosen by rule: the first one that Stage 1 fails.
Its two videos must be there: `nearer eval --videos N` records the first N starts.
"""

import argparse
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nearer.core.arrays import Array
from nearer.evaluation.eval_info import read_eval_info

FRAME_PX, GAP_PX, LINE_PX = (300, 168), 4, 22
INK, MUTED = (31, 41, 51), (102, 113, 126)


def main() -> None:
    """Choose the start, read both videos, write the strip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/tabletop.jpg"))
    options = parser.parse_args()
    rows = {"Stage 1": options.demo / "sft", "after practice": options.demo / "practice"}
    advice = "run nearer demo"
    results = read_eval_info(rows["Stage 1"] / "eval/eval_info.json", advice).evaluation.results
    start = next(index for index, result in enumerate(results) if not result.success)
    videos = {name: run / f"eval/videos/{start}.mp4" for name, run in rows.items()}
    missing = [path for path in videos.values() if not path.exists()]
    if missing:
        sys.exit(f"{missing[0]} must be there; run nearer eval with --videos {start + 1}")
    strips = {name: evenly_spaced(path, options.frames) for name, path in videos.items()}
    title = f"“{results[start].instruction}”, the first test start that Stage 1 fails ({start})"
    page(title, strips).save(options.out, quality=90)


def evenly_spaced(video: Path, count: int) -> list[tuple[float, Image.Image]]:
    """Return this many frames with their seconds, the first and the last among them."""
    with av.open(str(video)) as container:
        frames = [(frame.time or 0.0, frame.to_image()) for frame in container.decode(video=0)]
    end = max(1, len(frames) - held(frames))
    return [frames[int(row)] for row in np.linspace(0, end, count).round()]


def held(frames: list[tuple[float, Image.Image]]) -> int:
    """Return how many frames at the end repeat the last image, as videos hold it for a second."""
    last: Array = np.asarray(frames[-1][1], dtype=np.int16)
    same = [np.abs(np.asarray(image, dtype=np.int16) - last).mean() < 1 for _, image in frames]
    return next((n for n, alike in enumerate(reversed(same)) if not alike), len(frames) - 1)


def page(title: str, strips: dict[str, list[tuple[float, Image.Image]]]) -> Image.Image:
    """Return the strips under each other, every frame with its time below."""
    width, height = FRAME_PX
    columns = max(map(len, strips.values()))
    size = (
        columns * (width + GAP_PX) - GAP_PX,
        LINE_PX + 6 + len(strips) * (height + LINE_PX + 2),
    )
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    draw.text((2, 4), title, fill=INK, font=font)
    top = LINE_PX + 6
    for name, frames in strips.items():
        for column, (seconds, frame) in enumerate(frames):
            left = column * (width + GAP_PX)
            image.paste(frame.resize(FRAME_PX, Image.Resampling.LANCZOS), (left, top))
            words = f"{seconds:.0f} s" if column else f"{name}, 0 s"
            draw.text((left + 2, top + height + 2), words, fill=MUTED, font=font)
        top += height + LINE_PX + 2
    return image


if __name__ == "__main__":
    main()
