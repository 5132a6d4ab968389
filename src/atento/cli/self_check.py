"""Six tokens with known attention: are the numbers of this installation right?"""

__all__ = ["largest_error"]

# "Your journey starts with one step" and its simplified self-attention, four decimals, from
# S. Raschka, "Build a Large Language Model (From Scratch)", chapter 3.
INPUT = (
    (0.43, 0.15, 0.89),
    (0.55, 0.87, 0.66),
    (0.57, 0.85, 0.64),
    (0.22, 0.58, 0.33),
    (0.77, 0.25, 0.10),
    (0.05, 0.80, 0.55),
)
WEIGHTS = (
    (0.2098, 0.2006, 0.1981, 0.1242, 0.1220, 0.1452),
    (0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581),
    (0.1390, 0.2369, 0.2326, 0.1242, 0.1108, 0.1565),
    (0.1435, 0.2074, 0.2046, 0.1462, 0.1263, 0.1720),
    (0.1526, 0.1958, 0.1975, 0.1367, 0.1879, 0.1295),
    (0.1385, 0.2184, 0.2128, 0.1420, 0.0988, 0.1896),
)
CONTEXTS = (
    (0.4421, 0.5931, 0.5790),
    (0.4419, 0.6515, 0.5683),
    (0.4431, 0.6496, 0.5671),
    (0.4304, 0.6298, 0.5510),
    (0.4671, 0.5910, 0.5266),
    (0.4177, 0.6503, 0.5645),
)


def largest_error() -> float:
    """The largest distance of any weight or context from the published one, on each engine."""
    import numpy as np

    from atento.equation import attention, trace

    x = np.array(INPUT)
    traced = trace(x, x, x, scale=1.0)
    pairs = [
        (traced["weights"].value, WEIGHTS),
        (traced.output, CONTEXTS),
        (attention(x, x, x, scale=1.0, engine="dense"), CONTEXTS),
        (attention(x, x, x, scale=1.0, engine="streaming"), CONTEXTS),
    ]
    return max(float(np.abs(np.asarray(got) - np.array(told)).max()) for got, told in pairs)
