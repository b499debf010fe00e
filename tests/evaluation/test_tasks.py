import inspect

import pytest

from frugalclip.evaluation.tasks import TASKS

ARGUMENTS = {"features": "layer", "robustness": "with_robustness"}


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"probe", "knn"}))
def test_a_task_takes_the_arguments_of_its_options(name):
    taken = inspect.signature(TASKS[name].run).parameters
    assert {ARGUMENTS.get(option, option) for option in TASKS[name].options} <= set(taken)


def test_tasks_of_classes_need_no_texts():
    needless = {name for name, task in TASKS.items() if not task.needs_texts}
    assert needless == {"probe", "knn", "fewshot", "grouping", "suite"}
