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
# # 4 · Una cabeza en imágenes
#
# El Transformer de 2017 le daba 512 números a cada token y atendía con ocho cabezas de 64. Aquí
# tienes una de esas cabezas a su tamaño real: cada matriz dibujada y cada operación con sus
# formas. Y después, dos preguntas a las que responde bien una imagen: ¿por qué se divide por
# $\sqrt{64}$? ¿Y qué le pasa a una cabeza que no divide?
#
# Unos 20 minutos. Necesitas la ecuación de la atención (lección 1) y saber qué es una cabeza
# (lección 2). Del trabajo se encarga NumPy; no se entrena nada ni se descarga nada salvo los
# paquetes que falten.

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
import matplotlib.pyplot as plt
import numpy as np

import atento
from atento.lessons import check

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 128 tokens
#
# Que los tokens sean aleatorios: 128 vectores de 512 números sacados de una distribución normal
# de media 0 y varianza 1. No significan nada, y eso nos conviene: cualquier estructura que
# aparezca en las imágenes vendrá de las operaciones y no de un texto.
#
# También son aleatorias las cuatro matrices de la capa. Una aplicación que parte de 512 números
# suma 512 productos; por eso los números de la matriz tienen varianza 1/512, y así lo que sale
# vuelve a tener varianza 1.

# %%
T, d_model, num_heads = 128, 512, 8
d = d_model // num_heads

rng = np.random.default_rng(0)
x = rng.standard_normal((T, d_model))
W_query, W_key, W_value, W_output = (
    rng.standard_normal((d_model, d_model)) / np.sqrt(d_model) for _ in range(4)
)
x.shape, W_query.shape, d

# %% [markdown]
# Una función pequeña dibuja matrices una al lado de otra, a la misma escala y cada una con su
# forma encima: azul es positivo, rojo es negativo, y los colores más intensos equivalen a ±3
# desviaciones típicas de esa matriz.


# %% alt="Los tokens X, de 128 × 512, y la matriz de las consultas, de 512 × 512, en azul y rojo: solo ruido."
def draw(**matrices):
    rows, columns = np.array([matrix.shape for matrix in matrices.values()]).T
    width = min(8, columns.sum() / 50, 4 * columns.sum() / rows.max())
    size = width + 0.3 * len(rows), width * rows.max() / columns.sum() + 0.4
    _, every = plt.subplots(1, len(rows), figsize=size, width_ratios=columns)
    plt.subplots_adjust(wspace=0.4)
    for axes, (name, matrix) in zip(every, matrices.items(), strict=True):
        limit = 3 * matrix.std()
        axes.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(f"{name}\n{matrix.shape[0]} × {matrix.shape[1]}", fontsize=8)
        axes.axis("off")


draw(X=x, W_query=W_query)

# %% [markdown]
# A la izquierda, los tokens, uno por fila. A la derecha, la matriz que los lleva a consultas.
# Todo ruido, como debe ser.
#
# ## De los tokens a consultas, claves y valores
#
# $$Q = X W_q \qquad K = X W_k \qquad V = X W_v$$
#
# Un producto por cada una hace las consultas, las claves y los valores **de las ocho cabezas**:
# 512 columnas, de las que las 64 primeras son de la cabeza 0, las 64 siguientes de la cabeza 1,
# y así hasta el final.

# %% alt="Los tokens X y las consultas Q de todas las cabezas, ambos de 128 × 512, y al lado la tira estrecha de la cabeza 0, de 128 × 64."
Q, K, V = x @ W_query, x @ W_key, x @ W_value
draw(X=x, Q=Q, head_0=Q[:, :d])
Q.shape, Q[:, :d].shape

# %% [markdown]
# La tira estrecha de la derecha es todo lo que la cabeza 0 ve de las consultas: 64 números por
# token. Salen solo de las 64 primeras columnas de $W_q$; o sea, que cada cabeza es dueña de su
# parte de cada matriz. Estas tres son todo lo que la cabeza 0 podrá aprender sobre qué buscar,
# por qué se la encuentra y qué contar:

# %% alt="Lo que le toca a la cabeza 0 de cada matriz: tres tiras de 512 × 64, para consultas, claves y valores."
draw(W_q=W_query[:, :d], W_k=W_key[:, :d], W_v=W_value[:, :d])
np.allclose(x @ W_query[:, :d], Q[:, :d])

# %% [markdown]
# **Te toca.** ¿Cuál es la primera columna de $Q$, contando desde 0, de la cabeza 3?

# %% tags=["question"]
answer = None

# %%
check(answer, 3 * d)

# %% [markdown]
# Para calcular todas las cabezas a la vez, los programas les dan un eje propio: de (token, 512)
# a (cabeza, token, 64). Aquí tropieza más de una primera implementación, porque
# `Q.reshape(8, 128, 64)` tiene la forma correcta y los números equivocados: corta la matriz en
# el orden en que está en memoria, fila por fila, y a la «cabeza 0» le tocan los 16 primeros
# tokens en lugar de las 64 primeras columnas.
#
# **Te toca.** Escríbelo bien: de (token, d_model) a (cabeza, token, d_model / cabezas). Se
# prueba con matrices de varias formas.


# %% tags=["question"]
def split_heads(matrix, num_heads):
    return ...


# %%
def reference_split(matrix, num_heads):
    return np.stack(np.split(matrix, num_heads, axis=1))


cases = [(Q, 8), (Q[:5], 2), (K[:7, :12], 3)]
check(split_heads, reference_split, cases=cases)

# %% [markdown]
# Seguimos con la de referencia, que corta entre columnas:

# %%
query, key, value = (reference_split(matrix, num_heads) for matrix in (Q, K, V))
query.shape, key.shape, value.shape

# %% [markdown]
# ## Puntuaciones
#
# A partir de aquí, solo la cabeza 0. Sus puntuaciones son los productos escalares de cada
# consulta con cada clave: $128 \times 128 = 16\,384$, cada uno de ellos una suma de 64
# productos.
#
# $$S = Q K^\top \qquad (128 \times 64)\,(64 \times 128) \to (128 \times 128)$$

# %% alt="Consultas y claves de la cabeza 0, de 128 × 64 cada una, y sus puntuaciones, de 128 × 128."
q, k, v = query[0], key[0], value[0]
scores = q @ k.T
draw(Q=q, K=k, scores=scores)
scores.shape, float(scores.min()), float(scores.max()), float(scores.std())

# %% [markdown]
# Las consultas y las claves no pasan de ±4,5, poco más o menos; las puntuaciones van de −34 a
# 36, con una desviación típica de 8,03. Quédate con ese 8.
#
# ## Escala, softmax, suma ponderada
#
# Divide por $\sqrt{64} = 8$, aplica la softmax a cada fila y multiplica por los valores:
#
# $$W = \operatorname{softmax}\!\left(\frac{S}{\sqrt{64}}\right) \qquad
# \text{salida} = W V \qquad (128 \times 128)\,(128 \times 64) \to (128 \times 64)$$


# %%
def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


weights = softmax(scores / np.sqrt(d))
output = weights @ v
weights.shape, output.shape, float(weights.max())

# %% [markdown]
# `atento.trace` hace lo mismo con las ocho cabezas y guarda cada paso. ¿Coinciden?

# %%
trace = atento.trace(query, key, value)
assert np.allclose(trace["scores"].value[0], scores)
assert np.allclose(trace["weights"].value[0], weights)
assert np.allclose(trace.output[0], output)
print(trace)

# %% [markdown]
# Y aquí está la cabeza entera, de izquierda a derecha. Debajo de cada matriz van su forma y sus
# números menor y mayor.

# %% alt="Todos los pasos de la cabeza 0, unidos por flechas: consultas, claves y valores de 128 × 64; puntuaciones, puntuaciones escaladas y pesos de 128 × 128, y una salida de 128 × 64 con franjas verticales."
figure, axes = plt.subplots(figsize=(9, 4.7))
_ = atento.plot(trace, "steps", head=0, ax=axes, title="")

# %% [markdown]
# Sigue las flechas. Las consultas y las claves se encuentran en las puntuaciones; las escaladas
# se ven igual, pues solo han cambiado los números de debajo: de −34 … 36 a −4,2 … 4,5. La
# softmax deja un azul pálido con algunos puntos más oscuros, ninguno por encima de 0,27. Los
# valores esperan abajo hasta el final. En la salida han aparecido franjas verticales: cada fila
# es una media de los mismos 128 valores, así que todas se parecen. Cuánto se dispersan los
# valores, y cuánto sus medias:

# %%
float(v.std()), float(output.std())

# %% [markdown]
# De 1,006 baja a 0,150. La media de muchos números independientes es menor que cada uno de
# ellos.
#
# Si quieres tocar los números uno a uno, aquí están los doce primeros tokens de esta cabeza en
# una página. Señala una puntuación y verás sus 64 productos; señala un peso y verás las
# exponenciales de su fila.

# %% tags=["varies"]
atento.show(atento.trace(query[:1, :12], key[:1, :12], value[:1, :12]))

# %% [markdown]
# ## ¿Por qué √64?
#
# Las puntuaciones tenían una desviación típica de 8,03 y hemos dividido por 8. No es
# casualidad. Sean $q_i$ y $k_i$ independientes, de media 0 y varianza 1. Su producto también
# tiene varianza 1, y las varianzas de sumandos independientes se suman:
#
# $$\operatorname{Var}(q \cdot k) = \operatorname{Var}\Big(\sum_{i=1}^{d} q_i k_i\Big)
# = \sum_{i=1}^{d} \operatorname{Var}(q_i k_i) = d$$
#
# O sea, que las puntuaciones se dispersan como $\sqrt d$, y al dividir por esa raíz vuelven a 1,
# por ancha que sea la cabeza. No te lo creas: mídelo.


# %%
def variance_of_scores(d):
    q, k = rng.standard_normal((2, 4000, d))
    return (q * k).sum(axis=-1).var()


widths = np.array([4, 16, 64, 256, 1024])
variances = np.array([variance_of_scores(d) for d in widths])
variances / widths

# %% alt="Varianza de las puntuaciones según d, con los dos ejes logarítmicos: los puntos caen sobre la recta en la que la varianza es d."
figure, axes = plt.subplots(figsize=(5, 3))
axes.loglog(widths, variances, "o", label="Var(q · k)")
axes.loglog(widths, widths, "-", label="d")
axes.set(xlabel="d")
_ = axes.legend()

# %% [markdown]
# Los puntos caen sobre la recta: cuando $d$ se multiplica por 256, la varianza
# sigue siendo $d$, con un error de un pequeño tanto por ciento. En nuestra cabeza, donde las
# consultas y las claves se calculan a partir de los tokens, se cumple igual de bien, y después de
# dividir es 1:

# %%
float(scores.var()), float((scores / np.sqrt(d)).var())

# %% [markdown]
# **Te toca.** Con 16 cabezas en lugar de 8, de los mismos 512 números le tocan 32 a cada una.
# ¿Cuál sería la desviación típica de las puntuaciones antes de escalarlas?

# %% tags=["question"]
answer = None

# %%
check(answer, np.sqrt(32), tolerance=0.01)

# %% [markdown]
# ## Qué hace la softmax con puntuaciones grandes
#
# Supón que se nos olvida dividir. La softmax mira diferencias: una puntuación que saca 8 de
# ventaja recibe $e^8 \approx 3000$ veces más peso. Y con una dispersión de 8 siempre hay alguna
# que saca mucha. Aquí están los pesos de las dos cabezas, con la misma escala de colores, de 0 a
# 1:

# %% alt="Pesos de 128 consultas sobre 128 claves, dos veces: con la división por la raíz de 64, pálidos en todas partes; sin dividir, una o dos casillas oscuras en casi todas las filas."
unscaled = softmax(scores)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for axes, one, name in ((left, weights, "/ √64"), (right, unscaled, "/ 1")):
    axes.imshow(one, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(name)

# %% [markdown]
# A la izquierda, con $\sqrt{64}$: apenas hay color, porque a cada clave le toca un poco. A la
# derecha, sin dividir: en casi todas las filas hay una o dos casillas oscuras y nada más. El número que resume esto es la
# **entropía** de una fila:
#
# $$H = -\sum_j w_j \ln w_j .$$
#
# Vale 0 si una sola clave se lleva todo el peso, y $\ln 128 = 4{,}85$ si las 128 tienen el
# mismo. $e^H$ se lee como «a cuántos tokens mira la consulta».
#
# `atento.survey` calcula estadísticas como esta sin guardar los pesos. Lo que recibe son
# consultas y claves; para preguntarle por una matriz de pesos le damos unas puntuaciones cuya
# softmax son esos pesos: sus logaritmos, con la identidad como claves.


# %%
def reference_entropy(weights):
    identity = np.eye(weights.shape[-1])
    logarithms = np.log(np.maximum(weights, 1e-300))
    return atento.survey(logarithms, identity, identity, scale=1.0)["entropy"]


reference_entropy(np.array([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]))

# %% [markdown]
# 0 para la fila que lo tiene claro, $\ln 4 = 1{,}386$ para la que reparte por igual.
#
# **Te toca.** Escríbela tú para una matriz de pesos, con una entropía por fila. Puede haber
# pesos que sean exactamente 0; entonces $w \ln w$ cuenta como 0, que es su límite, pero NumPy
# dice `nan`. (Te servirá `np.where`, o un `np.maximum` dentro del logaritmo.)


# %% tags=["question"]
def entropy(weights):
    return ...


# %%
even, sure = np.full((2, 128), 1 / 128), np.eye(5)
check(entropy, reference_entropy, cases=[(weights,), (unscaled,), (even,), (sure,)])

# %% [markdown]
# Ahora la cabeza 0 con la escala y sin ella, consulta por consulta. `survey` la saca
# directamente de las consultas y las claves:

# %% alt="Entropía de los pesos, consulta por consulta: con la escala, justo por debajo de la línea de puntos en ln 128 = 4,85; sin ella, siempre por debajo de 2."
with_scale = atento.survey(query[:1], key[:1], value[:1])
without = atento.survey(query[:1], key[:1], value[:1], scale=1.0)

figure, axes = plt.subplots(figsize=(7, 3))
axes.axhline(np.log(T), color="grey", linestyle=":", label="ln 128")
axes.plot(with_scale["entropy"][0], label="/ √64")
axes.plot(without["entropy"][0], label="/ 1")
axes.set(ylim=(0, 5), ylabel="H")
_ = axes.legend(loc="center right")

# %%
means = np.array([with_scale["entropy"].mean(), without["entropy"].mean()])
means, np.exp(means)

# %% [markdown]
# La línea azul se queda cerca de la de puntos, que está en 4,85; la naranja anda por abajo y no
# llega nunca a 2. Las medias: 4,36 con la escala, de los 4,85 posibles: una consulta mira a unos 78 de los 128 tokens. 0,59
# sin ella: a menos de dos. Una cabeza que aún no ha aprendido nada ya habría tomado partido, y
# al azar.
#
# Y le costaría cambiar de opinión. Cuando una puntuación se mueve un poco, su peso se mueve
# $w_j (1 - w_j)$ veces eso. Si el peso está cerca de 0 o de 1, no pasa casi nada, y no fluye
# gradiente. Sumado a lo largo de una fila es $1 - \sum_j w_j^2$; la media de todas las filas:

# %%
movable = np.array([(w * (1 - w)).sum(axis=-1).mean() for w in (weights, unscaled)])
decided = np.array([(w.max(axis=-1) > 0.5).mean() for w in (weights, unscaled)])
movable, decided

# %% [markdown]
# 0,98 frente a 0,29. Sin la escala, el 88 % de las consultas ha dado más de la mitad de su peso
# a una sola clave; con ella, ninguna. Es lo que los autores del artículo sospechaban en una sola
# frase (que la softmax acaba «en regiones donde tiene gradientes extremadamente pequeños»), y
# por eso está ahí la $\sqrt{d}$.
#
# ## Ocho cabezas, y de vuelta a 512
#
# Cada cabeza ha hecho 64 números para cada token. Una al lado de otra vuelven a ser 512, y una
# última matriz mezcla lo que han encontrado las cabezas:
#
# $$\text{salida} = [\text{cabeza}_0 \ \dots\ \text{cabeza}_7]\; W_o
# \qquad (128 \times 512)\,(512 \times 512) \to (128 \times 512)$$

# %% alt="Las salidas de las ocho cabezas, una al lado de otra, de 128 × 512, y lo que hace con ellas la última matriz, otra vez de 128 × 512."
concatenated = trace.output.swapaxes(0, 1).reshape(T, d_model)
mixed = concatenated @ W_output
draw(heads=concatenated, output=mixed)
x.shape, mixed.shape

# %% [markdown]
# Lo que sale tiene la forma de lo que entró; así se puede sumar a los tokens y pasar a la capa
# siguiente. Y como la cabeza 0 ocupa las 64 primeras columnas, solo se encuentra con las 64
# primeras filas de $W_o$. O sea, que el producto se puede partir en ocho, uno por cabeza, y la
# salida de la capa es sencillamente su suma:

# %%
rows = W_output.reshape(num_heads, d, d_model)
by_head = trace.output @ rows
by_head.shape, np.allclose(by_head.sum(axis=0), mixed)

# %% [markdown]
# Por eso se puede hablar de lo que hace una sola cabeza, y apagar una (lección 6). Estos son los
# pesos de las ocho:

# %% alt="Pequeños mapas de los pesos de las ocho cabezas: el mismo ruido pálido en cada uno."
figure, axes = plt.subplots(figsize=(9, 1.7))
_ = atento.plot(trace, "grid", ax=axes)

# %% [markdown]
# Ocho veces el mismo ruido pálido. Así son las cabezas antes de entrenarlas: cada una tiene sus
# matrices aleatorias y ninguna tiene costumbres. Las entrenadas no se parecen en nada, como
# enseña la lección 6.
#
# ## Lo que ya sabes
#
# - Una cabeza a tamaño real: tokens de 128 × 512, matrices que llevan a consultas, claves y
#   valores de 128 × 64, puntuaciones y pesos de 128 × 128, salida de 128 × 64; ocho de ellas
#   vuelven a hacer 128 × 512.
# - Las cabezas son bloques de columnas. El eje de las cabezas se obtiene separando columnas,
#   nunca con un `reshape` directo a la forma deseada.
# - La varianza de un producto escalar es su número de sumandos. Al dividir por $\sqrt d$ queda en
#   1, sea cual sea el ancho de la cabeza.
# - Sin eso, la softmax elige una o dos claves al azar (0,59 nats en lugar de 4,36) y apenas deja
#   pasar gradiente.
#
# **Para seguir.** Saca `x` con varianza 4 en lugar de 1: ¿qué pasa con las puntuaciones y con la
# entropía? ¿Cómo se arreglaría? (Hay modelos que normalizan consultas y claves justo por esto.)
# Cambia `num_heads` por 1 o por 64 y vuelve a mirar la tira de pasos. La lección 5 mete una capa
# así en un Transformer y lo entrena.
#
# **Fuentes.** Vaswani et al. 2017, *Attention Is All You Need* (arXiv 1706.03762): sección 3.2.1
# y su nota 4 (la varianza de las puntuaciones), sección 3.2.2 (las cabezas y sus tamaños). Dehghani et al. 2023 (arXiv 2302.05442), sección 2: qué le hacen las
# puntuaciones grandes a la entropía de la atención, y la normalización que las mantiene
# pequeñas.
