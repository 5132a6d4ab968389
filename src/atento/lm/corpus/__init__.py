"""The bilingual corpus that the embedded model is trained on: word lists, inflection, grammar."""
