"""The demo site with TOKEN_SECRET from the environment, and little patience with those who do not renew a token."""

import os

from webapp1 import settings as site

globals().update({name: value for name, value in vars(site).items() if name.isupper()})
YAMABIKO = site.YAMABIKO | {"TOKEN_SECRET": os.environ["TOKEN_SECRET"], "EXPIRY_GRACE_SECONDS": 0.5}
