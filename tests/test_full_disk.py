"""A full disk, played by a limit to the size of files, is told in one line."""

import shutil

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")
resource = pytest.importorskip("resource", reason="limits are those of Unix")

import yaml  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402

from . import tiny  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def call(*arguments, most=None):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, usual[1]))
    try:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    values = {**tiny.VALUES, "num_epochs_train": 1}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    runs = folder / "runs"
    assert (
        call("run", folder / "tiny.yaml", "--output", runs, "--device", "cpu")[0] == 0
    )
    return folder


@pytest.mark.filterwarnings(
    "ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning"
)
@pytest.mark.parametrize("most", [0, 3_000, 14_000])
def test_a_run_says_where_and_goes_on_later(finished, tmp_path, most):
    command = ("run", finished / "tiny.yaml", "--output", tmp_path, "--device", "cpu")
    code, said = call(*command, most=most)
    error = said[said.index("Error: ") :]
    assert code == 1 and "Free some space" in error and "/" in error.split(": ")[1]
    assert call(*command)[0] == 0


def test_what_cannot_be_kept_is_shown(finished):
    run = finished / "runs/tiny/norm_softmax_memvir"
    code, said = call("eval", run, "--device", "cpu", most=10)
    assert code == 0 and "not kept" in said


def test_a_report_names_its_folder(finished, tmp_path):
    shutil.rmtree(tmp_path)
    code, said = call("report", finished / "runs", "--output", tmp_path, most=100)
    assert code == 1 and str(tmp_path) in said and "Free some space" in said
