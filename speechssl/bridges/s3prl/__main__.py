"""s3prl's runner: `python -m speechssl.bridges.s3prl -m train -u speechssl_local -k RUN -d TASK -c CONFIG -p OUT`."""

import sys

from speechssl.bridges.s3prl.runner import run_downstream
from speechssl.errors import UserError

if __name__ == "__main__":
    try:
        run_downstream(sys.argv[1:])
    except UserError as error:
        sys.stderr.write(f"speechssl: error: {error}\n")
        sys.exit(2)
