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
# # 8 · Haz la tuya
#
# Cabezas agrupadas, RoPE, ALiBi, ventanas, softcap: la atención de los modelos de hoy es la
# ecuación de 2017 con unas pocas líneas cambiadas. Vas a escribir esas líneas en NumPy, un
# mecanismo tras otro, y a compararlas con una respuesta de la que te puedes fiar. Al final harás un
# mecanismo que atento no trae y demostrarás que hace lo que querías. Unos 25 minutos; necesitas la
# ecuación de la lección 1 y algo de NumPy.

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
from atento.masks import Causal, Rule, Window
from atento.positions import Alibi, DistanceBias, alibi, rotary

# %% [markdown]
# ## Dónde cabe una idea
#
# Esta es la ecuación entera, con todos los sitios en los que se puede meter algo:
#
# $$\text{pesos} = \text{softmax}\big(\text{máscara}(\text{softcap}(Q K^\top \cdot \text{escala})
# + \text{sesgo})\big), \qquad \text{salida} = \text{pesos}\; V$$
#
# | sitio | quién trabaja ahí |
# |---|---|
# | $Q$ y $K$, antes de multiplicarse | cabezas agrupadas, RoPE |
# | el sesgo, que se suma a las puntuaciones | ALiBi |
# | la máscara: quién puede mirar a quién | causal, ventana |
# | softcap: cuánto puede crecer una puntuación | softcap |
#
# Empezamos por la ecuación sin ninguno de ellos. Es el código que vas a cambiar.


# %%
def softmax(scores):
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def scaled_scores(query, key):
    return query @ key.mT / np.sqrt(query.shape[-1])


def plain(query, key, value):
    return softmax(scaled_scores(query, key)) @ value


# %% [markdown]
# ## Un oráculo
#
# ¿Cómo sabes que un mecanismo nuevo está bien? Lo comparas con algo lento y sencillo que se sabe
# correcto: un *oráculo*. El nuestro es `atento.attention(..., engine="dense")`, la ecuación tal
# como está escrita arriba. Tres costumbres afinan la comparación:
#
# - **float64**, para que el redondeo ande por $10^{-16}$. Así $10^{-12}$ es un límite estricto: lo
#   que se aparte más no es redondeo, es un error.
# - **Tamaños todos distintos.** Con 7 tokens y 7 rasgos, un eje cambiado pasa inadvertido.
# - **Una comparación que pueda fallar.** Verás la nuestra en rojo antes de creértela.

# %%
draw = np.random.default_rng(8)
query = draw.normal(size=(6, 7, 4))  # (head, token, feature)
key, value = draw.normal(size=(6, 7, 4)), draw.normal(size=(6, 7, 5))
BOUND = 1e-12


def away(mine, oracle):
    return float(np.abs(mine - oracle).max())


def agree(mine, oracle):
    return away(mine, oracle) < BOUND


agree(plain(query, key, value), atento.attention(query, key, value, engine="dense"))

# %% [markdown]
# `True`: ningún número se aparta más de una millonésima de millonésima. Y ahora, que falle. Olvida
# la raíz cuadrada, el descuido más corriente de todos:

# %%
forgotten = softmax(query @ key.mT) @ value
round(away(forgotten, atento.attention(query, key, value)), 3)

# %% [markdown]
# La salida se aparta en 0,7, y un redondeo se apartaría en 0,0000000000000001. Así que la
# comparación distingue lo que está bien de lo que está mal, y podemos seguir.
#
# ## Cabezas agrupadas
#
# Un modelo que escribe guarda en memoria las claves y los valores de todos los tokens anteriores.
# Esa *caché* son $2 \cdot \text{capas} \cdot H_{kv} \cdot T \cdot d$ números, y $H_{kv}$, el número
# de cabezas de claves, es el factor más fácil de encoger: que varias cabezas de consultas compartan
# una de claves. Con 32 cabezas de consultas de 128 rasgos en 32 capas, a 8192 tokens y 2 bytes por
# número, esta es la caché en GB para 32, 8 y 1 cabezas de claves:

# %%
[round(2 * 32 * heads * 8192 * 128 * 2 / 1e9, 2) for heads in (32, 8, 1)]

# %% [markdown]
# De 4,29 a 1,07 GB con 8 cabezas de claves: así funciona Llama 3. Con una sola se llama atención
# *multi-query*.
#
# ¿Qué cabeza de claves le toca a cada cabeza de consultas? Con $H_q$ cabezas de consultas y
# $H_{kv}$ de claves, cada una de claves la comparten cabezas de consultas *consecutivas*:
#
# $$\text{la cabeza } h \text{ lee la cabeza de claves } \lfloor h \,/\, (H_q / H_{kv}) \rfloor$$
#
# **Ejercicio 1.** Escribe `grouped`. `query` es (6, 7, 4), `key` (2, 7, 4) y `value` (2, 7, 5);
# `plain` quiere tantas cabezas de claves como de consultas. Pista: `np.repeat` tiene un `axis`.


# %% tags=["question"]
def grouped(query, key, value): ...


# %%
two = key[:2], value[:2]
check(grouped, atento.attention, cases=[(query, *two), (query[:4], key[:1], value[:1])])

# %% [markdown]
# Aquí hay una trampa con nombre propio: `np.tile` también hace 6 cabezas de 2, y todas las formas
# salen bien. Pero las coloca 0 1 0 1 0 1 en lugar de 0 0 0 1 1 1:

# %%
tiled = [np.tile(x, (3, 1, 1)) for x in two]
round(away(plain(query, *tiled), atento.attention(query, *two)), 3)

# %% [markdown]
# Se aparta en 1,6 y nadie protesta. Hay bibliotecas que sí cuentan sus grupos en este orden, así
# que unos pesos llevados de una a otra pueden dar mal resultado en silencio. Las formas no
# demuestran nada; los números, sí.
#
# ## RoPE: posiciones que giran
#
# La atención no sabe en qué orden están sus tokens. La *incrustación rotatoria de posición* se lo
# dice girando cada consulta y cada clave un ángulo que crece con su posición. Los rasgos van por
# parejas $(a, b)$; la pareja $i$ de $d / 2$, en la posición $t$, gira
# $\theta = t \cdot 10000^{-2i/d}$:
#
# $$(a, b) \;\to\; (a \cos\theta - b \sin\theta,\;\; b \cos\theta + a \sin\theta)$$
#
# La primera pareja gira un radián entero a cada paso; las últimas, casi nada: son las agujas de un
# reloj que marca a la vez los segundos y los años.


# %%
def turn(x, start=0):
    half = x.shape[-1] // 2
    speed = 10_000.0 ** (-np.arange(half) / half)
    angle = (start + np.arange(x.shape[-2]))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


agree(turn(query), rotary(query))

# %% [markdown]
# ¿Y por qué girar, precisamente? Toma un mismo vector en cinco posiciones y mira los productos:

# %%
same = np.tile(query[0, :1], (5, 1))
(turn(same) @ turn(same).T).round(3)

# %% [markdown]
# Léelo por diagonales: en cada una está el mismo número, 6,784 donde un token se encuentra consigo
# mismo. Dos vectores que giran juntos conservan el ángulo que forman, así que una puntuación
# depende solo de la *distancia* entre consulta y clave. Da igual dónde empiece la frase: si todas
# las posiciones se corren 100, no cambia nada.

# %%
moved = softmax(scaled_scores(turn(query, 100), turn(key, 100))) @ value
agree(moved, plain(turn(query), turn(key), value))

# %% [markdown]
# ## ALiBi: lo lejano sale caro
#
# La *atención con sesgos lineales* va por otro camino: deja en paz consultas y claves, y baja cada
# puntuación según la distancia que tiene que salvar.
#
# $$\text{sesgo}_{h,i,j} = -m_h \cdot |i - j|, \qquad m_h = 2^{-8 h / H}, \quad h = 1 \dots H$$
#
# **Ejercicio 2.** Escribe `linear_bias(num_heads, tokens)`: el arreglo (cabeza, consulta, clave).


# %% tags=["question"]
def linear_bias(num_heads, tokens): ...


# %%
check(linear_bias, alibi, cases=[(8, 7), (2, 5)])

# %% [markdown]
# Cada cabeza tiene su pendiente, y por eso cada una ve un trecho distinto del texto. ¿Cuánto miran
# hacia atrás ocho cabezas, de media, si todas las puntuaciones son iguales y solo decide el sesgo?
# La distancia media es $\sum_j \text{peso}_{ij}\,|i - j|$, para el último de 64 tokens:

# %%
empty = np.zeros((8, 64, 4))
_, weights = atento.attention(empty, empty, empty, bias=Alibi(8), return_weights=True)
(weights[:, -1] @ np.arange(63, -1, -1)).round(1)

# %% [markdown]
# De 1,5 tokens en la primera cabeza a 30,2 en la última, que son casi los 31,5 de una cabeza sin
# sesgo. Nadie ha entrenado esto: está ahí desde el primer paso.
#
# `Alibi(8)` es una regla, no un arreglo. Da el sesgo de cualquier bloque de las puntuaciones
# cuando un motor se lo pide, así que un texto largo nunca necesita el (cabeza, consulta, clave)
# entero.
#
# ## Una ventana, y una consulta que no tiene a quién mirar
#
# Una máscara dice quién puede mirar: `True` = atiende. Una ventana que se desliza sobre el pasado
# son dos comparaciones:
#
# $$0 \le i - j \le \text{izquierda}$$


# %%
def window(tokens, left):
    back = np.arange(tokens)[:, None] - np.arange(tokens)
    return (back >= 0) & (back <= left)


mask = window(7, left=2)
np.array_equal(mask, (Causal() & Window(left=2)).dense(7, 7)), int(mask.sum())

# %% [markdown]
# De 49 pares quedan 18: el 36,7 %. Para 1000 tokens y 255 claves a la izquierda es el 22,3 %, y un
# motor por bloques no llega a calcular los demás.
#
# En la fórmula, una puntuación prohibida pasa a ser $-\infty$, cuya exponencial es 0:


# %%
def masked(query, key, value, mask):
    return softmax(np.where(mask, scaled_scores(query, key), -np.inf)) @ value


agree(masked(query, key, value, mask), atento.attention(query, key, value, mask=mask))

# %% [markdown]
# Correcto, pero solo mientras todos puedan mirar a alguien. Prohíbele todo al primer token, como
# hace el relleno de un lote, y compara otra vez:

# %%
nobody = mask.copy()
nobody[0] = False
with np.errstate(invalid="ignore"):
    mine = masked(query, key, value, nobody)
mine[0, 0], atento.attention(query, key, value, mask=nobody)[0, 0]

# %% [markdown]
# La nuestra dice `nan`: la softmax le ha restado $-\infty$ a $-\infty$. Un solo `nan` en un lote
# echa a perder todos sus gradientes. El oráculo responde con ceros, y eso es una promesa de atento
# en todos sus motores: quien no puede ver nada no recibe nada.
#
# Es la cuarta costumbre: **prueba el caso vacío**. Ninguna clave permitida, un solo token, una sola
# cabeza.
#
# ## Softcap, y por qué importa el orden
#
# Gemma 2 acota sus puntuaciones antes de la softmax, para que no se desboquen durante el
# entrenamiento:
#
# $$\text{softcap}(s) = c \cdot \tanh(s / c)$$
#
# Las puntuaciones pequeñas pasan casi intactas; las grandes se acercan a $c$ y nunca lo superan.
#
# **Ejercicio 3.** Escribe la atención con máscara *y* con tope. La ecuación del principio dice en
# qué orden van.


# %% tags=["question"]
def capped(query, key, value, mask, cap): ...


# %%
def oracle(query, key, value, mask, cap):
    return atento.attention(query, key, value, mask=mask, softcap=cap)


check(capped, oracle, cases=[(3 * query, key, value, mask, 2.0)])

# %% [markdown]
# ¿Y si se hace al revés? $\tanh(-\infty) = -1$, así que una puntuación que estaba prohibida vuelve
# convertida en $-c$, un número cualquiera:

# %%
late = np.where(mask, scaled_scores(query, key), -np.inf)
weights = softmax(2.0 * np.tanh(late / 2.0))
weights[0, 0].round(3)

# %% [markdown]
# El primer token solo puede verse a sí mismo y, sin embargo, solo 0,179 de su peso es suyo: el
# resto se ha escapado a seis tokens del futuro, 0,137 a cada uno. Un modelo entrenado así brillaría
# en el entrenamiento y fallaría al escribir.
#
# ## Todo junto
#
# Cinco ideas, una ecuación, cada una en su sitio:


# %%
def modern(query, key, value, mask, bias, cap):
    shared = len(query) // len(key)
    key, value = (np.repeat(x, shared, axis=0) for x in (key, value))
    scores = scaled_scores(turn(query), turn(key))
    scores = cap * np.tanh(scores / cap) + bias
    return softmax(np.where(mask, scores, -np.inf)) @ value


mine = modern(query, *two, mask, alibi(6, 7), 2.0)
turned = rotary(query), rotary(two[0]), two[1]
rules = {"mask": Causal() & Window(left=2), "bias": Alibi(6), "softcap": 2.0}
engines = "dense", "streaming"
[agree(mine, atento.attention(*turned, **rules, engine=name)) for name in engines]

# %% [markdown]
# Los dos motores están de acuerdo contigo: `dense`, que guarda la matriz entera, y `streaming`, que
# trabaja por bloques y nunca la tiene. La vista enseña todos los pasos en el orden de la ecuación.
# Elige la cabeza 4, que tiene la pendiente más empinada, 1/2 (para seis cabezas, `alibi` toma las
# pendientes de cuatro y luego dos de las intermedias). Pasa de las puntuaciones acotadas, todas
# entre −2 y 2, a las que llevan sesgo, que se hunden al alejarse de la diagonal, y a las que llevan
# máscara, donde cada fila conserva tres claves como mucho.

# %% tags=["varies"]
atento.show(atento.trace(*turned, **rules))

# %% [markdown]
# ## Una tuya
#
# Ahora, algo que atento no trae. ALiBi se apaga de forma exponencial: con cada token de distancia,
# un peso encoge por el mismo factor. De la memoria humana se dice que se apaga como una potencia,
# deprisa al principio y luego cada vez más despacio. Pidamos, pues:
#
# $$\text{peso}_{ij} \;\propto\; \frac{e^{\,s_{ij}}}{1 + |i - j|}, \qquad
# s = Q K^\top / \sqrt{d}$$
#
# **Ejercicio 4.** Escribe `fading(query, key, value)` directamente a partir de esta definición:
# exponenciales, divididas entre $1 + |i - j|$, divididas entre su suma sobre las claves, por los
# valores. Sin softmax y sin sesgo.


# %% tags=["question"]
def fading(query, key, value): ...


# %% [markdown]
# La comprobación va por otro camino. Multiplicar una exponencial por un factor $f$ es lo mismo que
# sumar $\log f$ a la puntuación, así que el oráculo puede calcular tu mecanismo con un sesgo de
# $-\log(1 + |i - j|)$. Dos caminos que no comparten ni una línea y coinciden hasta $10^{-12}$: en
# ingeniería, una demostración es esto.


# %%
def by_bias(query, key, value):
    tokens = query.shape[-2]
    far = np.abs(np.arange(tokens)[:, None] - np.arange(tokens))
    return atento.attention(query, key, value, bias=-np.log1p(far))


cases = [(query, key, value), (query[0], key[0], value[0])]
check(fading, by_bias, cases=cases, tolerance=BOUND)

# %% [markdown]
# ¿Hace lo que queríamos? Una consulta, 200 claves, todas las puntuaciones iguales: ¿cuánto peso
# queda a cada distancia, al lado del de ALiBi con pendiente 1/16?

# %% alt="Peso según la distancia, con los dos ejes logarítmicos: la potencia es una recta; la exponencial, a trazos, va por encima en el centro y luego se despeña fuera de la figura."
far = np.arange(200)
power, exponential = 1 / (1 + far), np.exp(-far / 16)
fig, ax = plt.subplots(figsize=(5, 3))
ax.loglog(1 + far, power / power.sum(), label="1 / (1 + |i − j|)")
ax.loglog(1 + far, exponential / exponential.sum(), "--", label="exp(−|i − j| / 16)")
ax.set(xlabel="1 + |i − j|", ylim=(1e-6, 1))
ax.legend()
plt.show()

# %% [markdown]
# En ejes logarítmicos la potencia es una recta: a distancia 199, una clave conserva
# 1/200 del peso de la más cercana. La exponencial (a trazos) va por encima en el centro, luego se
# despeña y sale de la figura antes de la distancia 199.
#
# La idea ya anda por el mundo: con dos números aprendidos por cabeza, $-a \log(1 + b\,|i - j|)$, es
# la variante logarítmica de KERPLE (Chi et al. 2022).
#
# Y ya funciona a lo grande. `bias=` acepta cualquier objeto con un método `bind` que responda con
# un `DistanceBias`: un número por cada distancia, no por cada par. Con él, tu mecanismo recorre un
# texto largo en el motor por bloques, sin una matriz de T × T. Para 4096 tokens, esa matriz
# ocuparía 134 MB en float64; el sesgo ocupa estos kilobytes:


# %%
class Fading:
    def bind(self, shape, xp, device, dtype):
        *_, Tq, Tk = shape
        far = xp.abs(xp.arange(1 - Tq, Tk, dtype=dtype, device=device))
        return DistanceBias(-xp.log1p(far), (Tq, Tk))


T = 4096
long = draw.normal(size=(T, 16))
output = atento.attention(long, long, long, bias=Fading(), engine="streaming")
bias = Fading().bind((T, T), np, "cpu", np.float64)
bias.values.nbytes / 1000

# %% [markdown]
# 65,5 kB, porque hay 8191 distancias. ¿Está bien la respuesta larga? Las últimas cien consultas se
# pueden calcular con `engine="dense"` y comparar las filas:

# %%
rows = slice(T - 100, T)
part = bias.tile(range(T - 100, T), range(T))
oracle_rows = atento.attention(long[rows], long, long, bias=part, engine="dense")
agree(output[rows], oracle_rows)

# %% [markdown]
# ## Lo que ya sabes
#
# - Los mecanismos se distinguen por *dónde* tocan la ecuación: antes del producto (cabezas
#   agrupadas, RoPE), en las puntuaciones (softcap, ALiBi) o en quién puede mirar (máscara). El
#   orden forma parte de la definición.
# - Un factor sobre los pesos es un logaritmo sobre las puntuaciones. Así, muchas ideas acaban
#   siendo un sesgo.
# - Comprueba en float64 contra un oráculo, con tamaños todos distintos, con una fila vacía y con un
#   error cometido adrede. Las formas no demuestran nada.
#
# **Para seguir.** `Rule` es una máscara a tu medida, escrita como función de las posiciones y
# consultada bloque a bloque. Esta deja que una consulta vea las claves a distancia 0, 1, 2, 4, 8…:
# unas $\log_2 T$. ¿Cuántos pasos necesita la información para ir del primer token al último?


# %%
def powers_of_two(_batch, _head, query, key):
    back = query - key
    return (back >= 0) & (back & (back - 1) == 0)


Rule(powers_of_two).dense(9, 9).astype(int)

# %% [markdown]
# En PyTorch todo esto está en un módulo, listo para entrenar:
# `MultiHeadAttention(512, 8, num_kv_heads=2, position=Rotary(), mask=Causal() & Window(left=255), softcap=50.0)`,
# de `atento.nn`.
#
# **Fuentes.** Vaswani et al. 2017, *Attention Is All You Need*, sección 3.2 (arXiv 1706.03762).
# Shazeer 2019, atención multi-query, sección 3 (1911.02150). Ainslie et al. 2023, consultas
# agrupadas, sección 2.2 (2305.13245). Su et al. 2021, RoPE, sección 3.2 (2104.09864). Press et al.
# 2021, ALiBi, sección 3 (2108.12409). Beltagy et al. 2020, ventanas deslizantes, sección 3.1
# (2004.05150). Equipo de Gemma 2024, softcap, sección 2 (2408.00118). Chi et al. 2022, KERPLE
# (2205.09921).
