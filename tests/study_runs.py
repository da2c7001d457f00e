"""Small studies, and what finished runs of them leave."""

from benchmarks.protocol.history import History
from benchmarks.study import Study
from benchmarks.study.reports import as_markdown, further
from benchmarks.study.tables import Tables

METRICS = ("mean_average_precision_at_r", "precision_at_1", "r_precision")
MAP = METRICS[0]
KINDS = """
kinds:
  rates:
    fields: [network, class_weights]
    name: "lr_{network:g}_{class_weights:g}"
    set:
      - optimizers.trunk_optimizer.Adam.lr={network:g}
      - optimizers.metric_loss_optimizer.Adam.lr={class_weights:g}
  memory:
    fields: [num_steps, step_gap, snapshot_every]
    name: ["memvir_{num_steps}_{step_gap}", "_every_{snapshot_every}"]
    label: "N = {num_steps}, M = {step_gap}"
    set:
      - loss_funcs.metric_loss.MemVir.num_steps={num_steps}
      - loss_funcs.metric_loss.MemVir.step_gap={step_gap}
      - loss_funcs.metric_loss.MemVir.snapshot_every={snapshot_every}
"""


def study(folder, text, kinds=KINDS):
    """Of a file of this text, with results beside it."""
    file = folder / "study.yaml"
    file.write_text(f"results: results\nmetrics: [MAP@R, Recall@1]\n{kinds}\n{text}")
    return Study(file)


def finish(job, study, *values, memvir=None, finished=True):
    """A run by (held-out, test) MAP@R, an evaluation each.

    Recall@1 is half as much, R-Precision a quarter. The last one has what MemVir saw.
    """

    def metrics(value):
        return {m: value / 2**k for k, m in enumerate(METRICS)}

    epochs = [
        {
            "epoch": n,
            "step": 1000 * n,
            "loss": 1.0,
            "splits": {"val": metrics(held_out), "test": metrics(test)},
            "memvir": memvir or {} if n == len(values) else {},
        }
        for n, (held_out, test) in enumerate(values, 1)
    ]
    num_epochs = len(epochs) + (not finished)
    history = History(job.seed, 0, num_epochs, MAP, "val", "test", epochs, finished)
    folder = study.results.folder / job.folder / job.name
    trial = folder / f"seed{job.seed}" / "fold0"
    trial.mkdir(parents=True)
    history.save(trial)
    (folder / "config.yaml").write_text(
        f"experiment_name: {job.name}\nbaseline: {job.baseline or 'null'}\n"
        "split_manager: {ClassDisjointSplitManager: {num_training_sets: 1}}\n"
    )
    study.refresh()


def table_of(text, heading):
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


STAGES = """
stages:
  tune:
    folder: tuning
    seeds: [100]
    each: {loss: [softmax, cosface]}
    arms:
      trial:
        each: {rates: [[1e-3, 0.5], [2e-3, 0.5]]}
        preset: "glyphs/{loss}"
        name: "glyphs/{loss}+{rates}"
        baseline: "glyphs/{loss}+lr_0.001_0.5"
        set: [rates]
  main:
    folder: main
    seeds: [0, 1, 2]
    each: {loss: [softmax, cosface]}
    arms:
      plain: {preset: "glyphs/{loss}"}
      memvir: {preset: "glyphs/{loss}_memvir", baseline: "glyphs/{loss}"}
  wide:
    folder: wide
    seeds: [0, 1, 2]
    each: {loss: [softmax, cosface], memory: [[5, 100], [1, 7]]}
    arms:
      memvir:
        preset: "glyphs/{loss}_memvir"
        name: "glyphs/{loss}_{memory}"
        baseline: "glyphs/{loss}"
        set: [memory]
"""


PLAIN = [(0.3, 0.20), (0.5, 0.30), (0.4, 0.50), (0.1, 0.10)]  # 2 is picked, 3 best


OURS = [(0.3, 0.10), (0.2, 0.20), (0.6, 0.44), (0.1, 0.40)]  # 3 is, 1 until 2


def page(sections, metrics="[MAP@R]"):
    return f"""
reports:
  main:
    of: [main/*]
    tables:
      - title: Tables
        about: [How it was.]
        each: {{metric: {metrics}}}
        sections:
          - {sections}
"""


def made_of(study_):
    return as_markdown(further(Tables(study_), study_.reports["main"]))


def finished(study_, stage, values):
    """Runs by name and seed."""
    for job in study_.jobs(stage):
        if (job.name.partition("/")[2], job.seed) in values:
            finish(job, study_, *values[job.name.partition("/")[2], job.seed])


COMPARISON = """
            heading: "all, {metric}"
            head: loss
            rows: [{of: main.memvir, label: "{loss}"}]
            columns:
              - {head: pairs, show: pairs}
              - {head: plain, show: minus}
              - {head: with MemVir, show: arm}
              - {head: picked epoch}
              - {head: last epoch, selection: last}
              - {head: best on test, selection: best_on_test}
              - {head: held-out classes, selection: held_out}
"""


def compared(folder, sections, metrics="[MAP@R]"):
    """Two pairs of seeds of CosFace, a plain run without a partner, and no Softmax."""
    made = study(folder, STAGES + page(sections.strip(), metrics))
    assert made_of(made) == ""
    values = {("cosface", seed): PLAIN for seed in (0, 1)}
    values["cosface", 2] = [(0.9, 0.9)] * 4  # is in no number
    for seed in (0, 1):
        values["cosface_memvir", seed] = [(v, t + 0.02 * seed) for v, t in OURS]
    finished(made, "main", values)
    return made
