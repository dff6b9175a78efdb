"""Our encoders as models of Hugging Face transformers. Importing this makes its Auto classes know them:

import speechssl.bridges.huggingface
from transformers import AutoFeatureExtractor, AutoModel
model = AutoModel.from_pretrained("OWNER/NAME")
"""

from speechssl.errors import UserError

try:
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor
except ImportError as error:
    raise UserError(
        "speechssl.bridges.huggingface needs transformers; install it with: pip install 'speechssl[hf]' "
        "(speechssl.from_pretrained reads the same repositories without it)"
    ) from error

from speechssl.bridges.huggingface.configuration import SpeechsslConfig
from speechssl.bridges.huggingface.modeling import SpeechsslModel, SpeechsslOutput

__all__ = ["SpeechsslConfig", "SpeechsslModel", "SpeechsslOutput"]

AutoConfig.register(SpeechsslConfig.model_type, SpeechsslConfig, exist_ok=True)
AutoModel.register(SpeechsslConfig, SpeechsslModel, exist_ok=True)
AutoFeatureExtractor.register(SpeechsslConfig, Wav2Vec2FeatureExtractor, exist_ok=True)
