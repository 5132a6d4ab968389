"""Colours as eyes see them: four kinds of colour vision, simulated after Machado (2009)."""

import numpy as np

# Severity 1.0, for linear RGB: Machado, Oliveira and Fernandes 2009, table 1.
VISION = {
    "any": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(rgb):
    """Linear light of sRGB colours: (..., 3)."""
    rgb = np.asarray(rgb, float)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(rgb):
    """How light they are, from 0 to 1."""
    return linear(rgb) @ TO_XYZ[1]


def lab(rgb, vision):
    """CIE L*a*b* (D65) of sRGB colours as such eyes see them: (..., 3)."""
    seen = np.clip(linear(rgb) @ np.array(VISION[vision]).T, 0, 1)
    xyz = seen @ TO_XYZ.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb(code):
    """Three shares of 1, of a code such as #fcfcfa."""
    return [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
