"""The cases of golden traces: short command lines of `metarl` by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

from metarl.registry import LEARNER_PREFIX

__all__ = ["Command", "all_cases"]

Command = list[str]

_OFFLINE = ("sinusoid", "harmonic", "glyphs")
_QUICK = "--threads 1 --tracker none --device cpu"
_MEASURE = (
    "evaluate {out} --json {tmp}/golden.json --num-tasks 2 --exploration-episodes 2 "
    "--adaptation-steps 2 --evaluation-episodes 2 --device cpu"
)
_ONE_TRIAL = "--exploration-episodes 1 --adaptation-steps 1 --evaluation-episodes 1"
_TINY = {
    "maml-trpo": f"{_QUICK} --meta-batch-size 2 --num-episodes 2 --hidden-sizes 8",
    "rl2": f"{_QUICK} --meta-batch-size 4 --num-episodes 2 --num-minibatches 2 --memory-size 8 "
    "--value-hidden-sizes 8",
}
_AGENT_OPTIONS = {
    "maml-trpo": (
        "; --num-inner-steps 0; --num-inner-steps 2; --inner-lr 0.5; --extra-step-lr-factor 0.9;"
        "--estimator lvc; --estimator first_order; --estimator first_order --num-inner-steps 2;"
        "--estimator lvc --num-inner-steps 2; --estimator dice; --estimator loaded_dice;"
        "--estimator taypo2; --estimator dr; --estimator tmaml; --estimator tmaml_fixed;"
        "--sampling-credit on; --sampling-credit forced --estimator lvc;"
        "--gamma 0.9; --gae-lambda 0.9;"
        "--baseline none; --no-normalize-advantages; --bootstrap-truncated; --hidden-sizes 8 6;"
        "--activation tanh; --initial-std 0.5; --min-std 1; --action-divisor 3; --max-kl-nats 0.1;"
        "--cg-iterations 3; --cg-damping 0.01; --fisher-fraction 1; --line-search-steps 2;"
        "--backtrack-ratio 0.5; --chunk-size 1; --chunk-size None; --seed 7"
    ),
    "rl2": (
        "; --memory lstm; --memory transformer; --memory none; --optimizer trpo;"
        "--optimizer trpo --memory lstm; --optimizer trpo --memory transformer;"
        "--optimizer trpo --memory none; --clear-each-episode;"
        "--clear-each-episode --memory lstm; --clear-each-episode --memory transformer;"
        "--include-previous-step; --include-previous-step --memory transformer; --encoder-sizes 8;"
        "--encoder-sizes 8 --memory transformer; --head hypernetwork;"
        "--head hypernetwork --hidden-sizes 4; --head hypernetwork --memory transformer;"
        "--head hypernetwork --optimizer trpo; --hidden-sizes 8; --value-hidden-sizes 6 6;"
        "--privileged-critic; --privileged-critic --memory transformer; --use-expected-rewards;"
        "--num-layers 1 --num-heads 2 --memory transformer; --activation relu --hidden-sizes 8;"
        "--initial-std 0.5; --min-std 1; --action-divisor 3; --gamma 0.9;"
        "--anneal-iterations 5; --final-gamma 0.999 --anneal-iterations 5; --gae-lambda 0.5;"
        "--normalize-observations; --normalize-observations --optimizer trpo;"
        "--no-normalize-rewards; --learning-rate 0.01; --num-epochs 2; --num-minibatches 1;"
        "--clip 0.001; --value-clip 0.001; --value-coefficient 1; --entropy-coefficient 0.1;"
        "--max-gradient-norm 0.05; --backprop-steps 5; --backprop-steps 5 --memory lstm;"
        "--optimizer trpo --max-kl-nats 0.1; --optimizer trpo --cg-iterations 3;"
        "--optimizer trpo --cg-damping 0.1; --optimizer trpo --fisher-fraction 1;"
        "--optimizer trpo --line-search-steps 2; --optimizer trpo --backtrack-ratio 0.5;"
        "--num-episodes 1; --num-episodes 4; --memory-size 12; --seed 7"
    ),
}
_OPTION_FAMILIES = ("PointRobot:pearl", "TabularMDP:rl2")
_OBSERVED_TASKS = ("Navigation2D:maml17+task", "TabularMDP:rl2+task", "Bandit:n10-k5+task")

_FEWSHOT = f"{_QUICK} --iterations 3 --log-every 3"
_CURVES = f"{_FEWSHOT} --meta-batch-size 3 --hidden-sizes 8 8"
_IMAGES = (
    f"{_FEWSHOT} --meta-batch-size 2 --ways 3 --shots 2 --queries 2 --filters 4 4 --test-queries 1"
)
_VECTORS = (
    f"{_FEWSHOT} --meta-batch-size 2 --ways 3 --shots 2 --queries 2 --backbone mlp "
    "--hidden-sizes 8 --test-queries 1"
)
_STEPS_IN_TEST = {"reptile": "--test-steps 3", "imaml": "--test-steps 3 --num-inner-steps 4"}
_GRADIENT = ("maml", "fomaml", "boil", "meta-sgd", "maml++", "learned-momentum", "anil", "cavia",
             "imaml", "reptile")  # fmt: skip
_METRIC = {"r2d2": "", "protonet": "--train-ways 4", "matching": "", "relation": "", "siamese": "",
           "transfer": "--queries None --head-steps 4"}  # fmt: skip
_SHARED_OPTIONS = (
    "--queries 4; --train-shots 3; --min-shots 1; --train-split train+validation; --meta-lr 0.01;"
    "--optimizer sgd; --schedule linear; --schedule cosine; --schedule halving;"
    "--schedule halving --decay-iterations 1; --clip-gradient 0.001; --activation tanh;"
    "--chunk-size 1; --hidden-sizes 6 5 4; --seed 7; --shots 4"
)
_LEARNER_OPTIONS = {
    "maml": (
        "--differentiation recurrence; --differentiation recurrence --num-inner-steps 3;"
        "--differentiation unrolled --num-inner-steps 3; --num-inner-steps 0; --inner-lr 0.1;"
        "--multi-step-iterations 2 --num-inner-steps 3;"
        "--first-order-iterations 2 --num-inner-steps 2"
    ),
    "boil": "--rates per-parameter; --rates momentum --num-inner-steps 2",
    "meta-sgd": "--differentiation first_order; --num-inner-steps 2",
    "learned-momentum": "--differentiation recurrence --num-inner-steps 2",
    "anil": (
        "--differentiation first_order; --num-inner-steps 3; --num-inner-steps 0; --inner-lr 0.1"
    ),
    "cavia": "--differentiation first_order; --num-context 2; --num-inner-steps 3; --inner-lr 0.1",
    "imaml": "--regularization 2; --cg-iterations 2; --cg-damping 1; --inner-lr 0.3",
    "reptile": "--num-inner-steps 2; --inner-batch 4; --inner-optimizer adam; --inner-lr 0.1",
    "matching": "--full-context; --no-full-context; --full-context --processing-steps 1",
    "relation": "--relation-size 4",
    "siamese": "--margin 5",
    "transfer": "--batch-points 8; --head-steps 9; --head-decay 0.1",
}


def all_cases(root: Path, listed: str) -> tuple[dict[str, list[Command]], dict[str, str]]:
    """The cases, and the reasons why others are skipped.

    Args:
        root: source tree with results/.
        listed: output of `metarl list envs`.

    Returns:
        The command lines of each case by its name, in which {out}, {tmp}, {root} and {images}
        stand for folders; and the reason for each skipped case, by its name.
    """
    cases: dict[str, str] = {}
    skipped: dict[str, str] = {}
    _add_agents(cases)
    _add_families(cases, skipped, listed)
    _add_fewshot(cases)
    _add_results(cases, skipped, root)
    split = {name: [line.split() for line in lines.split("\n")] for name, lines in cases.items()}
    return split, skipped


def _add_agents(cases: dict[str, str]) -> None:
    for agent, tiny in _TINY.items():
        begin = f"train {agent} --out {{out}} {tiny} --iterations"
        for family in _OPTION_FAMILIES:
            for option in _options(_AGENT_OPTIONS[agent]):
                words = _merged(f"{begin} 4 --env {family}", option)
                is_bounded = "transformer" in option  # by the length of its training trials
                measure = _merged(_MEASURE, _ONE_TRIAL) if is_bounded else _MEASURE
                cases[f"agent/{agent}/{family}/{option or 'default'}"] = f"{words}\n{measure}"
        for family in _OBSERVED_TASKS:
            cases[f"agent/{agent}/{family}"] = f"{begin} 3 --env {family}\n{_MEASURE}"
        first = f"{begin} 2 --env PointRobot:pearl"
        resume = f"train {agent} --out {{out}} --resume --iterations 4"
        cases[f"agent/{agent}/resume"] = f"{first}\n{resume}"
        cases[f"agent/{agent}/seeds"] = f"{first} --seeds 2\n{_MEASURE}"
        cases[f"agent/{agent}/scratch"] = (
            f"{first}\n{_MEASURE} --scratch --deterministic evaluation"
        )


def _add_families(cases: dict[str, str], skipped: dict[str, str], listed: str) -> None:
    seen: set[str] = set()
    for variants, reason in re.findall(r"^ +(\d+ variants, .*?): (.*)", listed, re.MULTILINE):
        skipped[f"family/{variants}"] = reason
    for variant in re.findall(r"^\s+(\w+:[\w.-]+)\s", listed, re.MULTILINE):
        family = variant.partition(":")[0]
        agents = ("maml-trpo",) if family in seen else ("maml-trpo", "rl2")
        seen.add(family)
        for agent in agents:
            train = f"train {agent} --env {variant} --out {{out}} {_TINY[agent]} --iterations 2"
            measure = _MEASURE + (" --references all" if agent == "rl2" else "")
            cases[f"family/{variant}/{agent}"] = f"{train}\n{measure}"


def _add_fewshot(cases: dict[str, str]) -> None:
    def add(learner: str, dataset: str, common: str, option: str = "") -> None:
        gradient = _STEPS_IN_TEST.get(learner, "--test-steps 2") if learner in _GRADIENT else ""
        base = f"fewshot {learner} --dataset {dataset} --out {{out}} {common} {gradient}"
        if learner in _METRIC:
            base = _merged(base, _METRIC[learner])
        cases[f"fewshot/{learner}/{dataset}/{option or 'default'}"] = _merged(base, option)

    for learner in (*_GRADIENT, *_METRIC):
        for norm in ("batch", "support", "running", "per-step"):
            add(learner, "glyphs", _IMAGES, f"--pooling stride --batch-norm {norm}")
        norm = "batch" if learner in ("maml", "relation") else "running"
        add(learner, "glyphs", _IMAGES, f"--pooling max --batch-norm {norm}")
        add(learner, "glyphs", _VECTORS, "--backbone mlp")
        add(learner, "glyphs", _IMAGES, "--min-ways 2 --min-shots 1 --inner-batch 99"
            if learner == "reptile" else "--min-ways 2 --min-shots 1")  # fmt: skip
        for dataset in ("sinusoid", "harmonic") if learner in _GRADIENT else ():
            add(learner, dataset, _CURVES)
        for option in _options(_LEARNER_OPTIONS.get(learner, "")):
            if learner in _GRADIENT:
                add(learner, "sinusoid", _CURVES, option)
            if option:
                add(learner, "glyphs", _IMAGES, option)
    for option in _options(_SHARED_OPTIONS):
        add("maml", "sinusoid", _CURVES, option)
    for option in _options("--train-ways 4; --queries 3; --train-shots 1; --seed 7"):
        add("protonet", "glyphs", _IMAGES, option)
    for learner in ("maml", "anil", "protonet"):
        for options in ("", " split_seed=1 rotations=classes colors=L"):
            data = f"--data-dir {{images}} --dataset-options image_size=16{options}"
            add(learner, "folder", _IMAGES.replace("--ways 3", "--ways 2"), data)
    for learner, dataset, common in (("maml", "sinusoid", _CURVES), ("r2d2", "glyphs", _IMAGES)):
        first = f"fewshot {learner} --dataset {dataset} --out {{out}} {common}"
        first = _merged(first, "--iterations 2")
        resume = f"fewshot {learner} --out {{out}} --resume --iterations 4"
        cases[f"fewshot/{learner}/{dataset}/resume"] = f"{first}\n{resume}"
        measure = "evaluate {out} --json {tmp}/golden.json --num-tasks 9 --split validation"
        seeds = f"{first} --seeds 2\n{measure}"
        cases[f"fewshot/{learner}/{dataset}/seeds"] = seeds


def _add_results(cases: dict[str, str], skipped: dict[str, str], root: Path) -> None:
    for config in sorted((root / "results").rglob("config.json")):
        folder = config.parent.relative_to(root).as_posix()
        about = json.loads(config.read_text())
        is_fewshot = about["agent"].startswith(LEARNER_PREFIX)
        if is_fewshot and about["environment"] not in _OFFLINE:
            skipped[folder] = f"data set {about['environment']} must be downloaded"
            continue
        num_tasks = 20 if is_fewshot else 2
        cases[folder] = (
            f"evaluate {{root}}/{folder}/checkpoint.safetensors --json {{tmp}}/golden.json "
            f"--num-tasks {num_tasks} --seed 1 --device cpu"
        )


def _options(text: str) -> list[str]:
    return [option.strip() for option in text.split(";")]


def _merged(command: str, options: str) -> str:
    """A command line with some of its options replaced."""
    parts = re.split(r" (?=--[a-z])", " ".join(command.split()))
    given = re.split(r" (?=--[a-z])", options) if options else []
    names = {part.split()[0] for part in given}
    return " ".join([*(part for part in parts if part.split()[0] not in names), *given])
