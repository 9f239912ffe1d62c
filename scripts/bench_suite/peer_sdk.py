"""The program that a user of the vendor's SDK would write, around its `classify`.

Runs in an environment of its own with llama-cloud 1.6.0, the last generation that speaks v1 throughout. Polling is
the SDK's own unless told. Key and base URL come from the environment, as the SDK reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from llama_cloud import AsyncLlamaCloud

from bench_suite.peer import classify_all, parser

RULES: Any = [
    {"type": "invoice", "description": "has an invoice number, line items and a total amount"},
    {"type": "contract", "description": "an agreement between parties with terms, obligations and signatures"},
]


async def main(options: argparse.Namespace) -> None:
    told = {"polling_interval": options.polling_interval, "backoff": options.backoff}
    polling: Any = {name: value for name, value in told.items() if value is not None}
    async with AsyncLlamaCloud() as client:

        async def classify(chunk: list[str]) -> list[str]:
            results = await client.classifier.classify(file_ids=chunk, rules=RULES, **polling)
            return [json.dumps(item.to_dict(mode="json")) for item in results.items]

        await classify_all(options, classify)


if __name__ == "__main__":
    more = parser(__doc__)
    more.add_argument("--polling-interval", type=float, help="the SDK's is a second")
    more.add_argument("--backoff", help="the SDK's is linear: a second longer after each look, up to 5")
    asyncio.run(main(more.parse_args()))
