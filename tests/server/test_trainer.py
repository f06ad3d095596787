import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ams_common.errors import ModelError
from ams_common.layout import Float32Array
from ams_server.buffer import TrainingBuffer
from ams_server.class_balance import class_weights
from ams_server.coordinates import biases_and_last_coordinates
from ams_server.flat_model import FlatModel
from ams_server.segmentation_loss import segmentation_loss
from ams_server.students.export import student_layout
from ams_server.trainer import PhaseResult, Trainer, compute_dtype
from ams_server.training_config import TrainingConfig

CLASSES = 3
MEAN = (100.0, 110.0, 120.0)
STD = (50.0, 60.0, 70.0)


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, CLASSES, 1),
    )


def trainer(**settings: Any) -> Trainer:
    module = network()
    published = {"learning_rate_boost": 1.0, "sparsity_boost": 0.0, "class_balance": 0.0}
    config = TrainingConfig.model_validate({"steps": 5, "batch_size": 4, "precision": "fp32", **published, **settings})
    return Trainer(FlatModel(module, student_layout(module)), config, mean=MEAN, std=STD)


def scene(frames: int = 6, label: int | None = None) -> TrainingBuffer:
    """Frames whose label is the brightest channel, or everywhere `label`."""
    random = np.random.default_rng(8)
    buffer = TrainingBuffer(240, 241)
    for frame in range(frames):
        image = np.repeat(np.repeat(random.integers(0, 256, (4, 4, 3)), 4, 0), 4, 1).astype(np.uint8)
        labels = image.argmax(2).astype(np.uint8) if label is None else np.full((16, 16), label, np.uint8)
        buffer.add(image, labels, float(frame))
    return buffer


def changed(before: Float32Array, after: Float32Array) -> list[int]:
    return [int(position) for position in np.flatnonzero(before != after)]


def test_phases_learn_the_scene() -> None:
    learner, buffer = trainer(steps=20, fraction=0.3, learning_rate=0.01), scene()
    losses = [learner.train_phase(buffer).loss for _ in range(10)]
    assert losses[0] > 0.9
    assert losses[-1] < 0.4


@pytest.mark.parametrize(
    "selection", ["gradient_guided", "random", "first_layers", "last_layers", "first_and_last", "gauss_southwell"]
)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_exactly_the_stated_parameters_move(selection: str, optimizer: str) -> None:
    learner, buffer = trainer(selection=selection, optimizer=optimizer, fraction=0.1), scene()
    size = learner.model.layout.trainable_size
    for _ in range(3):
        before = learner.vector()
        result = learner.train_phase(buffer)
        assert len(result.indices) == round(0.1 * size)
        assert result.steps == 5
        assert set(changed(before, learner.vector())) <= set(result.indices.tolist())
        assert len(changed(before, learner.vector())) > len(result.indices) / 2


def test_layer_strategies_move_their_end() -> None:
    size = network_size()
    assert trainer(selection="first_layers", fraction=0.1).train_phase(scene()).indices.max() == round(0.1 * size) - 1
    assert trainer(selection="last_layers", fraction=0.1).train_phase(scene()).indices.min() == size - round(0.1 * size)


def test_biases_and_last_move_as_many_as_the_limit_lets_them_and_the_largest_first() -> None:
    learner, buffer = trainer(selection="biases_and_last", fraction=0.001), scene()
    allowed = biases_and_last_coordinates(learner.model.layout)
    assert learner.train_phase(buffer).indices.tolist() == allowed.tolist()
    updates = (learner.state()["first_moment"] / np.sqrt(learner.state()["second_moment"] + 1e-8))[allowed]
    expected = np.sort(allowed[np.argsort(np.abs(updates))[-7:]])
    assert learner.train_phase(buffer, 7).indices.tolist() == expected.tolist()


def network_size() -> int:
    return sum(parameter.numel() for parameter in network().parameters())


def test_full_moves_everything_but_running_statistics() -> None:
    learner = trainer(selection="full")
    result = learner.train_phase(scene())
    assert result.indices.tolist() == list(range(network_size()))


def test_a_limit_bounds_the_fraction() -> None:
    for selection in ("full", "gradient_guided", "random"):
        learner = trainer(selection=selection, fraction=0.5)
        assert [len(learner.train_phase(scene(), limit).indices) for limit in (17, 0, 17)] == [17, 1, 17]
    assert len(trainer(fraction=0.1).train_phase(scene(), 10**12).indices) == round(0.1 * network_size())


def test_the_second_phase_takes_the_largest_updates_of_the_first() -> None:
    learner, buffer = trainer(fraction=0.1), scene()
    first = learner.train_phase(buffer)
    state = learner.state()
    root = np.sqrt(state["second_moment"].astype(np.float64) + 1e-8)
    scores = np.abs(state["first_moment"] / root)
    expected = np.sort(np.argsort(scores)[-len(first.indices) :])
    np.testing.assert_array_equal(learner.train_phase(buffer).indices, expected)


def test_the_first_phase_is_random_or_decided_by_its_first_step() -> None:
    buffer = scene()
    by_luck = {tuple(trainer(seed=seed, fraction=0.1).train_phase(buffer).indices) for seed in range(3)}
    assert len(by_luck) == 3
    learner = trainer(first_selection="first_step", fraction=0.1, steps=1)
    before = learner.vector()
    result = learner.train_phase(buffer)
    state = learner.state()
    scores = np.abs(state["first_moment"] / np.sqrt(state["second_moment"].astype(np.float64) + 1e-8))
    np.testing.assert_array_equal(result.indices, np.sort(np.argsort(scores)[-len(result.indices) :]))
    assert changed(before, learner.vector()) == result.indices.tolist()


def test_gauss_southwell_takes_the_largest_gradients_of_the_phase() -> None:
    learner = trainer(selection="gauss_southwell", optimizer="sgd", fraction=0.1, steps=1)
    result = learner.train_phase(scene())
    magnitudes = learner.model.gradients.abs()
    assert magnitudes[torch.from_numpy(result.indices)].min() >= magnitudes.sort().values[-len(result.indices)]


def test_a_phase_is_algorithm_2_on_the_same_batches() -> None:
    learner, buffer = trainer(fraction=0.2, seed=9), scene()
    reference, generator = network().eval(), torch.Generator().manual_seed(9)
    chosen = torch.randperm(network_size(), generator=generator)[: round(0.2 * network_size())]
    mask = torch.zeros(network_size()).index_fill_(0, chosen, 1)
    first, second = torch.zeros(2, network_size())
    losses = []
    for step in range(1, 6):
        images, labels = buffer.sample(4, generator)
        reference.zero_grad()
        loss = reference_loss(reference, images, labels)
        torch.autograd.backward(loss)
        losses.append(float(loss.detach()))
        gradient = torch.cat([each.grad.flatten() for each in reference.parameters() if each.grad is not None])
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        update = 1e-3 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step) * first / torch.sqrt(second + 1e-8)
        subtract(reference, update * mask)
    result = learner.train_phase(buffer)
    expected = torch.cat([each.detach().flatten() for each in reference.parameters()])
    np.testing.assert_allclose(learner.vector()[: network_size()], expected.numpy(), atol=1e-6)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)


def reference_loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    inputs = (images.float() - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    logits = nn.functional.interpolate(module(inputs), labels.shape[1:], mode="bilinear", align_corners=False)
    return nn.functional.cross_entropy(logits, labels.long(), ignore_index=255)


def subtract(module: nn.Module, update: Tensor) -> None:
    start = 0
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(update[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    vectors = []
    for seed in (1, 1, 2):
        learner = trainer(seed=seed)
        for _ in range(2):
            learner.train_phase(scene())
        vectors.append(learner.vector())
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert changed(vectors[0], vectors[2])


def test_training_goes_on_from_what_the_edge_decoded() -> None:
    learner = trainer()
    learner.train_phase(scene())
    decoded = learner.vector() + np.float32(0.25)
    learner.adopt(decoded)
    before = learner.vector()
    result = learner.train_phase(scene())
    assert changed(before, decoded) == []
    assert set(changed(decoded, learner.vector())) <= set(result.indices.tolist())


def test_adopting_what_does_not_fit_is_refused() -> None:
    learner = trainer()
    with pytest.raises(ModelError):
        learner.adopt(np.zeros(3, np.float32))


@pytest.mark.parametrize("stride", [1, 4])
def test_frames_without_labels_do_no_harm(stride: int) -> None:
    learner = trainer(loss_stride=stride)
    before = learner.vector()
    result = learner.train_phase(scene(label=255))
    assert (result.loss, result.failure) == (0.0, "")
    np.testing.assert_array_equal(learner.vector(), before)


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_pixels_of_rare_classes_weigh_more_in_the_loss(balance: float) -> None:
    learner, buffer = trainer(steps=1, first_selection="first_step", class_balance=balance), scene()
    buffer.add(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8), 6.0)
    images, labels = buffer.sample(4, torch.Generator().manual_seed(0))
    weights = class_weights(buffer.class_pixels, balance)[:CLASSES]
    expected = segmentation_loss(learner.logits(images), labels, class_weights=weights)
    assert learner.train_phase(buffer).loss == pytest.approx(expected.item())
    assert (weights.std().item() > 0) == (balance > 0)


class Breakable(nn.Module):
    """Gives NaN, or logits without a finite gradient, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.broken = ""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        if self.broken == "loss":
            return logits * math.nan
        # The root's slope at zero is infinite while its value, zero, is fine.
        return logits + (logits - logits).sqrt() if self.broken == "gradient" else logits


@pytest.mark.parametrize(("broken", "message"), [("loss", "loss became nan"), ("gradient", "a weight or an update|loss")])
def test_a_phase_that_breaks_is_undone_and_reported(broken: str, message: str) -> None:
    module = Breakable()
    config = TrainingConfig(steps=1 if broken == "gradient" else 3, batch_size=2, precision="fp32")
    learner = Trainer(FlatModel(module, student_layout(module)), config, mean=MEAN, std=STD)
    learner.train_phase(scene())
    before, state = learner.vector(), learner.state()
    module.broken = broken
    result = learner.train_phase(scene())
    assert len(result.indices) == 0
    assert math.isnan(result.loss)
    assert re.search(message, result.failure)
    np.testing.assert_array_equal(learner.vector(), before)
    for name in ("first_moment", "second_moment", "step_count", "phases", "moved"):
        np.testing.assert_array_equal(learner.state()[name], state[name])
    module.broken = ""
    assert learner.train_phase(scene()).failure == ""


@pytest.mark.parametrize("steps_before", [0, 1, 4])
def test_a_stopped_phase_is_undone(steps_before: int) -> None:
    learner, buffer = trainer(), scene()
    learner.train_phase(buffer)
    before, answers = learner.vector(), iter([False] * steps_before + [True])
    state = learner.state()
    result = learner.train_phase(buffer, stopping=lambda: next(answers))
    assert (result.failure, result.steps, len(result.indices)) == ("it was stopped", steps_before, 0)
    np.testing.assert_array_equal(learner.vector(), before)
    for name in state.keys() - {"generator"}:  # mini-batches that were drawn stay drawn
        np.testing.assert_array_equal(learner.state()[name], state[name])


def test_restored_phases_start_from_the_pretrained_weights_and_keep_the_moments() -> None:
    learner, buffer = trainer(restore_between_phases=True, fraction=0.1), scene()
    pretrained = learner.vector()
    first = learner.train_phase(buffer)
    # What the edge decoded is not exactly what was trained.
    middle = learner.vector()
    middle[first.indices] += np.float32(1e-3)
    learner.adopt(middle)
    second = learner.train_phase(buffer)
    moved_last = changed(pretrained, learner.vector())
    assert len(moved_last) == len(first.indices)
    assert set(changed(middle, learner.vector())) <= set(second.indices.tolist())
    assert set(first.indices.tolist()) | set(moved_last) == set(second.indices.tolist())
    assert learner.state()["step_count"] == 10


def test_restored_phases_take_back_what_an_update_had_no_room_to_restore() -> None:
    learner, buffer = trainer(restore_between_phases=True, fraction=0.1), scene()
    pretrained = learner.vector()
    chosen = len(learner.train_phase(buffer).indices)
    held = learner.vector()
    learner.adopt(held)
    for _ in range(3):
        learner.train_phase(buffer)
        moved = changed(pretrained, learner.vector())
        assert 0 < len(moved) <= chosen
        # The device gets what the phase has moved, and keeps what it should have taken back.
        held[moved] = learner.vector()[moved]
        learner.adopt(held)
    assert len(changed(pretrained, held)) > chosen


def test_restored_phases_keep_the_limit_with_what_they_take_back() -> None:
    learner, buffer, limit = trainer(restore_between_phases=True, fraction=0.1), scene(), 20
    for _ in range(3):
        result = learner.train_phase(buffer, limit)
        assert 0 < len(result.indices) <= limit
        learner.adopt(learner.vector())


def test_trained_batch_norm_sends_its_statistics() -> None:
    learner, frozen = trainer(batch_norm="train", fraction=0.1), trainer(fraction=0.1)
    statistics = range(network_size(), learner.model.layout.size)
    before = learner.vector()
    result = learner.train_phase(scene())
    assert set(statistics) <= set(changed(before, learner.vector())) <= set(result.indices.tolist())
    assert not any(module.training for module in learner.model.module.modules())
    before = frozen.vector()
    frozen.train_phase(scene())
    assert not set(statistics) & set(changed(before, frozen.vector()))


def test_state_goes_on_identically() -> None:
    settings = {"fraction": 0.1, "restore_between_phases": True}
    first, second, buffer = trainer(**settings), trainer(**settings, seed=77), scene()
    for _ in range(2):
        first.train_phase(buffer)
    second.adopt(first.vector())
    second.load_state(first.state())
    results = [each.train_phase(buffer) for each in (first, second)]
    np.testing.assert_array_equal(results[0].indices, results[1].indices)
    assert results[0].loss == results[1].loss
    np.testing.assert_array_equal(first.vector(), second.vector())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phases", np.array([1])),
        ("phases", np.array(-1)),
        ("moved", np.array([10**9])),
        ("moved", np.array([-1])),
        ("moved", np.array([0.5])),
        ("moved", np.array([[1]])),
        ("generator", np.zeros(3, np.uint8)),
        ("generator", np.zeros(3)),
        ("first_moment", np.zeros(3, np.float32)),
    ],
)
def test_a_foreign_state_is_refused(name: str, value: npt.NDArray[Any]) -> None:
    learner = trainer()
    state = learner.state()
    with pytest.raises(ModelError):
        learner.load_state({**state, name: value})
    with pytest.raises(ModelError):
        learner.load_state({key: part for key, part in state.items() if key != name})


def test_bfloat16_learns_about_the_same() -> None:
    results = [trainer(precision=precision, steps=10).train_phase(scene()) for precision in ("fp32", "bf16")]
    assert results[1].loss == pytest.approx(results[0].loss, rel=0.02)
    assert results[1].loss != results[0].loss


def test_precision_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        assert compute_dtype("auto", cpu) == expected
    assert compute_dtype("fp32", cpu) == torch.float32
    assert compute_dtype("bf16", cpu) == torch.bfloat16


def test_batch_statistics_of_one_image_are_refused() -> None:
    with pytest.raises(ValidationError, match="batch_size of at least 2"):
        TrainingConfig(batch_norm="train", batch_size=1)


def test_squared_gradients_are_means_of_the_tensors() -> None:
    subject = trainer()
    subject.train_phase(scene())
    squares = subject.state()["second_moment"]
    expected = [
        squares[start : start + tensor.size].mean()
        for start, tensor in zip(subject.model.layout.offsets, subject.model.layout.tensors, strict=True)
        if tensor.trainable
    ]
    np.testing.assert_allclose(subject.squared_gradients(), expected, rtol=1e-5)


def test_only_adam_says_how_far_it_usually_moves_a_weight() -> None:
    subject = trainer(learning_rate=0.01, learning_rate_boost=2.0, boost_half_life=1.0, steps=25)
    subject.train_phase(scene())
    assert subject.usual_change == pytest.approx(0.1)
    subject.train_phase(scene())
    assert subject.usual_change == pytest.approx(0.075)
    assert trainer(optimizer="sgd").usual_change == 0


def test_a_phase_of_fewer_parameters_takes_larger_steps() -> None:
    subject = trainer(learning_rate=0.01, learning_rate_boost=1.0, sparsity_boost=1.0, fraction=0.5, steps=1)
    usual = round(0.5 * subject.model.layout.trainable_size)
    subject.train_phase(scene(), limit=usual // 4)
    assert subject.usual_change == pytest.approx(0.01 * usual / (usual // 4))
    subject.train_phase(scene(), limit=10 * usual)
    assert subject.usual_change == pytest.approx(0.01)


def test_the_boost_goes_on_where_a_state_left_it() -> None:
    before, after = (trainer(learning_rate=0.01, learning_rate_boost=4.0, boost_half_life=1.0) for _ in range(2))
    for _ in range(3):
        before.train_phase(scene())
    after.load_state(before.state())
    after.train_phase(scene())
    assert after.usual_change == pytest.approx(0.01 * (1 + 3 / 8) * math.sqrt(5))


def test_results_are_values() -> None:
    result = PhaseResult(indices=np.arange(2), loss=1.0, steps=1)
    with pytest.raises(AttributeError):
        result.loss = 2.0  # type: ignore[misc]  # that it cannot be set is what is tested
