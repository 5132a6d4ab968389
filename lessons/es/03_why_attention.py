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
# # 3 · Por qué la atención
#
# Antes de la atención, una red que traducía leía la frase entera, la guardaba en *un solo vector* y
# a partir de él escribía la traducción. Vas a ver cómo olvida ese vector, a conocer la idea de 2014
# que acabó con el problema y a entrenar las dos versiones en medio minuto: la misma red, con y sin
# una mirada atrás. Unos 20 minutos; necesitas la softmax de la lección 1 y PyTorch.

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
from torch.nn import functional

from atento.lessons import check
from atento.nn import AdditiveAttention
from atento.positions import sinusoidal

torch.set_num_threads(1)

# %% [markdown]
# ## Un lector con un solo bolsillo
#
# Una red recurrente (RNN) lee palabra a palabra. Tiene un estado de tamaño fijo, y cada palabra
# hace uno nuevo a partir del viejo:
#
# $$h_t = f(h_{t-1}, x_t)$$
#
# Tras la última palabra, $h_T$ es todo lo que queda de la frase. Una segunda RNN, el
# *decodificador*, arranca con ese estado y escribe. Este es uno de esos lectores, una GRU con un
# estado de 48 números.

# %%
torch.manual_seed(3)
reader = nn.GRU(48, 48, batch_first=True)

# %% [markdown]
# **Pregunta 1.** ¿Cuántos números entrega para una frase de 3, de 18 y de 100 palabras? Responde
# con una lista de tres.

# %% tags=["question"]
answer = None

# %%
check(answer, [reader(torch.zeros(1, words, 48))[1].numel() for words in (3, 18, 100)])

# %% [markdown]
# ## ¿Qué queda de la primera palabra?
#
# La influencia se puede medir: cambia un poco una palabra y mira cuánto cambia el último estado.
# Eso es un gradiente, $\lVert \partial h_T / \partial x_t \rVert$, y para calcularlo no hace falta
# entrenar nada. Con 50 palabras, de media sobre 64 frases de vectores al azar:

# %%
words = torch.randn(64, 50, 48, requires_grad=True)
states, _ = reader(words)
states[:, -1].sum().backward()
influence = words.grad.norm(dim=-1).mean(0)
(influence / influence[-1])[[49, 48, 44, 39, 29, 0]]

# %% [markdown]
# La última palabra cuenta 1, y lo que ves son la última, la anterior y las que están 5, 10, 20 y 49
# palabras atrás. A diez palabras queda el 0,5 %; a veinte, el 0,004 %; de la primera,
# $3 \cdot 10^{-11}$. Un bolsillo más grande no lo arregla: cada paso multiplica la influencia por
# un factor menor que 1, y el producto de muchos de esos factores se queda en nada.
#
# El entrenamiento puede alargar esta memoria, pero cada palabra es una lucha, y el gradiente que
# tendría que enseñárselo es ese mismo número diminuto.
#
# ## La idea: guardarlo todo y volver a mirar
#
# Bahdanau, Cho y Bengio (2014) guardaron *todos* los estados del lector. Cada vez que el
# decodificador va a escribir una palabra, su propio estado $q$ le pregunta a cada estado $k_j$ del
# lector: «¿me haces falta ahora?». Una red pequeña da la puntuación, una softmax convierte las
# puntuaciones en pesos y la respuesta es una suma ponderada:
#
# $$s_j = v^\top \tanh(W q + U k_j), \qquad \text{pesos} = \text{softmax}(s), \qquad
# \text{contexto} = \sum_j \text{pesos}_j\, k_j$$
#
# Se llama atención *aditiva* porque consulta y clave se suman. Poco después, un simple producto
# $q \cdot k$ ocupó el lugar de la red pequeña (Luong, 2015), y así sigue en el Transformer. Lo
# demás no ha cambiado.
#
# **Ejercicio 2.** Escríbela: `query` es (T, 4), `key` es (S, 6), `W` es (5, 4), `U` es (5, 6) y `v`
# es (5,); el contexto es (T, 6). Pista: en `(query @ W.T)[:, None]` ya hay un eje para las claves.


# %% tags=["question"]
def additive(query, key, W, U, v): ...


# %%
torch.manual_seed(3)
attend = AdditiveAttention(4, 6, hidden_dim=5).double().requires_grad_(False)
learned = attend.query.weight, attend.key.weight, attend.score.weight[0]
query, key = torch.randn(3, 4).double(), torch.randn(7, 6).double()
cases = [(query, key, *learned), (query[:1], key[:2], *learned)]
check(additive, lambda query, key, *_: attend(query, key), cases=cases, tolerance=1e-12)

# %% [markdown]
# Y ahora otra vez la influencia de cada palabra, pero sobre lo que recibe el decodificador: el
# contexto, cuando pregunta el último estado.

# %%
torch.manual_seed(3)
look = AdditiveAttention(query_dim=48, key_dim=48, hidden_dim=48)
words.grad = None
states, _ = reader(words)
look(states[:, -1], states).sum().backward()
with_look = words.grad.norm(dim=-1).mean(0)
(with_look / with_look.max())[[49, 48, 44, 39, 29, 0]]

# %% alt="Influencia de cada palabra según lo atrás que está, en un eje logarítmico: la línea de trazos de h_T cae en línea recta; la de la atención se mantiene llana."
fig, ax = plt.subplots(figsize=(5, 3))
ax.semilogy(range(50), influence.flip(0), "--", label="h_T")
ax.semilogy(range(50), with_look.flip(0), label="softmax(s) k")
ax.set(xlabel="T − t", ylabel="‖∂ / ∂x‖")
ax.legend()
plt.show()

# %% [markdown]
# A la izquierda, la última palabra; a la derecha, la primera. La línea de trazos de $h_T$ cae en
# línea recta sobre un eje logarítmico, o sea, exponencialmente. La de la atención se mantiene llana
# hasta la primera palabra, porque cada palabra está a *un solo paso*, por larga que sea la frase. Y
# todavía no se ha entrenado nada.
#
# ## Una tarea con listas tan largas como se quiera
#
# ¿Importa esto en la práctica? Hace falta una traducción cuya longitud se pueda elegir. La nuestra
# da la vuelta a las fechas: de día.mes.año a año-mes-día.


# %%
def draw(lists, dates, seed):
    generator = torch.Generator().manual_seed(seed)
    limits = torch.tensor([28, 12, 30])
    numbers = (torch.rand(lists, dates, 3, generator=generator) * limits).long()
    numbers += torch.tensor([1, 1, 0])
    return numbers.flatten(1), numbers.flip(-1).flatten(1)


source, target = draw(1, 2, seed=7)
for order, mark in ((source[0], "."), (target[0], "-")):
    print(*(mark.join(f"{number:02}" for number in date) for date in order.view(-1, 3)))

# %% [markdown]
# Cada número es una palabra, tres por fecha. Todas las fechas son tan fáciles como la primera; si
# algo falla en las listas largas, es que no se recuerda, o no se encuentra, lo que se ha leído.
#
# ## La misma red, dos veces
#
# Lector y escritor son GRU de 48 rasgos. El escritor arranca con el último estado del lector. La
# única diferencia está en una línea: de dónde sale su contexto. Sin atención es otra vez el último
# estado, el mismo en todos los pasos; con ella, la suma ponderada que acabas de escribir.


# %%
class Translator(nn.Module):
    def __init__(self, attends):
        super().__init__()
        self.read, self.written = nn.Embedding(31, 48), nn.Embedding(31, 48)
        self.reader = nn.GRU(48, 48, batch_first=True)
        self.writer = nn.GRU(48, 48, batch_first=True)
        self.attend = AdditiveAttention(48, 48, 48) if attends else None
        self.output = nn.Linear(2 * 48, 30)

    def forward(self, source, before):
        keys, last = self.reader(placed(self.read(source)))  # (B, S, C), (1, B, C)
        queries, _ = self.writer(placed(self.written(before)), last)  # (B, T, C)
        context = self.attend(queries, keys) if self.attend else last[0][:, None]
        return self.output(torch.cat([queries, context.expand_as(queries)], -1))


# %% [markdown]
# `placed` les dice a las dos redes en qué sitio está cada palabra, sumando ondas de distinta
# longitud (en la lección 5 esos vectores se aprenden; aquí las ondas ahorran entrenamiento).
# `before` es lo que ya está escrito: una señal de comienzo (el número 30) y luego el objetivo sin
# su final.


# %%
def placed(x):
    return x + torch.tensor(sinusoidal(x.shape[1], 48), dtype=torch.float32)


def shifted(target):
    return functional.pad(target[:, :-1], (1, 0), value=30)


shifted(target).tolist()

# %% [markdown]
# El entrenamiento, en diez líneas: listas de 1 a 4 fechas, 350 pasos, y cada modelo ve las mismas
# listas en el mismo orden.


# %%
def trained(attends, steps=350):
    torch.manual_seed(3)
    model = Translator(attends)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for step in range(steps):
        source, target = draw(48, 1 + step % 4, seed=step)
        scores = model(source, shifted(target))
        optimizer.zero_grad()
        functional.cross_entropy(scores.flatten(0, 1), target.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


# %% [markdown]
# La celda siguiente entrena los dos: es el único momento de la lección en que hay que esperar, de
# 15 a 30 segundos.

# %% tags=["varies"]
models = {"h_T": trained(attends=False), "softmax(s) k": trained(attends=True)}
{name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}

# %% [markdown]
# ## Qué pasa cuando las listas crecen
#
# Ahora escriben por su cuenta, cada número a partir de los que ellos mismos han escrito. Lo que
# cuenta es la proporción de fechas sin ningún error, en 50 listas nuevas de cada longitud. T es la
# longitud de la lista, tres números por fecha, y en el entrenamiento no hubo nunca más de 4 fechas.


# %%
@torch.no_grad()
def right(model, dates):
    source, target = draw(50, dates, seed=1000 + dates)
    before = torch.full((50, 1), 30)
    for _ in range(3 * dates):
        following = model(source, before)[:, -1:].argmax(-1)
        before = torch.cat([before, following], 1)
    same = (before[:, 1:] == target).view(50, dates, 3)
    return same.all(-1).float().mean().item()


# %% tags=["varies"] alt="Proporción de fechas sin ningún error según la longitud T de la lista: con atención, cerca de 1 hasta doce números, y luego baja en la zona gris; sin ella, a trazos, cerca de 0 desde tres fechas."
lengths = [1, 2, 3, 4, 5, 6, 8]
shares = {name: [right(model, n) for n in lengths] for name, model in models.items()}
fig, ax = plt.subplots(figsize=(5, 3))
for (name, share), style in zip(shares.items(), ("o--", "s-"), strict=True):
    ax.plot([3 * n for n in lengths], share, style, label=name)
ax.axvspan(12.5, 24.5, color="#eeeeee")
ax.set(xlabel="T", ylim=(-0.03, 1.05))
ax.legend()
plt.show()
{name: [round(one, 2) for one in share] for name, share in shares.items()}

# %% [markdown]
# Sin atención (línea de trazos), una fecha sola sale bien unas cuatro veces de cada cinco; de dos,
# tres de cada diez; a partir de tres, menos de una de cada diez. Todo tiene que pasar por 48
# números, y la red no aprende a meter más en ellos. Con atención salen bien prácticamente todas,
# hasta la lista más larga del entrenamiento.
#
# En la zona gris, con listas más largas que las del entrenamiento, la atención también se pierde,
# aunque mucho más despacio. Puede mirar adonde quiera, pero *adónde* mirar se aprende, y nadie le
# ha enseñado nunca una quinta fecha.

# %%
print(min(shares["softmax(s) k"][:4]) > 0.85, max(shares["h_T"][2:]) < 0.3)

# %% [markdown]
# ## Adónde miró
#
# Los pesos se pueden leer: forman una *alineación*, con una fila por cada número escrito y una
# columna por cada número leído. ¿Qué aspecto debería tener?
#
# **Pregunta 3.** Para escribir el número $k$ (contando desde 0), ¿a qué sitio del origen tiene que
# mirar el escritor? Escríbelo como función. El sitio 0 del objetivo es el primer año, que en el
# origen está en el sitio 2.


# %% tags=["question"]
def place(k): ...


# %%
order = torch.arange(12).view(4, 3).flip(-1).flatten()
check(place, lambda k: order[k], cases=[(k,) for k in range(12)])

# %% [markdown]
# Y aquí es donde mira de verdad, con una lista de cuatro fechas que no ha visto nunca:

# %% tags=["varies"] alt="Pesos de los 12 números escritos, en filas, sobre los 12 números leídos: cuatro diagonales cortas que suben de izquierda a derecha, una por fecha."
model = models["softmax(s) k"]
source, target = draw(1, 4, seed=99)
with torch.no_grad():
    keys, last = model.reader(placed(model.read(source)))
    queries, _ = model.writer(placed(model.written(shifted(target))), last)
    _, weights = model.attend(queries, keys, return_weights=True)
fig, ax = plt.subplots(figsize=(4.5, 4.5))
ax.imshow(weights[0], cmap="Blues", vmin=0, vmax=1)
ax.set_xticks(range(12), [f"{n:02}" for n in source[0]])
ax.set_yticks(range(12), [f"{n:02}" for n in target[0]])
plt.show()

# %% [markdown]
# Cuatro diagonales cortas que suben de izquierda a derecha, una por fecha: año, mes y día se buscan
# al revés, y luego el escritor pasa a la fecha siguiente. Nadie le dijo el orden. Por eso convenció
# tanto esta idea en 2014: una traducción que enseña de qué palabras viene.
#
# ¿En cuántas de las 12 filas cae el mayor peso en el sitio que tú calculaste?

# %%
print((weights[0].argmax(-1) == order).sum().item() >= 9)

# %% [markdown]
# En las doce, cuando se escribió esto. Con otras semillas fueron once, y la celda pide nueve.
#
# ## El experimento entero
#
# El proyecto guarda la versión grande de todo esto: fechas dichas con palabras, en español y en
# inglés («el uno de mayo de dos mil uno», «the fifth of march nineteen ninety nine»), listas de
# hasta 6 en el entrenamiento, tres modelos, 800 pasos y unos seis minutos con dos núcleos. En una
# copia del repositorio, `make why` lo ejecuta y dibuja las dos figuras. Una de las veces salió
# esto, en porcentaje de fechas sin ningún error:
#
# | fechas | GRU, un vector | GRU con atención | Transformer |
# |---|---|---|---|
# | 1 | 85,0 % | 99,5 % | 100,0 % |
# | 2 | 8,7 % | 99,5 % | 99,3 % |
# | 3 | 1,3 % | 98,3 % | 99,0 % |
# | 4 | 1,0 % | 98,5 % | 98,0 % |
# | 6 | 0,6 % | 91,2 % | 94,1 % |
# | 8 | 0,1 % | 56,2 % | 58,1 % |
# | 12 | 0,0 % | 30,4 % | 34,3 % |
#
# Otra ejecución con la misma semilla, que el propio experimento deja anotada, dio 93 %, 17 % y
# 3 % en las tres primeras filas de la primera columna: cifras así se mueven con cada redondeo, y lo
# que se mantiene es el panorama. Al segundo modelo la atención le cuesta 16 448 parámetros más,
# un 7 %. Y más allá de 6 fechas se pierden todos, también el Transformer.
#
# ## Lo que ya sabes
#
# - Un codificador–decodificador sin atención entrega un solo vector, sea cual sea la longitud, y la
#   influencia de las primeras palabras se apaga de forma exponencial.
# - La atención guarda todos los estados y les pregunta de nuevo en cada paso: cada palabra está a
#   un paso.
# - Los pesos son una alineación que se puede leer, y se aprenden: lo que el entrenamiento no
#   enseñó, la atención no lo encuentra.
#
# **Para seguir.** Entrena con hasta 8 fechas (`1 + step % 8`): ¿dónde se dobla ahora la curva?
# Quita `placed`: ¿cuántos pasos necesita entonces la atención? Y si todo el trabajo lo hace mirar,
# ¿para qué hacen falta ya las GRU? Esa pregunta llevó al Transformer de la lección 5.
#
# **Fuentes.** Bahdanau, Cho y Bengio 2014, sección 3.1 y apéndice A.1.2 (arXiv 1409.0473). Cho et
# al. 2014, la GRU y el codificador–decodificador, sección 2 (1406.1078). Sutskever et al. 2014
# (1409.3215). Luong et al. 2015, atención después del estado, como aquí, sección 3.1 (1508.04025).
