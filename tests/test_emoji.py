"""The Emoji data set, of tiny packages made here."""

import io
import json
import logging
import shutil
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

pytest.importorskip("resvg_py", reason="renders the emoji")

from benchmarks.datasets import emoji as module  # noqa: E402
from benchmarks.datasets.emoji import VENDORS, Emoji  # noqa: E402
from benchmarks.datasets.emoji_packages import PACKAGES  # noqa: E402
from benchmarks.datasets.emoji_rendering import Drawing, render_all  # noqa: E402
from benchmarks.datasets.errors import DatasetError  # noqa: E402

from .small_archives import write_npm  # noqa: E402
from .test_glyphs import change_a_pixel, truncate  # noqa: E402

WITH_CODES = ("noto", "twemoji", "fluent-emoji-flat", "openmoji")
NAMES = {  # by code points; the first four are skin tone, flags and too rare
    "1f44b-1f3fb": "waving-hand-light-skin-tone",
    "1f1e6-1f1e8": "flag-ascension-island",
    "1f3f4-e0067-e007f": "england",
    "1f9ff": "nazar-amulet",
    "1f600": "grinning",
    "1f601": "beaming",
    "2764": "red-heart",
    "1f449": "pointing-right",
    "1f3c3": "running",
    "1f3c3-200d-2642": "man-running",
    "1f48f": "kiss",
}
LEFT_OUT = list(NAMES)[:4]


def body(vendor, name):
    """A drawing of its own, which is no mirror image of itself."""
    colour = 40 * VENDORS.index(vendor)
    x = list(NAMES.values()).index(name)
    return f'<path fill="rgb({colour},{9 * x},99)" d="M{x} 0h4v9l9 3v4H{x}z"/>'


def contents(vendor):
    """The JSON files of one vendor's package."""
    icons = {name: {"body": body(vendor, name)} for name in NAMES.values()}
    aliases = {}
    chars = {code: name for code, name in NAMES.items() if vendor in WITH_CODES}
    if vendor == "noto":
        aliases["love-heart"] = {"parent": "red-heart"}
        chars["2764-fe0f"] = chars.pop("2764")
    if vendor == "noto-v1":  # not its own drawing
        icons["grinning"]["body"] = body("noto", "grinning")
    if vendor == "twemoji":  # one drawing, once as an alias, once as a copy
        icons["man-running"] = icons["running"]
    if vendor == "openmoji":
        chars["e123"] = "kiss"
    if vendor == "fluent-emoji-flat":
        icons["pointing-left"] = icons.pop("pointing-right")
        aliases["pointing-right"] = {"parent": "pointing-left", "hFlip": True}
        del chars["1f449"]
    if vendor == "emojione":
        icons["heart-of-old"] = icons.pop("red-heart")
        aliases["RedHeart"] = {"parent": "heart-of-old"}
        icons["beaming"]["hidden"] = True
    if vendor == "fxemoji":
        icons["loveheart"] = icons.pop("red-heart")
        icons["grinningface"] = icons.pop("grinning")  # as in the Unicode standard
        icons["running"]["body"] = '<g class="lost">' + icons["running"]["body"]
    if vendor == "emojione":
        icons["Kiss!"] = {"body": body("noto-v1", "beaming")}  # which is the kiss?
    if vendor == "emojione-v1":  # another's drawing of another emoji, written otherwise
        icons["man-running"]["body"] = body("noto", "running") + " "
    if vendor == "openmoji":  # so the amulet has four drawings, of five vendors
        icons["nazar-amulet"]["body"] = body("noto", "nazar-amulet")
    if vendor in VENDORS[5:]:
        del icons["nazar-amulet"]
        chars.pop("1f9ff", None)
    return {
        "icons.json": {"icons": icons, "aliases": aliases, "width": 24, "height": 20},
        "chars.json": chars,
        "info.json": {"name": vendor.upper(), "author": {"name": f"by {vendor}"}},
    }


def pack(folder, package, files, **about):
    files = {name: json.dumps(value).encode() for name, value in files.items()}
    return write_npm(folder, package, files, **about)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    for package in PACKAGES:
        pack(folder, package, contents(package.short_name))
    return [folder]


@pytest.fixture(scope="module")
def root(archives, tmp_path_factory):
    folder = tmp_path_factory.mktemp("emoji")
    Emoji(folder, archives=archives)
    return folder


@pytest.fixture(scope="module")
def everything(root):
    return Emoji(root, "train+test")


@pytest.fixture(scope="module")
def vendors(everything):
    """Vendors by code points."""
    found = defaultdict(list)
    for label, vendor in zip(everything.labels, everything.vendors):
        found[everything.code_points[label]].append(vendor)
    return found


def without(*left_out):
    return [vendor for vendor in VENDORS if vendor not in left_out]


def test_classes(everything, vendors):
    assert set(vendors) == set(NAMES) - set(LEFT_OUT)
    name_of = dict(zip(everything.code_points, everything.class_names))
    assert all(name_of[code] == NAMES[code] for code in vendors)


def test_names_lead_to_code_points(vendors):
    assert vendors["2764"] == list(VENDORS)  # by selector, own alias, other's alias
    assert "fxemoji" in vendors["1f600"]
    assert vendors["1f449"] == list(VENDORS)


def test_spoilt_and_mistaken_drawings_are_left_out(vendors):
    assert vendors["1f601"] == without("emojione")  # hidden
    assert vendors["1f600"] == without("noto-v1")  # noto's
    assert vendors["1f3c3"] == without("noto", "twemoji", "fxemoji")
    assert vendors["1f3c3-200d-2642"] == without("twemoji", "emojione-v1")
    # Has two code points; has two drawings; is no such emoji:
    assert vendors["1f48f"] == without("openmoji", "emojione", "fxemoji")


def test_a_flipped_alias_is_drawn_flipped(everything):
    label = everything.code_points.index("1f449")
    shown = {
        vendor: image
        for image, y, vendor in zip(
            everything.images, everything.labels, everything.vendors
        )
        if y == label
    }
    fluent = Drawing(body("fluent-emoji-flat", "pointing-right"), 0, 0, 24, 20)
    assert np.array_equal(shown["fluent-emoji-flat"], render(fluent)[:, ::-1])
    assert not np.array_equal(shown["fluent-emoji-flat"], render(fluent))


def test_splits(root, everything):
    train, test = Emoji(root, "train"), Emoji(root, "test")
    classes = len(everything.class_names)
    assert train.num_train_classes == classes // 2
    assert set(train.labels) == set(range(classes // 2))
    assert set(test.labels) == set(range(classes // 2, classes))
    assert train.labels + test.labels == everything.labels
    assert everything.code_points != sorted(everything.code_points)  # by lot


def test_no_picture_is_in_two_classes_nor_twice_in_one(everything):
    assert len({image.tobytes() for image in everything.images}) == len(everything)


def test_fewer_training_classes(root):
    train, test = Emoji(root, "train"), Emoji(root, "test")
    fewer = Emoji(root, "train", num_train_classes=2)
    assert fewer.num_train_classes == 2 and set(fewer.labels) == {0, 1}
    count = len(fewer)
    assert fewer.labels == train.labels[:count]
    assert np.array_equal(fewer.images, train.images[:count])
    assert Emoji(root, "test", num_train_classes=2).labels == test.labels
    for wrong in (0, 4, 1.5):
        with pytest.raises(DatasetError, match=f"must be an int, 1 to 3, got {wrong}"):
            Emoji(root, num_train_classes=wrong)


def test_items(root):
    image, label = Emoji(root)[0]
    assert isinstance(image, Image.Image) and image.mode == "RGB"
    assert image.size == (64, 64) and label == 0
    assert Emoji(root, transform=np.asarray)[1][0].shape == (64, 64, 3)


def test_unknown_split(root):
    with pytest.raises(DatasetError, match="split must be one of .* got 'val'"):
        Emoji(root, "val")


def test_two_renderings_are_the_same_to_the_byte(root, archives, tmp_path):
    Emoji(tmp_path, archives=archives)
    again, first = tmp_path / "emoji.npz", root / "emoji.npz"
    assert again.read_bytes() == first.read_bytes()


def test_rendered_once(root, everything, monkeypatch):
    monkeypatch.setattr(module, "render", None)
    assert np.array_equal(Emoji(root, "train+test").images, everything.images)
    names = {path.name for path in root.iterdir()}
    assert names == {"emoji.npz", "LICENSES"}


@pytest.mark.parametrize("damage", [truncate, change_a_pixel])
def test_a_damaged_file_is_rendered_again(damage, root, archives, tmp_path, caplog):
    path = tmp_path / "emoji.npz"
    sound = (root / "emoji.npz").read_bytes()
    path.write_bytes(sound)
    damage(path)
    with caplog.at_level(logging.WARNING):
        Emoji(tmp_path, archives=archives)
    assert "is rendered again" in caplog.text
    assert path.read_bytes() == sound


def test_a_failed_write_leaves_the_old_file(root, archives, tmp_path, monkeypatch):
    path = tmp_path / "emoji.npz"
    path.write_bytes(b"old")

    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        Emoji(tmp_path, archives=archives)
    assert path.read_bytes() == b"old" and not list(tmp_path.glob("*.tmp"))


def test_licences(root):
    text = (root / "LICENSES").read_text()
    for package in PACKAGES:
        assert f"package: {package}\n  author: by {package.short_name}\n" in text
        assert f"licence: {package.licence}\n" in text


def render(drawing):
    return render_all([drawing], Console(file=io.StringIO()))[0]


def test_rendering():
    wide = Drawing('<path fill="red" d="M10 20h8v2h-8z"/>', 10, 20, 8, 4)
    pixels = render(wide)
    red = np.argwhere((pixels == [255, 0, 0]).all(axis=2))
    # Its upper half: 64 by 16 pixels, in the middle 32 rows of the square.
    assert red.min(axis=0).tolist() == [16, 0] and red.max(axis=0).tolist() == [31, 63]
    assert (pixels[32:] == 255).all()
    turned = render(replace(wide, rotate=1))  # clockwise: what was above is right
    red = np.argwhere((turned == [255, 0, 0]).all(axis=2))
    assert red.min(axis=0).tolist() == [0, 32] and red.max(axis=0).tolist() == [63, 47]
    assert np.array_equal(render(replace(wide, v_flip=True)), pixels[::-1])


@pytest.mark.parametrize(
    "bad",
    [
        '<image href="/etc/x.png"/>',
        '<g xmlns:s="http://www.w3.org/2000/svg"><s:image href="/etc/x.png"/></g>',
        '<filter id="f"><feImage href="/etc/x.png"/></filter>',
        '<use href="/etc/x.svg#a"/>',
        '<use xlink:href="x.svg#a"/>',
        "<style>path {fill: url(x.svg#a)}</style>",
        "<text>a</text>",
        '<html xmlns="http://www.w3.org/1999/xhtml"/>',
        "<!-- -->",
        "<path",
    ],
)
def test_bad_drawings(bad):
    with pytest.raises(DatasetError, match="cannot be rendered"):
        render(Drawing(bad, 0, 0, 8, 8))


MASKS = "".join(
    f'<mask id="m{i + 1}"><g mask="url(#m{i})"><rect width="8" height="8"/></g>'
    f'<g mask="url(#m{i})"><rect width="8" height="8"/></g></mask>'
    for i in range(40)
)
HOSTILE = {
    "nested": "<g>" * 100_000 + "</g>" * 100_000,
    "wide": '<pattern id="p" width="1e7" height="1e7" patternUnits="userSpaceOnUse">'
    '<rect width="1e7" height="1e7"/></pattern><rect fill="url(#p)" width="8" '
    'height="8" transform="scale(1e4)"/>',
    "doubling": f'<mask id="m0"><rect width="8" height="8"/></mask>{MASKS}'
    '<rect width="8" height="8" mask="url(#m40)"/>',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_drawing_takes_all_time_or_crashes(name, monkeypatch):
    try:
        pixels = render(Drawing(HOSTILE[name], 0, 0, 8, 8))
    except DatasetError as error:
        assert "cannot be rendered" in str(error) and len(str(error)) < 500
    else:
        assert pixels.shape == (64, 64, 3)


def test_a_drawing_may_use_its_own_parts():
    body = '<defs><path id="a" fill="red" d="M0 0h8v8H0z"/></defs><use href="#a"/>'
    for own in (body, body.replace(" href", " xlink:href")):
        assert (render(Drawing(own, 0, 0, 8, 8)) == [255, 0, 0]).all()


NOTO = PACKAGES[0]


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "has no icons.json nor info.json"),
        ({"icons.json": [], "info.json": {}}, "icons.json is not a JSON object"),
        (
            {**contents("noto"), "chars.json": {"1f600": 5}},
            "should map code points to names",
        ),
        (
            {**contents("noto"), "icons.json": {"icons": {"grinning": {}}}},
            "is not a sound Iconify icon set",
        ),
    ],
)
def test_bad_packages(files, message, archives, tmp_path):
    folder = shutil.copytree(archives[0], tmp_path / "archives")
    pack(folder, NOTO, files)
    with pytest.raises(DatasetError, match=message):
        Emoji(tmp_path / "root", archives=[folder])
    assert not (tmp_path / "root" / "emoji.npz").exists()
