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
# # 2 · La autoatención a mano
#
# Seis tokens de tres números cada uno: tan pocos que cada producto se puede comprobar con lápiz y
# papel. En esta lección se atienden unos a otros de cuatro maneras: sin nada aprendido, con pesos
# entrenables, sin mirar hacia delante y con dos cabezas. Cada vez comparamos los números con los
# publicados en el capítulo 3 de *Build a Large Language Model (From Scratch)*, de Sebastian
# Raschka.
#
# Unos 25 minutos. Necesitas la lección 1 (o conocer ya la ecuación de la atención) y un poco de
# PyTorch. Aquí no se entrena nada, ni se descarga nada salvo los paquetes que falten.

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
import matplotlib.pyplot as plt
import torch
from torch import nn

import atento
from atento.lessons import check
from atento.masks import Causal
from atento.nn import (
    CausalSelfAttention,
    MultiHeadAttention,
    SelfAttention,
    SimplifiedSelfAttention,
)

torch.set_grad_enabled(False)
torch.set_printoptions(precision=4, sci_mode=False)

# %% [markdown]
# ## Seis tokens
#
# Una frase entra en un modelo como un vector por token. Los modelos de verdad usan cientos de
# números para cada uno; aquí son tres. La frase es «Tu viaje empieza con un paso», en inglés,
# como en el libro:

# %%
words = ["Your", "journey", "starts", "with", "one", "step"]
x = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)

# %% [markdown]
# Por sí solo, el vector de *starts* dice lo que *starts* significa en cualquier sitio. El
# modelo necesita saber qué significa **aquí**, después de *journey* y antes de *with one
# step*. Las redes que leen palabra tras palabra llevan todo lo leído en un único estado, y al
# final de una frase larga el principio se ha borrado (la lección 3 lo mide). Con la atención,
# cada token mira directamente a todos los demás, por lejos que estén.
#
# Cuando consultas, claves y valores salen de la misma frase, eso es la **autoatención**. La
# respuesta para un token se llama su **contexto**: un vector que dice qué significa ese token
# entre sus vecinos.
#
# Para comparar con el libro hay que decidir qué es ser iguales. El libro imprime cuatro
# decimales, así que la tolerancia es la mitad del último:


# %%
def agrees(computed, published):
    return torch.allclose(computed, torch.tensor(published), rtol=0, atol=5.1e-5)


# %% [markdown]
# ## Simplificada: sin nada aprendido
#
# Que cada token sea su propia consulta, su propia clave y su propio valor. Toma de consulta el
# segundo, *journey*. Su puntuación con cada token es un producto escalar; con *Your*, por
# ejemplo, $0{,}55 \cdot 0{,}43 + 0{,}87 \cdot 0{,}15 + 0{,}66 \cdot 0{,}89 = 0{,}9544$. Las
# seis a la vez:

# %%
scores = x @ x[1]
assert agrees(scores, [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865])
scores

# %% [markdown]
# La mayor es la del propio *journey*, 1,4950, y casi igual la de *starts*, cuyo vector es muy
# parecido. Para convertirlas en pesos se podría dividir por su suma:

# %%
assert agrees(scores / scores.sum(), [0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656])
scores / scores.sum()

# %% [markdown]
# Suman 1, pero solo porque ninguna puntuación es negativa. Con puntuaciones 1 y −1 la suma es 0,
# y por 0 no se puede dividir. La softmax no tiene ese problema:

# %%
weights = torch.softmax(scores, dim=-1)
assert agrees(weights, [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
weights

# %% [markdown]
# El contexto de *journey* es la media de los seis vectores con estos pesos: un 24 % de sí mismo,
# un 23 % de *starts*, un 16 % de *step* y menos de los demás.

# %%
context = weights @ x
assert agrees(context, [0.4419, 0.6515, 0.5683])
context

# %% [markdown]
# **Te toca.** Escribe lo mismo para cualquier token: `x` es la matriz de todos los tokens y
# `token`, el número de uno de ellos, contado desde 0. Se prueba con esta frase y con vectores
# el doble de largos.


# %% tags=["question"]
def context_of(token, x):
    return ...


# %%
def reference_context(token, x):
    return SimplifiedSelfAttention()(x)[token]


check(context_of, reference_context, cases=[(0, x), (3, x), (5, 2 * x)])

# %% [markdown]
# Nadie lo calcula token a token. Si todos los tokens son consultas, las puntuaciones son una
# sola matriz, $X X^\top$, con una fila por consulta y una columna por clave, y la softmax va
# por filas:

# %%
weights = torch.softmax(x @ x.T, dim=-1)
published = [
    [0.2098, 0.2006, 0.1981, 0.1242, 0.1220, 0.1452],
    [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581],
    [0.1390, 0.2369, 0.2326, 0.1242, 0.1108, 0.1565],
    [0.1435, 0.2074, 0.2046, 0.1462, 0.1263, 0.1720],
    [0.1526, 0.1958, 0.1975, 0.1367, 0.1879, 0.1295],
    [0.1385, 0.2184, 0.2128, 0.1420, 0.0988, 0.1896],
]
assert agrees(weights, published)
weights

# %% [markdown]
# Y los seis contextos:

# %%
contexts = weights @ x
published = [
    [0.4421, 0.5931, 0.5790],
    [0.4419, 0.6515, 0.5683],
    [0.4431, 0.6496, 0.5671],
    [0.4304, 0.6298, 0.5510],
    [0.4671, 0.5910, 0.5266],
    [0.4177, 0.6503, 0.5645],
]
assert agrees(contexts, published)
contexts

# %% [markdown]
# `atento` lo tiene como módulo, y además guarda los pasos. En su imagen de los pesos hay una
# fila por consulta; cuanto más oscura la casilla, mayor el peso.

# %% alt="Pesos de la atención simplificada, una fila por cada una de las seis consultas: las columnas de journey y starts son oscuras; las de with y one, pálidas."
simplified = SimplifiedSelfAttention().trace(x)
assert torch.allclose(simplified.output, contexts)
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
_ = atento.plot(simplified, ax=axes, tokens=words)

# %% [markdown]
# Fíjate en la tercera fila. *starts* le da 0,2369 a *journey* y 0,2326 a sí mismo:
# más a su vecino que a sí mismo, porque el vector de *journey* apunta hacia el mismo lado y es
# más largo. Las columnas de *with* y de *one* están pálidas: a los vectores cortos casi todos les
# dan puntuaciones bajas (la excepción es el propio *one*). Todo esto se deduce de los vectores
# tal como son. No hay nada que ajustar, y ningún token puede buscar más que lo que se le parece.
# Eso es lo que cambia el paso siguiente.
#
# ## Entrenable: una matriz para cada papel
#
# Como consulta, un token debería decir qué busca; como clave, por qué se lo puede encontrar; como
# valor, qué tiene que contar. Así que cada papel recibe su propia matriz, que el entrenamiento
# puede cambiar:
#
# $$Q = X W_q \qquad K = X W_k \qquad V = X W_v \qquad
# \text{contextos} = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# Aquí llevan de tres números a $d = 2$. Empiezan al azar; con esta semilla son las del libro.

# %%
torch.manual_seed(123)
W_query, W_key, W_value = (torch.rand(3, 2) for _ in range(3))
query, key, value = x @ W_query, x @ W_key, x @ W_value
query.shape, key.shape, value.shape

# %%
weights = torch.softmax(query @ key.T / 2**0.5, dim=-1)
published = [
    [0.2996, 0.8053],
    [0.3061, 0.8210],
    [0.3058, 0.8203],
    [0.2948, 0.7939],
    [0.2927, 0.7891],
    [0.2990, 0.8040],
]
assert agrees(weights @ value, published)
weights[1], weights @ value

# %% [markdown]
# Ahora los contextos tienen dos números, como los valores. *journey* se da a sí mismo 0,2264 y
# a *starts* 0,2199: puestas al azar, las matrices no han cambiado mucho la imagen. Aquí están
# todos los pasos; señala un número para ver de qué sale.

# %% tags=["varies"]
atento.show(atento.explain(query=query, key=key, value=value, names=words))

# %% [markdown]
# **Te toca.** Escríbelo como una función de los tokens y las tres matrices. $\sqrt d$ tiene que
# salir de las matrices, no ser un 2 escrito por ti.


# %% tags=["question"]
def self_attention(x, W_query, W_key, W_value):
    return ...


# %%
def reference(x, W_query, W_key, W_value):
    return atento.attention(x @ W_query, x @ W_key, x @ W_value)


wide = [torch.rand(3, 5) for _ in range(3)]
cases = [(x, W_query, W_key, W_value), (x, *wide), (x[:2], wide[0], wide[1], W_value)]
check(self_attention, reference, cases=cases)

# %% [markdown]
# En PyTorch, una matriz así se guarda en `nn.Linear`, porque empieza con números de un tamaño
# que entrena bien. `atento.nn.SelfAttention` hace lo mismo, en el mismo orden que el libro, y
# por eso la misma semilla da los mismos contextos:

# %%
torch.manual_seed(789)
published = [
    [-0.0739, 0.0713],
    [-0.0748, 0.0703],
    [-0.0749, 0.0702],
    [-0.0760, 0.0685],
    [-0.0763, 0.0679],
    [-0.0754, 0.0693],
]
head = SelfAttention(3, 2)
assert agrees(head(x), published)
head(x)

# %% [markdown]
# Todas las filas se parecen. Matrices más pequeñas dan puntuaciones más pequeñas, así que todos
# los pesos quedan cerca de 1/6 y cada contexto es casi la media corriente de los valores. Ya se
# encargaría el entrenamiento de separarlos.
#
# ## Causal: sin mirar hacia delante
#
# Un modelo de lenguaje aprende a adivinar el token siguiente. Si *journey* puede mirar a
# *starts*, no hay nada que adivinar. Por eso a cada token solo se le permite verse a sí mismo y
# lo que vino antes:

# %%
allowed = torch.ones(6, 6, dtype=torch.bool).tril()
allowed.int()

# %% [markdown]
# Un 1 significa «puede mirar»: la segunda fila, *journey*, ve los dos primeros
# tokens. Hay dos maneras de imponerlo. O bien se ponen a 0 los pesos prohibidos y se divide cada
# fila por lo que queda; o bien se ponen a $-\infty$ las **puntuaciones** prohibidas antes de la
# softmax, y $e^{-\infty} = 0$ se encarga del resto.

# %%
scaled = head.trace(x)["scaled"].value
after = torch.softmax(scaled, dim=-1) * allowed
after = after / after.sum(dim=-1, keepdim=True)

before = torch.softmax(scaled.masked_fill(~allowed, -torch.inf), dim=-1)
assert torch.allclose(after, before)
assert agrees(before[1], [0.5517, 0.4483, 0.0, 0.0, 0.0, 0.0])
before

# %% [markdown]
# Los mismos pesos, y la segunda manera necesita una softmax y ninguna división más. La primera
# fila es un 1 y ceros: *Your* no ve nada más que a sí mismo. La segunda es la del libro, 0,5517
# y 0,4483.
#
# **Te toca.** ¿Cuántos de los 36 pesos son 0?

# %% tags=["question"]
answer = None

# %%
check(answer, int((before == 0).sum()))

# %% [markdown]
# En `atento` la máscara es una regla, `Causal()`. `CausalSelfAttention` es `SelfAttention` con
# esa regla. En la imagen, las casillas rayadas son las que no se pueden ver.

# %% alt="Pesos causales de los seis tokens: un triángulo, rayado por encima de la diagonal; la primera fila pone todo su peso en Your."
torch.manual_seed(123)
published = [
    [-0.4519, 0.2216],
    [-0.5874, 0.0058],
    [-0.6300, -0.0632],
    [-0.5675, -0.0843],
    [-0.5526, -0.0981],
    [-0.5299, -0.1081],
]
causal = CausalSelfAttention(3, 2)
assert agrees(causal(x), published)
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
_ = atento.plot(causal.trace(x), ax=axes, tokens=words)

# %% [markdown]
# ¿Cumple la máscara lo que promete? Cambia la última palabra por un disparate. Los cinco
# primeros contextos no deben notarlo; no más o menos, sino hasta el último bit:

# %%
changed = x.clone()
changed[5] = torch.tensor([100.0, -100.0, 100.0])
torch.equal(causal(x)[:5], causal(changed)[:5]), torch.equal(causal(x), causal(changed))

# %% [markdown]
# ## Varias cabezas
#
# Una cabeza hace un solo juego de pesos: cada token recibe una sola mezcla de los demás. Pero
# puede haber más de una cosa que buscar; por ejemplo, quién hace algo y con qué. Las **cabezas**
# son atenciones puestas una al lado de otra, cada una con sus consultas, claves y valores.
#
# No hacen falta más matrices. Toma las dos columnas de $Q$ y dale una a cada cabeza, y lo mismo
# con $K$ y $V$. Cada cabeza atiende con su trozo, los contextos se vuelven a poner uno al
# lado del otro y una última aplicación lineal los mezcla. Con la semilla del libro:

# %%
torch.manual_seed(123)
maps = [nn.Linear(3, 2, bias=False) for _ in range(3)]
mix = nn.Linear(2, 2)
query, key, value = (m(x).reshape(6, 2, 1).swapaxes(0, 1) for m in maps)
query.shape

# %% [markdown]
# Ahora los ejes son (cabeza, token, número): dos cabezas, seis tokens y un número por cabeza.
# El producto de matrices trabaja con los dos últimos ejes, así que el resto se lee como antes:

# %%
scores = query @ key.swapaxes(1, 2) / 1**0.5
weights = torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1)
contexts = (weights @ value).swapaxes(0, 1).reshape(6, 2)
contexts

# %% [markdown]
# Compáralo con la cabeza causal única, que tiene la misma semilla y, por tanto, las mismas
# matrices. La primera fila es igual, −0,4519 y 0,2216: quien solo se ve a sí mismo no tiene
# dónde elegir. Desde la segunda son distintas, porque cada cabeza tiene sus propios pesos. La
# fila 2 de cada cabeza:

# %%
weights[:, 1, :2]

# %% [markdown]
# 0,4776 y 0,5224 en una cabeza; 0,4988 y 0,5012 en la otra. La aplicación lineal del final da
# los contextos del libro:

# %%
published = [
    [0.3190, 0.4858],
    [0.2943, 0.3897],
    [0.2856, 0.3593],
    [0.2693, 0.3873],
    [0.2639, 0.3928],
    [0.2575, 0.4028],
]
assert agrees(mix(contexts), published)
mix(contexts)

# %% [markdown]
# Y como un solo módulo, con los pasos por su nombre. `contexts` y `concatenated` son los de
# arriba.

# %%
torch.manual_seed(123)
heads = MultiHeadAttention(
    d_model=3,
    num_heads=2,
    head_dim=1,
    d_out=2,
    bias=False,
    output_bias=True,
    mask=Causal(),
)
steps = heads.trace(x)
assert agrees(steps.output, published)
print(steps)

# %% [markdown]
# **Te toca.** ¿Cuántos números aprende esta capa en total?

# %% tags=["question"]
answer = None

# %%
check(answer, sum(parameter.numel() for parameter in heads.parameters()))

# %% [markdown]
# ## Lo que ya sabes
#
# - En la autoatención, consultas, claves y valores salen de los mismos tokens; la salida es un
#   contexto por token.
# - Sin nada aprendido, un token encuentra lo que se le parece. Tres matrices le dan una
#   pregunta, una etiqueta y algo que contar.
# - Una máscara causal pone puntuaciones a $-\infty$ antes de la softmax, y el futuro no deja
#   rastro, hasta el último bit.
# - Las cabezas son trozos de las mismas tres matrices, cada una con sus propios pesos; una
#   aplicación lineal mezcla lo que han encontrado.
#
# **Para seguir.** Cambia un número de `x` y mira qué contextos se mueven, con máscara y sin
# ella. Intercambia dos filas de `x` en la atención simplificada: ¿qué les pasa a los contextos
# y qué dice eso del orden de las palabras? La lección 3 enseña por qué valió la pena inventar
# todo esto, y la 4 dibuja una cabeza del tamaño de las de verdad.
#
# **Fuentes.** S. Raschka 2024, *Build a Large Language Model (From Scratch)*, secciones 3.3 a
# 3.6: el ejemplo y todos sus números. Vaswani et al. 2017 (arXiv 1706.03762), secciones 3.2.1
# (productos escalares con escala), 3.2.2 (cabezas) y 3.2.3 (máscara causal).
