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
# # 5 · Atención multicabeza en un Transformer
#
# De la palabra «Hello» a un modelo que escribe: los caracteres se vuelven números; los números,
# vectores; dos cabezas los miran, se apilan dos capas y, tras medio minuto de entrenamiento, el
# modelo ha aprendido a copiar un nombre. Todo es lo bastante pequeño para verlo entero: 16
# rasgos, 2 cabezas, 8592 parámetros. Unos 25 minutos; necesitas la lección 2 y PyTorch.

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
import math
import string
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional

import atento
from atento.lessons import check
from atento.lm import CharTokenizer, Transformer, TransformerConfig, generate, train
from atento.masks import Causal
from atento.nn import LearnedPositions, MultiHeadAttention

torch.manual_seed(5)
torch.set_num_threads(1)
# %% [markdown]
# Un solo hilo, y no es un descuido: con matrices tan pequeñas, un segundo cuesta más de lo que
# aporta.
#
# ## B, T, C
#
# Un modelo lee números. El *tokenizador* más sencillo le da a cada carácter su puesto en una lista;
# la nuestra es `string.printable`, de Python: cifras, letras, signos y espacios.

# %%
tokenizer = CharTokenizer(string.printable)
tokenizer.vocabulary_size, tokenizer.encode("Hello")

# %% [markdown]
# 100 caracteres; la «H» es el número 43 y las dos «l» son el 21. Y de vuelta:

# %%
tokenizer.decode([43, 14, 21, 21, 24])

# %% [markdown]
# Un número no dice nada de un carácter. Por eso a cada uno le toca un vector, la fila de una tabla
# que el entrenamiento irá llenando: su *incrustación* (embedding). De aquí en adelante, tres letras
# nombran los ejes:
#
# | letra | eje | aquí |
# |---|---|---|
# | B | lote (batch): textos uno junto a otro | 1 |
# | T | tokens de un texto | 5, como mucho 25 |
# | C | canales: rasgos de un token | 16 |

# %%
ids = torch.tensor([tokenizer.encode("Hello")])
embedding = nn.Embedding(tokenizer.vocabulary_size, 16).requires_grad_(False)
list(ids.shape)

# %% [markdown]
# **Pregunta 1.** ¿Qué forma tiene `embedding(ids)`? Responde con una lista.

# %% tags=["question"]
answer = None

# %%
letters = embedding(ids)
check(answer, list(letters.shape))

# %% [markdown]
# ## La atención no sabe qué va primero
#
# Aquí está la atención multicabeza con 2 cabezas y los pesos aún al azar. «Hello» tiene dos «l»:
# ¿son distintas sus salidas?

# %%
attention = MultiHeadAttention(d_model=16, num_heads=2).requires_grad_(False)
out = attention(letters)
torch.allclose(out[0, 2], out[0, 3])

# %% [markdown]
# Son iguales. Las dos «l» hacen la misma consulta a las mismas cinco claves, y a una suma ponderada
# le da igual en qué orden se suma. Lee «olleH» y saldrán los mismos vectores en otro orden. Para la
# atención, por sí sola, un texto es una bolsa de letras.
#
# Así que también hay que decirle el sitio. `LearnedPositions` guarda un vector para cada uno de 25
# sitios y lo suma: $x_t = E[\text{id}_t] + P[t]$.

# %%
positions = LearnedPositions(25, 16, std=1.0).requires_grad_(False)
x = positions.embed(letters)
out = attention(x)
list(out.shape), torch.allclose(out[0, 2], out[0, 3])

# %% [markdown]
# Ahora las dos se distinguen, y la forma es (1, 5, 16), la misma que entró: B, T, C. Por eso se
# pueden apilar capas.
#
# ## Las cabezas son trozos
#
# «Dos cabezas» suena a dos módulos. En realidad hay una sola matriz para las consultas de ambas,
# con 16 filas, y cada cabeza es dueña de 8: C = 2 × 8.

# %%
list(attention.query.weight.shape), list(attention.head(1).query.weight.shape)

# %%
torch.equal(attention.head(1).query.weight, attention.query.weight[8:])

# %% [markdown]
# Los 16 rasgos de una consulta se parten luego en dos: (B, T, C) pasa a ser (B, T, H, 8), y el eje
# de las cabezas se adelanta para que cada una tenga su propia tabla (T, 8).

# %%
query = attention.query(x)
heads = query.reshape(1, 5, 2, 8).transpose(1, 2)
list(heads.shape), torch.equal(heads[:, 1], query[:, :, 8:])

# %% [markdown]
# Cuidado con el orden. `reshape(1, 2, 5, 8)` da la misma forma de golpe, pero con los números mal:
# cortaría en dos el texto, no los rasgos.

# %%
torch.equal(query.reshape(1, 2, 5, 8), heads)

# %% [markdown]
# Cuando cada cabeza tiene su contexto, los contextos vuelven a ponerse uno al lado del otro y pasan
# por una última matriz:
#
# $$\text{salida} = [\,\text{cabeza}_0 \;\; \text{cabeza}_1\,]\; W_\text{output} + b$$
#
# **Ejercicio 2.** Escríbelo. `attention.head(0)` es la primera cabeza como módulo;
# `attention.output`, la última matriz. `torch.cat` pone una cosa al lado de otra.


# %% tags=["question"]
def side_by_side(x): ...


# %%
check(side_by_side, attention, cases=[(x,), (letters[:, :3],)])

# %% [markdown]
# También se puede ir al revés: `from_heads` hace un solo módulo con las cabezas que tengas.

# %%
both = [attention.head(0), attention.head(1)]
joined = MultiHeadAttention.from_heads(both, output=attention.output)
torch.allclose(joined(x), out, atol=1e-6)

# %% [markdown]
# ¿Y por qué dos? Cada cabeza tiene una sola softmax, así que solo puede volcar su peso en un sitio a
# la vez. Dos cabezas miran en dos direcciones. Estos son los pesos del último token, la «o», en
# ambas:

# %%
_, weights = attention(x, return_weights=True)
weights[0, :, -1].round(decimals=2)

# %% [markdown]
# Dos filas que suman 1 cada una y poco tienen que ver entre sí, y eso antes de entrenar nada.
#
# Un modelo que va a *escribir* no puede ver lo que viene después: con la máscara `Causal()`, un
# token se ve a sí mismo y a los anteriores. La vista enseña todos los pasos. Baja hasta las
# puntuaciones con máscara, donde cada fila se acaba en el propio token, y mira qué hace de ellas la
# softmax: el primer token no tiene a nadie más y se da a sí mismo el peso 1, en las dos cabezas.

# %% tags=["varies"]
causal = MultiHeadAttention(16, 2, mask=Causal()).requires_grad_(False)
atento.show(causal.trace(x))

# %% [markdown]
# ## Un Transformer de 8592 números
#
# La atención lleva información de un token a otro. Después, cada token trabaja por su cuenta en una
# red *feed-forward* de dos matrices, 16 → 64 → 16. Ambas se suman a lo que entró, para que no se
# pierda nada, y una normalización antes de cada una mantiene los números a raya. Un bloque es
#
# $$x \leftarrow x + \text{attention}(\text{norm}(x)), \qquad
# x \leftarrow x + \text{feedforward}(\text{norm}(x))$$
#
# Dos bloques y, al final, una puntuación para cada uno de los 100 caracteres:

# %%
config = TransformerConfig(100, context=25, d_model=16, num_layers=2, num_heads=2)
torch.manual_seed(5)
model = Transformer(config)
logits = model(ids)
list(logits.shape), model.num_parameters

# %% [markdown]
# (1, 5, 100): en cada uno de los 5 sitios, una puntuación por cada posible carácter *siguiente*. ¿Y
# dónde están los 8592 números? 1600 en las incrustaciones (100 × 16), 400 en las posiciones (25 ×
# 16), 6560 en los dos bloques y 32 en la última normalización. Las puntuaciones salen gratis: la
# tabla de incrustaciones sirve otra vez, y la puntuación de un carácter es el producto de su vector
# por lo que sale de la última normalización.
#
# **Pregunta 3.** ¿Cuántos números aprende una capa de atención? Tiene cuatro matrices de 16 × 16,
# para consultas, claves, valores y salida, y cada una suma además un sesgo de 16.

# %% tags=["question"]
answer = None

# %%
layer = model.blocks[0].attention
check(answer, sum(parameter.numel() for parameter in layer.parameters()))

# %% [markdown]
# ## Lo que el entrenamiento reduce
#
# Las puntuaciones se vuelven probabilidades con una softmax. La pérdida es la sorpresa media ante lo
# que venía de verdad:
#
# $$\text{pérdida} = -\frac{1}{T} \sum_t \log p_t(\text{siguiente}_t)$$
#
# **Ejercicio 4.** Escribe `surprise(logits, following)`: `logits` es (T, 100), y `following` guarda
# los T números que venían después. `logits.log_softmax(-1)` da los logaritmos.


# %% tags=["question"]
def surprise(logits, following): ...


# %%
cases = [(logits[0, :-1], ids[0, 1:]), (3 * logits[0, :2], ids[0, 1:3])]
check(surprise, functional.cross_entropy, cases=cases)

# %% [markdown]
# ¿Qué pérdida tiene un modelo que no sabe nada? Los 100 caracteres le parecen igual de probables,
# así que su sorpresa es $\log 100$:

# %%
loss = functional.cross_entropy(logits[0, :-1], ids[0, 1:])
round(math.log(100), 2), round(loss.item(), 2)

# %% [markdown]
# 4,61 según la fórmula y 4,53 medido. Vale la pena comprobarlo antes de cualquier entrenamiento: si
# la primera pérdida queda muy por encima, algo va mal en los pesos iniciales.
#
# ## Un texto que aprender
#
# Saludos en dos lenguas con uno de seis nombres, las dos veces el mismo. ¿Qué hay que aprender? La
# ortografía, y eso es fácil. Pero después de «hola» viene el nombre que estaba *diez caracteres
# antes*, y para eso hace falta atención: solo mirando atrás se distingue «Ana» de «Ben».

# %%
names = ["Ana", "Ben", "Eva", "Leo", "Noa", "Tim"]
drawn = np.random.default_rng(5).choice(names, 2000)
text = "".join(f"Hello {name}, hola {name}.\n" for name in drawn)
print(text[:63])
len(text)

# %% [markdown]
# El entrenamiento saca filas de 25 caracteres de estos 42 000 y da 600 pasos de 16 filas cada uno.
# ¿Cuánto puede bajar la pérdida? El primer nombre de cada línea es cosa del azar:
# $\log 6 = 1{,}79$, una vez cada 21 caracteres, es decir, 0,085 por carácter. Lo que queda por
# encima es el comienzo de las filas, donde el modelo ha visto demasiado poco para saber dónde está.

# %% tags=["varies"] alt="Pérdida a lo largo de 600 pasos: cae a plomo en los primeros cien y luego baja despacio hacia la línea de trazos, en 0,085."
folder = tempfile.TemporaryDirectory()
settings = {"steps": 600, "batch": 16, "learning_rate": 1e-2, "weight_decay": 0.01}
settings |= {"warm_up": 30, "evaluate_every": 300, "seed": 5, "progress": False}
run = train([text], out=folder.name, config=config, tokenizer=tokenizer, **settings)
model = run.model().eval()
steps, losses = [row["step"] for row in run.log], [row["loss"] for row in run.log]
fig, ax = plt.subplots(figsize=(5, 2.5))
ax.plot(steps, losses)
ax.axhline(math.log(6) / 21, color="gray", linestyle="--")
ax.set(xlabel="step", ylabel="loss", ylim=(0, 4.7))
plt.show()

# %% [markdown]
# La curva cae a plomo en los primeros cien pasos, mientras el modelo aprende a deletrear, y luego
# baja despacio hasta cerca de 0,15. La línea de trazos es el 0,085 del azar.

# %%
print(losses[-1] < 0.3)

# %% [markdown]
# ## Escribe
#
# El modelo puntúa el carácter siguiente, se sortea uno y se vuelve a leer el texto, ya más largo.
# Generar no es más que eso. A partir de «Hello»:

# %% tags=["varies"]
print("Hello" + generate(model, "Hello", max_tokens=58, seed=1))

# %% [markdown]
# Las líneas, los nombres y los puntos están en su sitio. La *temperatura* divide las puntuaciones
# antes de la softmax. Con 0 se toma siempre el carácter más probable; con 1 se sortea según lo que
# cree el modelo; con 3 salen también los improbables:

# %% tags=["varies"]
[generate(model, "Hello", max_tokens=15, temperature=t, seed=2) for t in (0, 1, 3)]

# %% [markdown]
# Y ahora, la pregunta que importa: ¿copia? Para cada nombre, la continuación más probable:

# %% tags=["varies"]
prompts = [f"Hello {name}, hola " for name in names]
written = generate(model, prompts, max_tokens=3, temperature=0)
written

# %% [markdown]
# Adivinando acertaría uno de seis. Acierta al menos cinco:

# %%
copied = [mine == name for mine, name in zip(written, names, strict=True)]
print(sum(copied) >= 5)

# %% [markdown]
# ## ¿Cómo lo hace?
#
# `atento.capture` graba la atención de un modelo mientras funciona. Estos son los pesos de las
# dos cabezas de las dos capas con el texto «Hello Ana, hola ». Las filas son consultas; las
# columnas, claves; cuanto más oscuro, más peso. El carácter siguiente tiene que ser una «A», así
# que mira la *última fila* de cada cuadro.

# %% tags=["varies"] alt="Cuatro mapas de pesos con el texto Hello Ana, hola: dos capas, una sobre otra, de dos cabezas cada una. En la última fila, una parte del peso cae en el nombre."
prompt = "Hello Ana, hola "
with atento.capture(model) as recording, torch.no_grad():
    model(torch.tensor([tokenizer.encode(prompt)]))
fig, axes = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
marks = [c if c != " " else "␣" for c in prompt]
for layer, row in enumerate(axes):
    for head, ax in enumerate(row):
        ax.imshow(recording[layer].weights(head), cmap="Blues", vmin=0, vmax=1)
        ax.set(title=f"{layer}.{head}", xticks=range(16), yticks=range(16))
        ax.set(xticklabels=marks, yticklabels=marks)
plt.show()

# %% [markdown]
# En la última fila, una parte del peso cae en el nombre, nueve puestos atrás. ¿Cuánta, sumando las
# tres letras de «Ana»? Por capas (filas) y cabezas (columnas):

# %% tags=["varies"]
shares = [[layer.weights(h)[-1, 6:9].sum() for h in (0, 1)] for layer in recording]
np.array(shares).round(2)

# %% [markdown]
# Si las 16 claves contaran lo mismo, serían 3/16 = 0,19. Cuando se escribió esto,
# la cabeza 1.0 (abajo a la izquierda) le daba al nombre todo su peso, en una única casilla oscura
# bajo la «A», y la 0.0, dos tercios. Con otra semilla fue la 0.0, y con una tercera ninguna le
# daba más de 0,27, aunque los seis se copiaban: el nombre tuvo que llegar en dos pasos, a través
# de los caracteres de en medio. Los pesos dicen adónde mira una cabeza, y por sí solos no dicen
# cómo hace un modelo lo que hace; de eso trata la lección 6.
#
# ## ¿Y un nombre que nunca ha visto?

# %% tags=["varies"]
new = generate(model, "Hello Zoe, hola ", max_tokens=3, temperature=0)
new

# %% [markdown]
# No escribe «Zoe». En ningún texto había una «Z»: lo único que su vector ha aprendido es a ser la
# respuesta equivocada. El modelo ha aprendido a copiar *esos seis*, no a copiar. Los modelos que se
# cruzan con suficientes nombres distintos aprenden la regla general: esas *cabezas de inducción*
# son las que encontrarás en un modelo de verdad en la lección 6.

# %%
print(new == "Zoe")

# %% tags=["varies"]
folder.cleanup()

# %% [markdown]
# ## Lo que ya sabes
#
# - Texto → números → vectores con su sitio: (B, T) → (B, T, C). Sin el sitio, la atención ve una
#   bolsa.
# - Las cabezas son trozos de las mismas matrices; uno junto a otro vuelven a sumar C, y una
#   última matriz las mezcla.
# - Un bloque es atención y feed-forward, ambas sumadas a lo que entró. Todas las formas siguen
#   siendo (B, T, C) hasta el último paso, que puntúa cada token del vocabulario.
# - Una primera pérdida cercana al logaritmo del vocabulario es lo que deberías ver.
#
# **Para seguir.** Añade nombres al texto, primero diez, luego cien hechos de letras al azar: ¿se
# copia ahora «Zoe»? Prueba con `num_heads=1`: ¿hasta dónde baja la pérdida? Con un texto tuyo,
# `atento train mi_texto.txt --out runs/mio` entrena un modelo más grande desde la línea de órdenes.
#
# **Fuentes.** Vaswani et al. 2017, *Attention Is All You Need*, secciones 3.1–3.5 (arXiv
# 1706.03762). Gehring et al. 2017, posiciones aprendidas, sección 3.1 (1705.03122). Olsson et al.
# 2022, *In-context Learning and Induction Heads* (2209.11895).
