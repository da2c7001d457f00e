"""record-keeper: a list of losses in MultipleLosses, logged as HookContainer does."""

from __future__ import annotations

import sqlite3
import sys
import tempfile

import torch
from pytorch_metric_learning import losses
from pytorch_metric_learning.utils import common_functions as c_f
from record_keeper import RecordKeeper, RecordWriter

faulty = False
pair = losses.ContrastiveLoss(), losses.TripletMarginLoss()
for title, several in [
    ("a dictionary", {"contrastive": pair[0], "triplet": pair[1]}),
    ("a list", list(pair)),
]:
    with tempfile.TemporaryDirectory() as folder:
        keeper = RecordKeeper(
            record_writer=RecordWriter(folder),
            attributes_to_search_for=c_f.list_of_recordable_attributes_list_names(),
        )
        keeper.update_records(  # HookContainer.end_of_iteration_hook
            {"metric_loss": losses.MultipleLosses(several)},
            0,
            recursive_types=[torch.nn.Module, dict],
        )
        tables = sorted(keeper.record_writer.records)
        try:
            keeper.save_records()  # HookContainer.save_models_and_eval
            written = sum(keeper.table_exists(table) for table in tables)
            result = f"{written} tables"
        except sqlite3.OperationalError as error:
            result = f"sqlite3.OperationalError: {error}"
        faulty |= result != f"{len(tables)} tables"
    print(f"MultipleLosses of {title}\n  expected {len(tables)} tables")
    print(f"  actual   {result}")
sys.exit(int(faulty))
