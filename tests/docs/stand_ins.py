"""What pages speak of and a test has not: small files and models under the names of the page."""

import numpy as np

from saved_models import WORDS, llama, saved
from six_tokens import SIX

__all__ = ["STAND_INS"]

ENGLISH = "the cat sat on the dog and the dog ran . "
STORY = "Once upon a time there was a cat. The cat sat on the mat, and the mat was red.\n"
CUENTO = "Había una vez un gato. El gato se sentó en la alfombra, y la alfombra era roja.\n"
PAIRS = "key,value\nméxico,7\nalemania,10\ninglaterra,8\nperro,5\n"


def _text(content):
    return lambda path: path.write_text(content, encoding="utf-8")


def _gpt2(path):
    """Six layers of six heads."""
    import torch
    import transformers

    torch.manual_seed(5)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS),
        n_positions=256,
        n_embd=24,
        n_layer=6,
        n_head=6,
        bos_token_id=0,
        eos_token_id=0,
    )
    saved(transformers.GPT2LMHeadModel(config).eval(), path)


def _llama(path):
    saved(llama(max_position_embeddings=256), path)


def _notes(path):
    path.mkdir()
    (path / "animals.md").write_text("The dog barks at night.\n\nThe cat sleeps.\n", "utf-8")
    (path / "food.md").write_text("Bread is made of flour.\n", "utf-8")


def _recording(text):
    def make(path):
        from atento.embedded import load_mini
        from atento.embedded.recording import record_mini

        mini = load_mini()
        encoded = mini.encode(text)
        recording = record_mini(mini, encoded.ids)
        recording.name_tokens(text.split())
        recording.save(path)

    return make


def _array(path):
    np.save(path, SIX)


STAND_INS = {
    "gpt2": _gpt2,
    "my-llama": _llama,
    "mi-llama": _llama,
    "letter.txt": _text(ENGLISH * 12),
    "carta.txt": _text(ENGLISH * 12),
    "book.txt": _text(ENGLISH * 20),
    "libro.txt": _text(ENGLISH * 20),
    "prompts.txt": _text("The cat sat.\nThe cat. The cat.\n"),
    "corpus.txt": _text((STORY + CUENTO) * 60),
    "pairs.csv": _text(PAIRS),
    "notes": _notes,
    "notas": _notes,
    "a.safetensors": _recording("one step"),
    "b.safetensors": _recording("two steps"),
    "book.safetensors": _recording("the cat"),
    "libro.safetensors": _recording("the cat"),
    "names.txt": _text("Your\njourney\nstarts\nwith\none\nstep\n"),
    "q.npy": _array,
    "k.npy": _array,
    "v.npy": _array,
}
"""Each makes the file or folder of its name."""
