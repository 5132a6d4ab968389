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
# # 1 · Del diccionario a la atención
#
# Un diccionario de Python encuentra la palabra o falla. La atención no falla nunca: responde
# con una media de todo lo que sabe, y en esa media pesa más lo que está más cerca. En esta
# lección vas de lo uno a lo otro a pasos cortos, hasta que la ecuación de la atención está
# escrita en tu propio código y da los mismos números que `atento`.
#
# Unos 20 minutos. Te basta con saber un poco de Python y de NumPy; no hace falta torch, y no
# se descarga nada salvo los paquetes que te falten, que instala la primera celda. Algunas
# celdas te preguntan algo: escribe tu respuesta en lugar de `None` o de `...` y ejecuta la
# celda que viene detrás.

# %% tags=["setup"]
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

missing = [name for name in ("atento", "matplotlib") if find_spec(name) is None]
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
import warnings

import matplotlib.pyplot as plt
import numpy as np

import atento
from atento.lessons import check

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## Una búsqueda exacta
#
# Cuatro palabras, cada una con un número. Piensa que el número es lo que quieras: por ejemplo,
# cómo le fue a cada una en un torneo.

# %%
numbers = {"méxico": 7, "alemania": 10, "inglaterra": 8, "perro": 5}
numbers["méxico"]

# %% [markdown]
# El diccionario compara *méxico* con sus claves, encuentra una que es igual y entrega su
# valor: 7. Pregúntale por *país* y no tiene nada que decir, aunque tres de sus cuatro claves
# son países:

# %%
print("país" in numbers)

# %% [markdown]
# Escribamos la búsqueda de otra manera. Pon los valores en fila y dale a cada clave un
# **peso**: 1 a la que se busca y 0 a todas las demás. Multiplica y suma.

# %%
keys = list(numbers)
values = np.array(list(numbers.values()), dtype=float)
weights = np.array([1.0, 0.0, 0.0, 0.0])
float(weights @ values)

# %% [markdown]
# El mismo 7. Buscar en un diccionario es hacer una suma ponderada en la que un peso vale 1. Y
# nada nos obliga a que sea siempre así.
#
# ## Pesos puestos a mano
#
# Para *país*, que los tres países se repartan casi todo el peso y quede un poco para el perro:
#
# $$0{,}30 \cdot 7 + 0{,}30 \cdot 10 + 0{,}30 \cdot 8 + 0{,}10 \cdot 5 = 8{,}0$$
#
# (En el texto usamos la coma decimal; Python, el punto.)

# %%
weights = np.array([0.30, 0.30, 0.30, 0.10])
float(weights @ values)

# %% [markdown]
# De aquí salen tres palabras que nos acompañarán hasta la última lección. Aquello con lo que
# preguntas es la **consulta** (*query*). Aquello con lo que se compara son las **claves**
# (*keys*). Lo que se promedia son los **valores** (*values*). Los pesos dicen cuánto tomas de
# cada valor: ninguno es negativo y entre todos suman 1.
#
# **Te toca.** Pregunta por *Europa*: la mitad del peso para *alemania*, la otra mitad para
# *inglaterra* y nada para las demás. ¿Qué sale?

# %% tags=["question"]
answer = None

# %%
check(answer, np.array([0.0, 0.5, 0.5, 0.0]) @ values)

# %% [markdown]
# ## ¿De dónde salen los pesos?
#
# Esos pesos nos los hemos inventado. Para calcularlos, las palabras tienen que convertirse en
# algo que se pueda comparar: **vectores**, es decir, listas de números; también se llaman
# incrustaciones (*embeddings*). De los vectores a los pesos hay dos pasos.
#
# 1. La **puntuación** (*score*) de una clave es su producto escalar con la consulta,
#    $q \cdot k = \sum_i q_i k_i$: es grande cuando los dos apuntan hacia el mismo lado.
# 2. La función **softmax** convierte las puntuaciones en pesos. La exponencial las hace todas
#    positivas, y al dividir por la suma consigue que el total sea 1:
#
# $$w_j = \frac{e^{s_j}}{\sum_i e^{s_i}}$$
#
# Probémoslo con vectores sacados al azar, 16 números por palabra:

# %%
rng = np.random.default_rng(0)
query = rng.standard_normal(16)
key = rng.standard_normal((4, 16))

scores = key @ query
weights = np.exp(scores) / np.exp(scores).sum()
dict(zip(keys, weights.round(4).tolist(), strict=True)), float(weights @ values)

# %% [markdown]
# *méxico* se lleva el 94 % del peso y la respuesta es 6,93. Parece una respuesta. Vuelve a
# sacar los vectores, siete veces más:


# %%
def answer_at_random(seed):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal(16)
    key = rng.standard_normal((4, 16))
    weights = np.exp(key @ query) / np.exp(key @ query).sum()
    return weights @ values


np.array([answer_at_random(seed) for seed in range(8)])

# %% [markdown]
# Desde 5,07, casi el número del perro, hasta 9,51, casi el de Alemania. La cuenta está bien
# hecha todas las veces y no significa nada: con vectores al azar, *país* no está más cerca de
# *méxico* que de *perro*.
#
# **Te toca.** Sean cuales sean las puntuaciones, ¿puede esta suma de pesos por valores dar 12
# alguna vez? Responde `True` o `False`.

# %% tags=["question"]
answer = None

# %%
check(answer, bool(values.max() >= 12))

# %% [markdown]
# ## Vectores que saben algo
#
# Lo que falta son vectores que hayan aprendido, del uso, qué palabras se parecen.
# `atento` trae consigo un pequeño modelo de lenguaje, `mini`, que lee español e inglés, y un
# diccionario que le pregunta: `atento.SoftDict`. Con una clave que está, es un diccionario
# como cualquier otro.

# %%
lookup = atento.SoftDict(numbers)
lookup["méxico"]

# %% [markdown]
# Con cualquier otra palabra, `attend` da la media ponderada y dice adónde ha ido el peso:

# %%
match = lookup.attend("país")
match.value, dict(match.weights)

# %% [markdown]
# 8,286. Esta vez nadie ha puesto los pesos a mano y, sin embargo, al perro no le queda casi
# nada (un 0,002 %) y los tres países se reparten el resto: 55 %, 24 % y 20 %. Pregunta en
# inglés, o por un animal:

# %%
lookup.attend(["country", "animal", "gato", "europa"])

# %% [markdown]
# *country* se va con los países; *animal* y *gato*, con el perro. Con *europa* sale mal: 51 %
# para el perro. `mini` es pequeño y no tiene muy claro qué es Europa, y en la respuesta nada lo
# delata. La atención es una media de lo que saben los vectores; no es más lista que ellos.
#
# Aquí no hay nada escondido. El resultado guarda todos los pasos, y las puntuaciones son
# productos escalares, como antes. En este caso son cosenos, porque los vectores de `mini`
# tienen longitud 1:

# %%
steps = match.trace()
cosines = steps["scores"].value[0]
steps["keys"].value.shape, dict(zip(keys, cosines.round(3).tolist(), strict=True))

# %% [markdown]
# Cuatro claves de 128 números cada una. La más cercana a *país* es *inglaterra*, con un coseno
# de 0,84; *perro* apunta hacia el otro lado: −0,168. `SoftDict` divide los cosenos por una
# *temperatura* de 0,1 y les aplica la softmax. Hazlo a mano:

# %%
weights = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum()
assert np.isclose(weights @ values, match.value)
weights, float(weights @ values)

# %% [markdown]
# La celda siguiente enseña los mismos pasos en una página que puedes explorar: señala un
# número, o llega a él con las flechas, y te dirá de qué cuenta sale. Léela de arriba abajo:
# consulta, claves, valores, puntuaciones, pesos y, al final, 8,2858. Señala el peso de
# *inglaterra* y quédate con lo que dice del máximo: pronto nos hará falta.

# %% tags=["varies"]
atento.show(match)

# %% [markdown]
# ## Frío y calor
#
# La temperatura $T$ divide las puntuaciones antes de la softmax. Veamos qué hace con los
# cuatro pesos:

# %% alt="Pesos de las cuatro palabras según la temperatura T, de 0,005 a 50: con frío, inglaterra se lo lleva todo; con calor, las cuatro se juntan en 0,25."
temperatures = np.geomspace(0.005, 50, 60)
shares = [lookup.attend("país", temperature=T).weights for T in temperatures]

figure, axes = plt.subplots(figsize=(6, 3))
for name in keys:
    axes.semilogx(temperatures, [share[name] for share in shares], label=name)
axes.set(xlabel="T", ylim=(0, 1))
axes.legend()
plt.show()

# %% [markdown]
# Hacia la derecha, donde hace calor, las cuatro líneas se juntan en 0,25: todo cuenta lo mismo
# y la respuesta es la media corriente, 7,5. Hacia la izquierda, donde hace frío, *inglaterra*
# se lo queda todo. En medio está la atención. Y con $T = 0$ vuelve el diccionario del
# principio: solo cuenta la clave más cercana.

# %%
lookup.attend("méxico", temperature=0).value

# %% [markdown]
# ## La ecuación
#
# Un modelo hace muchas preguntas a la vez. Apila las consultas como filas de una matriz $Q$ y
# las claves como filas de $K$, y deja que cada valor sea también un vector, una fila de $V$.
# Entonces todas las puntuaciones juntas son un producto de matrices, y todas las respuestas,
# otro:
#
# $$\text{atención}(Q, K, V) =
# \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# $d$ es cuántos números tiene una consulta. $\sqrt{d}$ hace el papel de la temperatura; en la
# lección 4 se ve por qué es justo esa. La softmax se calcula fila por fila.
#
# Sigue las formas, aquí con dos consultas, cuatro claves, $d = 3$ y valores de dos números:

# %%
query, key = rng.standard_normal((2, 3)), rng.standard_normal((4, 3))
value = rng.standard_normal((4, 2))

scores = query @ key.T
exponentials = np.exp(scores / np.sqrt(3))
weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
output = weights @ value
scores.shape, weights.shape, output.shape

# %% [markdown]
# Puntuaciones y pesos tienen una fila por consulta y una columna por clave; la salida tiene
# una fila por consulta, tan larga como un valor. Cada fila de pesos suma 1:

# %%
weights.sum(axis=-1)

# %% [markdown]
# ## Por qué falla la softmax tal cual
#
# Esta es la fórmula, al pie de la letra:


# %%
def naive_softmax(scores):
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


naive_softmax(np.array([1.0, 2.0, 3.0]))

# %% [markdown]
# Bien. Ahora súmale 1000 a cada puntuación. A la softmax debería darle igual: el factor
# $e^{1000}$ está arriba y abajo en la fracción, y se cancela.

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    broken = naive_softmax(np.array([1001.0, 1002.0, 1003.0]))

[str(warning.message) for warning in caught], broken

# %% [markdown]
# $e^{1001}$ es mayor que cualquier número que quepa en 64 bits, así que se vuelve infinito, e
# infinito entre infinito *no es un número* (`nan`). Es fácil que el aviso pase inadvertido, y
# después el `nan` se extiende a todo lo que se calcula a partir de él. ¿Hasta dónde puede
# llegar una puntuación? Depende de cuántos bits tenga su número:

# %%
for dtype in (np.float16, np.float32, np.float64):
    print(f"{dtype.__name__}: {np.log(float(np.finfo(dtype).max)):.2f}")

# %% [markdown]
# Los modelos calculan con 16 o con 32 bits, y en ellos una puntuación de 20 o de 100 no tiene
# nada de raro. Muy por debajo de cero acaba igual: $e^{-1000}$ es 0, y $0/0$ vuelve a ser
# `nan`.
#
# **Te toca.** Una puntuación vale 100. ¿Con cuál de los tres sigue funcionando la softmax
# tal cual? Escribe su nombre como texto: `"float16"`, `"float32"` o `"float64"`.

# %% tags=["question"]
answer = None

# %%
check(answer, "float64")

# %% [markdown]
# La salida está en esa misma cancelación. Resta antes a todas las puntuaciones de la fila la
# mayor de ellas, $m$:
#
# $$\frac{e^{s_j - m}}{\sum_i e^{s_i - m}}
# = \frac{e^{-m}\, e^{s_j}}{e^{-m} \sum_i e^{s_i}}
# = \frac{e^{s_j}}{\sum_i e^{s_i}}$$
#
# Los pesos son los mismos, y ahora el mayor exponente es 0: ninguna exponencial pasa de 1 y la
# suma vale al menos 1, así que nada se desborda y nada se divide por 0.
#
# Enseguida la escribirás tú. Para comprobarla hace falta una softmax de la que nos podamos fiar,
# y `atento` lleva una dentro. Si las claves y los valores son la matriz identidad y no se divide
# por nada, $Q K^\top = Q$ y la salida son los propios pesos. O sea, que esto *es* una softmax:


# %%
def reference_softmax(scores):
    identity = np.eye(scores.shape[-1])
    return atento.attention(scores, identity, identity, scale=1.0)


small = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
reference_softmax(small)

# %% [markdown]
# **Te toca.** Escribe la softmax que resta el máximo. Las puntuaciones llegan en una matriz, con
# una fila por consulta, y cada fila tiene su propio máximo. (`scores.max(axis=-1,
# keepdims=True)` conserva la columna en la que están los máximos.)


# %% tags=["question"]
def softmax(scores):
    return ...


# %%
check(softmax, reference_softmax, cases=[(small,), (small + 1000,), (-900 * small,)])

# %% [markdown]
# ## La ecuación entera, tuya
#
# **Te toca.** Júntalo todo: puntuaciones, divididas por $\sqrt{d}$, softmax, por los valores.
# Escríbelo de modo que esta celda no dependa de la de arriba. Se compara con `atento` con
# consultas de tamaño corriente, con consultas mil veces mayores y con tantas claves como
# números tiene cada una, un caso en el que, si confundes un eje, las formas no te delatan.


# %% tags=["question"]
def attention(query, key, value):
    return ...


# %%
square = rng.standard_normal((3, 3))
cases = [
    (query, key, value),
    (1000 * query, key, value),
    (square, square + 1, square),
]
check(attention, atento.attention, cases=cases)

# %% [markdown]
# Si dice *correcto*, has escrito la atención.
#
# Hay algo que `atento.attention` hace y unas pocas líneas de NumPy no: mira lo que le das. Aquí
# las consultas tienen 3 números y las claves 2, así que entre ellas no hay producto escalar:

# %%
try:
    atento.attention(query, key[:, :2], value)
except atento.ShapeError as error:
    print(error)

# %% [markdown]
# ## Lo que ya sabes
#
# - Buscar en un diccionario es una suma ponderada cuyos pesos son un 1 y muchos 0; la atención
#   permite que sean cualquier cosa intermedia.
# - Los pesos son la softmax de las puntuaciones, y las puntuaciones, productos escalares de una
#   consulta con las claves.
# - El significado lo llevan los vectores. Con vectores al azar la cuenta está bien y no dice
#   nada.
# - A la softmax hay que restarle antes la mayor puntuación o se desborda: con 32 bits, a partir
#   de 89.
# - $\operatorname{softmax}(Q K^\top / \sqrt d)\, V$ son cuatro líneas de NumPy.
#
# **Para seguir.** Mete palabras tuyas en un `SoftDict`. ¿Para qué sirven `attend` y
# `temperature` si las claves son números, como en
# `atento.SoftDict({1.0: 10, 2.0: 20, 4.0: 40}).attend(3.0)`? En la lección 2, una frase se mira
# a sí misma.
#
# **Fuentes.** Vaswani et al. 2017, *Attention Is All You Need* (arXiv 1706.03762), sección
# 3.2.1: la ecuación. Bahdanau, Cho y Bengio 2014 (arXiv 1409.0473), sección 3: la atención como
# media ponderada que una red aprende. Milakov y Gimelshein 2018 (arXiv 1805.02867), sección 2:
# la softmax con el máximo restado.
