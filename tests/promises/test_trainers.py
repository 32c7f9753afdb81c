"""The loops of Lightning and transformers are followed in a cell, without being touched."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import optimizer as optimizer_hooks
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

EPOCHS, BATCHES, VALIDATION = 2, 8, 3


@pytest.fixture(scope="module")
def lightning_module():
    """The class of a module whose optimizer may have its head alone; it keeps its losses."""
    import lightning  # takes a second

    class Lit(lightning.LightningModule):
        def __init__(self, *, head_only=False):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2))
            self.head = nn.Linear(16, 3)
            self.head_only, self.losses = head_only, []

        def forward(self, x):
            return self.head(self.encoder(x))

        def training_step(self, batch, _):
            x, y = batch
            loss = F.cross_entropy(self(x), y)
            self.losses.append(loss.item())
            return loss

        def validation_step(self, batch, _):
            x, y = batch
            self.log("validation", F.cross_entropy(self(x), y))

        def configure_optimizers(self):
            trained = self.head if self.head_only else self
            optimizer = torch.optim.Adam(trained.parameters(), 1e-2)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    return Lit


def items(batches):
    source = torch.Generator().manual_seed(1)
    x = torch.randn(8 * batches, 6, generator=source)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8)


@pytest.fixture
def lit(session, lightning_module):
    from lightning import Trainer as LightningTrainer

    def made(cell, **options):
        torch.manual_seed(0)
        names = {
            "lit": lightning_module(**options),
            "batches": items(BATCHES),
            "others": items(VALIDATION),
        }
        names["trainer"] = LightningTrainer(
            accelerator="cpu",
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        session.shell.user_ns.update(names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session.run(f"{cell}\ntrainer.fit(lit, batches, others)")
        return session.shell.user_ns

    return made


def codes():
    """Return what a trace changes for its length, and must put back."""
    functions = (nn.Module._wrapped_call_impl, torch.autograd.backward, LRScheduler.step)
    return [*(each.__code__ for each in functions), F.cross_entropy.__code__]


def assert_nothing_is_left(net, optimizer, before):
    assert codes() == before
    assert not optimizer_hooks._global_optimizer_pre_hooks
    assert not optimizer_hooks._global_optimizer_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def left_by(net, optimizer):
    """Return what a loop leaves, as tensors."""
    state = optimizer.state_dict()["state"].values()
    held = [v for each in state for v in each.values() if torch.is_tensor(v)]
    return [*net.state_dict().values(), *held, torch.get_rng_state()]


def losses(trace):
    return trace.history(series=True).query("quantity == 'loss'")


def test_lightnings_fit_is_followed_and_left_as_it_was(lit):
    plain = lit("")
    expected = left_by(plain["lit"], plain["trainer"].optimizers[0])
    expected_losses, before = plain["lit"].losses, codes()

    names = lit("%%nntrace --grad -o t")

    net, (optimizer,), t = names["lit"], names["trainer"].optimizers, names["t"]
    found = left_by(net, optimizer)
    assert all(one.equal(other) for one, other in zip(expected, found, strict=True))
    assert net.losses == expected_losses
    assert_nothing_is_left(net, optimizer, before)
    assert t.findings == ()
    assert losses(t).value.tolist() == pytest.approx(expected_losses)
    assert losses(t).iteration.tolist() == list(range(EPOCHS * BATCHES))
    assert set(losses(t).network) == {"lit"}
    frame = t.history(series=True).query("quantity == 'mean' and layer == 'head'")
    validated = VALIDATION * EPOCHS + 2  # with two before the training, Lightning's own check
    assert frame.groupby("series").iteration.count().tolist() == [EPOCHS * BATCHES, validated]
    ratios = t.history().query("quantity == 'weight.update_ratio'")
    assert ratios.groupby("layer").value.count().to_dict() == {"encoder.0": 16, "head": 16}


def test_a_fault_of_a_lightning_module_is_named(lit):
    t = lit("%%nntrace -o t", head_only=True)["t"]

    (finding,) = t.findings
    assert (finding.rule, finding.network) == ("parameters that no step changes", "lit")
    assert finding.layer == "encoder.0"


WORDS, STEPS = 32, 8


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=WORDS, num_attention_heads=2, num_labels=3, **sizes)
    return BertForSequenceClassification(config)


def sentences(count):
    source = torch.Generator().manual_seed(1)
    words = torch.randint(WORDS, (count, 7), generator=source)
    return [{"input_ids": each, "labels": each.sum() % 3} for each in words]


@pytest.fixture
def train(session, tmp_path):
    def trained(cell, model, **options):
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=STEPS,
            per_device_train_batch_size=8,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=STEPS // 2,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **options,
        )
        session.shell.user_ns["trainer"] = Trainer(
            model, arguments, train_dataset=sentences(160), eval_dataset=sentences(24)
        )
        session.run(f"{cell}\ntrainer.train()")
        return session["trainer"]

    return trained


def test_transformers_trainer_is_followed_and_left_as_it_was(session, train):
    model, before = bert(), codes()
    twin = copy.deepcopy(model)
    plain = train("", twin)
    expected = left_by(twin, plain.optimizer.optimizer)

    trainer = train("%%nntrace --grad -o t", model)

    t, optimizer = session["t"], trainer.optimizer.optimizer
    found = left_by(model, optimizer)
    assert all(one.equal(other) for one, other in zip(expected, found, strict=True))
    assert_nothing_is_left(model, optimizer, before)
    assert t.findings == ()
    logged = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert losses(t).value.tolist() == pytest.approx(logged, abs=1e-3)
    assert losses(t).iteration.tolist() == list(range(STEPS))
    counts = t.history(series=True).query("layer == 'classifier' and quantity == 'mean'")
    assert counts.groupby("series").iteration.count().tolist() == [6, STEPS]


def test_accumulation_in_transformers_trainer_is_said(session, train):
    train("%%nntrace --grad -o t", bert(), gradient_accumulation_steps=2)

    assert any(each.startswith("2 backwards a step") for each in session["t"].log.notes)
    assert session["t"].findings == ()


def test_a_fault_under_transformers_trainer_is_named(session, train):
    model = bert()
    model.bert.pooler.register_forward_hook(lambda _, __, output: output.detach())

    train("%%nntrace -o t", model)

    (finding, *_) = session["t"].findings
    assert (finding.rule, finding.level) == ("parameters without a gradient", "finding")
