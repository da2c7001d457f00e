"""Data sets of the benchmarks."""

from .cars import Cars196
from .cub import CUB200
from .emoji import Emoji
from .errors import DatasetError
from .folders import ImageFolders
from .glyphs import Glyphs
from .inshop import InShop
from .kanji import Kanji
from .sop import StanfordOnlineProducts

__all__ = [
    "CUB200",
    "Cars196",
    "DatasetError",
    "Emoji",
    "Glyphs",
    "ImageFolders",
    "InShop",
    "Kanji",
    "StanfordOnlineProducts",
]
