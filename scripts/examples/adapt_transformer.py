"""MAML on a Hugging Face transformer: `python scripts/examples/adapt_transformer.py`.

A small BERT with random weights (nothing is downloaded) is meta-trained with exact second
derivatives: given one sentence of each of five unseen intents, it learns to classify them in a few
gradient steps. The example uses the same core as every agent: `functional_module` turns the encoder
into a pure function, and `meta_gradient` adapts it to all tasks at once. Needs transformers.

Problems with second derivatives of attention, vectorized over tasks, and their solutions here:

- Fused attention has no second derivative ("derivative for aten::_scaled_dot_product_flash_
  attention_for_cpu_backward is not implemented") and no rule for `vmap`. Here
  `attn_implementation="eager"` computes it as two products and a softmax. To keep "sdpa", run the
  meta-gradient and every adaptation within `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.
- With a padding mask [sentences, tokens], transformers checks whether anything is padded, a branch
  on data that `vmap` rejects. A mask of four axes is added to the scores unchanged: 0 for tokens
  that count, the smallest number for others. It is not −∞, because a row of −∞ only is NaN after
  the softmax and in every gradient; nor is it written in place into a tensor that has no task axis.
  A first token that always counts ensures that no row is empty.
- Dropout is resampled in each pass, so inner steps and their derivative would not match, and under
  `vmap` its randomness must be specified. It is 0 here; `functional_module` rejects dropout layers,
  but cannot detect dropout that a model calls as a function, as in attention: set it in the config.
- Buffers (`position_ids`, `token_type_ids`) are constants of the pure function. A model that
  writes to them in `forward` cannot be adapted.
- Tied weights (a language model's embedding and its output layer) are one parameter with one name:
  `functional_module` lists it once, and both layers use its adapted value.
- Word embeddings are most of the parameters, and a task uses few of them, so adaptation leaves them
  unchanged (`InnerLoop.adapted`); the meta-gradient still trains them. `--adapt-words` adapts them
  too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from rich.console import Console
from torch import Tensor, nn

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import InnerLoop
from metarl.bilevel.meta_gradients import meta_gradient
from metarl.bilevel.rules import sgd
from metarl.console import plain_console
from metarl.fewshot.contract.interface import Parts, parts_of
from metarl.fewshot.contract.problem import accuracies, task_losses
from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.data.class_tasks import ClassTasks
from metarl.fewshot.data.files import DataPlace
from metarl.fewshot.datasets.intents import clinc150_requests
from metarl.fewshot.datasets.own import tensor_tasks
from metarl.finite import in_iteration, require_finite_params, require_finite_tasks
from metarl.nn.functional import functional_module
from metarl.parameters import Params
from metarl.runs.progress import TrainingProgress
from metarl.scripts.command_line import parse, run
from metarl.scripts.examples.request_sentences import PADDING, hashed_tokens, invented_requests
from metarl.seeding import derive_seed, torch_generator
from metarl.statistics.estimate import Estimate
from metarl.statistics.intervals import student_interval
from metarl.validation import Count, Positive, Seed, Settings

__all__ = ["AdaptTransformerConfig", "SentenceClassifier", "inner_loop", "main", "train"]

_INVENTED = 40  # sentences of each intent
_TEST_QUERIES = 5  # queries of each intent
_TASKS_PER_CHUNK = 20
_REMEDY = "try a smaller inner_lr or meta_lr"


@dataclass(frozen=True)
class AdaptTransformerConfig(Settings):
    """Meta-train a small transformer and measure it on unseen intents."""

    data_dir: Path | None = None
    """Folder of the data sets, for CLINC150 (text/clinc150_data_full.json); None: generated
    sentences."""
    ways: Count = 5
    """Intents of a task."""
    shots: Count = 1
    """Sentences of each intent to adapt to."""
    queries: Count = 3
    """Query sentences of each intent in training."""
    num_inner_steps: Count = 3
    """Gradient steps of adaptation."""
    inner_lr: Positive = 0.1
    """Learning rate of adaptation."""
    adapt_words: bool = False
    """Whether adaptation changes the word embeddings too."""
    iterations: Count = 150
    """Meta-updates."""
    meta_batch_size: Count = 8
    """Tasks per meta-update."""
    meta_lr: Positive = 2e-3
    """Learning rate of Adam, the outer optimizer."""
    hidden_size: Count = 32
    """Width of the encoder."""
    num_layers: Count = 2
    """Layers of the encoder."""
    num_heads: Count = 2
    """Attention heads, which divide the width."""
    length: Annotated[int, Ge(2)] = 12
    """Tokens of a sentence; longer sentences are truncated."""
    vocabulary: Annotated[int, Ge(3)] = 4096
    """Size of the vocabulary to which words are hashed."""
    num_tasks: Count = 100
    """Evaluation tasks, of unseen intents."""
    seed: Seed = 0
    """Seed of parameters, tasks and generated sentences."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads ({self.num_heads}), "
                f"got {self.hidden_size}"
            )


class SentenceClassifier(nn.Module):
    """A BERT encoder, the mean of its tokens, and a linear head that starts at zero."""

    def __init__(self, config: AdaptTransformerConfig) -> None:
        """Sample random weights from the config's seed.

        Raises:
            ImportError: if transformers is not installed.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # modules draw from the global generator
            torch.manual_seed(derive_seed(config.seed, "parameters"))
            self.encoder = _encoder(config)
            self.head = nn.Linear(config.hidden_size, config.ways)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [sentences, ways] of tokens, int64 [sentences, length]."""
        counts, dtype = tokens != PADDING, self.head.weight.dtype
        smallest = torch.finfo(dtype).min
        addend = torch.zeros_like(counts, dtype=dtype).masked_fill(~counts, smallest)
        hidden = self.encoder(input_ids=tokens, attention_mask=addend[:, None, None, :])
        weights = counts.to(dtype).unsqueeze(-1)
        mean = (weights * hidden.last_hidden_state).sum(1) / weights.sum(1)
        logits: Tensor = self.head(mean)
        return logits


def inner_loop(
    apply: Callable[..., Tensor], params: Params, config: AdaptTransformerConfig
) -> InnerLoop:
    """The inner loop: gradient descent on the mean loss of a task's sentences.

    Args:
        apply: function of params and tokens [sentences, length] that returns logits
            [sentences, ways].
        params: parameters by name.
        config: learning rate, steps, and whether word embeddings are adapted.
    """

    def loss(values: Params, parts: Parts) -> Tensor:
        tokens, targets = parts
        return task_losses("classification", apply(values, tokens.long()), targets)

    words = [name for name in params if "word_embeddings" in name]
    return InnerLoop(
        loss=loss,
        rule=sgd(config.inner_lr),
        num_steps=config.num_inner_steps,
        mode="recurrence",
        adapted=None if config.adapt_words else [name for name in params if name not in words],
    )


def train(config: AdaptTransformerConfig, console: Console) -> tuple[Estimate, Estimate]:
    """Meta-train, and measure on intents that training has not seen.

    Returns:
        Accuracy before and after adaptation, mean over tasks with 95 % intervals.

    Raises:
        ValueError: if there are too few intents or sentences for a task.
        FloatingPointError: if a loss or a gradient is not finite.
        FileNotFoundError: if data_dir does not contain the data.
    """
    tasks = _tasks(config)
    unseen = _episodes(tasks, config, "test")  # before training, so that errors appear at once
    apply, params = functional_module(SentenceClassifier(config))
    inner = inner_loop(apply, params, config)
    optimizer = torch.optim.Adam(list(params.values()), lr=config.meta_lr)
    with TrainingProgress(console, total=config.iterations) as progress:
        for iteration in range(config.iterations):
            support, query = _episodes(tasks, config, "train", iteration)
            losses, grads = meta_gradient(params, support, query, inner)
            with in_iteration(iteration + 1):
                require_finite_tasks("query loss", losses, remedy=_REMEDY)
                require_finite_params("meta-gradient of", grads, remedy=_REMEDY)
            for name, p in params.items():
                p.grad = grads[name]
            optimizer.step()
            progress.update(iteration + 1, f"query loss {float(losses.mean()):.3f}")
    before, after = (
        _accuracy(apply, params, *unseen, replace(inner, num_steps=num_steps))
        for num_steps in (0, config.num_inner_steps)
    )
    return before, after


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(
        AdaptTransformerConfig, arguments, program="python scripts/examples/adapt_transformer.py"
    )
    torch.set_num_threads(1)  # the nets are too small to gain from more
    console = plain_console()
    before, after = train(config, console)
    console.print(
        f"accuracy on {config.num_tasks} tasks of unseen intents, {config.ways}-way "
        f"{config.shots}-shot (random guessing: {1 / config.ways:.1%}):"
    )
    for when, share in (
        ("before adaptation", before),
        (f"after {config.num_inner_steps} steps", after),
    ):
        console.print(f"  {when:18} {share.value:6.1%}  ({share.low:.1%} … {share.high:.1%})")


def _encoder(config: AdaptTransformerConfig) -> nn.Module:
    try:
        from transformers import AutoModel, BertConfig
    except ImportError as missing:
        raise ImportError(
            "scripts/examples/adapt_transformer.py needs transformers: pip install transformers"
        ) from missing

    shape = BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=2 * config.hidden_size,
        max_position_embeddings=config.length,
        pad_token_id=PADDING,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    encoder: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call] # theirs has none
        shape, attn_implementation="eager", add_pooling_layer=False
    )
    return encoder


def _tasks(config: AdaptTransformerConfig) -> ClassTasks:
    """Tokenized sentences; a fifth of the intents is held out for the test."""
    if config.data_dir is None:
        requests = invented_requests(_INVENTED, config.seed)
    else:
        requests = clinc150_requests(DataPlace(config.data_dir))
    distinct = list(dict.fromkeys(requests))
    intents = sorted({intent for _, intent in distinct})
    row = {intent: index for index, intent in enumerate(intents)}
    return tensor_tasks(
        hashed_tokens([text for text, _ in distinct], config.length, config.vocabulary),
        torch.tensor([row[intent] for _, intent in distinct]),
        class_names=intents,
        name="requests",
    )


def _episodes(
    tasks: ClassTasks, config: AdaptTransformerConfig, split: str, iteration: int = 0
) -> tuple[Parts, Parts]:
    """Support and query of the tasks of an iteration, or of the test."""
    is_test = split == "test"
    batch = tasks.sample(
        config.num_tasks if is_test else config.meta_batch_size,
        EpisodeShape(config.ways, config.shots, _TEST_QUERIES if is_test else config.queries),
        split=split,
        generator=torch_generator(config.seed, split, iteration),
    )
    return parts_of(batch.support), parts_of(batch.query)


def _accuracy(
    apply: Callable[..., Any], params: Params, support: Parts, query: Parts, inner: InnerLoop
) -> Estimate:
    """Accuracy on the query after the inner loop."""
    tokens, targets = query
    shares = []
    with torch.no_grad():
        for first in range(0, len(targets), _TASKS_PER_CHUNK):
            rows = slice(first, first + _TASKS_PER_CHUNK)
            adapted = adapt(params, tuple(part[rows] for part in support), inner)
            logits = torch.func.vmap(apply)(adapted, tokens[rows].long())
            shares.append(accuracies(logits, targets[rows]))
    return student_interval(torch.cat(shares).double(), "tasks")


if __name__ == "__main__":
    run(main)
