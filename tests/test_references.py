"""Configs of strangers: what they may refer to."""

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from omegaconf import OmegaConf  # noqa: E402

from benchmarks.config import ConfigError, load, read_resolved  # noqa: E402
from benchmarks.config.schema import validated  # noqa: E402

from . import tiny  # noqa: E402

OUTSIDE = [
    "${oc.env:SECRET}",
    "a ${oc.env:SECRET,no} b",
    "${ oc.env : SECRET }",
    "${${source}:SECRET}",
    "${oc.decode:${oc.env:SECRET}}",
    "${own:1}",
]


@pytest.mark.parametrize("text", OUTSIDE)
@pytest.mark.parametrize("key", ["experiment_name", "baseline", "root"])
def test_nothing_outside_is_looked_at(tmp_path, monkeypatch, text, key):
    monkeypatch.setenv("SECRET", "s3cret")
    values = dict(tiny.VALUES)
    if key == "root":
        values["dataset"] = {"ImageFolders": {"root": text}}
    else:
        values[key] = text
    path = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(values), path)
    for read in (read_resolved, lambda path: load(str(path))):
        with pytest.raises(ConfigError, match="only values of the config") as error:
            read(path)
        assert "s3cret" not in str(error.value)
    with pytest.raises(ConfigError, match="only values of the config"):
        validated(values)


def test_values_of_the_config_itself_are_resolved(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 3\nb: {c: '${a}', d: 'x ${b.c}: ${e[0]}'}\ne: [1]\n")
    assert read_resolved(path)["b"] == {"c": 3, "d": "x 3: 1"}
    path.write_text("a: ${b}\n")
    with pytest.raises(ConfigError, match="config.yaml.*'b' not found"):
        read_resolved(path)
