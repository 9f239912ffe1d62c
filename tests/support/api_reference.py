"""The names of the API's own reference: verbs, fields, modes, statuses and languages, as data."""

from __future__ import annotations

import re

RULE = "invoice=has an invoice number and a total"
RULES = [{"type": "invoice", "description": "has an invoice number and a total"}]

MODES = ("FAST", "MULTIMODAL")

LANGUAGES = re.findall(
    r"\w+",
    """
af az bs cs cy da de en es et fr ga hr hu id is it ku la lt lv mi ms mt nl no oc pi pl pt ro rs_latin sk sl sq sv sw tl
tr uz vi ar fa ug ur bn as mni ru rs_cyrillic be bg uk mn abq ady kbd ava dar inh che lbe lez tab tjk hi mr ne bh mai
ang bho mah sck new gom sa bgc th ch_sim ch_tra ja ko ta te kn
""",
)

JOB_FIELDS = {
    *("id", "project_id", "rules", "status", "user_id", "created_at", "effective_at", "error_message"),
    *("job_record_id", "mode", "parsing_configuration", "updated_at"),
}
ITEM_FIELDS = {"id", "classify_job_id", "created_at", "updated_at", "file_id", "result"}

STATUSES_V2 = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
JOB_FIELDS_V2 = {
    *("id", "configuration", "configuration_id", "document_input_type", "file_input", "parse_job_id", "project_id"),
    *("status", "user_id", "created_at", "updated_at", "error_message", "result", "transaction_id"),
}
"""Without `usage`, which is there only where it was asked for."""
