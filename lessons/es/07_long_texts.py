# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 · Textos largos
#
# Los pesos de 16 384 tokens llenan un gigabyte, y eso con una sola cabeza. Aquí deduces la softmax que
# no necesita la fila entera, la escribes en NumPy, mides la memoria que ahorra y luego te paseas por un
# mapa de 134 millones de pesos que nunca se calcula entero. Unos 25 minutos. Te hace falta la ecuación
# (lección 1) y la máscara causal (lección 2); el último apartado usa PyTorch, que la primera celda
# instala si no lo tienes.

# %% tags=["setup"]
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

missing = [name for name in ("atento", "matplotlib", "torch") if find_spec(name) is None]
folders = (Path.cwd(), *Path.cwd().parents)
clone = next((str(folder) for folder in folders if (folder / "src/atento").is_dir()), "atento")
wanted = [clone if name == "atento" else name for name in missing]
if wanted:
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-color", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr)
        raise ImportError(
            "pip could not install what is missing. If it found no atento: clone its repository "
            "and run this notebook inside the clone · pip no pudo instalar lo que falta. Si no "
            "encontró atento, clona su repositorio y ejecuta este cuaderno dentro del clon."
        )

# %%
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

import atento
from atento.lessons import check
from atento.masks import Causal
from atento.statistics import Overview

# %% [markdown]
# ## El problema es la matriz
#
# Las consultas, las claves, los valores y la salida tienen una fila por token. Los pesos tienen un número
# por cada *pareja* de tokens. En float32 un número ocupa 4 bytes, así que los pesos de una cabeza ocupan
# $4\,T^2$ bytes. Aquí están en MB, al lado de las consultas de la misma cabeza, con 64 números cada una:

# %%
for tokens in (128, 4096, 16_384, 131_072):
    print(f"{tokens:7} {4 * tokens**2 / 1e6:9.1f} MB {4 * tokens * 64 / 1e6:5.1f} MB")

# %% [markdown]
# La columna izquierda se multiplica por cuatro cada vez que $T$ se duplica; la derecha, por dos. Con
# 131 072 tokens, los pesos de *una* cabeza ocupan 69 GB. ¿A partir de cuántos tokens se queda corta una
# memoria de 16 GB ($16 \cdot 10^9$ bytes) para una sola cabeza? Basta con el entero más cercano.

# %% tags=["question"]
answer = None

# %%
check(answer, np.sqrt(16e9 / 4))

# %% [markdown]
# ## Una fila, clave a clave
#
# Para la salida no hace falta *guardar* los pesos: es una suma sobre las claves, y una suma se puede ir
# haciendo poco a poco. Lo que estorba es la softmax, que parece necesitar la fila entera dos veces: una
# para el máximo $m$, que evita que la exponencial se desborde, y otra para la suma $\ell$:
#
# $$\text{salida} = \frac{1}{\ell} \sum_j e^{s_j - m}\, v_j, \qquad
# m = \max_j s_j, \qquad \ell = \sum_j e^{s_j - m}$$
#
# Supón que ya han pasado unas cuantas claves y que tenemos $m$, $\ell$ y la suma $o = \sum_j e^{s_j - m} v_j$
# de *esas* claves. Llegan otras, con un máximo mayor, $m'$. Todas las exponenciales anteriores se tomaron
# respecto a $m$ y deberían haberse tomado respecto a $m'$. Pero $e^{s - m'} = e^{s - m} \cdot e^{m - m'}$, y
# el segundo factor es el mismo para todas. Las sumas, pues, se arreglan con una multiplicación:
#
# $$m' = \max\left(m, \max_j s_j\right)$$
# $$\ell' = e^{m - m'}\,\ell + \sum_j e^{s_j - m'}$$
# $$o' = e^{m - m'}\,o + \sum_j e^{s_j - m'}\, v_j$$
#
# donde $j$ recorre las claves nuevas. Se empieza con $m = -\infty$, $\ell = 0$, $o = 0$; cuando han pasado
# todas las claves, la salida es $o / \ell$. Esto es la **softmax en línea** (*online softmax*). En NumPy son
# seis líneas.


# %%
def update(state, scores, values):
    m, total, summed = state
    new = np.maximum(m, scores.max(axis=-1, keepdims=True))
    factor, weights = np.exp(m - new), np.exp(scores - new)
    total = factor * total + weights.sum(axis=-1, keepdims=True)
    return new, total, factor * summed + weights @ values


# %% [markdown]
# La probamos con los seis tokens de la lección 2, «Your journey starts with one step». Las puntuaciones
# son las de `journey` con los seis (sin escalar, como allí), y los valores son los propios tokens. Las
# claves pasan de una en una; cada línea muestra $m$, $\ell$ y la salida que habría si el texto acabara ahí.

# %%
tokens = [[0.43, 0.15, 0.89], [0.55, 0.87, 0.66], [0.57, 0.85, 0.64]]
tokens = np.array([*tokens, [0.22, 0.58, 0.33], [0.77, 0.25, 0.10], [0.05, 0.80, 0.55]])
scores = tokens @ tokens[1]
state = -np.inf, 0.0, 0.0
for i in range(6):
    state = update(state, scores[i : i + 1], tokens[i : i + 1])
    m, total, summed = state
    print(f"{m[0]:.4f} {total[0]:.4f}", (summed / total).round(4))

# %% [markdown]
# La segunda clave sube el máximo de 0,9544 a 1,4950. Por eso la suma que había, 1, se multiplica por
# $e^{0{,}9544 - 1{,}4950} = 0{,}5824$, y la clave nueva aporta $e^0 = 1$: en total, 1,5824. Después ninguna
# puntuación es mayor, y el factor es siempre 1. La última línea es el vector de contexto de la lección 2:
# 0,4419, 0,6515, 0,5683.
#
# ## Ejercicio: la fila entera
#
# Escribe el bucle para una fila de cualquier longitud y bloques de cualquier tamaño. Usa `update` o escribe
# las tres líneas por tu cuenta. El último caso tiene puntuaciones de casi 2000, donde $e^s$ a secas se
# desbordaría.


# %% tags=["question"]
def online(scores, values, block): ...


# %%
def reference(scores, values, _):
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum()


rng = np.random.default_rng(0)
rows = [(rng.standard_normal(n) * size, n) for n, size in ((6, 1), (50, 3), (101, 900))]
check(online, reference, cases=[(s, rng.standard_normal((n, 4)), 7) for s, n in rows])

# %% [markdown]
# ## Todas las filas, y la máscara
#
# Varias consultas a la vez son las mismas tres líneas con un eje más; `update` está escrita para admitirlas.
# Lo que falta son dos bucles sobre bloques. Con una máscara causal, los bloques por encima de la diagonal
# están vacíos y el bucle interior se detiene antes: no se calculan siquiera. Los bloques de la diagonal están
# tapados a medias, y sus puntuaciones tapadas pasan a ser $-\infty$.


# %%
def streaming(query, key, value, size=128):
    T, d = query.shape
    output, lse = np.empty_like(value), np.empty(T)
    for i in range(0, T, size):
        rows, state = slice(i, i + size), (-np.inf, 0.0, 0.0)
        for j in range(0, i + 1, size):
            scores = query[rows] @ key[j : j + size].T / np.sqrt(d)
            if i == j:
                scores[np.triu_indices_from(scores, 1)] = -np.inf
            state = update(state, scores, value[j : j + size])
        m, total, summed = state
        output[rows], lse[rows] = summed / total, (m + np.log(total))[:, 0]
    return output, lse


# %% [markdown]
# Además de la salida, guardamos un número por consulta, el **log-sum-exp**: $\text{lse} = m + \log \ell$. Va a
# resultar el número más útil de esta lección. Pero antes, ¿está todo bien? Lo comparamos con la fórmula
# densa, la que guarda la matriz entera.

# %%
query, key, value = rng.standard_normal((3, 1024, 32))
output, lse = streaming(query, key, value)
options = {"mask": Causal(), "engine": "dense", "return_lse": True}
dense_output, dense_lse = atento.attention(query, key, value, **options)
print(np.abs(output - dense_output).max() < 1e-12, np.abs(lse - dense_lse).max() < 1e-12)

# %% [markdown]
# Iguales en doce cifras: no es una aproximación, solo se suma en otro orden. Con 1024 tokens y bloques de
# 128 hay 8 × 8 bloques. ¿Cuántos de ellos ha calculado `streaming`?

# %% tags=["question"]
answer = None

# %%
check(answer, sum(range(1, 9)))

# %% [markdown]
# ## Ejercicio: juntar dos mitades
#
# Las claves pueden estar incluso en dos máquinas. Cada una calcula la atención sobre sus propias claves, y
# luego intercambian las salidas y los log-sum-exp. La softmax de una mitad se dividió por
# $e^{\text{lse}_1}$ y debería haberse dividido por $e^{\text{lse}} = e^{\text{lse}_1} + e^{\text{lse}_2}$; por
# tanto,
#
# $$\text{salida} = e^{\text{lse}_1 - \text{lse}}\,\text{salida}_1 + e^{\text{lse}_2 - \text{lse}}\,\text{salida}_2$$
#
# Escríbelo. `np.logaddexp(a, b)` calcula $\log(e^a + e^b)$ sin desbordarse; las salidas tienen la forma
# (consulta, rasgo) y los log-sum-exp, (consulta,).


# %% tags=["question"]
def merge(output1, lse1, output2, lse2): ...


# %%
halves = [
    atento.attention(query, key[part], value[part], return_lse=True)
    for part in (slice(0, 512), slice(512, None))
]
whole = atento.attention(query, key, value)
check(merge, lambda *_: whole, cases=[(*halves[0], *halves[1])])

# %% [markdown]
# Con esa línea se reparte la atención entre varios dispositivos (*ring attention*), y `atento` compone con
# ella ventanas y documentos empaquetados a partir de rectángulos.
#
# ## La memoria, medida
#
# `tracemalloc`, de Python, cuenta lo que NumPy reserva. Medimos el pico de una llamada, en MB, con la fórmula
# densa y con el motor por bloques (`streaming`).


# %%
def peak(engine, tokens):
    x = rng.standard_normal((3, tokens, 32), dtype=np.float32)
    tracemalloc.start()
    atento.attention(*x, mask=Causal(), engine=engine)
    found = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return found


# %% tags=["varies"]
lengths = [512, 1024, 2048, 4096]
peaks = {engine: [peak(engine, T) for T in lengths] for engine in ("dense", "streaming")}
for T, *found in zip(lengths, *peaks.values(), strict=True):
    print(f"{T:5}", *(f"{megabytes:7.1f}" for megabytes in found))

# %% tags=["varies"] alt="Pico de memoria en MB según el número de tokens T, con los dos ejes logarítmicos: la fórmula densa se multiplica por cuatro cada vez que T se duplica; el motor por bloques se queda casi plano."
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for engine, marker in (("dense", "o"), ("streaming", "s")):
    ax.loglog(lengths, peaks[engine], marker=marker, label=engine)
ax.set(xlabel="T", ylabel="MB", xticks=lengths, xticklabels=lengths)
ax.minorticks_off()
_ = ax.legend()

# %% [markdown]
# En una máquina de dos núcleos la fórmula densa ocupa 3,5, 13,7, 54,6 y 218 MB: los pesos, y más del doble
# para los pasos que llevan hasta ellos. El motor por bloques ocupa de 2 a 4 MB, casi todo en bloques que cada
# hilo usa una y otra vez; con más núcleos hay más bloques. En la figura, la línea de arriba se multiplica por
# cuatro cada vez que $T$ se duplica, y la de abajo es casi plana. Lo que vale en cualquier máquina:

# %%
dense, stream = peaks["dense"], peaks["streaming"]
print(round(dense[-1] / dense[-2], 1), stream[-1] < 4 * lengths[-1] ** 2 / 1e6)

# %% [markdown]
# Cuatro veces más memoria para el doble de tokens; y por bloques, menos de lo que ocuparían los pesos solos.
#
# ## Estadísticas sin la matriz
#
# Si los pesos nunca están todos, ¿cómo saber qué hace una cabeza? En cuanto se conoce el log-sum-exp,
# cualquier peso es definitivo desde el primer momento: $p_{ij} = e^{s_{ij} - \text{lse}_i}$. Así, una segunda
# pasada por los bloques puede acumular lo que queramos y soltar cada bloque. La entropía, por ejemplo, es una
# suma ponderada:
#
# $$H_i = -\sum_j p_{ij} \log p_{ij} = \text{lse}_i - \sum_j p_{ij}\, s_{ij}$$
#
# De eso se encarga `atento.survey`. Devuelve la salida, el log-sum-exp y las estadísticas por su nombre;
# comparamos dos de ellas con la matriz, que con 1024 tokens todavía nos podemos permitir.

# %%
found = atento.survey(query, key, value, mask=Causal())
weights = atento.trace(query, key, value, mask=Causal())["weights"].value
entropy = -np.sum(weights * np.log(np.maximum(weights, 1e-300)), axis=-1)
print(np.allclose(found["entropy"], entropy), np.allclose(found["max"], weights.max(-1)))
print(list(found))

# %% [markdown]
# ## Dieciséis mil tokens
#
# Y ahora, una cabeza de 16 384 tokens hecha a mano, para saber qué hay dentro. La mitad de los
# rasgos son ondas: los tokens que están a ciertas distancias se parecen. La otra mitad es ruido. Y en
# algún sitio escondemos una **aguja**: una consulta y una clave, muy separadas, que encajan a la perfección.
# No imprimimos dónde.

# %%
T = 16_384
rng = np.random.default_rng(7)
angle = np.arange(T)[:, None] / 10_000 ** (np.arange(4) / 4)
wave = 2 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
noise = rng.standard_normal((2, T, 8))
query, key = (np.concatenate([wave, n], axis=1).astype(np.float32) for n in noise)
value = rng.standard_normal((T, 16), dtype=np.float32)
needle = [int(rng.integers(T // 2, T)), int(rng.integers(T // 2))]
query[needle[0], 8:] = key[needle[1], 8:] = 3.2

# %% [markdown]
# Una sola llamada a `survey` sobre todo ello. `Overview(128)` reúne los pesos en 128 × 128 casillas, cada una
# de 128 × 128 pesos, y guarda dos números por casilla: la media y el máximo.

# %%
found = atento.survey(query, key, value, mask=Causal(), statistics=["entropy", Overview(128)])
kept = query.nbytes + key.nbytes + found.lse.nbytes
print(f"{kept / 1e6:.1f} MB {4 * T**2 / 1e6:.1f} MB", found["overview_mean"].shape)

# %% [markdown]
# Las consultas, las claves y el log-sum-exp ocupan 2,2 MB, y de ahí salen los 1073,7 MB de pesos. Primero, la
# vista general: a la izquierda las medias, a la derecha los máximos, ambas en escala logarítmica.

# %% alt="Vista general de 16 384 tokens, por medias a la izquierda y por máximos a la derecha, en negro por encima de la diagonal: franjas inclinadas en ambas; a la derecha, además, una línea vertical de puntos cerca de la clave 5700."
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, pool in zip(axes, ("mean", "max"), strict=True):
    cells = np.log10(np.maximum(found[f"overview_{pool}"], 1e-6))
    image = ax.imshow(cells, extent=(0, T, T, 0), cmap="magma")
    ax.set_title(pool)
    fig.colorbar(image, ax=ax, shrink=0.8)

# %% [markdown]
# La parte de encima de la diagonal está en negro: nadie mira hacia delante. A la izquierda, franjas inclinadas
# y suaves, las ondas, y nada más. A la derecha, las mismas franjas, con grano, y una línea vertical de puntos
# cerca de la clave 5700: la clave de la aguja es más larga que las demás, y por eso su producto con muchas
# consultas es grande. Uno de los puntos es la aguja.

# %% [markdown]
# ## La aguja que la media esconde
#
# Buscamos el mayor máximo lejos de la diagonal (cerca de ella todas las consultas miran al pasado inmediato) y
# preguntamos cuánto vale la *media* de esa casilla y cuántas casillas tienen una media mayor.

# %%
mean, most = found["overview_mean"], found["overview_max"]
far = np.tril(most, -3)
place = np.unravel_index(far.argmax(), far.shape)
print([int(i) for i in place], f"{most[place]:.4f} {mean[place]:.6f}", (mean > mean[place]).sum())

# %% [markdown]
# Casilla (85, 44): un peso de 0,9999, prácticamente todo lo que una consulta puede dar. La media de la casilla
# es 0,000132, porque sus otros 16 383 pesos son pequeños, y hay 2309 casillas con una media mayor. Quien dibuja
# un mapa largo con medias ve franjas y no ve la aguja. Por eso `atento` guarda las dos cosas.
#
# ## Ejercicio: cualquier rectángulo, cuando haga falta
#
# ¿Qué consulta y qué clave? Para saberlo necesitamos los pesos de dentro de la casilla, y solo esos. Escribe
# `tile`: recibe todas las consultas, las claves y los log-sum-exp, más dos intervalos (`slice`), y calcula solo
# ese rectángulo:
#
# $$\text{tile}_{ij} = \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d} - \text{lse}_i\right)$$
#
# Solo pedimos rectángulos que están por debajo de la diagonal, así que la máscara no tiene que preocuparte.


# %% tags=["question"]
def tile(query, key, lse, rows, cols): ...


# %%
few = [array[:600] for array in (query, key, value)]
small = atento.trace(*few, mask=Causal())["weights"].value
inside = [(slice(500, 600), slice(0, 70)), (slice(599, 600), slice(7, 8))]
few_lse = atento.survey(*few, mask=Causal()).lse
cases = [(*few[:2], few_lse, rows, cols) for rows, cols in inside]
check(tile, lambda *case: small[case[-2:]], cases=cases)

# %% [markdown]
# La casilla (85, 44) abarca 128 consultas a partir de la $85 \cdot 128 = 10880$ y 128 claves a partir de la
# $44 \cdot 128 = 5632$. Calcúlala y anota dónde está su peso mayor en el mapa entero, como
# `[consulta, clave]`.

# %% tags=["question"]
answer = None

# %%
check(answer, needle)

# %% [markdown]
# ## El mismo mapa, para pasear
#
# Lo que has construido es lo que `atento.capture` guarda de un modelo de verdad: consultas, claves,
# log-sum-exp y vistas generales. Por eso su mapa de un texto largo se amplía como un plano de calles, y cada
# tesela se calcula cuando la miras. Para la página de abajo, nuestra cabeza se convierte en un modelo diminuto
# de PyTorch; con uno de verdad solo cambia el nombre del modelo.


# %%
import torch


class Head(torch.nn.Module):
    def forward(self, query, key, value):
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True)


head = Head()
with atento.capture(head) as recording:
    head(*(torch.from_numpy(x)[None, None] for x in (query, key, value)))
print(recording[0].shape, recording[0].weights(0, *needle).round(4))

# %% [markdown]
# Elige «Mapa». Aquí, cuanto más oscuro, más peso: encuentra el punto oscuro de la línea
# vertical mientras las celdas muestran «el peso mayor» y piérdelo cuando muestran «la media»; luego
# acércate a él con la rueda hasta que aparezcan los pesos sueltos. La página entera ocupa unos 2 MB;
# `atento.save(recording, "map.html")` la escribe en un archivo que se abre sin red.

# %% tags=["varies"]
atento.show(recording)

# %% [markdown]
# ## Lo que ya sabes
#
# - La softmax se puede calcular en una sola pasada: un máximo, una suma y una suma ponderada que se van
#   actualizando, y un factor que las arregla cuando el máximo sube.
# - Las partes de claves distintas se juntan con exactitud si se conocen sus log-sum-exp.
# - Con las consultas, las claves y el log-sum-exp se puede volver a calcular cualquier peso cuando haga falta;
#   2,2 MB hacen las veces de 1074.
# - Resumir con la media esconde los pesos grandes y solitarios; guarda el máximo a su lado.
#
# ## Para seguir
#
# - Llama a `streaming` con bloques de 16 y de 1024 y cronométralo. ¿Cuál es el mejor tamaño en tu máquina?
# - Añade una ventana a `streaming`: consultas que solo ven las últimas 256 claves. ¿Qué bloques no hace falta
#   calcular ahora? Compáralo con `mask=Causal() & Window(left=255)`.
# - Lee un texto largo tuyo: `atento inspect --model gpt2 --file carta.txt --out carta.html`.
#
# ## Fuentes
#
# - Milakov y Gimelshein 2018, *Online normalizer calculation for softmax*, arXiv 1805.02867, sección 3.
# - Rabe y Staats 2021, *Self-attention Does Not Need O(n²) Memory*, arXiv 2112.05682.
# - Dao et al. 2022, *FlashAttention*, arXiv 2205.14135, sección 3.1 y algoritmo 1.
# - Liu et al. 2023, *Ring Attention with Blockwise Transformers*, arXiv 2310.01889 (partes en varias
#   máquinas).
# - Kerpedjiev et al. 2018, *HiGlass*, Genome Biology 19:125 (mapas que se amplían).
