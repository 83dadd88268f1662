"""The example with a Hugging Face encoder: gradients, padding, attention's traps, learning."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

pytest.importorskip("transformers")

from intent_files import clinc
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import BertConfig, BertForMaskedLM

from metarl.bilevel.meta_gradients import meta_gradient
from metarl.nn.functional import functional_module
from metarl.parameters import Params
from metarl.scripts.examples.adapt_transformer import (
    AdaptTransformerConfig,
    SentenceClassifier,
    inner_loop,
    main,
    train,
)

TINY = AdaptTransformerConfig(
    ways=3, shots=2, num_inner_steps=2, inner_lr=0.3, hidden_size=8, length=6, vocabulary=30
)
OPTIONS = "--iterations 2 --meta-batch-size 2 --num-tasks 3 --hidden-size 8 --ways 3"
TASKS, SENTENCES = 3, 6


def classifier(config: AdaptTransformerConfig = TINY) -> SentenceClassifier:
    """A classifier in float64 with a nonzero head."""
    module = SentenceClassifier(config).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        module.head.weight.normal_(generator=generator)
    return module


def episodes() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Sentences of one to five words behind the first token, as floats, and their intents."""
    generator = torch.Generator().manual_seed(2)

    def draw() -> tuple[Tensor, Tensor]:
        shape = (TASKS, SENTENCES, TINY.length)
        tokens = torch.randint(2, TINY.vocabulary, shape, generator=generator)
        counts = torch.randint(2, TINY.length + 1, shape[:2], generator=generator)
        tokens[torch.arange(TINY.length) >= counts.unsqueeze(-1)] = 0
        tokens[..., 0] = 1
        return tokens.double(), torch.arange(3).repeat(2).expand(TASKS, -1)

    return draw(), draw()


def looped(module: nn.Module, config: AdaptTransformerConfig) -> tuple[Tensor, Params]:
    """MAML from its definition, one task after another, by ordinary autograd on the module."""
    support, query = episodes()
    names = [name for name, _ in module.named_parameters()]
    frozen = {name for name in names if "word_embeddings" in name and not config.adapt_words}
    leaves = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}

    def loss(values: Params, part: tuple[Tensor, Tensor], task: int) -> Tensor:
        logits = torch.func.functional_call(module, values, (part[0][task].long(),))
        return nn.functional.cross_entropy(logits, part[1][task])

    losses = []
    for task in range(TASKS):
        current = leaves
        for _ in range(config.num_inner_steps):
            grads = torch.autograd.grad(
                loss(current, support, task), list(current.values()), create_graph=True
            )
            moved = zip(current.items(), grads, strict=True)
            current = {k: p if k in frozen else p - config.inner_lr * g for (k, p), g in moved}
        losses.append(loss(current, query, task))
    found = torch.stack(losses)
    grads = torch.autograd.grad(found.mean(), list(leaves.values()))
    return found.detach(), dict(zip(names, grads, strict=True))


def batched(module: nn.Module, config: AdaptTransformerConfig) -> tuple[Tensor, Params]:
    apply, params = functional_module(module)
    return meta_gradient(params, *episodes(), inner_loop(apply, params, config))


# Gradients.


@pytest.mark.parametrize("adapt_words", [False, True])
def test_the_batched_meta_gradient_equals_a_loop_over_tasks(adapt_words):
    config = replace(TINY, adapt_words=adapt_words)
    module = classifier(config)
    losses, grads = batched(module, config)
    expected_losses, expected = looped(module, config)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-10, atol=1e-12)
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-8, atol=1e-12, msg=name)
    words = "encoder.embeddings.word_embeddings.weight"
    assert grads[words].abs().max() > 1e-4


def test_second_derivatives_count_and_so_do_adapted_words():
    module = classifier()
    _, exact = batched(module, TINY)
    apply, params = functional_module(module)
    first_order = replace(inner_loop(apply, params, TINY), mode="first_order")
    _, rough = meta_gradient(params, *episodes(), first_order)
    _, with_words = batched(module, replace(TINY, adapt_words=True))
    name = "encoder.encoder.layer.0.attention.self.query.weight"
    size = float(exact[name].norm())
    assert float((rough[name] - exact[name]).norm()) > 0.1 * size
    assert float((with_words[name] - exact[name]).norm()) > 0.01 * size


def test_padding_changes_nothing_and_a_sentence_without_words_is_finite():
    module = classifier()
    sentence = torch.tensor([[1, 9, 4]])
    padded = torch.tensor([[1, 9, 4, 0, 0, 0]])
    torch.testing.assert_close(module(padded), module(sentence), rtol=1e-12, atol=1e-13)
    assert not torch.allclose(module(padded), module(torch.tensor([[1, 9, 4, 7, 0, 0]])))
    assert module(torch.tensor([[1, 0, 0, 0, 0, 0]])).isfinite().all()


def test_the_same_seed_makes_the_same_encoder_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (
        SentenceClassifier(replace(TINY, seed=seed)).encoder.state_dict() for seed in (0, 0, 1)
    )
    weights = "encoder.layer.0.output.dense.weight"
    assert torch.equal(first[weights], again[weights])
    assert not torch.equal(first[weights], other[weights])
    assert torch.equal(torch.get_rng_state(), before)


# Attention, as described in the docstring.


# Without a rule for vmap torch processes the tasks one by one, with a warning.
@pytest.mark.filterwarnings("ignore:There is a performance drop .*attention:UserWarning")
def test_fused_attention_has_no_second_derivative_and_the_math_kernel_has_the_same():
    eager, fused = classifier(), classifier()
    fused.encoder.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match=r"derivative for .*attention.* is not implemented"):
        batched(fused, TINY)
    with sdpa_kernel(SDPBackend.MATH):
        _, grads = batched(fused, TINY)
    for name, grad in batched(eager, TINY)[1].items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-8, atol=1e-12, msg=name)


def test_a_mask_of_two_axes_makes_transformers_branch_on_data_under_vmap():
    class OfTwoAxes(SentenceClassifier):
        def forward(self, tokens: Tensor) -> Tensor:
            hidden = self.encoder(input_ids=tokens, attention_mask=(tokens != 0).long())
            logits: Tensor = self.head(hidden.last_hidden_state.mean(1))
            return logits

    with pytest.raises(RuntimeError, match="data-dependent control flow"):
        batched(OfTwoAxes(TINY).double(), TINY)


def test_dropout_layers_are_rejected():
    module = classifier()
    module.encoder.embeddings.dropout.p = 0.1  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"'encoder.embeddings.dropout' drops random units"):
        functional_module(module)


def test_tied_weights_are_one_parameter_and_both_places_get_it():
    shape = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=6, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    apply, params = functional_module(BertForMaskedLM(shape))
    tied = [name for name, p in params.items() if p.shape == (30, 8)]
    assert tied == ["bert.embeddings.word_embeddings.weight"]
    tokens = torch.tensor([[1, 5, 9]])
    assert apply(params, input_ids=tokens).logits.std(-1).min() > 1e-3
    without = {**params, tied[0]: torch.zeros(30, 8)}
    assert apply(without, input_ids=tokens).logits.abs().max() == 0  # the output's bias is zero


# The command.


def test_it_learns_unseen_intents():
    config = AdaptTransformerConfig(
        ways=3, shots=2, queries=2, num_inner_steps=2, inner_lr=0.2, iterations=60, length=8,
        meta_batch_size=6, meta_lr=4e-3, hidden_size=16, vocabulary=512, num_layers=1, num_tasks=40,
    )  # fmt: skip
    before, after = train(config, Console(quiet=True))
    assert before.high < 0.45  # guessing gives a third
    assert after.low > before.high + 0.2


def test_the_command_prints_accuracy_before_and_after(capsys: pytest.CaptureFixture[str]):
    main(OPTIONS.split())
    output = capsys.readouterr().out
    assert "iteration 2/2: query loss" in output
    assert "3 tasks of unseen intents, 3-way 1-shot (random guessing: 33.3%)" in output
    assert re.search(r"before adaptation +\d+\.\d%  \(-?\d+\.\d% … \d+\.\d%\)", output)
    assert re.search(r"after 3 steps +\d+\.\d%", output)


def test_the_command_reads_clinc150(tmp_path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "clinc150_data_full.json").write_text(json.dumps(clinc()))
    main([*OPTIONS.replace("--ways 3", "--ways 2").split(), "--data-dir", str(tmp_path)])
    assert "2-way 1-shot" in capsys.readouterr().out


def test_invalid_arguments_are_rejected(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"hidden_size must be a multiple of num_heads \(3\), got"):
        AdaptTransformerConfig(num_heads=3)
    with pytest.raises(ValueError, match="length must be 2 or more, got 1"):
        AdaptTransformerConfig(length=1)
    with pytest.raises(ValueError, match="ways must be 20 or less"):
        train(replace(TINY, ways=21), Console(quiet=True))
    with pytest.raises(FloatingPointError, match="iteration 1: query loss of task 0 must be finit"):
        train(replace(TINY, inner_lr=1e30, iterations=1), Console(quiet=True))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="needs transformers: pip install transformers"):
        SentenceClassifier(TINY)
