"""Emoji: one emoji as a class, drawn by different vendors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from ..console import plain_console
from ..files import write_text
from . import cached_arrays, emoji_classes, emoji_packages
from .emoji_packages import PACKAGES, IconSet
from .emoji_rendering import SIZE, render_all
from .errors import DatasetError

FILE_NAME = "emoji.npz"
LICENCES_NAME = "LICENSES"
FORMAT = 1
MIN_VENDORS = 5  # an emoji drawn by fewer is left out
SPLIT_SEED = 0
VENDORS = tuple(package.short_name for package in PACKAGES)
ARRAYS = (
    "images",
    "labels",
    "vendors",
    "class_names",
    "code_points",
    "num_train_classes",
)


class Emoji(cached_arrays.Fetched):
    """Real images from npm: 64x64, RGB, on white; a class is one emoji.

    Eight vendors' drawings (PACKAGES), of emoji that at least five of them draw.
    Skin tones and flags are left out, and so are drawings that stand for two emoji.
    A drawing that two vendors share is taken once. Which half of the classes is for
    training is drawn by lot, with a fixed seed; no test class is seen in training.
    Some emoji are mirror images of others (arrows, clocks), which matters to flips.

    Fetched with npm and rendered once, into `root`, which takes half a minute and needs
    Node.js and resvg-py. A damaged file is rendered again.

    The drawings are their authors', and not part of this project. Their licences are
    written to LICENSES in `root`: Apache-2.0 (Noto Emoji, old and new; Firefox OS
    Emoji), CC-BY-4.0 (Twitter Emoji; EmojiOne 2), MIT (Fluent Emoji Flat) and
    CC-BY-SA-4.0 (OpenMoji; EmojiOne 1).

    For arguments and items see Fetched. `num_train_classes` takes the first ones.

    Attributes:
        vendors: a name for an item, of VENDORS.
        code_points: a str for each class, of both splits, by label; hexadecimal and
            joined by "-".
    """

    ROOT, SPLIT = "data/emoji", "train"
    vendors: list[str]
    code_points: list[str]

    def arrays(self) -> cached_arrays.Arrays:
        sources = " ".join(map(str, PACKAGES))
        key = f"{FORMAT} {SIZE} {MIN_VENDORS} {SPLIT_SEED} {sources}"
        return cached_arrays.load_or_make(
            self.root / FILE_NAME, ARRAYS, key, self._make
        )

    def _make(self) -> cached_arrays.Arrays:
        console = plain_console()
        icon_sets = emoji_packages.icon_sets(self.archives, console)
        self.root.mkdir(parents=True, exist_ok=True)
        licences = emoji_packages.licences(icon_sets)
        write_text(self.root / LICENCES_NAME, licences)  # no images without them
        return render(icon_sets, console)

    def describe(self, arrays: cached_arrays.Arrays, keep: np.ndarray) -> None:
        self.vendors = arrays["vendors"][keep].tolist()
        self.code_points = arrays["code_points"].tolist()


def render(icon_sets: Sequence[IconSet], console: Console) -> cached_arrays.Arrays:
    """All images, grouped by class, training classes first.

    Raises:
        DatasetError: there are fewer than two classes.
    """
    found = emoji_classes.classes(icon_sets, MIN_VENDORS)
    drawings = list({d: None for emoji in found for d in emoji.drawings.values()})
    picture_of = dict(zip(drawings, render_all(drawings, console)))

    shown_in: dict[bytes, set[str]] = defaultdict(set)
    for emoji in found:
        for drawing in emoji.drawings.values():
            shown_in[picture_of[drawing].tobytes()].add(emoji.key)
    members: dict[str, list[tuple[str, np.ndarray]]] = {}
    for emoji in found:
        different: dict[bytes, tuple[str, np.ndarray]] = {}
        for vendor, drawing in emoji.drawings.items():
            pixels = picture_of[drawing].tobytes()
            if len(shown_in[pixels]) == 1:
                different.setdefault(pixels, (vendor, picture_of[drawing]))
        members[emoji.key] = list(different.values())

    kept = [emoji for emoji in found if len(members[emoji.key]) >= MIN_VENDORS]
    if len(kept) < 2:
        raise DatasetError(
            f"expected 2 or more emoji drawn by {MIN_VENDORS} vendors, got {len(kept)}"
        )
    # RandomState's permutations are the same in every version of NumPy.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(kept))
    kept = [kept[i] for i in order]
    groups = [members[emoji.key] for emoji in kept]
    return {
        "images": np.stack([image for group in groups for _, image in group]),
        "labels": np.repeat(np.arange(len(kept)), [len(group) for group in groups]),
        "vendors": np.array([vendor for group in groups for vendor, _ in group]),
        "class_names": np.array([emoji.name for emoji in kept]),
        "code_points": np.array([emoji.code_points for emoji in kept]),
        "num_train_classes": np.array(len(kept) // 2),
    }
