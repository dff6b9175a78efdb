"""Our encoders as upstreams of s3prl: `register()` puts them into its hub, `python -m speechssl.bridges.s3prl` runs it.

from speechssl.bridges.s3prl import register
register()
from s3prl.nn import S3PRLUpstream
model = S3PRLUpstream("speechssl_local", path_or_url="runs/mine")
"""

from speechssl.bridges.s3prl.expert import UpstreamExpert
from speechssl.bridges.s3prl.registration import register

__all__ = ["UpstreamExpert", "register"]
