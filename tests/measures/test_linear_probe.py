"""The linear probe against scikit-learn's logistic regression, and on features whose answer is plain."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mlp_lib.errors import UserError
from mlp_lib.measures import features, linear_probe
from mlp_lib.measures.take import MEASURES, measure
from mlp_lib.models import build
from mlp_lib.records.run import make_run
from mlp_lib.training.loaders import load_data


def blobs(count: int, width: int = 6, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes, with features that are correlated, of very different scale and far from zero."""
    rng = np.random.default_rng(seed)
    centres, mixing = np.random.default_rng(99).normal(size=(classes, width)), np.random.default_rng(98)
    labels = rng.integers(classes, size=count)
    features = (centres[labels] + rng.normal(size=(count, width))) @ mixing.normal(size=(width, width))
    features = features * np.geomspace(0.1, 30, width) + 5
    return torch.from_numpy(features), torch.from_numpy(labels)


@pytest.mark.parametrize("strength", [1e-1, 1e-3, 1e-5])
def test_a_fit_is_that_of_scikit_learn(strength):
    features, labels = blobs(500)
    fit = linear_probe.fit_logistic(features, labels, 4, strength)
    reference = LogisticRegression(C=1 / (strength * 500), solver="newton-cg", tol=1e-10, max_iter=1000)
    reference.fit(features.numpy(), labels.numpy())
    assert fit.converged and fit.iterations < 100
    ours = features.numpy() @ fit.weight + fit.bias
    theirs = reference.decision_function(features.numpy())
    centred = [logits - logits.mean(1, keepdims=True) for logits in (ours, theirs)]  # a common shift means nothing
    np.testing.assert_allclose(*centred, atol=2e-3)
    np.testing.assert_allclose(fit.weight.T, reference.coef_, atol=1e-3 * np.abs(reference.coef_).max())
    theirs_loss = torch.nn.functional.cross_entropy(torch.from_numpy(theirs), labels)
    assert fit.loss == pytest.approx(theirs_loss.item() + strength / 2 * np.square(reference.coef_).sum(), rel=1e-6)


def test_where_a_fit_starts_changes_nothing_but_the_time():
    features, labels = blobs(400)
    cold = linear_probe.fit_logistic(features, labels, 4, 1e-3)
    warm = linear_probe.fit_logistic(features, labels, 4, 1e-3, linear_probe.fit_logistic(features, labels, 4, 1e-2))
    again = linear_probe.fit_logistic(features, labels, 4, 1e-3, cold)
    np.testing.assert_allclose(warm.weight, cold.weight, atol=1e-4 * np.abs(cold.weight).max())
    assert again.iterations <= 2 < cold.iterations


def test_single_precision_comes_to_the_same_accuracy():
    parts = [blobs(n, seed=s) for n, s in ((600, 0), (200, 1), (400, 2))]
    double = linear_probe.probe(*parts, 4)
    single = linear_probe.probe(*[(f.float(), y) for f, y in parts], 4)
    assert single.test_top1 == pytest.approx(double.test_top1, abs=0.6) and single.converged


def test_the_strength_is_chosen_on_validation_and_an_edge_is_said():
    def noisy(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Four centres in two of forty features: without a penalty, a fit to few examples believes the other 38."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(4, (count,), generator=generator)
        features = torch.randn(count, 40, generator=generator).double()
        features[:, 0] += 2.0 * (labels % 2)
        features[:, 1] += 2.0 * (labels // 2)
        return features, labels

    parts, tried = [noisy(60, 0), noisy(500, 1), noisy(500, 2)], (1e-3, 1e-1, 10.0)
    chosen = linear_probe.probe(*parts, 4, strengths=tried)
    scores = {s: linear_probe.probe(*parts, 4, strengths=(s,)).val_top1 for s in tried}
    assert scores[chosen.strength] == max(scores.values()) and not chosen.at_edge
    swapped = linear_probe.probe(parts[0], parts[1], (parts[2][0], 3 - parts[2][1]), 4, strengths=tried)
    assert swapped.strength == chosen.strength and swapped.test_top1 < chosen.test_top1  # test images choose nothing
    assert linear_probe.probe(*parts, 4, strengths=(1e2, 1e3)).at_edge


def test_separable_features_are_read_without_error_and_dead_ones_break_nothing():
    labels = torch.arange(90) % 3
    features = torch.cat([torch.nn.functional.one_hot(labels, 3), torch.full((90, 2), 4)], 1).double()
    found = linear_probe.probe(*[(features, labels)] * 3, 3)
    assert (found.train_top1, found.test_top1) == (100.0, 100.0)
    constant = linear_probe.probe(*[(torch.full((90, 2), 0.1), labels)] * 3, 3)
    assert constant.test_top1 == pytest.approx(100 / 3)


def test_what_cannot_be_probed_is_one_line():
    features, labels = blobs(20)
    with pytest.raises(UserError, match="not finite"):
        linear_probe.fit_logistic(features * float("nan"), labels, 4, 1e-3)
    with pytest.raises(UserError, match="strength=-1"):
        linear_probe.fit_logistic(features, labels, 4, -1)
    with pytest.raises(UserError, match="validation images"):
        linear_probe.probe((features, labels), (features[:0], labels[:0]), (features, labels), 4)
    run = make_run(model="B-1/Wi-16", dataset="digits", epochs=1)
    with pytest.raises(UserError, match="digits sees 1 channels, and cifar10 has 3"):
        measure(("probe_cifar10",), build("B-1/Wi-16", 10, 8, channels=1), run, load_data(run))


@pytest.mark.parametrize("name", ["B-1/Wi-48", "CNN-4"])
def test_probe_of_a_models_features_is_scikit_learns_on_the_same(name):
    run = make_run(model=name, dataset="digits", subset=200, batch_size=16, epochs=1, permute_seed=3)
    torch.manual_seed(1)
    model = build(name, 10, 8, channels=1)
    found = measure(("probe_digits",), model, run, load_data(run))["probe_digits"]
    assert found == json.loads(json.dumps(found)) and found["target"] == "digits"
    data = load_data(run.but(subset=None))  # the probe has all of the target's images, however few the model had
    assert found["images"] == len(data.train.labels) == 1293
    (x, y), (x_test, y_test) = (
        (features.features_of(model, data, split).numpy(), split.labels.numpy()) for split in (data.train, data.test)
    )
    mean, deviation = x.mean(0), x.std(0, ddof=1)
    deviation[deviation < 1e-6] = 1
    reference = LogisticRegression(C=1 / (found["strength"] * len(y)), solver="newton-cg", tol=1e-8, max_iter=1000)
    reference.fit((x - mean) / deviation, y)
    score = 100 * (reference.predict((x_test - mean) / deviation) == y_test).mean()
    assert found["test_top1"] == pytest.approx(score, abs=0.6)


def test_every_probe_names_a_data_set():
    from mlp_lib.datasets import FACTS

    assert {"probe_cifar10", "probe_cifar100", "probe_digits"} <= set(MEASURES)
    assert all(name.removeprefix("probe_") in FACTS for name in MEASURES if name.startswith("probe_"))
