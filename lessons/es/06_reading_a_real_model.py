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
# # 6 · Leer un modelo de verdad
#
# Un modelo entrenado termina una frase que no ha visto nunca, y tú averiguas cuáles de sus cabezas
# lo han hecho: mirando sus pesos, con una tabla de papeles y apagando cabezas. El modelo es `mini`,
# que vive dentro del paquete; con las mismas líneas se leen GPT-2, Llama o BERT. Unos 20 minutos.
# Te hace falta saber qué es una cabeza, una capa y la máscara causal (lecciones 2 y 5), y también
# PyTorch: la primera celda lo instala si no lo tienes.

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
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import torch

import atento
from atento.embedded import load_mini
from atento.lessons import check
from atento.lm import load_model

_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## El modelo y un acertijo
#
# `mini` es un GPT-2 pequeño: 3 capas de 4 cabezas, 128 números por token y un vocabulario de 7700
# piezas de inglés y español. Está guardado como cualquier modelo de Hugging Face, en una carpeta con
# la configuración y los pesos, y `load_model` hace de ella un módulo de PyTorch. `load_mini` nos da
# su tokenizador.

# %%
model = load_model(files("atento") / "embedded" / "mini")
mini = load_mini()
print(model.config.num_layers, model.config.num_heads, model.config.d_model)
print(sum(parameter.numel() for parameter in model.parameters()))

# %% [markdown]
# Este es el acertijo. Le damos el principio de una frase y pedimos los tres tokens que le parecen más
# probables a continuación, con su probabilidad.


# %%
def likeliest(prompt, count=3):
    ids = torch.tensor([mini.encode(prompt).ids])
    found = model(ids)[0, -1].softmax(-1).topk(count)
    for probability, token in zip(*found, strict=True):
        print(f"{probability:.3f} {mini.tokenizer.text_of(int(token))}")


likeliest("my friend drinks tea and my friend drinks")
likeliest("mi abuela bebe café y mi abuela bebe")

# %% [markdown]
# En español gana `café`, con 0,145, aunque con poca ventaja. En inglés gana `tea` (té) con una
# probabilidad de 0,83, y el segundo se queda en 0,006. La frase inglesa dice «mi amigo bebe té y mi
# amigo bebe»; con ella vamos a trabajar, porque ahí el modelo no duda. La gramática sola no sabe qué
# bebe nadie. El modelo tiene que haber vuelto la vista a la primera mitad de la frase. ¿Adónde, y con
# qué cabezas?

# %% [markdown]
# ## Capturar: mirar mientras funciona
#
# `atento.capture` observa un modelo mientras se ejecuta y guarda las consultas, las claves y el
# log-sum-exp de cada cabeza. En el modelo no cambia nada: sigue usando sus propios núcleos rápidos, y
# la última línea comprueba que sus logits son iguales hasta el último bit.

# %%
encoding = mini.encode("my friend drinks tea and my friend drinks")
ids = torch.tensor([encoding.ids])
plain = model(ids)
with atento.capture(model) as recording:
    logits = model(ids)
recording.name_tokens(list(encoding.tokens))
print(len(recording), recording[0].shape, torch.equal(logits, plain))

# %% [markdown]
# Tres capas, cada una con pesos de forma (lote 1, cabeza 4, consulta 8, clave 8). Escribimos **0.2**
# para la capa 0, cabeza 2. Estos son sus pesos, calculados otra vez a partir de lo que se guardó:
#
# $$\text{weights}_{ij} = \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d} - \text{lse}_i\right), \qquad
# \text{lse}_i = \log \sum_{j \le i} \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d}\right)$$

# %%
recording[0].weights(head=2).round(2)

# %% [markdown]
# Léelos fila por fila: cada token mira al anterior, con entre 0,98 y 1,00 de su peso. Solo el
# primero, que no tiene nada delante, se mira a sí mismo. Es una **cabeza de token anterior**.
#
# Y ahora la misma cabeza en una imagen, con la 1.2 al lado. Las filas son las que miran; las columnas,
# las miradas.

# %% alt="A la izquierda, la cabeza 0.2: una línea justo por debajo de la diagonal. A la derecha, la cabeza 1.2: las filas de arriba miran a los dos primeros tokens; desde el segundo my hay una línea inclinada, unos puestos más a la izquierda."
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
_ = atento.plot(recording, "map", layer=0, head=2, ax=axes[0], title="0.2")
_ = atento.plot(recording, "map", layer=1, head=2, ax=axes[1], title="1.2")

# %% [markdown]
# A la izquierda, una línea justo por debajo de la diagonal. A la derecha, dos costumbres: las filas de
# arriba miran a los dos primeros tokens, `my` y `friend`; a partir del segundo `my` empieza una línea
# inclinada, unos puestos más a la izquierda. Averigua adónde mira la última fila de la cabeza 1.2: en
# ella el token `drinks`, en la posición 7, tiene que decir qué viene después. ¿Qué posición (de 0 a 7)
# se lleva la mayor parte de su peso?

# %% tags=["question"]
answer = None

# %%
check(answer, recording[1].weights(head=2)[7].argmax())

# %% [markdown]
# ## Una tabla de cabezas
#
# Doce matrices se pueden mirar una por una; las 144 cabezas de GPT-2, no. Por eso cada captura guarda
# también unos pocos números por cabeza, que son medias sobre todas las consultas menos las cuatro
# primeras, que ven demasiado poco:
#
# | número | el peso que se pone en |
# |---|---|
# | `previous` | el token anterior |
# | `self` | el propio token |
# | `first` | el primer token del texto |
# | `induction` | los tokens que siguieron antes a un token igual a este |
#
# El papel (`role`) es el primero cuyo número llega a su umbral; los umbrales están en
# `recording.summary().to_dict()["roles"]`.

# %%
numbers = ("previous", "self", "first", "induction")
for row in recording.summary():
    name = f"{row['layer'].split('.')[1]}.{row['head']}"
    print(name, row["role"].ljust(15), *(f"{row[n]:5.2f}" for n in numbers))

# %% [markdown]
# La cabeza 0.2 destaca con 0,99 en el token anterior (`previous token`). Las cabezas 0.0 y 0.3 miran a
# su propio token (`diagonal`). Toda la capa 1 se llama `induction`, y esa es la línea inclinada de la
# imagen: en el segundo `drinks`, estas cabezas miran a lo que siguió al primer `drinks`.
#
# La página que sigue muestra todas las cabezas. Elige una, señala un token y mira adónde mira.

# %% tags=["varies"]
atento.show(recording)

# %% [markdown]
# ## Ejercicio: puntúa tú una cabeza
#
# Una puntuación así no es más que la media de unas cuantas entradas de la matriz. Para el token
# anterior son las que están justo por debajo de la diagonal:
#
# $$\text{previous} = \frac{1}{T-1} \sum_{i=1}^{T-1} \text{weights}_{i,\,i-1}$$


# %% tags=["question"]
def previous_score(weights): ...


# %%
def reference(weights):
    return np.diagonal(weights, -1).mean()


cases = [(recording[layer].weights(head=2),) for layer in range(3)]
check(previous_score, reference, cases=cases)

# %% [markdown]
# ## Repetir cualquier cosa
#
# ¿No será que el modelo ha aprendido que los amigos beben té? Podemos descartarlo. Tomamos 40 palabras
# al azar y las leemos dos veces. Ni la gramática ni el significado pueden decir cuál viene después; en
# la segunda lectura, volver la vista atrás sí puede.

# %%
rng = np.random.default_rng(0)
whole = [i for word, i in mini.tokenizer.vocabulary.items() if word.isalpha() and len(word) > 3]
words = rng.choice(whole, 40, replace=False)
twice = torch.tensor(np.concatenate([words, words])[None])
print("".join(mini.tokenizer.text_of(int(word)) for word in words[:8]))

# %% [markdown]
# Lo que una palabra sorprende al modelo es su pérdida, $-\log p$. Adivinar a ciegas entre 7700 tokens
# cuesta $\log 7700 = 8{,}95$.


# %%
def loss(logits, rows):
    target = twice[0, rows.start + 1 : rows.stop + 1]
    return torch.nn.functional.cross_entropy(logits[0, rows], target).item()


first, second = slice(0, 39), slice(40, 79)
with atento.capture(model) as repeated:
    logits = model(twice)
print(f"{loss(logits, first):.2f} {loss(logits, second):.2f}")

# %% [markdown]
# En la primera lectura la pérdida es 11,14, más de lo que costaría adivinar: el modelo espera frases, y
# estas palabras no forman ninguna. En la segunda es 0,38. Eso es $e^{-0{,}38} = 0{,}68$: una
# probabilidad de dos tercios para la palabra correcta entre 7700, y a cada una la había visto una sola
# vez.
#
# ¿Adónde miran las cabezas 0.2 y 1.1 mientras lee estas 80 palabras?

# %% alt="A la izquierda, la cabeza 0.2: una línea justo por debajo de la diagonal. A la derecha, la cabeza 1.1: en la mitad de arriba el peso está en la primera columna; en la de abajo, en una raya 39 puestos a la izquierda de la diagonal."
fig, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
_ = atento.plot(repeated, "map", layer=0, head=2, ax=axes[0], title="0.2")
_ = atento.plot(repeated, "map", layer=1, head=1, ax=axes[1], title="1.1")

# %% [markdown]
# A la izquierda, la cabeza de token anterior, igual que antes; hacia el final, desde la posición 60 más
# o menos, su línea se desdibuja. A la derecha, la cabeza 1.1 tiene dos mitades. En la segunda hay una
# raya limpia, 39 puestos a la izquierda de la diagonal: cada palabra mira a la que *siguió* a su primera
# aparición. Eso es una **cabeza de inducción**, y no necesita saber nada de palabras. En la primera
# mitad todavía no se ha repetido nada, y el peso está en la primera columna.

# %% [markdown]
# ## Sumideros: donde espera una cabeza
#
# Los pesos de la softmax suman 1. Una cabeza que no encuentra nada de su gusto tiene que dejar su peso
# en algún sitio, y los modelos entrenados lo dejan en el primer token, que está a la vista de todas las
# consultas. A esa clave se la llama **sumidero de atención** (*attention sink*). Estas son las cuatro
# cabezas de la capa 1 en números: el peso medio en el primer token y en las claves de inducción, durante
# la primera lectura y durante la segunda.

# %%
for name in ("first", "induction"):
    found = repeated[1].statistics[name][0]
    print(name.ljust(9), found[:, 1:40].mean(-1).round(2), found[:, 40:].mean(-1).round(2))

# %% [markdown]
# Primera lectura: las cabezas 1.0 a 1.2 dejan entre 0,68 y 0,78 de su peso en el primer token, y la 1.3
# deja 0,38. Segunda lectura: entre 0,81 y 0,90 va a la palabra que siguió, y al primer token, casi nada.
# Son las mismas cabezas. El sumidero es el sitio donde esperan hasta que hay algo que copiar, y por eso
# el papel que dice la tabla depende del texto que se ha leído: en un texto sin repeticiones, a estas
# cabezas se las llamaría sumideros.

# %% [markdown]
# ## Ejercicio: la puntuación de inducción
#
# En un texto que se repite cada `period` tokens, la consulta $i$ apareció por primera vez en
# $i - \text{period}$, y la palabra que la siguió está en $i - \text{period} + 1$:
#
# $$\text{induction} = \frac{1}{T - \text{period}} \sum_{i=\text{period}}^{T-1}
# \text{weights}_{i,\,i-\text{period}+1}$$


# %% tags=["question"]
def induction_score(weights, period): ...


# %%
def reference(weights, period):
    rows = np.arange(period, len(weights))
    return weights[rows, rows - period + 1].mean()


check(induction_score, reference, cases=[(repeated[1].weights(h), 40) for h in range(4)])

# %% [markdown]
# ## Apagar una cabeza
#
# Hasta aquí hemos visto adónde miran las cabezas. Si el modelo las *necesita* es otra pregunta, y se
# responde con un experimento: poner a cero la salida de una cabeza, ejecutar el modelo otra vez y medir.
# De eso se encarga una intervención, mientras `capture` observa. Imprimimos la pérdida de la segunda
# lectura y la puntuación de inducción de las cuatro cabezas de la capa 1.


# %%
def without(layer, heads):
    knocked = atento.KnockOut(layer=layer, heads=heads)
    with atento.capture(model, interventions=[knocked]) as changed:
        logits = model(twice)
    induction = changed[1].statistics["induction"][0, :, 40:].mean(-1)
    print(layer, heads, f"{loss(logits, second):.2f}", induction.round(2))


without(1, 1)
without(1, [0, 1])
without(1, [0, 1, 2, 3])
without(2, [0, 1, 2, 3])

# %% [markdown]
# Sin la cabeza 1.1 la pérdida pasa de 0,38 a 1,24; sin dos cabezas, a 3,69; sin las cuatro, a 11,41, tan
# mala como en la primera lectura. Así que la que copia es la capa 1, y sus cuatro cabezas se reparten el
# trabajo. La capa 2 sobra entera: 0,39. Las puntuaciones de inducción no se mueven en ningún caso,
# porque los pesos de una cabeza apagada se siguen calculando; lo único que desaparece es su salida.
#
# Ahora las cabezas de la capa 0, de una en una. Ninguna de ellas mira adonde mira la inducción, y
# ninguna copia nada. ¿Qué esperas que pase?

# %%
for head in range(4):
    without(0, head)

# %% [markdown]
# Dos de las cuatro son imprescindibles, y fíjate en las puntuaciones: sin la cabeza 0.2 o sin la 0.0, las
# de la capa 1 bajan de más de 0,8 a casi nada, aunque nadie ha tocado la capa 1. La inducción se
# hace en dos pasos. La cabeza de token anterior, 0.2, escribe en cada token *qué palabra tenía delante*.
# Luego, en la capa 1, una consulta busca la clave cuya palabra anterior es la suya propia. Si quitas el
# primer paso, el segundo no tiene nada que encontrar. La cabeza 0.0 mira a su propio token y entrega,
# limpio, el dato de qué palabra es: en este modelo, la comparación también necesita eso.

# %% [markdown]
# ## Una predicción, todas las cabezas
#
# Volvamos al té. `sweep` apaga todas las cabezas, una por una, y dice cuánto cambia la log-probabilidad
# de un token. Cada vez ejecuta de nuevo el modelo, con lo mismo con lo que se capturó.

# %%
tea = mini.encode("tea").ids[0]
swept = recording.sweep(token=tea)
print(swept)

# %% [markdown]
# Las dos primeras filas son las cabezas que ya conocemos: sin la 0.2, la log-probabilidad de `tea` baja
# 13,7, es decir, la probabilidad queda dividida por $e^{13{,}7}$, unas 900 000 veces menor. Luego vienen
# cabezas de las capas 1 y 0, con cambios de −1,7 a −0,4. La capa 2 y la cabeza 0.1 no cambian casi nada.
#
# Compáralo ahora con adónde miran. De las cuatro cabezas de la capa 1, ¿cuál le da *menos* peso a `tea`
# (posición 3) desde la última posición? Escribe su número.

# %% tags=["question"]
answer = None

# %%
check(answer, np.argmin([recording[1].weights(head)[7, 3] for head in range(4)]))

# %% [markdown]
# Busca esa cabeza en la tabla de `sweep`: de su capa, es la que *más* importa. Los pesos dicen adónde
# mira una cabeza; lo que se lleva de allí está en sus valores y en su proyección de salida, y cuánto se
# apoya en ello el modelo solo lo dice el experimento. No confundas una cosa con otra cuando leas que un
# modelo «atiende a» algo.
#
# Y una trampa más. ¿Se suman los efectos de las cabezas sueltas?

# %%
for heads in (0, 1, 2, 3, [0, 1, 2, 3]):
    effect = recording.effect(atento.KnockOut(layer=1, heads=heads), token=tea)
    print(heads, f"{effect.change.log_probability:.2f}")

# %% [markdown]
# Una por una, las cuatro cabezas cuestan 1,17 + 0,35 + 0,79 + 1,69 = 4,0. Todas juntas cuestan 12,3, el
# triple: mientras falta una, las demás siguen llevando la respuesta. Las cabezas que hacen el mismo
# trabajo se tapan unas a otras, de modo que un efecto pequeño de una cabeza sola no demuestra que su
# trabajo no haga falta.

# %% [markdown]
# ## Tu propio modelo
#
# Nada de lo anterior es exclusivo de `mini`. Con `pip install "atento[models]"` se lee igual cualquier
# modelo de Hugging Face; sus pesos se descargan la primera vez, así que estas líneas están para copiarlas,
# no para ejecutarlas aquí:
#
# ```python
# from transformers import AutoModelForCausalLM, AutoTokenizer
#
# name = "gpt2"  # o "meta-llama/Llama-3.2-1B", o una carpeta tuya
# tokenizer = AutoTokenizer.from_pretrained(name)
# model = AutoModelForCausalLM.from_pretrained(name).eval()
#
# with atento.capture(model) as recording:
#     model(**tokenizer("my friend drinks tea and my friend drinks", return_tensors="pt"))
# recording.name_tokens(tokenizer)
# print(recording.summary())
# atento.save(recording, "gpt2.html")
# ```
#
# Sin `attn_implementation="eager"` y sin ganchos (*hooks*); los codificadores como BERT se cargan con
# `AutoModel`. Desde la línea de órdenes es
# `atento inspect --model gpt2 --text "..." --out gpt2.html`; sin `--model` lee con `mini` y no necesita
# PyTorch.

# %% [markdown]
# ## Lo que ya sabes
#
# - `capture` guarda consultas, claves y log-sum-exp, y con ellos se puede volver a calcular cualquier peso.
# - Una cabeza de token anterior, un sumidero y una cabeza de inducción se reconocen cada uno por una media
#   de pesos.
# - La inducción se hace en dos pasos: una capa marca cada token con lo que tenía delante, y la siguiente
#   busca esa marca.
# - Los pesos dicen adónde mira una cabeza. Si importa, solo lo dice una intervención, y los efectos
#   sueltos no se suman.
#
# ## Para seguir
#
# - Cambia `KnockOut` por `atento.Temperature(layer=1, temperature=4.0)`, que suaviza los pesos sin quitar
#   ninguna cabeza.
# - Escribe una frase tuya que se repita, en español o en inglés. ¿Cuándo falla la copia?
# - Lee el mismo texto con GPT-2 y busca sus cabezas de inducción.
#
# ## Fuentes
#
# - Olsson et al. 2022, *In-context Learning and Induction Heads*, arXiv 2209.11895 (la puntuación con
#   tokens aleatorios repetidos; el circuito en dos pasos).
# - Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*, transformer-circuits.pub (cómo
#   se componen cabezas de dos capas).
# - Xiao et al. 2023, *Efficient Streaming Language Models with Attention Sinks*, arXiv 2309.17453,
#   sección 3.
# - Michel et al. 2019, *Are Sixteen Heads Really Better than One?*, arXiv 1905.10650 (apagar cabezas).
# - Jain y Wallace 2019, *Attention is not Explanation*, arXiv 1902.10186 (pesos y efectos).
