"""What a picture says of itself to those who cannot see it."""

import numpy as np
import pytest

import atento
from atento.views.figures.head_grid import head_grid
from atento.views.figures.head_map import MOST_CELLS, head_map
from atento.views.figures.heads import Dense, Head
from atento.views.figures.words import figure_words


@pytest.mark.parametrize("lang", ["en", "es"])
@pytest.mark.parametrize("kind", ["map", "grid", "arcs", "steps"])
def test_every_picture_tells_what_it_shows(mini, kind, lang):
    told = atento.plot(mini, kind, lang=lang).figure.description
    said = {
        ("map", "en"): "Map of attention weights: {en}; 6 × 6 (query × key). Most we",
        ("map", "es"): "Mapa de los pesos de atención: {es}; 6 × 6 (consulta × clave).",
        ("grid", "en"): "A small map of the weights of every head; layers: 3, heads: 12.",
        ("grid", "es"): "Un pequeño mapa de los pesos de cada cabeza; capas: 3, cabezas: 12.",
        ("arcs", "en"): "thicker with the weight: {en}; 6 × 6 (query × key).",
        ("arcs", "es"): "mayor es el peso: {es}; 6 × 6 (consulta × clave).",
        ("steps", "en"): "keys 6 × 32, values 6 × 32, scores 6 × 6, scaled 6 × 6, masked 6 × 6,",
        ("steps", "es"): "claves 6 × 32, valores 6 × 32, puntuaciones 6 × 6, escaladas 6 × 6,",
    }
    en, es = (
        f"{a} {mini.layer}, {b} {mini.head}" for a, b in (("layer", "head"), ("capa", "cabeza"))
    )
    assert said[kind, lang].format(en=en, es=es) in told


def test_a_map_tells_its_largest_weight_among_queries_that_had_a_choice():
    weights = np.array([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.5, np.nan, 0.125]])
    head = Head(None, 0, ["a", "b", "c"], None, Dense(weights, np.tri(3, dtype=bool)))
    told = head_map(head, figure_words("es")).description
    assert told.endswith(" El mayor peso: «b» mira a 1, 0,75.")
    later = head_map(head, figure_words("en"), rows=2).description
    assert later.endswith("1 × 3 (query × key). Most weight: “c” looks at 0, 0.50.")
    alone = head_map(head, figure_words("en"), rows=0).description
    assert alone.endswith("1 × 3 (query × key).")


def test_pooled_cells_name_no_pair():
    T = MOST_CELLS + 1
    head = Head(None, 0, None, None, Dense(np.full((T, T), 1 / T), None))
    assert head_map(head, figure_words("en")).description.endswith(f"{T} × {T} (query × key).")


def test_roles_are_counted():
    weights = Dense(np.eye(2), None)
    roles = ["sink", "previous token", "sink", None]
    layer = [Head(None, at, None, None, weights, role) for at, role in enumerate(roles)]
    told = head_grid([layer], figure_words("es")).description
    assert told.endswith("capas: 1, cabezas: 4. Papeles: sumidero 2, token anterior 1.")


def test_curves_tell_their_statistics_and_heads(surveyed):
    told = atento.plot(surveyed, head=[0, 1], statistics=["entropy"], lang="es").figure.description
    assert told == "Curvas a lo largo de 11 tokens: entropía (nats); cabezas 0, 1."
