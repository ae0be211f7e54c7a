import torch

from geo3d.deploy.program.kept import PLANS, Kept


def test_a_plan_is_made_once_and_the_first_of_too_many_is_dropped():
    kept, made = Kept(), []

    def get(key):
        return kept.get(key, lambda: made.append(key) or key)

    for key in [*range(PLANS), 0, PLANS - 1, PLANS]:
        assert get(key) == key
    assert made == list(range(PLANS + 1))
    get(1)
    assert made[-1] == PLANS  # 1 is still there, 0 is not
    get(0)
    assert made[-1] == 0


def test_tensors_of_plans_are_none_of_inference_mode():
    with torch.inference_mode():
        assert not Kept().get(0, lambda: torch.zeros(1)).is_inference()
