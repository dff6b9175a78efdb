"""Any upstream of s3prl's hub, as s3prl:NAME (fbank, mfcc, tera, hubert_local:FILE, ...)"""

from speechssl.upstream.s3prl import library as FOREIGN
from speechssl.upstream.s3prl.model import S3prl

__all__ = ["FOREIGN", "S3prl"]
