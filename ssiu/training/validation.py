"""Validation in training: the sets that are scored, and the images that are shown of them."""

import logging
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ssiu.config.schema import Config
from ssiu.data.catalog import TEST_SETS, known_name, usual_name
from ssiu.data.test_sets import BenchmarkSet, load_test_set, load_test_sets, refuse_twice, shared_files
from ssiu.data.training_set import TrainingSet
from ssiu.errors import ConfigError, MissingInputError, first_names
from ssiu.evaluation.evaluate import SRImage, check_sets, score_images, super_resolved
from ssiu.evaluation.metrics import Score, mean_score, to_uint8
from ssiu.evaluation.scores import Evaluation
from ssiu.images.bicubic import imresize
from ssiu.inference.networks import Bicubic
from ssiu.models.base import SRNetwork

log = logging.getLogger("ssiu")

MOST_PSNR = 100  # dB, of an image that chooses the best weights
SHOWN_IMAGES = 4  # of each set, in every validation; the first of those that the first rank scores


class Validation:
    """The test sets of a run and, if it has one, the set that chooses its best weights.

    Raises MissingInputError (66) for a set that is not there, ConfigError (78) for one that is named twice or
    chooses though it is a test set, BadInputError (65) for an image too small to score.
    """

    def __init__(self, config: Config):
        self.config = config
        self.bicubic: dict[str, float] = {}  # PSNR by set, once they have been validated
        try:
            self.test_sets = load_test_sets(config) if config.validates else []
        except MissingInputError as error:
            without = "; eval_sets=[] trains without them" if Path(config.data_path).is_dir() else ""
            raise MissingInputError(f"{error}{without}") from None
        self.choosing_set: BenchmarkSet | None = None
        if name := config.validation_set:
            if usual_name(known_name(name)) in TEST_SETS:
                raise ConfigError(
                    f"key 'validation_set': {name} is a test set, which must not choose weights; hold out your own "
                    "images: python -m ssiu prepare PHOTOS --output SET --holdout N"
                )
            self.choosing_set = load_test_set(config.data_path, name, config.scale)
            refuse_twice("key 'validation_set' (never select on a test set)", self.sets)
        check_sets(self.sets, saved=False)

    @property
    def sets(self) -> list[BenchmarkSet]:
        """All of them, the choosing set last."""
        return [*self.test_sets, *([self.choosing_set] if self.choosing_set else [])]

    def run(
        self, model: SRNetwork, stopped: Callable[[], bool]
    ) -> tuple[dict[str, Score], dict[str, np.ndarray], float | None] | None:
        """Scores of ``model``, in eval mode, by set (`standard`), comparison strips by ``set/name``, the choosing PSNR.

        That is the mean over the choosing set, an image's taken as 100 dB at most: one that is flat may be infinite.
        None where ``stopped`` says so after an image: a validation is done again, and may take minutes.
        """
        strips: dict[str, np.ndarray] = {}
        shown: Counter[str] = Counter()

        def scored(network: SRNetwork | Bicubic, seen: Callable[[SRImage], object], **settings: Any) -> Evaluation:
            images = super_resolved(network, self.sets, **settings)

            def watched() -> Generator[SRImage, None, None]:
                with closing(images):
                    for image in images:
                        if stopped():
                            raise _StoppedError
                        seen(image)
                        yield image

            return score_images(watched(), ("standard",))

        def show(image: SRImage) -> None:
            if shown[image.test_set.name] < SHOWN_IMAGES:
                shown[image.test_set.name] += 1
                strips[image.key] = comparison_strip(image.lr, image.sr, image.hr)

        try:
            if not self.bicubic:
                by_hand = scored(Bicubic(self.config.scale), lambda image: None)
                self.bicubic = {name: by_hand.mean(name).psnr for name in by_hand.sets}
            result = scored(model, show, precision=self.config.precision, tile=self.config.tile)
        except _StoppedError:
            return None
        scores = {name: result.mean(name) for name in result.sets}
        if not self.choosing_set:
            return scores, strips, None
        chosen_by = [image.scores["standard"] for image in result.of(self.choosing_set.name)]
        capped = mean_score(score._replace(psnr=min(score.psnr, MOST_PSNR)) for score in chosen_by)
        return scores, strips, capped.psnr


def warn_of_shared_images(train: Sequence[TrainingSet], scored: Sequence[BenchmarkSet]) -> None:
    """Names the images of each set that is ``scored`` that are in a training set, too."""
    for training_set in train:
        for name, images in shared_files(training_set, scored).items():
            log.warning(
                "%s shares %d images with the training set %s (%s): its scores will be optimistic",
                *(name, len(images), training_set.name, first_names(images)),
            )


class _StoppedError(Exception):
    """A signal arrived during validation."""


LABEL = 16  # pixels above a strip, for the name of each of its images


def comparison_strip(lr: np.ndarray, sr: Tensor, hr: np.ndarray) -> np.ndarray:
    """LR | bicubic | SR | HR side by side, each below its name: uint8 (16 + H, 4W, 3).

    From LR and HR uint8 and SR (3, H, W) in [0, 1].
    """
    scale, width = hr.shape[0] // lr.shape[0], hr.shape[1]
    nearest = lr.repeat(scale, axis=0).repeat(scale, axis=1)
    names = Image.new("RGB", (4 * width, LABEL), "white")
    for index, name in enumerate(("LR", "bicubic", "SR", "HR")):
        ImageDraw.Draw(names).text((index * width + 2, 2), name, "black")
    return np.vstack([np.asarray(names), np.hstack([nearest, imresize(lr, scale=scale), to_uint8(sr), hr])])
