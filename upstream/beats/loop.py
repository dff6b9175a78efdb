"""BEATs' iterations as stages: a tokenizer, the labels it gives, an encoder that learns to predict them, and again.

Chen et al., 2023, https://arxiv.org/abs/2212.09058. The first tokenizer needs no training; each later one is distilled
from the encoder before it. Every encoder and tokenizer starts from new weights. A given `teacher` takes the place of
the encoder before the first one: a published model, or one fine-tuned with labels ("iteration 3+").
"""

from dataclasses import dataclass, field
from typing import Any

from speechssl.errors import UserError, nearest
from speechssl.interfaces import Builders, Labelling, Parent, PretrainTask, Stage, TokenizerFit
from speechssl.upstream.beats.distil import TokenizerDistillation
from speechssl.upstream.beats.fit import CodebookFit
from speechssl.upstream.beats.model import Beats
from speechssl.upstream.beats.pretrain import BeatsPretraining

FIRST = ("random", "kmeans")


@dataclass(frozen=True)
class Plan:
    """What the stages of a run have in common: arguments of `stages`."""

    build: Builders
    seed: int  # of the first tokenizer
    tokenizer: dict[str, Any]  # kind and arguments of the first one
    distilled: dict[str, Any]  # arguments of later ones
    distillation: dict[str, Any]  # of their training
    prediction: dict[str, Any]  # of encoders
    trainer: dict[str, Any] = field(default_factory=dict)  # of tokenizers that are trained
    optim: dict[str, Any] = field(default_factory=dict)
    store: bool = True


def stages(
    build: Builders,
    iterations: int = 1,
    teacher: Parent | None = None,
    tokenizer: str = "random",
    num_codes: int = 1024,
    code_size: int = 256,
    input_norm: str = "layernorm",
    tokenizer_seed: int = 45,
    tokenizer_steps: int | None = None,
    tokenizer_lr: float | None = None,
    tokenizer_seconds: float | None = None,
    store_labels: bool = True,
    target: str = "hidden",
    beta: float = 1.0,
    estimator_layers: int = 3,
    estimator_head: str = "layernorm",
    decay: float = 0.99,
    dead_code_reset_steps: int = 0,
    initial_vectors: int = 32768,
    mask_ratio: float = 0.75,
    predictor_layers: int = 3,
    positions: str = "grid",
    filler: str = "zero",
    predictor_convolution: bool = False,
    label_smoothing: float = 0.0,
) -> list[Stage]:
    """Return the stages of a run.

    Args:
        build: makes encoders and tokenizers.
        iterations: of tokenizer and encoder.
        teacher: the first tokenizer is distilled from it; None begins with `tokenizer`.
        tokenizer: the first one without a teacher: "random" (published) or "kmeans" of raw patches (ours).
        num_codes: V of all tokenizers.
        code_size: numbers per code, of "random" and of distilled ones.
        input_norm, tokenizer_seed: of "random"; the seed also of "kmeans".
        tokenizer_steps: optimizer steps of distillation; None = trainer.max_steps.
        tokenizer_lr: peak learning rate of distillation; None = optim.lr.
        tokenizer_seconds: audio per micro-batch of distillation; None = trainer.max_seconds.
        store_labels: label the corpus once with each distilled tokenizer; False runs it along on the crops.
        target, beta, estimator_layers, estimator_head, decay, dead_code_reset_steps, initial_vectors: see
            `TokenizerDistillation`; `target` is that of the given teacher, later ones have no logits.
        mask_ratio, predictor_layers, positions, filler, predictor_convolution, label_smoothing: see `BeatsPretraining`.

    Raises:
        UserError: unknown names, or no iterations.
    """
    if not isinstance(iterations, int) or iterations < 1:
        raise UserError(f"iterations expects a whole number, at least 1, found {iterations!r}")
    if tokenizer not in FIRST:
        hint = nearest(tokenizer, FIRST)
        raise UserError(f"unknown first tokenizer {tokenizer!r}; known: {', '.join(FIRST)}{hint}")
    first: dict[str, Any] = {"kind": tokenizer, "num_codes": num_codes}
    if tokenizer == "random":
        first |= {"code_size": code_size, "input_norm": input_norm, "seed": tokenizer_seed}
    trainer = {"max_steps": tokenizer_steps, "max_seconds": tokenizer_seconds}
    plan = Plan(
        build,
        seed=tokenizer_seed,
        tokenizer=first,
        distilled={"num_codes": num_codes, "code_size": code_size},
        distillation={
            "beta": beta,
            "estimator_layers": estimator_layers,
            "estimator_head": estimator_head,
            "decay": decay,
            "dead_code_reset_steps": dead_code_reset_steps,
            "initial_vectors": initial_vectors,
        },
        prediction={
            "mask_ratio": mask_ratio,
            "predictor_layers": predictor_layers,
            "positions": positions,
            "filler": filler,
            "predictor_convolution": predictor_convolution,
            "label_smoothing": label_smoothing,
        },
        trainer={name: value for name, value in trainer.items() if value is not None},
        optim={} if tokenizer_lr is None else {"lr": tokenizer_lr},
        store=store_labels,
    )
    found: list[Stage] = []
    for number in range(1, iterations + 1):
        if number == 1 and teacher is None:
            found.append(_first_tokenizer(plan))
        else:
            given = teacher if number == 1 else None
            found.append(_distilled_tokenizer(plan, number, given, target if number == 1 else "hidden"))
        trained = number > 1 or teacher is not None
        if trained and plan.store:
            found.append(_labels(number))
        found.append(_encoder(plan, number, trained))
    return found


def _first_tokenizer(plan: Plan) -> Stage:
    def build(parents: dict[str, Parent]) -> TokenizerFit:
        return CodebookFit(plan.build.tokenizer(**plan.tokenizer, **_statistics(plan)), plan.seed)

    settings = {**plan.tokenizer, "seed": plan.seed}
    return Stage("tokenizer-1", build, settings=settings, initialise=False)


def _distilled_tokenizer(plan: Plan, number: int, given: Parent | None, target: str) -> Stage:
    above = [] if given is not None else [f"encoder-{number - 1}"]
    settings = {**plan.distilled, **plan.distillation, "target": target}
    if given is not None:
        settings["teacher_sha256"] = given.sha256

    def build(parents: dict[str, Parent]) -> PretrainTask:
        teacher = given or parents[above[0]]
        if not isinstance(teacher.content, Beats):
            raise UserError(f"teacher={teacher.name} is no BEATs encoder; give a run, an export or beats:FILE")
        tokenizer = plan.build.tokenizer("distilled", upstream=plan.build.upstream().config, **plan.distilled)
        lineage = {
            "labels_seen": teacher.facts.get("labels_seen"),
            "teacher": {"name": teacher.name, "sha256": teacher.sha256, "target": target},
        }
        return TokenizerDistillation(tokenizer, teacher.content, target=target, lineage=lineage, **plan.distillation)

    name = f"tokenizer-{number}"
    return Stage(name, build, above, plan.trainer, plan.optim, settings, initialise=False)


def _labels(number: int) -> Stage:
    source = f"tokenizer-{number}"

    def build(parents: dict[str, Parent]) -> Labelling:
        tokenizer = parents[source]
        known = {name: tokenizer.facts.get(name) for name in ("statistics", "labels_seen")}
        return Labelling(tokenizer.content, tokenizer.sha256, known)

    return Stage(f"labels-{number}", build, [source], initialise=False)


def _encoder(plan: Plan, number: int, trained: bool) -> Stage:
    source = f"labels-{number}" if trained and plan.store else f"tokenizer-{number}"
    settings = {**plan.prediction, "num_codes": plan.distilled["num_codes"]}

    def build(parents: dict[str, Parent]) -> PretrainTask:
        parent = parents[source]
        given = {"labels" if source.startswith("labels") else "tokenizer": parent.content}
        lineage = {"labels_seen": parent.facts.get("labels_seen")}
        return BeatsPretraining(plan.build.upstream(), **settings, **given, lineage=lineage)

    return Stage(f"encoder-{number}", build, [source], settings=settings, initialise=number == 1)


def _statistics(plan: Plan) -> dict[str, Any]:
    """Return mean and std that tokenizers normalise with: the encoder's settings."""
    config = plan.build.upstream().config
    return {name: config[name] for name in ("mean", "std")}
