"""Speech and audio encoders of Hugging Face transformers: hf:REPOSITORY or hf:FOLDER."""

from speechssl.upstream.hf.library import HuggingFace

FOREIGN = HuggingFace()
