"""What a loss gets is held against what it wants, and healthy programs raise no alarm."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import cross_entropy

import nnmagic

X, Y = torch.rand(6, 8), torch.tensor([0, 1, 2, 1, 0, 2])


def found(run, **options):
    """Return the findings of a block, all of which the display tells."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), nnmagic.tracing(**options) as trace:
        warnings.simplefilter("ignore")
        run()
    assert all(each.text in trace.table().notes for each in trace.findings)
    return trace.findings


def scores():
    return nn.Sequential(nn.Linear(8, 3))(X)


def probabilities():
    return nn.Sequential(nn.Linear(8, 3), nn.Softmax(1))(X)


PROBABILITIES = {
    "a layer and a layer": lambda: nn.CrossEntropyLoss()(probabilities(), Y),
    "a layer and a function": lambda: F.cross_entropy(probabilities(), Y),
    "a function and a layer": lambda: nn.CrossEntropyLoss()(scores().softmax(1), Y),
    "a function and a function": lambda: F.cross_entropy(F.softmax(scores(), -1), Y),
    "a function by its own name": lambda: cross_entropy(target=Y, input=probabilities()),
    "probabilities as targets": lambda: F.cross_entropy(probabilities(), F.one_hot(Y, 3).float()),
    "with a smoothed target": lambda: nn.CrossEntropyLoss(label_smoothing=0.1)(probabilities(), Y),
    "of pixels": lambda: F.cross_entropy(
        nn.Conv2d(1, 3, 1)(torch.rand(2, 1, 4, 4)).softmax(1), torch.zeros(2, 4, 4).long()
    ),
    "in bfloat16": lambda: F.cross_entropy(probabilities().bfloat16(), Y),
    "a single item": lambda: F.cross_entropy(scores()[0].softmax(0), Y[0]),
    "with ops": lambda: F.cross_entropy(probabilities(), Y),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_into_a_cross_entropy_are_a_finding(name):
    (finding,) = found(PROBABILITIES[name], ops=name == "with ops")

    assert finding.rule == "probabilities into a loss that wants scores"
    assert finding.level == "finding"
    assert "leave out the softmax" in finding.text


def test_the_softmax_that_is_a_layer_is_named():
    (finding,) = found(lambda: F.cross_entropy(probabilities(), Y))

    assert "from Sequential.1 (Softmax)" in finding.text


def test_the_finding_stands_at_the_loss_that_is_a_layer():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.criterion = nn.CrossEntropyLoss()

        def forward(self, x, y):
            return self.criterion(x, y)

    (finding,) = found(lambda: Wrapped()(probabilities(), Y))

    assert (finding.network, finding.layer, finding.iteration) == ("Wrapped", "criterion", 0)


LOG_PROBABILITIES = {
    "scores": (lambda: F.nll_loss(9 * scores(), Y), "scores above 0"),
    "scores into a layer": (lambda: nn.NLLLoss()(9 * scores(), Y), "scores above 0"),
    "probabilities": (lambda: F.nll_loss(probabilities(), Y), "wants their logarithms"),
    "probabilities into a layer": (lambda: nn.NLLLoss()(probabilities(), Y), "their logarithms"),
}


@pytest.mark.parametrize("name", LOG_PROBABILITIES)
def test_a_likelihood_of_something_else_than_logarithms_is_a_finding(name):
    run, says = LOG_PROBABILITIES[name]

    (finding,) = found(run)

    assert says in finding.text


OVER_THE_BATCH = {
    "log-probabilities": lambda: F.nll_loss(scores().log_softmax(0), Y),
    "probabilities": lambda: nn.CrossEntropyLoss()(scores().softmax(0), Y),
    "of pixels": lambda: F.nll_loss(
        nn.Conv2d(1, 3, 1)(torch.rand(2, 1, 4, 4)).log_softmax(0), torch.zeros(2, 4, 4).long()
    ),
    "in bfloat16": lambda: F.nll_loss(scores().bfloat16().log_softmax(0), Y),
}


@pytest.mark.parametrize("name", OVER_THE_BATCH)
def test_a_softmax_over_the_batch_is_a_finding(name):
    (finding,) = found(OVER_THE_BATCH[name])

    assert finding.rule == "a softmax over the batch"
    assert "type dim=1" in finding.text


ACTIVATIONS = {
    "a layer": lambda: F.cross_entropy(nn.Sequential(nn.Linear(8, 3), nn.Tanh())(X), Y),
    "a function": lambda: nn.CrossEntropyLoss()(scores().relu(), Y),
    "binary": lambda: F.binary_cross_entropy_with_logits(scores().sigmoid(), torch.rand(6, 3)),
    "one output": lambda: nn.BCEWithLogitsLoss()(column().sigmoid().squeeze(1), torch.rand(6)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_before_a_loss_of_scores_is_a_finding(name):
    (finding,) = found(ACTIVATIONS[name])

    assert finding.rule == "an activation before a loss that wants scores"


@pytest.mark.parametrize(("scale", "is_found"), [(90, True), (1, False)])
def test_a_loss_that_begins_far_above_a_guess_is_a_finding(scale, is_found):
    net, x = nn.Linear(8, 3), torch.rand(64, 8)

    def run(*, learns):
        loss = F.cross_entropy(scale * net(x), torch.arange(64) % 3)
        if learns:
            loss.backward()

    rules = [each.rule for each in found(lambda: run(learns=True))]

    assert rules == ["a large loss at the start"] * is_found
    assert found(lambda: run(learns=False)) == ()


def column():
    return nn.Linear(8, 1)(X)


EACH_WITH_EACH = {
    "mse": lambda: nn.MSELoss()(column(), torch.rand(6)),
    "mse, the other way round": lambda: F.mse_loss(column().squeeze(1), torch.rand(6, 1)),
    "l1": lambda: F.l1_loss(column(), torch.rand(6)),
    "smooth l1": lambda: nn.SmoothL1Loss()(column(), torch.rand(6)),
    "huber": lambda: F.huber_loss(column(), torch.rand(6)),
}


@pytest.mark.parametrize("name", EACH_WITH_EACH)
def test_a_regression_of_each_with_each_is_a_finding(name):
    (finding,) = found(EACH_WITH_EACH[name])

    assert finding.rule == "each output against each target"
    assert "(6, 6)" in finding.text
    assert ".squeeze(1)" in finding.text


def test_a_loss_in_a_loop_is_told_once_with_its_iteration():
    def loop():
        net = nn.Sequential(nn.Linear(8, 3), nn.Softmax(1))
        for _ in range(5):
            F.cross_entropy(net(X), Y).backward()

    (finding,) = found(loop)

    assert finding.iteration == 0


def gan():
    made, judge = nn.Linear(2, 8), nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())
    ones = torch.ones(6, 1)
    loss = F.binary_cross_entropy(judge(X), ones) + F.binary_cross_entropy(
        judge(made(torch.rand(6, 2))), ones * 0
    )
    loss.backward()


def policy_gradient():
    choice = torch.distributions.Categorical(logits=scores())
    loss = -(choice.log_prob(choice.sample()) * torch.rand(6)).mean()
    (loss + 0.5 * F.mse_loss(column().squeeze(-1), torch.rand(6))).backward()


def distillation():
    student = F.log_softmax(scores() / 4, -1)
    F.kl_div(student, scores().softmax(-1), reduction="batchmean").backward()


def segmentation():
    out = nn.Conv2d(3, 5, 1)(torch.rand(2, 3, 4, 4))
    F.cross_entropy(out, torch.zeros(2, 4, 4).long(), ignore_index=255).backward()


HEALTHY = {
    "a tanh that is scaled": lambda: F.cross_entropy(10 * torch.tanh(scores()), Y),
    "a ReLU into a squared error": lambda: F.mse_loss(scores().relu(), torch.rand(6, 3)),
    "a large loss of few items": lambda: F.cross_entropy(90 * scores(), Y).backward(),
    "scores": lambda: F.cross_entropy(scores(), Y),
    "a layer": lambda: nn.CrossEntropyLoss()(scores(), Y),
    "label smoothing": lambda: nn.CrossEntropyLoss(label_smoothing=0.2)(scores(), Y),
    "probabilities as targets": lambda: F.cross_entropy(scores(), probabilities().detach()),
    "log-probabilities": lambda: nn.NLLLoss()(F.log_softmax(scores(), 1), Y),
    "log-probabilities into a cross entropy": lambda: F.cross_entropy(scores().log_softmax(1), Y),
    "log-probabilities in half precision": lambda: F.nll_loss(
        scores().log_softmax(1).half().float(), Y
    ),
    "pairs of a contrastive loss": lambda: F.nll_loss(
        nn.Linear(8, 6)(X).log_softmax(0), torch.arange(6)
    ),
    "half of two items": lambda: F.nll_loss(torch.rand(2, 3).log_softmax(1), Y[:2]),
    "zeros": lambda: F.cross_entropy(0 * scores(), Y),
    "large scores": lambda: F.cross_entropy(1e4 * scores(), Y),
    "one class": lambda: F.cross_entropy(column().softmax(1), torch.zeros(6).long()),
    "columns": lambda: F.mse_loss(column(), torch.rand(6, 1)),
    "a scalar target": lambda: F.mse_loss(column(), torch.tensor(1.0)),
    "one target for all": lambda: F.mse_loss(scores(), torch.rand(1, 3)),
    "one item": lambda: F.mse_loss(nn.Linear(8, 1)(X[:1]), torch.rand(1)),
    "a GAN": gan,
    "a policy gradient": policy_gradient,
    "distillation": distillation,
    "segmentation": segmentation,
    "an embedding loss": lambda: F.cosine_embedding_loss(scores(), scores(), torch.ones(6)),
    "softmax without a loss": lambda: probabilities().sum().backward(),
}


@pytest.mark.parametrize("ops", [True, False])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_loss_raises_no_alarm(name, ops):
    assert found(HEALTHY[name], ops=ops) == ()


def test_losses_and_their_gradients_keep_their_bits_and_their_code():
    net = nn.Sequential(nn.Linear(8, 3), nn.Softmax(1))
    twin, code = copy.deepcopy(net), F.cross_entropy.__code__
    plain = F.cross_entropy(net(X), Y, label_smoothing=0.1)
    plain.backward()

    with nnmagic.tracing():
        with nnmagic.tracing() as inner:
            watched = F.cross_entropy(twin(X), Y, label_smoothing=0.1)
        watched.backward()

    assert watched.equal(plain)
    assert net[0].weight.grad.equal(twin[0].weight.grad)
    assert F.cross_entropy.__code__ is code
    assert len(inner.findings) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_torchs_code_is_there_again_whatever_ends_the_run(error):
    code = F.mse_loss.__code__

    with pytest.raises(error), nnmagic.tracing():
        nn.Linear(8, 3)(X)
        raise error

    assert F.mse_loss.__code__ is code


def test_a_loss_that_raises_raises_its_own_error():
    with nnmagic.tracing(), pytest.raises(TypeError, match=r"nll_loss\(\) missing 2 required"):
        scores()
        F.nll_loss()
