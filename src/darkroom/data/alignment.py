"""Lays one picture on another and tells how much they have in common.

A transform is a matrix (2, 3) from the unit square of one picture to that of another: (0, 0) is the upper
left corner, (1, 1) the lower right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

SMALL = 32  # pixels a side of the thumbnails of a rough comparison
OVERLAP = 0.9  # of one of two pictures that lies within the other
# correlations that confirm a pair: of grey values, and of details finer than a blur of 2.5 pixels
GREY, DETAIL = 0.85, 0.87
# correlations of details that no refined transform makes up for: at first, and after one at half the size
_HOPELESS, _HOPELESS_REFINED = 0.2, 0.5
# of a pair with the same edges: in details, in those of an object on a plain ground, and at 32 pixels
_EDGES_DETAIL, _PLAIN_DETAIL, _EDGES_ROUGH = 0.7, 0.95, 0.8
_REST_GREY, _REST_OVERLAP = 0.9, 0.8  # of a picture without the quarter where a banner may be
ROUGH = 0.6  # correlation at 16 × 16 points below which a pair is dropped
_DOUBTFUL = 0.15  # below which its quarters are not looked at
_REST_PENALTY = 0.15  # three quarters have to correlate by that much more
_BANNER = 0.04  # by how much more that rest has to correlate
_STRETCH = 1.35  # the largest ratio of the stretches of two directions
# a copy: the largest difference, mean of 3 × 3 of 128 × 128 pixels, in units of what recompression changes there
DIFFERENCE = 5.0
_COPY_OVERLAP = 0.75  # of both pictures
_LEVELS, _CONTRAST = 2.0, 0.15  # that unit: grey levels, and the share of the local standard deviation
_SMALL_DIFFERENCE = 3.0  # the same at 32 × 32 pixels, beyond the values of neighbouring pixels
_EDGE = 4  # pixels at the edges that are not compared
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_GRID = (2 * np.arange(16) + 1.5) / SMALL  # the centres of the odd pixels
_ACROSS, _DOWN = (values.ravel().astype(np.float32) for values in np.meshgrid(_GRID, _GRID))
_STEPS = sorted(((x, y) for x in (-0.05, 0.0, 0.05) for y in (-0.05, 0.0, 0.05)), key=lambda step: abs(step[0]) + abs(step[1]))
_QUARTERS = ((0.0, 0.25, 1.0, 1.0), (0.0, 0.0, 1.0, 0.75), (0.25, 0.0, 1.0, 1.0), (0.0, 0.0, 0.75, 1.0))


class Aligned(NamedTuple):
    """Two pictures on one grid, float32 (h, w), and where both have pixels, (h, w) uint8."""

    part: np.ndarray
    whole: np.ndarray
    mask: np.ndarray
    transform: np.ndarray  # from the unit square of the part to that of the whole


def invert(transforms: np.ndarray) -> np.ndarray:
    """Return the inverses (M, 2, 3) of transforms (M, 2, 3)."""
    matrices = np.linalg.inv(transforms[:, :, :2])
    return np.concatenate([matrices, -(matrices @ transforms[:, :, 2:])], axis=2)


def areas(transforms: np.ndarray) -> np.ndarray:
    """Return the areas (…) that transforms (…, 2, 3) make of the unit square."""
    return np.abs(transforms[..., 0, 0] * transforms[..., 1, 1] - transforms[..., 0, 1] * transforms[..., 1, 0])


def share_inside(transforms: np.ndarray) -> np.ndarray:
    """Return the shares (M,) of the unit square that transforms (M, 2, 3) along the axes lay on the unit square."""
    half = np.abs(transforms[:, :, :2]).sum(axis=2) / 2
    middle = transforms[:, :, :2].sum(axis=2) / 2 + transforms[:, :, 2]
    overlap = np.minimum(middle + half, 1) - np.maximum(middle - half, 0)
    return (np.maximum(overlap, 0) / (2 * half)).prod(axis=1)


def compare_roughly(part: np.ndarray, whole: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Return the correlations (M,) of pictures and others, (M, 32, 32) uint8, where transforms (M, 2, 3) lay them.

    The correlation is that of the whole overlap, or of three quarters of it if those are much more alike.
    """
    x = transforms[:, 0, 0, None] * _ACROSS + transforms[:, 0, 1, None] * _DOWN + transforms[:, 0, 2, None]
    y = transforms[:, 1, 0, None] * _ACROSS + transforms[:, 1, 1, None] * _DOWN + transforms[:, 1, 2, None]
    inside = ((x > 0) & (x < 1) & (y > 0) & (y < 1)).astype(np.float32)
    columns, rows = (np.clip(values * SMALL, 0, SMALL - 1).astype(np.intp) for values in (x, y))
    first = part[:, 1::2, 1::2].reshape(len(part), _ACROSS.size).astype(np.float32)
    second = whole[np.arange(len(whole))[:, None], rows, columns].astype(np.float32)
    scores = _correlations(first, second, inside)
    doubtful = np.flatnonzero((scores > _DOUBTFUL) & (scores < ROUGH))
    for left, top, right, bottom in _QUARTERS:
        lines, samples = ((begin < _GRID) & (end > _GRID) for begin, end in ((top, bottom), (left, right)))
        kept = inside[doubtful] * np.outer(lines, samples).ravel()
        three_quarters = _correlations(first[doubtful], second[doubtful], kept) - _REST_PENALTY
        scores[doubtful] = np.maximum(scores[doubtful], three_quarters)
    return scores


def _correlations(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the correlations (M,) of vectors (M, D) with weights of 0 and 1."""
    count = np.maximum(weights.sum(axis=1), 1)
    one, other = ((values - (np.einsum("md,md->m", values, weights) / count)[:, None]) * weights for values in (one, other))
    scale = np.sqrt(np.einsum("md,md->m", one, one) * np.einsum("md,md->m", other, other))
    return np.einsum("md,md->m", one, other) / np.maximum(scale, 1e-6)


def lay(part: np.ndarray, whole: np.ndarray, transform: np.ndarray) -> Aligned:
    """Return two thumbnails, (h, w) and (n, n) uint8, on one grid, as fine as the coarser of them."""
    height, width = part.shape
    scale = (float(areas(transform)) * whole.size / part.size) ** 0.5
    if scale < 1:
        width, height = (max(8, round(side * max(scale, 0.5))) for side in (width, height))
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    pixels, inverse = _to_pixels(transform, part, whole), cv2.WARP_INVERSE_MAP
    mask = cv2.warpAffine(np.ones(whole.shape, np.uint8), pixels, (width, height), flags=cv2.INTER_NEAREST | inverse)
    source, edges = whole.astype(np.float32), cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(source, pixels, (width, height), flags=cv2.INTER_LINEAR | inverse, borderMode=edges)
    return Aligned(part.astype(np.float32), warped, mask, transform)


def refine(part: np.ndarray, whole: np.ndarray, transform: np.ndarray, iterations: int, smoothing: int) -> np.ndarray | None:
    """Return the affine transform near this one that maximises the correlation of two thumbnails, uint8, None where
    the search does not converge (Evangelidis and Psarakis 2008, Parametric Image Alignment Using Enhanced
    Correlation Coefficient Maximization).
    """
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-3)
    pixels, everywhere = _to_pixels(transform, part, whole), np.ones(whole.shape, np.uint8)
    try:
        _, pixels = cv2.findTransformECC(part, whole, pixels, cv2.MOTION_AFFINE, criteria, everywhere, smoothing)
    except cv2.error:
        return None
    return _to_unit(pixels, part, whole)


def alignments(part: np.ndarray, whole: np.ndarray, transform: np.ndarray, shapes: np.ndarray, overlap: float) -> Iterator[Aligned]:
    """Yield two thumbnails, (h, w) and (n, n) uint8, on one grid: where a transform refined at half their size
    lays them, and then at their size.

    `shapes` holds the width and the height of both pictures, (2, 2). There is no more where the refinement does
    not converge, where it stretches a picture, or where less than the share `overlap` of the part lies within the
    whole.
    """
    small = lay(part, whole, transform).part.astype(np.uint8)
    for share, iterations, smoothing in ((0.5, 15, 3), (1, 5, 5)):
        one, other = (cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) for image in (small, whole))
        refined = refine(one, other, transform, iterations, smoothing)
        if refined is None:
            return
        matrix = refined[:, :2] * shapes[1][:, None] / shapes[0]
        if (matrix * matrix).sum() > (_STRETCH + 1 / _STRETCH) * areas(matrix):
            return
        aligned = lay(small, whole, refined)
        if aligned.mask.mean() < overlap:
            return
        yield aligned
        transform = refined


def _to_pixels(transform: np.ndarray, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return a transform of unit squares as one of pixels, (2, 3) float32."""
    (height, width), side = part.shape, len(whole)
    pixels = np.array(transform * side, np.float32)
    pixels[:, 0] /= width
    pixels[:, 1] /= height
    pixels[:, 2] += (pixels[:, 0] + pixels[:, 1]) / 2 - 0.5
    return pixels


def _to_unit(pixels: np.ndarray, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return a transform of pixels as one of unit squares, (2, 3)."""
    (height, width), side = part.shape, len(whole)
    transform = pixels / side
    transform[:, 2] -= (transform[:, 0] + transform[:, 1]) / 2 - 0.5 / side
    transform[:, 0] *= width
    transform[:, 1] *= height
    return transform


def is_same_picture(part: np.ndarray, whole: np.ndarray, transform: np.ndarray, shapes: np.ndarray) -> bool:
    """Tell whether two thumbnails (n, n) uint8 show the same picture where a transform lays the part about.

    A quarter at one side may differ: a banner. `shapes` holds the width and the height of both pictures.
    """
    at_first = lay(part, whole, transform)
    detail = _correlate_details(at_first)
    if detail < _HOPELESS:
        return False
    if detail >= DETAIL and _correlate_greys(at_first) >= GREY:
        return True
    for aligned in alignments(part, whole, transform, shapes, OVERLAP):
        detail = _correlate_details(aligned)
        if detail >= DETAIL and _correlate_greys(aligned) >= GREY:
            return True
        if detail < _HOPELESS_REFINED:
            break
    rest, transform, share, gain = _without_banner(part, whole, transform)
    if gain < _BANNER:
        return False
    shapes = shapes * np.array([share, [1, 1]])
    return any(
        _correlate_details(aligned) >= DETAIL and _correlate_greys(aligned) >= _REST_GREY
        for aligned in alignments(rest, whole, transform, shapes, _REST_OVERLAP)
    )


def _without_banner(part: np.ndarray, whole: np.ndarray, transform: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return the three quarters of a part that are the most like the whole, their transform, the share of its
    sides that they are, and how much more they correlate than all of it.
    """
    side = len(part)
    scores = []
    grid = _to_pixels(transform, part, whole)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(whole, grid, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    for left, top, right, bottom in _QUARTERS:
        inside = np.s_[round(top * side) : round(bottom * side), round(left * side) : round(right * side)]
        scores.append(correlation(part[inside].astype(np.float32), warped[inside].astype(np.float32)))
    left, top, right, bottom = _QUARTERS[int(np.argmax(scores))]
    rest = np.ascontiguousarray(part[round(top * side) : round(bottom * side), round(left * side) : round(right * side)])
    share = np.array([right - left, bottom - top])
    moved = transform[:, 2] + transform[:, :2] @ np.array([left, top])
    gain = max(scores) - correlation(part.astype(np.float32), warped.astype(np.float32))
    return rest, np.concatenate([transform[:, :2] * share, moved[:, None]], axis=1), share, gain


def has_same_edges(whole: np.ndarray, part: np.ndarray, plain: bool) -> bool:
    """Tell whether two thumbnails (64, 64) uint8 match in greys and in details, up to 5% of their sides.

    Of objects on a plain ground, which look alike where they are moved, all sides have to match.
    """
    detail, steps = (_PLAIN_DETAIL, _STEPS[:1]) if plain else (_EDGES_DETAIL, _STEPS)
    side = len(whole)
    small_whole, small_part = (cv2.resize(image, (SMALL, SMALL), interpolation=cv2.INTER_AREA) for image in (whole, part))
    rough = []
    for step_across, step_down in steps:
        across, down = round(1 + step_across, 2), round(1 + step_down, 2)
        if max(across, down) <= 1:
            score, x, y = _match(small_whole, _sized(small_part, round(SMALL * across), round(SMALL * down)))
            rough.append((score, x, y, across, down))
    rough[1:] = sorted(rough[1:], reverse=True)[:2]  # its own scale, and the best two others
    for score, x, y, across, down in rough:
        if score < _EDGES_ROUGH:
            continue
        width, height = round(side * across), round(side * down)
        x, y = min(max(0, 2 * x - 2), side - width), min(max(0, 2 * y - 2), side - height)
        field, template = whole[y : y + height + 4, x : x + width + 4], _sized(part, width, height)
        score, x, y = _match(field, template)
        inside = field[y : y + height, x : x + width]
        if score >= GREY and correlation(details(inside), details(template)) >= detail:
            return True
    return False


def _sized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return image if image.shape == (height, width) else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _match(field: np.ndarray, template: np.ndarray) -> tuple[float, int, int]:
    """Return the best correlation of a template within a field, and its place (x, y)."""
    scores = cv2.matchTemplate(field, template, cv2.TM_CCOEFF_NORMED)
    _, score, _, (x, y) = cv2.minMaxLoc(scores)
    return float(score), x, y


def is_copy(part: np.ndarray, whole: np.ndarray, transform: np.ndarray, shapes: np.ndarray) -> bool:
    """Tell whether two detailed thumbnails (n, n) uint8 differ by no more than recompression makes.

    The brightness and the contrast of the whole picture may differ. Two photographs of a scene in which
    anything has changed are no copies, as far as it can be seen in these thumbnails.
    """
    refined = list(alignments(part, whole, transform, shapes, _COPY_OVERLAP))
    if len(refined) < 2:
        return False
    aligned = refined[-1]
    if areas(aligned.transform) < _COPY_OVERLAP:
        return False
    one, mask = aligned.part, aligned.mask.astype(np.float32)
    other = _fit(aligned.whole[None], one[None], mask[None])[0]
    mean = cv2.blur(one, (7, 7))
    deviation = np.sqrt(np.maximum(cv2.blur(one * one, (7, 7)) - mean * mean, 0))
    difference = np.abs(cv2.blur((one - other) * mask, (3, 3))) / (_LEVELS + _CONTRAST * deviation)
    return bool(difference[_EDGE:-_EDGE, _EDGE:-_EDGE].max() <= DIFFERENCE)


def may_be_copies(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return (M,) bool: the pairs of thumbnails (M, 32, 32) uint8, in about the same place, that `is_copy` has
    to look at. Others differ by more than a shift of a pixel explains.
    """
    if not len(one):
        return np.zeros(0, bool)
    first, second = one.astype(np.float32), other.astype(np.float32)
    second = _fit(second, first, np.ones_like(first))
    excess = np.zeros(len(one), np.float32)
    for values, around in ((first, second), (second, first)):
        rows = np.ascontiguousarray(around).reshape(-1, SMALL)
        above = values - cv2.dilate(rows, _NEIGHBOURS).reshape(around.shape)
        below = cv2.erode(rows, _NEIGHBOURS).reshape(around.shape) - values
        inner = np.maximum(above, below)[:, 1:-1, 1:-1]  # at its upper and lower edge a picture meets the next
        deviation = around.std(axis=(1, 2))
        excess = np.maximum(excess, inner.max(axis=(1, 2)) / (_LEVELS + _CONTRAST * deviation))
    return excess <= _SMALL_DIFFERENCE


def _fit(values: np.ndarray, to: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return pictures (M, h, w) at the brightness and contrast at which they are nearest to others."""
    count = np.maximum(mask.sum(axis=(1, 2), keepdims=True), 1)
    mean, target = ((image * mask).sum(axis=(1, 2), keepdims=True) / count for image in (values, to))
    centred = (values - mean) * mask
    gain = (centred * (to - target)).sum(axis=(1, 2), keepdims=True)
    return (values - mean) * gain / np.maximum((centred * centred).sum(axis=(1, 2), keepdims=True), 1e-6) + target


def _correlate_greys(aligned: Aligned) -> float:
    return _correlate_inside(aligned.part, aligned.whole, aligned.mask)


def _correlate_details(aligned: Aligned) -> float:
    return _correlate_inside(details(aligned.part), details(aligned.whole), cv2.erode(aligned.mask, _NEIGHBOURS, borderValue=1))


def _correlate_inside(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    if cv2.countNonZero(mask) == mask.size:
        return correlation(one, other)
    return correlation(one[mask > 0], other[mask > 0])


def details(image: np.ndarray) -> np.ndarray:
    """Return what is finer than a blur of 2.5 pixels."""
    values = image.astype(np.float32)
    return values - cv2.GaussianBlur(values, (0, 0), 2.5)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Pearson's correlation of two arrays, 0 where one of them is constant."""
    one, other = one.ravel(), other.ravel()
    one, other = one - one.sum() / one.size, other - other.sum() / other.size
    return float(one @ other) / max(float(one @ one) * float(other @ other), 1e-18) ** 0.5
