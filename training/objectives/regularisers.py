"""Terms that are not in the paper: two for few labels and for none, and those that separate u from z.

`consistency_loss` gains more from few labels, and `contrast_loss` does without any. Of the others: with several class
variables, the paper's objective can encode a class in z, from which the decoder then reads it, and ignore its u:
glasses are a few pixels. `class_error` trains the decoder to show the class of u for any z, and `cycle_error` the
encoder to find the same z for any u; adversary.py has the third of these terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from partedvae.training.data.augment import random_affine
from partedvae.training.data.dataset import UNLABELLED
from partedvae.training.data.visibility import VisibilityTables, visible_factors
from partedvae.training.distributed import SINGLE_PROCESS, ShardedNoise
from partedvae.training.model.distributions import Gaussian
from partedvae.training.model.partedvae import PartedVAE, Posterior

EXCHANGED_SHARE = 0.5
"""Images decoded for `exchange`, as a share of the batch."""
CONTRAST_TEMPERATURE = 0.2
"""Temperature of the cosine similarities that `contrast_loss` compares."""


class Exchanged(NamedTuple):
    """Images decoded from samples of z, each with the u of two other images."""

    pixels: Float[Tensor, "images channels height width"]
    """The images; those of the second half have the z of the first."""
    classes: tuple[Int[Tensor, " images"], ...]
    """Class of each u_k; -1 where the image does not have to show it."""


def exchange(
    model: PartedVAE,
    posterior: Posterior,
    visible: VisibilityTables,
    noise: ShardedNoise = SINGLE_PROCESS.noise,
) -> Exchanged:
    """Decode a part of a batch again with the u of other images, and samples of the priors.

    A half of the z are samples of q(z | x), with samples of q(u | c, x) of another image. The other half are samples of
    p(z), with samples of p(u | c) for classes of several images, as in generation: one image for each factor, so that
    all combinations of classes occur. A class need not be shown where the labels say that it cannot be seen, such as
    the colour of the hair below a hat.

    Args:
        model: the networks.
        posterior: posterior of the batch, with relaxed classes. No gradient flows into z and the prior.
        visible: the classes with which each factor can be seen.
        noise: source of random numbers.
    """
    images = len(posterior.z.mean)
    own = posterior.z.sample(noise)[: max(2, int(EXCHANGED_SHARE * images) // 2)].detach()
    rows = torch.arange(len(own), device=own.device)
    is_own = rows < (len(own) + 1) // 2
    z = torch.where(is_own.unsqueeze(1), own, noise.normal(own))
    first, second = (_others_u(model, posterior, k, is_own, noise) for k in (1, 2))
    pixels = model.decoder(torch.cat([first[0], second[0]]), torch.cat([z, z]))
    classes = [torch.cat(pair) for pair in zip(first[1], second[1], strict=True)]
    shown = zip(classes, visible_factors(classes, visible), strict=True)
    return Exchanged(pixels, tuple(own.where(seen, UNLABELLED) for own, seen in shown))


def _others(rows: Int[Tensor, " images"], distance: int, images: int) -> Int[Tensor, " images"]:
    """Return the image at a distance for the first images of a batch, never the same image if there are others."""
    return (rows + 1 + (distance - 1) % max(1, images - 1)) % images


def _others_u(
    model: PartedVAE,
    posterior: Posterior,
    k: int,
    is_own: Bool[Tensor, " images"],
    noise: ShardedNoise,
) -> tuple[Float[Tensor, "images u_dim"], list[Int[Tensor, " images"]]]:
    """Return u of the k-th other images, and their classes.

    All factors are of one image where z is of an image, and each of another one, with u from its prior, where z is.
    """
    rows, images = torch.arange(len(is_own), device=is_own.device), len(posterior.z.mean)
    us, classes = [], []
    for j, (factor, q) in enumerate(zip(model.class_factors(), posterior.factors, strict=True)):
        whole, single = (_others(rows, k * len(rows) + shift, images) for shift in (0, j))
        others = whole.where(is_own, single)
        c, modes = q.class_weights[others].argmax(dim=-1), factor.prior_modes()
        drawn = Gaussian(modes.mean[c], modes.logvar[c]).sample(noise).detach()
        u = Gaussian(q.u.mean[others], q.u.logvar[others]).sample(noise)
        us.append(torch.where(is_own.unsqueeze(1), u, drawn))
        classes.append(c)
    return torch.cat(us, dim=-1), classes


def class_error(
    model: PartedVAE, exchanged: Exchanged, noise: ShardedNoise = SINGLE_PROCESS.noise
) -> Float[Tensor, ""]:
    """Return the classification error of decoded images: the decoder must show the class of u, for any z.

    The cross-entropy, in nats, of the classifier's q(c | x') for the decoded image x', summed over the class variables
    that it has to show, averaged over images. It trains the decoder, and the posterior of u to show its class. The
    classifier is held fixed, as otherwise the two could agree on a code of their own, and sees the images augmented as
    labelled ones are, so that the decoder has to draw the class and not a pattern that the classifier takes for it.

    Args:
        model: the networks.
        exchanged: the decoded images.
        noise: source of random numbers.
    """
    hidden = with_fixed_parameters(model.trunk, random_affine(exchanged.pixels, noise))
    errors = [
        functional.cross_entropy(
            with_fixed_parameters(factor.logits, hidden).float(), classes, ignore_index=UNLABELLED, reduction="none"
        )
        for factor, classes in zip(model.class_factors(), exchanged.classes, strict=True)
    ]
    return torch.stack(errors).sum(dim=0).mean()


def cycle_error(model: PartedVAE, exchanged: Exchanged) -> Float[Tensor, ""]:
    """Return how much the encoder's z changes between two images that were decoded from one z (Jha et al. 2018).

    log(1 + d^2), where d is the distance of the means of q(z | x') in units of its standard deviations, summed over
    dimensions, averaged over pairs. It trains the encoder alone: z must not follow what u changes in an image.
    Distances in pixels or in z itself could be reduced by shrinking z; with d^2 alone, a single dimension with a small
    variance had gradients that ended training.

    Args:
        model: the networks.
        exchanged: the decoded images, in pairs with one z.
    """
    mean, logvar = model.z_head(model.trunk(exchanged.pixels.detach())).float().chunk(2, dim=-1)
    first, second = mean.chunk(2)
    # softplus(log x) is log(1 + x) without the overflow of x where a variance is near zero.
    distance = (first - second).square().clamp(min=torch.finfo().tiny).log()
    error: Tensor = functional.softplus(distance - torch.logaddexp(*logvar.detach().chunk(2))).sum(dim=-1).mean()
    return error


def with_fixed_parameters(network: nn.Module, value: Tensor) -> Tensor:
    """Run a network without gradients of its parameters."""
    fixed = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return functional_call(network, fixed, (value,))  # type: ignore[no-any-return]  # has no types


def consistency_loss(
    teacher_logits: Sequence[Float[Tensor, "batch _"]],
    student_logits: Sequence[Float[Tensor, "batch _"]],
    threshold: float,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of the student on augmented images against the teacher's confident classes.

    The pseudo-labels of FixMatch (Sohn et al. 2020). Not in the paper; the recipe `default` uses it to gain more from
    few labels. The mean is over all images, those without a pseudo-label included.

    Args:
        teacher_logits: logits of the original images, by class variable.
        student_logits: logits of the augmented images, by class variable.
        threshold: probability that a class must exceed to be a pseudo-label.
    """
    losses = []
    for teacher, student in zip(teacher_logits, student_logits, strict=True):
        confidence, pseudo_labels = torch.softmax(teacher.detach(), dim=-1).max(dim=-1)
        error = functional.cross_entropy(student, pseudo_labels, reduction="none")
        losses.append((error * (confidence > threshold)).mean())
    return torch.stack(losses).sum(dim=0)


def contrast_loss(originals: Float[Tensor, "batch dim"], copies: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Return how far the directions of features are from telling the augmented copy of each image from other images.

    The normalised, temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, Eq. 1), in nats: of each image and
    each copy among all others. Not in the paper; the recipe `features` uses it, because images of one class are near
    each other in such features before any of them has a label, much more than in those of a VAE.

    Args:
        originals: features of the images.
        copies: features of an augmented copy of each.
    """
    directions = functional.normalize(torch.cat([originals, copies]), dim=-1)
    itself = torch.eye(len(directions), dtype=torch.bool, device=copies.device)
    # With mixed precision the cosines would be rounded to bfloat16.
    with torch.autocast(copies.device.type, enabled=False):
        similarities = directions @ directions.T / CONTRAST_TEMPERATURE
    similarities = similarities.masked_fill(itself, -torch.inf)
    partners = torch.arange(len(directions), device=copies.device).roll(len(originals))
    return functional.cross_entropy(similarities, partners)
