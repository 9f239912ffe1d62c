"""The program that a user of llama-cloud-services would write, around `LlamaClassify`.

Runs in an environment of its own. Polling is the library's own: once a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os

from llama_cloud.types import ClassifierRule
from llama_cloud_services.beta.classifier.client import LlamaClassify

from bench_suite.peer import classify_all, parser

RULES = [
    ClassifierRule(type="invoice", description="has an invoice number, line items and a total amount"),
    ClassifierRule(type="contract", description="an agreement between parties with terms, obligations and signatures"),
]


async def main(options: argparse.Namespace) -> None:
    client = LlamaClassify.from_api_key(os.environ["LLAMA_CLOUD_API_KEY"], base_url=os.environ["LLAMA_CLOUD_BASE_URL"])

    async def classify(chunk: list[str]) -> list[str]:
        results = await client.aclassify_file_ids(RULES, chunk)
        return [item.json() for item in results.items]

    await classify_all(options, classify)


if __name__ == "__main__":
    asyncio.run(main(parser(__doc__).parse_args()))
