"""The solver agrees with scikit-learn, gives the same result in any basis, and does not learn the unlearnable."""

import pytest
import torch

from tti.evaluation.logistic import binary_probes, softmax_probes


def problem(tokens=600, width=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    acts = torch.randn(tokens, width, generator=generator) @ mixing
    acts = (acts - acts.mean(0)) / acts.std(0)
    scores = acts @ torch.randn(width, classes, generator=generator)
    labels = (scores + torch.randn(tokens, classes, generator=generator)).argmax(1)
    return acts, labels


@pytest.mark.parametrize("l2", [0.1, 1, 100])
def test_the_softmax_probe_is_scikit_learns(l2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    acts, labels = problem()
    probe = softmax_probes(acts, labels[:, None], l2)[0]
    reference = linear_model.LogisticRegression(C=1 / l2, tol=1e-8, max_iter=10_000)
    reference.fit(acts.double().numpy(), labels.numpy())
    expected = torch.from_numpy(reference.coef_).float()
    torch.testing.assert_close(probe.weight, expected, atol=3e-3 * float(expected.abs().max()), rtol=0)
    assert (probe.predict(acts).numpy() == reference.predict(acts.double().numpy())).mean() > 0.995


@pytest.mark.parametrize("l2", [0.1, 10])
def test_the_binary_probe_is_scikit_learns(l2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    acts, labels = problem()
    yes = torch.stack([labels == 0, labels == 2])
    weight, bias = binary_probes(torch.stack([acts, acts[:, ::2].repeat(1, 2)]), yes, l2)
    reference = linear_model.LogisticRegression(C=1 / l2, tol=1e-8, max_iter=10_000)
    reference.fit(acts.double().numpy(), yes[0].numpy())
    expected = torch.from_numpy(reference.coef_[0]).float()
    torch.testing.assert_close(weight[0], expected, atol=3e-3 * float(expected.abs().max()), rtol=0)
    assert bias[0].item() == pytest.approx(reference.intercept_[0], abs=3e-3)


def test_tasks_side_by_side_are_tasks_one_by_one():
    acts, first = problem()
    second = (acts[:, 0] > 0).long() * 7
    both = softmax_probes(acts, torch.stack([first, second], 1), 1.0)
    for probe, labels in zip(both, (first, second), strict=True):
        alone = softmax_probes(acts, labels[:, None], 1.0)[0]
        torch.testing.assert_close(probe.weight, alone.weight, atol=0.02, rtol=0.02)
    assert both[1].classes.tolist() == [0, 7]
    assert set(both[1].predict(acts).tolist()) == {0, 7}


def test_a_rotation_changes_no_prediction():
    acts, labels = problem()
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5)))[0]
    plain, rotated = (
        softmax_probes(acts, labels[:, None], 1.0)[0],
        softmax_probes(acts @ rotation, labels[:, None], 1.0)[0],
    )
    torch.testing.assert_close(plain.weight, rotated.weight @ rotation.T, atol=5e-3, rtol=0)


def test_dead_and_repeated_neurons_and_a_single_class_are_no_trouble():
    acts, labels = problem()
    wide = torch.cat([acts, acts, torch.zeros(len(acts), 3)], 1)
    probe = softmax_probes(wide, labels[:, None], 1.0)[0]
    assert probe.weight[:, -3:].abs().max() < 1e-6
    torch.testing.assert_close(probe.weight[:, :12], probe.weight[:, 12:24], atol=1e-2, rtol=0)
    assert (softmax_probes(acts, torch.full((len(acts), 1), 3), 1.0)[0].predict(acts) == 3).all()
