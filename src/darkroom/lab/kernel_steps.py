"""Rows of the sheet of kernels that are more than a kernel: colour channels, corners; and the code of each row."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from darkroom.lab import colour_spaces, corners, drawing, kernels
from darkroom.lab.drawing import Row, Tile, fit, grey

SIDE, LARGE = 142, 284  # pixels of a step, and of a picture with marks, about
MARKED = (90, 220, 255)  # of a corner


def draw_colour(pixels: np.ndarray) -> Row:
    """Return the channels of an RGB image (H, W, 3) uint8, its luminance, and its hue, saturation and value."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32) / 255, 2, 0)
    hue, saturation, value = colour_spaces.to_hsv(red, green, blue)
    hsv = np.stack([hue / 2, np.full_like(hue, 255), np.full_like(hue, 255)], 2).astype(np.uint8)
    tiles = [Tile(fit(grey(channel), SIDE), name) for name, channel in (("red", red), ("green", green), ("blue", blue))]
    tiles += [
        Tile(fit(grey(colour_spaces.luminance(red, green, blue)), SIDE), "luminance"),
        Tile(fit(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), SIDE), "hue, as a colour"),
        Tile(fit(grey(saturation), SIDE), "saturation"),
        Tile(fit(grey(value), SIDE), "value"),
        code_tile(colour_spaces.luminance, colour_spaces.to_hsv),
    ]
    return Row(tiles, "colour", "the three channels, their weighted sum, and hue, saturation, value (Smith 1978)")


def draw_corners(pixels: np.ndarray, image: np.ndarray) -> Row:
    """Return the steps of both corner detectors on a grey image (H, W), and their corners on the picture."""
    products = corners.gradient_products(image, corners.gaussian(corners.WINDOW))
    names = ("xx: across²", "xy: across · down", "yy: down²")
    most = max(float(np.quantile(abs(item), kernels.QUANTILE)) for item in products)
    tiles = [Tile(fit(drawing.signed(item, most), SIDE), name) for item, name in zip(products, names, strict=True)]
    responses = {"Harris": corners.harris(*products), "Shi–Tomasi": corners.shi_tomasi(*products)}
    for name, response in responses.items():
        scale = float(np.quantile(abs(response), kernels.QUANTILE))
        tiles.append(Tile(fit(drawing.signed(response, scale), SIDE), name))
    for name, response in responses.items():
        places = corners.find_peaks(response)
        tiles.append(Tile(_mark(pixels, places), f"the {len(places)} strongest corners of {name}"))
    tiles.append(code_tile(corners.gradient_products, corners.harris, corners.shi_tomasi))
    return Row(tiles, "corners", "where the image changes in both directions (Harris and Stephens 1988, Shi and Tomasi 1994)")


def _mark(pixels: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    picture = np.ascontiguousarray(fit(pixels, LARGE))
    scale = picture.shape[0] / pixels.shape[0]
    for row, column in places:
        cv2.circle(picture, (round((column + 0.5) * scale), round((row + 0.5) * scale)), 3, MARKED, 1, cv2.LINE_AA)
    return picture


def draw_own(bank: kernels.Bank, image: np.ndarray) -> Row:
    """Return the row of a user's kernel, with the call that computes its response."""
    (kernel,) = bank.kernels.values()
    row = kernels.draw_row(bank, image)
    if kernel.size > 81:
        return row
    numbers = ",\n                   ".join(f"[{', '.join(f'{value:g}' for value in line)}]" for line in kernel)
    code = f"kernel = np.array([{numbers}])\nresponse = respond(grey, kernel)"
    return replace(row, tiles=[*row.tiles, Tile(drawing.draw_code(code), "the code")])


def code_tile(*functions: Callable[..., Any]) -> Tile:
    """Return the source of functions as a picture: what ran, without types and docstrings."""
    return Tile(drawing.draw_code("\n\n".join(map(source_of, functions))), "the code")


def source_of(function: Callable[..., Any]) -> str:
    """Return the source of a function without annotations and docstring, its lines as they were otherwise."""
    source = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    start = tree.body[1] if ast.get_docstring(tree) else tree.body[0]
    arguments = [*tree.args.args, *tree.args.kwonlyargs]
    for argument in arguments:
        argument.annotation = None
    body = "\n".join(source.splitlines()[start.lineno - 1 :]).rstrip()
    return f"def {tree.name}({ast.unparse(tree.args)}):\n{body}"
