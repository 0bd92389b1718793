"""Formulas with known answers, shared by objectives and metrics, so that the two cannot drift apart.

All take sums over tokens (a Gram matrix, a table of activation mass), so that a batch and a streamed data set use the
same computation. Quantities that are trained on come with their gradient in closed form, since autograd would store and
traverse every intermediate step.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NARROWEST_BLOCK = 128  # narrowest matrix product that keeps a processor busy


def widened(values: Tensor) -> Tensor:
    """The values in float32 or wider, for sums over tokens."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def gram_matrix(acts: Float[Tensor, "token width"]) -> Float[Tensor, "width width"]:
    """``a.T @ a`` over the tokens, in float32 or wider even under autocast: cosines near 0 need the precision."""
    with torch.autocast(acts.device.type, enabled=False):
        acts = widened(acts)
        return acts.T @ acts


def add_gram(gram: Float[Tensor, "width width"], acts: Float[Tensor, "token width"]) -> None:
    """Add ``a.T @ a`` to the upper triangle in place, leaving the lower triangle undefined; :func:`mirrored` completes
    it.

    Takes half the arithmetic of :func:`gram_matrix` at large widths; products in float32 or wider.
    """
    with torch.autocast(acts.device.type, enabled=False):
        acts = widened(acts)
        rows = max(NARROWEST_BLOCK, acts.shape[1] // 6)
        for start in range(0, acts.shape[1], rows):
            gram[start : start + rows, start:] += acts[:, start : start + rows].T @ acts[:, start:]


def mirrored(gram: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """The symmetric matrix with this upper triangle."""
    return gram.triu() + gram.triu(1).T


# -- the angle between two neurons ------------------------------------------------------------------------------------


def cosines(gram: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """Cosine similarity of every pair of neurons, from the Gram matrix ``a.T @ a`` of their activations over tokens.

    A silent neuron has cosine 0 with every neuron, itself included.
    """
    scale = _inverse_norms(gram)
    return gram * scale[:, None] * scale


def mean_abs_cosine(gram: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    """Mean over ordered pairs ``i != j`` of ``|cos(a[:, i], a[:, j])|``: 0 for orthogonal neurons, 1 for equal ones.

    How it can be gamed: dead neurons count as orthogonal to all others. Read it alongside the dead fraction.
    """
    return _mean_over_pairs(cosines(gram).abs())


def weighted_mean_over_pairs(values: Float[Tensor, "width width"], weights: Float[Tensor, "width"]) -> float:
    """Mean over ordered pairs ``i != j`` of a symmetric matrix, weighted by ``w_i w_j``; 0 if all weights are 0."""
    weights = weights.to(values.dtype)
    others = weights.sum() - weights
    total = weights @ others
    pairs = weights @ values @ weights - (weights.square() * values.diagonal()).sum()
    return float(pairs / total.where(total > 0, 1))


def cosine_gradient(gram: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of :func:`mean_abs_cosine` with respect to activations ``a`` is ``a @ W``."""
    return _pull(gram, torch.sign)


def rounding_error(terms: int | Tensor, dtype: torch.dtype) -> float:
    """Upper bound on the relative error of a sum of ``terms`` terms of one sign, for any order of summation.

    Higham's ``gamma_n = n u / (1 - n u)``, with ``u`` the unit roundoff (Accuracy and Stability of Numerical
    Algorithms, 2nd ed. 2002, equation 3.5 for an inner product, 4.4 for a sum). It holds for every processor and
    library.
    """
    product = min(float(terms) * torch.finfo(dtype).eps / 2, 0.5)
    return product / (1 - product)


def centred(
    gram: Float[Tensor, "width width"],
    total: Float[Tensor, "width"],
    tokens: int | Tensor,
    rounding: float | None = None,
) -> Float[Tensor, "width width"]:
    """Gram matrix of activations minus their mean over tokens, that is, ``tokens`` times their covariance.

    For a constant column, ``gram`` and ``total**2 / tokens`` differ only by rounding: to first order by ``4 gamma`` of
    their size, where ``gamma`` is :func:`rounding_error` (one for ``gram``, two for the square of ``total``). A
    variance within ``5 gamma`` is therefore set to 0, so that the correlations of such a neuron are 0. A true variance
    is that small only relative to a large mean; subtracting an approximate mean beforehand (:func:`covariance`) avoids
    this and changes nothing but rounding (Chan, Golub & LeVeque 1983).

    Args:
        gram: ``a.T @ a``.
        total: sum of each neuron's activations over the tokens.
        tokens: number of tokens.
        rounding: bound on the relative error of the two sums; by default that of ``tokens`` terms in their precision.
    """
    if rounding is None:
        rounding = rounding_error(tokens, gram.dtype)
    covariance = gram - total[:, None] * (total / tokens)
    variance = covariance.diagonal()
    variance.masked_fill_(variance <= 5 * rounding * gram.diagonal(), 0)
    return covariance


def covariance(acts: Float[Tensor, "token width"]) -> tuple[Float[Tensor, "width width"], Float[Tensor, "width"]]:
    """``tokens`` times the covariance over the tokens, and the mean; in float32 or wider.

    The corrected two-pass algorithm (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance",
    equation 1.7): subtract the rounded mean first, then correct for its rounding error.
    """
    acts = widened(acts)
    mean = acts.mean(0)
    shifted = acts - mean
    missed = shifted.sum(0)
    return centred(gram_matrix(shifted), missed, len(acts)), mean + missed / len(acts)


def unshifted(
    gram: Float[Tensor, "width width"], total: Float[Tensor, "width"], tokens: int, shift: Float[Tensor, "width"]
) -> Float[Tensor, "width width"]:
    """``a.T @ a``, from the sums of ``a - shift``."""
    cross = shift[:, None] * (total + tokens * shift / 2)
    return gram + cross + cross.T


def mean_squared_correlation(covariance: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    """Mean over ordered pairs ``i != j`` of the squared Pearson correlation of two neurons, from their covariance.

    Ranges from 0 (uncorrelated) to 1 (each a linear function of any other); about ``1 / (tokens - 1)`` for independent
    neurons.

    How it can be gamed: dead and constant neurons count as uncorrelated.
    """
    return _mean_over_pairs(cosines(covariance).square())


def correlation_gradient(covariance: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of :func:`mean_squared_correlation` is ``(a - mean) @ W``.

    ``covariance`` comes from :func:`centred` and is not divided by the number of tokens.
    """
    return _pull(covariance, lambda correlation: 2 * correlation)


def _inverse_norms(gram: Tensor) -> Tensor:
    squares = gram.diagonal()
    there = squares.clamp_min(torch.finfo(gram.dtype).tiny).where(squares > 0, 1)  # so that no gradient is infinite
    return torch.where(squares > 0, there.rsqrt(), 0)


def _mean_over_pairs(values: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    width = len(values)
    return values.fill_diagonal_(0).sum() / (width * (width - 1))


def _pull(gram: Float[Tensor, "width width"], slope: Callable[[Tensor], Tensor]) -> Float[Tensor, "width width"]:
    """``W`` such that the gradient of the mean over pairs of ``f(cosine)`` is ``a @ W``, where ``slope`` is ``f'``.

    With ``c`` the cosines, ``n`` the norms and ``s = f'(c) / (d (d - 1))`` off the diagonal:
    ``W = 2 (s / (n n') - diag(sum_j s c / n^2))``. Zero for silent neurons.
    """
    width, scale, cosine = len(gram), _inverse_norms(gram), cosines(gram).fill_diagonal_(0)
    steepness = slope(cosine)
    along = (steepness * cosine).sum(-1)
    share = scale * (2 / (width * (width - 1)))
    pull = steepness.mul_(share[:, None]).mul_(scale)
    pull.diagonal().sub_(along * share * scale)
    return pull


# -- the dimensions that a layer uses, and the similarity of two layers ----------------------------------------------


def participation_ratio(covariance: Float[Tensor, "width width"]) -> Float[Tensor, ""]:
    """``(tr C)^2 / tr(C^2)``: 1 if one direction carries all variance, ``width`` if all directions carry the same.

    Invariant under rotation. NaN if nothing varies.
    """
    return covariance.diagonal().sum().square() / covariance.square().sum()


class SimilaritySums:
    """Sums over tokens that determine exactly the debiased linear CKA of every pair of several layers.

    Uses the unbiased estimator of HSIC (Song et al. 2012, equation 5) in linear CKA (Kornblith et al. 2019). Unlike the
    plain estimator, it averages 0 for independent layers at any number of tokens. Its sums over pairs of tokens are
    rewritten as sums over tokens, so that all tokens of a set count and memory is ``(sum of widths)**2``.

    Args:
        widths: widths of the layers.
        device: device of the sums.
    """

    def __init__(self, widths: Sequence[int], device: torch.device) -> None:
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        all_widths, layers = sum(widths), len(widths)
        self.widths = list(widths)
        self.tokens = 0
        self.cross = zeros(all_widths, all_widths)  # sum_t z z', upper triangle
        self.total = zeros(all_widths)  # sum_t z
        self.weighted = zeros(layers, all_widths)  # sum_t |z_layer|^2 z
        self.norms = zeros(layers)  # sum_t |z_layer|^2
        self.norm_products = zeros(layers, layers)

    def add(self, layers: Sequence[Float[Tensor, "token width"]]) -> None:
        """Add tokens. CKA is invariant to shifts; subtract an approximate mean beforehand to reduce rounding error."""
        joined = torch.cat([widened(layer) for layer in layers], 1)
        squares = torch.stack([widened(layer).square().sum(1) for layer in layers], 1)
        self.tokens += len(joined)
        add_gram(self.cross, joined)
        self.total += joined.sum(0, dtype=torch.float64)
        self.weighted += squares.T @ joined
        self.norms += squares.sum(0, dtype=torch.float64)
        self.norm_products += squares.T @ squares

    def cka(self) -> Float[Tensor, "layer layer"]:
        """CKA of every pair of layers: 1 up to rotation, shift and scaling; about 0 for independent layers.

        NaN for fewer than four tokens, and for a layer that does not vary.
        """
        n = self.tokens
        if n < 4:
            return torch.full_like(self.norm_products, torch.nan)
        cross = mirrored(self.cross)
        squared = torch.stack(
            [
                torch.stack([block.square().sum() for block in rows.split(self.widths, 1)])
                for rows in cross.split(self.widths)
            ]
        )
        totals = self.total.split(self.widths)
        through = torch.stack(  # s_x' (sum_t x y') s_y
            [
                torch.stack(
                    [left @ block @ right for block, right in zip(rows.split(self.widths, 1), totals, strict=True)]
                )
                for rows, left in zip(cross.split(self.widths), totals, strict=True)
            ]
        )
        along = torch.stack(  # [a, b]: s_b' sum_t |a|^2 b
            [part @ total for part, total in zip(self.weighted.split(self.widths, 1), totals, strict=True)], 1
        )
        off_diagonal = torch.stack([total.square().sum() for total in totals]) - self.norms
        mixed = through - along - along.T + self.norm_products
        hsic = (
            squared
            - self.norm_products
            + off_diagonal[:, None] * off_diagonal / ((n - 1) * (n - 2))
            - 2 / (n - 2) * mixed
        ) / (n * (n - 3))
        scale = hsic.diagonal().clamp_min(0).sqrt()
        return hsic / (scale[:, None] * scale)


def debiased_cka(x: Float[Tensor, "token width"], y: Float[Tensor, "token other"]) -> Float[Tensor, ""]:
    """Debiased linear CKA of two layers at the same tokens (:class:`SimilaritySums`)."""
    sums = SimilaritySums([x.shape[1], y.shape[1]], x.device)
    sums.add([layer.double() - layer.double().mean(0) for layer in (x, y)])
    return sums.cka()[0, 1]


# -- how much of an activation a reconstruction explains --------------------------------------------------------------


def total_variance(acts: Float[Tensor, "token width"]) -> Float[Tensor, ""]:
    """``mean_t |a_t - mean|^2``: the variance over tokens, summed over neurons."""
    acts = widened(acts)
    return (acts - acts.mean(0)).square().sum() / len(acts)


def squared_error(acts: Float[Tensor, "token width"], guess: Float[Tensor, "token width"]) -> Float[Tensor, ""]:
    """``mean_t |a_t - guess_t|^2``. Divided by :func:`total_variance`: 0 for a perfect guess, 1 for the mean."""
    return (widened(acts) - guess).square().sum() / len(acts)


# -- how many of the tokens a neuron is active on ---------------------------------------------------------------------


def density(acts: Float[Tensor, "token width"]) -> tuple[Float[Tensor, "width"], Bool[Tensor, "width"]]:
    """``(E|a|)^2 / E[a^2]`` of each neuron over the tokens (Treves & Rolls 1991), and which neurons are active.

    1 for a constant magnitude, ``p`` for a neuron that is 0 except for one value on a fraction ``p`` of the tokens. A
    silent neuron gets 0 and is not active.
    """
    size, square = widened(acts.abs()).mean(0), widened(acts).square().mean(0)
    active = square > 0
    return (size.square() / square.where(active, 1)).where(active, 0), active


# -- information about the token type in whether a neuron is on -------------------------------------------------------


def binary_information(
    on: Float[Tensor, "type width"], total: Float[Tensor, "type"]
) -> tuple[Float[Tensor, "width"], Float[Tensor, "width"]]:
    """``I(A; V)`` and ``H(A)`` in nats, where A is whether a neuron is on and V the token type.

    Args:
        on: number of tokens of each type on which each neuron is on.
        total: number of tokens of each type.
    """
    tokens = total.sum()
    entropy = _binary_entropy(on.double().sum(0) / tokens)
    within = _binary_entropy(on.double() / total.double().clamp_min(1)[:, None])
    return entropy - (total.double() / tokens) @ within, entropy


def soft_selectivity(
    acts: Float[Tensor, "token width"],
    types: Int[Tensor, "token"],
    n_types: int,
    top: float = 0.05,
    width: float = 0.1,
) -> Float[Tensor, "width"]:
    """A differentiable ``I(A; V) / H(A)``: :func:`binary_information` where a neuron is on to a degree.

    The degree is ``sigmoid((a - q) / (width * s))``, with ``q`` the neuron's ``1 - top`` quantile over the tokens and
    ``s`` its standard deviation. For a narrow sigmoid it is the uncertainty coefficient of whether the neuron is in
    its top 5 %, without a null: few tokens per type raise it. 0 for a constant neuron; the scale does not matter.
    """
    acts = widened(acts)
    threshold = acts.kthvalue(max(1, round((1 - top) * len(acts))), 0).values
    scale = width * acts.std(0, correction=0)
    degree = torch.sigmoid((acts - threshold) / scale.where(scale > 0, 1)).clamp(1e-4, 1 - 1e-4)
    on = degree.new_zeros(n_types, acts.shape[1]).index_add_(0, types, degree)
    total = degree.new_zeros(n_types).index_add_(0, types, torch.ones_like(degree[:, 0]))
    on = on.where(total[:, None] > 0, 0.5)  # a type that does not occur counts nothing, and has a finite gradient
    information, entropy = binary_information(on, total)
    return (information / entropy).where(scale > 0, 0).to(acts.dtype)


def _binary_entropy(p: Float[Tensor, "*"]) -> Float[Tensor, "*"]:
    return torch.special.entr(p) + torch.special.entr(1 - p)


# -- the token types that a neuron responds to ------------------------------------------------------------------------


def normal_divergence(mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """KL in nats of N(mean, variance) from N(0, 1): ``(mean^2 + variance - 1 - log variance) / 2``, in float32.

    Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix B.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def type_mass(
    activations: Float[Tensor, "token width"], types: Int[Tensor, "token"], n_types: int
) -> Float[Tensor, "type width"]:
    """``s[v, j]``: the sum of ``|a[t, j]|`` over the tokens of type ``v``, in float32 or wider."""
    size = widened(activations.abs())
    return size.new_zeros(n_types, size.shape[-1]).index_add_(0, types, size)


def type_entropy(
    mass: Float[Tensor, "type width"],
) -> tuple[Float[Tensor, "width"], Bool[Tensor, "width"]]:
    """Entropy in nats of each neuron's activation mass over token types, and which neurons are active.

    ``H_j = log Z_j - (1/Z_j) sum_v s[v, j] log s[v, j]`` with ``Z_j = sum_v s[v, j]``: 0 for a neuron that responds to
    one type, ``log(types)`` for one that responds equally to all. A silent neuron (``Z = 0``) gets entropy 0 and is not
    active: exclude it from means, since this is not a perfect score.

    How it can be gamed: by density (a neuron with a constant activation has the entropy of the token distribution), and
    by the number of tokens; compare at equal token counts.
    """
    share, log_share, _, active = _shares(mass)
    return -(share * log_share).sum(0), active


def mean_over(values: Float[Tensor, "width"], chosen: Bool[Tensor, "width"]) -> Float[Tensor, ""]:
    """Mean of the chosen values; 0 if none is chosen."""
    return values.where(chosen, 0).sum() / chosen.sum().clamp_min(1)


def type_entropy_with_gradient(
    mass: Float[Tensor, "type width"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "type width"], Bool[Tensor, "width"]]:
    """Mean :func:`type_entropy` over active neurons, its gradient with respect to ``mass``, and which neurons are
    active.

    The gradient is ``(1/Z) (-log p_v - H) / (number of active neurons)`` with ``p = s / Z``. It is set to 0 for silent
    neurons and where ``s = 0``, where its one-sided limit is infinite and rectified units sit most of the time.
    """
    share, log_share, total, active = _shares(mass)
    entropy = -(share * log_share).sum(0)
    gradient = (log_share + entropy).div_(-total * active.sum().clamp_min(1)).masked_fill_(share == 0, 0)
    return mean_over(entropy, active), gradient, active


def _shares(mass: Float[Tensor, "type width"]) -> tuple[Tensor, Tensor, Tensor, Bool[Tensor, "width"]]:
    """``p = s / Z``, its log (finite where ``p = 0``), ``Z`` (1 for silent neurons), and which neurons are active."""
    total = mass.sum(0)
    active = total > 0
    total = total.where(active, 1)
    share = mass / total  # normalize before x log x: in `log Z - sum / Z`, sums of very different size would cancel
    return share, share.clamp_min(torch.finfo(share.dtype).tiny).log(), total, active
