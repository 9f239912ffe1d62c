"""All settings of a run: read once, at the edge, and handed inwards as frozen values.

Precedence: options, `CLASSIFY_BATCH_…`, `LLAMA_CLOUD_BASE_URL`, the TOML file, defaults. The API key is no setting:
it comes from `LLAMA_CLOUD_API_KEY` or the file that `LLAMA_CLOUD_API_KEY_FILE` names, so that it can stand in no
config, no command line and no run directory.
"""

from classify_batch.settings.accounts import AccountSettings as AccountSettings
from classify_batch.settings.api_key import Account as Account
from classify_batch.settings.api_key import read_accounts as read_accounts
from classify_batch.settings.api_key import read_api_key as read_api_key
from classify_batch.settings.api_key import require_keys as require_keys
from classify_batch.settings.config_file import find_line_of_value as find_line_of_value
from classify_batch.settings.sections import EscalationSettings as EscalationSettings
from classify_batch.settings.sections import TriageSettings as TriageSettings
from classify_batch.settings.settings import Settings as Settings
